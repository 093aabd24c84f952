"""First steps in closed form, weight decay's mask, clipping, and the average of the weights."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rbjax.training import optimizers, schedules

PARAMS = {
    "dense": {"kernel": jnp.array([[2.0, -4.0]]), "bias": jnp.array([3.0, -1.0])},
    "norm": {"scale": jnp.array([5.0]), "bias": jnp.array([0.5])},
}
ZEROS = jax.tree.map(jnp.zeros_like, PARAMS)


def constant(rate):
    return schedules.create("constant", learning_rate=rate, num_steps=10, steps_per_epoch=10)


def moves(optimizer, params, gradients):
    """Returns how far each of several updates moved the parameters."""
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    result = []
    for gradient in gradients:
        updates, state = update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        result.append(updates)
    return result, state


def test_sgd_with_momentum_in_closed_form():
    optimizer = optimizers.create("sgd", constant(0.1), momentum=0.9)
    (first, second), _ = moves(optimizer, jnp.zeros(2), [jnp.array([1.0, -2.0])] * 2)
    np.testing.assert_allclose(first, [-0.1, 0.2], rtol=1e-6)
    np.testing.assert_allclose(second, [-0.19, 0.38], rtol=1e-6)


def test_nesterov_looks_one_step_ahead():
    optimizer = optimizers.create("sgd", constant(0.1), momentum=0.9, nesterov=True)
    (first, second), _ = moves(optimizer, jnp.zeros(1), [jnp.ones(1)] * 2)
    np.testing.assert_allclose([first[0], second[0]], [-0.19, -0.271], rtol=1e-6)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_steps_by_the_sign_of_a_constant_gradient(name):
    optimizer = optimizers.create(name, constant(0.01))
    steps, _ = moves(optimizer, jnp.zeros(2), [jnp.array([3.0, -0.2])] * 3)
    np.testing.assert_allclose(np.stack(steps), [[-0.01, 0.01]] * 3, rtol=5e-5)


def test_rmsprop_has_keras_epsilon_outside_the_root():
    optimizer = optimizers.create("rmsprop", constant(1e-4))
    (first,), _ = moves(optimizer, jnp.zeros(1), [jnp.array([1e-6])])
    np.testing.assert_allclose(first[0], -3.065e-4, rtol=2e-4)


def test_rmsprop_follows_keras_recurrence():
    gradients = np.array([0.5, -0.1, 2.0, 0.3])
    optimizer = optimizers.create("rmsprop", constant(1e-2), decay=0.5)
    steps, state = moves(optimizer, jnp.zeros(()), [jnp.float32(g) for g in gradients])
    average = 0.0
    for t, (step, g) in enumerate(zip(steps, gradients, strict=True)):
        average = 0.9 * average + 0.1 * g**2
        np.testing.assert_allclose(
            step, -1e-2 / (1 + 0.5 * t) * g / (np.sqrt(average) + 1e-8), rtol=1e-5
        )
    np.testing.assert_allclose(optimizers.learning_rate(state), 1e-2 / 2.5, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sgd", [[-0.1 * 0.5 * 2.0, 0.1 * 0.5 * 4.0]]),  # part of the gradient
        ("adam", [[-0.1, 0.1]]),  # part of the gradient, so scaled away
        ("rmsprop", [[-0.1 / np.sqrt(0.1), 0.1 / np.sqrt(0.1)]]),
        ("adamw", [[-0.1 * 0.5 * 2.0, 0.1 * 0.5 * 4.0]]),  # beside the gradient
    ],
)
def test_weight_decay_acts_on_kernels_alone(name, expected):
    optimizer = optimizers.create(name, constant(0.1), weight_decay=0.5)
    (step,), _ = moves(optimizer, PARAMS, [ZEROS])
    np.testing.assert_allclose(step["dense"]["kernel"], expected, rtol=1e-5)
    for leaf in (step["dense"]["bias"], step["norm"]["scale"], step["norm"]["bias"]):
        assert not np.any(leaf)


def test_adamw_decays_beside_the_gradient_and_adam_within():
    gradient = jax.tree.map(jnp.ones_like, PARAMS)
    for name, expected in (("adamw", [[-0.2, 0.1]]), ("adam", [[-0.1, 0.1]])):
        optimizer = optimizers.create(name, constant(0.1), weight_decay=0.5)
        (step,), _ = moves(optimizer, PARAMS, [gradient])
        np.testing.assert_allclose(step["dense"]["kernel"], expected, rtol=1e-5)


def test_weight_decay_without_a_kernel_is_refused():
    optimizer = optimizers.create("sgd", constant(0.1), weight_decay=0.5)
    with pytest.raises(ValueError, match=r"no parameter is called 'kernel'.*'w'"):
        optimizer.init({"w": jnp.ones(2)})


def test_gradient_clip_bounds_the_global_norm():
    optimizer = optimizers.create("sgd", constant(1.0), momentum=0.0, gradient_clip=1.0)
    (long, short), _ = moves(
        optimizer,
        (jnp.zeros(1), jnp.zeros(1)),
        [(jnp.array([3.0]), jnp.array([-4.0])), (jnp.array([0.3]), jnp.array([-0.4]))],
    )
    np.testing.assert_allclose(np.concatenate(long), [-0.6, 0.8], rtol=1e-6)
    np.testing.assert_allclose(np.concatenate(short), [-0.3, 0.4], rtol=1e-6)


def test_gradient_clip_comes_before_weight_decay():
    optimizer = optimizers.create(
        "sgd", constant(1.0), momentum=0.0, gradient_clip=1.0, weight_decay=0.5
    )
    (step,), _ = moves(optimizer, {"kernel": jnp.array([8.0])}, [{"kernel": jnp.array([10.0])}])
    np.testing.assert_allclose(step["kernel"], [-(1.0 + 4.0)], rtol=1e-6)


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_every_optimizer_follows_its_schedule_and_compiles_once(name):
    schedule = schedules.create("triangular", learning_rate=0.1, num_steps=8, steps_per_epoch=2)
    optimizer = optimizers.create(name, schedule, weight_decay=1e-4, gradient_clip=1.0)
    state = optimizer.init(PARAMS)
    assert optimizers.learning_rate(state) == schedule(0)
    traces = []

    @jax.jit
    def update(gradient, state):
        traces.append(1)
        return optimizer.update(gradient, state, PARAMS)

    for step in range(5):
        _, state = update(PARAMS, state)
        np.testing.assert_allclose(optimizers.learning_rate(state), schedule(step), rtol=1e-6)
    assert len(traces) == 1


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_updates_keep_the_parameters_dtype(name):
    params = {"kernel": jnp.ones((2, 2), jnp.bfloat16)}
    (step,), _ = moves(optimizers.create(name, constant(0.1), weight_decay=0.1), params, [params])
    assert step["kernel"].dtype == jnp.bfloat16


def test_an_unknown_name_is_met_with_the_nearest():
    with pytest.raises(ValueError, match=r"'rmsprob'.*'rmsprop'"):
        optimizers.create("rmsprob", constant(0.1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_decay": -1.0}, "weight_decay is -1.0; it must be at least 0"),
        ({"weight_decay": float("nan")}, "weight_decay is nan"),
        ({"gradient_clip": 0.0}, "optimizer.gradient_clip"),
        ({"momentun": 0.9}, "momentum"),
    ],
)
def test_wrong_values_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        optimizers.create("sgd", constant(0.1), **options)


def test_ema_forgets_the_first_weights_soon():
    ema, params = {"w": jnp.zeros(2)}, {"w": jnp.array([1.0, -2.0])}
    for step, decay, kept in ((0, 0.999, 0.1), (10, 0.999, 11 / 20), (10**6, 0.999, 0.999)):
        moved = optimizers.ema_update(ema, params, step, decay)["w"]
        np.testing.assert_allclose(moved, (1 - kept) * params["w"], rtol=2e-5)
    first = optimizers.ema_update(ema, params, jnp.int32(0), 0.05)["w"]
    np.testing.assert_allclose(first, 0.95 * params["w"], rtol=1e-6)


def test_ema_of_what_stands_still_stands_still():
    params = {"w": jnp.array([0.1, 1e-30, -3e7]), "b": jnp.ones(3, jnp.bfloat16)}
    ema = optimizers.ema_update(params, params, 123, 0.999)
    jax.tree.map(np.testing.assert_array_equal, ema, params)
    assert ema["b"].dtype == jnp.bfloat16


def test_ema_shares_no_buffer_with_the_parameters():
    params = {"w": jnp.ones(4)}
    ema = optimizers.ema_update(params, params, 0, 0.9)
    assert ema["w"].unsafe_buffer_pointer() != params["w"].unsafe_buffer_pointer()
