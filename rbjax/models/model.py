"""A model: pure functions around a Flax module, with normalisation inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from rbjax import prng
from rbjax.models.head import Backbone, make_head
from rbjax.typing import Array, Key

Variables = dict[str, Any]
"""{"params": ..., and "batch_stats": ... where the model has batch norm}."""


class Model(NamedTuple):
    """Pure functions of one architecture; images are float32 (B, H, W, C) in [0, 1].

    `jax.tree_util.Partial(model.apply, variables)` is a logits function that goes through jit as
    an argument: other weights do not trace again.
    """

    name: str
    num_classes: int
    image_shape: tuple[int, int, int]
    """(H, W, C)."""
    init: Callable[[Key, Array], Variables]
    """(key, images) -> variables; of the images only the shape matters."""
    apply: Callable[[Variables, Array], Array]
    """(variables, images) -> logits (B, K) float32; running statistics, nothing random."""
    apply_train: Callable[[Variables, Array, Key], tuple[Array, Any]]
    """(variables, images, keys (B,)) -> (logits, batch_stats); the batch's statistics, dropout
    from each example's key; batch_stats is {} in a model without batch norm."""
    features: Callable[[Variables, Array], Array]
    """(variables, images) -> the penultimate layer (B, F) float32."""
    apply_with_features: (
        Callable[[Variables, Array, Key | None], tuple[Array, Array, Any]] | None
    ) = None
    """(variables, images, keys (B,) or None) -> (logits, penultimate layer, batch_stats): as
    `apply_train`, without keys as `apply`; None where no layer is known to be that one."""
    mean: tuple[float, ...] = ()
    """Per channel, what normalisation subtracts; () where that is not known."""
    std: tuple[float, ...] = ()
    """Per channel, what it divides by."""
    module: nn.Module | None = None
    """What the functions are made of, whose fields are its settings; None where that is not known.
    """

    @property
    def shapes(self) -> Variables:
        """The variables as `jax.ShapeDtypeStruct`s; nothing is computed."""
        images = jax.ShapeDtypeStruct((1, *self.image_shape), jnp.float32)
        return dict(jax.eval_shape(self.init, prng.key(0), images))


def _normalize(images: Array, mean: tuple[float, ...], std: tuple[float, ...]) -> Array:
    """Returns `(images - mean) / std` in float32."""
    centre, deviation = (jnp.asarray(constants, jnp.float32) for constants in (mean, std))
    return (images.astype(jnp.float32) - centre) / deviation


class Classifier(nn.Module):
    """Normalisation, a backbone and a head, mostly `logits = W f((x - mean) / std) + b`.

    The backbone computes in its own dtype, normalisation and head in float32. Of a backbone that
    gives features place by place, the head judges each, and the logits are the mean of their ReLU.
    """

    backbone: nn.Module
    num_classes: int
    mean: tuple[float, ...]
    """Per channel, in [0, 1] units."""
    std: tuple[float, ...]
    """Per channel, in [0, 1] units."""
    dtype: jnp.dtype

    def setup(self) -> None:
        """Makes the head."""
        self.head: Any = make_head(self.backbone, self.num_classes)

    def __call__(self, images: Array, keys: Key | None = None, *, train: bool = False) -> Array:
        """Returns the logits (B, K) of images (B, H, W, C) in [0, 1]."""
        logits, _ = self.with_features(images, keys, train=train)
        return logits

    def with_features(
        self, images: Array, keys: Key | None = None, *, train: bool = False
    ) -> tuple[Array, Array]:
        """Returns the logits (B, K) and the penultimate layer (B, F)."""
        seen = self._seen(images, keys, train=train)
        logits = self.head(seen)
        if seen.ndim == 3:
            logits = jnp.mean(nn.relu(logits), axis=1)
        return logits, seen.reshape(seen.shape[0], -1)

    def features(self, images: Array, keys: Key | None = None, *, train: bool = False) -> Array:
        """Returns the penultimate layer (B, F) of images (B, H, W, C) in [0, 1]."""
        seen = self._seen(images, keys, train=train)
        return seen.reshape(seen.shape[0], -1)

    def _seen(self, images: Array, keys: Key | None, *, train: bool) -> Array:
        """Returns what the head sees, (B, F), or place by place (B, P, F), as SqueezeNet's."""
        x = _normalize(images, self.mean, self.std)
        return self.backbone(x.astype(self.dtype), keys, train=train).astype(jnp.float32)


class Whole(nn.Module):
    """Normalisation and a module that gives the logits itself: `logits = f((x - mean) / std)`."""

    module: nn.Module
    """(images, keys, *, train) -> logits (B, K), and a method `features`."""
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Array, keys: Key | None = None, *, train: bool = False) -> Array:
        """Returns the logits (B, K) of images (B, H, W, C) in [0, 1]."""
        logits = self.module(_normalize(images, self.mean, self.std), keys, train=train)
        return logits.astype(jnp.float32)

    def features(self, images: Array, keys: Key | None = None, *, train: bool = False) -> Array:
        """Returns what the last dense layer is given, (B, F)."""
        inner: Any = self.module
        return inner.features(_normalize(images, self.mean, self.std), keys, train=train).astype(
            jnp.float32
        )


def from_module(name: str, module: Classifier | Whole, image_shape: tuple[int, int, int]) -> Model:
    """Returns the pure functions of a classifier.

    Args:
        name: the architecture's name.
        module: the classifier.
        image_shape: (H, W, C).

    Returns:
        The model; its functions are equal to themselves only, so make each model once.
    """

    def check(images: Array) -> None:
        chex.assert_shape(images, (None, *image_shape))

    is_ours = isinstance(module, Classifier) and isinstance(module.backbone, Backbone)

    def init(key: Key, images: Array) -> Variables:
        check(images)
        if is_ours:  # nothing of the images is computed, only weights are drawn
            shape = jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype)
            return dict(module.lazy_init(prng.check(key), shape))
        return dict(jax.jit(module.init)(prng.check(key), images[:1]))

    def apply(variables: Variables, images: Array) -> Array:
        check(images)
        logits: Any = module.apply(variables, images)
        return logits

    def apply_train(variables: Variables, images: Array, keys: Key) -> tuple[Array, Any]:
        check(images)
        chex.assert_shape(keys, (images.shape[0],))
        logits, updated = module.apply(variables, images, keys, train=True, mutable=["batch_stats"])
        return logits, updated.get("batch_stats", {})

    def features(variables: Variables, images: Array) -> Array:
        check(images)
        penultimate: Any = module.apply(variables, images, method="features")
        return penultimate

    def apply_with_features(
        variables: Variables, images: Array, keys: Key | None = None
    ) -> tuple[Array, Array, Any]:
        check(images)
        both, updated = module.apply(
            variables,
            images,
            keys,
            train=keys is not None,
            method="with_features",
            mutable=["batch_stats"] if keys is not None else [],
        )
        return *both, updated.get("batch_stats", {})

    return Model(
        name,
        module.num_classes,
        image_shape,
        init,
        apply,
        apply_train,
        features,
        apply_with_features,
        module.mean,
        module.std,
        module,
    )
