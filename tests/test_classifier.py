"""The one type of a model: randomised ones are averaged in it, and plain functions traced."""

from __future__ import annotations

import gc
import inspect
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.tree_util import Partial

from rbjax import attacks, models, prng
from rbjax.classifier import as_classifier, changed, classify, predicted
from rbjax.inputs import NO_CLASS
from rbjax.losses import adversarial
from rbjax.models.resnet import ResNet
from tests.attacks.linear import (
    IMAGES,
    LABELS,
    LOGITS_FN,
    NUM_CLASSES,
    WEIGHTS,
    between,
    distances,
    linear,
)
from tests.contracts.test_attacks import QUICK, strength

KEY = jax.random.key(0)
KEYS = prng.per_example(KEY, jnp.arange(len(LABELS)))


def noisy(weights, keys, images):
    """The linear model behind noise of the images, one draw a key."""
    noise = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:]))(keys)
    return linear(weights, images + 0.01 * noise)


def make(num_samples):
    return attacks.randomized(Partial(noisy, WEIGHTS), num_samples=num_samples)


def test_gradients_are_the_mean_of_those_of_the_draws():
    asked = make(5).asked_about(IMAGES)

    def climbed(logits):
        return adversarial.cross_entropy(logits, LABELS)

    @jax.jit
    def of_draw(keys):
        fn = lambda x: (climbed(logits := noisy(WEIGHTS, keys, x)).sum(), logits)
        (loss, logits), gradient = jax.value_and_grad(fn, has_aux=True)(IMAGES)
        return loss, logits, gradient

    draws = [of_draw(prng.per_draw(KEYS, draw)) for draw in range(5)]
    loss, mean, gradient = (sum(map(np.asarray, parts)) / 5 for parts in zip(*draws, strict=True))
    found = jax.jit(lambda: asked.value_and_grad(climbed, KEYS, IMAGES))()
    np.testing.assert_allclose(found.gradient, gradient, atol=1e-6)
    assert float(found.loss.sum()) == pytest.approx(float(loss), rel=1e-5)
    np.testing.assert_allclose(found.logits, mean, atol=1e-5)
    np.testing.assert_allclose(jax.jit(asked.logits)(KEYS, IMAGES), mean, atol=1e-5)


def test_other_draws_judge_than_those_that_craft():
    """With one draw an attack that knew its judge's noise would fool more than it can."""
    weights = 1e-3 * WEIGHTS  # noise decides alone

    def pure_noise(weights, keys, images):
        logits = jax.vmap(lambda key: jax.random.normal(key, (NUM_CLASSES,)))(keys)
        return logits + linear(weights, images)

    model = attacks.randomized(Partial(pure_noise, weights), num_samples=1)
    fooled = [
        attacks.pgd(epsilon=0.1, num_steps=2, use_best=True)(
            model, jax.random.key(seed), IMAGES, LABELS
        ).fooled
        for seed in range(40)
    ]
    # Of 5 classes drawn at random 4 in 5 are wrong; five deviations of 960 draws are 0.065.
    assert np.mean(fooled) == pytest.approx(0.8, abs=0.065)


@pytest.mark.parametrize("name", attacks.compiled())
def test_every_attack_works_on_one(name):
    """It fools what can be fooled in the model without the noise, near the boundary aside."""
    options = {**QUICK.get(name, {}), "epsilon": between("linf")}
    if name == "square":
        options["num_queries"] = 300
    if name == "carlini_wagner":
        options.update(num_steps=20, search_steps=3, epsilon=None)
    if "norm" in inspect.signature(attacks.ATTACKS[name]).parameters:
        options["norm"] = "linf"
    elif name == "ddn":
        options["epsilon"] = between("l2")
    attack = attacks.create(name, **options)
    result, far = attack(make(3), KEY, IMAGES, LABELS), distances(attack.threat.norm)
    if strength(attack).minimum_norm:  # and stops where other draws may judge otherwise
        moved = np.any(result.images != IMAGES, axis=(1, 2, 3))
        assert np.mean(moved == (far < (options["epsilon"] or np.inf))) > 0.6
    else:  # of few queries Square does not find all that is there
        found = attack(LOGITS_FN, KEY, IMAGES, LABELS).fooled if name == "square" else None
        expected = far < options["epsilon"] if found is None else found
        assert np.mean(np.asarray(result.fooled == expected)) > 0.75
    assert result.images.shape == IMAGES.shape
    np.testing.assert_array_equal(result.fooled, result.predictions != LABELS)
    again = attack(make(3), KEY, IMAGES, LABELS)
    np.testing.assert_array_equal(again.images, result.images)


