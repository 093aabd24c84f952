"""Class-wise universal adversarial training: a perturbation a class, learnt beside the weights."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from rbjax.methods.by_class import class_counts, class_sums
from rbjax.methods.universal import Climber
from rbjax.options import Epsilon, Positive, StepSize, checked
from rbjax.training.method import Method, MethodState, Seen, Setting
from rbjax.typing import Array, Key, LogitsFn


@checked
def classwise_universal(
    *,
    epsilon: Epsilon = 8 / 255,
    step_size: StepSize | None = None,
    norm: Literal["linf", "l2"] = "linf",
    form: Literal["simultaneous", "alternating"] = "simultaneous",
    ascent: Literal["steepest", "adam"] = "steepest",
    loss_clip: Positive | None = None,
) -> Method:
    """Returns universal adversarial training with a perturbation for each class.

    min_w sum_c max_{|delta_c| <= epsilon} E_{y = c} loss(f_w(clip(x + delta_c)), c).  As
    `universal` in all else: delta_c climbs the gradients of the images of class c in the whole
    batch.  A class that a batch lacks keeps its perturbation and its moments.

    Args:
        epsilon: radius of each ball; at most 1 in linf, any positive size in l2.
        step_size: length of a step, and Adam's learning rate; None: epsilon, as for `universal`.
        norm: of the balls.
        form: "simultaneous" takes both gradients from one pass; "alternating" takes those of the
            perturbations after the weights' step.
        ascent: "steepest" is the sign in linf, g / ||g|| in l2; "adam" gives each value a step of
            its own size.
        loss_clip: each delta_c climbs min(loss, loss_clip); None: the plain loss.

    Returns:
        The method; its state is a `Perturbation` with delta (K, H, W, C), which for K classes takes
        the memory of K images, and with Adam of 3 K.

    Source:
        Benz et al. 2021, "Universal Adversarial Training with Class-Wise Perturbations", ICME:
        algorithm 4 of Shafahi et al. 2020, arXiv:1811.11304, with a perturbation a class.
    """
    climber = Climber(epsilon, step_size, norm, ascent, loss_clip)

    def init(key: Key, setting: Setting) -> MethodState:
        del key
        model = setting.model
        each = jax.vmap(lambda _: climber.start(model.image_shape))(jnp.arange(model.num_classes))
        return MethodState(replicated=each, per_row=())

    def inputs(
        logits_fn: LogitsFn, keys: Key, state: MethodState, images: Array, labels: Array
    ) -> Array:
        del logits_fn, keys
        return jnp.clip(images + state.replicated.delta[labels], 0.0, 1.0)

    def gradient(seen: Seen, input_gradients: Array) -> tuple[Array, Array]:
        num_classes = len(seen.state.replicated.delta)
        totals = class_sums(seen.labels, climber.counted(seen, input_gradients), num_classes)
        return totals, class_counts(seen.labels, num_classes)

    def update(seen: Seen, input_gradients: Array, sums: tuple[Array, Array]) -> MethodState:
        del input_gradients
        before, (gradients, counts) = seen.state.replicated, sums

        def if_present(new: Array, old: Array) -> Array:
            return jnp.where(counts.reshape(-1, *[1] * (new.ndim - 1)) > 0, new, old)

        climbed = jax.vmap(climber.climb)(before, gradients)
        return seen.state._replace(replicated=jax.tree.map(if_present, climbed, before))

    return Method(
        init=init,
        inputs=inputs,
        gradient=gradient,
        update=update,
        alternating=form == "alternating",
    )
