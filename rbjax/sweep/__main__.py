"""A config over values of its fields: `rbjax sweep uat_digits --over="seed=0;1;2"`.

  rbjax sweep uat_digits --over="seed=0;1;2" --over="method.epsilon=0.05;0.1" --dry_run

trains and evaluates every combination in a run directory of its own, and prints means and standard
deviations over the seeds. What is finished is skipped, what was stopped goes on. Fields of all
cells are given as to any job: --config.num_epochs=10.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

# The rest is imported inside, JAX with it: a typo and --help should not wait for it.
from rbjax import config_file, console, stops
from rbjax.errors import StoppedError, nearest
from rbjax.sweep import engines

if TYPE_CHECKING:
    from rbjax.sweep.grid import Cell, Ended
    from rbjax.sweep.over import Axis


@console.steady()
def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m rbjax.sweep") -> int:
    """Runs a command line and returns the exit code (docs/stops.md).

    0: done; 1: a cell failed, or is another process's; 2: what was typed is wrong; 75: stopped, the
    same command goes on.

    Args:
        arguments: the command line's; None: `sys.argv[1:]`.
        prog: what the command is called.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and not given[0].startswith("-"):
        given[0] = f"--config={given[0]}"
    parser = _parser(prog)
    options, shared = parser.parse_known_args(given)
    return stops.command(lambda: _run(options, shared, parser))


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        usage=f"{prog} CONFIG --over='FIELD=VALUE;VALUE' [--over=...] [--config.FIELD=VALUE] [...]",
        description=(__doc__ or "").partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--over",
        action="append",
        default=[],
        metavar="'FIELD=VALUE;VALUE'",
        help="a field and its values, separated by ';'; once for each field",
    )
    parser.add_argument("--workdir", help="the folder of runs; runs/<config name>_over_<fields>")
    engines.add_arguments(parser)
    return parser


def _run(options: argparse.Namespace, shared: list[str], parser: argparse.ArgumentParser) -> int:
    for argument in shared:
        name = argument.partition("=")[0]
        if name.startswith("-") and not name.lstrip("-").startswith("config"):
            known = [text for action in parser._actions for text in action.option_strings]
            allowed = ", ".join([*known, "--config.FIELD"])
            raise ValueError(f"{name}: no such option; allowed: {allowed}{nearest(name, known)}")
    if not options.over:
        raise ValueError("--over='FIELD=VALUE;VALUE' is missing: nothing is swept over")
    file, variant, _ = config_file.split(shared)
    title = f"{Path(file).stem}{f'_{variant}' if variant else ''}"
    from rbjax.sweep import over as grids

    over = grids.axes(options.over)
    configs = grids.configs(shared, over)
    engine = engines.engine(options)
    first = next(iter(configs.values()))
    fields = "+".join(sorted(axis.field for axis in over))
    workdir = options.workdir or first.workdir or f"runs/{title}_over_{fields}"
    from rbjax.sweep.grid import Cell

    cells = [Cell(name, config) for name, config in configs.items()]
    return _swept(title, cells, over, workdir, options, engine)


def _swept(
    title: str,
    cells: list[Cell],
    over: list[Axis],
    workdir: str,
    options: argparse.Namespace,
    engine: engines.Engine,
) -> int:
    """Checks a grid, runs what is left of it, and prints and writes what it came to."""
    from rbjax.paths import of_a_folder
    from rbjax.sweep import experiment, grid
    from rbjax.sweep import over as grids
    from rbjax.training import run_directory

    folder = of_a_folder(workdir, field="workdir")
    if run_directory.is_run(folder):
        raise ValueError(f"workdir = {workdir!r}: is a run directory; give a folder for many runs")
    results = options.results or str(folder / "results")
    chosen = engines.chosen(cells, options.only)
    done = grid.read(cells, results)
    grids.check({cell.name: cell.config for cell in chosen if cell.name not in done}, over)
    sizes = " x ".join(f"{len(a.values)} of {a.field} ({'; '.join(a.values)})" for a in over)
    print(f"{len(cells)} runs of {title}: {sizes}; {len(done)} finished; in {workdir}")
    if options.dry_run:
        print(experiment.forecast(chosen, results))
        return 0
    ended, stopped = grid.Ended([], [], []), None
    if any(cell.name not in done for cell in chosen):
        try:
            ended = engine(chosen, workdir, results=results)
        except StoppedError as error:
            stopped = error
    _tell(title, cells, over, folder, results, ended)
    if stopped is not None:
        raise stopped
    return int(bool(ended.failed or ended.elsewhere))


def _tell(
    title: str, cells: list[Cell], over: list[Axis], folder: Path, results: str, ended: Ended
) -> None:
    """Prints and writes what the runs that are finished came to, and names the others."""
    from rbjax.analysis import markdown, origin
    from rbjax.analysis.document import Section
    from rbjax.sweep import grid, page, summary
    from rbjax.sweep import over as grids

    done = grid.read(cells, results)
    rows = summary.rows_of(grids.by_values(over), done)
    left = engines.left(cells, done, ended)
    made = page.origin_of(cells, results)
    about = {"config": title, "over": {axis.field: axis.values for axis in over}}
    about |= {"made": str(made), "missing": left}
    lead, sections = [], []
    if rows:
        heading = f"{title}: correctly classified in per cent, mean ± standard deviation of runs"
        sheet = summary.sheet(heading, over, rows)
        print(f"\n{sheet}\n{made}")
        lead = [[("", line)] for line in sheet.title.splitlines()]
        sections = [Section("Means", [markdown.table(list(sheet.columns), sheet.cells()[0])])]
    for words, names in left.items():
        print(f"{words}: {' '.join(names)}")
    folder.mkdir(parents=True, exist_ok=True)  # results may lie elsewhere
    written = summary.write(folder, about, over, rows)
    name = f"{title} over {', '.join(axis.field for axis in over)}"
    what = page.About(name, cells, made, left, origin.command())
    written.append(page.write(folder, lead, sections, what))
    print(f"written: {', '.join(map(str, written))}")


if __name__ == "__main__":
    stops.leave(main())
