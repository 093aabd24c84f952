"""Sums over the examples of each class, in full precision wherever they run."""

import jax
import jax.numpy as jnp
import numpy as np

from rbjax.methods.by_class import class_counts, class_sums

LABELS = jnp.array([0, 2, 2, 0, 2])


def test_sums_by_hand():
    values = jnp.arange(30.0).reshape(5, 2, 3)
    expected = [values[0] + values[3], np.zeros((2, 3)), values[1] + values[2] + values[4]]
    np.testing.assert_array_equal(class_sums(LABELS, values, 3), expected)
    np.testing.assert_array_equal(class_sums(LABELS, values[:, 0, 1], 3), [20, 0, 45])
    np.testing.assert_array_equal(class_counts(LABELS, 4), [2, 0, 3, 0])


def test_no_value_is_rounded_to_the_bits_of_tf32():
    """Which a GPU does by default; the program asks for all of them."""
    program = jax.jit(class_sums, static_argnums=2).lower(LABELS, jnp.ones((5, 4)), 3).as_text()
    assert program.count("precision = [HIGHEST, HIGHEST]") == 1
