from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import checks


@pytest.mark.parametrize("value", [0.5, 1, np.float32(0.25), jnp.array(0.5)])
def test_real(value):
    assert checks.real("x", value, high=1.0) == float(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 1.5, "1", None, True, [0.5]])
def test_not_real(value):
    with pytest.raises(ValueError, match="x is"):
        checks.real("x", value, high=1.0)


@pytest.mark.parametrize("value", [1, np.int32(7)])
def test_integer(value):
    assert checks.integer("n", value, low=1) == value


@pytest.mark.parametrize("value", [0, 1.0, True, "3", None])
def test_not_integer(value):
    with pytest.raises(ValueError, match="n is"):
        checks.integer("n", value, low=1)


def test_integer_above_the_highest():
    assert checks.integer("n", 5, low=1, high=5) == 5
    with pytest.raises(ValueError, match=r"n is 6; it must be .* at least 1 and at most 5"):
        checks.integer("n", 6, low=1, high=5)
