from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import perturbations
from rbjax.perturbations.geometric import translate

IMAGE = jax.random.uniform(jax.random.key(1), (6, 7, 3))


@pytest.mark.parametrize("down", [-2, 0, 1, 2])
@pytest.mark.parametrize("right", [-2, -1, 0, 2])
def test_a_shift_by_whole_pixels_moves_them(down, right):
    expected = np.zeros(IMAGE.shape, np.float32)
    height, width = 6 - abs(down), 7 - abs(right)
    to = (slice(max(down, 0), max(down, 0) + height), slice(max(right, 0), max(right, 0) + width))
    of = (slice(max(-down, 0), max(-down, 0) + height), slice(max(-right, 0), None))
    expected[to] = np.asarray(IMAGE)[of][:, :width]
    moved = translate(IMAGE, jnp.array([down, right], jnp.float32), reach=2)
    np.testing.assert_array_equal(moved, expected)


def test_between_whole_pixels_a_shift_is_bilinear():
    y, x = jnp.mgrid[:6, :7]
    plane = (0.1 * y + 0.05 * x)[..., None]
    moved = translate(plane, jnp.array([0.75, -1.5]), reach=2)
    np.testing.assert_allclose(moved[2:, :4], plane[2:, :4] - 0.1 * 0.75 + 0.05 * 1.5, atol=1e-6)


def test_shifts_are_uniform_and_independent():
    """Where a point's centre of mass went: 1,000 draws, five standard errors."""
    point = jnp.zeros((9, 11, 1)).at[4, 5].set(1.0)
    keys = jax.random.split(jax.random.key(0), 1000)
    draw = jax.jit(jax.vmap(perturbations.shift(max_shift=2.5), (0, None)))
    images = np.asarray(draw(keys, point))[..., 0]
    np.testing.assert_allclose(images.sum((1, 2)), 1.0, rtol=1e-5)
    down = images.sum(2) @ np.arange(9) - 4
    right = images.sum(1) @ np.arange(11) - 5
    for offset in (down, right):
        assert np.abs(offset).max() <= 2.5 + 1e-5
        assert abs(offset.mean()) < 5 * 2.5 / 3**0.5 / 1000**0.5
        assert offset.std() == pytest.approx(2.5 / 3**0.5, rel=0.07)
    assert abs(np.corrcoef(down, right)[0, 1]) < 5 / 1000**0.5


@pytest.mark.parametrize(
    "perturbation", [perturbations.shift(max_shift=0), perturbations.rotation(max_degrees=0)]
)
def test_nothing_moves_nothing(perturbation):
    np.testing.assert_array_equal(perturbation(jax.random.key(0), IMAGE), IMAGE)


def test_rotation_stays_within_its_range():
    """A ramp's slope shows the angle: 300 draws."""
    ramp = jnp.broadcast_to(jnp.linspace(0.0, 0.8, 9)[:, None, None], (9, 9, 1))
    keys = jax.random.split(jax.random.key(2), 300)
    images = jax.jit(jax.vmap(perturbations.rotation(max_degrees=20), (0, None)))(keys, ramp)
    degrees = np.rad2deg(np.arcsin((images[:, 4, 5, 0] - images[:, 4, 4, 0]) / 0.1))
    assert np.abs(degrees).max() <= 20.01
    assert np.abs(degrees).max() > 18
    assert abs(degrees.mean()) < 5 * 20 / (3 * 300) ** 0.5


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("shift", {"max_shift": -1}, "max_shift is -1.0; it must be between 0 and 1000"),
        ("rotation", {"max_degrees": 200}, "max_degrees is 200.0; it must be between 0 and 180"),
        ("rotation", {"degrees": 20}, "did you mean 'max_degrees'"),
    ],
)
def test_wrong_options(name, options, message):
    with pytest.raises(ValueError, match=message):
        perturbations.create(name, **options)