def test_new_weights_do_not_trace_again():
    calls = []

    def fn(weights, keys, images):
        calls.append(1)
        return noisy(weights, keys, images)

    attack = attacks.pgd(epsilon=0.1, num_steps=2)
    attack(attacks.randomized(Partial(fn, WEIGHTS)), KEY, IMAGES, LABELS)
    traced = len(calls)
    attack(attacks.randomized(Partial(fn, 2 * WEIGHTS)), KEY, IMAGES, LABELS)
    # Its shape is asked for anew, outside the compiled program.
    assert len(calls) <= traced + 1


def test_batch_statistics_are_untouched_and_not_read_from_the_batch():
    """An attack sees the running statistics: it changes none, and no example sees another."""
    options = {"width": 4, "blocks": (1,), "image_shape": (8, 8, 1), "mean": [0.1], "std": [0.3]}
    model = models.create(ResNet, num_classes=5, **options)
    images = jax.random.uniform(KEY, (4, 8, 8, 1))
    variables = jax.jit(model.init)(KEY, images)
    assert "batch_stats" in variables
    before = jax.tree.map(np.array, variables)
    attack, labels = attacks.pgd(epsilon=0.1, num_steps=3), jnp.arange(4)
    keys = prng.per_example(KEY, labels)
    all_four = attack(Partial(model.apply, variables), keys, images, labels)
    jax.tree.map(np.testing.assert_array_equal, before, variables)
    alone = attack(Partial(model.apply, variables), keys[:1], images[:1], labels[:1])
    np.testing.assert_allclose(alone.images, all_four.images[:1], atol=1e-5)


def test_wrong_input():
    with pytest.raises(ValueError, match="num_samples is 0"):
        make(0)
    flat = attacks.randomized(lambda keys, images: images.sum(axis=(1, 2, 3)))
    with pytest.raises(ValueError, match=r"the randomised classifier gives shape \(24,\)"):
        attacks.fgsm(epsilon=0.1)(flat, KEY, IMAGES, LABELS)


def counted_attack():
    """An attack, and how often its program was traced for compilation."""
    traces = []

    def loss(logits, labels):
        traces.append(None)  # no number: a loss that reads numbers is compiled anew
        return adversarial.cross_entropy(logits, labels)

    return attacks.pgd(epsilon=0.1, num_steps=2, loss=loss), traces


def test_what_is_compiled_again():
    """New weights, a new closure of the same program: nothing; another program: once more."""
    attack, traces = counted_attack()
    expected = [
        attack(Partial(linear, scale * WEIGHTS), KEY, IMAGES, LABELS) for scale in (1.0, -1.0)
    ]
    once = len(traces)
    for of_partial, scale in zip(expected, (1.0, -1.0), strict=True):
        weights = scale * WEIGHTS
        of_closure = attack(lambda x, w=weights: linear(w, x), KEY, IMAGES, LABELS)
        np.testing.assert_allclose(of_closure.images, of_partial.images, atol=1e-6)
    assert len(traces) == 2 * once
    attack(lambda x: 2 * linear(WEIGHTS, x), KEY, IMAGES, LABELS)
    assert len(traces) == 3 * once
    # Another function of a Partial is another program; what it computes is not looked at.
    attack(Partial(lambda w, x: linear(w, x), WEIGHTS), KEY, IMAGES, LABELS)
    assert len(traces) == 4 * once


