"""Is it faster to train several of P5's networks in one program, or one after another?

    python -m experiments.imbalanced_gradient_sign.together [--width=8] [--models=1,3,6,21]
        [--repeats=5] [--out=together.png]

Plain training steps of the VGG, RMSProp, batches of 32, all networks' images on the device once
and an index list for each: a loop over the networks; `vmap` over all of them, whose convolutions
XLA makes grouped ones; `lax.map`, one program that takes them in turn; and a mix, `lax.map` over
`vmap`s of three. Images per second of CPU time, medians over the repeats, taken in turn, without
compiling: CPU time, as a grid can fill the cores with processes, and others may use them meanwhile.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from rbjax import console, models, prng
from rbjax.analysis.figures import save
from rbjax.analysis.plots import COLOURS
from rbjax.losses.adversarial import cross_entropy
from rbjax.typing import Array

FORMS = ("loop", "vmap", "lax.map", "lax.map of vmaps of 3")
_BATCH, _NUM_EXAMPLES, _STEPS, _MIX = 32, 2048, 4, 3
Step = Callable[..., tuple[object, object]]


def _make_step(width: int, images: Array, labels: Array) -> tuple[Callable[..., object], Step]:
    """Returns what makes a network and its optimizer's state, and a training step of it."""
    model = models.create(
        "vgg_p5",
        num_classes=10,
        image_shape=images.shape[1:],
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        width=width,
        activation="paper",
    )
    optimizer = optax.rmsprop(1e-4, decay=0.9, eps=1e-8, eps_in_sqrt=False)

    def init(seed: Array) -> object:
        variables = model.init(jax.random.fold_in(prng.key(0), seed), images[:1])
        return variables, optimizer.init(variables["params"])

    def step(state: tuple, rows: Array, seed: Array) -> tuple[object, Array]:
        variables, opt_state = state
        keys = jax.random.split(jax.random.fold_in(prng.key(1), seed), _BATCH)

        def loss(params: object) -> Array:
            batch = images[rows].astype(jnp.float32) / 255
            logits, _ = model.apply_train({**variables, "params": params}, batch, keys)
            return cross_entropy(logits, labels[rows]).mean()

        value, gradient = jax.value_and_grad(loss)(variables["params"])
        updates, opt_state = optimizer.update(gradient, opt_state, variables["params"])
        params = optax.apply_updates(variables["params"], updates)
        return ({**variables, "params": params}, opt_state), value

    return init, step


def measure(width: int, number: int, repeats: int) -> dict[str, float]:
    """Returns images per second of CPU time over all networks, by form.

    Args:
        width: of the VGG's first block.
        number: of networks, M.
        repeats: the median is over these.
    """
    generator = np.random.default_rng(0)
    images = jnp.asarray(generator.integers(0, 256, (_NUM_EXAMPLES, 32, 32, 3), dtype=np.uint8))
    labels = jnp.asarray(generator.integers(0, 10, _NUM_EXAMPLES), jnp.int32)
    rows = jnp.asarray(generator.integers(0, _NUM_EXAMPLES, (number, _BATCH)), jnp.int32)
    seeds = jnp.arange(number)
    init, step = _make_step(width, images, labels)
    states = [init(seed) for seed in seeds]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    alone, together = jax.jit(step), jax.jit(jax.vmap(step))

    def loop() -> object:
        return [alone(*arguments) for arguments in zip(states, rows, seeds, strict=True)]

    forms: dict[str, Callable[[], object]] = {"loop": loop}
    if number > 1:
        in_turn = jax.jit(lambda *arguments: jax.lax.map(lambda one: step(*one), arguments))
        forms["vmap"] = lambda: together(stacked, rows, seeds)
        forms["lax.map"] = lambda: in_turn(stacked, rows, seeds)
    if number > _MIX and number % _MIX == 0:
        mix = jax.jit(
            lambda *arguments: jax.lax.map(lambda one: step(*one), arguments, batch_size=_MIX)
        )
        forms["lax.map of vmaps of 3"] = lambda: mix(stacked, rows, seeds)
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for form in forms.values():
        jax.block_until_ready(form())
    for _ in range(repeats):
        for name, form in forms.items():
            began = time.process_time()
            for _ in range(_STEPS):
                jax.block_until_ready(form())
            seconds[name].append((time.process_time() - began) / _STEPS)
    return {name: number * _BATCH / statistics.median(each) for name, each in seconds.items()}


@console.steady()
def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table, and draws it where a file is named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--models", default="1,3,6,21")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out")
    arguments = parser.parse_args(argv)
    numbers = [int(number) for number in arguments.models.split(",")]
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}, width {arguments.width}")
    print(f"images per second of CPU time, {arguments.repeats} repeats\n")
    print(f"| networks | {' | '.join(FORMS)} |\n{'|---' * (len(FORMS) + 1)}|")
    found: dict[int, dict[str, float]] = {}
    for number in numbers:
        row = found[number] = measure(arguments.width, number, arguments.repeats)
        cells = [f"{row[form]:,.0f}" if form in row else "" for form in FORMS]
        print(f"| {number} | {' | '.join(cells)} |", flush=True)
    if arguments.out:
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.add_subplot()
        for colour, form in zip(COLOURS, FORMS, strict=False):
            points = [(number, row[form]) for number, row in found.items() if form in row]
            if not points:
                continue
            axes.plot(*zip(*points, strict=True), "o-", color=colour, label=form)
        axes.set(
            xscale="log", xlabel="networks", ylabel="images per second of CPU time", ylim=(0, None)
        )
        axes.set_xticks(numbers, map(str, numbers))
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(f"P5's VGG of width {arguments.width}, {jax.devices()[0].device_kind}")
        save(figure, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
