"""What does scoring every datapoint cost, beside the model's bare forward pass and PyTorch?

    python -m experiments.benchmarks.rpr [--dataset=mnist] [--num-images=10000] [--max-steps=250]
        [--batch-size=N] [--train-steps=1500] [--repeats=1] [--torch-python=PATH]

Trains the simple CNN for a few hundred steps, then scores the test images by

    floor          the model's forward pass alone, on batches that are there already, of the
                   fastest of some sizes
    score          `rbjax.rpr.score`
    blocks         a host loop over fixed blocks of images, one jitted draw for the whole block at
                   a time, until every image of the block has failed or passed its last draw

and, with a Python that has PyTorch, the same weights by

    torch floor    its forward pass alone
    torch draws    its perturbations alone
    torch batched  all images that have not failed yet, a draw at a time, in batches
    torch singly   image by image, draw by draw, as the paper describes it; a few images

`score` and `blocks` use the same draws and must agree. PyTorch draws its own of the same law for
the timing; on some images it classifies rbjax's, and must find the same first failures. Draws per
second count the draws that are needed, the sum of min(N, max_steps); the ratio is of seconds a
draw to the floor's. All take turns, medians over the repeats, compilation apart.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial

from experiments.benchmarks import machine, torch_peer
from rbjax import console, data, models, perturbations, prng, rpr
from rbjax.inputs import to_float
from rbjax.losses.adversarial import cross_entropy
from rbjax.typing import Array, Key, LogitsFn

_PERTURBATION = perturbations.random_pixels()


_LAYOUTS = ("NCHW", "NHWC")
_FLOOR_SIZES = (256, 1024, 4096)
_TORCH_SIZES = {"cpu": (256, 1024), "gpu": (1024, 4096, 10_000)}


class Case(NamedTuple):
    """What is scored."""

    info: data.DatasetInfo
    model: models.Model
    variables: Any
    images: np.ndarray
    labels: np.ndarray
    key: Key
    max_steps: int

    @property
    def logits_fn(self) -> LogitsFn:
        """The model with its weights."""
        return Partial(self.model.apply, self.variables)


class Run(NamedTuple):
    """One way of scoring, done once."""

    needed: int
    """Draws without waste."""
    made: int
    """Draws made."""
    result: Any = None


def train(model: models.Model, images: np.ndarray, labels: np.ndarray, num_steps: int) -> Any:
    """Returns variables after some steps of Adam on batches of 128."""
    optimizer = optax.adam(1e-3)
    variables = model.init(prng.key(0), to_float(jnp.asarray(images[:1])))
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


def score_blocks(case: Case, batch_size: int) -> tuple[np.ndarray, int]:
    """Returns first failures and forward passes run of the loop over fixed blocks."""
    first_failure, num_passes = [], 0
    for start in range(0, len(case.images), batch_size):
        rows = np.minimum(np.arange(start, start + batch_size), len(case.images) - 1)
        keys = prng.per_example(case.key, jnp.asarray(rows))
        failure = np.full(batch_size, case.max_steps + 1)
        block = jnp.asarray(case.images[rows]), jnp.asarray(case.labels[rows])
        for draw in range(1, case.max_steps + 1):
            failed = np.asarray(_draw_fails(case.model.apply, case.variables, keys, draw, *block))
            failure = np.where(failed, np.minimum(failure, draw), failure)
            num_passes += batch_size
            if np.all(failure <= case.max_steps):
                break
        first_failure.append(failure)
    return np.concatenate(first_failure)[: len(case.images)], num_passes


def forward(logits_fn: LogitsFn, images: np.ndarray, batch_size: int, num_passes: int) -> Run:
    """Runs so many forward passes of the model alone, rounded up to a batch."""
    batch = to_float(jnp.asarray(images[np.arange(batch_size) % len(images)]))
    num_batches = -(-num_passes // batch_size)
    logits = None
    for _ in range(num_batches):
        logits = _FORWARD(logits_fn, batch)
    jax.block_until_ready(logits)
    return Run(num_batches * batch_size, num_batches * batch_size)


_FORWARD = jax.jit(lambda logits_fn, images: logits_fn(images))


def fastest_batch(logits_fn: LogitsFn, images: np.ndarray, num_passes: int) -> int:
    """Returns the batch size whose forward pass is fastest an image."""
    seconds = {}
    for batch_size in _FLOOR_SIZES:
        forward(logits_fn, images, batch_size, 1)
        began = time.perf_counter()
        run = forward(logits_fn, images, batch_size, num_passes)
        seconds[batch_size] = (time.perf_counter() - began) / run.made
    return min(seconds, key=lambda size: seconds[size])


def timed(runs: dict[str, Callable[[], Run]], repeats: int) -> dict[str, tuple[Run, float]]:
    """Returns each way's last run and median seconds, run in turn: all see the same machine."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    done = {}
    for _ in range(repeats):
        for name, run in runs.items():
            began = time.perf_counter()
            done[name] = run()
            seconds[name].append(time.perf_counter() - began)
    return {name: (done[name], statistics.median(times)) for name, times in seconds.items()}