def test_a_partial_is_not_traced_again_unless_its_function_captures_arrays():
    calls = []

    def apply(weights, images):
        calls.append(1)
        return linear(weights, images)

    shift = {"logits": jnp.zeros(NUM_CLASSES)}

    def shifted(weights, images):
        return apply(weights, images) + shift["logits"]

    attack, _ = counted_attack()
    for fn, most in ((apply, 0), (shifted, 1)):
        attack(Partial(fn, WEIGHTS), KEY, IMAGES, LABELS)
        calls.clear()
        attack(Partial(fn, 2 * WEIGHTS), KEY, IMAGES, LABELS)
        assert len(calls) == most
    shift["logits"] = 1e3 * jax.nn.one_hot(2, NUM_CLASSES)
    assert np.all(attack(Partial(shifted, WEIGHTS), KEY, IMAGES, LABELS).predictions == 2)


class Changing(nnx.Module):
    """Adds a bias that changes in place."""

    def __init__(self):
        self.bias = nnx.Param(jnp.zeros(NUM_CLASSES))

    def __call__(self, images):
        return linear(WEIGHTS, images) + self.bias.get_value()

    def change(self, bias):
        self.bias.set_value(bias)


class Keeping:
    """Keeps its bias as an attribute, as objects outside JAX do."""

    def __init__(self):
        self.bias = jnp.zeros(NUM_CLASSES)

    def __call__(self, images):
        return linear(WEIGHTS, images) + self.bias

    def change(self, bias):
        self.bias = bias


@pytest.mark.parametrize(
    "function",
    [
        lambda: (lambda model: (model, model))(Changing()),
        lambda: (lambda model: (model, model))(Keeping()),
        lambda: (lambda model: (model, model.__call__))(Keeping()),
        lambda: (lambda model: (model, jax.jit(model)))(Keeping()),
        lambda: (lambda model: (model, Partial(model)))(Keeping()),
        lambda: (lambda model: (model, Partial(lambda x: model(x))))(Keeping()),
    ],
    ids=["nnx", "object", "bound method", "jitted", "Partial", "Partial of a closure"],
)
def test_weights_that_change_in_place_are_those_of_the_moment(function):
    model, fn = function()
    attack, traces = counted_attack()
    attack(fn, KEY, IMAGES, LABELS)
    once = len(traces)
    for label in (1, 3):
        model.change(1e3 * jax.nn.one_hot(label, NUM_CLASSES))
        assert np.all(attack(fn, KEY, IMAGES, LABELS).predictions == label)
    assert len(traces) == once


def test_a_model_that_nobody_holds_is_let_go():
    class Model:
        def __init__(self):
            self.weights = jnp.array(WEIGHTS)

        def logits(self, images):
            return linear(self.weights, images)

        def noisy(self, keys, images):
            return noisy(self.weights, keys, images)

    attack = attacks.fgsm(epsilon=0.1)
    for take in (
        lambda model: model.logits,
        lambda model: lambda images: model.logits(images),
        lambda model: attacks.randomized(model.noisy, num_samples=2),
        lambda model: Partial(linear, model.weights),
    ):
        model = Model()
        kept = weakref.ref(model), weakref.ref(model.weights)
        attack(take(model), KEY, IMAGES, LABELS)
        del model
        gc.collect()
        assert [reference() for reference in kept] == [None, None]


def test_a_driver_traces_a_plain_function_once_for_each_shape():
    shapes = []

    def fn(images):
        shapes.append(images.shape[0])
        return linear(WEIGHTS, images)

    model, (attack, _) = as_classifier(fn), counted_attack()
    for _ in range(3):
        attack(model, KEY, IMAGES, LABELS)
        attack(model, KEY, IMAGES[:4], LABELS[:4])
    assert sorted(shapes) == [4, len(IMAGES)]


