"""Methods of every kind train through one step: by hand, on eight devices, and in special cases."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import methods, prng
from tests.training import toy_methods as toys
from tests.training.recipes import (
    BATCH,
    CLASSES,
    KEY,
    RATE,
    SHAPE,
    assert_close,
    assert_equal,
    initial,
    make_recipe,
    make_split,
    run,
)


@pytest.fixture(scope="module")
def split():
    return make_split()


def trained_by_hand(recipe, split, loss, params=None):
    """Returns the weights after one step of gradient descent on a loss of (params, images)."""
    before = initial(recipe).variables["params"]
    images = jnp.asarray(split[0] / np.float32(255))
    gradient = jax.jit(jax.grad(loss))(before if params is None else params, images)
    return jax.tree.map(lambda p, g: p - RATE * g, before, gradient)


def outputs_of(recipe, params, images):
    """Returns logits and features; the networks that are checked by hand have no batch norm."""
    variables = {**initial(recipe).variables, "params": params}
    keys = prng.per_example(KEY, jnp.arange(BATCH))
    logits, features, _ = recipe.model.apply_with_features(variables, images, keys)
    return logits, features


# -------------------------------------------------------------------- one device or eight

SMOOTH = {
    # Attacks in l2, since a sign would turn rounding into whole steps.
    "trades": methods.trades(epsilon=1.0, step_size=0.3, num_steps=2, norm="l2"),
    "weight_perturbation": methods.pgd(epsilon=0.0, num_steps=1, weight_perturbation=0.05),
    "noise_generator": toys.noise_generator()._replace(after_epoch=None),
    "validation_weights": toys.validation_weights(),
    "frozen": methods.Method(trains=lambda path: path.startswith("head/")),
    "class_means": toys.class_means(),
    "two_views": toys.two_views(),
}


HEAVY = ("trades", "weight_perturbation")
"""Which contracts of methods compare on eight devices as well."""


@pytest.mark.parametrize(
    "name", [pytest.param(k, marks=[pytest.mark.full_size] * (k in HEAVY)) for k in SMOOTH]
)
def test_eight_devices_give_the_numbers_of_one(split, name):
    """Also the sums by class that `after_epoch` is told."""
    method = SMOOTH[name]
    if name == "noise_generator":  # so that its sums are looked at
        method = method._replace(after_epoch=lambda key, state, epoch: state)
    recipe = make_recipe(
        method,
        model_name="normalized",
        axis_name="data",
        augment=lambda key, image: image + 0.1 * jax.random.uniform(key),
    )
    one, first = run(recipe, split, num_steps=2)
    eight, second = run(recipe, split, num_steps=2, num_devices=8)
    # The divergence's gradient is nearly 0 where TRADES starts, and only its direction counts.
    assert_close(eight, one, 5e-5 if name == "trades" else 5e-6)
    assert_close(second, first, 5e-5)
    assert np.abs(jax.tree.leaves(one.variables["params"])[-1]).max() > 0
    if method.after_epoch is not None:
        assert first.classes.count.sum() == BATCH
        np.testing.assert_allclose(first.classes.correct[:, 0].sum(), first.correct)


def test_replays_on_eight_devices_step_by_the_same_signs(split):
    """A row's gradient is of the mean over the whole batch, so that its size is the same too."""
    sizes = {}
    for num_devices in (1, 8):
        method = methods.free(num_replays=1)._replace(
            update=lambda seen, gradients, shared: seen.state._replace(per_row=gradients)
        )
        state, _ = run(make_recipe(method), split, num_devices=num_devices)
        sizes[num_devices] = state.method_state.per_row
    np.testing.assert_allclose(sizes[8], sizes[1], rtol=1e-5, atol=1e-8)
    assert np.abs(sizes[1]).max() > 1e-5


# -------------------------------------------------------------------- by hand, in special cases


def test_trades_without_its_divergence_is_standard_training(split):
    standard, _ = run(make_recipe(methods.standard(), model_name="normalized"), split)
    trades, _ = run(
        make_recipe(methods.trades(epsilon=0.1, num_steps=1, beta=0.0), model_name="normalized"),
        split,
    )
    assert_close(trades.variables["params"], standard.variables["params"], 1e-6)


