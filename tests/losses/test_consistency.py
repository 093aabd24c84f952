"""The Jensen-Shannon loss in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax.losses.consistency import jensen_shannon

PREDICTIONS = [(0.7, 0.2, 0.1), (0.6, 0.3, 0.1), (0.5, 0.25, 0.25)]


def test_known_values():
    """Of three predictions, of distinct certainties, of equal predictions, of two views."""
    views = [
        jnp.log(jnp.array([p, one_hot, (0.7, 0.2, 0.1)]) + 1e-30)
        for p, one_hot in zip(PREDICTIONS, np.eye(3), strict=True)
    ]
    value = jensen_shannon(*views)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, [0.0244753, np.log(3), 0.0], rtol=3e-6, atol=1e-7)
    np.testing.assert_allclose(12 * value[0], 0.2937034, rtol=3e-6)
    halves = jensen_shannon(jnp.array([[50.0, 0.0]]), jnp.array([[0.0, 50.0]]))
    np.testing.assert_allclose(halves, np.log(2), rtol=1e-6)


def test_a_masked_class_adds_nothing_to_value_and_gradient():
    views = [jnp.log(jnp.array([p])) for p in PREDICTIONS]
    masked = [jnp.concatenate([view, jnp.full((1, 1), -jnp.inf)], axis=1) for view in views]
    np.testing.assert_allclose(jensen_shannon(*masked), jensen_shannon(*views), rtol=1e-6)
    of_first = [
        jax.grad(lambda first, rest=rest: jensen_shannon(first, *rest)[0])(first)
        for first, *rest in (views, masked)
    ]
    np.testing.assert_allclose(of_first[1][:, :3], of_first[0], rtol=1e-5)
    assert np.all(np.isfinite(of_first[1]))


@pytest.mark.parametrize("shapes", [[], [(2, 3)], [(2, 3), (2, 4)], [(3,), (3,)]])
def test_other_shapes_are_refused(shapes):
    with pytest.raises(ValueError, match="logits have the shapes"):
        jensen_shannon(*map(jnp.zeros, shapes))
