"""FRL's multipliers by hand, what is made of them, and what the rates 0 leave."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import command_line, losses, methods
from rbjax import config as schema
from rbjax.methods.class_accuracy import Accuracy
from rbjax.methods.frl import Multipliers, Rule, class_weights, radius_scales
from rbjax.testing.training import make_model, make_train_set
from rbjax.training import hooks, run_directory, setup
from rbjax.training.method import MethodState, Output, Seen
from tests.training.recipes import (
    BATCH,
    CLASSES,
    KEY,
    assert_equal,
    finished_run,
    initial,
    make_recipe,
    make_split,
    run,
    told,
)

RATES = {"reweight_rate": 0.05, "remargin_rate": 0.2, "tolerance": 0.1, "most_weight": 0.5}
MEASURED = Accuracy(
    np.array([0.9, 0.6, 0.75]), np.array([0.8, 0.1, 0.45]), clean_of_all=0.75, robust_of_all=0.45
)
"""Errors 0.1, 0.4, 0.25 of 0.25; boundary errors 0.1, 0.5, 0.3 of 0.3."""


@pytest.fixture(scope="module")
def split():
    return make_split()


def test_multipliers_by_hand():
    known = Multipliers(*np.array([[0.1, 0, 0.01], [0, 0.3, 0], [0.5, 0, -0.5]]))
    after = Rule(**RATES).updated(known, MEASURED)
    # Too much is -0.25, 0.05, -0.1 of the errors and -0.3, 0.1, -0.1 of the boundary errors.
    np.testing.assert_allclose(after.clean, [0.1 - 0.0125, 0.0025, 0.005], rtol=1e-6)
    np.testing.assert_allclose(after.boundary, [0, 0.31, 0], rtol=1e-6)
    np.testing.assert_allclose(after.margin, [0.44, 0.02, -0.52], rtol=1e-5)
    many = Rule(**{**RATES, "reweight_rate": 10.0}).updated(known, MEASURED)
    np.testing.assert_allclose(many.clean, [0, 0.5, 0], rtol=1e-6)
    np.testing.assert_allclose(many.boundary, [0, 0.5, 0], rtol=1e-6)
    few = Rule(**{**RATES, "most_weight": 0.05}).updated(known, MEASURED)
    expected = 0.05 * np.array([0.0875, 0.0025, 0.005]) / 0.095
    np.testing.assert_allclose(few.clean, expected, rtol=1e-6)


def test_weights_by_hand():
    """K times 1 / K + l_c - (the mean of l); on the average 1."""
    multipliers = np.array([0.1, 0.3, 0.0, 0.1], np.float32)
    expected = 4 * (1 / 4 + multipliers - multipliers.mean())
    np.testing.assert_allclose(class_weights(multipliers), expected, rtol=1e-6)
    np.testing.assert_array_equal(class_weights(np.zeros(7, np.float32)), 1)


def test_with_rates_of_0_it_is_trades(split):
    attack = {"epsilon": 0.1, "num_steps": 2, "beta": 1.5}
    plain = make_recipe(methods.trades(**attack))
    recipe = make_recipe(methods.frl(**attack, reweight_rate=0.0, remargin_rate=0.0))
    expected, _ = run(plain, split, num_steps=2)
    first, _ = run(recipe, split)
    rule = Rule(**{**RATES, "reweight_rate": 0.0, "remargin_rate": 0.0})
    known = rule.updated(first.method_state.replicated, MEASURED)
    first = first._replace(method_state=first.method_state._replace(replicated=known))
    second, _ = run(recipe, split, state=first)
    assert_equal(second.variables, expected.variables)


def test_the_loss_is_of_weighted_means_over_the_batch():
    method = methods.frl(beta=2.0)
    known = Multipliers(*np.array([[0.1, 0, 0.2], [0, 0.3, 0], [0, 0, 0]], np.float32))
    clean, perturbed = np.random.default_rng(0).normal(size=(2, 7, 3)).astype(np.float32)
    labels = jnp.array([0, 1, 1, 2, 2, 2, 0])
    cross_entropy = losses.create("cross_entropy")
    unused: dict = dict.fromkeys(("logits_fn", "images", "inputs", "keys"))
    outputs = tuple(Output(jnp.asarray(x), None) for x in (clean, perturbed, clean))
    seen = Seen(
        outputs=outputs,
        labels=labels,
        task_loss=lambda logits: cross_entropy(logits, labels),
        state=MethodState(known, ()),
        **unused,
    )
    assert method.loss is not None
    assert method.sums is not None
    value = jnp.mean(method.loss(seen._replace(sums=method.sums(seen))))
    u0, u1 = (np.asarray(class_weights(part))[labels] for part in known[:2])
    p, q = jax.nn.softmax(clean), jax.nn.softmax(perturbed)
    divergence = np.sum(p * (np.log(p) - np.log(q)), axis=1)
    expected = u0 @ cross_entropy(clean, labels) / u0.sum() + 2 * u1 @ divergence / u1.sum()
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_radii_are_bounded_and_steps_are_of_the_largest(split):
    images, labels = jnp.full((BATCH, 8, 8, 1), 0.5), jnp.asarray(split[1])
    margin = np.array([-1.0, 0.2, 5.0], np.float32)
    scale = np.array([0.98, np.exp(0.4), 3.0])[split[1]]

    def logits_fn(x):
        return x.reshape(len(x), -1) @ jnp.linspace(-1, 1, 64 * CLASSES).reshape(64, CLASSES)

    keys = jax.random.split(KEY, BATCH)
    for num_steps, expected in ((8, 0.04 * scale), (1, np.full(BATCH, 0.03))):
        method = methods.frl(epsilon=0.04, num_steps=num_steps)
        state = initial(make_recipe(method)).method_state
        state = state._replace(replicated=state.replicated._replace(margin=margin))
        _, moved, _ = method.inputs(logits_fn, keys, state, images, labels)
        sizes = np.max(np.abs(moved - images), axis=(1, 2, 3))
        np.testing.assert_allclose(sizes, expected, atol=4e-3 if num_steps == 1 else 1e-6)


def nearest_level(variables, images):
    """A network that takes an image for the class whose level its mean is nearest to."""
    del variables
    return -10 * (jnp.mean(images, axis=(1, 2, 3))[:, None] - jnp.array([0.2, 0.5, 0.8])) ** 2


def test_epochs_by_hand():
    """Of the classes 1, 3/4, 1/2 are right (3/4 of all), under attack 1, 1/2, 1/4 (7/12 of all).

    Mistakes lie beyond 0.35 and 0.65; less than 0.1 from there an image is fooled.  Too much is
    -0.3, -0.05, 0.2 of the errors, and -13/60, 1/30, 1/30 of the boundary errors.
    """
    levels = np.array([0.1] * 4 + [0.5, 0.5, 0.6, 0.7] + [0.9, 0.7, 0.3, 0.3], np.float32)
    whole = make_train_set()
    images = np.broadcast_to(levels.reshape(-1, 1, 1, 1), (12, *whole.info.image_shape))
    validation_set = dataclasses.replace(
        whole.take(np.arange(12)), images=images, labels=np.repeat(np.arange(3, dtype=np.int32), 4)
    )
    epoch = told(model=SimpleNamespace(apply=nearest_level), validation_set=validation_set)
    method = methods.frl(epsilon=0.1, reweight_rate=0.5, remargin_rate=0.4, tolerance=0.05)
    state = initial(make_recipe(method))
    for number in (1, 2):
        state = hooks.after_epoch(method, KEY, state, epoch._replace(number=number))
        known = state.method_state.replicated
        weights = 1 + number * np.array([-0.1, -0.1, 0.2])
        np.testing.assert_allclose(class_weights(known.clean), weights, rtol=1e-6)
        weights = 1 + number * np.array([-2, 1, 1]) / 30
        np.testing.assert_allclose(class_weights(known.boundary), weights, rtol=1e-6)
        scales = [0.98, *np.exp(np.full(2, 2 * number * 0.4 / 30))]
        np.testing.assert_allclose(radius_scales(known.margin), scales, rtol=1e-6)


def test_nothing_changes_before_the_warmup_ends():
    recipe = make_recipe(methods.frl(warmup_epochs=2))
    state = initial(recipe)
    assert_equal(hooks.after_epoch(recipe.method, KEY, state, told(1)), state)


def test_it_is_refused_without_a_validation_set():
    config = schema.default()
    config.method.name = "frl"
    with pytest.raises(ValueError, match=r"validation_fraction = 0: the method 'frl'.*0\.02"):
        command_line.resolve(config, "runs/frl")


def test_it_begins_with_the_weights_of_the_run_and_its_head():
    config = schema.stored(run_directory.read_config(finished_run()))
    model = setup.create_model(config, setup.info(config))
    _, expected = setup.trained_variables(config, finished_run(), model)
    method = methods.frl(start_from=finished_run())
    assert method.prepare is not None
    prepared = method.prepare(jax.random.key(0), make_train_set(), model)
    assert_equal(prepared.variables, expected)


@pytest.mark.parametrize(
    ("workdir", "message"),
    [
        (lambda: "gone", "method.start_from: workdir = 'gone': does not exist"),
        (finished_run, r"method.start_from = .*: has params/head/bias of shape \(10,\)"),
    ],
)
def test_a_run_that_does_not_fit_is_no_beginning(workdir, message, tmp_path):
    method = methods.frl(start_from=workdir())
    with pytest.raises(ValueError, match=message):
        hooks.prepare(method, KEY, make_train_set(), make_model(), tmp_path, has_begun=False)
