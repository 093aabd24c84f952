"""What all gradient attacks share: entry checks, compilation, restarts, gradients around them."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from rbjax import attacks
from rbjax.attacks import attack, search
from rbjax.classifier import as_classifier
from rbjax.losses import adversarial

KEY = jax.random.key(0)
IMAGES = jax.random.uniform(jax.random.key(1), (4, 6, 6, 1), minval=0.2, maxval=0.8)
LABELS = jnp.array([0, 1, 2, 0])
WEIGHTS = jax.random.normal(jax.random.key(2), (36, 3))


def linear(weights, images):
    return images.reshape(images.shape[0], -1) @ weights


LOGITS_FN = Partial(linear, WEIGHTS)
ATTACK = attacks.pgd(epsilon=0.1, num_steps=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": IMAGES * 3 - 1}, "images range from .*lie in .0, 1.: .*inside the model"),
        ({"images": IMAGES.at[0, 0, 0, 0].set(jnp.nan)}, "images range from nan"),
        ({"images": IMAGES[0]}, r"images has shape \(6, 6, 1\)"),
        ({"images": (IMAGES * 255).astype(jnp.uint8)}, "images has dtype uint8"),
        ({"images": (IMAGES * 255).astype(jnp.int32)}, "images has dtype int32"),
        ({"labels": LABELS[:3]}, r"labels has shape \(3,\); it must be \(4,\)"),
        ({"labels": LABELS + 1}, "labels holds 3; allowed: 0 to 2"),
        ({"labels": LABELS - 1}, "labels holds -1"),
        ({"labels": LABELS * 1.0}, "labels has dtype float32"),
        ({"targets": LABELS + 1}, "targets holds 3"),
        ({"epsilon": -0.1}, "epsilon is -0.1"),
        ({"epsilon": jnp.array([0.1, 0.1, jnp.nan, 0.1])}, "epsilon is nan"),
        ({"epsilon": jnp.ones(3)}, r"epsilon has shape \(3,\)"),
        ({"step_size": 2.0}, "step_size is 2.0"),
        ({"key": jax.random.PRNGKey(0)}, "key has dtype uint32"),
        ({"key": jax.random.split(KEY, 3)}, r"key has shape \(3,\)"),
        ({"logits_fn": lambda images: images[:, 0, 0, 0]}, r"logits_fn gives shape \(4,\)"),
    ],
)
def test_wrong_input(change, message):
    call = {"logits_fn": LOGITS_FN, "key": KEY, "images": IMAGES, "labels": LABELS, **change}
    with pytest.raises(ValueError, match=message) as error:
        ATTACK(**call)
    assert "\n" not in str(error.value)


def test_rounding_outside_the_box_is_allowed():
    images = IMAGES.at[0, 0, 0, 0].set(1 + 5e-7)
    result = ATTACK(LOGITS_FN, KEY, images, LABELS)
    assert float(result.images.max()) <= 1
    untouched = ATTACK(LOGITS_FN, KEY, images, LABELS, epsilon=0.0)
    np.testing.assert_array_equal(untouched.images, images)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pgd", {"epsilon": -0.1}, "epsilon is -0.1"),
        ("pgd", {"epsilon": 8}, "epsilon is 8.0; with norm 'linf' it must be between 0 and 1"),
        ("pgd", {"epsilon": float("nan")}, "epsilon is nan"),
        ("pgd", {"epsilon": None}, "epsilon is None; it must be a number"),
        ("apgd", {"epsilon": None}, "epsilon is None; it must be a number"),
        ("square", {"epsilon": None}, "epsilon is None; it must be a number"),
        ("pgd", {"epsilon": "8/255"}, "epsilon is '8/255'; it must be a number"),
        ("pgd", {"epsilon": 0.1, "step_size": -1.0}, "step_size is -1.0"),
        ("pgd", {"epsilon": 0.1, "num_steps": 0}, "num_steps is 0"),
        ("pgd", {"epsilon": 0.1, "num_steps": 2.0}, "num_steps is 2.0"),
        ("pgd", {"epsilon": 0.1, "num_restarts": 2, "random_start": False}, "num_restarts is 2"),
        ("pgd", {"epsilon": 0.1, "loss": "cross_entropie"}, "did you mean 'cross_entropy'"),
        ("pgd", {"epsilon": 0.1, "norm": "l0"}, "norm 'l0' is unknown; allowed: linf, l2, l1"),
        ("pgd", {"epsilon": 0.1, "norm": "l_inf"}, "l2, l1; did you mean 'linf'"),
        ("pgd", {"epsilon": 0.1, "num_step": 3}, "did you mean 'num_steps'"),
        ("pgd", {}, "attack 'pgd' needs its option 'epsilon'"),
        ("pdg", {"epsilon": 0.1}, "did you mean 'pgd'"),
        ("pgd", {"epsilon": 0.1, "loss": "kl", "random_start": False}, "its gradient at the image"),
        ("pgd", {"epsilon": 0.1, "start": "spere"}, "did you mean 'sphere'"),
        ("pgd", {"epsilon": 0.1, "start": "sphere", "random_start": False}, "start is 'sphere'"),
        ("pgd", {"epsilon": 0.1, "optimizer": "adm"}, "did you mean 'adam'"),
        ("pgd", {"epsilon": 0.1, "optimizer": "adam", "momentum": 1.0}, "momentum is 1 with"),
        ("pgd", {"epsilon": 0.1, "loss": 3}, "loss is 3; it must be a name"),
        ("fgsm", {"epsilon": 0.1, "direction": "up"}, "direction 'up' is unknown; allowed: ascent"),
    ],
)
def test_wrong_options(name, options, message):
    with pytest.raises(ValueError, match=message):
        attacks.create(name, **options)


def test_new_weights_sizes_and_keys_do_not_trace_again():
    calls = []

    def apply(weights, images):
        calls.append(None)  # no number: a function that reads numbers counts as plain
        return linear(weights, images)

    def attack(weights, key, epsilon):
        ATTACK(Partial(apply, weights), jax.random.key(key), IMAGES, LABELS, epsilon=epsilon)

    attack(WEIGHTS, 0, 0.1)
    traced = len(calls)
    assert traced > 0
    attack(2 * WEIGHTS, 1, 0.2)
    attack(3 * WEIGHTS, 2, jnp.linspace(0.0, 0.1, 4))
    # Another attack of the same plan runs the same program.
    other = attacks.pgd(epsilon=0.3, step_size=0.02, num_steps=2)
    other(Partial(apply, WEIGHTS), KEY, IMAGES, LABELS)
    assert len(calls) == traced

    def plain(images):
        return apply(WEIGHTS, images)

    ATTACK(plain, KEY, IMAGES, LABELS)
    # A plain function is traced at each call, and then once: see tests/test_classifier.py.
    traced = len(calls)
    ATTACK(plain, KEY, IMAGES, LABELS, epsilon=0.2)
    assert len(calls) == traced + 1


def test_a_plain_function_is_as_good_as_a_partial():
    plain = ATTACK(lambda images: linear(WEIGHTS, images), KEY, IMAGES, LABELS)
    partial = ATTACK(LOGITS_FN, KEY, IMAGES, LABELS)
    np.testing.assert_allclose(plain.images, partial.images, atol=1e-6)


def test_an_object_that_cannot_be_hashed():
    class Model:
        def __eq__(self, other):
            return self is other

        def __call__(self, images):
            return linear(WEIGHTS, images)

    result, expected = (ATTACK(model, KEY, IMAGES, LABELS) for model in (Model(), LOGITS_FN))
    np.testing.assert_allclose(result.images, expected.images, atol=1e-6)
    wrong: Any = [LOGITS_FN]
    with pytest.raises(ValueError, match="logits_fn is a list; it must be a function of images"):
        ATTACK(wrong, KEY, IMAGES, LABELS)


def test_in_a_training_step_it_is_a_constant():
    """No gradient flows through the attack into the weights, and a closure over them works."""

    def loss(weights, wrap):
        adversarial = ATTACK(wrap(weights), KEY, IMAGES, LABELS).images
        return jnp.sum(linear(weights, adversarial)[:, 0])

    for wrap in (
        lambda weights: Partial(linear, weights),
        lambda weights: lambda images: linear(weights, images),
    ):
        adversarial = ATTACK(LOGITS_FN, KEY, IMAGES, LABELS).images
        expected = jnp.zeros_like(WEIGHTS).at[:, 0].set(adversarial.reshape(4, -1).sum(0))
        gradient = jax.jit(jax.grad(lambda w, wrap=wrap: loss(w, wrap)))(WEIGHTS)
        np.testing.assert_allclose(gradient, expected, rtol=1e-5)


def test_the_best_restart_is_kept():
    """Any that fools, else the highest loss; more restarts of the same key are never worse."""
    bumpy = Partial(
        lambda weights, images: jnp.sin(40 * images.reshape(images.shape[0], -1)) @ weights, WEIGHTS
    )
    results = [
        attacks.pgd(epsilon=0.2, num_steps=1, step_size=0.01, num_restarts=n)(
            bumpy, KEY, IMAGES, LABELS
        )
        for n in (1, 2, 8)
    ]
    for fewer, more in itertools.pairwise(results):
        assert np.all(more.fooled >= fewer.fooled)
        unchanged = np.asarray(more.fooled == fewer.fooled)
        assert np.all((more.loss >= fewer.loss)[unchanged])
    assert np.any(results[-1].loss > results[0].loss)
    # What is returned is a true record of the images that are returned.
    logits = bumpy(results[-1].images)
    np.testing.assert_array_equal(results[-1].fooled, jnp.argmax(logits, -1) != LABELS)
    np.testing.assert_allclose(
        results[-1].loss, adversarial.cross_entropy(logits, LABELS), rtol=1e-4
    )


def test_fooling_goes_before_the_loss():
    """A loss that prefers the label itself climbs away from fooling: what fooled is kept."""

    def loss(logits, labels):
        return jnp.take_along_axis(logits, labels[:, None], 1)[:, 0]

    def one(restarts):
        attack = attacks.pgd(
            epsilon=0.5, num_steps=1, step_size=1e-9, num_restarts=restarts, loss=loss
        )
        return attack(LOGITS_FN, KEY, IMAGES, LABELS)

    few, many = one(1), one(16)
    assert np.any(few.fooled)
    assert np.all(many.fooled >= few.fooled)
    assert np.any(many.fooled > few.fooled)


def test_fooled_is_what_the_one_program_says_of_the_images_that_are_returned(monkeypatch):
    """The search has a program of its own, which may differ from it in the last bits."""
    images = []

    def answer(model, keys, moved):
        images.append(moved)
        return jax.nn.one_hot(LABELS, 3)

    assert np.any(ATTACK(LOGITS_FN, KEY, IMAGES, LABELS, epsilon=0.5).fooled)
    monkeypatch.setattr(attack, "answer", answer)
    result = ATTACK(LOGITS_FN, KEY, IMAGES, LABELS, epsilon=0.5)
    np.testing.assert_array_equal(result.images, images[0])
    assert not np.any(result.fooled)
    np.testing.assert_array_equal(result.predictions, LABELS)
    np.testing.assert_allclose(result.loss, np.log(np.e + 2) - 1, rtol=1e-6)


def test_leads_that_are_rounding_are_no_clear_ones():
    gradient = jnp.ones((5, 2, 2, 1))
    none = jnp.zeros(5)
    problem = attack.Problem(
        as_classifier(LOGITS_FN), KEY, gradient, jnp.zeros(5, int), None, none, none, lambda z: none
    )
    logits = jnp.array([[0.0, 1e-3], [0.0, 1e-6], [0.0, -1.0], [jnp.nan, 0.0], [-jnp.inf, 1e-9]])
    clear = search.clearly_fooled(problem, logits, images=gradient, gradient=gradient)
    np.testing.assert_array_equal(clear, [True, False, False, True, True])
    aimed = problem._replace(targets=jnp.ones(5, int))
    clear = search.clearly_fooled(aimed, logits, images=gradient, gradient=gradient)
    np.testing.assert_array_equal(clear, [True, False, False, False, True])


def test_a_step_of_0_is_refused_where_the_image_may_move():
    epsilon = jnp.array([0.1, 0.0, 0.1, 0.1])
    for step_size in (0.0, jnp.array([0.1, 0.1, 0.0, 0.1])):
        with pytest.raises(ValueError, match="step_size is 0; it must be above 0"):
            ATTACK(LOGITS_FN, KEY, IMAGES, LABELS, epsilon=epsilon, step_size=step_size)
    result = ATTACK(LOGITS_FN, KEY, IMAGES, LABELS, epsilon=epsilon, step_size=epsilon / 4)
    np.testing.assert_array_equal(result.images[1], IMAGES[1])


@pytest.mark.parametrize("value", [0.0, -0.1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["pgd", "iterative_gradient_sign", "universal"])
def test_a_step_size_that_is_none_is_refused(name, value):
    if name == "universal":
        with pytest.raises(ValueError, match="step_size is"):
            attacks.craft_universal(LOGITS_FN, KEY, IMAGES, LABELS, epsilon=0.1, step_size=value)
        return
    with pytest.raises(ValueError, match="step_size is"):
        attacks.create(name, epsilon=0.1, step_size=value)


@pytest.mark.parametrize("name", ["carlini_wagner", "ddn", "deepfool", "fab", "fmn"])
def test_images_are_finite_where_gradients_are_nan(name):
    def broken(weights, images):
        logits = linear(weights, images)
        return logits + jnp.sqrt(jnp.abs(logits - jax.lax.stop_gradient(logits)))

    options = {"num_steps": 8} | ({"search_steps": 2} if name == "carlini_wagner" else {})
    logits_fn = Partial(broken, WEIGHTS)
    result = attacks.create(name, **options)(logits_fn, KEY, IMAGES, LABELS)
    assert np.all((result.images >= 0) & (result.images <= 1))
    np.testing.assert_array_equal(result.fooled, jnp.argmax(logits_fn(result.images), -1) != LABELS)
