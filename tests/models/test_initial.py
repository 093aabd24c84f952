from __future__ import annotations

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import models
from rbjax.models import initial

KEY = jax.random.key(3)


@pytest.mark.parametrize("shape", [(3, 3, 2, 5), (1, 1, 7, 3), (5, 5, 16, 16)])
@pytest.mark.parametrize("fan", ["in", "out"])
def test_numbers_are_flax_own(fan: Literal["in", "out"], shape: tuple[int, ...]):
    """Also where there are more than the shortest draw has."""
    mode: Literal["fan_in", "fan_out"] = "fan_in" if fan == "in" else "fan_out"
    own = nn.initializers.variance_scaling(2.0, mode, "truncated_normal")
    made = initial.he_normal(fan, KEY, shape, jnp.float32)
    np.testing.assert_array_equal(made, own(KEY, shape, jnp.float32))


def test_weights_are_the_same_traced_and_from_a_shape():
    model = models.create("resnet32", num_classes=3, image_shape=(8, 8, 1), mean=(0.5,), std=(0.3,))
    images = jnp.ones((2, 8, 8, 1))
    variables = model.init(KEY, images)
    shapes = jax.eval_shape(model.init, KEY, images)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), variables) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), shapes
    )
    other = model.init(jax.random.key(4), images)
    kernel = variables["params"]["backbone"]["_Block_7"]["Conv_1"]["kernel"]
    assert not np.array_equal(kernel, other["params"]["backbone"]["_Block_7"]["Conv_1"]["kernel"])
    assert abs(float(kernel.std()) / np.sqrt(2 / (9 * 32)) - 1) < 0.05
