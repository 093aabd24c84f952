"""Defects are planted in a trained model, and every check must find its own; healthy ones pass."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from sklearn.datasets import load_digits

from rbjax import attacks, classifier
from rbjax.attacks import findings, probe
from rbjax.attacks.diagnostics import diagnose, format_findings
from rbjax.losses import adversarial

EPSILON = 0.1
NUM_IMAGES = 200
ONE = jax.local_devices()[:1]


def mlp(weights, images):
    hidden = images.reshape(images.shape[0], -1) - 0.3
    for w, b in weights[:-1]:
        hidden = jax.nn.relu(hidden @ w + b)
    return hidden @ weights[-1][0] + weights[-1][1]


def start(sizes, scale=1.0):
    keys = jax.random.split(jax.random.key(0), len(sizes))
    return [
        (scale * jax.random.normal(key, (n, m)) * (2 / n) ** 0.5, jnp.zeros(m))
        for key, n, m in zip(keys, sizes, sizes[1:], strict=False)
    ]


@functools.cache
def digits(num_classes=10):
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(pixels))
    images = (pixels[order] / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    return images, (np.asarray(labels)[order] % num_classes).astype(np.int32)


@functools.cache
def many_classes():
    """One hundred clouds of images."""
    rng = np.random.default_rng(0)
    centres, labels = rng.uniform(0.2, 0.8, (100, 8, 8, 1)), rng.integers(0, 100, 2000)
    images = centres[labels] + 0.1 * rng.normal(size=(2000, 8, 8, 1))
    return np.clip(images, 0, 1).astype(np.float32), labels.astype(np.int32)


@functools.partial(jax.jit, static_argnums=4)
def train(weights, images, labels, epsilon, num_steps):
    """Gradient descent with momentum on images moved by one random and one gradient step."""

    def loss(weights, images):
        return jnp.mean(adversarial.cross_entropy(mlp(weights, images), labels))

    def step(number, carry):
        weights, velocity = carry
        key = jax.random.fold_in(jax.random.key(1), number)
        noise = jax.random.uniform(key, images.shape, minval=-1, maxval=1)
        moved = images + epsilon * noise
        moved = images + jnp.clip(
            moved + epsilon * jnp.sign(jax.grad(loss, 1)(weights, moved)) - images,
            -epsilon,
            epsilon,
        )
        gradient = jax.grad(loss)(weights, jnp.clip(moved, 0, 1))
        velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, gradient)
        return jax.tree.map(lambda w, v: w - 0.2 * v, weights, velocity), velocity

    return jax.lax.fori_loop(0, num_steps, step, (weights, jax.tree.map(jnp.zeros_like, weights)))[
        0
    ]


@jax.custom_vjp
def reversed_gradient(x):
    return x


reversed_gradient.defvjp(lambda x: (x, None), lambda _, g: (-g,))


@jax.custom_vjp
def trap(logits):
    return logits


def trap_backwards(logits, gradient):
    """Points away from the boundary near it, so that only large steps get across."""
    top = jax.lax.top_k(logits, 2)[0]
    return (jnp.where((top[:, 0] - top[:, 1] < 1.0)[:, None], -gradient, gradient),)


trap.defvjp(lambda logits: (logits, logits), trap_backwards)


def normalised_by_batch(weights, images):
    centred = images - jnp.mean(images, (0, 1, 2))
    return mlp(weights, centred / (jnp.std(images, (0, 1, 2)) + 1e-5) * 0.37 + 0.3)


DRAW = np.random.default_rng(0).normal


def secretly_random(weights, images):
    shape = jax.ShapeDtypeStruct(images.shape, images.dtype)
    noise = jax.pure_callback(lambda: DRAW(size=shape.shape).astype(shape.dtype), shape)
    return mlp(weights, images + 0.05 * noise)


GRADIENT_IS_0 = {"zero_gradients", "margin_growth", "large_epsilon", "black_box"}
PLANTS = {
    "none": (mlp, set()),
    "quantised input": (lambda w, x: mlp(w, jnp.round(x * 8) / 8), GRADIENT_IS_0),
    "stopped gradient": (lambda w, x: mlp(w, jax.lax.stop_gradient(x)), GRADIENT_IS_0),
    "saturated": (
        lambda w, x: 1e4 * mlp(w, x),
        {"zero_gradients", "saturation", "margin_growth", "large_epsilon"},
    ),
    "wrong sign": (
        lambda w, x: mlp(w, reversed_gradient(x)),
        {"margin_growth", "large_epsilon", "black_box"},
    ),
    "probabilities": (lambda w, x: jax.nn.softmax(mlp(w, x)), {"probabilities"}),
    "hidden randomness": (secretly_random, {"randomness"}),
    "batch norm in training mode": (normalised_by_batch, {"batch_dependence"}),
    "shattered": (
        lambda w, x: mlp(w, x + 0.01 * jnp.sin(200 * x)),
        {"more_steps", "margin_growth", "smoothed_gradients", "black_box"},
    ),
    "trap": (lambda w, x: trap(mlp(w, x)), {"more_steps"}),
    "not a number": (
        lambda w, x: mlp(w, x) / jnp.where(x[:, 0, 3] > 0.9, 0.0, 1.0),
        {"finite"},
    ),
    "reversed classes": (lambda w, x: -mlp(w, x), {"clean_accuracy"}),
}


def planted(weights, number, images):
    """All of them in one function, so that one program serves the tests."""
    branches = [functools.partial(fn, weights) for fn, _ in PLANTS.values()]
    return jax.lax.switch(number, branches, images)


def with_plant(name, kind="standard"):
    return Partial(planted, trained(kind)[0].args[0], list(PLANTS).index(name))


def noisy_logits(weights, deviation, keys, images):
    noise = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:]))(keys)
    return mlp(weights, images + deviation * noise)


def noisy(deviation):
    """One draw an answer."""
    fn = Partial(noisy_logits, trained()[0].args[0], deviation)
    return attacks.randomized(fn, num_samples=1)


@functools.cache
def trained(kind="standard"):
    """Returns a healthy model and the images and labels that it is examined with."""
    dataset = many_classes() if kind == "many classes" else digits(2 if kind == "binary" else 10)
    num_classes = int(dataset[1].max()) + 1
    sizes = (64, num_classes) if kind == "linear" else (64, 64, num_classes)
    epsilon = {"adversarial": EPSILON, "very robust": 0.25}.get(kind, 0.0)
    images, labels = dataset
    weights = train(start(sizes), images[:-400], labels[:-400], epsilon, 400)
    return Partial(mlp, weights), images[-NUM_IMAGES:], labels[-NUM_IMAGES:]


def run(logits_fn, images, labels, key=0, **options):
    # On one device; that several give the same is a test of its own.
    options = {"epsilon": EPSILON, "batch_size": NUM_IMAGES, "devices": ONE, **options}
    return diagnose(logits_fn, jax.random.key(key), images, labels, **options)


def examine(logits_fn, key=0, kind="standard", **options):
    return run(logits_fn, *trained(kind)[1:], key=key, **options)


def failed(found):
    return {finding.name for finding in found if not finding.passed}


OTHERS = ("linear", "very robust", "many classes")
LATER = [pytest.param(kind, marks=pytest.mark.full_size) for kind in OTHERS]


@pytest.mark.parametrize("kind", ["standard", "adversarial", "binary", *LATER])
def test_healthy_models_pass_everything(kind):
    logits_fn, images, labels = trained(kind)
    accuracy = np.mean(np.argmax(logits_fn(images), 1) == labels)
    assert accuracy > 0.85
    for key in range(3):
        found = examine(logits_fn, key, kind)
        assert failed(found) == set(), format_findings(found)
        assert all(finding.seen and not finding.advice for finding in found)


@pytest.mark.parametrize(("norm", "epsilon"), [("l2", 0.4), ("l1", 2.0)])
def test_healthy_models_pass_in_every_norm(norm, epsilon):
    for kind in ("standard", "adversarial"):
        found = examine(trained(kind)[0], kind=kind, norm=norm, epsilon=epsilon)
        assert failed(found) == set(), format_findings(found)
        assert ("black_box" in {finding.name for finding in found}) == (norm == "l2")


def test_a_model_that_is_never_right_only_fails_for_that():
    logits_fn, images, _ = trained()
    wrong = (np.argmax(logits_fn(images), 1) + 1) % 10
    assert failed(run(logits_fn, images, wrong)) == {"clean_accuracy"}
    # With as many classes as here that cannot be told from guessing, which is no better.
    logits_fn, images, _ = trained("many classes")
    wrong = (np.argmax(logits_fn(images), 1) + 1) % 100
    found = run(logits_fn, images, wrong)
    assert failed(found) == {"clean_accuracy"}
    assert "no better than guessing" in found.failed[0].advice


@pytest.mark.parametrize(
    ("right", "counts", "passes", "word"),
    [
        (13, [10] * 10, False, "no better than guessing"),
        (0, [10] * 10, False, "worse than guessing"),
        (30, [10] * 10, True, ""),
        (30, [30, *[8] * 8, 6], False, "no better than guessing"),  # that many are of one class
        (90, [50, 50], True, ""),
        (50, [50, 50], False, "no better than guessing"),
        (90, [100, 0], True, ""),  # of one class alone
    ],
)
def test_a_model_that_recognises_nothing_fails(
    right: int, counts: list[int], passes: bool, word: str
):
    labels = np.repeat(np.arange(len(counts)), counts)
    seen = SimpleNamespace(
        logits=np.zeros((len(labels), len(counts))),
        labels=labels,
        right=np.arange(len(labels)) < right,
    )
    found = findings.clean_accuracy(cast(Any, seen))
    assert found.passed == passes
    assert word in found.advice


def test_a_constant_model_is_no_failed_attack():
    """It is robust on what it is right about, whatever epsilon; its gradient is 0."""
    weights = jax.tree.map(jnp.zeros_like, trained()[0].args[0])
    weights[-1] = (weights[-1][0], jnp.arange(10.0))
    found = examine(Partial(mlp, weights))
    assert failed(found) == {"clean_accuracy", "zero_gradients", "margin_growth"}


@pytest.mark.parametrize("plant", PLANTS)
def test_planted_defects_are_found(plant):
    expected = PLANTS[plant][1]
    found = examine(with_plant(plant))
    assert failed(found) >= expected, format_findings(found)
    assert all(bool(finding.advice) != finding.passed for finding in found)
    if plant in ("none", "probabilities"):  # nothing else is wrong
        assert failed(found) == expected


def test_randomised_models():
    """One draw of large noise is found out; little noise fails nothing, whatever it is asked."""
    assert "randomness" in failed(examine(noisy(0.5)))
    assert failed(examine(noisy(0.03))) == set()


def test_every_check_can_fail():
    """By a plant above or by a test of its own below."""
    own = {"pixel_range", "transfer"}
    named = {check.__name__ for check in findings.CHECKS} | set(findings._RIVALS)
    assert named == own.union(*(expected for _, expected in PLANTS.values()))


def test_transfer():
    other = trained("linear")[0]
    assert failed(examine(trained()[0], source=other)) == set()
    found = examine(with_plant("quantised input"), source=other)
    found = {finding.name: finding for finding in found}
    assert not found["transfer"].passed
    assert found["transfer"].value > 0.1


def test_images_divided_twice():
    logits_fn, images, labels = trained()
    assert "pixel_range" in failed(run(logits_fn, images / 255, labels))


def test_the_advice_follows_the_cause():
    """A loss that underflows and a model without a gradient need other remedies."""
    for plant, word in {"saturated": "margin", "stopped gradient": "square"}.items():
        by_name = {finding.name: finding for finding in examine(with_plant(plant))}
        assert word in by_name["zero_gradients"].advice
        assert by_name["zero_gradients"].value == 1.0


def test_another_black_box():
    """Any attack can be the one without gradients."""

    def rival(attack):
        by_name = {f.name: f for f in examine(with_plant("wrong sign"), black_box=attack)}
        return by_name["black_box"]

    # Its radius is that of the call.
    assert not rival(attacks.create("square", epsilon=0.001, num_queries=300)).passed
    assert rival(attacks.create("fgsm", epsilon=0.5)).passed


def test_uint8_order_and_batch_size():
    """The same from 8-bit images, in any order by the ids, in any blocks, on any devices."""
    logits_fn, images, labels = trained("adversarial")
    stored = np.round(images * 255).astype(np.uint8)
    ids, order = np.arange(500, 700), np.random.default_rng(1).permutation(NUM_IMAGES)
    key = jax.random.key(3)
    first = diagnose(
        logits_fn,
        key,
        stored,
        labels,
        epsilon=EPSILON,
        example_ids=ids,
        batch_size=200,
        devices=jax.local_devices()[:1],
    )
    second = diagnose(
        logits_fn,
        key,
        stored[order],
        labels[order],
        epsilon=EPSILON,
        example_ids=ids[order],
        batch_size=64,
    )
    for one, other in zip(first, second, strict=True):
        assert (one.name, one.passed) == (other.name, other.passed)
        if one.name != "batch_dependence":
            assert one.value == pytest.approx(other.value, abs=0.006)


def test_sizes_and_weights_compile_nothing_again():
    logits_fn, images, labels = trained()
    examine(logits_fn)
    counts = probe._search.run._cache_size(), classifier._answer.run._cache_size()
    other = jax.tree.map(lambda weights: 0.9 * weights, logits_fn)
    run(other, images, labels, key=9, epsilon=0.03)
    assert (probe._search.run._cache_size(), classifier._answer.run._cache_size()) == counts


def test_format():
    found = [
        findings.Finding("finite", True, 0.0, "nothing", ""),
        findings.Finding("black_box", False, 0.5, "half", "do this"),
    ]
    lines = format_findings(found).splitlines()
    assert [line.split() for line in lines] == [
        ["ok", "finite", "nothing"],
        ["FAILED", "black_box", "half"],
        ["->", "do", "this"],
    ]
    assert lines[0].index("nothing") == lines[1].index("half")
    assert format_findings([]) == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 0}, "epsilon is 0"),
        ({"epsilon": 8}, "epsilon is 8"),
        ({"norm": "l3"}, "norm 'l3' is unknown"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"example_ids": np.arange(3)}, "example_ids has shape"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        examine(trained()[0], **options)


def test_wrong_arrays():
    logits_fn, images, labels = trained()
    with pytest.raises(ValueError, match="no image"):
        diagnose(logits_fn, jax.random.key(0), images[:0], labels[:0], epsilon=0.1)
    with pytest.raises(ValueError, match="at least two"):
        diagnose(lambda x: logits_fn(x)[:, :1], jax.random.key(0), images, labels * 0, epsilon=0.1)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        diagnose(logits_fn, jax.random.key(0), images * 255, labels, epsilon=0.1)
