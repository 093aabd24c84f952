"""A model that is known: an image's first channel is its own failure probability.

The perturbation draws the second channel, and the model fails where the draw lies below the first.
Nothing is rounded, so that results agree to the last draw whatever the batch's shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from rbjax import rpr

KEY = jax.random.key(0)
NUM_CLASSES = 3
MIXED = np.random.default_rng(0).choice([0.0, 0.01, 0.1, 0.6, 1.0], 203)


def redraw(key, image):
    return image.at[..., 1].set(jax.random.uniform(key, image.shape[:-1]))


def threshold(classes, images):
    """Class 0 where the draw is at least the failure probability, else class 1."""
    fails = images[:, 0, 0, 1] < images[:, 0, 0, 0]
    return jax.nn.one_hot(fails.astype(int), classes.shape[0])


LOGITS_FN = Partial(threshold, jnp.zeros(NUM_CLASSES))


def make_images(probabilities):
    """Returns images (N, 1, 1, 2) whose clean draw is 0.5."""
    probabilities = np.asarray(probabilities, np.float32)
    return np.stack([probabilities, np.full_like(probabilities, 0.5)], -1)[:, None, None, :]


def score(
    probabilities, max_steps=20, labels=None, scorer: Callable[..., Any] = rpr.score, **options
) -> Any:
    images = make_images(probabilities)
    labels = np.zeros(len(images), np.int32) if labels is None else labels
    options = {
        "logits_fn": LOGITS_FN,
        "devices": jax.local_devices()[:1],
        "perturbation": redraw,
        **options,
    }
    return scorer(key=KEY, images=images, labels=labels, max_steps=max_steps, **options)
