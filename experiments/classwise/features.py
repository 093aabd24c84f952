"""Datasets of robust and of non-robust features, made by trained networks, and what they teach.

P2, section 3.2, asks whether robust or non-robust features make classes differ, on the datasets of
Ilyas et al., "Adversarial Examples Are Not Bugs, They Are Features", 2019, arXiv:1905.02175:

    d_robust        another image, moved until a robust network's features of it are those of x
    d_non_robust    the same by a standard network
    d_rand, d_det   x, moved in l2 until a standard network takes it for a class that is drawn, or
                    for the next; that class is its label, and only non-robust features go with it
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from experiments.classwise.measure import measure
from rbjax import atomic, attacks, command_line, prng
from rbjax.config import Config
from rbjax.data import Dataset
from rbjax.sweep import Result, config_of
from rbjax.train import train
from rbjax.training import setup
from rbjax.typing import Array, LogitsFn

Kind = Literal["d_robust", "d_non_robust", "d_rand", "d_det"]
_BATCH = 250


def measure_taught(
    config: Config,
    workdir: str,
    *,
    kind: Kind,
    source: Mapping[str, Any],
    step_size: float,
    num_steps: int,
    radii: Mapping[str, float],
    attack_steps: int,
) -> Result:
    """Makes a dataset, trains a network on it, and tests that on images as they are.

    Args:
        config: not yet resolved, of the dataset that is moved.
        workdir: the run directory, among those of the other cells.
        kind: of dataset.
        source: the network that images are moved by: its cell's "name" and "config"; it is trained
            here where its run directory is not.
        step_size: length of a step that moves images, in l2.
        num_steps: how many.
        radii: of PGD in l2 on the test images, by label.
        attack_steps: of that.

    Returns:
        As `measure`; "moved", the mean l2 distance of the images from where they began.
    """
    file = Path(workdir).parent / "features" / f"{Path(workdir).name}.npz"
    resolved = command_line.resolve(config, workdir)
    if not file.exists():
        place = str(Path(workdir).parent / source["name"])
        theirs = command_line.resolve(config_of(source["config"]), place)
        train(theirs, place)
        _write(file, kind, theirs, place, resolved, step_size=step_size, num_steps=num_steps)
    taught = config.copy_and_resolve_references()
    taught.dataset.update(name="npz", path=str(file), max_train_examples=None)
    result = measure(taught, workdir, radii=radii, num_steps=attack_steps, norm="l2", corrupted=0)
    arrays = atomic.read_npz(file) or {}
    return {
        **result,
        "class_names": arrays["class_names"].tolist(),
        "moved": float(arrays["moved"]),
    }


def _write(
    file: Path,
    kind: Kind,
    theirs: Config,
    place: str,
    config: Config,
    *,
    step_size: float,
    num_steps: int,
) -> None:
    """Writes the dataset, with the test images as they are."""
    images, test = setup.load_train(config)[0], setup.load_test(config)
    key = prng.named(prng.key(config.seed), kind)
    if kind in ("d_robust", "d_non_robust"):
        model = setup.create_model(theirs, setup.info(theirs))
        variables = jax.device_put(setup.trained_variables(theirs, place, model)[1])
        features = jax.tree_util.Partial(model.features, variables)
        begun, labels = images.images[_others(images.num_examples, key)], images.labels
        move = partial(match_features, features, step_size=step_size, num_steps=num_steps)
        moved = _in_batches(move, begun, np.asarray(images.images[:]))
    else:
        logits_fn = setup.trained_logits_fn(theirs, place)
        labels = new_labels(images, kind, key)
        begun = np.asarray(images.images[:])
        moved = push(logits_fn, images, labels, step_size=step_size, num_steps=num_steps)
    distance = np.linalg.norm(
        (moved.astype(np.float32) - begun).reshape(len(begun), -1) / 255, axis=1
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_npz(
        file,
        train_images=moved,
        train_labels=labels,
        test_images=np.asarray(test.images[:]),
        test_labels=test.labels,
        class_names=np.asarray(test.info.class_names),
        moved=np.mean(distance),
    )


@partial(jax.jit, static_argnames=("num_steps",))
def match_features(
    features_fn: Callable[[Array], Array],
    begun: Array,
    images: Array,
    *,
    step_size: float,
    num_steps: int,
) -> Array:
    """Returns images with the features of others: robust where the features are.

    x_{k+1} = clip(x_k - step_size d / |d|_2, 0, 1), d the gradient of |g(x_k) - g(x)|_2.

    Args:
        features_fn: g, images -> what the last layer sees; a `jax.tree_util.Partial`.
        begun: (B, H, W, C) in [0, 1], x_0.
        images: (B, H, W, C) in [0, 1], x.
        step_size: in l2.
        num_steps: how many.

    Returns:
        (B, H, W, C) in [0, 1].

    Source: Ilyas et al. 2019, section 3.1; their networks' last ReLU has the gradient of the
        identity there, here the usual one.
    """
    wanted = features_fn(images)

    def distance(moved: Array) -> Array:
        apart = (features_fn(moved) - wanted).reshape(len(wanted), -1)
        return jnp.sum(jnp.sqrt(jnp.sum(apart**2, axis=1) + 1e-12))

    def step(_: int, moved: Array) -> Array:
        slope = jax.grad(distance)(moved)
        length = jnp.sqrt(jnp.sum(slope**2, axis=(1, 2, 3), keepdims=True))
        return jnp.clip(moved - step_size * slope / jnp.maximum(length, 1e-12), 0.0, 1.0)

    return jax.lax.fori_loop(0, num_steps, step, begun)


def push(
    logits_fn: LogitsFn, images: Dataset, labels: np.ndarray, *, step_size: float, num_steps: int
) -> np.ndarray:
    """Returns images that a network takes for new labels, (N, H, W, C) uint8.

    Targeted PGD in l2 within 0.5, from the image itself.

    Args:
        logits_fn: the network.
        images: the images.
        labels: (N,) the new labels.
        step_size: in l2.
        num_steps: how many.
    """
    attack = attacks.pgd(
        epsilon=0.5, step_size=step_size, num_steps=num_steps, norm="l2", random_start=False
    )

    def move(begun: Array, both: Array) -> Array:
        own, new = both.T
        return attack(logits_fn, prng.key(0), begun, own, targets=new).images

    both = np.stack([images.labels, labels], axis=1).astype(np.int32)
    return _in_batches(move, np.asarray(images.images[:]), both)


def new_labels(images: Dataset, kind: Kind, key: Any) -> np.ndarray:
    """Returns the labels of d_det, (y + 1) mod K, or of d_rand, drawn alike from all K, (N,)."""
    num_classes = images.info.num_classes
    if kind == "d_det":
        return (images.labels + 1) % num_classes
    drawn = jax.vmap(lambda k: jax.random.randint(k, (), 0, num_classes))
    return np.asarray(drawn(prng.per_example(key, jnp.asarray(images.example_ids))), np.int32)


def _others(number: int, key: Any) -> np.ndarray:
    """Returns another row for each, of a random cycle through all: whatever their labels are."""
    order = np.asarray(jax.random.permutation(key, number))
    others = np.empty(number, np.int64)
    others[order] = np.roll(order, 1)
    return others


def _in_batches(
    move: Callable[[Array, Array], Array], begun: np.ndarray, other: np.ndarray
) -> np.ndarray:
    """Returns what becomes of images, (N, H, W, C) uint8, rounded; batches of one size."""
    moved = []
    for start in range(0, len(begun), _BATCH):
        rows = np.arange(start, start + _BATCH) % len(begun)
        given = other[rows]
        given = given.astype(np.float32) / 255 if given.dtype == np.uint8 else given
        images = move(jnp.asarray(begun[rows], jnp.float32) / 255, jnp.asarray(given))
        moved.append(np.asarray(jnp.round(255 * images), np.uint8))
    return np.concatenate(moved)[: len(begun)]
