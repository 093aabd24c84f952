"""What a model says of every example of a dataset, each counted once."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from rbjax.blocks import Blocks, Examples, Placement, block_size
from rbjax.data import Dataset
from rbjax.typing import Array, LogitsFn


def predict(logits_fn: LogitsFn, dataset: Dataset, *, batch_size: int = 256) -> np.ndarray:
    """Returns the class a model gives each example.

    Args:
        logits_fn: a `jax.tree_util.Partial`, so that new weights do not compile again.
        dataset: the examples.
        batch_size: examples a call, over all local devices; the result does not depend on it.

    Returns:
        (N,) int32, in the dataset's order.
    """
    placement = Placement()
    model = placement.replicate(logits_fn)
    examples = Examples(
        dataset.images, dataset.labels, dataset.example_ids, dataset.info.num_classes
    )
    blocks = Blocks(examples, placement, block_size(dataset.num_examples, batch_size, placement))
    return blocks.map(lambda _, images: {"predictions": classes(model, images)})["predictions"]


@jax.jit
def classes(logits_fn: LogitsFn, images: Array) -> Array:
    """Returns the class with the largest logit of each image of a batch, (B,) int32."""
    return jnp.argmax(logits_fn(images), axis=-1).astype(jnp.int32)
