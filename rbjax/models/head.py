"""The last layer: linear, or cosines between the features and a direction for each class."""

from __future__ import annotations

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp

from rbjax.options import NotNegative, Positive, cached_options, validate
from rbjax.typing import Array

_SCALE = 30.0
_LEAST_NORM = 1e-12


class Backbone(nn.Module):
    """What every architecture has: images -> features, and which head follows them.

    Source: Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss",
    2019, arXiv:1906.07413, for the cosine head and its scale; Wu et al., "Adversarial Robustness
    under Long-Tailed Distribution", 2021, arXiv:2104.02703, for gamma.
    """

    head: Literal["linear", "cosine"] = "linear"
    """The last layer; cosine: between features and each class's weights, without a bias."""
    head_scale: Positive | None = None
    """What a cosine head multiplies its cosines by; 30, as LDAM (RoBal: 10)."""
    head_gamma: NotNegative | None = None
    """What a cosine head adds to the norm of each class's weights; 0 (RoBal: 1/32)."""

    def __post_init__(self) -> None:
        own = cached_options(type(self))
        given = {name: getattr(self, name) for name in own if name not in ("parent", "name")}
        validate(own, given)
        for name in ("head_scale", "head_gamma"):
            if self.head == "linear" and given[name] is not None:
                raise ValueError(
                    f"{name} is {given[name]:g}: belongs to a cosine head, and head is 'linear'"
                )
        super().__post_init__()


class Cosine(nn.Module):
    """`z_c = s (w_c / (|w_c| + gamma)) . (f / |f|)`, without a bias."""

    num_classes: int
    scale: float
    gamma: float

    @nn.compact
    def __call__(self, features: Array) -> Array:
        """Returns the logits (..., K) of features (..., F), float32."""
        shape = (features.shape[-1], self.num_classes)
        kernel: Any = self.param("kernel", nn.initializers.lecun_normal(), shape, jnp.float32)
        kernel = kernel / (_norm(kernel, axis=0) + self.gamma)
        return self.scale * (features / _norm(features, axis=-1)) @ kernel


def make_head(backbone: nn.Module, num_classes: int) -> nn.Module:
    """Returns the head that a backbone asks for; one that says nothing gets a linear one."""
    if getattr(backbone, "head", "linear") != "cosine":
        return nn.Dense(num_classes, dtype=jnp.float32)
    scale, gamma = (getattr(backbone, name, None) for name in ("head_scale", "head_gamma"))
    return Cosine(num_classes, scale=logit_scale("cosine", scale), gamma=gamma or 0.0)


def logit_scale(head: str | None, head_scale: float | None) -> float:
    """Returns what a head multiplies cosines by; 1 for one that is not a cosine head.

    Args:
        head: of a model's options; None where it has no such option.
        head_scale: likewise.
    """
    return (head_scale or _SCALE) if head == "cosine" else 1.0


def _norm(x: Array, *, axis: int) -> Array:
    """Returns l2 norms of at least 1e-12, with a gradient of 0 where they are less."""
    return jnp.sqrt(jnp.maximum(jnp.sum(x**2, axis=axis, keepdims=True), _LEAST_NORM**2))
