"""How much does a method's step cost over the passes that it must make?

    python -m experiments.benchmarks.methods [--model=resnet18] [--repeats=7] [--only=pgd]

For CIFAR-10's shape, batch 128: one training step of each method as `rbjax.train` compiles it,
beside a bare step, written here, that makes the same passes through the same network and nothing
else: gradients of the images, one after another; of the weights, on each array of images; of both
at once; and the optimizer's update. Both are timed in turn; the ratio is of medians, compilation
apart. Goal: 1.10, and for `free` (a replay) and simultaneous `universal` 1.05.

Augmentation is left out on both sides, as are networks that a method trains beside (ANT's generator
and DeepAugment's, which have figures of their own).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks import machine
from rbjax import console, losses, methods, models, prng
from rbjax.convolution import loop_safe
from rbjax.models import Model
from rbjax.training.state import create_state, place
from rbjax.training.step import Recipe, make_train_step
from rbjax.typing import Array

BATCH, SHAPE, CLASSES = 128, (32, 32, 3), 10


class Passes(NamedTuple):
    """What a step cannot do without."""

    images: int = 0
    """Forward and backward passes for the gradient of the images alone."""
    weights: int = 1
    """Arrays of images of which the weights' gradient is taken."""
    forwards: int = 0
    """Forward passes more, in training mode, for the running statistics."""
    both: bool = False
    """Whether the last pass yields the images' gradient, too."""
    again: int = 0
    """Times the weights' gradient is taken before, at other weights."""
    replays: int = 1


_BALL = {"epsilon": 8 / 255, "num_steps": 10}
METHODS: dict[str, tuple[dict[str, Any], Passes]] = {
    "standard": ({}, Passes()),
    "pgd": (_BALL, Passes(images=10)),
    "trades": (_BALL, Passes(images=10, weights=2, forwards=1)),
    "mart": (_BALL, Passes(images=10, weights=2)),
    "pgd, weight_perturbation 0.005": (
        {**_BALL, "weight_perturbation": 0.005},
        Passes(images=10, again=1),
    ),
    "free, 4 replays": ({"num_replays": 4}, Passes(both=True, replays=4)),
    "fast": ({}, Passes(images=1)),
    "targeted": (_BALL, Passes(images=10)),
    "universal": ({}, Passes(both=True)),
    "universal, alternating": ({"form": "alternating"}, Passes(images=1)),
    "classwise_universal": ({}, Passes(both=True)),
    "shared": ({}, Passes(images=4, weights=2)),
    "classwise_pgd": (_BALL, Passes(images=10)),
    "cfa": (_BALL, Passes(images=10)),
    "dafa": (_BALL, Passes(images=10, weights=2, forwards=1)),
    "frl": (_BALL, Passes(images=10, weights=2, forwards=1)),
    "cfol": (_BALL, Passes(images=10)),
}


def bare_step(model: Model, optimizer: optax.GradientTransformation, passes: Passes) -> Callable:
    """Returns a step that makes the passes: (variables, opt_state, images, labels) -> the same."""
    apply, apply_train = loop_safe(model.apply), loop_safe(model.apply_train)

    def cross_entropy(logits: Array, labels: Array) -> Array:
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

    def loss(params: Any, rest: Any, arrays: list[Array], labels: Array, keys: Any) -> Any:
        total, stats = jnp.zeros(()), rest
        for number in range(passes.weights + passes.forwards):
            images = arrays[min(number, len(arrays) - 1)]
            logits, new = apply_train({"params": params, **stats}, images, keys)
            stats = {"batch_stats": new} if new else stats
            if number < passes.weights:
                total += cross_entropy(logits, labels)
        return total, stats

    def descend(carry: Any, images: Array, labels: Array, keys: Any) -> Any:
        variables, opt_state = carry
        rest = {name: value for name, value in variables.items() if name != "params"}

        def ascend(x: Array, _: Any) -> tuple[Array, None]:
            gradient = jax.grad(lambda x: cross_entropy(apply(variables, x), labels))(x)
            x = x + 2 / 255 * jnp.sign(gradient)
            return jnp.clip(images + jnp.clip(x - images, -8 / 255, 8 / 255), 0, 1), None

        adversarial, _ = jax.lax.scan(ascend, images, length=passes.images)
        arrays = [images, adversarial] if passes.weights > 1 else [adversarial]
        params = variables["params"]
        for _ in range(passes.again):
            gradient, _ = jax.grad(loss, has_aux=True)(params, rest, arrays, labels, keys)
            params = jax.tree.map(lambda w, g: w + 1e-9 * g, params, gradient)
        wanted = (0, 2) if passes.both else (0,)
        gradients = jax.grad(loss, argnums=wanted, has_aux=True)
        (gradient, *of_images), stats = gradients(params, rest, arrays, labels, keys)
        updates, opt_state = optimizer.update(gradient, opt_state, variables["params"])
        params = optax.apply_updates(variables["params"], updates)
        if of_images:  # so that it is not left out
            images = jnp.clip(images + 8 / 255 * jnp.sign(of_images[0][0]), 0, 1)
        return ({"params": params, **stats}, opt_state), images

    def step(carry: Any, images: Array, labels: Array, keys: Any) -> Any:
        images = images.astype(jnp.float32) / 255
        if passes.replays == 1:
            return descend(carry, images, labels, keys)

        def replay(both: Any, _: Any) -> tuple[Any, None]:
            carry, images = both
            return descend(carry, images, labels, keys), None

        return jax.lax.scan(replay, (carry, images), length=passes.replays)[0]

    return jax.jit(step, donate_argnums=0)


