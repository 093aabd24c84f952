from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from rbjax import attacks, prng

WEIGHTS = jax.random.normal(jax.random.key(2), (36, 2))
IMAGES = jax.random.uniform(jax.random.key(1), (5, 6, 6, 1))
LABELS = jnp.array([0, 1, 0, 1, 0])


def linear(weights, images):
    return images.reshape(images.shape[0], -1) @ weights


LOGITS_FN = Partial(linear, WEIGHTS)


@pytest.mark.parametrize("random_start", [True, False])
def test_a_linear_model_ends_in_the_corner(random_start):
    """From any start, once num_steps step_size is at least 2 epsilon, and the same as FGSM's."""
    attack = attacks.pgd(epsilon=0.1, step_size=0.025, num_steps=8, random_start=random_start)
    result = attack(LOGITS_FN, jax.random.key(0), IMAGES, LABELS)
    direction = jnp.sign(WEIGHTS[:, 1] - WEIGHTS[:, 0]).reshape(6, 6, 1)
    sign = jnp.where(LABELS == 0, 1.0, -1.0)[:, None, None, None]
    np.testing.assert_allclose(
        result.images, jnp.clip(IMAGES + 0.1 * sign * direction, 0, 1), atol=1e-6
    )
    fast = attacks.fgsm(epsilon=0.1)(LOGITS_FN, jax.random.key(0), IMAGES, LABELS)
    np.testing.assert_allclose(result.images, fast.images, atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_start_belongs_to_the_example(norm):
    """With steps of 0 what is seen is the start: the same in any batch, another by each key."""
    attack = attacks.pgd(epsilon=0.1, step_size=0.0, num_steps=1, norm=norm)
    keys = prng.per_example(jax.random.key(0), jnp.array([7, 3, 9, 1, 5]))
    batch = attack(LOGITS_FN, keys, IMAGES, LABELS).images
    alone = attack(LOGITS_FN, keys[2:3], IMAGES[2:3], LABELS[2:3]).images
    np.testing.assert_array_equal(batch[2], alone[0])
    assert np.all(np.any(batch != IMAGES, axis=(1, 2, 3)))
    moved = np.asarray(batch - IMAGES)
    assert not np.allclose(moved[0], moved[1], atol=1e-3)
    other = attack(LOGITS_FN, jax.random.key(0), IMAGES, LABELS).images
    assert np.all(np.any(batch != other, axis=(1, 2, 3)))


def test_more_steps_are_not_weaker_on_a_convex_loss():
    """The loss of a linear model rises with the steps from the image itself, and with epsilon."""
    losses = [
        attacks.pgd(epsilon=0.1, step_size=0.01, num_steps=n, random_start=False)(
            LOGITS_FN, jax.random.key(0), IMAGES, LABELS
        ).loss
        for n in (1, 3, 9)
    ]
    assert np.all(losses[0] < losses[1])
    assert np.all(losses[1] < losses[2])


def test_default_step_is_a_quarter_of_epsilon():
    attack = attacks.pgd(epsilon=0.1, num_steps=1, random_start=False)
    moved = attack(LOGITS_FN, jax.random.key(0), jnp.full((5, 6, 6, 1), 0.5), LABELS)
    np.testing.assert_allclose(jnp.abs(moved.images - 0.5), 0.025, rtol=1e-4)
    # A call's epsilon brings its own quarter; a maker's step size stays.
    moved = attack(LOGITS_FN, jax.random.key(0), jnp.full((5, 6, 6, 1), 0.5), LABELS, epsilon=0.2)
    np.testing.assert_allclose(jnp.abs(moved.images - 0.5), 0.05, rtol=1e-4)
    sizes = jnp.linspace(0.01, 0.05, 5)
    moved = attack(
        LOGITS_FN, jax.random.key(0), jnp.full((5, 6, 6, 1), 0.5), LABELS, step_size=sizes
    )
    np.testing.assert_allclose(jnp.abs(moved.images - 0.5).max((1, 2, 3)), sizes, rtol=1e-4)
