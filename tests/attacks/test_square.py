from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from rbjax import attacks
from rbjax.attacks.square import SquarePlan, bump, side_lengths
from tests.attacks.linear import IMAGES, LABELS, LOGITS_FN, between, distances, linear

KEY = jax.random.key(0)


def plan(norm="linf", queries=5000, share=0.8, *, rescale=False):
    return SquarePlan(norm, queries, 1, share, rescale)


def test_sides_become_smaller_on_the_published_schedule():
    """32 x 32, p = 0.8: 29, 20, 14, 10, 7, 5, 4, 3, ... after 10, 50, 200, ... queries."""
    ends, sides = side_lengths(plan(), 32, 32)
    assert sides[:8].tolist() == [29, 20, 14, 10, 7, 5, 4, 3]
    assert ends.tolist() == [10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000]
    ends, _ = side_lengths(plan(queries=1000, rescale=True), 32, 32)
    assert ends.tolist() == [1, 5, 20, 50, 100, 200, 400, 600, 800]
    _, sides = side_lengths(plan("l2"), 32, 32)
    assert np.all(sides % 2 == 1)
    assert sides.min() == 3
    _, sides = side_lengths(plan("l2", share=1.0), 6, 6)
    assert sides.max() == 5


def test_a_bump_is_two_opposite_ones_of_norm_one():
    for side in (3, 5, 8, 29):
        both = bump(side)
        assert both.shape == (side, side)
        assert np.linalg.norm(both) == pytest.approx(1.0, rel=1e-5)
        assert np.all(both[: side // 2] >= 0)
        assert np.all(both[side // 2 :] <= 0)
    # Rings of 1 + 1/4 + ...: the middle of a half of 2 x 4 has 1 + 1/4 + 1/9, its corner 1/4 + 1/9.
    for side in (3, 8):
        assert np.abs(bump(side, "l1")).sum() == pytest.approx(1.0, rel=1e-5)
    half = bump(4, "l1")[:2]
    ratio = (1 + 1 / 2**4 + 1 / 3**4) / (1 / 3**4)
    assert half.max() / half[0, 0] == pytest.approx(ratio, rel=1e-4)
    half = bump(4)[:2]
    assert half.max() / half[0, 0] == pytest.approx((1 + 1 / 4 + 1 / 9) / (1 / 9), rel=1e-4)


def test_it_reaches_the_corner_of_a_linear_model():
    epsilon = between("linf")
    result = attacks.square(epsilon=epsilon)(LOGITS_FN, KEY, IMAGES, LABELS)
    np.testing.assert_array_equal(result.fooled, distances("linf") < epsilon)
    moved = np.abs(result.images - IMAGES)[~np.asarray(result.fooled)]
    np.testing.assert_allclose(moved, epsilon, atol=1e-6)


def test_it_asks_for_no_gradient():
    """A model without a gradient is no obstacle: that is what it is for."""
    masked = Partial(
        lambda weights, images: jax.lax.stop_gradient(linear(weights, images)), LOGITS_FN.args[0]
    )
    attack = attacks.square(epsilon=between("linf"), num_queries=500)
    plain = attack(LOGITS_FN, KEY, IMAGES, LABELS)
    np.testing.assert_array_equal(attack(masked, KEY, IMAGES, LABELS).fooled, plain.fooled)
    assert plain.fooled.sum() > 0


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_more_queries_are_never_worse(norm):
    epsilon = between(norm)

    def run(queries):
        attack = attacks.square(epsilon=epsilon, norm=norm, num_queries=queries)
        return attack(LOGITS_FN, KEY, IMAGES, LABELS)

    few, many = run(50), run(400)
    assert np.all(many.fooled >= few.fooled)
    assert np.all(many.loss[~few.fooled] >= few.loss[~few.fooled])
    assert float(many.loss.mean()) > float(few.loss.mean())


def test_every_place_is_drawn_and_only_inside():
    """Of 6 x 6 pixels squares of side 1 reach all 36, and no channel moves alone in them."""
    from rbjax.attacks.square import _linf_proposal

    keys = jax.random.split(KEY, 2000)
    image = jnp.full((6, 6, 2), 0.5)
    moved = jax.vmap(lambda key: _linf_proposal(key, image, image, jnp.float32(0.1), jnp.int32(1)))(
        keys
    )
    changed = np.asarray(moved != image)
    assert np.all(changed.any(axis=3).sum(axis=(1, 2)) == 1)
    counts = changed[..., 0].sum(axis=0)
    assert counts.min() > 20  # expected 56, standard deviation 7.4
    assert counts.max() < 95


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_queries": 0}, "num_queries is 0"),
        ({"initial_share": 0.0}, "initial_share is 0"),
        ({"initial_share": 1.5}, "initial_share is 1.5"),
        ({"norm": "l0"}, "norm 'l0' is unknown; allowed: linf, l2, l1"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        attacks.square(epsilon=0.1, **options)