def measure(model: Model, name: str, repeats: int) -> tuple[float, float]:
    """Returns the median seconds of a method's step and of the bare step, timed in turn."""
    options, passes = METHODS[name]
    method = methods.create(name.partition(",")[0], **options)
    optimizer = optax.sgd(0.01, momentum=0.9)
    recipe = Recipe(
        model=model,
        method=method,
        loss_fn=losses.create("cross_entropy"),
        optimizer=optimizer,
        augment=lambda key, image: image,
        steps_per_epoch=10,
    )
    generator, device = np.random.default_rng(0), jax.local_devices()[:1]
    images = generator.integers(0, 256, (BATCH, *SHAPE), np.uint8)
    labels = generator.integers(0, CLASSES, BATCH).astype(np.int32)
    ids = np.arange(BATCH, dtype=np.int32)
    counts = np.full(CLASSES, 5000)
    made = create_state(
        prng.key(0), model, method, optimizer, num_rows=BATCH, ema=False, class_counts=counts
    )
    state = place(jax.device_get(made), device)
    ours = make_train_step(recipe, prng.key(1), devices=device)
    bare = bare_step(model, optimizer, passes)
    variables = model.init(prng.key(0), jnp.zeros((1, *SHAPE)))
    carry = (variables, optimizer.init(variables["params"]))
    keys = prng.per_example(prng.key(2), jnp.asarray(ids))
    seconds: tuple[list[float], list[float]] = ([], [])
    for repeat in range(-2, repeats):
        started = time.perf_counter()
        state, metrics = ours(state, images, labels, ids, ids.reshape(1, 1, BATCH))
        jax.block_until_ready((state, metrics))
        between = time.perf_counter()
        carry, _ = jax.block_until_ready(bare(carry, images, labels, keys))
        if repeat >= 0:  # the first two compile and warm up
            seconds[0].append(between - started)
            seconds[1].append(time.perf_counter() - between)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def main() -> None:
    """Prints a line for each method."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="simple_cnn", choices=("simple_cnn", "resnet18"))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", default="", help="methods whose name has this in it")
    arguments = parser.parse_args()
    shape: dict[str, Any] = {"num_classes": CLASSES, "image_shape": SHAPE}
    model = models.create(arguments.model, mean=[0.5] * 3, std=[0.25] * 3, **shape)
    print(machine.describe())
    print(f"\n{arguments.model}, batch {BATCH}, {SHAPE}; medians of {arguments.repeats}\n")
    print(f"{'method':<32} {'step, ms':>10} {'bare, ms':>10} {'ratio':>7}")
    for name in METHODS:
        if arguments.only in name:
            ours, bare = measure(model, name, arguments.repeats)
            print(f"{name:<32} {1e3 * ours:>10.1f} {1e3 * bare:>10.1f} {ours / bare:>7.2f}")


if __name__ == "__main__":
    with console.steady():
        main()
