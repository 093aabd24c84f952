"""Memory does not grow with the images; that processes share them is in tests/test_blocks.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}

_MEASURED = """
import json, resource, sys
import jax, numpy as np
from rbjax import perturbations, rpr
from jax.tree_util import Partial
whole = np.lib.format.open_memmap(sys.argv[1], "r")
def linear(weights, images):
    return images.reshape(len(images), -1) @ weights
weights = jax.random.normal(jax.random.key(0), (784, 10))
labels = np.asarray(jax.numpy.argmax(linear(weights, whole[:1000] / np.float32(255)), -1))
found = {}
for num_images in map(int, sys.argv[2:]):
    scores = rpr.score(
        Partial(linear, weights), jax.random.key(1), whole[:num_images],
        np.resize(labels, num_images), max_steps=2, perturbation=perturbations.random_pixels(),
        batch_size=64, block_size=1000,
    )
    found[len(scores.steps)] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.full_size
def test_memory_is_flat_in_the_number_of_images(tmp_path):
    """1,000 and 60,000 images of a memory map: the peak grows by less than a tenth.

    The pages of the file that were read count as resident, and the system takes them back at will:
    they are left out.
    """
    images = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (60_000, 28, 28, 1))
    images[:1000] = np.random.default_rng(0).integers(0, 256, (1000, 28, 28, 1))
    images.flush()
    command = [sys.executable, "-c", _MEASURED, tmp_path / "x.npy", "1000", "60000"]
    done = subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT, check=True, stdout=subprocess.PIPE, text=True
    )
    found = json.loads(done.stdout)
    assert list(found) == ["1000", "60000"]
    peaks = list(found.values())
    print(f"peak memory, 1,000 and 60,000 images: {peaks[0]:,} and {peaks[1]:,} kB")
    mapped = [rows * 28 * 28 // 1024 for rows in (1_000, 60_000)]
    assert peaks[1] - mapped[1] < 1.1 * (peaks[0] - mapped[0])
