"""How much of a network's accuracy deformations of a strength take away."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.delta_accuracy import strength
from rbjax import command_line, data
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


def test_points_are_lost_with_the_scale(dataset, monkeypatch):
    logits_fn = jax.tree_util.Partial(corner, jnp.float32(0.6))
    assert strength.accuracy(logits_fn, dataset, dataset.images) == 100.0
    size = alignmnist.DEFAULT.alignment.field.dimension
    covariances = np.tile(np.eye(size), (2, 1, 1))
    monkeypatch.setattr(alignmnist, "gaussians", lambda data_dir, recipe: covariances)

    def lost(scale: float) -> float:
        recipe = alignmnist.DEFAULT._replace(scale=scale)
        return strength.drop(logits_fn, dataset, recipe, block=1, data_dir=None)

    assert lost(0.0) == 0.0
    assert 10.0 < lost(0.3) <= 50.0  # of the dots, none of the empty ones


def test_the_config_resolves_and_mistakes_are_one_line(tmp_path, capsys):
    config = command_line.resolve(strength.make_config(3, None), str(tmp_path))
    assert config.schedule.gamma == 0.7
    assert strength.main(["--epochs=0"]) == 2
    assert "num_epochs = 0" in capsys.readouterr().err
    assert strength.main(["--weights=ten"]) == 2
    assert "ten" in capsys.readouterr().err
