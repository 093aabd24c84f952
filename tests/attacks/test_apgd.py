from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from rbjax import attacks
from rbjax.attacks import apgd_l1, norms
from rbjax.attacks.apgd import schedule
from rbjax.losses.adversarial import cross_entropy
from tests.attacks.linear import (
    IMAGES,
    LABELS,
    LOGITS_FN,
    between,
    distances,
    exact,
    linear,
    sizes,
)

KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("num_steps", "checkpoints"),
    [
        (100, [22, 41, 57, 70, 80, 87, 93, 99]),
        (50, [11, 21, 30, 38, 45]),
        (1, [1]),
        (3, [1, 2, 3]),
    ],
)
def test_checkpoints(num_steps, checkpoints):
    """The lists of the paper's rule: 22 %, then 3 % shorter each, never below 6 %."""
    is_checkpoint, since = schedule(num_steps)
    assert (np.flatnonzero(is_checkpoint) + 1).tolist()[: len(checkpoints)] == checkpoints
    intervals = np.diff([0, *checkpoints])
    np.testing.assert_array_equal(since[np.asarray(checkpoints) - 1], intervals)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_it_fools_what_can_be_fooled(norm):
    epsilon, distance = between(norm), exact(norm)
    # In l1 a run ends in the pixels where it began, if others are not much better.
    reachable = distance < (0.95 if norm == "l1" else 1.0) * epsilon
    for name, options in (
        ("apgd", {"loss": "dlr", "num_restarts": 5 if norm == "l1" else 1}),
        ("apgd_targeted", {"num_targets": 4, "num_steps": 40}),
    ):
        attack = attacks.create(name, epsilon=epsilon, norm=norm, **options)
        result = attack(LOGITS_FN, KEY, IMAGES, LABELS)
        assert np.all(result.fooled[reachable])
        assert not np.any(result.fooled[distance >= epsilon])
        assert np.all(sizes(result.images - IMAGES, norm) <= epsilon + 1e-6)


def test_the_schedule_in_l1():
    """100 steps in balls of 3, 2 and 1 epsilon, each with one look more, at where it begins."""
    radius, begins, is_checkpoint = apgd_l1.schedule(100)
    assert radius.tolist() == [3.0] * 31 + [2.0] * 31 + [1.0] * 41
    assert np.flatnonzero(begins).tolist() == [0, 31, 62]
    np.testing.assert_array_equal(is_checkpoint, ~begins)
    _, begins, is_checkpoint = apgd_l1.schedule(1000)  # 4 % of 300, and of 400
    assert np.flatnonzero(is_checkpoint)[:2].tolist() == [12, 24]
    assert np.flatnonzero(is_checkpoint)[-1] == 1002
    assert [apgd_l1.schedule(n).radius.size for n in (1, 2, 7)] == [4, 5, 10]


def test_steps_in_l1_are_sparse_and_their_sparsity_follows_the_best_point():
    """A linear model: after the first looks few values are changed, and the best ones."""
    epsilon = 0.5 * float(exact("l1").min())
    result = attacks.apgd(epsilon=epsilon, norm="l1")(LOGITS_FN, KEY, IMAGES, LABELS)
    assert not np.any(result.fooled)
    np.testing.assert_allclose(sizes(result.images - IMAGES, "l1"), epsilon, rtol=1e-4)
    best = attacks.pgd(epsilon=epsilon, norm="l1", num_steps=40)(LOGITS_FN, KEY, IMAGES, LABELS)
    assert np.all(result.loss >= best.loss - 0.01 * np.abs(best.loss))


def bumpy(weights, images):
    """Waves on a slope: a long step leaps over the tops, and only shorter ones climb."""
    flat = images.reshape(images.shape[0], -1)
    return jnp.sin(30 * flat) @ weights


