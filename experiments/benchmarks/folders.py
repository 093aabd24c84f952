"""How fast is a folder of JPEGs read, beside a bare thread pool of Pillow on the same cores?

    python -m experiments.benchmarks.folders [--repeats=7]

CIFAR-10's 10,000 test images, as JPEG of quality 90 in a folder a class.  These take turns:
Pillow alone, `Image.open(file).convert("RGB")` into one array, in a pool of as many threads as ours
and in one of two; our images from the same files, as training indexes them; and all that a job does
before its first step: listing, digests and headers of all files, pixels, example ids, mean and
deviation.  Ratios are of rates, medians of the turns, in wall time and in CPU time, which other
work on the machine moves less.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.benchmarks import machine
from rbjax.data import custom, encoded, load, looks, own_images, sources, survey

_SHAPE = (32, 32, 3)
_QUALITY, _THREADS = 90, (encoded.THREADS, 2)


def write(root: Path) -> None:
    """Writes CIFAR-10's test images as JPEG, half of each class in train and half in test."""
    part = load("cifar10", "test")
    for row, (image, label) in enumerate(zip(part.images, part.labels, strict=True)):
        folder = root / ("train", "test")[row % 2] / part.info.class_names[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{row:05d}.jpg", quality=_QUALITY)


def bare(files: Sequence[Path], threads: int) -> np.ndarray:
    """Reads files by Pillow alone."""
    images = np.empty((len(files), *_SHAPE), np.uint8)

    def fill(row: int) -> None:
        with Image.open(files[row]) as opened:
            images[row] = np.asarray(opened.convert("RGB"))

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        list(pool.map(fill, range(len(files))))
    return images


def ours(source: sources.Source) -> encoded.EncodedImages:
    """Returns the images as training indexes them, by name."""
    found = own_images.find(source)
    rows = sorted(range(len(found.names)), key=found.names.__getitem__)
    return encoded.EncodedImages(rows, _SHAPE, found.reader(np.uint8))


def job(source: sources.Source) -> int:
    """Does all that a job does before its first step, as for the first time."""
    custom._load.cache_clear()
    survey._survey_files.cache_clear()
    with looks.once():
        return sum(custom.load(source, split).num_examples for split in ("train", "test"))


def measure(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[tuple]]:
    """Returns wall and CPU seconds of each way, in turn."""
    seconds: dict[str, list[tuple]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, way in ways.items():
            began = time.perf_counter(), time.process_time()
            way()
            ended = time.perf_counter(), time.process_time()
            if repeat:  # the first warms the system's cache
                seconds[name].append(tuple(b - a for a, b in zip(began, ended, strict=True)))
    return seconds


def main() -> None:
    """Prints rates and ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    print(machine.describe())
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root)
        files = sorted(root.rglob("*.jpg"))
        num_bytes = sum(file.stat().st_size for file in files)
        print(f"\n{len(files):,} JPEGs of {_SHAPE}, {num_bytes / len(files):,.0f} bytes each")
        source = sources.source("folder", {}, path=folder)
        images = ours(source)
        np.testing.assert_array_equal(bare(files, 2), images[:])
        peers = {f"Pillow, {n} threads": functools.partial(bare, files, n) for n in _THREADS}
        ways = {
            **peers,
            "images of a folder": lambda: images[:],
            "a job's whole beginning": lambda: job(source),
        }
        seconds = measure(ways, options.repeats)
    for name, turns in seconds.items():
        wall, cpu = (statistics.median(turn[i] for turn in turns) for i in (0, 1))
        against = []
        for peer in peers:
            pairs = list(zip(seconds[peer], turns, strict=True))
            ratios = [statistics.median(p[i] / t[i] for p, t in pairs) for i in (0, 1)]
            against.append(f"{ratios[0]:.2f} ({ratios[1]:.2f})")
        print(
            f"  {name:24} {len(files) / wall:8,.0f} images/s, {1e6 * cpu / len(files):5.0f} us of "
            f"CPU; rate over {' and '.join(peers)}: wall (CPU) {', '.join(against)}"
        )


if __name__ == "__main__":
    main()