def test_trades_by_hand(split):
    """The statistics follow clean, perturbed and clean images; both predictions are descended."""
    method = methods.trades(epsilon=0.1, num_steps=2, beta=6.0)
    recipe = make_recipe(method, model_name="normalized")
    state, keys = initial(recipe), prng.per_example(KEY, jnp.arange(BATCH))
    images = jnp.asarray(split[0] / np.float32(255))
    method_keys = prng.per_draw(prng.per_example(prng.named(KEY, "method"), split[2]), 0)
    logits_fn = jax.tree_util.Partial(recipe.model.apply, state.variables)
    craft = jax.jit(functools.partial(method.inputs, logits_fn))
    _, perturbed, _ = craft(method_keys, state.method_state, images, jnp.asarray(split[1]))
    assert 0.04 < np.abs(perturbed - images).max() <= 0.1 + 1e-6

    def loss(params):
        variables, logits = {**state.variables, "params": params}, []
        for seen in (images, perturbed, images):
            out, stats = recipe.model.apply_train(variables, seen, keys)
            variables = {**variables, "batch_stats": stats}
            logits.append(out)
        clean, moved = jax.nn.log_softmax(logits[0]), jax.nn.log_softmax(logits[1])
        divergence = jnp.sum(jnp.exp(clean) * (clean - moved), axis=1)
        value = jnp.mean(-clean[jnp.arange(BATCH), split[1]] + 6.0 * divergence)
        return value, variables["batch_stats"]

    grad = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (value, stats), gradient = grad(state.variables["params"])
    after, metrics = run(recipe, split)
    np.testing.assert_allclose(metrics.loss[0], value, rtol=1e-5)
    expected = jax.tree.map(lambda p, g: p - RATE * g, state.variables["params"], gradient)
    assert_close(after.variables["params"], expected)
    assert_close(after.variables["batch_stats"], stats)


def test_the_gradient_is_taken_at_the_perturbed_weights_and_moves_the_others(split):
    method = methods.Method(
        descend_at=lambda gradient_fn, params, state: jax.tree.map(
            lambda p, g: p + 0.5 * g, params, gradient_fn(params)
        )
    )
    recipe = make_recipe(method)

    def loss(params, images):
        logits, _ = outputs_of(recipe, params, images)
        return jnp.mean(recipe.loss_fn(logits, split[1]))

    images = jnp.asarray(split[0] / np.float32(255))
    before = initial(recipe).variables["params"]
    worst = jax.tree.map(lambda p, g: p + 0.5 * g, before, jax.jit(jax.grad(loss))(before, images))
    after, _ = run(recipe, split)
    assert_close(after.variables["params"], trained_by_hand(recipe, split, loss, worst))


def test_replays_are_descents_on_the_same_batch(split):
    once, _ = run(make_recipe(methods.free(epsilon=0.1, num_replays=1)), split, num_steps=3)
    thrice, _ = run(make_recipe(methods.free(epsilon=0.1, num_replays=3)), split)
    assert_close(thrice._replace(step=3), once, 1e-6)
    assert thrice.step == 1


def test_a_generator_climbs_by_the_gradient_in_its_own_weights(split):
    method = toys.noise_generator(epsilon=0.1)
    recipe = make_recipe(
        method._replace(
            inputs=lambda logits_fn, keys, state, images, labels: (
                0.5 * images + method.inputs(logits_fn, keys, state, 0.2 + 0 * images, labels)
            ),
            update=lambda seen, gradients, shared: seen.state._replace(
                replicated=(shared, seen.state.replicated[1])
            ),
        ),
        model_name="mlp",
    )
    state = initial(recipe)
    images = jnp.asarray(split[0] / np.float32(255))
    keys = prng.per_draw(prng.per_example(prng.named(KEY, "method"), split[2]), 0)

    def loss(weights):
        own = state.method_state._replace(replicated=(weights, None))
        seen = recipe.method.inputs(lambda x: x, keys, own, images, jnp.asarray(split[1]))
        logits, _ = outputs_of(recipe, state.variables["params"], seen)
        return jnp.mean(recipe.loss_fn(logits, split[1]))

    expected = jax.jit(jax.grad(loss))(jnp.asarray(state.method_state.replicated[0]))
    after, _ = run(recipe, split)
    np.testing.assert_allclose(after.method_state.replicated[0], expected, rtol=1e-4, atol=1e-7)
    assert np.abs(expected).max() > 1e-4


def test_weights_multiply_the_losses_and_are_constants(split):
    weights = np.array([0.5, 0.0, 2.5], np.float32)
    method = methods.Method(weights=lambda seen: jnp.asarray(weights)[seen.labels] * seen.losses)
    recipe = make_recipe(method)

    def loss(params, images):
        logits, _ = outputs_of(recipe, params, images)
        each = recipe.loss_fn(logits, split[1])
        return jnp.mean(weights[split[1]] * jax.lax.stop_gradient(each) * each)

    after, _ = run(recipe, split)
    assert_close(after.variables["params"], trained_by_hand(recipe, split, loss))


