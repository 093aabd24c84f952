"""Every loop over a dataset, run by two processes: `python shared_blocks.py NUMBER PORT FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import numpy as np
from jax.tree_util import Partial

from rbjax import attacks, corruptions
from rbjax.attacks import passes
from rbjax.blocks import cut, map_blocks

NUM, SHAPE, K = 60, (8, 8, 1), 4
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (NUM, *SHAPE), np.uint8)
WEIGHTS = RNG.normal(size=(64, K)).astype(np.float32)


def linear(weights, images):
    return (images - 0.5).reshape(len(images), -1) @ weights


LOGITS_FN = Partial(linear, WEIGHTS)
LABELS = np.argmax(linear(WEIGHTS, IMAGES / np.float32(255)), axis=1).astype(np.int32)


def run(folder: Path | None) -> dict[str, np.ndarray]:
    """Returns the results of every loop over a dataset that processes share."""
    from tests.rpr import known  # makes arrays, and processes must have found each other before

    options: dict[str, Any] = {"batch_size": 16, "devices": jax.local_devices()[:1]}
    key, told = jax.random.key(0), []
    suite = attacks.run_attacks(
        LOGITS_FN,
        key,
        IMAGES,
        LABELS,
        attacks={"pgd": attacks.pgd(epsilon=0.05, num_steps=2)},
        journal=folder and folder / "attacks",
        progress=told.append,
        **options,
    )
    under = corruptions.run_corruptions(
        LOGITS_FN,
        key,
        IMAGES,
        LABELS,
        profile="cifar",
        severities={"gaussian_noise": (5,)},
        journal=folder and folder / "corruptions",
        **options,
    )
    passes.NUM_STEPS, passes.NUM_QUERIES, passes.STRETCHES = 5, 40, (20,)
    passes.VERSIONS = {"standard": ("apgd-ce", "square")}
    whole = attacks.run_autoattack(
        LOGITS_FN, key, IMAGES, LABELS, epsilon=0.02, keep_images=True, **options
    )
    assert whole.images is not None
    universal = attacks.evaluate_universal(
        LOGITS_FN, IMAGES, LABELS, np.full(SHAPE, 0.3), **options
    )
    scores = known.score(known.MIXED, block_size=32, journal=folder and folder / "scores")
    # Of one block: the other process has none of its own. Numbers and every dtype come through.
    single = map_blocks(
        lambda block, _: {
            "doubles": np.pi * block.rows,
            "flags": block.rows % 2 == 0,
            "large": np.int64(2**40 + len(block.rows)),
        },
        cut(np.arange(5), 8),
    )
    return {
        "clean": suite.clean,
        "pgd": suite.outcomes["pgd"].predictions,
        "noise": under.predictions["gaussian_noise"],
        "autoattack": whole.images,
        "robust": whole.robust,
        "universal": universal.predictions,
        "told": np.asarray([state.of for state in told if state.task == "pgd"]),
        **{f"scores.{field}": np.asarray(value) for field, value in scores._asdict().items()},
        **single,
    }


if __name__ == "__main__":
    number, port, folder = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    jax.distributed.initialize(f"localhost:{port}", 2, number)
    assert jax.process_count() == 2
    results: Any = run(folder)
    np.savez(folder / f"{number}.npz", **results)
