"""Universal adversarial training: one perturbation for all images, learnt beside the weights."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax.numpy as jnp

from rbjax.attacks.norms import RULES, project, steepest
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
    ascent: Literal["steepest", "adam"] = "steepest",
    loss_clip: Positive | None = None,
) -> Method:
    """Returns universal adversarial training.

    min_w max_{|delta| <= epsilon} E loss(f_w(clip(x + delta)), y).  The weights descend the loss;
    then delta <- project(delta + step_size * direction(E grad loss)), with the gradient averaged
    over the whole batch before its direction is taken.  delta lives through all of training.

    The network sees clip(x + delta, 0, 1), and the gradient is taken at that clipped image: a
    pixel at the edge of the box still moves delta.  Nothing is crafted apart, so that there is no
    batch norm of crafting, nor weight perturbation, whose passes would double the cost.

    Args:
        epsilon: radius of the ball; at most 1 in linf, any positive size in l2.
        step_size: length of delta's step; None: epsilon, as in the paper.  It is Adam's learning
            rate, too, which the sources at hand do not give: epsilon, so that its first step is
            that of the sign, is a choice of ours.
        norm: of the ball.
        form: "simultaneous" takes both gradients from one pass (algorithm 4, no dearer than
            standard training); "alternating" takes delta's after the weights' step (algorithm 3).
        ascent: "steepest" is the sign in linf, g / ||g|| in l2; "adam" (decays 0.9 and 0.999) gives
            each value a step of its own size, and its moments live as long as delta.
        loss_clip: delta climbs min(loss, loss_clip), so that examples already lost stop counting;
            None is the plain loss, as the paper trains with.

    Returns:
        The method; its state is a `Perturbation` with delta (H, W, C).

    Source:
        Shafahi et al. 2020, arXiv:1811.11304, algorithms 3 and 4.
    """
    climber = Climber(epsilon, step_size, norm, ascent, loss_clip)

    def init(key: Key, setting: Setting) -> MethodState:
        del key
        return MethodState(replicated=climber.start(setting.model.image_shape), per_row=())

    def inputs(
        logits_fn: LogitsFn, keys: Key, state: MethodState, images: Array, labels: Array
    ) -> Array:
        del logits_fn, keys, labels
        return jnp.clip(images + state.replicated.delta, 0.0, 1.0)

    def gradient(seen: Seen, input_gradients: Array) -> Array:
        return jnp.sum(climber.counted(seen, input_gradients), axis=0)

    def update(seen: Seen, input_gradients: Array, mean_gradient: Array) -> MethodState:
        del input_gradients
        climbed = climber.climb(seen.state.replicated, mean_gradient)
        return seen.state._replace(replicated=climbed)

    return Method(
        init=init,
        inputs=inputs,
        gradient=gradient,
        update=update,
        alternating=form == "alternating",
    )


class Perturbation(NamedTuple):
    """What is learnt beside the weights."""

    delta: Array
    """(H, W, C), in pixel units."""
    memory: Any
    """What its ascent remembers: nothing, or Adam's moments."""


class Climber(NamedTuple):
    """How a perturbation that lives through all of training climbs the loss."""

    epsilon: float
    step_size: float | None
    """None: epsilon."""
    norm: str
    ascent: str
    """A name in `norms.RULES`."""
    loss_clip: float | None

    def start(self, shape: tuple[int, ...]) -> Perturbation:
        """Returns a perturbation of 0, of the shape of one image."""
        delta = jnp.zeros(shape, jnp.float32)
        return Perturbation(delta, RULES[self.ascent].init(delta))

    def counted(self, seen: Seen, input_gradients: Array) -> Array:
        """Returns each image's gradient (B, H, W, C), 0 where its loss is clipped."""
        if self.loss_clip is None:
            return input_gradients
        is_climbing = (seen.losses < self.loss_clip)[:, None, None, None]
        return jnp.where(is_climbing, input_gradients, 0.0)

    def climb(self, before: Perturbation, gradient: Array) -> Perturbation:
        """Returns the perturbation after one step along a gradient (H, W, C)."""
        rule = RULES[self.ascent]
        memory, ahead = rule.step(before.memory, gradient)
        if not rule.is_direction:
            ahead = steepest(ahead[None], self.norm)[0]
        length = self.epsilon if self.step_size is None else self.step_size
        moved = before.delta + length * ahead
        return Perturbation(project(moved[None], self.epsilon, self.norm)[0], memory)
