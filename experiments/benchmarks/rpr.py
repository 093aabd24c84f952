"""What does scoring every datapoint cost, beside the model's bare forward pass?

    python -m experiments.benchmarks.rpr [--dataset=mnist] [--num-images=10000] [--max-steps=250]
        [--batch-size=N] [--train-steps=1500] [--repeats=1]

Trains the simple CNN for a few hundred steps, then scores the test images by

    floor      the model's forward pass alone, on batches that are there already
    score      `rbjax.rpr.score`
    blocks     a host loop over fixed blocks of images, one jitted draw for the whole block at a
               time, until every image of the block has failed or passed its last draw

`score` and `blocks` use the same weights, images and draws, and must agree. Draws per second count
the draws that are needed, the sum of min(N, max_steps); the ratio is of seconds to the floor's. The
three take turns, medians over the repeats, compilation apart.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial

from experiments.benchmarks import machine
from rbjax import data, models, perturbations, prng, rpr
from rbjax.inputs import to_float
from rbjax.losses.adversarial import cross_entropy
from rbjax.typing import Array, Key, LogitsFn

_PERTURBATION = perturbations.random_pixels()


class Timed(NamedTuple):
    """A result, and the median seconds of its calls."""

    result: Any
    seconds: float


def train(model: models.Model, images: np.ndarray, labels: np.ndarray, num_steps: int) -> Any:
    """Returns variables after some steps of Adam on batches of 128."""
    optimizer = optax.adam(1e-3)
    variables = model.init(jax.random.key(0), to_float(jnp.asarray(images[:1])))
    state = optimizer.init(variables)

    @jax.jit
    def step(variables: Any, state: Any, images: Array, labels: Array) -> tuple[Any, Any]:
        def loss(variables: Any) -> Array:
            return jnp.mean(cross_entropy(model.apply(variables, to_float(images)), labels))

        updates, state = optimizer.update(jax.grad(loss)(variables), state)
        return optax.apply_updates(variables, updates), state

    order = np.random.default_rng(0)
    for _ in range(num_steps):
        rows = order.integers(0, len(images), 128)
        variables, state = step(variables, state, images[rows], labels[rows])
    return variables


@functools.partial(jax.jit, static_argnums=0)
def _draw_fails(
    apply: Callable[[Any, Array], Array],
    variables: Any,
    keys: Key,
    draw: int,
    images: Array,
    labels: Array,
) -> Array:
    perturbed = jax.vmap(_PERTURBATION)(prng.per_draw(keys, draw), to_float(images))
    return jnp.argmax(apply(variables, perturbed), axis=-1) != labels


def score_blocks(
    model: models.Model,
    variables: Any,
    key: Key,
    images: np.ndarray,
    labels: np.ndarray,
    max_steps: int,
    batch_size: int,
) -> tuple[np.ndarray, int]:
    """Returns first failures and forward passes run of the loop over fixed blocks."""
    first_failure, num_passes = [], 0
    for start in range(0, len(images), batch_size):
        rows = np.minimum(np.arange(start, start + batch_size), len(images) - 1)
        keys = prng.per_example(key, jnp.asarray(rows))
        failure = np.full(batch_size, max_steps + 1)
        block = jnp.asarray(images[rows]), jnp.asarray(labels[rows])
        for draw in range(1, max_steps + 1):
            failed = np.asarray(_draw_fails(model.apply, variables, keys, draw, *block))
            failure = np.where(failed, np.minimum(failure, draw), failure)
            num_passes += batch_size
            if np.all(failure <= max_steps):
                break
        first_failure.append(failure)
    return np.concatenate(first_failure)[: len(images)], num_passes


def forward(logits_fn: LogitsFn, images: np.ndarray, batch_size: int, num_passes: int) -> None:
    """Runs so many forward passes of the model alone, rounded up to a batch."""
    batch = to_float(jnp.asarray(images[np.arange(batch_size) % len(images)]))
    for _ in range(-(-num_passes // batch_size)):
        _FORWARD(logits_fn, batch).block_until_ready()


_FORWARD = jax.jit(lambda logits_fn, images: logits_fn(images))


def timed(runs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, Timed]:
    """Returns each function's result and times, run in turn so that all see the same machine."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    results = {}
    for _ in range(repeats):
        for name, run in runs.items():
            began = time.perf_counter()
            results[name] = run()
            seconds[name].append(time.perf_counter() - began)
    return {name: Timed(results[name], statistics.median(times)) for name, times in seconds.items()}


