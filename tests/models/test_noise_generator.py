"""ANT's generators: their size, and what their noise is made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import prng
from rbjax.models.noise_generator import noise_generator


@pytest.mark.parametrize(
    ("kernel", "channels", "count"),
    [(1, 3, 983), (3, 3, 4183), (1, 1, 901), (3, 1, 4101), (1, 11, 1311)],
)
def test_parameters_and_what_the_noise_depends_on(kernel, channels, count):
    generator = noise_generator(image_shape=(5, 7, channels), kernel=kernel)
    params = generator.init(prng.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count
    codes = generator.codes(prng.split(prng.key(1), 2))
    edge = kernel // 2
    assert codes.shape == (2, 5 + 2 * edge, 7 + 2 * edge, channels)
    centre = codes[:, edge : edge + 5, edge : edge + 7]
    np.testing.assert_allclose(generator.apply(params, codes), centre, atol=1e-4)
    nothing = jax.tree.map(jnp.zeros_like, params)
    np.testing.assert_array_equal(generator.apply(nothing, codes), centre)
    large = jax.tree.map(lambda leaf: 30 * leaf, params)
    changed = generator.apply(large, codes.at[0, 2 + edge, 3 + edge, 0].add(1.0))
    is_other = (changed != generator.apply(large, codes)).any(axis=-1)
    assert is_other[0, 2, 3]
    near = is_other[0, 2 - edge : 3 + edge, 3 - edge : 4 + edge]
    assert is_other.sum() == near.sum()
    assert near.sum() == kernel**2
