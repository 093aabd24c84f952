"""Free adversarial training: one pass gives the gradients of the weights and of the images."""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp

from rbjax.attacks.norms import project, steepest
from rbjax.options import Count, Epsilon, StepSize, checked
from rbjax.training.method import Method, MethodState, Seen, Setting
from rbjax.typing import Array, Key, LogitsFn


@checked
def free(
    *,
    epsilon: Epsilon = 8 / 255,
    step_size: StepSize | None = None,
    num_replays: Count = 8,
    norm: Literal["linf", "l2"] = "linf",
) -> Method:
    """Returns free adversarial training.

    Each batch is descended `num_replays` times.  Every time, one pass at clip(x + delta, 0, 1)
    gives both gradients; the weights descend theirs, and

    delta <- project(delta + step_size * steepest(grad loss)).

    Row i of a batch has a delta of its own, which goes on from batch to batch, whichever image
    comes to stand there: it begins at 0 and is never reset.  The schedule counts descents: for the
    cost of standard training divide the number of epochs by `num_replays`.

    Nothing is crafted apart, so that there is no batch norm of crafting: the one pass has the
    batch's own.  Nor is there weight perturbation, whose pass would double every replay's cost.

    Args:
        epsilon: radius of the ball; at most 1 in linf, any positive size in l2.
        step_size: length of delta's step; None: epsilon, as in the paper.
        num_replays: descents on each batch, the paper's m: 8 on CIFAR-10, 4 on ImageNet.
        norm: of the ball; the paper's is linf.

    Returns:
        The method; its state is the delta of each row, (B, H, W, C).

    Source:
        Shafahi et al. 2019, arXiv:1904.12843, algorithm 1.
    """
    length = epsilon if step_size is None else step_size

    def init(key: Key, setting: Setting) -> MethodState:
        del key
        delta = jnp.zeros((setting.num_rows, *setting.model.image_shape), jnp.float32)
        return MethodState(replicated=(), per_row=delta)

    def inputs(
        logits_fn: LogitsFn, keys: Key, state: MethodState, images: Array, labels: Array
    ) -> Array:
        del logits_fn, keys, labels
        return jnp.clip(images + state.per_row, 0.0, 1.0)

    def update(seen: Seen, input_gradients: Array, shared: None) -> MethodState:
        del shared
        moved = seen.state.per_row + length * steepest(input_gradients, norm)
        return seen.state._replace(per_row=project(moved, epsilon, norm))

    return Method(init=init, inputs=inputs, update=update, replays=num_replays)
