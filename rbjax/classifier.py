"""The one type that a model has: logits, means over draws, and gradients of what is climbed.

Every entry point takes what a person has (a function, a `Partial`, a randomised classifier) and
turns it into a `Classifier` by `as_classifier`. Whether anything is random in it makes no
difference from there on.

What class an answer is, `predicted` says for all of rbjax. A row of logits that holds a NaN, or
nothing but one infinity, is of no class (`NO_CLASS`): wrong whatever the label, and fooled. Of all
others the class is the first of the largest logits, infinite ones among them.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from rbjax import captures, modules, prng, processes
from rbjax import journal as journals
from rbjax.black_box import BlackBox, on_the_host
from rbjax.captures import Compiled, is_plain
from rbjax.convolution import loop_safe
from rbjax.inputs import NO_CLASS, check_integer
from rbjax.programs import PlainFunction
from rbjax.typing import Array, Key, RandomizedFn

Objective = Callable[[Array], Array]
"""logits (B, K) -> what is climbed, (B,)."""

_STEEPEST = 1e30
"""Largest value of a gradient, so that sums of them are finite."""


def predicted(logits: Array | np.ndarray) -> Array:
    """Returns the class of each row: the first of its largest logits, or `NO_CLASS`.

    Args:
        logits: (B, K).

    Returns:
        (B,) int32; -1 where a row holds a NaN, or one and the same infinity K times.
    """
    # The difference of two equal infinities is a NaN, as is that of anything and a NaN.
    is_none = jnp.isnan(jnp.max(logits, axis=-1) - jnp.min(logits, axis=-1))
    return jnp.where(is_none, NO_CLASS, jnp.argmax(logits, axis=-1)).astype(jnp.int32)


def changed(predictions: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """Returns which predictions are of another class than the clean ones, (N,) bool.

    An answer of no class is another one than any, also than one of no class.
    """
    return (predictions != clean) | (predictions == NO_CLASS)


class Gradient(NamedTuple):
    """What a pass forwards and backwards gives."""

    loss: Array
    """(B,) what is climbed."""
    logits: Array
    """(B, K) float32."""
    gradient: Array
    """(B, H, W, C) of each example's loss in its own image; finite, see `value_and_grad`."""
    broken: Array
    """(B,) float32, share of its draws whose gradient was not."""


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["fn"],
    meta_fields=["num_samples", "is_random", "dtype", "num_classes"],
)
@dataclasses.dataclass(frozen=True)
class Classifier:
    """A model as rbjax asks it; `as_classifier` and `attacks.randomized` make it.

    A pytree of the model's weights, so that new weights do not compile anything again.
    """

    fn: Any
    """images (B, H, W, C) -> logits (B, K); (keys (B,), images) -> logits where it is random."""
    num_samples: int = 1
    """Draws whose mean is an answer."""
    is_random: bool = False
    dtype: Any = None
    """Of the images that the model sees; None: as they come."""
    num_classes: int = 0
    """K, once it is asked about images; 0 before."""

    def asked_about(self, images: Array) -> Classifier:
        """Returns the classifier inside a compiled function: gradients stop at its weights.

        Its convolutions are fast inside loops, and its dtype and number of classes are known.

        Args:
            images: (B, H, W, C), of whose shape and dtype it will be asked.
        """
        fn = loop_safe(jax.tree.map(jax.lax.stop_gradient, self.fn))
        arguments = (_keys_for(images), images) if self.is_random else (images,)
        shape = self._checked(jax.eval_shape(fn, *arguments).shape, images)
        return dataclasses.replace(self, fn=fn, dtype=images.dtype, num_classes=shape[-1])

    def in_loops(self) -> Classifier:
        """Returns the classifier with convolutions whose gradients are fast inside loops."""
        return dataclasses.replace(self, fn=loop_safe(self.fn))

    def deterministic(self) -> Classifier:
        """Returns the classifier, if nothing is random in it.

        Raises:
            ValueError: if it is randomised.
        """
        if self.is_random:
            raise ValueError(
                "logits_fn is a randomised classifier; this estimate is of one function of the "
                "images: fix the keys, such as lambda images: fn(keys, images)"
            )
        return self

    def predictions(self, keys: Key | None, images: Array) -> Array:
        """Returns the class of each image, (B,) int32; see `predicted` and `logits`."""
        return predicted(self.logits(keys, images))

    def logits(self, keys: Key | None, images: Array) -> Array:
        """Returns the logits (B, K), float32: the mean over the draws.

        Args:
            keys: (B,) keys; only a randomised model draws from them.
            images: (B, H, W, C).
        """
        images = images if self.dtype is None else images.astype(self.dtype)
        logits = self._mean(lambda fn: fn(images).astype(jnp.float32), keys)
        self._checked(logits.shape, images)
        return logits

    def value_and_grad(self, objective: Objective, keys: Key, images: Array) -> Gradient:
        """Returns each example's loss, logits and gradient: means over the draws.

        In a gradient 0 stands for a NaN, and no value is beyond 1e30.

        Args:
            objective: logits (B, K) -> (B,).
            keys: (B,) keys, other ones in each step of an attack.
            images: (B, H, W, C) float32.
        """

        def total(images: Array, fn: Callable[[Array], Array]) -> tuple[Array, Any]:
            logits = fn(images.astype(self.dtype)).astype(jnp.float32)
            losses = objective(logits)
            # The sum, not the mean: an example's gradient does not depend on its batch.
            return jnp.sum(losses), (losses, logits)

        def once(fn: Callable[[Array], Array]) -> Gradient:
            gradient, (losses, logits) = jax.grad(total, has_aux=True)(images, fn)
            is_broken = ~jnp.all(jnp.isfinite(gradient), axis=(1, 2, 3))
            return Gradient(losses, logits, finite(gradient), is_broken.astype(jnp.float32))

        return self._mean(once, keys)

    def logits_and_gradients(
        self, functionals: Array, keys: Key, images: Array
    ) -> tuple[Array, Array]:
        """Returns each example's logits, and its gradients of several sums of them.

        One pass forwards and one backwards a sum: those of sum_k functionals[b, m, k] z_k in the
        image b; means over the draws. Gradients are finite, as those of `value_and_grad`.

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
            return logits, finite(jnp.moveaxis(gradients, 0, 1))

        return self._mean(once, keys)

    def _mean[T](self, once: Callable[[Callable[[Array], Array]], T], keys: Key | None) -> T:
        """Returns the mean over the draws of what `once` gives of the model.

        Args:
            once: (images -> logits) -> a pytree of float32 arrays.
            keys: (B,) keys.
        """
        if not self.is_random:
            return once(self.fn)
        if keys is None:
            raise ValueError("a randomised classifier needs keys, one for each image")

        def drawn(draw: Array | int) -> T:
            return once(functools.partial(self.fn, prng.per_draw(keys, draw)))

        shapes = jax.eval_shape(drawn, 0)
        zeros = jax.tree.map(lambda part: jnp.zeros(part.shape, part.dtype), shapes)
        sums = jax.lax.fori_loop(
            0, self.num_samples, lambda draw, sums: jax.tree.map(jnp.add, sums, drawn(draw)), zeros
        )
        return jax.tree.map(lambda x: x / self.num_samples, sums)

    def identity(self, asked: Array) -> str:
        """Returns what a journal knows it by: what it computes of a few images."""
        keys = prng.split(prng.key(0), len(asked))
        return journals.identity(functools.partial(self.logits, keys), asked)

    def count_classes(self, images: Array | jax.ShapeDtypeStruct) -> int:
        """Returns the number of classes.

        Args:
            images: (B, H, W, C), of which the shape and dtype are read.

        Raises:
            ValueError: if the logits have another shape than (B, K), or the model is no JAX
                function.
        """
        try:
            arguments = (_keys_for(images), images) if self.is_random else (images,)
            shape = _logits_struct(self, *arguments).shape
        except jax.errors.TracerArrayConversionError:
            raise ValueError(
                "logits_fn turns its images into numpy arrays, which JAX cannot trace; give a "
                "function of JAX arrays, or score a black box: rpr.black_box(predict)"
            ) from None
        return self._checked(shape, images)[-1]

    def _checked(
        self, shape: tuple[int, ...], images: Array | jax.ShapeDtypeStruct
    ) -> tuple[int, int]:
        """Returns the shape of logits; raises a ValueError if it is none, or of one class."""
        what = "the randomised classifier" if self.is_random else "logits_fn"
        num_images, start = images.shape[0], f"{what} gives shape {shape}"
        if shape in ((num_images,), (num_images, 1)):
            raise ValueError(
                f"{start}, one logit an image; it must give one a class, (B, num_classes) with at "
                "least two: of a logit z of class 1 jnp.stack([0 * z, z], axis=-1), z of shape (B,)"
            )
        if len(shape) != 2 or shape[0] != num_images or shape[1] < 2:
            raise ValueError(
                f"{start}; it must be ({num_images}, num_classes), with at least two classes"
            )
        return shape[0], shape[1]

    def placed(self, where: Any) -> Classifier:
        """Returns the classifier with its weights on devices, as `jax.device_put` puts them.

        What a plain function captures is put there when it is traced.
        """

        def place(leaf: Any) -> Any:
            return PlainFunction(leaf.fn, where) if is_plain(leaf) else processes.put(leaf, where)

        return jax.tree.map(place, self, is_leaf=is_plain)

    def of_the_moment(self) -> Classifier:
        """Returns the classifier without traces of earlier calls; as it is, once it is placed."""

        def renew(leaf: Any) -> Any:
            return PlainFunction(leaf.fn) if is_plain(leaf) and leaf.placement is None else leaf

        return jax.tree.map(renew, self, is_leaf=is_plain)


Model = Callable[..., Array] | Classifier | BlackBox
"""What a person has: images -> logits, a `jax.tree_util.Partial`, a randomised classifier, or
a black box where no gradient is needed."""


def as_classifier(model: Model) -> Classifier:
    """Returns a model as a classifier.

    A plain function is traced at each call: what it captures then (weights in a closure, in
    a global, or in an object whose method it is) becomes arguments, equal programs share one
    compilation, and nothing is kept of it afterwards. So an answer is always that of the weights
    of the moment, those of jitted functions that the model calls among them. A loop over batches
    keeps the classifier that this returns, and its trace; a randomised one, once it is `placed`.

    A `jax.tree_util.Partial` is not traced again: its function is known by its identity, and its
    arrays are arguments. If that function reads arrays or numbers of its own that may change (in
    a closure, a global, or an object whose method it is) it counts as a plain one.

    Args:
        model: images (B, H, W, C) in [0, 1] -> logits (B, K), or a classifier.

    Raises:
        ValueError: if it cannot be called, or is a black box of an unknown number of classes.
    """
    if isinstance(model, Classifier):
        return model.of_the_moment() if model.is_random else model  # a person may keep it
    if isinstance(model, BlackBox):
        model = on_the_host(model)
    return Classifier(_as_pytree(model, "logits_fn"))


def randomized(fn: RandomizedFn, *, num_samples: int = 20) -> Classifier:
    """Returns a randomised classifier, for every place that takes a logits function.

    Attacks climb the mean of the loss over `num_samples` draws, and judge an image by the class of
    the mean logits over as many draws that were not used to craft it (expectation over
    transformation).

    Args:
        fn: (keys (B,), images (B, H, W, C)) -> logits (B, K): what is random of an image follows
            from its key. With `jax.tree_util.Partial(apply, variables)` it is not traced again.
        num_samples: draws of each answer; AutoAttack's version for randomised defences takes 20.

    Returns:
        The classifier.

    Raises:
        ValueError: if `num_samples` is below 1.

    Source:
        Athalye, Carlini, Wagner 2018, arXiv:1802.00420, section 4.2.
    """
    check_integer("num_samples", num_samples, low=1)
    return Classifier(_as_pytree(fn, "fn"), num_samples, is_random=True)


def _as_pytree(model: Any, field: str) -> Any:
    """Returns a `Partial` whose function reads no state as it is; all else as plain."""
    if not callable(model):
        raise ValueError(
            f"{field} is a {type(model).__name__}; it must be a function of images that gives "
            "logits, or jax.tree_util.Partial(apply, variables); of another library's model "
            "rbjax.wrap(model) makes one"
        )
    if modules.lacks_variables(model):
        raise ValueError(
            f"{field} is a Flax module without its variables; give "
            "jax.tree_util.Partial(module.apply, variables)"
        )
    if isinstance(model, Partial) and not captures.reads_state(model.func):
        same = modules.one_of_equals(model.func)
        return model if same is model.func else Partial(same, *model.args, **model.keywords)
    return Partial(operator.call, PlainFunction(cast("Callable[..., Array]", model)))


def finite(gradient: Array) -> Array:
    """Returns a gradient with 0 for what is NaN, and nothing larger than `_STEEPEST`."""
    return jnp.clip(jnp.where(jnp.isnan(gradient), 0.0, gradient), -_STEEPEST, _STEEPEST)


def answer(model: Classifier, keys: Key, images: Array) -> Array:
    """Returns the logits (B, K), float32: the one program that decides what class an image is.

    An image that holds a NaN has no class, whatever the model makes of it.

    Args:
        model: the classifier.
        keys: (B,) keys; only a randomised model draws from them.
        images: (B, H, W, C).
    """
    return _answer(model, keys if model.is_random else None, images)


@Compiled
@jax.jit
def _answer(model: Classifier, keys: Key | None, images: Array) -> Array:
    is_image = jnp.isfinite(jnp.sum(images.astype(jnp.float32), axis=(1, 2, 3)))
    return jnp.where(is_image[:, None], model.logits(keys, images), jnp.nan)


def classify(model: Classifier, keys: Key, images: Array) -> Array:
    """Returns the class of each image, (B,) int32, as `predicted` of its `answer`."""
    return _predicted(answer(model, keys, images))


_predicted = jax.jit(predicted)
keys_of = jax.jit(prng.per_example)
"""(key, ids (B,)) -> (B,) keys."""


@jax.jit
def _logits(classifier: Classifier, *arguments: Any) -> Array:
    return classifier.fn(*arguments)


_logits_struct = Compiled(_logits.eval_shape)
"""A `Partial` is traced once for the same shapes."""


def _keys_for(images: Array | jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """Returns what (B,) keys look like."""
    dtype = jax.eval_shape(lambda: prng.key(0)).dtype
    return jax.ShapeDtypeStruct(images.shape[:1], dtype)
