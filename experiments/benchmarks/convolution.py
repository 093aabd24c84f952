"""Which form of a convolution is fastest inside a loop on CPU, shape by shape.

    python -m experiments.benchmarks.convolution

Prints GFLOP/s, counted as direct convolution, of every form in `rbjax.convolution.forms` for the
value, the gradient of the input and that of the weights, with a star at what
`rbjax.convolution.choice` takes. The operands change in each turn of the loop, so that nothing is
moved out of it; in an attack the weights do not, and Winograd's transformed kernel is.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import jax

from rbjax import console, prng
from rbjax.convolution import choice, forms
from rbjax.convolution.forms import Shape
from rbjax.typing import Array

# (batch, input channels, output channels, size, kernel, stride)
SHAPES = [
    (256, 1, 32, 28, 3, 1),
    (256, 32, 32, 26, 3, 1),
    (32, 3, 64, 32, 3, 1),
    (32, 64, 64, 32, 3, 1),
    (32, 64, 128, 32, 3, 2),
    (32, 128, 128, 16, 3, 1),
    (128, 128, 128, 16, 3, 1),
    (32, 256, 256, 8, 3, 1),
    (128, 256, 256, 8, 3, 1),
    (32, 256, 512, 8, 3, 2),
    (32, 512, 512, 4, 3, 1),
    (32, 128, 256, 16, 1, 2),
    (64, 32, 48, 14, 5, 1),
]


def _loop(function: Callable[[Array, Array], Array], num_turns: int) -> Callable:
    """Returns a compiled loop of a function of two operands that change in each turn."""

    def turn(_: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        result = jax.lax.optimization_barrier(function(*carry))
        nothing = result.ravel()[0] * 1e-30
        return carry[0] + nothing, carry[1] + nothing

    return jax.jit(lambda a, b: jax.lax.fori_loop(0, num_turns, turn, (a, b)))


def rates(functions: dict[str, Callable], a: Array, b: Array, flops: float) -> dict[str, float]:
    """Returns GFLOP/s of functions of two operands, the best of three, in turn."""
    num_turns = max(10, int(0.03 / (flops / 300e9)))
    loops = {name: _loop(function, num_turns) for name, function in functions.items()}
    seconds = dict.fromkeys(loops, math.inf)
    for repeat in range(4):
        for name, loop in loops.items():
            start = time.perf_counter()
            jax.block_until_ready(loop(a, b))
            if repeat:  # the first compiles
                seconds[name] = min(seconds[name], (time.perf_counter() - start) / num_turns)
    return {name: flops / taken / 1e9 for name, taken in seconds.items()}


def row(batch: int, channels: int, width: int, size: int, kernel: int, stride: int) -> str:
    """Returns a line of the table for one shape."""
    edge = kernel // 2
    padding = ((edge, edge), (edge, edge))
    shape = Shape((stride, stride), padding, (size, size), (kernel, kernel), None)
    keys = prng.split(prng.key(0), 3)
    x = prng.normal(keys[0], (batch, size, size, channels))
    w = prng.normal(keys[1], (kernel, kernel, channels, width))
    g = prng.normal(keys[2], (batch, *shape.output_size, width))
    candidates = [forms.xla, forms.patches]
    if (kernel, stride) == (3, 1):
        candidates.append(forms.winograd)
    values = {f.__name__: lambda x, w, f=f: f(x, w, shape) for f in candidates}
    image = {f.__name__: lambda g, w, f=f: forms.image_gradient(g, w, shape, f) for f in candidates}
    of_weights = [forms.kernel_gradient_xla, forms.kernel_gradient_patches]
    if (kernel, stride) == (3, 1):
        of_weights.append(forms.kernel_gradient_winograd)
    weights = {f.__name__: lambda x, g, f=f: f(x, g, shape) for f in of_weights}
    flops = 2.0 * g.size * channels * kernel**2
    cells = [
        _cell(rates(values, x, w, flops), choice.forward_form(batch, w.shape, shape)),
        _cell(rates(image, g, w, flops), choice.image_gradient_form(batch, w.shape, shape)),
        _cell(rates(weights, x, g, flops), choice.kernel_gradient_form(channels, shape)),
    ]
    name = f"{channels}-{width}, {size}x{size}, batch {batch}, {kernel}x{kernel}/{stride}"
    return f"| {name} | {' | '.join(cells)} |"


def _cell(measured: dict[str, float], chosen: forms.Form) -> str:
    star = chosen.__name__
    return ", ".join(
        f"{name.split('_')[-1]} {rate:.0f}{'*' if name == star else ''}"
        for name, rate in measured.items()
    )


@console.steady()
def main() -> None:
    """Prints the table."""
    argparse.ArgumentParser(description="Forms of a convolution inside a loop.").parse_args()
    print("| channels, size, batch, kernel/stride | value | gradient of x | gradient of w |")
    print("|---|---|---|---|")
    for shape in SHAPES:
        print(row(*shape), flush=True)


if __name__ == "__main__":
    main()
