"""Asks a PyTorch of its own environment to score what rbjax scores: the client of `torch_rpr`."""

from __future__ import annotations

import itertools
import json
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import models, prng
from rbjax.data import DatasetInfo
from rbjax.inputs import to_float
from rbjax.typing import Key, LogitsFn, Perturbation

NEAR_TIE = 1e-5
"""Top two logits this close may change places with the order of a sum."""


class Peer:
    """A PyTorch process that waits for requests; as a context manager it ends with the block."""

    def __init__(self, python: str, folder: Path) -> None:
        script = Path(__file__).with_name("torch_rpr.py")
        self.process = subprocess.Popen(
            [python, str(script), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()

    def ask(self, task: str, **request: Any) -> dict[str, Any]:
        """Returns the answer to one request; its errors are on the terminal."""
        request = {"task": task, **request}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the PyTorch process ended at {task}")
        return json.loads(line)


class Way(NamedTuple):
    """How PyTorch runs."""

    layout: str
    threads: int

    def __str__(self) -> str:
        """Returns a column's worth."""
        return f"{self.layout}, {self.threads} threads"


def rates(
    peer: Peer, task: str, layouts: tuple[str, ...], threads: tuple[int, ...], **options: Any
) -> dict[Way, float]:
    """Returns the draws per second of a task in each layout and number of threads.

    Args:
        peer: the process.
        task: its name.
        layouts: to try.
        threads: to try.
        **options: of the task; each way is warmed up with the same.

    Returns:
        The rates, one trial each.
    """
    found = {}
    for way in (Way(*both) for both in itertools.product(layouts, dict.fromkeys(threads))):
        request = {**way._asdict(), "options": options}
        peer.ask(task, **request)
        done = peer.ask(task, **request)
        found[way] = done["num_draws"] / done["seconds"]
    return found


def export(
    folder: Path,
    model: models.Model,
    variables: dict[str, Any],
    info: DatasetInfo,
    images: np.ndarray,
    labels: np.ndarray,
) -> None:
    """Writes what the peer needs of the simple CNN and the images."""
    params = variables["params"]
    backbone = params["backbone"]
    arrays: dict[str, Any] = {
        "head_kernel": params["head"]["kernel"],
        "head_bias": params["head"]["bias"],
    }
    for number in (0, 1):
        for part in ("kernel", "bias"):
            arrays[f"conv{number}_{part}"] = backbone[f"Conv_{number}"][part]
    arrays = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    arrays |= {
        "mean": np.asarray(info.mean, np.float32),
        "std": np.asarray(info.std, np.float32),
        "mapped_height": np.asarray((model.image_shape[0] - 4) // 2),
        "images": np.asarray(to_float(images)),
        "labels": labels.astype(np.int64),
    }
    np.savez(folder / "peer.npz", **arrays)


class Drawn(NamedTuple):
    """The perturbed images of some images."""

    perturbed: np.ndarray
    """(M, T, H, W, C) float32."""
    near: np.ndarray
    """(M, T) bool, whether the top two logits lie within `NEAR_TIE`."""


def draw(
    logits_fn: LogitsFn,
    key: Key,
    perturbation: Perturbation,
    images: np.ndarray,
    example_ids: np.ndarray,
    max_steps: int,
) -> Drawn:
    """Returns every draw that `rbjax.rpr.score` may make of some images.

    Args:
        logits_fn: images -> logits, for the near ties.
        key: of the scores.
        perturbation: of the scores.
        images: (M, H, W, C).
        example_ids: (M,).
        max_steps: T.

    Returns:
        The perturbed images.
    """
    draws = jnp.arange(1, max_steps + 1)

    @jax.jit
    def draw_all(image_key: Key, image: np.ndarray) -> tuple[jax.Array, jax.Array]:
        keys = jax.vmap(prng.fold_in, in_axes=(None, 0))(image_key, draws)
        perturbed = jax.vmap(perturbation, in_axes=(0, None))(keys, to_float(image))
        top, _ = jax.lax.top_k(logits_fn(perturbed), 2)
        return perturbed, top[:, 0] - top[:, 1] < NEAR_TIE

    keys = prng.per_example(key, jnp.asarray(example_ids))
    drawn = [draw_all(*pair) for pair in zip(keys, images, strict=True)]
    return Drawn(*(np.stack(part) for part in zip(*drawn, strict=True)))


class Agreement(NamedTuple):
    """First failures of both sides on the same perturbed images."""

    differing: int
    """Images whose first failures differ."""
    unexplained: int
    """Those of them that no near tie explains."""


def agree(
    peer: Peer, folder: Path, drawn: Drawn, labels: np.ndarray, first_failure: np.ndarray
) -> Agreement:
    """Hands perturbed images to the peer and compares first failures.

    Args:
        peer: the process.
        folder: where the perturbed images are written.
        drawn: of M images.
        labels: (M,).
        first_failure: (M,) of `rbjax.rpr.score`.

    Returns:
        How far the two agree.
    """
    path = folder / "perturbed.npz"
    np.savez(path, perturbed=drawn.perturbed, labels=labels.astype(np.int64))
    theirs = np.array(peer.ask("first_failures", options={"path": str(path)})["first_failure"])
    differing = first_failure != theirs
    # The earlier of the two is the draw that one side calls a failure and the other does not.
    num_images, max_steps = drawn.near.shape
    disputed = np.minimum(np.minimum(first_failure, theirs), max_steps) - 1
    explained = drawn.near[np.arange(num_images), disputed]
    return Agreement(int(differing.sum()), int(np.sum(differing & ~explained)))


def choose_rows(first_failure: np.ndarray, max_steps: int, num_rows: int) -> np.ndarray:
    """Returns rows to compare, half of them images that fail, but not at once, if there are."""
    late = np.flatnonzero((first_failure > 1) & (first_failure <= max_steps))[: num_rows // 2]
    others = np.setdiff1d(np.arange(len(first_failure)), late)
    return np.sort(np.concatenate([late, others[: num_rows - len(late)]]))