def test_each_ball_in_l1_begins_at_the_best_point_of_the_one_before():
    looked, weights = [], jax.random.normal(jax.random.key(5), (36, 5))

    def watched(images):
        jax.debug.callback(lambda x: looked.append(np.asarray(x)), images)
        return bumpy(weights, images)

    image, label, epsilon = IMAGES[:1], jnp.argmax(bumpy(weights, IMAGES[:1]), axis=-1), 0.02
    attacks.apgd(epsilon=epsilon, norm="l1", num_steps=50)(watched, KEY, image, label)
    jax.effects_barrier()
    losses = cross_entropy(bumpy(weights, jnp.concatenate(looked)), jnp.repeat(label, len(looked)))
    for first, begin, radius in ((0, 16, 2.0), (16, 32, 1.0)):
        best = jnp.asarray(looked[first + int(jnp.argmax(losses[first:begin]))])
        expected = norms.confine(best, image, radius * epsilon, "l1")
        np.testing.assert_allclose(looked[begin], expected, atol=1e-6)


def test_the_step_is_halved_and_the_best_point_kept():
    """It beats steps of fixed size on a function that oscillates, with the same gradients."""
    weights = jax.random.normal(jax.random.key(5), (36, 5))
    model = Partial(bumpy, weights)
    options = {"epsilon": 0.3, "num_steps": 60}
    auto = attacks.apgd(**options, loss="margin")(model, KEY, IMAGES, LABELS)
    fixed = attacks.pgd(**options, loss="margin", step_size=0.6)(model, KEY, IMAGES, LABELS)
    assert float(auto.loss.mean()) > float(fixed.loss.mean()) + 1.0
    # What is returned is no worse than where it started.
    start = attacks.pgd(epsilon=0.3, num_steps=1, step_size=1e-9, start="sphere", loss="margin")
    assert np.all(auto.loss >= start(model, KEY, IMAGES, LABELS).loss - 1e-5)


def test_restarts_are_never_worse():
    model = Partial(bumpy, jax.random.normal(jax.random.key(5), (36, 5)))

    def run(restarts):
        attack = attacks.apgd(epsilon=0.05, num_steps=10, num_restarts=restarts)
        return attack(model, KEY, IMAGES, LABELS)

    assert np.all(run(3).fooled >= run(1).fooled)


def test_an_unfooled_image_has_the_best_loss():
    """Of a linear model the corner: no point of the ball has a higher cross-entropy."""
    epsilon = 0.5 * float(distances("linf").min())
    result = attacks.apgd(epsilon=epsilon)(LOGITS_FN, KEY, IMAGES, LABELS)
    best = attacks.pgd(epsilon=epsilon, num_steps=40)(LOGITS_FN, KEY, IMAGES, LABELS)
    assert not np.any(result.fooled)
    assert np.all(result.loss >= best.loss - 1e-4)


def test_targets_are_only_directions_unless_given():
    """With targets of its own a call counts those alone; else any wrong class is a success."""
    epsilon = between("linf")
    attack = attacks.apgd_targeted(epsilon=epsilon, num_targets=1, num_steps=40)
    targets = (LABELS + 1) % 5
    aimed = attack(LOGITS_FN, KEY, IMAGES, LABELS, targets=targets)
    np.testing.assert_array_equal(aimed.fooled, aimed.predictions == targets)
    free = attack(LOGITS_FN, KEY, IMAGES, LABELS)
    np.testing.assert_array_equal(free.fooled, free.predictions != LABELS)
    assert free.fooled.sum() > aimed.fooled.sum()


@pytest.mark.parametrize("num_classes", [2, 3])
def test_few_classes(num_classes):
    """The ratio lacks logits to divide by: it still fools what can be fooled."""
    model = Partial(linear, LOGITS_FN.args[0][:, :num_classes])
    labels = jnp.argmax(model(IMAGES), axis=-1)
    attack = attacks.apgd_targeted(epsilon=0.3, num_steps=20)  # 9 targets, if there were so many
    assert np.all(attack(model, KEY, IMAGES, labels).fooled)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "l0"}, "norm 'l0' is unknown; allowed: linf, l2, l1"),
        ({"norm": "l1", "rho": 0.5}, "rho is 0.5 with norm 'l1', which halves no steps"),
        ({"loss": "kl"}, "loss 'kl' is unknown; allowed: cross_entropy, margin, dlr, "),
        ({"num_steps": 0}, "num_steps is 0"),
        ({"rho": 1.5}, "rho is 1.5"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        attacks.apgd(epsilon=0.1, **options)
    with pytest.raises(ValueError, match=r"step_size is 0\.1; this attack chooses"):
        attacks.apgd(epsilon=0.1)(LOGITS_FN, KEY, IMAGES, LABELS, step_size=0.1)
