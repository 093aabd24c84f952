"""How fast does rbjax corrupt images, beside imagecorruptions?

    python -m experiments.benchmarks.corruptions --peer-python=PATH [--num-images=256] [--repeats=5]

CIFAR-10 test images, 8 bits in and 8 bits out, the 19 corruptions of ImageNet-C with its constants
at severity 3 on both sides: rbjax as `jit(vmap(...))` of all images at once, imagecorruptions as it
is called, image by image; frost has the same photographs on both sides. The two take turns; medians
over the repeats, compilation apart. PATH is a Python that has imagecorruptions and need not have
rbjax. What fails there is shown as failed, and the sums are over what both have. Beside the times
stands how far each side's images lie from the clean ones, in levels of 255: a corruption that does
less is not a faster one.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import machine
from experiments.benchmarks.torch_peer import Peer
from rbjax import console, corruptions, data, prng
from rbjax.inputs import to_float
from rbjax.typing import Array, Key

SEVERITY = 3
ROOT = Path(__file__).resolve().parents[2]


class CorruptionPeer(Peer):
    """A process that corrupts images by imagecorruptions on request."""

    def __init__(self, python: str) -> None:
        self.process = subprocess.Popen(
            [python, "-m", "experiments.benchmarks.peer_corruptions"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )


class Row(NamedTuple):
    """One corruption's figures."""

    name: str
    ours: float
    """Milliseconds an image."""
    first_call: float
    """Seconds that the first call takes longer."""
    our_change: float
    """Levels of 255, the mean."""
    theirs: float | None
    """Milliseconds an image; none where it failed."""
    their_change: float | None
    error: str
    """Why it failed."""


def make_run(name: str, textures: list[str] | None) -> Callable[[Key, Array], Array]:
    """Returns the compiled corruption of a batch of 8-bit images, frost of given photographs."""
    options = {"textures": textures} if name == "frost" and textures else {}
    corruption = corruptions.create(
        name, severity=SEVERITY, profile="imagenet", quantize=True, **options
    )

    @jax.jit
    def run(keys: Key, images: Array) -> Array:
        corrupted = jax.vmap(corruption)(keys, to_float(images))
        return jnp.round(255 * corrupted).astype(jnp.uint8)

    return run


def timed(run: Callable[[Key, Array], Array], keys: Key, images: Array) -> tuple[float, Array]:
    """Returns the seconds of a call and its result."""
    began = time.perf_counter()
    result = jax.block_until_ready(run(keys, images))
    return time.perf_counter() - began, result


def measure(name: str, images: np.ndarray, peer: Peer | None, path: Path, repeats: int) -> Row:
    """Returns one corruption's figures, both sides in turn."""
    textures = peer.ask("textures")["paths"] if peer is not None else None
    run, keys = (
        make_run(name, textures),
        prng.per_example(prng.key(0), jnp.arange(len(images))),
    )
    ours: list[float] = []
    theirs: list[float] = []
    answer: dict[str, Any] = {"error": "not asked"}
    first, corrupted = timed(run, keys, jnp.asarray(images))
    for _ in range(repeats):
        ours.append(timed(run, keys, jnp.asarray(images))[0])
        if peer is not None:
            answer = peer.ask("corrupt", path=str(path), name=name, severity=SEVERITY)
            theirs += [answer["seconds"]] if "seconds" in answer else []
    scale = 1000 / len(images)
    change = float(np.abs(np.asarray(corrupted, float) - images).mean())
    return Row(
        name,
        scale * statistics.median(ours),
        first - statistics.median(ours),
        change,
        scale * statistics.median(theirs) if theirs else None,
        answer.get("change"),
        answer.get("error", ""),
    )


def print_row(row: Row) -> None:
    """Prints a line of the table."""
    line = f"{row.name:18}{row.ours:10.3f}{row.our_change:8.1f}{row.first_call:10.1f} s"
    if row.theirs is None:
        print(f"{line}    failed: {row.error[:60]}", flush=True)
    else:
        ratio = row.theirs / row.ours
        print(f"{line}{row.theirs:14.3f}{row.their_change:8.1f}{ratio:9.1f}", flush=True)


def print_sum(label: str, rows: list[Row]) -> None:
    """Prints both sides' time for some corruptions together."""
    ours, theirs = sum(row.ours for row in rows), sum(row.theirs or 0.0 for row in rows)
    if rows:
        print(
            f"{label}: {ours:.2f} and {theirs:.2f} ms an image, {theirs / ours:.1f} times as fast"
        )


@console.steady()
def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer-python", help="a Python with imagecorruptions")
    parser.add_argument("--num-images", type=int, default=256, help="in a batch")
    parser.add_argument("--repeats", type=int, default=5, help="timings of each corruption")
    arguments = parser.parse_args()
    images = np.asarray(data.load("cifar10", "test").images[: arguments.num_images])
    print(machine.describe())
    peer = CorruptionPeer(arguments.peer_python) if arguments.peer_python else None
    if peer is not None:
        print("peer      " + " ".join(f"{k} {v}" for k, v in peer.ask("versions").items()))
    print(f"{len(images)} CIFAR-10 test images, ImageNet-C's constants, severity {SEVERITY}")
    print(f"{'':18}{'rbjax':>10}{'change':>8}{'first call':>12}{'their ms':>14}", end="")
    print(f"{'change':>8}{'ratio':>9}   (ms an image; levels of 255)")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npy"
        np.save(path, images)
        names = [n for n in corruptions.names("imagenet") if n in corruptions.CORRUPTIONS]
        rows = []
        for name in names:
            rows.append(measure(name, images, peer, path, arguments.repeats))
            print_row(rows[-1])
    print(f"all {len(rows)} here {sum(row.ours for row in rows):.2f} ms an image")
    both = [row for row in rows if row.theirs is not None]
    print_sum(f"the {len(both)} that both have", both)
    # imagecorruptions reads a photograph of ice anew for every image, rbjax once.
    print_sum("without frost", [row for row in both if row.name != "frost"])


if __name__ == "__main__":
    main()
