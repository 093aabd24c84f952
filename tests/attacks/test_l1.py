"""The l1 ball inside [0, 1]: its projection and its steps, against slow exact ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from rbjax import attacks, prng
from rbjax.attacks import l1
from rbjax.attacks.universal import craft_universal

RNG = np.random.default_rng(0)
KEY = prng.key(0)


def nearest(delta, epsilon, low, high):
    """The nearest point, by the breakpoints of the piecewise linear sum, in float64."""
    sizes, room = np.abs(delta), np.where(delta > 0, high, -low)

    def kept(theta):
        return np.clip(sizes - theta, 0, room)

    if kept(0.0).sum() <= epsilon:
        return np.sign(delta) * kept(0.0)
    thetas = np.unique(np.concatenate([[0.0], sizes, np.maximum(sizes - room, 0)]))
    sums = np.array([kept(theta).sum() for theta in thetas])
    i = np.flatnonzero(sums > epsilon)[-1]
    share = (sums[i] - epsilon) / (sums[i] - sums[i + 1])
    return np.sign(delta) * kept(thetas[i] + share * (thetas[i + 1] - thetas[i]))


def cases():
    """60 perturbations of 12 values: many at the edges, ties, nothing and everything allowed."""
    images = RNG.random((60, 12))
    at_edge = RNG.random((60, 12)) < np.linspace(0, 1, 60)[:, None]
    images = np.where(at_edge, np.round(images), images)
    delta = 2 * RNG.normal(size=(60, 12))
    delta[::5] = np.sign(delta[::5]) * 0.7
    delta[::7, :6] = 0
    epsilon = RNG.choice([0.0, 0.3, 1.0, 2.5, 6.0, 100.0], 60)
    # By hand: nothing binds; the ball alone; the box alone; both, where clipping first spends less.
    images[:4, :3], images[:4, 3:] = [0.9, 0.5, 0.0], 0.5
    delta[:4], epsilon[:4] = 0, [1.0, 0.6, 2.0, 0.6]
    delta[:4, :3] = [[0.05, 0.2, 0.1], [0.05, 0.6, 0.3], [0.6, 0.7, -0.2], [0.9, 0.9, 0.0]]
    return images, delta, epsilon


def test_projection_on_ball_and_box_is_exact():
    images, delta, epsilon = cases()
    project = jax.jit(jax.vmap(l1.project_l1_in_box))

    def ours(delta):
        single = (jnp.asarray(x, jnp.float32) for x in (delta, epsilon, -images, 1 - images))
        return np.asarray(project(*single), np.float64)

    moved = ours(delta)
    expected = np.array(
        [nearest(d, e, -x, 1 - x) for d, e, x in zip(delta, epsilon, images, strict=True)]
    )
    np.testing.assert_allclose(moved, expected, atol=2e-6)
    np.testing.assert_allclose(moved[3, :3], [0.1, 0.5, 0.0], atol=1e-6)
    assert np.all(np.abs(moved).sum(1) <= epsilon * (1 + 1e-6))
    assert np.all((images + moved >= -1e-7) & (images + moved <= 1 + 1e-7))
    np.testing.assert_allclose(ours(moved), moved, atol=1e-6)
    # What is nearest makes an obtuse angle with every point of the set; clipping after the ball,
    # the two taking turns, does not.
    others = [
        np.array([nearest(d, e, -x, 1 - x) for d, e, x in zip(drawn, epsilon, images, strict=True)])
        for drawn in RNG.normal(size=(20, 60, 12))
    ]

    def worst(point):
        return max(np.sum((delta - point) * (other - point), axis=1).max() for other in others)

    assert worst(moved) < 1e-5
    in_turns = jax.vmap(l1.project_l1)(jnp.asarray(delta), jnp.asarray(epsilon))
    assert worst(np.clip(images + np.asarray(in_turns), 0, 1) - images) > 0.1


def test_steps_climb_most_of_what_is_allowed():
    """From 0 by epsilon: the largest gradient times delta that the ball and the box allow."""
    images, gradient, epsilon = cases()
    room = np.where(gradient > 0, 1 - images, images)
    best = []
    for g, r, left in zip(np.abs(gradient), room, epsilon, strict=True):
        total = 0.0
        for i in np.argsort(-g):
            total, left = total + g[i] * min(r[i], left), left - min(r[i], left)
        best.append(total)
    step = jax.jit(jax.vmap(l1.steepest_inside))
    g, x, e = (jnp.asarray(a, jnp.float32) for a in (gradient, images, epsilon))
    delta = step(g, e, l1.Inside(0 * x, e, -x, 1 - x))
    np.testing.assert_allclose(np.sum(gradient * delta, 1), best, rtol=1e-5, atol=1e-6)
    assert np.all(np.abs(delta).sum(1) <= epsilon + 1e-5)
    # Shorter steps from anywhere get there too, and stay: no gain is shrunk with the rest.
    delta = jax.vmap(l1.project_l1_in_box)(-g, e, -x, 1 - x)
    for _ in range(10):
        delta = delta + step(g, e / 4, l1.Inside(delta, e, -x, 1 - x))
    np.testing.assert_allclose(np.sum(gradient * delta, 1), best, rtol=1e-4, atol=1e-5)


GAP = 0.3


def least_l1(weights, image):
    """The l1 distance inside [0, 1] at which `weights @ (x - image)` reaches GAP."""
    room = np.where(weights > 0, 1 - image, image)
    need, spent = GAP, 0.0
    for i in np.argsort(-np.abs(weights)):
        step = min(room[i], need / abs(weights[i]))
        need, spent = need - step * abs(weights[i]), spent + step
    return spent


def gap(weights, origins, images):
    """Each image is GAP away from the boundary, whose normal is the weights."""
    flat = (images - origins[: len(images)]).reshape(len(images), -1)
    score = jnp.sum(flat * weights.ravel(), axis=1, dtype=jnp.float32) - GAP
    return jnp.stack([jnp.zeros(len(images)), score], axis=-1)


SHAPE = (16, 12, 3)
WEIGHTS = RNG.normal(size=576) / 24
GREY = np.full((10, 576), 0.5)
DIGITS = np.where(RNG.random((10, 576)) < 0.8, RNG.integers(0, 2, (10, 576)), RNG.random((10, 576)))
IMAGES = np.concatenate([GREY, DIGITS]).astype(np.float32)
LEAST = jnp.asarray([least_l1(WEIGHTS, i) for i in IMAGES.astype(np.float64)], jnp.float32)
ORIGINS = jnp.asarray(IMAGES.reshape(20, *SHAPE))
LABELS = jnp.zeros(20, jnp.int32)
ONE_EACH = Partial(gap, jnp.asarray(WEIGHTS, jnp.float32), ORIGINS)


@pytest.mark.parametrize(
    ("name", "options", "times"),
    [
        ("fgsm", {}, 1.001),
        ("iterative_gradient_sign", {}, 1.01),
        ("pgd", {}, 1.05),
        ("pgd", {"start": "sphere"}, 1.05),
        ("pgd", {"num_steps": 100, "random_start": False}, 1.001),
        ("pgd", {"momentum": 1.0}, 1.05),
        ("r_fgsm", {}, 3.0),
    ],
)
def test_no_budget_is_lost_at_the_box(name, options, times):
    """Grey images and digits, each with its own epsilon; none is fooled at less."""
    attack = attacks.create(name, epsilon=1.0, norm="l1", **options)
    result = attack(ONE_EACH, KEY, ORIGINS, LABELS, epsilon=times * LEAST)
    assert np.all(result.fooled), f"{int(np.sum(~result.fooled))} of 20 missed"
    below = attack(ONE_EACH, KEY, ORIGINS, LABELS, epsilon=0.999 * LEAST)
    assert not np.any(below.fooled)
    moved = np.asarray(result.images, np.float64)
    spent = np.abs(moved - np.asarray(ORIGINS, np.float64)).reshape(20, -1).sum(1)
    assert np.all(spent <= times * LEAST * (1 + 1e-6))
    assert moved.min() >= 0
    assert moved.max() <= 1
    # Farther than there is room to go: an image in the box, and fooled.
    far = attack(ONE_EACH, KEY, ORIGINS, LABELS, epsilon=1e4)
    assert np.all(far.fooled)
    assert np.all((far.images >= 0) & (far.images <= 1))


def test_targets_and_a_batch_of_one():
    attack = attacks.pgd(epsilon=1.0, norm="l1")
    aimed = attack(ONE_EACH, KEY, ORIGINS, LABELS, targets=LABELS + 1, epsilon=1.05 * LEAST)
    assert np.all(aimed.fooled)
    keys = prng.per_example(KEY, jnp.arange(20))
    batch = attack(ONE_EACH, keys, ORIGINS, LABELS, epsilon=1.05 * LEAST)
    one = Partial(gap, jnp.asarray(WEIGHTS, jnp.float32), ORIGINS[12:13])
    alone = attack(one, keys[12:13], ORIGINS[12:13], LABELS[:1], epsilon=1.05 * LEAST[12:13])
    np.testing.assert_allclose(alone.images[0], batch.images[12], atol=1e-6)


@pytest.mark.parametrize(
    ("norm", "dtype"),
    [("linf", jnp.float16), ("l2", jnp.bfloat16), ("l1", jnp.float16), ("l1", jnp.bfloat16)],
)
def test_narrow_images_keep_the_budget(norm, dtype):
    """What the last cast rounds is rounded towards the image."""
    images = ORIGINS.astype(dtype)
    epsilon = {"linf": 0.03, "l2": 0.5, "l1": 5.0}[norm]
    moved = attacks.pgd(epsilon=epsilon, norm=norm)(ONE_EACH, KEY, images, LABELS).images
    assert moved.dtype == dtype
    delta = np.asarray(moved, np.float64) - np.asarray(images, np.float64)
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    spent = np.linalg.norm(delta.reshape(20, -1), order, axis=1)
    assert np.all(spent <= epsilon * (1 + 1e-6))
    assert np.all(spent > 0.8 * epsilon)


@pytest.mark.parametrize("random_start", [False, True])
def test_a_universal_perturbation_loses_none(random_start):
    """Of one image's copies it is that image's own, and inside the room that they have."""
    weights = jnp.asarray(WEIGHTS, jnp.float32)
    for row in (0, 15):
        images, least = IMAGES[row].reshape(1, *SHAPE).repeat(4, 0), LEAST[row]
        model = Partial(gap, weights, jnp.asarray(images[:1]))
        for times in (0.999, 1.02):
            delta = craft_universal(
                model,
                KEY,
                images,
                np.zeros(4, int),
                epsilon=float(times * least),
                norm="l1",
                num_epochs=20,
                random_start=random_start,
                devices=jax.local_devices()[:1],
            ).delta
            assert float(jnp.sum(jnp.abs(delta))) <= times * least * (1 + 1e-6)
            assert np.all((images + delta >= -1e-6) & (images + delta <= 1 + 1e-6))
            score = float(np.sum(np.asarray(delta, np.float64).ravel() * WEIGHTS))
            assert (score > GAP) == (times > 1)
