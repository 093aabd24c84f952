"""Runs one job: `python -m rbjax.main --config=configs/uat_digits.py`.

  --config=FILE[:VARIANT]     the config; every file in configs/ has the variant `smoke`
  --config.GROUP.FIELD=VALUE  changes a field: --config.method.epsilon=4/255
  --workdir=DIR               the run directory; runs/<config name>

Tasks (`--config.task=`): `train` trains, attacks, scores and reports; `evaluate` attacks a run
directory; `score` scores the RPR of a whole dataset, after training where the run directory holds
no model yet.  A run that was stopped goes on where it was when the same command is given again.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from absl import flags

from rbjax import command_line
from rbjax.config import Config, describe, format_config
from rbjax.errors import TrainingStoppedError


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and runs the task.

    Args:
        argv: the command line with the program's name first; that of the process.

    Returns:
        The exit status: 0, or 2 where something was given wrong.
    """
    argv = list(sys.argv if argv is None else argv)
    if {"--help", "-h", "-help"} & set(argv[1:]):
        print(f"{__doc__}\nFields of a config, their types and what they are when left out:\n")
        print(describe())
        return 0
    try:
        given, workdir = command_line.parse(argv)
        run(given, workdir)
    except (ValueError, flags.Error) as error:
        return _complain(error, 2)
    except TrainingStoppedError as error:
        return _complain(error, 1)
    return 0


def run(config: Config, workdir: str) -> None:
    """Runs a config's task, the way the command line does; for notebooks and scripts.

    Args:
        config: as `rbjax.config.default()` makes it.
        workdir: the run directory.

    Raises:
        ValueError: listing whatever is wrong with the config, or naming what is with the directory.
        TrainingStoppedError: if training ended early.
    """
    config = command_line.resolve(config, workdir)
    # Imported here, so that --help and a typo are answered without waiting for JAX.
    from rbjax import analysis
    from rbjax.evaluate import evaluate
    from rbjax.score import score
    from rbjax.train import is_trained, train

    print(format_config(config), end="\n\n")
    if config.task == "train" or (config.task == "score" and not is_trained(workdir)):
        train(config, workdir)
    if config.task in ("train", "evaluate"):
        evaluate(config, workdir)
    if config.task in ("train", "score") and config.score.max_steps:
        score(config, workdir)
    print(analysis.report(workdir))
    print(f"run directory: {workdir}")


def _complain(error: Exception, status: int) -> int:
    for line in str(error).splitlines():
        print(f"rbjax: {line}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
