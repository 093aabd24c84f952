"""A scoring run to be killed, in a process of its own; the scores are FOLDER/scores.npz."""

from multiprocessing.connection import Connection
from pathlib import Path

import jax
import numpy as np

from rbjax import atomic, journal
from tests.rpr.known import score


def main(folder: Path, positions: Connection) -> None:
    """Scores 12,000 images, for some seconds, in four blocks; sends how far it is at each look."""
    jax.config.update("jax_platforms", "cpu")
    journal._SECONDS_BETWEEN_SAVES = 0.04
    probabilities = np.random.default_rng(0).choice([0.0, 0.001, 0.1], 12_000)
    scores = score(
        probabilities,
        max_steps=5000,
        block_size=3_000,
        journal=folder / "journal",
        progress=lambda state: positions.send(state.done),
    )
    atomic.write_npz(folder / "scores.npz", **scores._asdict())
