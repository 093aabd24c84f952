from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from rbjax import attacks

KEY = jax.random.key(0)
WEIGHTS = jnp.array([[1.0, -1.0, 0.0], [-2.0, 1.0, 0.5], [0.5, 0.5, -1.0]])
IMAGE = jnp.full((1, 1, 3, 1), 0.5)
LABEL = jnp.array([0])


def linear(weights, images):
    return images.reshape(images.shape[0], -1) @ weights


LOGITS_FN = Partial(linear, WEIGHTS)


def loss(images, label):
    return float(-jax.nn.log_softmax(linear(WEIGHTS, images))[0, label])


@pytest.mark.parametrize(
    ("direction", "target", "rises"),
    [
        (None, None, True),
        ("ascent", None, True),
        ("descent", None, False),
        (None, 2, False),
        ("ascent", 2, True),
        ("descent", 2, False),
    ],
)
def test_up_and_down_true_and_target_label(direction, target, rises):
    """P5's four: which label's loss moves, and which way."""
    attack = attacks.iterative_gradient_sign(epsilon=0.05, direction=direction, num_steps=3)
    targets = None if target is None else jnp.array([target])
    result = attack(LOGITS_FN, KEY, IMAGE, LABEL, targets=targets)
    label = 0 if target is None else target
    assert (loss(result.images, label) > loss(IMAGE, label)) == rises
    climbed = loss(result.images, label) * (1 if rises else -1)
    assert float(result.loss[0]) == pytest.approx(climbed, rel=1e-5)


def test_one_step_is_fgsm():
    one = attacks.iterative_gradient_sign(epsilon=0.03, num_steps=1, projected=False)
    fast = attacks.fgsm(epsilon=0.03)
    np.testing.assert_array_equal(
        one(LOGITS_FN, KEY, IMAGE, LABEL).images, fast(LOGITS_FN, KEY, IMAGE, LABEL).images
    )


def test_unprojected_steps_add_up():
    """P5: epsilon is the size of each step; four of 0.01 go 0.04, projected they stay at 0.01."""

    def movement(**options):
        attack = attacks.iterative_gradient_sign(epsilon=0.01, num_steps=4, **options)
        return float(jnp.max(jnp.abs(attack(LOGITS_FN, KEY, IMAGE, LABEL).images - IMAGE)))

    assert movement(projected=False) == pytest.approx(0.04, rel=1e-4)
    assert movement(projected=True) == pytest.approx(0.01, rel=1e-4)
    assert movement(projected=True, step_size=0.001) == pytest.approx(0.004, rel=1e-3)


def test_declared_sets():
    make = attacks.iterative_gradient_sign
    assert make(epsilon=0.1).threat == attacks.Threat("linf", 0.1, box=True)
    assert make(epsilon=0.1, projected=False).threat == attacks.Threat("linf", None, box=True)
    free = make(epsilon=0.4, projected=False, clipped=False, num_steps=4)
    assert free.threat == attacks.Threat("linf", None, box=False)
    images = free(LOGITS_FN, KEY, IMAGE, LABEL).images
    np.testing.assert_allclose(jnp.abs(images - IMAGE), 1.6, rtol=1e-5)


def test_in_l2_the_step_has_length_epsilon():
    attack = attacks.iterative_gradient_sign(epsilon=0.02, norm="l2", projected=False, num_steps=1)
    moved = attack(LOGITS_FN, KEY, IMAGE, LABEL).images - IMAGE
    assert float(jnp.linalg.norm(moved)) == pytest.approx(0.02, rel=1e-4)
