from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import inputs

IMAGES = np.linspace(0, 1, 24, dtype=np.float32).reshape(2, 2, 2, 3)


def test_eight_bit_to_float_is_exact():
    values = np.arange(256, dtype=np.uint8)
    exact = values.astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(jax.jit(inputs.to_float)(values), exact)
    assert inputs.to_float(jnp.ones(2, jnp.bfloat16)).dtype == jnp.float32


@pytest.mark.parametrize("images", [IMAGES, (IMAGES * 255).astype(np.uint8), IMAGES + 9e-7])
def test_good_images(images):
    inputs.check_images(images)
    inputs.check_images(jnp.asarray(images))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES + 2e-6, "images range from 2e-06 to 1; they must lie in"),
        (IMAGES - 0.5, "inside the model"),
        (IMAGES * np.nan, "images range from nan"),
        (IMAGES[0], r"images has shape \(2, 2, 3\)"),
        (IMAGES.astype(int), "images has dtype int64; allowed: uint8, or floating"),
    ],
)
def test_wrong_images(images, message):
    with pytest.raises(ValueError, match=message):
        inputs.check_images(images)


def test_values_are_not_looked_at_inside_jit():
    jax.jit(lambda x: inputs.check_images(x))(IMAGES + 5)
    with pytest.raises(ValueError, match="has shape"):
        jax.jit(lambda x: inputs.check_images(x))(IMAGES[0])


def test_tracing_is_seen():
    seen = []

    def look(x):
        known = (inputs.is_known(x), inputs.is_known([x, 1.0]), inputs.is_known(np.ones(2)))
        seen.append((inputs.is_tracing(), inputs.is_tracing({"x": x}), *known))
        return x

    look(jnp.ones(2))
    jax.jit(look)(jnp.ones(2))
    assert seen == [(False, False, True, True, True), (True, True, False, False, True)]


def test_labels():
    inputs.check_labels(np.array([0, 2]), num_examples=2, num_classes=3)
    for labels, message in (
        (np.array([0, 3]), "labels holds 3; allowed: 0 to 2"),
        (np.array([-1, 3]), "labels holds -1"),
        (np.array([0.0, 1.0]), "labels has dtype float64"),
        (np.array([[0], [1]]), r"labels has shape \(2, 1\)"),
    ):
        with pytest.raises(ValueError, match=message):
            inputs.check_labels(labels, num_examples=2, num_classes=3)


@pytest.mark.parametrize("value", [0.5, 1, np.float32(0.25), jnp.array(0.5)])
def test_real(value):
    assert inputs.check_real("x", value, high=1.0) == float(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 1.5, "1", None, True, [0.5]])
def test_not_real(value):
    with pytest.raises(ValueError, match="x is"):
        inputs.check_real("x", value, high=1.0)


@pytest.mark.parametrize("value", [1, np.int32(7)])
def test_integer(value):
    assert inputs.check_integer("n", value, low=1) == value


@pytest.mark.parametrize("value", [0, 1.0, True, "3", None])
def test_not_integer(value):
    with pytest.raises(ValueError, match="n is"):
        inputs.check_integer("n", value, low=1)


def test_integer_above_the_highest():
    assert inputs.check_integer("n", 5, low=1, high=5) == 5
    with pytest.raises(ValueError, match=r"n is 6; it must be .* at least 1 and at most 5"):
        inputs.check_integer("n", 6, low=1, high=5)
