"""AlignMNIST made by rbjax: MNIST's training images, deformed as images of their class differ.

Image i of block b is `round(255 warp(x_i))`, theta ~ N(0, scale^2 Sigma_c) with the Gaussian of
its class c (`alignment`), from the key `fold_in(fold_in(key, example_id), b)`: independent of how
MNIST is stored.
"""

from __future__ import annotations

import functools
import hashlib
import json
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import atomic, cpab, prng
from rbjax.data import digests, order
from rbjax.data.alignmnist import alignment
from rbjax.inputs import check_labels, check_real
from rbjax.typing import Array, Key

_BATCH = 1000


class Recipe(NamedTuple):
    """How blocks are made; the defaults are documented in `rbjax.data.alignmnist`."""

    alignment: alignment.Settings = alignment.Settings()
    """How the Gaussians are learnt."""
    scale: float = 0.85
    """What theta is multiplied by."""
    num_steps: int = 10
    """Of the flow's integration."""
    seed: int = 0
    """Of the draws."""


DEFAULT = Recipe()


def deform(
    images: np.ndarray,
    labels: np.ndarray,
    example_ids: np.ndarray,
    covariances: np.ndarray,
    *,
    block: int,
    recipe: Recipe = DEFAULT,
) -> np.ndarray:
    """Deforms images, each with the Gaussian of its class.

    Args:
        images: (N, H, W, C) uint8.
        labels: (N,) integers in [0, K).
        example_ids: (N,) integers, what keys are derived from.
        covariances: (K, d, d), of `alignment.learn`.
        block: which draw, from 1.
        recipe: scale, steps, seed and the space of theta.

    Returns:
        (N, H, W, C) uint8.

    Raises:
        ValueError: if the scale is negative or not finite.
    """
    scale = check_real("scale", recipe.scale)
    labels = check_labels(labels, num_examples=len(images), num_classes=len(covariances))
    factors = np.stack([scale * cpab.factor(each) for each in covariances])
    base = prng.key(recipe.seed)
    size = min(_BATCH, len(images))
    deformed = np.empty_like(images)
    for start in range(0, len(images), size):
        # The last batch repeats some rows: one shape, one compilation.
        rows = np.arange(size) + min(start, len(images) - size)
        keys = prng.per_draw(prng.per_example(base, jnp.asarray(example_ids[rows])), block)
        deformed[rows] = _deform(
            keys,
            images[rows],
            factors[labels[rows]],
            field=recipe.alignment.field,
            num_steps=recipe.num_steps,
        )
    return deformed


class Maker(NamedTuple):
    """A training split, and the folder for blocks made from it."""

    images: np.ndarray
    """(N, H, W, C) uint8, as stored."""
    labels: np.ndarray
    """(N,) int32."""
    folder: Path
    recipe: Recipe = DEFAULT
    num_classes: int = 10

    def covariances(self) -> np.ndarray:
        """Returns the classes' Gaussians, (K, d, d) float64, learnt the first time."""
        ids = order.example_ids(self.images, self.labels)
        return alignment.learnt(
            self.images,
            self.labels,
            ids,
            self.recipe.alignment,
            folder=self.folder / self._digest(),
            num_classes=self.num_classes,
        )

    def block(self, number: int) -> np.ndarray:
        """Returns a block, mapped from its file, which is made if there is none, or a damaged one.

        Args:
            number: from 1.

        Returns:
            (N, H, W, C) uint8.
        """
        text = json.dumps(atomic.plain(self.recipe._asdict()), sort_keys=True)
        name = f"block-{number:02d}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.npy"
        path = self.folder / self._digest() / name
        try:
            kept = np.load(path, mmap_mode="r", allow_pickle=False)
            fits = kept.shape == self.images.shape and kept.dtype == np.uint8
            if fits and digests.is_intact(path):
                return kept
            print(f"{path} is damaged", file=sys.stderr)
        except FileNotFoundError:
            pass
        except atomic.DAMAGED:
            print(f"{path} is damaged", file=sys.stderr)
        print(f"alignmnist_generated: block {number} is made once, in {path}", file=sys.stderr)
        ids = order.example_ids(self.images, self.labels)
        covariances = self.covariances()
        deformed = deform(
            self.images, self.labels, ids, covariances, block=number, recipe=self.recipe
        )
        with atomic.replace(path) as file:
            np.lib.format.write_array(file, deformed, allow_pickle=False)
        digests.seal(path)
        return np.load(path, mmap_mode="r", allow_pickle=False)

    def _digest(self) -> str:
        """Returns a digest of this split in this order, on which the blocks depend."""
        digest = hashlib.sha256(np.ascontiguousarray(self.images))
        digest.update(np.ascontiguousarray(self.labels.astype("<i4")))
        return digest.hexdigest()[:12]


@functools.partial(jax.jit, static_argnames=("field", "num_steps"))
def _deform(
    keys: Key, images: Array, factors: Array, *, field: cpab.Field, num_steps: int
) -> Array:
    change = functools.partial(cpab.random_warp, field=field, num_steps=num_steps)
    warped = jax.vmap(change)(keys, images.astype(jnp.float32) / 255, factors)
    return jnp.round(255 * warped).astype(jnp.uint8)
