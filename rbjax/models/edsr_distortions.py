"""DeepAugment's distortions of EDSR: of its activations, and of the weights of its blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from rbjax import prng
from rbjax.models.image_to_image import (
    Params,
    choose,
    convolve,
    entry_of,
    negate_filters,
    random_mask,
)
from rbjax.typing import Array, Key

_DRAWS = 3
"""Distortions of the weights in one draw, with replacement."""

# ---------------------------------------------------------------- activations

HEAD_DISTORTIONS = ("copy channels", "zero", "negate", "none")
"""Of what the head gives, by the number that is drawn: five channels become copies of others; 5 %
of the activations 0; 2.5 % their negatives."""

BODY_DISTORTIONS = ("negate", "rectify", "flip", "skip", "none")
"""Inside the body: its negative; a ReLU or GELU; channels and rows, or channels and columns,
reversed; up to three layers left out."""


def distort_head(key: Key, x: Array, distortion: Array | int | None = None) -> Array:
    """Returns one image's activations after the head, distorted.

    Args:
        key: one key.
        x: (H, W, F).
        distortion: a place in `HEAD_DISTORTIONS`; None: drawn.
    """
    chosen, own = prng.split(prng.named(key, "head"))
    if distortion is None:
        distortion = prng.randint(chosen, (), 0, len(HEAD_DISTORTIONS))
    width = x.shape[-1]

    def copied() -> Array:
        source = jnp.arange(width)
        for to, of in prng.randint(own, (5, 2), 0, width):
            source = source.at[to].set(source[of])
        return x[..., source]

    def zeroed() -> Array:
        return x * prng.bernoulli(own, 0.95, x.shape)

    def negated() -> Array:
        return jnp.where(prng.bernoulli(own, 0.975, x.shape), x, -x)

    return jax.lax.switch(distortion, [copied, zeroed, negated, lambda: x])


def distort_body(key: Key, x: Array, distortion: Array | int) -> Array:
    """Returns one image's activations inside the body, distorted; "skip" is not done here.

    Args:
        key: one key.
        x: (H, W, F).
        distortion: a place in `BODY_DISTORTIONS`.
    """
    is_first = prng.bernoulli(key, 1 / 3)
    rectified = partial(jnp.where, is_first, nn.relu(x), nn.gelu(x, approximate=False))
    flipped = partial(jnp.where, is_first, x[::-1, :, ::-1], x[:, ::-1, ::-1])
    return jax.lax.switch(distortion, [lambda: -x, rectified, flipped, lambda: x, lambda: x])


# ---------------------------------------------------------------- weights

_Weights = tuple[Array, Array]
"""Kernels (N, 2, 3, 3, I, O) and biases (N, 2, O) of the blocks."""


def distort_weights(key: Key, params: Params) -> Params:
    """Returns weights with three random entries of `WEIGHT_DISTORTIONS` applied.

    Args:
        key: one key.
        params: of `EDSR`.
    """
    weights = params["kernels"], params["biases"]
    for draw in prng.split(key, _DRAWS):
        chosen, own = prng.split(draw)
        weights = entry_of(WEIGHT_DISTORTIONS, chosen)(own, *weights)
    return {**params, "kernels": weights[0], "biases": weights[1]}


def _block(key: Key, kernels: Array, places: Sequence[int]) -> int:
    """Returns one of the published blocks, of those that there are."""
    return int(choose(key, [place for place in places if place < len(kernels)]))


def _in_five(
    change: Callable[[Key, Array], Array], kernels: Array, key: Key, *, of: int | None = None
) -> Array:
    """Returns kernels with a change of five layers: the first of their blocks, or either.

    Blocks are drawn with replacement from all but the last.
    """
    for draw in prng.split(key, 5):
        place, layer, own = prng.split(draw, 3)
        i = int(choose(place, range(min(15, len(kernels) - 1))))
        j = int(choose(layer, (0, 1))) if of is None else of
        kernels = kernels.at[i, j].set(change(own, kernels[i, j]))
    return kernels


def _reverse(key: Key, kernels: Array, biases: Array) -> _Weights:
    i = _block(key, kernels, _THIRD)
    return kernels.at[i].set(kernels[i][..., ::-1]), biases.at[i].set(biases[i][..., ::-1])


def _negate(key: Key, kernels: Array, biases: Array) -> _Weights:
    i = _block(key, kernels, (1, 4, 7))
    return kernels.at[i, 0].multiply(-1), biases.at[i, 0].multiply(-1)


def _zero(key: Key, kernels: Array, biases: Array) -> _Weights:
    i = _block(key, kernels, _THIRD)
    return kernels.at[i, 0].set(0), biases.at[i, 0].set(0)


def _gelu(key: Key, kernels: Array, biases: Array) -> _Weights:
    i = _block(key, kernels, _THIRD)
    return kernels.at[i].set(-nn.gelu(kernels[i], approximate=False)), biases


def _times(taps: Sequence[Sequence[float]], key: Key, kernels: Array, biases: Array) -> _Weights:
    i = _block(key, kernels, _THIRD)
    return kernels.at[i, 0].multiply(jnp.asarray(taps, kernels.dtype)[..., None, None]), biases


def _scale(key: Key, kernels: Array, biases: Array) -> _Weights:
    place, size, each = prng.split(key, 3)
    i = _block(place, kernels, _THIRD)
    sizes = 4 * prng.uniform(size) * prng.uniform(each, kernels.shape[2:])
    return kernels.at[i, 1].multiply(1 + sizes), biases


def _mirror(key: Key, kernels: Array, biases: Array) -> _Weights:
    i = _block(key, kernels, _THIRD)
    return kernels.at[i, 0].set(kernels[i, 0][:, ::-1]).at[i, 1].multiply(-1), biases


def _convolve_with_shifts(key: Key, kernels: Array, biases: Array) -> _Weights:
    place, shift, sign = prng.split(key, 3)
    i, width = _block(place, kernels, (1, 5, 9)), kernels.shape[-1]
    rows, columns = prng.randint(shift, (2, width), 0, 3)
    taps = jnp.zeros((3, 3, width), kernels.dtype).at[rows, columns, jnp.arange(width)]
    taps = taps.set(prng.rademacher(sign, (width,)))
    return _convolve_kernel(kernels, (i, 0), jnp.repeat(taps[..., None], width, -1)), biases


def _convolve_with_noise(key: Key, kernels: Array, biases: Array) -> _Weights:
    place, size, each = prng.split(key, 3)
    noise = (2 * prng.uniform(size) * prng.uniform(each, kernels.shape[2:]) - 1) / 6
    return _convolve_kernel(kernels, (_block(place, kernels, _THIRD), 0), noise), biases


def _convolve_with_dirichlet(key: Key, kernels: Array, biases: Array) -> _Weights:
    place, each = prng.split(key)
    width = kernels.shape[-1]
    taps = jax.nn.softmax(prng.log_gamma(each, 0.1, (width, width, 9)))
    taps = jnp.moveaxis(taps, -1, 0).reshape(3, 3, width, width)
    return _convolve_kernel(kernels, (_block(place, kernels, (1, 5, 9)), 1), taps), biases


def _add_noise(key: Key, kernels: Array, biases: Array) -> _Weights:
    place, each = prng.split(key)
    i = _block(place, kernels, range(min(15, len(kernels) - 1)))
    return kernels.at[i, 1].add(prng.uniform(each, kernels.shape[2:]) - 0.5), biases


def _rotate(key: Key, kernels: Array, biases: Array) -> _Weights:
    planes = ((0, 1), (3, 2))  # of a filter, or of its outputs and inputs

    def change(key: Key, kernel: Array) -> Array:
        turns, plane = (prng.bits(key, (2,)) % jnp.array([3, 2])).tolist()
        return jnp.rot90(kernel, turns + 1, planes[plane])

    return _in_five(change, kernels, key), biases


def _mask(is_sign: bool, key: Key, kernels: Array, biases: Array) -> _Weights:
    change = partial(random_mask, is_sign=is_sign)
    return _in_five(change, kernels, key, of=0), biases


def _negate_filters(key: Key, kernels: Array, biases: Array) -> _Weights:
    change = partial(negate_filters, count=-(-kernels.shape[-1] // 2))  # 32 of 64
    return _in_five(change, kernels, key, of=0), biases


def _keep_largest(key: Key, kernels: Array, biases: Array) -> _Weights:
    def change(key: Key, kernel: Array) -> Array:
        del key
        flat = kernel.reshape(9, *kernel.shape[-2:])
        return (flat * jax.nn.one_hot(jnp.argmax(flat, 0), 9, axis=0, dtype=flat.dtype)).reshape(
            kernel.shape
        )

    return _in_five(change, kernels, key), biases


def _convolve_kernel(kernels: Array, at: tuple[int, int], taps: Array) -> Array:
    """Returns kernels, of which one is convolved: each of its filters is an image to the taps."""
    images = jnp.moveaxis(kernels[at], -1, 0)
    return kernels.at[at].set(jnp.moveaxis(convolve(images, taps), 0, -1))


_THIRD = (0, 3, 6, 9)
_CROSS = ((0, 1, 0), (1, -4, 1), (0, 1, 0))
_RING = ((-1, -1, -1), (-1, 8, -1), (-1, -1, -1))

WEIGHT_DISTORTIONS: dict[str, Callable[[Key, Array, Array], _Weights]] = {
    "reverse channels": _reverse,
    "negate": _negate,
    "zero": _zero,
    "negative gelu": _gelu,
    "times laplacian": partial(_times, _CROSS),
    "times laplacian of eight": partial(_times, _RING),
    "scale": _scale,
    "mirror and negate": _mirror,
    "convolve with shifts": _convolve_with_shifts,
    "convolve with noise": _convolve_with_noise,
    "convolve with dirichlet": _convolve_with_dirichlet,
    "add noise": _add_noise,
    "rotate": _rotate,
    "random signs": partial(_mask, True),
    "random mask": partial(_mask, False),
    "negate filters": _negate_filters,
    "keep the largest tap": _keep_largest,
}
"""The published list in its order, of the residual blocks' (key, kernels, biases)."""
