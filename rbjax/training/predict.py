"""What a model says of every example of a dataset, each counted once."""

from __future__ import annotations

import numpy as np

from rbjax import prng
from rbjax.blocks import Block, Blocks, Examples, Placement, block_size
from rbjax.classifier import Model, as_classifier, classify, keys_of
from rbjax.data import Dataset
from rbjax.typing import Array, Key


def predict(
    logits_fn: Model, dataset: Dataset, *, batch_size: int = 256, key: Key | None = None
) -> np.ndarray:
    """Returns the class a model gives each example.

    Args:
        logits_fn: images -> logits (B, K), or a randomised classifier.
        dataset: the examples.
        batch_size: examples a call, over all local devices; the result does not depend on it.
        key: what a randomised classifier draws from; None: `jax.random.key(0)`.

    Returns:
        (N,) int32, in the dataset's order; -1 where the answer is of no class, such as NaN.

    Raises:
        ValueError: if the model gives no logits of at least two classes.
    """
    placement, key = Placement(), prng.key(0) if key is None else prng.check(key)
    model = as_classifier(logits_fn).placed(placement.whole)
    examples = Examples(
        dataset.images, dataset.labels, dataset.example_ids, dataset.info.num_classes
    )
    blocks = Blocks(examples, placement, block_size(dataset.num_examples, batch_size, placement))

    def ask(block: Block, images: Array) -> dict[str, Array]:
        ids = placement.split(examples.example_ids[block.padded])
        return {"predictions": classify(model, keys_of(key, ids), images)}

    return blocks.map(ask)["predictions"]
