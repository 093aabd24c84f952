"""ANT's noise generators: small networks that make noise of normal numbers, not of an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rbjax import prng
from rbjax.convolution import loop_safe
from rbjax.typing import Array, Key

_WIDTH = 20
_INITIAL = nn.initializers.normal(0.01)


class NoiseGenerator(NamedTuple):
    """Pure functions of one generator."""

    init: Callable[[Key], Any]
    """(key) -> parameters, with which the noise is nearly the normal numbers themselves."""
    apply: Callable[[Any, Array], Array]
    """(parameters, codes) -> noise (B, H, W, C), of no particular size."""
    code_shape: tuple[int, int, int]
    """Of the code of one image."""

    def codes(self, keys: Key) -> Array:
        """Returns the normal numbers (B, *code_shape) that noise is made of."""
        return jax.vmap(lambda key: prng.normal(key, self.code_shape))(keys)


class _Layers(nn.Module):
    """Four convolutions, added to the code's centre; the second one has the kernel."""

    channels: int
    kernel: int

    @nn.compact
    def __call__(self, codes: Array) -> Array:
        x = nn.relu(nn.Dense(_WIDTH, kernel_init=_INITIAL)(codes))
        if self.kernel == 1:
            x = nn.Dense(_WIDTH, kernel_init=_INITIAL)(x)
        else:
            size = (self.kernel, self.kernel)
            x = nn.Conv(_WIDTH, size, padding="VALID", kernel_init=_INITIAL)(x)
        x = nn.relu(nn.Dense(_WIDTH, kernel_init=_INITIAL)(nn.relu(x)))
        edge = self.kernel // 2
        inner = slice(edge, -edge or None)
        return nn.Dense(self.channels, kernel_init=_INITIAL)(x) + codes[:, inner, inner]


def noise_generator(*, image_shape: Sequence[int], kernel: Literal[1, 3] = 1) -> NoiseGenerator:
    """Returns a generator of noise: of each pixel by itself, or with its neighbours.

    A pixel's C normal numbers go through layers of 20, 20, 20 and C, with ReLU between, and are
    added to the result.  983 parameters for three channels, 4,183 with neighbours.

    Args:
        image_shape: (H, W, C).
        kernel: 1, ANT1x1; 3, ANT3x3, whose code has a border of one pixel around the image.

    Returns:
        The generator; its weights begin as normal numbers of deviation 0.01, its biases as 0.

    Source:
        Rusak et al. 2020, arXiv:2001.06057; initial weights as in the authors' code.
    """
    height, width, channels = image_shape
    layers, border = _Layers(channels, kernel), 2 * (kernel // 2)
    code_shape = (height + border, width + border, channels)

    @jax.jit
    def init(key: Key) -> Any:
        return layers.init(key, jnp.zeros((1, *code_shape)))["params"]

    def apply(params: Any, codes: Array) -> Array:
        return jnp.asarray(layers.apply({"params": params}, codes))

    return NoiseGenerator(init, loop_safe(apply), code_shape)