def test_class_means_of_the_whole_batch_by_hand(split):
    recipe = make_recipe(toys.class_means(pull=0.5))

    def loss(params, images):
        logits, features = outputs_of(recipe, params, images)
        of_class = jax.nn.one_hot(split[1], CLASSES)
        means = (of_class.T @ features) / of_class.sum(axis=0)[:, None]
        pull = 0.5 * jnp.sum((features - means[split[1]]) ** 2, axis=1)
        return jnp.mean(recipe.loss_fn(logits, split[1]) + pull)

    expected = trained_by_hand(recipe, split, loss)
    for num_devices in (1, 8):
        after, _ = run(recipe, split, num_devices=num_devices)
        assert_close(after.variables["params"], expected)


def test_a_loss_may_penalise_the_networks_gradient_in_its_images(split):
    """`logits_fn` of what was seen is at the weights that are differentiated."""

    def penalised(logits_fn, images, task_loss):
        total, gradient = jax.value_and_grad(lambda x: jnp.sum(task_loss(logits_fn(x))))(images)
        del total
        return task_loss(logits_fn(images)) + 3.0 * jnp.sum(gradient**2, axis=(1, 2, 3))

    method = methods.Method(
        loss=lambda seen: penalised(seen.logits_fn, seen.inputs, seen.task_loss)
    )
    recipe = make_recipe(method)

    def loss(params, images):
        return jnp.mean(
            penalised(
                lambda x: outputs_of(recipe, params, x)[0],
                images,
                lambda logits: recipe.loss_fn(logits, jnp.asarray(split[1])),
            )
        )

    after, _ = run(recipe, split)
    assert_close(after.variables["params"], trained_by_hand(recipe, split, loss))


def test_views_are_augmented_with_keys_of_their_own_and_share_batch_statistics(split):
    def noise(key, image):
        return jax.random.uniform(key, image.shape)

    recipe = make_recipe(toys.two_views(), model_name="normalized", augment=noise)
    views = [
        jax.vmap(noise)(
            prng.per_draw(prng.per_example(prng.named(KEY, name), split[2]), 0),
            jnp.zeros((BATCH, *SHAPE)),
        )
        for name in ("augment", "augment view 1")
    ]
    assert np.abs(views[0] - views[1]).max() > 0.5
    state, keys = initial(recipe), prng.per_example(KEY, jnp.arange(2 * BATCH))
    logits, stats = recipe.model.apply_train(state.variables, jnp.concatenate(views), keys)
    first, second = jax.nn.log_softmax(logits[:BATCH]), jax.nn.log_softmax(logits[BATCH:])
    expected = recipe.loss_fn(first, split[1]) + jnp.sum((first - second) ** 2, axis=1)
    after, metrics = run(recipe, split)
    np.testing.assert_allclose(metrics.loss[0], expected.mean(), rtol=1e-5)
    assert_close(after.variables["batch_stats"], stats)


def test_several_inputs_without_a_loss_count_alike_and_are_crafted_at_other_weights(split):
    """At weights of 0 the logits are 0, so that nothing is added to the second input."""

    def inputs(logits_fn, keys, state, images, labels):
        return {"clean": images, "moved": 1 - images + jnp.sum(logits_fn(images))}

    method = methods.Method(
        inputs=inputs,
        craft_at=lambda params, state: jax.tree.map(jnp.zeros_like, params),
        after_epoch=lambda key, state, epoch: state,
    )
    recipe = make_recipe(method)

    def loss(params, images):
        both = [outputs_of(recipe, params, x)[0] for x in (images, 1 - images)]
        return jnp.mean(sum(recipe.loss_fn(logits, split[1]) for logits in both) / 2)

    after, metrics = run(recipe, split)
    assert_close(after.variables["params"], trained_by_hand(recipe, split, loss))
    images = jnp.asarray(split[0] / np.float32(255))
    params = initial(recipe).variables["params"]
    for row, x in enumerate((images, 1 - images)):
        is_right = np.argmax(outputs_of(recipe, params, x)[0], axis=1) == split[1]
        expected = np.bincount(split[1], is_right, CLASSES)
        np.testing.assert_array_equal(metrics.classes.correct[0, row], expected)


def test_what_a_method_does_not_train_stays_as_it_is(split):
    method = methods.Method(trains=lambda path: path.startswith("head/"))
    recipe = make_recipe(method, model_name="normalized")
    before = initial(recipe)
    after, _ = run(recipe, split, num_steps=2)
    assert_equal(after.variables["params"]["backbone"], before.variables["params"]["backbone"])
    assert_equal(after.variables["batch_stats"], before.variables["batch_stats"])
    assert np.abs(after.variables["params"]["head"]["kernel"]).max() > 0
    head = jax.tree.leaves(before.variables["params"]["head"])
    assert len(jax.tree.leaves(before.opt_state)) == len(head)
    with pytest.raises(ValueError, match=r"trains none of the \d+ parameters, backbone/"):
        initial(make_recipe(methods.Method(trains=lambda path: False)))


# -------------------------------------------------------------------- between epochs


# -------------------------------------------------------------------- mistakes
