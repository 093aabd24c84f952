"""How long does one wait for `import rbjax` and for `--help`, beside Python itself?

    python -m experiments.benchmarks.startup [--repeats=21]

Processes of their own take turns: `python -c pass`, the import, and commands that compute nothing.
Medians of the turns, and of each turn's ratio to `python -c pass`, in wall time and in the CPU time
of the process, which other work on the machine moves less.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time

from experiments.benchmarks import machine

_PYTHON = "python -c pass"
WAYS = {
    _PYTHON: ("-c", "pass"),
    "import rbjax": ("-c", "import rbjax"),
    "rbjax --help": ("-m", "rbjax", "--help"),
    "rbjax --version": ("-m", "rbjax", "--version"),
    "rbjax train --help": ("-m", "rbjax", "train", "--help"),
    "rbjax sweep --help": ("-m", "rbjax", "sweep", "--help"),
    "rbjax train, a typo": ("-m", "rbjax", "train", "uat_digit"),
    "python -m rbjax.main --help": ("-m", "rbjax.main", "--help"),
    "import jax": ("-c", "import jax"),
}
"""What is timed: arguments of Python; the last is what the others do not wait for."""


def timed(arguments: tuple[str, ...]) -> tuple[float, float]:
    """Returns wall and CPU seconds of a process."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], capture_output=True, check=False)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    """Prints seconds and ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=21)
    options = parser.parse_args()
    print(machine.describe())
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    for repeat in range(options.repeats + 1):
        for name, arguments in WAYS.items():
            turn = timed(arguments)
            if repeat:  # the first writes bytecode and warms the system's cache
                seconds[name].append(turn)
    print(f"\n{'medians of ' + str(options.repeats) + ' turns':30}   wall    CPU   times Python's")
    for name, turns in seconds.items():
        wall, used = (statistics.median(turn[i] for turn in turns) for i in (0, 1))
        pairs = list(zip(turns, seconds[_PYTHON], strict=True))
        ratios = [statistics.median(turn[i] / own[i] for turn, own in pairs) for i in (0, 1)]
        print(f"  {name:28} {wall:6.3f} {used:6.3f} s   {ratios[0]:5.1f} ({ratios[1]:.1f} by CPU)")


if __name__ == "__main__":
    main()
