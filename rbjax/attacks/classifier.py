"""What an attack asks of a model: logits, and gradients of what it climbs.

A randomised model answers with the mean over several draws, here and nowhere else, so that every
attack works on one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from rbjax import checks, prng
from rbjax.convolution import loop_safe
from rbjax.typing import Array, Key, LogitsFn, RandomizedFn

Objective = Callable[[Array], Array]
"""logits (B, K) -> what is climbed, (B,)."""


@partial(jax.tree_util.register_dataclass, data_fields=["fn"], meta_fields=["num_samples"])
@dataclasses.dataclass(frozen=True)
class Randomized:
    """A randomised classifier, as `randomized` makes it; attacks take it as a logits function."""

    fn: Any
    """(keys (B,), images) -> logits, a `Partial`."""
    num_samples: int

    def __call__(self, keys: Key, images: Array) -> Array:
        """Returns the mean logits (B, K) over `num_samples` draws of each image's key."""
        shape = jax.eval_shape(self.fn, keys, images)

        def add(draw: Array, total: Array) -> Array:
            return total + self.fn(prng.per_draw(keys, draw), images).astype(jnp.float32)

        total = jax.lax.fori_loop(0, self.num_samples, add, jnp.zeros(shape.shape, jnp.float32))
        return total / self.num_samples


def randomized(fn: RandomizedFn, *, num_samples: int = 20) -> Randomized:
    """Returns a randomised classifier in the form that attacks take in place of a logits function.

    Attacks climb the mean of the loss over `num_samples` draws, and judge an image by the class of
    the mean logits over as many draws that were not used to craft it (expectation over
    transformation).

    Args:
        fn: (keys (B,), images (B, H, W, C)) -> logits (B, K): what is random of an image follows
            from its key. With `jax.tree_util.Partial(apply, variables)` new weights do not compile
            again.
        num_samples: draws of each answer; AutoAttack's version for randomised defences takes 20.

    Returns:
        The classifier.

    Raises:
        ValueError: if `num_samples` is below 1.

    Source:
        Athalye, Carlini, Wagner 2018, arXiv:1802.00420, section 4.2.
    """
    checks.integer("num_samples", num_samples, low=1)
    return Randomized(as_partial(fn), num_samples)


Model = LogitsFn | Randomized
"""What an attack can be called on."""


class Gradient(NamedTuple):
    """What a pass forwards and backwards gives."""

    loss: Array
    """(B,) what is climbed."""
    logits: Array
    """(B, K) float32."""
    gradient: Array
    """(B, H, W, C) of each example's loss in its own image."""


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A model under attack; its weights are not differentiated."""

    model: Partial | Randomized
    num_classes: int
    dtype: jnp.dtype
    """Of the images that the model sees; attacks move float32 ones."""

    def logits(self, keys: Key, images: Array) -> Array:
        """Returns the logits (B, K), float32; the mean over its draws of a randomised model.

        Args:
            keys: (B,) keys; only a randomised model draws from them.
            images: (B, H, W, C).
        """
        images = images.astype(self.dtype)
        if isinstance(self.model, Randomized):
            return self.model(keys, images)
        logits = self.model(images).astype(jnp.float32)
        chex.assert_shape(logits, (images.shape[0], self.num_classes))
        return logits

    def value_and_grad(self, objective: Objective, keys: Key, images: Array) -> Gradient:
        """Returns each example's loss, logits and gradient; means over its draws if randomised.

        Args:
            objective: logits (B, K) -> (B,).
            keys: (B,) keys, other ones in each step of an attack.
            images: (B, H, W, C) float32.
        """

        def total(images: Array, fn: Callable[[Array], Array]) -> tuple[Array, tuple[Array, Array]]:
            logits = fn(images.astype(self.dtype)).astype(jnp.float32)
            losses = objective(logits)
            # The sum, not the mean: an example's gradient does not depend on its batch.
            return jnp.sum(losses), (losses, logits)

        def once(fn: Callable[[Array], Array]) -> Gradient:
            gradient, (losses, logits) = jax.grad(partial(total, fn=fn), has_aux=True)(images)
            return Gradient(losses, logits, gradient)

        return self._mean(once, keys)

    def logits_and_gradients(
        self, functionals: Array, keys: Key, images: Array
    ) -> tuple[Array, Array]:
        """Returns each example's logits, and its gradients of several sums of them.

        One pass forwards and one backwards a sum: those of sum_k functionals[b, m, k] z_k in the
        image b; means over its draws if randomised.

        Args:
            functionals: (B, M, K) float32.
            keys: (B,) keys, other ones in each step of an attack.
            images: (B, H, W, C) float32.

        Returns:
            (B, K) float32 and (B, M, H, W, C) float32.
        """

        def once(fn: Callable[[Array], Array]) -> tuple[Array, Array]:
            logits, backwards = jax.vjp(
                lambda images: fn(images.astype(self.dtype)).astype(jnp.float32), images
            )
            gradients = jax.lax.map(lambda row: backwards(row)[0], jnp.moveaxis(functionals, 1, 0))
            return logits, jnp.moveaxis(gradients, 0, 1)

        return self._mean(once, keys)

    def _mean[T](self, once: Callable[[Callable[[Array], Array]], T], keys: Key) -> T:
        """Returns what `once` gives of the model, or its mean over the draws of a randomised one.

        Args:
            once: (images -> logits) -> a pytree of float32 arrays.
            keys: (B,) keys.
        """
        model = self.model
        if not isinstance(model, Randomized):
            return once(model)

        def drawn(draw: Array | int) -> T:
            return once(lambda images: model.fn(prng.per_draw(keys, draw), images))

        def add(draw: Array, sums: T) -> T:
            return jax.tree.map(jnp.add, sums, drawn(draw))

        shapes = jax.eval_shape(drawn, 0)
        zeros = jax.tree.map(lambda part: jnp.zeros(part.shape, part.dtype), shapes)
        sums = jax.lax.fori_loop(0, model.num_samples, add, zeros)
        return jax.tree.map(lambda x: x / model.num_samples, sums)


def classifier(model: Partial | Randomized, images: Array) -> Classifier:
    """Returns a model as attacks use it, its convolutions fast in loops and its weights constant.

    Args:
        model: as `as_model` gives it.
        images: (B, H, W, C), of whose shape and dtype it will be asked.
    """
    model = jax.tree.map(jax.lax.stop_gradient, model)
    if isinstance(model, Randomized):
        model = Randomized(loop_safe(model.fn), model.num_samples)
    else:
        model = loop_safe(model)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), images.shape[0]))
    arguments = (keys, images) if isinstance(model, Randomized) else (images,)
    logits = jax.eval_shape(model, *arguments)
    return Classifier(model, logits.shape[-1], images.dtype)


def as_model(model: Model) -> Partial | Randomized:
    """Returns a model as a pytree: of a plain function, the function is part of its structure."""
    return model if isinstance(model, Randomized) else as_partial(model)


def as_partial(fn: Callable) -> Partial:
    """Returns a function as a pytree without leaves; a `Partial` as it is."""
    return fn if isinstance(fn, Partial) else Partial(fn)
