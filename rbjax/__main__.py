"""The command `rbjax`: `rbjax train uat_digits`.

  rbjax train CONFIG [--config.FIELD=VALUE ...]   trains, attacks, scores and reports
  rbjax evaluate RUN [...]                        attacks a run directory; evaluate_standard
  rbjax score CONFIG [...]                        the RPR of a whole dataset
  rbjax predict RUN FOLDER                        a CSV of classes for images nobody labelled
  rbjax compare RUN OTHER                         which is better, class by class
  rbjax sweep CONFIG --over="seed=0;1;2" [...]    a run for each value, and their mean and deviation
  rbjax report RUN                                its tables, plots and report.html, made again;
                                                  or of a comparison.json its page
  rbjax data [NAME]                               a dataset's card
  rbjax configs [--copy[=FOLDER]]                 the configs there are, or copies to change
  rbjax doctor                                    what this machine has, and what would go wrong
  rbjax --help, --version                         `rbjax COMMAND --help` says more

CONFIG is a file, or the name of a config that comes with rbjax, with `:VARIANT` or without.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

# What a command needs is imported by it: --help should not wait for JAX.
from rbjax import __version__, console
from rbjax.errors import exit_code, nearest

_OWN = {
    "predict": "rbjax.predict",
    "compare": "rbjax.compare",
    "sweep": "rbjax.sweep.__main__",
    "data": "rbjax.data.__main__",
}
"""Commands that parse what is typed themselves."""
_JOBS = ("train", "evaluate", "score")
_USAGE = {
    "train": """rbjax train CONFIG [--config.FIELD=VALUE ...]: trains, attacks, scores and reports.

  rbjax train uat_digits:smoke --config.num_epochs=1

CONFIG is a file, or the name of a config that comes with rbjax; `rbjax configs` lists them.  The
same command resumes a run that was stopped.""",
    "evaluate": """rbjax evaluate RUN [--config=CONFIG] [...]: attacks a run directory and reports.

  rbjax evaluate runs/uat_digits --config=evaluate_corruptions

RUN is a run directory, CONFIG says what it is attacked with: evaluate_standard where it is left
out.  Weights that others trained need no run: --config.model.weights=FILE.""",
    "score": """rbjax score CONFIG [--config.FIELD=VALUE ...]: scores the RPR of a whole dataset.

  rbjax score rpr_mnist --workdir=runs/uat_mnist

CONFIG is a file, or the name of a config that comes with rbjax; `rbjax configs` lists them.  The
run directory is trained first where it holds no model yet.""",
}
"""What `--help` of a job begins with."""
_QUOTES = '"' * 3
_HELP = {"--help", "-h"}
_PLAIN = ("report", "configs", "doctor")
"""Commands whose help is this module's."""
_ALL = (*_JOBS, *_OWN, *_PLAIN)


@console.steady()
def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and returns the exit code (docs/stops.md).

    Args:
        arguments: the command line's; None: `sys.argv[1:]`.
    """
    command, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if command in ("--help", "-h", "help") or (command in _PLAIN and _HELP & set(rest)):
        print((__doc__ or "").strip())
        return 0
    if command in ("--version", "version"):
        print(f"rbjax {__version__}")
        return 0
    if command in _OWN:
        import importlib

        return importlib.import_module(_OWN[command]).main(rest, prog=f"rbjax {command}")
    try:
        if command == "configs":
            return _configs(rest)
        if command == "report":
            return _report(rest)
        if command == "doctor" and rest:
            raise ValueError(f"rbjax doctor: {rest[0]!r} is not understood; it takes nothing")
        if command == "doctor":
            from rbjax import doctor

            return doctor.main()
        if command in _JOBS and _HELP & set(rest):
            from rbjax.main import described

            print(described(_USAGE[command]))
            return 0
        if command in _JOBS:
            from rbjax.main import main as run

            return run(["rbjax", *_job(command, rest)])
        raise ValueError(
            f"there is no command {command!r}; allowed: {', '.join(_ALL)}{nearest(command, _ALL)}"
        )
    except Exception as error:
        if (status := exit_code(error)) is None:
            raise
        print(f"rbjax: {error}", file=sys.stderr)
        return status


def _job(command: str, rest: list[str]) -> list[str]:
    """Returns what `python -m rbjax.main` is given for a job."""
    if any(argument.startswith("--list") for argument in rest):
        return rest
    has_config = any(argument.split("=")[0] == "--config" for argument in rest)
    given = rest.pop(0) if rest and not rest[0].startswith("-") else None
    if command == "evaluate":
        if not rest and given is None:
            raise ValueError("rbjax evaluate RUN: name a run directory")
        where = [] if given is None else [f"--workdir={given}"]
        return [*([] if has_config else ["--config=evaluate_standard"]), *where, *rest]
    if given is None and not has_config:
        raise ValueError(f"rbjax {command} CONFIG: name a config; `rbjax configs` lists them")
    config = [] if given is None else [f"--config={given}"]
    return [*config, f"--config.task={command}", *rest]


def _configs(rest: list[str]) -> int:
    """Lists the configs that come with rbjax, or copies them."""
    from rbjax.config_file import bundled

    known = bundled()
    if not rest:
        for name, file in known.items():
            print(f"{name:28}{file.read_text().split(_QUOTES)[1].splitlines()[0]}")
        return 0
    option, _, folder = rest[0].partition("=")
    if option != "--copy" or len(rest) > 2:
        raise ValueError(f"rbjax configs: {rest[0]!r} is not understood; allowed: --copy[=FOLDER]")
    target = Path(folder or (rest[1] if len(rest) == 2 else "configs"))
    if target.exists() and not target.is_dir():
        raise ValueError(f"{target}: is a file; give a folder: --copy=FOLDER")
    there = [file.name for file in known.values() if (target / file.name).exists()]
    if there:
        raise ValueError(
            f"{target}: {there[0]} is there already; nothing was copied; give another folder: "
            "--copy=FOLDER"
        )
    target.mkdir(parents=True, exist_ok=True)
    for file in known.values():
        (target / file.name).write_bytes(file.read_bytes())
    print(f"copied {len(known)} configs: {target}; rbjax train {target}/uat_digits.py uses one")
    return 0


def _report(rest: list[str]) -> int:
    """Writes a run's report again, and prints its table."""
    if len(rest) != 1 or rest[0].startswith("-"):
        raise ValueError("rbjax report RUN: name one run directory")
    from rbjax import analysis

    print(analysis.report(rest[0]))
    return 0


def run() -> None:
    """Runs the process's own command line and ends with its exit code."""
    code = main()
    from rbjax import watch

    watch.leave(code)


if __name__ == "__main__":
    run()
