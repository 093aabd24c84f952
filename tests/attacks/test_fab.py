from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog

from rbjax import attacks
from rbjax.attacks.fab import nearest_step
from tests.attacks.linear import IMAGES, LABELS, LOGITS_FN, between, exact, sizes

KEY = jax.random.key(0)
NORMS = ("linf", "l2", "l1")


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("num_targets", [4, 0])
def test_the_smallest_perturbation_of_a_linear_model(norm, num_targets):
    """|margin| / ||w||_dual, and at most 1 % more: the last step is pulled a tenth back."""
    attack = attacks.fab(norm=norm, num_targets=num_targets, num_steps=40)
    result = attack(LOGITS_FN, KEY, IMAGES, LABELS)
    assert np.all(result.fooled)
    ratio = sizes(result.images - IMAGES, norm) / exact(norm)
    assert np.all((ratio > 1) & (ratio < 1.01))


@pytest.mark.parametrize("norm", NORMS)
def test_only_what_lies_in_the_ball_counts(norm):
    epsilon = between(norm)
    attack = attacks.fab(epsilon=epsilon, norm=norm, num_targets=4, num_steps=40)
    result = attack(LOGITS_FN, KEY, IMAGES, LABELS)
    reachable = exact(norm) < epsilon
    np.testing.assert_array_equal(result.fooled, reachable)
    np.testing.assert_array_equal(result.images[~reachable], IMAGES[~reachable])


def test_what_is_wrong_already_stays_as_it_is():
    result = attacks.fab(num_targets=4, num_steps=5)(LOGITS_FN, KEY, IMAGES, (LABELS + 1) % 5)
    assert np.all(result.fooled)
    np.testing.assert_array_equal(result.images, IMAGES)


def test_targets_exceed_every_other_class():
    """Not the label alone: the nearest point at which it does lies where a third one may win."""
    targets = (LABELS + 1) % 5
    result = attacks.fab(norm="l2")(LOGITS_FN, KEY, IMAGES, LABELS, targets=targets)
    np.testing.assert_array_equal(result.predictions, targets)
    other = attacks.fmn(norm="l2")(LOGITS_FN, KEY, IMAGES, LABELS, targets=targets)
    ratio = sizes(result.images - IMAGES, "l2") / sizes(other.images - IMAGES, "l2")
    assert np.median(ratio) < 1.1


def test_restarts_are_never_larger():
    def size(restarts):
        attack = attacks.fab(num_targets=2, num_steps=5, num_restarts=restarts)
        result = attack(LOGITS_FN, KEY, IMAGES, LABELS)
        return np.where(result.fooled, sizes(result.images - IMAGES, "linf"), np.inf)

    assert np.all(size(3) <= size(1) + 1e-7)


def problems(count=60, width=12):
    rng = np.random.default_rng(0)
    points, normals = rng.uniform(0, 1, (count, width)), rng.standard_normal((count, width))
    points[:20] = np.round(points[:20])  # on the edges of the box
    normals[::7, :3] = 0
    return points, normals, rng.standard_normal(count)


def step(points, normals, offsets, norm):
    shape = (len(points), points.shape[1], 1, 1)
    arrays = (jnp.asarray(a, jnp.float32) for a in (points, normals, offsets))
    x, w, c = arrays
    moved = nearest_step(x.reshape(shape), w.reshape(shape), c, norm)
    return np.asarray(moved, np.float64).reshape(points.shape)


@pytest.mark.parametrize(("norm", "order"), [("linf", np.inf), ("l1", 1)])
def test_the_nearest_step_is_that_of_linear_programming(norm, order):
    points, normals, offsets = problems()
    found = step(points, normals, offsets, norm)
    width = points.shape[1]
    # One bound on all values, or one on each.
    most = np.ones((width, 1)) if norm == "linf" else np.eye(width)
    both = np.block([[np.eye(width), -most], [-np.eye(width), -most]])
    for x, w, c, d in zip(points, normals, offsets, found, strict=True):
        solved = linprog(
            [*np.zeros(width), *np.ones(most.shape[1])],
            A_ub=both,
            b_ub=np.zeros(2 * width),
            A_eq=[[*w, *np.zeros(most.shape[1])]],
            b_eq=[c],
            bounds=[*zip(-x, 1 - x, strict=True), *[(0, None)] * most.shape[1]],
        )
        assert np.all((x + d >= -1e-6) & (x + d <= 1 + 1e-6))
        if solved.success:
            assert np.linalg.norm(d, order) == pytest.approx(solved.fun, abs=1e-5)
            assert w @ d == pytest.approx(c, abs=1e-5)
        else:  # out of reach: as far as the box goes
            assert w @ d == pytest.approx(
                np.sum(np.maximum(w * -x * np.sign(c), w * (1 - x) * np.sign(c))) * np.sign(c),
                abs=1e-4,
            )


def test_the_nearest_step_in_l2_meets_its_conditions():
    """It reaches the plane, and what the box does not stop is along the normal."""
    points, normals, offsets = problems()
    reach = np.where(np.sign(offsets)[:, None] * normals > 0, 1 - points, points) * np.abs(normals)
    inside = reach.sum(axis=1) > np.abs(offsets) * 1.01
    assert inside.sum() > 30
    found = step(points, normals, offsets, "l2")
    np.testing.assert_allclose((normals * found).sum(1)[inside], offsets[inside], atol=1e-5)
    moved = points + found
    free = (moved > 1e-5) & (moved < 1 - 1e-5) & (np.abs(normals) > 1e-3)
    for d, w, f in zip(found[inside], normals[inside], free[inside], strict=True):
        if f.sum() > 1:
            ratio = d[f] / w[f]
            np.testing.assert_allclose(ratio, ratio[0], atol=1e-4)
            # Those that the box stops would have gone at least as far.
            stopped = ~f & (np.abs(w) > 1e-3)
            assert np.all(np.abs(d[stopped]) <= np.abs(ratio[0] * w[stopped]) + 1e-4)


@pytest.mark.parametrize("norm", NORMS)
def test_steps_of_flat_and_tiny_gradients(norm):
    points = np.full((2, 4), 0.5)
    normals = np.array([[0.0, 0, 0, 0], [1e-30, -2e-30, 0, 1e-30]])
    found = step(points, normals, np.array([1.0, 2e-31]), norm)
    assert np.all(found[0] == 0)
    assert normals[1] @ found[1] == pytest.approx(2e-31, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "l0"}, "norm 'l0' is unknown; allowed: linf, l2, l1"),
        ({"eta": 0.9}, "eta is 0.9"),
        ({"num_targets": -1}, "num_targets is -1"),
        ({"epsilon": 8}, "epsilon is 8.0; with norm 'linf'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        attacks.fab(**options)
