"""Adversarial noise training: its shares, its generator's step by hand, restarts and reductions."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rbjax import losses, methods, prng
from rbjax.attacks.sphere import step_in_box
from rbjax.methods import MethodState
from rbjax.models.noise_generator import noise_generator
from rbjax.testing import training
from rbjax.training import hooks
from tests.training.recipes import BATCH, KEY, assert_equal, initial, make_recipe, make_split, run
from tests.training.test_method import told

NETWORK = noise_generator(image_shape=(8, 8, 1))


def state_of(method):
    return initial(make_recipe(method)).method_state


def pushing(params, bias):
    """A generator whose noise is its bias."""
    nothing = jax.tree.map(jnp.zeros_like, params)
    return nothing | {"Dense_3": nothing["Dense_3"] | {"bias": jnp.array([bias])}}


def test_noise_of_no_size_is_standard_training():
    split = make_split()
    standard, _ = run(make_recipe(methods.standard(), model_name="normalized"), split)
    ant, _ = run(make_recipe(methods.ant(distance=0.0), model_name="normalized"), split)
    assert_equal(ant.variables, standard.variables)


def test_half_is_clean_and_each_of_two_saved_generators_has_a_tenth():
    """4,000 images of key 2; bounds are five standard errors."""
    method = methods.ant(distance=0.4)
    own = state_of(method).replicated
    images, labels = jnp.full((4000, 8, 8, 1), 0.5), jnp.zeros(4000, jnp.int32)
    keys = prng.split(prng.key(2), 4000)

    @jax.jit
    def inputs(own):
        return method.inputs(lambda x: x, keys, MethodState(own, ()), images, labels)

    def shares(own):
        """Of images without noise, with that of g, and with each of the two saved ones."""
        delta = np.asarray(inputs(own) - 0.5).reshape(4000, -1)
        size = np.linalg.norm(delta, axis=1)
        np.testing.assert_allclose(size[size > 0], 0.4, rtol=1e-4)
        pushed = np.abs(delta.sum(axis=1)) > 3.0  # 8 * 0.4 where all values are the same
        one, two = (pushed & (sign * delta[:, 0] > 0) for sign in (1, -1))
        parts = [size == 0, ~pushed & (size > 0), one, two]
        return np.array([part.mean() for part in parts])

    np.testing.assert_allclose(shares(own), [0.5, 0.5, 0, 0], atol=0.04)
    saved = [pushing(own["generator"], bias) for bias in (1e3, -1e3)]
    history = jax.tree.map(lambda *x: jnp.stack([*x] * 50), *saved)
    seen = []
    for count in range(8):  # the batches of an epoch draw two anew
        opt_state = own["opt_state"]._replace(count=jnp.int32(count))
        part = shares(own | {"history": history, "saved": jnp.int32(100), "opt_state": opt_state})
        np.testing.assert_allclose(part[:2], [0.5, 0.3], atol=0.04)
        np.testing.assert_allclose(part[2:].sum(), 0.2, atol=0.032)
        seen.append(tuple(np.round(10 * part[2:])))
    assert {(1, 1)} < set(seen) <= {(1, 1), (2, 0), (0, 2)}


def test_the_generator_climbs_by_the_gradient_of_all_images():
    split, method = make_split(), methods.ant(distance=1.5, generator_learning_rate=0.01)
    recipe = make_recipe(method)
    state = initial(recipe)
    own = state.method_state.replicated
    images, labels = jnp.asarray(split[0] / np.float32(255)), jnp.asarray(split[1])
    keys = prng.per_draw(prng.per_example(prng.named(KEY, "method"), jnp.arange(BATCH)), 0)

    def loss(params):
        noise = NETWORK.apply(params, NETWORK.codes(prng.per_draw(keys, 2)))
        logits = recipe.model.apply(state.variables, step_in_box(images, noise, 1.5))
        return -jnp.mean(losses.create("cross_entropy")(logits, labels))

    gradient = jax.jit(jax.grad(loss))(own["generator"])
    optimizer = optax.adam(0.01)
    updates, _ = optimizer.update(gradient, optimizer.init(own["generator"]))
    after, _ = run(recipe, split)
    actual = after.method_state.replicated
    for new, old, update, slope in zip(
        *map(jax.tree.leaves, (actual["generator"], own["generator"], updates, gradient)),
        strict=True,
    ):
        # Where the gradient is about 0, Adam's first step is a sign.
        clear = np.abs(slope) > 1e-6
        np.testing.assert_allclose((new - old)[clear], update[clear], rtol=1e-3)
    assert_equal(actual["history"], own["history"])
    assert actual["saved"] == 0


def test_after_an_epoch_a_generator_begins_anew_climbs_and_is_saved():
    """The last two are kept; it finds a loss higher than its initial weights have."""
    method = methods.ant(distance=3.0, restart_steps=100, restart_learning_rate=0.03, history=2)
    model, data = training.make_model(), training.make_train_set()
    _, state, _ = training.train(method, num_steps=12, learning_rate=0.3)
    epoch = told([[1]])._replace(train_set=data, model=model)
    before = [jax.tree.map(np.array, state)]
    for number in (1, 2, 3):
        given = jax.tree.map(np.array, before[-1])
        before.append(hooks.after_epoch(method, KEY, given, epoch._replace(number=number)))
    owns = [own.method_state.replicated for own in before]
    assert [int(own["saved"]) for own in owns] == [0, 1, 2, 3]
    for place, number in ((0, 3), (1, 2)):
        kept = jax.tree.map(lambda x, place=place: x[place], owns[3]["history"])
        assert_equal(kept, owns[number]["generator"])
    assert owns[1]["opt_state"].count == 0
    assert_equal(owns[3]["key"], owns[0]["key"])
    images = jnp.asarray(data.images / np.float32(255))
    images, labels = jnp.tile(images, (20, 1, 1, 1)), jnp.tile(jnp.asarray(data.labels), 20)
    codes = NETWORK.codes(prng.split(prng.key(9), len(labels)))

    @jax.jit
    def loss(params):
        logits = model.apply(
            state.variables, step_in_box(images, NETWORK.apply(params, codes), 3.0)
        )
        return jnp.mean(losses.create("cross_entropy")(logits, labels))

    anew = loss(NETWORK.init(prng.key(0)))
    assert loss(owns[1]["generator"]) > anew + 0.1
    # Without restarts g goes on, and is saved.
    goes_on = methods.ant(distance=1.0, restart_steps=0, history=2)
    own = hooks.after_epoch(goes_on, KEY, state, epoch).method_state.replicated
    assert_equal(own["generator"], owns[0]["generator"])
    assert own["opt_state"].count == 12
    assert_equal(jax.tree.map(lambda x: x[0], own["history"]), own["generator"])


def test_no_key_of_a_restart_is_used_twice(monkeypatch):
    module = importlib.import_module("rbjax.methods.ant")
    monkeypatch.setattr(module, "_climb", lambda adversary, carry, *_: carry)
    adversary, data = module._adversary((8, 8, 1), "1x1", 1.0), training.make_train_set()
    with jax.debug_key_reuse(True):
        module._trained_anew(adversary, prng.key(0), None, data, 60, 0.1)


def test_the_distance_is_the_published_one_for_a_size():
    """135 for 224 x 224 x 3; 28 x 28 and 32 x 32 x 3 as they follow."""
    adversary = importlib.import_module("rbjax.methods.ant")._adversary
    for shape, distance in (((224, 224, 3), 135.0), ((28, 28, 1), 9.742), ((32, 32, 3), 19.286)):
        assert adversary(shape, "1x1", None).distance == pytest.approx(distance, rel=1e-4)
        assert adversary(shape, "3x3", 2.5).distance == 2.5


def test_shares_above_1_are_refused():
    with pytest.raises(
        ValueError, match=r"clean_share is 0\.9 and replay_share 0\.2; .* at most 1"
    ):
        methods.ant(clean_share=0.9)
