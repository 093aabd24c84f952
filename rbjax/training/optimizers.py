"""Optimizers as optax transformations, and the moving average of the weights.

Every one is a chain: clip the gradient, add the weight decay, scale by the method, scale by the
learning rate.  Weight decay acts on kernels alone, never on biases nor on a norm's scale.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rbjax.inputs import check_real
from rbjax.options import NotNegative, Positive, Range, Share, checked
from rbjax.tables import Table, is_path
from rbjax.training import schedules
from rbjax.training.schedules import Schedule
from rbjax.typing import Array

PyTree = Any

Decay = Annotated[float, Range(low=0.0, below=1.0)]
"""Of an average."""


@checked
def sgd(
    schedule: Schedule,
    *,
    weight_decay: NotNegative = 0.0,
    momentum: Share = 0.9,
    nesterov: bool = False,
) -> optax.GradientTransformation:
    """Returns stochastic gradient descent with momentum.

    v = momentum * v + g; p -= rate * v, or with Nesterov's form p -= rate * (g + momentum * v).

    Args:
        schedule: the learning rate.
        weight_decay: w in g + w * p of kernels (half of Keras' L2 factor, PyTorch's own).
        momentum: decay of the velocity.
        nesterov: whether the step looks ahead.

    Returns:
        The transformation.

    Source:
        Sutskever et al., 2013, "On the importance of initialization and momentum in deep learning".
    """
    return optax.chain(
        _weight_decay(weight_decay),
        optax.trace(momentum, nesterov=nesterov),
        scale_by_schedule(schedule),
    )


@checked
def adam(
    schedule: Schedule,
    *,
    weight_decay: NotNegative = 0.0,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    epsilon: Positive = 1e-8,
) -> optax.GradientTransformation:
    """Returns Adam; weight decay is part of the gradient.

    Args:
        schedule: the learning rate.
        weight_decay: w in g + w * p of kernels.
        b1: decay of the gradient's average.
        b2: decay of its square's average.
        epsilon: added to the root.

    Returns:
        The transformation.

    Source:
        Kingma and Ba, 2015, arXiv 1412.6980, algorithm 1.
    """
    return optax.chain(
        _weight_decay(weight_decay),
        optax.scale_by_adam(b1=b1, b2=b2, eps=epsilon),
        scale_by_schedule(schedule),
    )


@checked
def adamw(
    schedule: Schedule,
    *,
    weight_decay: NotNegative = 0.0,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    epsilon: Positive = 1e-8,
) -> optax.GradientTransformation:
    """Returns Adam with decoupled weight decay: p -= rate * (adam + weight_decay * p).

    Args:
        schedule: the learning rate.
        weight_decay: of kernels, decoupled: per unit of learning rate.
        b1: decay of the gradient's average.
        b2: decay of its square's average.
        epsilon: added to the root.

    Returns:
        The transformation.

    Source:
        Loshchilov and Hutter, 2019, arXiv 1711.05101, algorithm 2.
    """
    return optax.chain(
        optax.scale_by_adam(b1=b1, b2=b2, eps=epsilon),
        _weight_decay(weight_decay),
        scale_by_schedule(schedule),
    )


@checked
def rmsprop(
    schedule: Schedule,
    *,
    weight_decay: NotNegative = 0.0,
    decay: NotNegative = 0.0,
    rho: Decay = 0.9,
    epsilon: Positive = 1e-8,
) -> optax.GradientTransformation:
    """Returns RMSProp as Keras 2.0 has it.

    a = rho * a + (1 - rho) * g ** 2 from a = 0; p -= rate / (1 + decay * t) * g / (sqrt(a) +
    epsilon), t the updates made so far.

    Args:
        schedule: the learning rate.
        weight_decay: w in g + w * p of kernels.
        decay: of the learning rate, rate / (1 + decay * t).
        rho: decay of the square's average.
        epsilon: added to the root (optax's default has it under the root).

    Returns:
        The transformation.

    Source:
        Tieleman and Hinton, 2012, Coursera lecture 6.5; Keras 2.0's `RMSprop`.
    """
    return optax.chain(
        _weight_decay(weight_decay),
        optax.scale_by_rms(decay=rho, eps=epsilon, initial_scale=0.0, eps_in_sqrt=False),
        scale_by_schedule(schedules.inverse_time(schedule, decay)),
    )


OPTIMIZERS: Table[optax.GradientTransformation] = Table(
    "optimizer",
    {"sgd": sgd, "adam": adam, "adamw": adamw, "rmsprop": rmsprop},
    positional=1,
    makes=(optax.GradientTransformation, "an optax.GradientTransformation"),
)
"""Name -> maker, whose first argument is the schedule."""


def create(
    name: str | optax.GradientTransformation,
    schedule: Schedule,
    *,
    gradient_clip: float | None = None,
    **options: object,
) -> optax.GradientTransformation:
    """Makes an optimizer by name.

    Args:
        name: a name of OPTIMIZERS, or `package.module:maker` whose first argument is the schedule,
            such as `optax:lion`; or a transformation, whose learning rate is its own.
        schedule: updates made so far -> learning rate.
        gradient_clip: largest global norm of the gradient, before weight decay, > 0; None for any.
        **options: the optimizer's own keywords.

    Returns:
        The transformation; its `update` needs the parameters.

    Raises:
        ValueError: if the name or an option is unknown, or a number is out of its range.
    """
    if gradient_clip is not None and check_real("optimizer.gradient_clip", gradient_clip) == 0.0:
        raise ValueError("optimizer.gradient_clip is 0.0; it must be above 0, or absent")
    if not isinstance(name, str):
        if options:
            raise ValueError(f"an optimizer that is made already has no options; got {options}")
        optimizer = name
    elif is_path(name):  # the rate is for the log: another's state may not hold it
        optimizer = optax.chain(OPTIMIZERS.create(name, options, schedule), log_rate(schedule))
    else:
        optimizer = OPTIMIZERS.create(name, options, schedule)
    if gradient_clip is None:
        return optimizer
    return optax.chain(optax.clip_by_global_norm(gradient_clip), optimizer)


class ScaleByScheduleState(NamedTuple):
    """What `scale_by_schedule` remembers."""

    count: Array
    """() int32, updates made."""
    learning_rate: Array
    """() float32, the rate of the last update; before the first, of the first."""


def scale_by_schedule(schedule: Schedule) -> optax.GradientTransformation:
    """Returns updates times minus the learning rate, which the state keeps for the log.

    Args:
        schedule: updates made so far -> learning rate.

    Returns:
        The transformation.
    """

    def init(params: PyTree) -> ScaleByScheduleState:
        del params
        count = jnp.zeros((), jnp.int32)
        return ScaleByScheduleState(count, jnp.asarray(schedule(count), jnp.float32))

    def update(
        updates: PyTree, state: PyTree, params: PyTree | None = None
    ) -> tuple[PyTree, ScaleByScheduleState]:
        del params
        rate = jnp.asarray(schedule(state.count), jnp.float32)
        updates = jax.tree.map(lambda u: (-rate * u).astype(u.dtype), updates)
        count = jnp.asarray(optax.safe_increment(state.count))
        return updates, ScaleByScheduleState(count, rate)

    return optax.GradientTransformation(init, update)


def log_rate(schedule: Schedule) -> optax.GradientTransformation:
    """Returns updates as they are, beside a state that keeps the learning rate for the log."""
    scale = scale_by_schedule(schedule)

    def update(
        updates: PyTree, state: PyTree, params: PyTree | None = None
    ) -> tuple[PyTree, ScaleByScheduleState]:
        return updates, scale.update(updates, state, params)[1]  # type: ignore[return-value]

    return optax.GradientTransformation(scale.init, update)


def learning_rate(opt_state: optax.OptState) -> Array:
    """Returns the learning rate of the last update, for the log.

    Args:
        opt_state: the state of an optimizer of `create`.

    Returns:
        () float32; before the first update, the rate of the first; NaN of an optimizer that was
        made elsewhere.
    """
    is_ours = lambda node: isinstance(node, ScaleByScheduleState)  # noqa: E731
    states = [state for state in jax.tree.leaves(opt_state, is_leaf=is_ours) if is_ours(state)]
    return states[-1].learning_rate if states else jnp.asarray(jnp.nan, jnp.float32)


def kernel_mask(params: PyTree) -> PyTree:
    """Says which parameters weight decay acts on: those called "kernel".

    Args:
        params: a tree of arrays.

    Returns:
        The same tree of booleans.

    Raises:
        ValueError: if there is no kernel, so that weight decay would do nothing in silence.
    """

    def is_kernel(path: tuple[Any, ...], _: Any) -> bool:
        return jax.tree_util.keystr(path[-1:], simple=True) == "kernel"

    mask = jax.tree_util.tree_map_with_path(is_kernel, params)
    if not any(jax.tree.leaves(mask)):
        names = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(params)]
        raise ValueError(
            "optimizer.weight_decay is set and no parameter is called 'kernel'; the first of "
            f"{len(names)} parameters: {', '.join(names[:3])}"
        )
    return mask


def ema_update(ema: PyTree, params: PyTree, step: Array | int, decay: float) -> PyTree:
    """Moves an exponential moving average towards the parameters.

    ema + (1 - d) * (params - ema), d = min(decay, (1 + t) / (10 + t)), so that the first, random
    weights are soon forgotten.

    Args:
        ema: a tree of arrays.
        params: a tree of the same structure, shapes and dtypes.
        step: t, updates made before this one, >= 0.
        decay: in [0, 1].

    Returns:
        The new average, in the dtypes of `ema`; it shares no buffer with either tree.

    Source:
        TensorFlow 1's `tf.train.ExponentialMovingAverage` with `num_updates`.
    """
    step = jnp.asarray(step, jnp.float32)
    weight = 1.0 - jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(
        lambda old, new: (old + weight * (new - old)).astype(old.dtype), ema, params
    )


def _weight_decay(weight_decay: float) -> optax.GradientTransformation:
    if weight_decay == 0.0:
        return optax.identity()
    return optax.add_decayed_weights(weight_decay, mask=kernel_mask)
