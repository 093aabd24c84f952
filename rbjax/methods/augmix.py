"""AugMix: images mixed with chains of random operations, and predictions that agree on them."""

from __future__ import annotations

from typing import Annotated

import jax.numpy as jnp

from rbjax import prng
from rbjax.data.augmix import augmix as views_of
from rbjax.data.augmix import check_channels
from rbjax.losses import consistency
from rbjax.methods.idle import refuse_idle
from rbjax.options import Count, NotNegative, Positive, Range, checked
from rbjax.training.method import Method, MethodState, Seen, Setting
from rbjax.typing import Array, Key, LogitsFn


@checked
def augmix(
    *,
    severity: Annotated[float, Range(low=0.1, high=10.0)] = 3.0,
    width: Count = 3,
    depth: Count | None = None,
    alpha: Positive = 1.0,
    all_ops: bool = False,
    jensen_shannon: bool = True,
    divergence_weight: NotNegative = 12.0,
) -> Method:
    """Returns AugMix training.

    min_w E loss(f_w(x), y) + lambda JS(f_w(x), f_w(x'), f_w(x'')), x' and x'' two AugMix views of x
    after its flip and crop, all three through the network as one batch.

    Args:
        severity: the largest level of the operations; the authors take 3 for CIFAR's images and 1
            for ImageNet's.
        width: chains of operations that are mixed.
        depth: operations a chain; None: 1, 2 or 3, drawn.
        alpha: of the Dirichlet and beta distributions of the mixing weights.
        all_ops: whether color, contrast, brightness and sharpness are operations too; they resemble
            corruptions of ImageNet-C.
        jensen_shannon: whether predictions have to agree; without, the network sees one view alone
            and the loss is the config's.
        divergence_weight: of the Jensen-Shannon divergence; only with `jensen_shannon`.

    Returns:
        The method; it remembers nothing between steps.

    Raises:
        ValueError: for a weight without the divergence; by `init`, for all operations on images of
            other than 1 or 3 channels.

    Source:
        Hendrycks et al. 2020, arXiv:1912.02781, section 3 and algorithm 1.
    """
    if not jensen_shannon:
        refuse_idle(augmix, "jensen_shannon = true", divergence_weight=divergence_weight)
    options = {"severity": severity, "width": width, "depth": depth}
    options |= {"alpha": alpha, "all_ops": all_ops}

    def init(key: Key, setting: Setting) -> MethodState:
        del key
        check_channels(setting.model.image_shape[-1], all_ops=all_ops)  # before anything is run
        return MethodState((), ())

    def inputs(
        logits_fn: LogitsFn, keys: Key, state: MethodState, images: Array, labels: Array
    ) -> Array | tuple[Array, Array, Array]:
        del logits_fn, state, labels
        if not jensen_shannon:
            return views_of(keys, images, **options)
        both = jnp.concatenate([prng.per_draw(keys, draw) for draw in (0, 1)])
        first, second = jnp.split(views_of(both, jnp.concatenate([images] * 2), **options), 2)
        return images, first, second

    def loss(seen: Seen) -> Array:
        logits = [output.logits for output in seen.outputs]
        divergence = consistency.jensen_shannon(*logits)
        return seen.task_loss(logits[0]) + divergence_weight * divergence

    own = loss if jensen_shannon else None
    return Method(init=init, inputs=inputs, loss=own, softmax=jensen_shannon, together=True)
