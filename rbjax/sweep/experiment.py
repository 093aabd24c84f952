"""An experiment that is a grid, as a command: run, resumed, forecast, tabulated."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rbjax import atomic, console, stops
from rbjax.analysis import inline, markdown
from rbjax.command_line import resolve
from rbjax.cost import Part, in_all, spoken, where
from rbjax.errors import StoppedError, exit_code
from rbjax.paths import expanded
from rbjax.preflight import Measured, measure
from rbjax.sweep import engines, page
from rbjax.sweep.grid import Cell, Ended, job, read, said
from rbjax.tables import nearest


def command(
    scales: Mapping[str, Callable[..., Sequence[Cell]]],
    tables: Mapping[str, Callable[..., str]],
    *,
    name: str,
    doc: str,
    figures: Mapping[str, Callable[..., object]] | None = None,
    switches: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
    conclusions: Sequence[str] = (),
    kept: Path | None = None,
    argv: Sequence[str] | None = None,
) -> int:
    """Runs an experiment that is a grid: `python -m experiments.NAME --scale=SCALE`.

    Args:
        scales: the grid of each scale; the first is the default.
        tables: what is printed of the results that are there, {name: result}, for each scale; it
            is written to table.md beside them, and with the figures to report.html.
        name: of the experiment.
        doc: its first line is shown by `--help`.
        figures: what draws the results that are there into a folder, the results', for each scale:
            (results, folder); None draws none.
        switches: flags of the experiment's own, with what `--help` says of each; grid, table and
            figures get each as a keyword, True where it was typed.
        settings: likewise, flags that take a value; the keyword is its text, None where it was not
            typed.
        conclusions: headings of the tables' sections that say what follows; these stand first on
            the page.
        kept: a folder of results that comes with the experiment, which `--report` is of where there
            are no others.
        argv: the arguments; None: the process's own.

    Returns:
        The exit code: 0 done; 1 a cell failed, or is another process's; 2 for a mistake in what
        was typed; 75 stopped, the same command goes on.
    """
    parser = _parser(name, doc, scales, switches or {}, settings or {})
    arguments = parser.parse_args(argv)
    given = {flag: getattr(arguments, flag) for flag in (*(switches or {}), *(settings or {}))}
    typed = [flag if value is True else f"{flag}={value}" for flag, value in given.items() if value]
    typed = [arguments.scale, *typed]
    with console.steady():
        try:
            cells, chosen = _chosen(scales, arguments.scale, arguments.only, given)
            workdir = arguments.workdir or f"runs/{'_'.join([name, *typed]).replace('/', '-')}"
            results = arguments.results or f"{workdir}/results"
            if arguments.report and not arguments.results and kept is not None:
                results = _there(results, kept, cells)
            with stops.heeded():
                if arguments.dry_run:
                    print(forecast(chosen, results))
                    return 0
                run = engines.engine(arguments)
                nothing = Ended([], [], [])
                ended = nothing if arguments.report else run(chosen, workdir, results=results)
        except (ValueError, OSError, StoppedError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            if arguments.dry_run or not isinstance(error, StoppedError):
                return exit_code(error) or 2
            ended = None
        done, folder = read(cells, results), expanded(results, field="results")
        about = page.About(
            title=f"{name}: {doc.removesuffix('.')}",
            cells=cells,
            made=page.origin_of(cells, results),
            missing=engines.left(cells, done, ended or Ended([], [], [])),
            command=f"{parser.prog} --scale={' --'.join(typed)}",
            first=conclusions,
        )
        draw = None
        if figures is not None and ended is not None:
            draw = functools.partial(figures[arguments.scale], done, folder, **given)
        _tell(folder, tables[arguments.scale](done, **given), about, draw)
        if ended is None:
            return exit_code(StoppedError()) or 1
        for words, names in about.missing.items():
            print(f"{words}: {', '.join(names)}")
    return int(bool(ended.failed or ended.elsewhere))


def _there(usual: str, kept: Path, cells: Sequence[Cell]) -> str:
    """Returns where results are to report: those kept with the experiment if there are no others.

    Args:
        usual: the folder of the runs' results.
        kept: the experiment's own.
        cells: the grid, to which what is kept must belong.
    """
    if expanded(usual, field="results").exists():
        return usual
    try:
        found = read(cells, str(kept))
    except ValueError:  # of another scale
        return usual
    if not found:
        return usual
    print(f"no results in {usual}: those of {kept}", file=sys.stderr)
    return str(kept)


def _tell(
    folder: Path, tabulated: str, about: page.About, draw: Callable[[], object] | None
) -> None:
    """Prints the tables, and writes them, the figures and the page."""
    text = f"`{about.command}`, {about.made}\n\n{tabulated}"
    folder.mkdir(parents=True, exist_ok=True)  # no cell may have ended
    with atomic.replace(folder / "table.md") as file:
        file.write(f"{text}\n".encode())
    with inline.gathered() as pictures:
        if draw is not None:
            draw()
    page.write(folder, *markdown.sections(tabulated), about, pictures)
    print(f"\n{text}")


def _parser(
    name: str,
    doc: str,
    scales: Mapping[str, object],
    switches: Mapping[str, str],
    settings: Mapping[str, str],
) -> argparse.ArgumentParser:
    """Returns the parser of an experiment's command line."""
    parser = argparse.ArgumentParser(prog=f"python -m experiments.{name}", description=doc)
    parser.add_argument("--scale", default=next(iter(scales)), help=" | ".join(scales))
    parser.add_argument("--workdir", help=f"the folder of runs; runs/{name}_SCALE")
    engines.add_arguments(parser)
    parser.add_argument(
        "--report",
        action="store_true",
        help="table, figures and page of what is there, and stop; without --results and runs, of "
        "the results that come with the experiment",
    )
    for switch, about in switches.items():
        parser.add_argument(f"--{switch}", action="store_true", help=about)
    for setting, about in settings.items():
        parser.add_argument(f"--{setting}", help=about)
    return parser