def create_model(info: data.DatasetInfo) -> models.Model:
    """Returns P4's simple CNN, its second convolution half as wide as rbjax's default."""
    return models.create(
        "simple_cnn",
        num_classes=info.num_classes,
        image_shape=info.image_shape,
        mean=info.mean,
        std=info.std,
        widths=(32, 32),
    )


def load(name: str | None, split: str) -> data.Dataset:
    """Returns a split of a dataset; without a name MNIST's if it is there, else the digits'."""
    if name is not None:
        return data.load(name, split)
    try:
        return data.load("mnist", split)
    except ValueError:
        return data.load("digits", split)


def our_runs(
    case: Case, score: Callable[[], rpr.Scores], needed: int, batch_size: int
) -> dict[str, Callable[[], Run]]:
    """Returns the ways that JAX goes, by name."""
    floor_size = fastest_batch(case.logits_fn, case.images, needed // 20)
    print(f"floor in batches of {floor_size}, the fastest of {_FLOOR_SIZES}")

    def run_score() -> Run:
        scores = score()
        return Run(needed, scores.forward_passes_run)

    def run_blocks() -> Run:
        first_failure, made = score_blocks(case, batch_size)
        return Run(needed, made, first_failure)

    score_blocks(case._replace(max_steps=1), batch_size)
    return {
        "floor": lambda: forward(case.logits_fn, case.images, floor_size, needed),
        "score": run_score,
        "blocks": run_blocks,
    }


def torch_runs(
    peer: torch_peer.Peer, max_steps: int, needed: int, threads: int, num_single: int
) -> dict[str, Callable[[], Run]]:
    """Returns the ways that PyTorch goes, by name, each at its fastest."""
    device = peer.ask("versions")["device"]
    trials = {}
    for size in _TORCH_SIZES["cpu" if device == "cpu" else "gpu"]:
        options = {"max_steps": max(1, max_steps // 50), "batch_size": size}
        found = torch_peer.rates(peer, "score_batches", _LAYOUTS, (1, threads), **options)
        trials |= {(way, size): rate for way, rate in found.items()}
    way, size = max(trials, key=lambda key: trials[key])
    options = {"max_steps": max_steps, "num_images": 1}
    singly = torch_peer.rates(peer, "score_singly", _LAYOUTS, (1, threads), **options)
    single = max(singly, key=lambda key: singly[key])
    print(f"PyTorch {peer.ask('versions')['torch']} on {device}; draws/s in trials:")
    for (tried, batch), rate in trials.items():
        print(f"    batches of {batch:>5}, {tried!s:18}{rate:>10,.0f}")
    for tried, rate in singly.items():
        print(f"    singly,           {tried!s:18}{rate:>10,.0f}")

    def run(task: str, way: torch_peer.Way, **options: int) -> Run:
        made = peer.ask(task, **way._asdict(), options=options)["num_draws"]
        return Run(made, made)

    passes = {"num_passes": needed // 4, "batch_size": size}
    return {
        "torch floor": lambda: run("forward", way, **passes),
        "torch draws": lambda: run("draw_only", way, **passes),
        "torch batched": lambda: run("score_batches", way, max_steps=max_steps, batch_size=size),
        "torch singly": lambda: run(
            "score_singly", single, max_steps=max_steps, num_images=num_single
        ),
    }


@console.steady()
def main() -> None:
    """Measures and prints."""
    arguments = _arguments()
    case = _case(arguments)
    batch_size = min(arguments.batch_size or 256, len(case.images))
    print(machine.describe())
    print(f"{case.info.name}: {len(case.images)} test images, {case.max_steps} draws")
    score = functools.partial(
        rpr.score,
        case.logits_fn,
        case.key,
        case.images,
        case.labels,
        max_steps=case.max_steps,
        perturbation=_PERTURBATION,
        batch_size=arguments.batch_size,
    )
    began = time.perf_counter()
    scores = score()
    print(f"first call of score, compilation included: {time.perf_counter() - began:.1f} s")
    runs = our_runs(case, score, scores.forward_passes_needed, batch_size)
    if arguments.torch_python is None:
        print("PyTorch: skipped, no --torch-python given")
        _report(timed(runs, arguments.repeats), scores)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch_peer.export(folder, case.model, case.variables, case.info, case.images, case.labels)
        with torch_peer.Peer(arguments.torch_python, folder) as peer:
            _compare(peer, folder, case, scores, arguments.agree_images)
            theirs = torch_runs(
                peer,
                case.max_steps,
                scores.forward_passes_needed,
                arguments.torch_threads or os.cpu_count() or 1,
                arguments.single_images,
            )
            _report(timed({**runs, **theirs}, arguments.repeats), scores)


def _case(arguments: argparse.Namespace) -> Case:
    """Returns what is scored, its model trained."""
    train_set, test_set = (load(arguments.dataset, split) for split in ("train", "test"))
    model = create_model(test_set.info)
    return Case(
        info=test_set.info,
        model=model,
        variables=train(model, train_set.images, train_set.labels, arguments.train_steps),
        images=test_set.images[: arguments.num_images],
        labels=test_set.labels[: arguments.num_images],
        key=prng.key(1),
        max_steps=arguments.max_steps,
    )


def _compare(
    peer: torch_peer.Peer, folder: Path, case: Case, scores: rpr.Scores, num_images: int
) -> None:
    """Prints whether PyTorch finds the same first failures on the same perturbed images."""
    rows = torch_peer.choose_rows(scores.first_failure, case.max_steps, num_images)
    drawn = torch_peer.draw(
        case.logits_fn, case.key, _PERTURBATION, case.images[rows], rows, case.max_steps
    )
    found = torch_peer.agree(peer, folder, drawn, case.labels[rows], scores.first_failure[rows])
    print(
        f"first failures in PyTorch on the same {drawn.near.size:,} perturbed images of "
        f"{len(rows)}: {found.differing} differ, {found.unexplained} of them not by a near tie; "
        f"{int(drawn.near.sum())} draws have their top two logits within {torch_peer.NEAR_TIE:g}"
    )


def _report(timings: dict[str, tuple[Run, float]], scores: rpr.Scores) -> None:
    """Prints one row a way of scoring, and what is asked of them."""
    first_failure = timings["blocks"][0].result
    differing = int(np.sum(first_failure != scores.first_failure))
    print(f"clean accuracy {scores.clean_correct.mean():.4f}, robust {scores.robust.mean():.4f}")
    print(
        f"draws needed {scores.forward_passes_needed:,}; first failures of score and blocks that "
        f"differ: {differing} of {len(first_failure)}"
    )
    rates = {name: run.needed / seconds for name, (run, seconds) in timings.items()}
    print(f"{'':14}{'draws run':>12}{'run/needed':>12}{'seconds':>10}{'draws/s':>12}{'ratio':>8}")
    for name, (run, seconds) in timings.items():
        print(
            f"{name:14}{run.made:>12,}{run.made / run.needed:>12.3f}{seconds:>10.2f}"
            f"{rates[name]:>12,.0f}{rates['floor'] / rates[name]:>8.2f}"
        )
    share = rates["score"] / rates["floor"]
    print(f"score takes {1 / share:.2f} times the floor's time a draw: {share:.1%} of its rate")
    for name in ("torch batched", "torch singly"):
        if name in rates:
            print(f"score is {rates['score'] / rates[name]:.2f} times as fast as {name}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore
    parser.add_argument("--dataset", help="mnist if it is prepared, else digits")
    parser.add_argument("--num-images", type=int, default=10_000)
    parser.add_argument("--max-steps", type=int, default=250)
    parser.add_argument("--batch-size", type=int, help="256; score's own choice where not given")
    parser.add_argument("--train-steps", type=int, default=1_500)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--torch-python", help="a Python with PyTorch")
    parser.add_argument("--torch-threads", type=int, help="all cores where not given")
    parser.add_argument("--agree-images", type=int, default=64, help="handed to PyTorch, perturbed")
    parser.add_argument("--single-images", type=int, default=20, help="scored one by one")
    return parser.parse_args()


if __name__ == "__main__":
    main()
