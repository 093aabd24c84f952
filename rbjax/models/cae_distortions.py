"""DeepAugment's distortions of the CAE: of its code, and of its weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

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

# ---------------------------------------------------------------- the code


def sample_bits(key: Key, code: Array) -> Array:
    """Returns -1 or 1, of mean `code` where that is in [-1, 1]."""
    return jnp.where(prng.uniform(key, code.shape) <= (1 + code) / 2, 1.0, -1.0)


CODE_DISTORTIONS = (
    "scale",
    "zero",
    "negate",
    "permute channels",
    "flip five channels",
    "flip",
    "convolve with noise",
    "mix channels",
    "shift channels",
)
"""The published list in its order: after the bits are drawn, times 3 to 7; before, 20 % of the
places 0; 10 % negative; ten channels permuted; five channels, or all, mirrored in one axis or both;
convolved with the identity and noise in (-0.1, 0.1), with the identity and in half of the channels
one tap of another, or with a shift by up to a place."""


def distort_code(key: Key, code: Array, distortion: Array | int | None = None) -> Array:
    """Returns one image's bits, from a distorted code.

    Args:
        key: one key.
        code: (h, w, F) in [-1, 1].
        distortion: a place in `CODE_DISTORTIONS`; None: drawn.

    Returns:
        (h, w, F), -1 or 1, or what "scale" makes of them.
    """
    chosen, own, bits = prng.split(prng.named(key, "code"), 3)
    if distortion is None:
        distortion = prng.randint(chosen, (), 0, len(CODE_DISTORTIONS))
    branches = [partial(change, own, code) for change in (_keep, *_CHANGES)]
    sampled = sample_bits(bits, jax.lax.switch(distortion, branches))
    size, each = prng.split(own)
    sizes = 3 + 4 * prng.uniform(size) * prng.uniform(each, code.shape)
    scaled = (sampled + 1) * sizes - 1  # the bits are 0 and 1 where they are scaled
    return jnp.where(distortion == CODE_DISTORTIONS.index("scale"), scaled, sampled)


def _keep(key: Key, code: Array) -> Array:
    del key
    return code


def _zero(key: Key, code: Array) -> Array:
    return code * prng.bernoulli(key, 0.8, code.shape[:2])[..., None]


def _negate(key: Key, code: Array) -> Array:
    return jnp.where(prng.bernoulli(key, 0.9, code.shape[:2])[..., None], code, -code)


def _permute(key: Key, code: Array) -> Array:
    number = min(10, code.shape[-1])
    return code.at[..., :number].set(code[..., prng.permutation(key, number)])


def _flip_five(key: Key, code: Array) -> Array:
    axes, which = prng.split(key)
    # One that is drawn twice is mirrored twice.
    counts = jnp.zeros(code.shape[-1], int)
    counts = counts.at[prng.randint(which, (5,), 0, code.shape[-1])].add(1)
    return jnp.where(counts % 2 == 1, _flip(axes, code), code)


def _flip_all(key: Key, code: Array) -> Array:
    return _flip(prng.split(key)[0], code)


def _flip(key: Key, code: Array) -> Array:
    return jax.lax.switch(
        prng.randint(key, (), 0, 3),
        [lambda: code[::-1], lambda: code[:, ::-1], lambda: code[::-1, ::-1]],
    )


def _convolve(code: Array, taps: Array) -> Array:
    return convolve(code[None], taps)[0]


def _identity(code: Array) -> Array:
    number = code.shape[-1]
    return (
        jnp.zeros((3, 3, number, number), code.dtype)
        .at[1, 1]
        .set(jnp.eye(number, dtype=code.dtype))
    )


def _add_taps(key: Key, code: Array) -> Array:
    noise = 0.2 * (prng.uniform(key, (3, 3, *code.shape[-1:] * 2)) - 0.5)
    return _convolve(code, _identity(code) + noise)


def _mix(key: Key, code: Array) -> Array:
    whether, other, shift = prng.split(key, 3)
    number, channels = code.shape[-1], jnp.arange(code.shape[-1])
    rows, columns = prng.randint(shift, (2, number), 0, 3)
    source = prng.randint(other, (number,), 0, number)
    is_mixed = prng.bernoulli(whether, shape=(number,)).astype(code.dtype)
    taps = _identity(code)
    return _convolve(code, taps.at[rows, columns, source, channels].max(is_mixed))


def _shift(key: Key, code: Array) -> Array:
    redraw, shift = prng.split(key)
    number, channels = code.shape[-1], jnp.arange(code.shape[-1])
    rows, columns = prng.randint(shift, (2, number), 0, 3)
    # A channel shares the shift of the one before it, and one in five draws its own.
    starts = prng.bernoulli(redraw, 0.2, (number,)).at[0].set(True)
    latest = jax.lax.cummax(jnp.where(starts, channels, 0))
    taps = jnp.zeros((3, 3, number, number), code.dtype)
    return _convolve(code, taps.at[rows[latest], columns[latest], channels, channels].set(1))


_CHANGES = (
    _zero,
    _negate,
    _permute,
    _flip_five,
    _flip_all,
    _add_taps,
    _mix,
    _shift,
)


# ---------------------------------------------------------------- weights


def distort_weights(key: Key, params: Params) -> Params:
    """Returns weights with a random entry of `WEIGHT_DISTORTIONS` applied.

    Args:
        key: one key.
        params: of `CAE`.
    """
    chosen, own = prng.split(key)
    return entry_of(WEIGHT_DISTORTIONS, chosen)(own, params)


_Change = Callable[[Key, Array, Array], tuple[Array, Array]]
"""(key, kernel (h, w, I, O), bias (O,)) -> the same, distorted.  A transposed convolution's kernel
is (h, w, O, I): published filters are its first axis in PyTorch, which is its input's."""


