"""Runs one job: `python -m rbjax.main --config=configs/uat_digits.py`.

  --config=FILE[:VARIANT]     the config; every file in configs/ has the variant `smoke`
  --config.GROUP.FIELD=VALUE  changes a field: --config.method.epsilon=4/255
  --workdir=DIR               the run directory; runs/<config name>
  --dry_run                   reads the data, measures two steps, says what the job takes and writes
  --list=KIND                 what can be named: attacks, methods, models, losses, datasets, ...

Tasks (`--config.task=`): `train` trains, attacks, scores and reports; `evaluate` attacks a run
directory, or weights that others trained (`--config.model.weights=`); `score` scores the RPR of a
whole dataset, after training where the run directory holds no model yet.  Rerun the same command to
resume a run that was stopped.
"""

from __future__ import annotations

import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until stops are heeded, without a traceback
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

# The rest is imported inside, where a stop is heeded; JAX last: a typo should not wait for it.
from rbjax import console, stops
from rbjax.errors import NotFiniteError, exit_code

if TYPE_CHECKING:
    from rbjax.config import Config


@console.steady()
def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line, the process's own or `argv`, and returns the exit code (docs/stops.md).

    0: done; 1: a number is not finite; 2: what was typed is wrong, or another job works in the run
    directory; 75: stopped, the same command goes on.
    """
    argv = list(sys.argv if argv is None else argv)
    try:
        with stops.heeded():
            _run(argv)
    except Exception as error:
        if (status := exit_code(error)) is None:
            raise
        from rbjax import watch

        if watch.is_to_say(str(error)):
            for line in str(error).splitlines():
                print(f"rbjax: {line}", file=sys.stderr)
        return status
    return 0


def _run(argv: Sequence[str]) -> None:
    if {"--help", "-h", "-help"} & set(argv[1:]):
        print(described())
        return
    if any(argument.startswith("--list") for argument in argv[1:]):
        from rbjax.config import listing

        print(listing(argv[1:]))
        return
    from absl import flags

    from rbjax import command_line

    try:
        command = command_line.parse(argv)
    except flags.Error as error:
        raise ValueError(f"{error}") from None
    job = preview if command.dry_run else run
    job(command.config, command.workdir, typed=command.typed)


def described(usage: str | None = None) -> str:
    """Returns what `--help` prints: options and every field.

    Args:
        usage: what it begins with; None: how this module is run.
    """
    from rbjax.config import describe

    about = (__doc__ or "").strip()
    if usage is not None:
        about = f"{usage}\n\n{about.split('\n\n')[1]}"
    fields = "Fields of a config, their types and what they are when left out:"
    return f"{about}\n\n{fields}\n\n{describe()}"


@stops.heeded()
def preview(config: Config, workdir: str, *, typed: Iterable[str] = ()) -> None:
    """Prints what `run` would read, take and write; writes nothing.

    Args:
        config: as for `run`, as is what follows.
        workdir: the run directory.
        typed: dotted names of the fields that were typed.

    Raises:
        ValueError: as `run`; or if data are not on this machine.
    """
    from rbjax import command_line, preflight
    from rbjax.data import looks
    from rbjax.paths import expanded

    workdir = str(expanded(workdir, field="workdir"))
    with looks.once():
        config = command_line.resolve(config, workdir, typed=typed)
        print(preflight.preflight(config, workdir))


@stops.heeded()
def run(config: Config, workdir: str, *, typed: Iterable[str] = ()) -> None:
    """Runs a config's task, the way the command line does; for notebooks and scripts.

    Args:
        config: as `rbjax.config.default()` makes it.
        workdir: the run directory.
        typed: dotted names of the fields that were typed; an evaluation refuses those that
            contradict the run.

    Raises:
        ValueError: listing whatever is wrong with the config, or naming what is with the directory,
            such as another job that works in it.
        StoppedError: after Ctrl-C or SIGTERM.
        FullDiskError: naming the file or folder that there is no room for.
        NotFiniteError: if a loss or a weight is; at the end, if answers of the model are NaN.
    """
    from rbjax import processes
    from rbjax.paths import expanded

    workdir = str(expanded(workdir, field="workdir"))
    with processes.joined(config.get("distributed") or "auto"):  # before JAX begins
        from rbjax.data import looks

        with looks.once():
            _job(config, workdir, typed)


def _job(config: Config, workdir: str, typed: Iterable[str]) -> None:
    """Runs a config's task in this process, which may be one of several."""
    from rbjax import allocation, atomic, command_line, private, processes
    from rbjax.config import format_config

    config = command_line.resolve(config, workdir, typed=typed)
    asked = {**atomic.plain(config.to_dict()), "workdir": workdir, "distributed": None}
    instead = "give each the same, or --config.distributed=off for runs of their own"
    processes.check_same("the command", asked, instead=instead)
    allocation.keep_freed()
    private.keep_programs(config.get("program_cache") or "auto")
    from rbjax import analysis
    from rbjax.evaluate import evaluate
    from rbjax.score import score
    from rbjax.train import train
    from rbjax.training import given, run_directory, setup

    with console.steady(), atomic.room(workdir), run_directory.hold(workdir):
        print(format_config(config), end="\n\n")
        names = setup.info(config).class_names
        processes.of_first(lambda: analysis.rehearse(names, ("clean", *config.attacks)))
        if config.task in ("train", "score") and not given.are_given(config):
            train(config, workdir)  # returns at once where that is done
        no_class: dict[str, int] = {}
        if config.task in ("train", "evaluate"):
            no_class |= evaluate(config, workdir)["no_class"]
        if config.task in ("train", "score") and config.score.max_steps:
            no_class["RPR"] = score(config, workdir)["no_class"]
        if processes.is_first():
            print(analysis.report(workdir))
            print(f"run directory: {workdir}")
    counts = ", ".join(f"{label} {count:,}" for label, count in no_class.items() if count)
    if counts:
        raise NotFiniteError(
            f"answers that are NaN or of no class, which count as wrong: {counts}; look for "
            "overflow, log(0) or a division by 0 in the model, or in a perturbation of your own"
        )


if __name__ == "__main__":
    code = main()
    from rbjax import watch

    watch.leave(code)
