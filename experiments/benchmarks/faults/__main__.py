"""Faults at random, and whether a job survives them bit for bit.

    python -m experiments.benchmarks.faults [--part=NAME ...] [--folder=DIR] [--seconds=S] [--smoke]

Parts: kill and stop (25 `kill -9` and 10 SIGTERM of each kind of job, up to five of a job one after
the other), run (100 flipped bits and 40 truncations of any file of a finished run directory), data
(the same of MNIST as it is prepared) and numbers (devices, processes, threads). Each check is made
once with nothing damaged, which must pass, and once with a fault that no checksum tells, which it
must see. What is done stays in the folder: the same command goes on, and prints the table.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rbjax import console, stops

KINDS = ("standard", "universal", "free", "evaluation", "scoring", "corruptions")
MODELS = ("mlp", "simple_cnn", "lenet5")
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGTERM}
ASKED = {"kill": 25, "stop": 10, "flip": 100, "truncate": 40}
SMOKE = {"kill": 1, "stop": 1, "flip": 2, "truncate": 2}


class Check(NamedTuple):
    """One row of the table."""

    part: str
    name: str
    asked: int
    control: Callable[[], bool]
    planted: Callable[[], bool]
    trial: Callable[[str], Any]


def checks(folder: Path, asked: dict[str, int]) -> Iterator[Check]:
    """Yields every check."""
    from experiments.benchmarks.faults import checks as of

    for part, number in SIGNALS.items():
        for kind in KINDS:
            whole = functools.partial(of.kill, folder, kind, number, "control", 0)
            yield Check(
                part,
                f"{kind}: {'kill -9' if part == 'kill' else 'SIGTERM'}",
                asked[part],
                lambda whole=whole: not whole().lost,
                functools.partial(of.planted_kill, folder, kind),
                functools.partial(of.kill, folder, kind, number),
            )
    places = {"run": of.damaged_run, "data": of.damaged_data}
    for part, place in places.items():
        forged = of.planted if part == "run" else of.exchanged
        for name, how in (("flip", of.flip), ("truncate", of.truncate)):
            yield Check(
                part,
                f"{'a run directory' if part == 'run' else 'MNIST, prepared'}: {name}",
                asked[name],
                lambda place=place: place(folder, "control", of.none).identical == 1,
                lambda place=place, forged=forged: not place(folder, "planted", forged).identical,
                lambda seed, place=place, how=how: place(folder, seed, how),
            )
    for model in MODELS:
        for setting in of.SETTINGS:
            yield Check(
                "numbers",
                f"{model}: 1 device, and {setting}",
                1,
                functools.partial(of.repeats, folder, model),
                functools.partial(of.tells_seeds, folder, model),
                lambda seed, model=model, setting=setting: of.numbers(folder, setting, model),
            )


def run(check: Check, file: Path, until: float) -> None:
    """Makes the trials of a check that are not made, as long as there is time."""
    lines = _read(file)
    if not lines and time.monotonic() < until:
        lines.append({"control": check.control(), "planted": check.planted()})
        _append(file, lines[0])
    done = sum(line.get("tries", 0) for line in lines)
    while done < check.asked and time.monotonic() < until:
        trial = check.trial(f"{check.name} {len(lines)}")._asdict()
        lines.append(trial)
        _append(file, trial)
        done += trial["tries"]
        print(f"{check.name}: {done} of {check.asked}", file=sys.stderr)


def _read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _append(file: Path, line: dict[str, Any]) -> None:
    with file.open("a") as out:
        out.write(json.dumps(line) + "\n")


def table(folder: Path, rows: list[Check]) -> str:
    """Returns what was found, in Markdown."""
    heads = ("check", "control passes", "planted fault seen", "tries", "identical")
    lines = [f"| {' | '.join((*heads, 'refused in one line', 'lost'))} |", "|---" * 7 + "|"]
    for check in rows:
        lines_of = _read(_file(folder, check))
        first = next((line for line in lines_of if "control" in line), {})
        trials = [line for line in lines_of if "tries" in line]
        if not first:
            continue
        total = {k: sum(t[k] for t in trials) for k in ("tries", "identical", "refused")}
        lost = total["tries"] - total["identical"] - total["refused"]
        said = sorted({t["lost"] for t in trials if t["lost"]})
        yes = ["yes" if first[name] else "NO" for name in ("control", "planted")]
        cells = [check.name, *yes, *map(str, total.values()), f"{lost}"]
        lines.append("| " + " | ".join(cells) + " |")
        lines += [f"<!-- {text} -->" for text in said[:5]] if lost else []
        if check.part == "numbers" and said and not lost:
            cells = [check.name, *yes, "1", f"no, {said[0]}", "", "0"]
            lines[-1] = "| " + " | ".join(cells) + " |"
    return "\n".join(lines)


def _file(folder: Path, check: Check) -> Path:
    name = "".join(c if c.isalnum() else "-" for c in check.name)
    return folder / f"{check.part}-{name}.jsonl"


def main(arguments: list[str] | None = None) -> int:
    """Runs what is asked for; returns 1 if something was lost or not seen."""
    parser = argparse.ArgumentParser(prog="experiments.benchmarks.faults", description=__doc__)
    parser.add_argument("--part", action="append", choices=(*SIGNALS, "run", "data", "numbers"))
    parser.add_argument("--only", default="", help="checks whose name has this in it")
    parser.add_argument("--folder", type=Path, default=Path("runs/faults"))
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for all of it")
    parser.add_argument("--smoke", action="store_true", help="a trial or two of the chosen checks")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    folder = options.folder.resolve()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "compiled"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    until = time.monotonic() + options.seconds
    rows = list(checks(folder, SMOKE if options.smoke else ASKED))
    for check in rows:
        if check.part in (options.part or (check.part,)) and options.only in check.name:
            run(check, _file(folder, check), until)
    print(text := table(folder, rows))
    return int("| NO |" in text or "<!--" in text)


if __name__ == "__main__":
    with console.steady(), stops.heeded():
        code = main()
    sys.exit(code)
