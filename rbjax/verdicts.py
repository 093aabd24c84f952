"""What a model says of images, on the host: the class of each, and its probability."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
import scipy.special

from rbjax.classifier import predicted
from rbjax.inputs import NO_CLASS
from rbjax.typing import Array


class Verdicts(NamedTuple):
    """The class of each image."""

    predictions: np.ndarray
    """(B,) int32; `NO_CLASS` where it is none."""
    probability: np.ndarray
    """(B,) float32, what the model gives that class: NaN where it is none, or its logit is not
    finite."""


def verdicts(logits: Array | np.ndarray) -> Verdicts:
    """Returns the class of each row of logits (B, K), and its probability.

    p_y = exp(z_y) / sum_k exp(z_k) for y = argmax_k z_k.
    """
    classes, probabilities = np.asarray(_predicted(logits)), softmax(logits)
    chosen = np.take_along_axis(probabilities, np.maximum(classes, 0)[:, None], axis=-1)[:, 0]
    return Verdicts(classes, np.where(classes == NO_CLASS, np.float32(np.nan), chosen))


def softmax(logits: Array | np.ndarray) -> np.ndarray:
    """Returns the probabilities of logits (B, K), float32; NaN beside a logit that is infinite."""
    rows = np.asarray(logits, np.float64)
    with np.errstate(invalid="ignore"):
        return scipy.special.softmax(rows, axis=-1).astype(np.float32)


_predicted = jax.jit(predicted)