def _chosen(
    scales: Mapping[str, Callable[..., Sequence[Cell]]],
    scale: str,
    only: str,
    given: Mapping[str, bool | str | None],
) -> tuple[Sequence[Cell], list[Cell]]:
    """Returns the grid of a scale, and its cells with `only` in their names.

    Raises:
        ValueError: for an unknown scale, or if no name has it.
    """
    if scale not in scales:
        allowed = ", ".join(scales)
        raise ValueError(f"--scale={scale}: unknown; allowed: {allowed}{nearest(scale, scales)}")
    cells = scales[scale](**given)
    return cells, engines.chosen(cells, only)


def forecast(cells: Sequence[Cell], results: str) -> str:
    """Returns what the cells read, and a table of what each takes on this machine.

    Args:
        cells: the grid; those that differ in their seed alone are measured once, and those with a
            function of their own only where they say how many forward passes it makes.
        results: the folder of results; what is finished there costs nothing.

    Raises:
        ValueError: as `read`, if a part of a config cannot be made, or if data are not there: a dry
            run gets none.
    """
    done, known = read(cells, results), dict[str, Measured]()
    wide = max(40, *(len(cell.name) for cell in cells))
    lines, left = [f"{'cell':<{wide}} {'steps':>9} {'TFLOP':>9} {'time':>16}"], list[Part]()
    for cell in cells:
        if cell.name in done:
            lines.append(f"{cell.name:<{wide}} finished")
            continue
        if cell.run is not job and cell.passes is None:
            lines.append(f"{cell.name:<{wide}} not known: it has a function of its own")
            continue
        about = str(sorted((k, str(v)) for k, v in said(cell).items() if k != "seed"))
        about = f"{about} {cell.passes}"
        if about not in known:
            workdir = f"{results}/{cell.name}"  # where nothing is, as if it had not begun
            config = resolve(cell.config, workdir)
            known[about] = measure(config, workdir, passes=cell.passes)
        lines.append(_row(cell.name, known[about].parts, wide))
        left += known[about].parts
    lines.append(_row("all that is left", left, wide))
    unknown = ", ".join(dict.fromkeys(in_all(left).unknown))
    lines.append(
        "TFLOP of the training steps' matrix products and convolutions\n"
        f"time on {where()}, from two measured steps or blocks of each part; without compiling"
        + (f", and without what is not known: {unknown}" if unknown else "")
    )
    return "\n".join([*_data(list(known.values())), *lines])


def _row(name: str, parts: Sequence[Part], wide: int) -> str:
    """Returns the line of a cell, or of all."""
    total, steps = in_all(parts), sum(part.steps for part in parts)
    time = f"{'at most ' if total.is_most else ''}{spoken(total.seconds)}"
    tera = sum(part.flops for part in parts) / 1e12
    return f"{name:<{wide}} {steps:>9,} {tera:>9.3g} {time:>16}"


def _data(measured: Sequence[Measured]) -> list[str]:
    """Returns what the first cell reads, and a line for those that read something else."""
    first = measured[0].data if measured else []
    others = dict.fromkeys(found.data[0] for found in measured if found.data[0] != first[0])
    return [*first, *others, *([""] if first else [])]