def test_what_is_no_function_of_jax_arrays():
    attack, _ = counted_attack()
    with pytest.raises(ValueError, match="logits_fn turns its images into numpy arrays"):
        attack(lambda x: jnp.asarray(np.asarray(x).sum((1, 2))), KEY, IMAGES, LABELS)


def test_number_of_classes():
    images = jnp.ones((2, 2, 2, 3))
    assert as_classifier(lambda x: x[:, 0, 0]).count_classes(images) == 3
    weighted = Partial(lambda w, x: x[:, 0, 0] @ w, jnp.ones((3, 5)))
    seven = jax.ShapeDtypeStruct((7, 2, 2, 3), jnp.float32)
    assert as_classifier(weighted).count_classes(seven) == 5
    with pytest.raises(ValueError, match=r"logits_fn gives shape \(2, 2, 2, 3\)"):
        as_classifier(lambda x: x).count_classes(images)


NAN, INF = np.nan, np.inf


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_what_class_a_row_of_logits_is(dtype):
    rows = {
        (1, 3, 2): 1,
        (3, 1, 3): 0,  # of several largest the first
        (NAN, 3, 2): NO_CLASS,
        (1, 3, NAN): NO_CLASS,
        (NAN, NAN, NAN): NO_CLASS,
        (INF, NAN, 0): NO_CLASS,
        (INF, 3, 2): 0,
        (0, INF, INF): 1,
        (-INF, 3, 2): 1,
        (-INF, -INF, -5): 2,
        (-INF, INF, 0): 1,
        (INF, INF, INF): NO_CLASS,
        (-INF, -INF, -INF): NO_CLASS,
    }
    logits = jnp.array(list(rows), dtype)
    for predictions in (predicted(logits), jax.jit(predicted)(logits), predicted(np.array(logits))):
        np.testing.assert_array_equal(predictions, list(rows.values()))
        assert predictions.dtype == jnp.int32


def test_a_class_changes_to_and_from_none():
    clean, perturbed = np.array([0, 0, 0, -1, -1]), np.array([0, 1, -1, 0, -1])
    np.testing.assert_array_equal(changed(perturbed, clean), [False, True, True, True, True])


def test_gradients_are_finite_and_those_that_are_not_are_told():
    """Of the square root at 0 the slope is infinite, and 0 times it is NaN."""

    def model(images):
        values = images.reshape(3, -1)[:, :2]
        return jnp.stack([jnp.sqrt(values[:, 0]), 1e38 * values[:, 1] ** 2], axis=1)

    images = jnp.array([[0.0, 0.0], [0.25, 1e-38], [1.0, 1.0]]).reshape(3, 1, 2, 1)
    asked = as_classifier(model).asked_about(images)
    found = asked.value_and_grad(lambda logits: 1.0 * logits[:, 0], KEYS[:3], images)
    np.testing.assert_allclose(found.gradient[:, 0, 0, 0], [1e30, 1.0, 0.5])
    np.testing.assert_array_equal(found.broken, [1.0, 0.0, 0.0])
    steep = asked.value_and_grad(lambda logits: 10.0 * logits[:, 1], KEYS[:3], images)
    np.testing.assert_allclose(steep.gradient[2, 0, 1, 0], 1e30, rtol=1e-6)


@pytest.mark.parametrize("shape", [(4, 1), (4,), (4, 0), (3, 5), (4, 5, 1)])
def test_logits_of_another_shape_are_refused_also_inside_jit(shape):
    attack, images = attacks.fgsm(epsilon=0.1), IMAGES[:4]

    def wrong(images):
        return jnp.zeros(shape) + images[0, 0, 0, 0]

    message = "one logit an image" if shape in ((4, 1), (4,)) else "at least two classes"
    for call in (attack, jax.jit(attack, static_argnums=0)):
        with pytest.raises(ValueError, match=rf"gives shape .{shape[0]}.*{message}"):
            call(wrong, KEYS[:4], images, LABELS[:4])
    with pytest.raises(ValueError, match=message):
        classify(as_classifier(wrong), KEYS[:4], images)
