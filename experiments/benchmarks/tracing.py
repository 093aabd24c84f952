"""What does it cost that a plain function is traced at each call?

    python -m experiments.benchmarks.tracing [--repeats=10]

One attack call on one batch, compiled before: with a `Partial`, which is not traced, with a plain
function made anew each time, and tracing that function alone. Milliseconds, medians over the
repeats, taken in turn.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np
from jax.tree_util import Partial

from experiments.benchmarks import machine
from rbjax import attacks, console, models, prng
from rbjax.programs import PlainFunction, signature_of

CASES = [("simple_cnn", (28, 28, 1), 128), ("resnet18", (32, 32, 3), 8)]
"""Architecture, image shape and batch size."""
ATTACKS = {
    "FGSM": attacks.fgsm(epsilon=8 / 255),
    "PGD-10": attacks.pgd(epsilon=8 / 255, num_steps=10),
}


def calls(
    attack: attacks.CompiledAttack, name: str, shape: tuple[int, int, int], batch_size: int
) -> dict[str, Callable[[], object]]:
    """Returns what is timed, by name."""
    channels, generator = (0.5,) * shape[2], np.random.default_rng(0)
    model = models.create(name, num_classes=10, image_shape=shape, mean=channels, std=channels)
    images = jax.numpy.asarray(generator.random((batch_size, *shape), np.float32))
    labels = jax.numpy.asarray(generator.integers(0, 10, batch_size).astype(np.int32))
    variables, batch = model.init(prng.key(0), images), (prng.key(1), images, labels)

    def make() -> Callable[[jax.Array], jax.Array]:
        return lambda images: model.apply(variables, images)

    return {
        "Partial": lambda: attack(Partial(model.apply, variables), *batch),
        "function": lambda: attack(make(), *batch),
        "trace": lambda: PlainFunction(make()).trace(signature_of((images,))).captured,
    }


@console.steady()
def main() -> None:
    """Measures and prints a row a case."""
    parser = argparse.ArgumentParser(description="Tracing a plain function at each call.")
    parser.add_argument("--repeats", type=int, default=10, help="timings of each")
    repeats = parser.parse_args().repeats
    print(machine.describe())
    print("\nmilliseconds a call")
    print(f"{'':24}{'Partial':>10}{'function':>10}{'trace':>10}")
    for case in CASES:
        for label, attack in ATTACKS.items():
            timed, seconds = calls(attack, *case), {}
            for number in range(repeats + 1):
                for name, call in timed.items():
                    began = time.perf_counter()
                    jax.block_until_ready(call())
                    if number:  # the first one compiles
                        seconds.setdefault(name, []).append(time.perf_counter() - began)
            row = "".join(f"{1000 * statistics.median(seconds[name]):10.1f}" for name in timed)
            print(f"{case[0]:12} {label:11}{row}", flush=True)


if __name__ == "__main__":
    main()