def main() -> None:
    """Measures and prints."""
    arguments = _arguments()
    train_set, test_set = (_load(arguments.dataset, split) for split in ("train", "test"))
    rows = np.arange(min(arguments.num_images, test_set.num_examples))
    images, labels = test_set.images[rows], test_set.labels[rows]
    info, model = test_set.info, _model(test_set.info)
    variables = train(model, train_set.images, train_set.labels, arguments.train_steps)
    logits_fn, key, max_steps = (
        Partial(model.apply, variables),
        jax.random.key(1),
        arguments.max_steps,
    )
    batch_size = min(arguments.batch_size or 256, len(images))
    print(machine.describe())
    print(f"{info.name}: {len(images)} test images, {max_steps} draws, blocks of {batch_size}")
    score = functools.partial(
        rpr.score,
        logits_fn,
        key,
        images,
        labels,
        max_steps=max_steps,
        perturbation=_PERTURBATION,
        batch_size=arguments.batch_size,
    )
    forward(logits_fn, images, batch_size, 1)
    score_blocks(model, variables, key, images[:1], labels[:1], 1, batch_size)
    began = time.perf_counter()
    scores = score()
    print(f"first call of score, compilation included: {time.perf_counter() - began:.1f} s")
    needed = scores.forward_passes_needed
    runs = {
        "floor": lambda: forward(logits_fn, images, batch_size, needed),
        "score": score,
        "blocks": lambda: score_blocks(
            model, variables, key, images, labels, max_steps, batch_size
        ),
    }
    _report(timed(runs, arguments.repeats), scores)


def _model(info: data.DatasetInfo) -> models.Model:
    """Returns P4's simple CNN, its second convolution half as wide as rbjax's default."""
    return models.create(
        "simple_cnn",
        num_classes=info.num_classes,
        image_shape=info.image_shape,
        mean=info.mean,
        std=info.std,
        widths=(32, 32),
    )


def _report(timings: dict[str, Timed], scores: rpr.Scores) -> None:
    """Prints one row a way of scoring."""
    needed = scores.forward_passes_needed
    first_failure, blocks_passes = timings["blocks"].result
    differing = int(np.sum(first_failure != scores.first_failure))
    passes = {"floor": needed, "score": scores.forward_passes_run, "blocks": blocks_passes}
    print(f"clean accuracy {scores.clean_correct.mean():.4f}, robust {scores.robust.mean():.4f}")
    print(
        f"draws needed {needed:,}; first failures that differ: {differing} of {len(first_failure)}"
    )
    print(f"{'':8}{'draws run':>12}{'run/needed':>12}{'seconds':>10}{'draws/s':>10}{'ratio':>8}")
    for name, timing in timings.items():
        print(
            f"{name:8}{passes[name]:>12,}{passes[name] / needed:>12.3f}{timing.seconds:>10.1f}"
            f"{needed / timing.seconds:>10,.0f}{timing.seconds / timings['floor'].seconds:>8.2f}"
        )


def _load(name: str | None, split: str) -> data.Dataset:
    """Returns a split of a dataset; without a name MNIST's if it is there, else the digits'."""
    if name is not None:
        return data.load(name, split)
    try:
        return data.load("mnist", split)
    except ValueError:
        return data.load("digits", split)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore
    parser.add_argument("--dataset", help="mnist if it is prepared, else digits")
    parser.add_argument("--num-images", type=int, default=10_000)
    parser.add_argument("--max-steps", type=int, default=250)
    parser.add_argument("--batch-size", type=int, help="256; score's own choice where not given")
    parser.add_argument("--train-steps", type=int, default=1_500)
    parser.add_argument("--repeats", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
