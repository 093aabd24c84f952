"""A scoring run to be killed: `python resumed.py FOLDER`; the scores are FOLDER/scores.npz."""

import sys
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from rbjax import atomic, journal
from tests.rpr.known import score

journal._SECONDS_BETWEEN_SAVES = 0.1


def main(folder: Path) -> None:
    """Scores 30,000 images, for some seconds, in four blocks."""
    probabilities = np.random.default_rng(0).choice([0.0, 0.001, 0.1], 30_000)
    scores = score(
        probabilities,
        max_steps=5000,
        block_size=8192,
        journal=folder / "journal",
        progress=lambda state: print(state.done, flush=True),
    )
    atomic.write_npz(folder / "scores.npz", **scores._asdict())


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    main(Path(sys.argv[1]))
