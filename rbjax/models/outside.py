"""A Flax Linen module of one's own as a model of ours.

The module is given normalised images (B, H, W, C), float32.  It may have fields `num_classes`,
`image_shape`, `dtype` and `axis_name`, which are filled in where it is named in a config; none of
them is demanded.  Its `__call__` may take `train` (or `training`, `is_training`), `deterministic`
or `use_running_average`, and `keys`, one key an example.  What it returns are the logits where they
are (B, K); otherwise features, flattened, that a dense head follows.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rbjax import prng
from rbjax.errors import a_type
from rbjax.models.model import Classifier, Whole
from rbjax.tables import reason
from rbjax.typing import Array, Key

_TRAINS = ("train", "training", "is_training")
_DOES_NOT_TRAIN = ("deterministic", "use_running_average")


class Adapted(nn.Module):
    """A module of one's own behind our call, (x, keys, *, train)."""

    module: nn.Module

    @nn.compact
    def __call__(self, x: Array, keys: Key | None = None, *, train: bool = False) -> Array:
        """Returns what the module does; a `nn.Dropout` in it draws from each example's key."""
        parameters = inspect.signature(type(self.module).__call__).parameters
        modes: dict[str, Any] = {name: train for name in _TRAINS if name in parameters}
        modes |= {name: not train for name in _DOES_NOT_TRAIN if name in parameters}
        if "keys" in parameters:
            modes["keys"] = keys
        if not callable(self.module):
            raise ValueError(f"model {type(self.module).__name__} has no __call__")
        with _dropout_by_example(keys):
            return self.module(x, **modes)

    def features(self, x: Array, keys: Key | None = None, *, train: bool = False) -> Array:
        """Returns what the last dense layer is given, (B, F); without one, the logits."""
        given: list[Array] = []

        def record(next_function: Any, args: Any, kwargs: Any, context: Any) -> Any:
            if isinstance(context.module, nn.Dense) and context.method_name == "__call__":
                given.append(args[0])
            return next_function(*args, **kwargs)

        with nn.intercept_methods(record):
            logits = self(x, keys, train=train)
        return (given or [logits])[-1].reshape(x.shape[0], -1)


class Flat(nn.Module):
    """An adapted module whose features are flattened, for a head to follow."""

    module: Adapted

    def __call__(self, x: Array, keys: Key | None = None, *, train: bool = False) -> Array:
        """Returns what the module does, (B, F)."""
        return self.module(x, keys, train=train).reshape(x.shape[0], -1)


def adapt(
    module: nn.Module,
    name: str,
    num_classes: int,
    image_shape: tuple[int, int, int],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    dtype: jnp.dtype,
) -> Classifier | Whole:
    """Returns a module of one's own as a classifier.

    Args:
        module: any Flax Linen module whose `__call__` takes images (B, H, W, C).
        name: what it is called, for messages.
        num_classes: K.
        image_shape: (H, W, C).
        mean: per channel, subtracted first.
        std: per channel, divided by.
        dtype: what features are computed in, where a head follows.

    Raises:
        ValueError: if it is no such module, cannot be called, or gives what has no batch axis.
    """
    if not isinstance(module, nn.Module):
        raise ValueError(f"model {name!r} makes {a_type(module)}; it must be a flax.linen.Module")
    adapted = Adapted(module)
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
    try:
        made, variables = jax.eval_shape(adapted.init_with_output, prng.key(0), images)
    except Exception as error:
        raise ValueError(f"model {name!r} on images {image_shape}: {reason(error)}") from error
    if getattr(made, "shape", ())[:1] != (2,):
        raise ValueError(f"model {name!r} returns {made}; it must be an array of one row an image")

    def train(variables: Any, images: Any) -> Any:
        keys = prng.split(prng.key(0), 2)
        return adapted.apply(variables, images, keys, train=True, mutable=["batch_stats"])

    try:
        jax.eval_shape(train, variables, images)
        jax.eval_shape(adapted.apply, variables, images)
    except Exception as error:
        raise ValueError(
            f"model {name!r} cannot be trained: it may change no collection but batch_stats, and "
            f"draw random numbers in nn.Dropout or from its `keys` only; {reason(error)}"
        ) from error
    if made.shape == (2, num_classes):
        return Whole(adapted, num_classes, mean, std)
    return Classifier(Flat(adapted), num_classes, mean, std, dtype)


@contextlib.contextmanager
def _dropout_by_example(keys: Key | None) -> Iterator[None]:
    """Has each `nn.Dropout` draw an example's mask from its own key: any batch, any device."""
    if keys is None:
        yield
        return
    layers = 0

    def draw(next_function: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        nonlocal layers
        module = context.module
        if not isinstance(module, nn.Dropout) or context.method_name != "__call__":
            return next_function(*args, **kwargs)
        x, rate = args[0], float(module.rate)
        off = kwargs.get("deterministic", args[1] if len(args) > 1 else None)
        if (module.deterministic if off is None else off) or rate == 0.0:
            return x
        shape = [1 if axis in module.broadcast_dims else x.shape[axis] for axis in range(1, x.ndim)]
        layer, layers = layers, layers + 1
        kept = jax.vmap(lambda key: prng.bernoulli(prng.fold_in(key, layer), 1.0 - rate, shape))(
            keys
        )
        return jnp.where(kept, x / (1.0 - rate), jnp.zeros_like(x))

    with nn.intercept_methods(draw):
        yield
