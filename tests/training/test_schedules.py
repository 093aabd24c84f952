"""Golden values of Smith's cycles, closed forms of the others, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax.training import schedules

STEPS = (0, 500, 2000, 3000, 4000, 6000, 10000)
GOLDEN = {
    "triangular": [0.001, 0.00225, 0.006, 0.0035, 0.001, 0.006, 0.006],
    "triangular2": [0.001, 0.00225, 0.006, 0.0035, 0.001, 0.0035, 0.00225],
    "exp_range": [0.001, 0.002213056, 0.005434586, 0.003088164, 0.001, 0.004488344, 0.003744009],
}
OPTIONS = {"step": {"epochs_per_step": 1.0}}


def create(name, **options):
    keywords = {"learning_rate": 0.1, "num_steps": 40, "steps_per_epoch": 10, **options}
    return schedules.create(name, **keywords)


@pytest.mark.parametrize("name", GOLDEN)
def test_cyclical_schedules_have_smiths_golden_values(name):
    schedule = create(name, learning_rate=0.001, num_steps=20000, steps_per_epoch=1000)
    np.testing.assert_allclose(jax.vmap(schedule)(jnp.array(STEPS)), GOLDEN[name], rtol=3e-7)


def test_cyclical_schedules_take_their_own_bounds_and_length():
    schedule = create("triangular", learning_rate=0.1, max_learning_rate=0.3, half_cycle_epochs=0.5)
    np.testing.assert_allclose(
        jax.vmap(schedule)(jnp.arange(11)),
        [0.1, 0.14, 0.18, 0.22, 0.26, 0.3, 0.26, 0.22, 0.18, 0.14, 0.1],
        rtol=1e-6,
    )


def test_exp_range_keeps_its_digits_late_in_a_run():
    schedule = create("exp_range", learning_rate=1e-3, gamma=0.99999, steps_per_epoch=1000)
    t = 402_000  # the top of a cycle, float32's gamma ** t is off by 1e-3 there
    np.testing.assert_allclose(schedule(t), 1e-3 + 5e-3 * 0.99999**t, rtol=1e-6)


def test_step_falls_every_so_many_epochs():
    schedule = create("step", gamma=0.7, epochs_per_step=1.0)
    expected = 0.1 * 0.7 ** (np.arange(40) // 10)
    np.testing.assert_allclose(jax.vmap(schedule)(jnp.arange(40)), expected, rtol=1e-7)


def test_step_falls_at_milestones():
    schedule = create("step", milestones=(1.5, 3))
    rates = jax.vmap(schedule)(jnp.array([0, 14, 15, 29, 30, 39]))
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rtol=1e-7)


def test_step_does_not_drift_over_fractions_of_an_epoch():
    schedule = create("step", gamma=0.5, epochs_per_step=1 / 3, num_steps=100)
    falls = np.flatnonzero(np.diff(np.asarray(jax.vmap(schedule)(jnp.arange(100))))) + 1
    np.testing.assert_array_equal(falls[:9], [3, 7, 10, 13, 17, 20, 23, 27, 30])


@pytest.mark.parametrize("options", [{}, {"milestones": (1,), "epochs_per_step": 1.0}])
def test_step_needs_exactly_one_kind_of_milestone(options):
    with pytest.raises(ValueError, match="exactly one"):
        create("step", **options)


def test_cosine_with_warm_up_meets_its_corners():
    schedule = create("cosine", warmup_epochs=1.0, final_learning_rate=0.02)
    rates = jax.vmap(schedule)(jnp.array([0, 5, 10, 25, 40]))
    np.testing.assert_allclose(rates, [0.0, 0.05, 0.1, 0.06, 0.02], rtol=1e-6, atol=1e-9)


def test_cosine_without_warm_up_begins_at_its_top():
    rates = jax.vmap(create("cosine"))(jnp.array([0, 20, 40]))
    np.testing.assert_allclose(rates, [0.1, 0.05, 0.0], atol=1e-8)


def test_a_warm_up_as_long_as_the_run_is_refused():
    with pytest.raises(ValueError, match=r"warmup_epochs = 4\.0: must be below the 4 epochs"):
        create("cosine", warmup_epochs=4.0)


def test_inverse_time_has_keras_golden_values():
    constant = create("constant", learning_rate=1e-4)
    for decay, expected in ((1e-5, 2.42365e-5), (1e-6, 7.61847e-5)):
        rate = schedules.inverse_time(constant, decay)(312_600)
        np.testing.assert_allclose(rate, expected, rtol=3e-6)


@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_every_schedule_is_a_jitable_float32_scalar(name):
    schedule = create(name, **OPTIONS.get(name, {}))
    for step in (0, 7, 39):
        inside = jax.jit(schedule)(jnp.int32(step))
        assert inside.dtype == jnp.float32
        assert inside.shape == ()
        np.testing.assert_allclose(inside, schedule(step), rtol=1e-6)


@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_every_schedule_begins_at_the_learning_rate(name):
    np.testing.assert_allclose(create(name, **OPTIONS.get(name, {}))(0), 0.1, rtol=1e-6)


def test_an_unknown_name_is_met_with_the_nearest():
    with pytest.raises(ValueError, match=r"'triangle'.*'triangular'"):
        create("triangle")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; it must be above 0"),
        ({"num_steps": 0}, "num_steps"),
        ({"half_cycle": 2.0}, "half_cycle_epochs"),
        ({"max_learning_rate": 0.01}, "schedule.max_learning_rate"),
    ],
)
def test_wrong_values_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        create("triangular", **options)
