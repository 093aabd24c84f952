"""How much accuracy copies of a strength take away, and what the rule makes of that."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.delta_accuracy import copies, strength
from rbjax import data
from rbjax.data import alignmnist


def corner(weights, images):
    """Says 1 where the middle is bright."""
    return jnp.stack([weights - images[:, 3, 3, 0], images[:, 3, 3, 0] - weights], axis=-1)


@pytest.fixture
def dataset():
    """Images of a dot in the middle, and empty ones."""
    known = data.info("digits")._replace(image_shape=(8, 8, 1), class_names=("none", "dot"))
    images = np.zeros((40, 8, 8, 1), np.uint8)
    images[::2, 3, 3] = 255
    return data.from_arrays(known, "train", images, np.arange(1, 41) % 2)


def test_points_are_lost_with_the_scale(dataset):
    logits_fn = jax.tree_util.Partial(corner, jnp.float32(0.6))
    clean = strength.right({"dots": logits_fn}, dataset)
    assert clean["dots"].all()
    size = alignmnist.DEFAULT.alignment.field.dimension
    covariances = np.tile(np.eye(size), (2, 1, 1))

    def change(scale, num_blocks=1):
        recipe = alignmnist.DEFAULT._replace(scale=scale)
        deformer = copies.Deformer(covariances, recipe, Path())
        return strength.deltas(
            {"dots": logits_fn},
            dataset,
            deformer,
            clean=clean,
            num_blocks=num_blocks,
        )

    assert change(0.0)["dots"] == {"delta": 0.0, "variance": 0.0}
    lost = change(0.3)["dots"]
    assert -50.0 <= lost["delta"] < -10.0  # of the dots, none of the empty ones
    share = -lost["delta"] / 100
    assert lost["variance"] == pytest.approx(100**2 * share * (1 - share) / 40)
    assert change(0.3, 2)["dots"]["variance"] < lost["variance"]


def found(factor, **deltas):
    values = {version: factor * delta for version, delta in strength.PAPER.items()} | deltas
    return {version: {"delta": value, "variance": 1e-4} for version, value in values.items()}


def test_the_rule_takes_the_scale_whose_mean_is_nearest():
    done = {(100.0, 0.7): found(0.6), (100.0, 0.8): found(0.97), (20.0, 0.3): found(1.0)}
    text = strength.report(done)
    assert "The rule chooses a scale of 0.8 (+0.04 points from the paper)" in text
    assert "| 100 | 0.8 | -1.00 | -1.07 | -1.23 | -1.27 | -1.48 | -1.23 | -1.21 | +0.04 |" in text
    assert text.count("+1.00 (") == 3
    assert "by which images: ±0.02 to ±0.02." in text
    assert "Orders in 3 strengths, 1 in all" in text
    done[100.0, 0.9] = found(1.01, original=-3.0)
    text = strength.report(done)
    assert "The rule chooses a scale of 0.8 (+0.04 points from the paper)" in text
    assert "Orders in 4 strengths, 2 in all" in text
    assert "AveragePool, BatchNorm, Dropout, ConvPool, original at 100/0.9" in text
    assert "No scale was measured" in strength.report({(20.0, 0.3): found(1.0)})


def test_mistakes_are_one_line(tmp_path, capsys):
    assert strength.main([f"--nets={tmp_path}"]) == 2
    assert "which has no mnist_cnn.pt" in capsys.readouterr().err
    assert strength.main([f"--nets={tmp_path}", "--weights=ten"]) == 2
    assert "ten" in capsys.readouterr().err
