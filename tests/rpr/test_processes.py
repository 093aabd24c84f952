"""Two processes share the blocks and each returns all scores; memory does not grow."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.rpr.known import MIXED, score

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}

_SHARED = """
import sys, jax, numpy as np
number, port, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.distributed.initialize(f"localhost:{port}", 2, number)
from tests.rpr.known import MIXED, score
scores = score(MIXED, block_size=32, journal=f"{folder}/journal")
np.savez(f"{folder}/{number}.npz", **scores._asdict(), processes=jax.process_count())
"""


def test_two_processes(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", _SHARED]
    processes = [
        subprocess.Popen([*command, str(i), str(port), tmp_path], cwd=ROOT, env=ENVIRONMENT)
        for i in range(2)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    expected = score(MIXED, block_size=32)
    assert len(list((tmp_path / "journal").glob("*-block-*.npz"))) == 7
    for number in range(2):
        with np.load(tmp_path / f"{number}.npz") as found:
            assert found["processes"] == 2
            for field, value in expected._asdict().items():
                np.testing.assert_array_equal(found[field], value)
    # The journal of two processes serves one.
    again = score(MIXED, block_size=32, journal=tmp_path / "journal")
    np.testing.assert_array_equal(again.first_failure, expected.first_failure)


_MEASURED = """
import json, resource, sys
import jax, numpy as np
from rbjax import perturbations, rpr
from jax.tree_util import Partial
images = np.lib.format.open_memmap(sys.argv[1], "r")[: int(sys.argv[2])]
def linear(weights, images):
    return images.reshape(len(images), -1) @ weights
weights = jax.random.normal(jax.random.key(0), (784, 10))
labels = np.asarray(jax.numpy.argmax(linear(weights, images[:1000] / np.float32(255)), -1))
scores = rpr.score(
    Partial(linear, weights), jax.random.key(1), images, np.resize(labels, len(images)),
    max_steps=2, perturbation=perturbations.random_pixels(), batch_size=64, block_size=1000,
)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"peak": peak, "num_images": len(scores.steps)}))
"""


@pytest.mark.slow
def test_memory_is_flat_in_the_number_of_images(tmp_path):
    """1,000 and 60,000 images of a memory map: the peak grows by less than a tenth.

    The pages of the file that were read count as resident, and the system takes them back at will:
    they are left out.
    """
    images = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (60_000, 28, 28, 1))
    images[:1000] = np.random.default_rng(0).integers(0, 256, (1000, 28, 28, 1))
    images.flush()
    peaks = []
    for num_images in (1_000, 60_000):
        command = [sys.executable, "-c", _MEASURED, tmp_path / "x.npy", str(num_images)]
        done = subprocess.run(
            command, cwd=ROOT, env=ENVIRONMENT, check=True, stdout=subprocess.PIPE, text=True
        )
        found = json.loads(done.stdout)
        assert found["num_images"] == num_images
        peaks.append(found["peak"])
    print(f"peak memory, 1,000 and 60,000 images: {peaks[0]:,} and {peaks[1]:,} kB")
    mapped = [rows * 28 * 28 // 1024 for rows in (1_000, 60_000)]
    assert peaks[1] - mapped[1] < 1.1 * (peaks[0] - mapped[0])
