"""FGSM, the iterative gradient sign method and PGD."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from rbjax import attacks, prng

pytestmark = pytest.mark.optimized

KEY = jax.random.key(0)


def linear(weights, images):
    return images.reshape(images.shape[0], -1) @ weights


def two_class(weights, images):
    """The sign of w.x: logits (w.x, -w.x)."""
    score = images.reshape(images.shape[0], -1) @ weights
    return jnp.stack([score, -score], axis=-1)


def test_golden_step():
    """With w = (1, -2, 0.5), x = (0.5, 0.5, 0.5), epsilon = 0.1: w.x goes from -0.25 to -0.60."""
    weights = jnp.array([1.0, -2.0, 0.5])
    image = jnp.full((1, 1, 3, 1), 0.5)
    label = jnp.array([0])
    result = attacks.fgsm(epsilon=0.1)(Partial(two_class, weights), jax.random.key(0), image, label)
    np.testing.assert_allclose(result.images.ravel(), [0.4, 0.6, 0.4], rtol=1e-6)
    assert float(result.images.ravel() @ weights) == pytest.approx(-0.60)
    # The logits are (-0.6, 0.6): cross-entropy log(1 + e^1.2).
    assert float(result.loss[0]) == pytest.approx(math.log1p(math.exp(1.2)), rel=1e-5)
    assert bool(result.fooled[0])
    descent = attacks.fgsm(epsilon=0.1, direction="descent")
    result = descent(Partial(two_class, weights), jax.random.key(0), image, label)
    assert float(result.images.ravel() @ weights) == pytest.approx(0.10)
    assert float(result.loss[0]) == pytest.approx(-math.log1p(math.exp(-0.2)), rel=1e-5)


def test_golden_l2_step():
    weights = jnp.array([3.0, 4.0])
    image = jnp.full((1, 1, 2, 1), 0.5)
    attack = attacks.fgsm(epsilon=0.25, norm="l2")
    result = attack(Partial(two_class, weights), jax.random.key(0), image, jnp.array([0]))
    np.testing.assert_allclose(result.images.ravel(), [0.5 - 0.15, 0.5 - 0.2], rtol=1e-6)


@pytest.mark.parametrize(("epsilon", "accuracy"), [(0.0, 0.94308), (0.1, 0.89705), (0.25, 0.78540)])
def test_robust_accuracy_of_the_gaussian_model(epsilon, accuracy):
    """For x | y ~ N(y theta, I), theta = 0.5 in 10 dimensions, f = sign(theta.x), 20,000 points.

    Robust accuracy is Phi((||theta||^2 - epsilon ||theta||_1) / ||theta||). The points are scaled
    by 1/40 around 0.5 to lie in [0, 1]; five standard deviations of the estimate are 0.0145.
    """
    labels = jnp.arange(20_000) % 2
    sign = jnp.where(labels == 0, 1.0, -1.0)[:, None]
    points = sign * 0.5 + jax.random.normal(jax.random.key(0), (20_000, 10))
    images = (0.5 + points / 40).reshape(-1, 1, 10, 1)
    logits_fn = Partial(lambda theta, images: two_class(theta, images - 0.5), jnp.full(10, 0.5))
    result = attacks.fgsm(epsilon=epsilon / 40)(logits_fn, jax.random.key(0), images, labels)
    bound = 5 * math.sqrt(accuracy * (1 - accuracy) / 20_000)
    assert 1 - float(jnp.mean(result.fooled)) == pytest.approx(accuracy, abs=bound)


ROW_WEIGHTS = jnp.array([[1.0, -1.0, 0.0], [-2.0, 1.0, 0.5], [0.5, 0.5, -1.0]])
ROW = jnp.full((1, 1, 3, 1), 0.5)
ROW_LABEL = jnp.array([0])


ROW_LOGITS_FN = Partial(linear, ROW_WEIGHTS)


def loss(images, label):
    return float(-jax.nn.log_softmax(linear(ROW_WEIGHTS, images))[0, label])


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
    result = attack(ROW_LOGITS_FN, KEY, ROW, ROW_LABEL, targets=targets)
    label = 0 if target is None else target
    assert (loss(result.images, label) > loss(ROW, label)) == rises
    climbed = loss(result.images, label) * (1 if rises else -1)
    assert float(result.loss[0]) == pytest.approx(climbed, rel=1e-5)


def test_one_step_is_fgsm():
    one = attacks.iterative_gradient_sign(epsilon=0.03, num_steps=1, projected=False)
    fast = attacks.fgsm(epsilon=0.03)
    np.testing.assert_array_equal(
        one(ROW_LOGITS_FN, KEY, ROW, ROW_LABEL).images,
        fast(ROW_LOGITS_FN, KEY, ROW, ROW_LABEL).images,
    )


def test_unprojected_steps_add_up():
    """P5: epsilon is the size of each step; four of 0.01 go 0.04, projected they stay at 0.01."""

    def movement(**options):
        attack = attacks.iterative_gradient_sign(epsilon=0.01, num_steps=4, **options)
        return float(jnp.max(jnp.abs(attack(ROW_LOGITS_FN, KEY, ROW, ROW_LABEL).images - ROW)))

    assert movement(projected=False) == pytest.approx(0.04, rel=1e-4)
    assert movement(projected=True) == pytest.approx(0.01, rel=1e-4)
    assert movement(projected=True, step_size=0.001) == pytest.approx(0.004, rel=1e-3)


def test_declared_sets():
    make = attacks.iterative_gradient_sign
    assert make(epsilon=0.1).threat == attacks.Threat("linf", 0.1, box=True)
    assert make(epsilon=0.1, projected=False).threat == attacks.Threat("linf", None, box=True)
    free = make(epsilon=0.4, projected=False, clipped=False, num_steps=4)
    assert free.threat == attacks.Threat("linf", None, box=False)
    images = free(ROW_LOGITS_FN, KEY, ROW, ROW_LABEL).images
    np.testing.assert_allclose(jnp.abs(images - ROW), 1.6, rtol=1e-5)


def test_in_l2_the_step_has_length_epsilon():
    attack = attacks.iterative_gradient_sign(epsilon=0.02, norm="l2", projected=False, num_steps=1)
    moved = attack(ROW_LOGITS_FN, KEY, ROW, ROW_LABEL).images - ROW
    assert float(jnp.linalg.norm(moved)) == pytest.approx(0.02, rel=1e-4)


WEIGHTS = jax.random.normal(jax.random.key(2), (36, 2))
IMAGES = jax.random.uniform(jax.random.key(1), (5, 6, 6, 1))
LABELS = jnp.array([0, 1, 0, 1, 0])


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
    """With steps of nearly 0 the start is seen: the same in any batch, another by each key."""
    attack = attacks.pgd(epsilon=0.1, step_size=1e-9, num_steps=1, norm=norm)
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


def test_a_loss_from_outside_by_its_path(tmp_path, monkeypatch):
    """A function of logits and labels, or its maker."""
    text = "import jax\ndef own(logits, labels):\n    return -logits[:, 0]\n"
    (tmp_path / "losses_outside.py").write_text(text + "def maker():\n    return own\n")
    monkeypatch.syspath_prepend(tmp_path)
    results = [
        attacks.pgd(epsilon=0.1, num_steps=2, loss=f"losses_outside:{name}")(  # type: ignore[reportArgumentType]
            LOGITS_FN, jax.random.key(0), IMAGES, LABELS
        )
        for name in ("own", "maker")
    ]
    np.testing.assert_array_equal(results[0].images, results[1].images)
    np.testing.assert_allclose(results[0].loss, -LOGITS_FN(results[0].images)[:, 0], rtol=1e-4)
    with pytest.raises(ValueError, match="module losses_outside has no 'owm'; did you mean 'own'"):
        attacks.pgd(epsilon=0.1, loss="losses_outside:owm")  # type: ignore[reportArgumentType]
