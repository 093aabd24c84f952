"""Fast adversarial training: exact on a linear model; its guard puts collapsed weights back."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rbjax import methods, prng
from rbjax.attacks.norms import sample
from rbjax.methods import Epoch, MethodState
from rbjax.testing.training import make_train_set
from rbjax.training import hooks
from rbjax.training.state import create_state
from tests.training.recipes import (
    BATCH,
    KEY,
    assert_equal,
    initial,
    make_recipe,
    make_split,
    run,
)

WEIGHTS = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
IMAGES = jnp.asarray(np.random.default_rng(1).random((6, 8, 8, 1)), jnp.float32)
LABELS = jnp.array([0, 1, 0, 1, 1, 0])
KEYS = prng.per_example(KEY, jnp.arange(6))
STATE = MethodState((), ())


def linear(images):
    return images.reshape(len(images), -1) @ WEIGHTS


def crafted(**options):
    return methods.fast(guard=1.0, **options).inputs(linear, KEYS, STATE, IMAGES, LABELS)


def climb():
    """Returns the sign of the gradient: of two classes it is the same at every image."""
    other = (WEIGHTS[:, 1 - LABELS] - WEIGHTS[:, LABELS]).T
    return np.sign(other).reshape(IMAGES.shape)


def test_fgsm_rs_on_a_linear_model():
    noise = np.clip(IMAGES + sample(KEYS, (8, 8, 1), 0.1, "linf"), 0, 1)
    for length in (None, 0.05):
        step = 0.125 if length is None else length
        ball = np.clip(noise + step * climb(), IMAGES - 0.1, IMAGES + 0.1)
        found = crafted(epsilon=0.1, step_size=length)
        np.testing.assert_allclose(found, np.clip(ball, 0, 1), atol=1e-6)


def test_n_fgsm_on_a_linear_model():
    """Noise of twice epsilon, a step of epsilon, and no projection but to [0, 1]."""
    noise = np.clip(IMAGES + sample(KEYS, (8, 8, 1), 0.2, "linf"), 0, 1)
    found = crafted(form="n_fgsm", epsilon=0.1)
    np.testing.assert_allclose(found, np.clip(noise + 0.1 * climb(), 0, 1), atol=1e-6)
    assert 0.25 < np.abs(found - IMAGES).max() <= 0.3 + 1e-6


def test_without_noise_both_forms_are_fgsm_and_of_radius_0_nothing():
    step = np.clip(IMAGES + 0.1 * climb(), 0, 1)
    for form in ("fgsm_rs", "n_fgsm"):
        found = crafted(form=form, epsilon=0.1, step_size=0.1, noise=0.0)
        np.testing.assert_allclose(found, step, atol=1e-6)
        np.testing.assert_array_equal(crafted(form=form, epsilon=0.0), IMAGES)
    np.testing.assert_allclose(
        crafted(form="n_fgsm", epsilon=1.0, step_size=5.0), (climb() > 0).astype(float), atol=1e-6
    )


# -------------------------------------------------------------------- the guard


class Told:
    """What the guard is told after an epoch of a model; its images are noise."""

    def __init__(self, recipe):
        self.recipe, self.noise = recipe, make_train_set()

    def after(self, state, number):
        nothing: dict = dict.fromkeys(("train", "confusion", "validation_set"))
        epoch = Epoch(
            number=number,
            num_epochs=5,
            train_set=self.noise,
            model=self.recipe.model,
            **nothing,
        )
        return hooks.guard(self.recipe.method, KEY, state, epoch)


def always(state, right):
    """Returns a state whose network answers class 0, of which the labels have a third, or none."""
    params = jax.tree.map(np.zeros_like, state.variables["params"])
    bias = np.array([1, 0, 0], np.float32) if right else np.full(3, np.nan, np.float32)
    params["head"]["bias"] = bias
    return state._replace(variables={**state.variables, "params": params})


def marked(variables, number):
    """Returns weights that say of which epoch they are."""
    params = variables["params"]
    head = {**params["head"], "bias": np.full(3, number, np.float32)}
    return {**variables, "params": {**params, "head": head}}


def test_a_collapse_is_caught_and_the_last_good_weights_put_back(capsys):
    recipe = make_recipe(methods.fast(epsilon=0.1), ema_decay=0.9, optimizer=optax.adam(0.01))
    told, parts = Told(recipe), (recipe.model, recipe.method, recipe.optimizer)
    first = jax.device_get(create_state(KEY, *parts, num_rows=BATCH, ema=True))
    trained, _ = run(recipe, make_split(), state=first, num_steps=2)
    good = told.after(always(trained, right=True), 1)
    assert good.method_state.replicated.accuracy == np.float32(8 / 24)
    assert good.method_state.replicated.number == 1
    collapsed = always(good, right=False)
    later = jax.tree.map(lambda x: x + np.ones((), x.dtype), good.opt_state)
    collapsed = collapsed._replace(opt_state=later, step=np.int32(7), ema=collapsed.variables)
    back = told.after(collapsed, 2)
    assert_equal((back.variables, back.ema), (good.variables, good.ema))
    assert_equal(back.method_state, good.method_state)
    assert back.step == 7
    states = [jax.tree.leaves(state.opt_state) for state in (back, good, collapsed)]
    for now, before, bad in zip(*states, strict=True):
        is_count = np.issubdtype(now.dtype, np.integer)
        np.testing.assert_array_equal(now, bad if is_count else before)
    assert states[0][0] == states[1][0] + 1  # Adam counts its updates
    said = capsys.readouterr().out
    assert "epoch 2: accuracy under attack fell from 33.3% to 0.0%" in said
    assert "the weights of epoch 1 are back" in said


@pytest.mark.parametrize(
    ("accuracies", "caught"),
    [
        ((0.08, 0.01), True),  # of CIFAR-10 at 12/255: 20 points are not there to lose
        ((0.5, 0.24), True),
        ((0.5, 0.26), False),
        ((0.49, 0.34, 0.26, 0.23), True),  # half of the best is lost, little by little
        ((0.3, 0.49, 0.26), False),
        ((0.04, 0.015), False),  # more than half, and less than three standard errors
        ((0.01, 0.3), False),
    ],
)
def test_a_collapse_is_half_of_the_best_and_more_than_chance(monkeypatch, accuracies, caught):
    recipe = make_recipe(methods.fast(epsilon=0.1))
    told = Told(recipe)
    told.noise = told.noise.take(np.arange(512) % told.noise.num_examples)
    shares = iter(accuracies)
    monkeypatch.setattr(
        "rbjax.methods.guard.robust_accuracy", lambda *_: (np.ones(3), next(shares))
    )
    state = always(initial(recipe), right=True)
    best = int(np.argmax(accuracies[:-1]))
    for number in range(len(accuracies)):
        state = state._replace(variables=marked(state.variables, number))
        state = told.after(state, number + 1)
    expected = best if caught else len(accuracies) - 1
    np.testing.assert_array_equal(state.variables["params"]["head"]["bias"], expected)


def test_an_average_that_lags_behind_is_no_collapse():
    recipe = make_recipe(methods.fast(epsilon=0.1), ema_decay=0.9)
    told, parts = Told(recipe), (recipe.model, recipe.method, recipe.optimizer)
    first = jax.device_get(create_state(KEY, *parts, num_rows=BATCH, ema=True))
    good = told.after(always(first, right=True), 1)
    lagging = good._replace(ema=always(good, right=False).variables)
    assert_equal(told.after(lagging, 2).ema, lagging.ema)


def test_without_a_guard_nothing_is_remembered():
    method = methods.fast(guard=1.0)
    assert method.guard is None
    assert jax.tree.leaves(initial(make_recipe(method)).method_state) == []