def _in_one_of(layers: Sequence[int], change: _Change, key: Key, params: Params) -> Params:
    """Returns weights of which one layer is changed."""
    place, own = prng.split(key)
    number = int(choose(place, layers))
    kernel, bias = params[f"layer_{number}"]["kernel"], params[f"layer_{number}"]["bias"]
    if number == _TRANSPOSED:
        kernel, bias = change(own, jnp.swapaxes(kernel, 2, 3), bias)
        kernel = jnp.swapaxes(kernel, 2, 3)
    else:
        kernel, bias = change(own, kernel, bias)
    return {**params, f"layer_{number}": {"kernel": kernel, "bias": bias}}


def _reverse(key: Key, kernel: Array, bias: Array) -> tuple[Array, Array]:
    del key
    return kernel[..., ::-1], bias[::-1]


def _for_filters(count: int, change: Callable[[Array], Array]) -> _Change:
    """Returns a change of filters that are drawn with replacement, and of their biases."""

    def changed(key: Key, kernel: Array, bias: Array) -> tuple[Array, Array]:
        filters = kernel.shape[-1]
        times = np.bincount(prng.randint(key, (count,), 0, filters), minlength=filters)
        for time in range(times.max()):  # one that is drawn twice is changed twice
            kernel = jnp.where(times > time, change(kernel), kernel)
            own = bias[:filters]  # of the same number
            bias = bias.at[:filters].set(jnp.where(times > time, change(own), own))
        return kernel, bias

    return changed


def _scale(key: Key, kernel: Array, bias: Array) -> tuple[Array, Array]:
    size, each = prng.split(key)
    return kernel * (1 + 8 * prng.uniform(size) * prng.uniform(each, kernel.shape)), bias


def _mask(key: Key, kernel: Array, bias: Array) -> tuple[Array, Array]:
    which, each = prng.split(key)
    return random_mask(each, kernel, is_sign=~prng.bernoulli(which)), bias


def _rotate(key: Key, kernel: Array, bias: Array) -> tuple[Array, Array]:
    return jnp.rot90(kernel, int(choose(key, (1, 2, 3)))), bias


def _negate_fifth(key: Key, kernel: Array, bias: Array) -> tuple[Array, Array]:
    return negate_filters(key, kernel, count=max(kernel.shape[-1] // 5, 1)), bias


def _scale_two(key: Key, params: Params) -> Params:
    for own in prng.split(key):
        params = _in_one_of(_LAYERS, _scale, own, params)
    return params


_TRANSPOSED = 10
_LAYERS = range(8, 14)

WEIGHT_DISTORTIONS: dict[str, Callable[[Key, Params], Params]] = {
    "reverse channels": partial(_in_one_of, range(11, 16), _reverse),
    "negate filters": partial(_in_one_of, _LAYERS, _for_filters(12, jnp.negative)),
    "zero filters": partial(_in_one_of, _LAYERS, _for_filters(25, jnp.zeros_like)),
    "negative gelu": partial(
        _in_one_of, range(10, 14), _for_filters(25, lambda x: -nn.gelu(x, approximate=False))
    ),
    "scale": _scale_two,
    "random mask": partial(_in_one_of, _LAYERS, _mask),
    "rotate": partial(_in_one_of, _LAYERS, _rotate),
    "negate a fifth": partial(_in_one_of, _LAYERS, _negate_fifth),
}
"""The published list in its order, of (key, weights).  Its ninth entry cannot be drawn there, and
the second layer whose channels it means to reverse is reversed twice."""
