"""Losses of predictions that should agree: of several views of one image."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rbjax.typing import Array

_LEAST = 1e-7
"""The mean of the predictions is not below it, as in AugMix's code."""


def jensen_shannon(*logits: Array) -> Array:
    """Returns how far the predictions of each example's views are from their mean.

    `1/n sum_i KL(p_i || M)`, M = `1/n sum_i p_i`, p_i = softmax of the i-th logits.

    Args:
        *logits: n arrays (B, K), one a view; a class of -inf adds nothing.

    Returns:
        (B,) float32, at most log n.

    Raises:
        ValueError: for fewer than two, or other shapes.

    Source:
        Hendrycks et al. 2020, arXiv:1912.02781, section 3.
    """
    shapes = {values.shape for values in logits}
    if len(logits) < 2 or len(shapes) > 1 or any(len(shape) != 2 for shape in shapes):
        given = ", ".join(str(values.shape) for values in logits) or "nothing"
        raise ValueError(
            f"logits have the shapes {given}; they must be of two views or more, each (batch, "
            "classes), all the same"
        )
    logs = [jax.nn.log_softmax(values.astype(jnp.float32)) for values in logits]
    views = [jnp.exp(log) for log in logs]
    mean = jnp.log(jnp.clip(jnp.mean(jnp.stack(views), axis=0), _LEAST, 1.0))
    # 0 log 0 is 0: `where` keeps the NaN of an infinity out of the gradient.
    apart = [
        jnp.sum(view * jnp.where(log > -jnp.inf, log - mean, 0.0), axis=1)
        for view, log in zip(views, logs, strict=True)
    ]
    return jnp.mean(jnp.stack(apart), axis=0)
