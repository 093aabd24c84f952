"""Is it faster to scan several training steps in one dispatch?

    python -m experiments.benchmarks.dispatch [--repeats=5] [--steps=1,4,8]

The training step of `rbjax.train` on random images, K steps a dispatch, metrics read one dispatch
late; images per second, medians over the repeats, taken in turn, compilation apart.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np
import optax

from experiments.benchmarks import machine
from rbjax import console, losses, methods, models, prng
from rbjax.blocks import AXIS, Placement
from rbjax.data import augment
from rbjax.training.method import Method
from rbjax.training.state import create_state, on_host, place
from rbjax.training.step import Recipe, make_train_step

_NUM_EXAMPLES, _STEPS = 1024, 16
CASES: list[tuple[str, tuple[int, int, int], int, Method]] = [
    ("simple_cnn", (16, 16, 1), 64, methods.universal(epsilon=0.1)),
    ("simple_cnn", (28, 28, 1), 128, methods.standard()),
    ("resnet18", (32, 32, 3), 32, methods.universal(epsilon=8 / 255)),
]
"""Architecture, image shape, batch size and training method."""


def _epoch(
    recipe: Recipe, shape: tuple[int, int, int], batch_size: int, count: int
) -> tuple[Callable[[], None], float]:
    """Returns a function that makes `_STEPS` steps, and the seconds its first dispatch took."""
    devices, generator = jax.local_devices(), np.random.default_rng(0)
    placement = Placement(devices)
    split = [
        generator.integers(0, 256, (_NUM_EXAMPLES, *shape), dtype=np.uint8),
        generator.integers(0, 10, _NUM_EXAMPLES).astype(np.int32),
        np.arange(_NUM_EXAMPLES, dtype=np.int32),
    ]
    split = placement.replicate(split)
    key = prng.key(0)
    state = create_state(key, recipe.model, recipe.method, recipe.optimizer, num_rows=batch_size)
    train_step = make_train_step(recipe, key, num_steps=count, devices=devices)
    rows = generator.integers(0, _NUM_EXAMPLES, (len(devices), count, batch_size // len(devices)))
    carried, rows = [place(on_host(state), devices)], rows.astype(np.int32)

    def epoch(num_steps: int = _STEPS) -> None:
        pending = None
        for _ in range(num_steps // count):
            state, metrics = train_step(carried.pop(), *split, rows)
            carried.append(state)
            jax.device_get(pending)
            pending = metrics
        jax.block_until_ready(carried[0].step)

    began = time.perf_counter()
    epoch(count)
    return epoch, time.perf_counter() - began


@console.steady()
def main() -> None:
    """Measures and prints a row a case."""
    parser = argparse.ArgumentParser(description="Training steps scanned in one dispatch.")
    parser.add_argument("--repeats", type=int, default=5, help="timings of each")
    parser.add_argument("--steps", default="1,4,8", help="steps a dispatch, divisors of 16")
    arguments = parser.parse_args()
    counts = [int(count) for count in arguments.steps.split(",")]
    print(machine.describe())
    print("\nimages per second by steps a dispatch; seconds of the first dispatch, compiled")
    print(f"{'':26}" + "".join(f"{count:10}" for count in counts))
    for name, shape, batch_size, method in CASES:
        channels = (0.5,) * shape[2]
        model = models.create(
            name, num_classes=10, image_shape=shape, mean=channels, std=channels, axis_name=AXIS
        )
        operations = augment.create(flip_horizontal=True, rotation_degrees=10.0)
        loss_fn = losses.create("cross_entropy")
        recipe = Recipe(model, method, loss_fn, optax.adam(1e-3), operations, 1000)
        epochs = {count: _epoch(recipe, shape, batch_size, count) for count in counts}
        seconds: dict[int, list[float]] = {count: [] for count in counts}
        for _ in range(arguments.repeats):
            for count, (epoch, _) in epochs.items():
                began = time.perf_counter()
                epoch()
                seconds[count].append(time.perf_counter() - began)
        rates = [batch_size * _STEPS / statistics.median(seconds[count]) for count in counts]
        row = "".join(f"{rate:10,.0f}" for rate in rates)
        compiled = " ".join(f"{epochs[count][1]:.1f}" for count in counts)
        print(f"{name + ' ' + 'x'.join(map(str, shape)):26}{row}   {compiled}", flush=True)


if __name__ == "__main__":
    main()
