"""Exported weights: where they are, and the model that has them."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

from rbjax import models
from rbjax.typing import LogitsFn

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "peers" / "fixtures"
"""Where weights and what the peers found are kept."""


def path(name: str) -> Path:
    """Returns the file of a model's weights."""
    return FOLDER / f"{name}.npz"


def load(name: str) -> LogitsFn:
    """Returns a model with its exported weights.

    Args:
        name: the model, such as "mnist_pgd".

    Returns:
        images -> logits, a `jax.tree_util.Partial`.
    """
    with np.load(path(name)) as kept:
        arrays = dict(kept)
    params = {"head": {part: arrays[f"head_{part}"] for part in ("kernel", "bias")}}
    params["backbone"] = {
        f"Conv_{number}": {part: arrays[f"conv{number}_{part}"] for part in ("kernel", "bias")}
        for number in (0, 1)
    }
    model = models.create(
        "simple_cnn",
        num_classes=arrays["head_bias"].size,
        image_shape=tuple(arrays["image_shape"].tolist()),
        mean=arrays["mean"].tolist(),
        std=arrays["std"].tolist(),
        widths=(arrays["conv0_bias"].size, arrays["conv1_bias"].size),
    )
    return jax.tree_util.Partial(model.apply, jax.device_put({"params": params}))
