"""How fast is AugMix, beside the published procedure on Pillow?

    python -m experiments.benchmarks.augmix [--batch-size=128] [--batches=5] [--repeats=15]

Two views of a batch of CIFAR-10 training images, 8 bits in and floats out, at severity 3 with three
chains: ours as one compiled call, Pillow's in one process and in as many processes as there are
cores, each with its share of the batch, as data loaders do it. The three take turns of several
batches, one after another as in training; medians over the turns of the time a batch, compilation
and the start of the processes apart. CPU seconds, of all threads or
processes, are given too: other work on the machine moves them less than it moves wall time.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import machine
from experiments.benchmarks.pillow_augmix import views
from rbjax import console, data, prng
from rbjax.data.augmix import augmix
from rbjax.inputs import to_float
from rbjax.typing import Array, Key


@jax.jit
def ours(key: Key, images: Array) -> tuple[Array, Array]:
    """Returns the images in [0, 1] and both views of each."""
    clean, keys = to_float(images), prng.per_example(key, jnp.arange(2 * len(images)))
    return clean, augmix(keys, jnp.concatenate([clean, clean]))


def by_rbjax(images: np.ndarray, seed: int) -> float:
    """Returns the CPU seconds of a call."""
    began = time.process_time()
    jax.block_until_ready(ours(prng.key(seed), jnp.asarray(images)))
    return time.process_time() - began


def by_pillow(images: np.ndarray, seed: int) -> float:
    """Returns the CPU seconds of one process."""
    return views(images, seed)[1]


def by_processes(pool: ProcessPoolExecutor, parts: list[np.ndarray], seed: int) -> float:
    """Returns the CPU seconds of all processes."""
    seeds = range(seed * len(parts), (seed + 1) * len(parts))
    return sum(seconds for _, seconds in pool.map(views, parts, seeds))


@console.steady()
def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=128, help="images")
    parser.add_argument("--batches", type=int, default=5, help="batches a turn")
    parser.add_argument("--repeats", type=int, default=15, help="turns of each")
    arguments = parser.parse_args()
    images = np.asarray(data.load("cifar10", "train").images[: arguments.batch_size])
    count, spawn = os.cpu_count() or 1, multiprocessing.get_context("spawn")
    print(machine.describe())
    print(f"two AugMix views of {len(images)} CIFAR-10 images; milliseconds a batch")
    with ProcessPoolExecutor(count, mp_context=spawn) as pool:
        parts = np.array_split(images, count)
        ways = {
            "rbjax": lambda seed: by_rbjax(images, seed),
            "Pillow, one process": lambda seed: by_pillow(images, seed),
            f"Pillow, {count} processes": lambda seed: by_processes(pool, parts, seed),
        }
        wall: dict[str, list[float]] = {name: [] for name in ways}
        cpu: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(arguments.repeats + 1):
            seeds = range(turn * arguments.batches, (turn + 1) * arguments.batches)
            for name, run in ways.items():
                began = time.perf_counter()
                seconds = sum(run(seed) for seed in seeds)
                if turn:  # the first one compiles, or starts the processes
                    wall[name].append((time.perf_counter() - began) / arguments.batches)
                    cpu[name].append(seconds / arguments.batches)
    print(f"{'':24}{'wall':>10}{'ratio':>8}{'CPU':>10}{'ratio':>8}")
    for name in ways:
        row = f"{name:24}"
        for measured in (wall, cpu):
            ratio = statistics.median(measured[name]) / statistics.median(measured["rbjax"])
            row += f"{1000 * statistics.median(measured[name]):10.1f}{ratio:8.1f}"
        print(row)


if __name__ == "__main__":
    main()
