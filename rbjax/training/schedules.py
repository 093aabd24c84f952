"""Learning rates as functions of the step, as optax has them.

A schedule maps the number of updates made so far to the rate of the next one, a float32 scalar;
it is pure and jit-able.  Its options are in epochs; a rate is per update.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated

import jax.numpy as jnp
import numpy as np
import optax

from rbjax.inputs import check_integer
from rbjax.options import Count, NotNegative, Positive, Range, checked
from rbjax.tables import Table
from rbjax.typing import Array

Schedule = Callable[[Array | int], Array]
"""Updates made so far -> learning rate () float32."""

MOST_STEPS = 2**31 - 1
"""Updates of a run, whose number is an int32."""
_MOST_FALLS = 100_000
"""Of the schedule "step", whose milestones are a table."""


@checked
def constant(*, learning_rate: Positive = 1e-3) -> Schedule:
    """Returns one rate for every step.

    Args:
        learning_rate: the rate.

    Returns:
        step -> learning_rate.
    """
    return lambda step: jnp.full(jnp.shape(step), learning_rate, jnp.float32)


@checked
def step(
    *,
    num_steps: Count,
    steps_per_epoch: Count,
    learning_rate: Positive = 1e-3,
    gamma: Annotated[float, Range(above=0.0, high=1.0)] = 0.1,
    epochs_per_step: Positive | None = None,
    milestones: Annotated[Sequence[float], Range(low=0.0)] | None = None,
) -> Schedule:
    """Returns a rate that falls by a factor at milestones.

    learning_rate * gamma ** (milestones reached so far).

    Args:
        num_steps: updates of the whole run.
        steps_per_epoch: updates of one epoch.
        learning_rate: the first rate.
        gamma: the factor of each step.
        epochs_per_step: a step every so many epochs.
        milestones: epochs at which a step is taken, such as (75, 90).

    Returns:
        The schedule.

    Raises:
        ValueError: unless exactly one of `epochs_per_step` and `milestones` is given.
    """
    if milestones is not None and epochs_per_step is None:
        boundaries = sorted(round(epoch * steps_per_epoch) for epoch in milestones)
        boundaries = [min(boundary, MOST_STEPS) for boundary in boundaries]
    elif epochs_per_step is not None and milestones is None:
        length = epochs_per_step * steps_per_epoch
        if num_steps > _MOST_FALLS * length:
            raise ValueError(
                f"schedule.epochs_per_step = {epochs_per_step:g}: makes more than {_MOST_FALLS:,} "
                "steps; take a longer one"
            )
        # Rounded one by one, so that fractions of an epoch do not add up to a drift.
        falls = range(1, math.ceil(num_steps / length) + 1)
        boundaries = [min(round(k * length), MOST_STEPS) for k in falls]
    else:
        raise ValueError(
            f"schedule.epochs_per_step = {epochs_per_step} and schedule.milestones = {milestones}: "
            "the schedule 'step' needs exactly one of the two"
        )
    # A table in float64: powers of a float32 gamma would be off in the last digits.
    rates = np.float32(learning_rate * np.float64(gamma) ** np.arange(len(boundaries) + 1))
    edges = np.asarray(boundaries, np.int32)
    return lambda step: jnp.asarray(rates)[jnp.searchsorted(edges, step, side="right")]


@checked
def cosine(
    *,
    num_steps: Count,
    steps_per_epoch: Count,
    learning_rate: Positive = 1e-3,
    warmup_epochs: NotNegative = 0.0,
    final_learning_rate: NotNegative = 0.0,
) -> Schedule:
    """Returns half a period of a cosine, after an optional linear rise from 0.

    final + (learning_rate - final) * (1 + cos(pi * t / T)) / 2, t counted from the warm-up's end.

    Args:
        num_steps: updates of the whole run, at which the cosine ends.
        steps_per_epoch: updates of one epoch.
        learning_rate: the highest rate.
        warmup_epochs: length of the linear rise from 0.
        final_learning_rate: the rate at the end, at most `learning_rate`.

    Returns:
        The schedule.

    Raises:
        ValueError: if the warm-up takes the whole run.

    Source:
        Loshchilov and Hutter, 2017, arXiv 1608.03983, equation 5, one cycle.
    """
    warmup_steps = round(warmup_epochs * steps_per_epoch)
    if warmup_steps >= num_steps:
        raise ValueError(
            f"schedule.warmup_epochs = {warmup_epochs}: must be below the "
            f"{num_steps / steps_per_epoch:g} epochs of the run"
        )
    decay = optax.cosine_decay_schedule(
        learning_rate, num_steps - warmup_steps, alpha=final_learning_rate / learning_rate
    )
    if warmup_steps == 0:
        return lambda step: jnp.asarray(decay(step), jnp.float32)
    rise = optax.linear_schedule(0.0, learning_rate, warmup_steps)
    joined = optax.join_schedules([rise, decay], [warmup_steps])
    return lambda step: jnp.asarray(joined(step), jnp.float32)


@checked
def triangular(
    *,
    steps_per_epoch: Count,
    learning_rate: Positive = 1e-3,
    max_learning_rate: Positive | None = None,
    half_cycle_epochs: Positive = 2.0,
) -> Schedule:
    """Returns a rate that rises and falls in straight lines between two bounds.

    learning_rate + (max_learning_rate - learning_rate) * max(0, 1 - |t / S - 2 c + 1|), cycle
    c = floor(1 + t / 2 S), half a cycle of S updates.

    Args:
        steps_per_epoch: updates of one epoch; best a whole number of cycles in the run.
        learning_rate: a cycle's lowest rate, at which it begins.
        max_learning_rate: a cycle's highest rate; None: 6 times the lowest.
        half_cycle_epochs: S in epochs, from lowest to highest (Smith: 2 to 8).

    Returns:
        The schedule.

    Source:
        Smith, 2017, arXiv 1506.01186, section 3.1.
    """
    return _cyclical(
        learning_rate,
        max_learning_rate,
        half_cycle_epochs * steps_per_epoch,
        lambda step, cycle: jnp.ones((), jnp.float32),
    )


@checked
def triangular2(
    *,
    steps_per_epoch: Count,
    learning_rate: Positive = 1e-3,
    max_learning_rate: Positive | None = None,
    half_cycle_epochs: Positive = 2.0,
) -> Schedule:
    """Returns `triangular` with its height halved at the end of each cycle.

    The height is multiplied by 2 ** -(c - 1) in cycle c = 1, 2, ...

    Args:
        steps_per_epoch: updates of one epoch; best a whole number of cycles in the run.
        learning_rate: a cycle's lowest rate.
        max_learning_rate: the highest rate of the first cycle; None: 6 times the lowest.
        half_cycle_epochs: half a cycle in epochs.

    Returns:
        The schedule.

    Source:
        Smith, 2017, arXiv 1506.01186, section 3.1.
    """
    return _cyclical(
        learning_rate,
        max_learning_rate,
        half_cycle_epochs * steps_per_epoch,
        lambda step, cycle: jnp.exp2(-cycle.astype(jnp.float32)),
    )


@checked
def exp_range(
    *,
    steps_per_epoch: Count,
    learning_rate: Positive = 1e-3,
    gamma: Annotated[float, Range(above=0.0, high=1.0)] = 0.99994,
    max_learning_rate: Positive | None = None,
    half_cycle_epochs: Positive = 2.0,
) -> Schedule:
    """Returns `triangular` with a height that falls by a factor at every update.

    The height is multiplied by gamma ** t.

    Args:
        steps_per_epoch: updates of one epoch; best a whole number of cycles in the run.
        learning_rate: a cycle's lowest rate.
        gamma: the factor of each update.
        max_learning_rate: what the height begins with; None: 6 times the lowest.
        half_cycle_epochs: half a cycle in epochs.

    Returns:
        The schedule.

    Source:
        Smith, 2017, arXiv 1506.01186, section 3.1.
    """
    # gamma ** t loses 3 digits by t = 10,000 when gamma is rounded to float32; its log does not.
    log_gamma = math.log(gamma)
    return _cyclical(
        learning_rate,
        max_learning_rate,
        half_cycle_epochs * steps_per_epoch,
        lambda step, cycle: jnp.exp(step.astype(jnp.float32) * log_gamma),
    )


def inverse_time(schedule: Schedule, decay: float) -> Schedule:
    """Returns a schedule divided by 1 + decay * t.

    Args:
        schedule: any schedule.
        decay: per update, >= 0; 0 gives `schedule`.

    Returns:
        step -> schedule(step) / (1 + decay * step).

    Source:
        Keras 2.0's optimizers, argument `decay`.
    """
    return lambda step: schedule(step) / (1.0 + decay * jnp.asarray(step, jnp.float32))


SCHEDULES: Table[Schedule] = Table(
    "schedule",
    {
        "constant": constant,
        "step": step,
        "cosine": cosine,
        "triangular": triangular,
        "triangular2": triangular2,
        "exp_range": exp_range,
    },
    supplied=("num_steps", "steps_per_epoch"),
    makes=(Callable, "a function of the step"),
)


def create(
    name: str | Schedule, *, num_steps: int, steps_per_epoch: int, **options: object
) -> Schedule:
    """Makes a schedule by name.

    Args:
        name: a name of SCHEDULES, or `package.module:maker`; or a schedule, which is returned.
        num_steps: updates of the whole run, >= 1.
        steps_per_epoch: updates of one epoch, >= 1.
        **options: the maker's own keywords.

    Returns:
        step -> learning rate.

    Raises:
        ValueError: if the name or an option is unknown, or a number is out of its range.
    """
    counts = {
        "num_steps": check_integer("num_steps", num_steps, low=1, high=MOST_STEPS),
        "steps_per_epoch": check_integer("steps_per_epoch", steps_per_epoch, low=1),
    }
    if not isinstance(name, str):
        if options:
            raise ValueError(f"a schedule that is made already has no options; got {options}")
        return name
    return SCHEDULES.create(name, options, **counts)


def _cyclical(
    low: float,
    high: float | None,
    half_cycle: float,
    height: Callable[[Array, Array], Array],
) -> Schedule:
    """Smith's cycles; `height(step, cycle)` scales them, the first cycle is 0."""
    span = 5.0 * low if high is None else high - low
    if span < 0.0:
        raise ValueError(
            f"schedule.max_learning_rate = {high}: must be at least schedule.learning_rate = {low}"
        )
    half = min(max(1, round(half_cycle)), MOST_STEPS // 2)

    def schedule(step: Array | int) -> Array:
        step = jnp.asarray(step, jnp.int32)
        # Whole numbers: exact for as long as an int32 can count.
        cycle, position = jnp.divmod(step, 2 * half)
        rise = 1.0 - jnp.abs(position - half).astype(jnp.float32) / half
        return low + span * rise * height(step, cycle)

    return schedule
