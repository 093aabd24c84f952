"""Universal adversarial training: one perturbation for all images, learnt beside the weights."""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp

from rbjax.attacks.norms import project, steepest
from rbjax.options import Epsilon, Positive, StepSize, checked
from rbjax.training.method import Method, MethodState, Seen, Setting
from rbjax.typing import Array, Key, LogitsFn


@checked
def universal(
    *,
    epsilon: Epsilon = 8 / 255,
    step_size: StepSize | None = None,
    norm: Literal["linf", "l2"] = "linf",
    form: Literal["simultaneous", "alternating"] = "simultaneous",
    loss_clip: Positive | None = None,
) -> Method:
    """Returns universal adversarial training.

    min_w max_{|delta| <= epsilon} E loss(f_w(clip(x + delta)), y).  The weights descend the loss;
    then delta <- project(delta + step_size * steepest(E grad loss)), with the gradient averaged
    over the whole batch before its sign is taken.  delta lives through all of training.

    The network sees clip(x + delta, 0, 1), and the gradient is taken at that clipped image: a
    pixel at the edge of the box still moves delta.

    Args:
        epsilon: radius of the ball; at most 1 in linf, any positive size in l2.
        step_size: length of delta's step; None: epsilon, as in the paper.
        norm: of the ball.
        form: "simultaneous" takes both gradients from one pass (algorithm 4, no dearer than
            standard training); "alternating" takes delta's after the weights' step (algorithm 3).
        loss_clip: delta climbs min(loss, loss_clip), so that examples already lost stop counting;
            None is the plain loss, as the paper trains with.

    Returns:
        The method; its state is delta, (H, W, C).

    Source:
        Shafahi et al. 2020, arXiv:1811.11304, algorithms 3 and 4.
    """
    length = epsilon if step_size is None else step_size

    def init(key: Key, setting: Setting) -> MethodState:
        del key
        delta = jnp.zeros(setting.model.image_shape, jnp.float32)
        return MethodState(replicated=delta, per_row=())

    def inputs(
        logits_fn: LogitsFn, keys: Key, state: MethodState, images: Array, labels: Array
    ) -> Array:
        del logits_fn, keys, labels
        return jnp.clip(images + state.replicated, 0.0, 1.0)

    def gradient(seen: Seen, input_gradients: Array) -> Array:
        if loss_clip is not None:
            climbing = (seen.losses < loss_clip)[:, None, None, None]
            input_gradients = jnp.where(climbing, input_gradients, 0.0)
        return jnp.sum(input_gradients, axis=0)

    def update(seen: Seen, input_gradients: Array, mean_gradient: Array) -> MethodState:
        del input_gradients
        delta = seen.state.replicated + length * steepest(mean_gradient[None], norm)[0]
        return seen.state._replace(replicated=project(delta[None], epsilon, norm)[0])

    return Method(
        init=init,
        inputs=inputs,
        gradient=gradient,
        update=update,
        alternating=form == "alternating",
    )
