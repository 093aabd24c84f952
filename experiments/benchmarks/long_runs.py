"""Do memory, handles and compilations stay flat over half an hour of calls and of trainings?

    python -m experiments.benchmarks.long_runs [--minutes=30] [--every=30]

Two loops, half of the time each: calls of the library with a new closure, a new `Partial` and a new
module each time (PGD, scoring, corruptions), and trainings of a tiny job, each in a new run
directory. A line every so many seconds: how often it went round, resident memory, mapped memory
areas, open files, threads, and how many programs were compiled since the line before.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import machine
from rbjax import attacks, console, corruptions, perturbations, rpr, stops

_COMPILED = [0]


class Line(NamedTuple):
    """What a process holds."""

    seconds: float
    rounds: int
    mebibytes: float
    """Resident."""
    areas: int
    """Of memory, of which Linux allows 65,530."""
    files: int
    threads: int
    compiled: int
    """Programs, since the line before."""


def _listen(event: str, seconds: float, **_: Any) -> None:
    _COMPILED[0] += event == "/jax/core/compile/backend_compile_duration"


def held(began: float, rounds: int, before: int) -> Line:
    """Returns what this process holds now; Linux says it."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Line(
        time.monotonic() - began,
        rounds,
        pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        Path("/proc/self/maps").read_bytes().count(b"\n"),
        len(os.listdir("/proc/self/fd")),
        threading.active_count(),
        _COMPILED[0] - before,
    )


class Linear(nn.Module):
    """A module that is made anew in each round."""

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Returns logits."""
        return nn.Dense(4)(images.reshape(len(images), -1))


_RNG = np.random.default_rng(0)
_IMAGES = _RNG.integers(0, 256, (64, 8, 8, 1), np.uint8)
_LABELS = _RNG.integers(0, 4, 64).astype(np.int32)


def calls(number: int) -> None:
    """Attacks, scores and corrupts with models that did not exist before."""
    key = jax.random.key(number)
    weights = jax.random.normal(key, (64, 4))
    module = Linear()
    variables = module.init(key, jnp.zeros((1, 8, 8, 1)))
    models: Any = (
        lambda images: images.reshape(len(images), -1) @ weights,
        jax.tree_util.Partial(module.apply, variables),
        lambda images: module.apply(variables, images),
    )
    pgd = attacks.pgd(epsilon=0.1, num_steps=3)
    for model in models:
        options: Any = {"batch_size": 32}
        pgd(model, key, jnp.asarray(_IMAGES[:32]) / 255, jnp.asarray(_LABELS[:32]))
        perturbation = perturbations.gaussian_noise(sigma=0.1)
        rpr.score(model, key, _IMAGES, _LABELS, max_steps=5, perturbation=perturbation, **options)
        severities = {"gaussian_noise": (1,)}
        corruptions.run_corruptions(
            model, key, _IMAGES, _LABELS, profile="mnist", severities=severities, **options
        )


def trainings(number: int) -> None:
    """Trains a tiny job in a directory of its own."""
    from experiments.benchmarks.faults import job
    from rbjax import main

    config = job.get_config("universal")
    config.num_epochs, config.seed = 2, number
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        main.run(config, f"{folder}/run")


def loop(name: str, work: Callable[[int], None], seconds: float, every: float) -> list[Line]:
    """Goes round for some time and prints what is held."""
    began = shown = time.monotonic()
    before, rounds, lines = _COMPILED[0], 0, []
    while time.monotonic() - began < seconds:
        work(rounds)
        rounds += 1
        if time.monotonic() - shown >= every:
            shown = time.monotonic()
            lines.append(held(began, rounds, before))
            before = _COMPILED[0]
            print(f"{name:<10} {_shown(lines[-1])}", flush=True)
    return lines


def _shown(line: Line) -> str:
    return (
        f"{line.seconds:7.0f} s {line.rounds:6} rounds {line.mebibytes:8.0f} MiB "
        f"{line.areas:6} areas {line.files:4} files {line.threads:4} threads "
        f"{line.compiled:5} compiled"
    )


def main(arguments: list[str] | None = None) -> int:
    """Runs both loops."""
    parser = argparse.ArgumentParser(prog="experiments.benchmarks.long_runs", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--every", type=float, default=30, help="seconds")
    options = parser.parse_args(arguments)
    print(machine.describe())
    listen: Any = _listen
    jax.monitoring.register_event_duration_secs_listener(listen)
    for name, work in (("calls", calls), ("trainings", trainings)):
        lines = loop(name, work, 30 * options.minutes, options.every)
        if len(lines) > 3:
            first, last = lines[len(lines) // 4], lines[-1]
            rounds = last.rounds - first.rounds
            print(
                f"{name}: in the last {rounds} rounds {last.mebibytes - first.mebibytes:+.0f} MiB, "
                f"{last.areas - first.areas:+} areas, {last.files - first.files:+} files, "
                f"{last.threads - first.threads:+} threads, "
                f"{sum(line.compiled for line in lines[len(lines) // 4 + 1 :])} programs compiled"
            )
    return 0


if __name__ == "__main__":
    with console.steady(), stops.heeded():
        code = main()
    sys.exit(code)
