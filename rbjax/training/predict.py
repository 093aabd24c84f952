"""What a model says of every example of a dataset, each counted once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from rbjax import prng
from rbjax.blocks import Block, Blocks, Examples, Placement, block_size
from rbjax.classifier import Classifier, Model, answer, as_classifier, classify, keys_of, predicted
from rbjax.data import Dataset
from rbjax.losses.adversarial import cross_entropy
from rbjax.typing import Array, AttackResult, Key


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

    def ask(model: Classifier, keys: Key, images: Array, labels: Array) -> dict[str, Array]:
        del labels
        return {"predictions": classify(model, keys, images)}

    return _map(ask, logits_fn, dataset, batch_size, key)["predictions"]


def predict_with_loss(
    logits_fn: Model, dataset: Dataset, *, batch_size: int = 256, key: Key | None = None
) -> tuple[np.ndarray, float]:
    """Returns the class a model gives each example, and its mean cross-entropy.

    Args:
        logits_fn: as for `predict`.
        dataset: the examples.
        batch_size: as for `predict`.
        key: as for `predict`.

    Returns:
        As `predict`; and -log p_y, averaged over the examples in float64.
    """

    def ask(model: Classifier, keys: Key, images: Array, labels: Array) -> dict[str, Array]:
        predictions, losses = _judged(answer(model, keys, images), labels)
        return {"predictions": predictions, "losses": losses}

    answers = _map(ask, logits_fn, dataset, batch_size, key)
    return answers["predictions"], float(np.mean(answers["losses"], dtype=np.float64))


def predict_attacked(
    attack: Callable[..., AttackResult],
    logits_fn: Model,
    dataset: Dataset,
    *,
    key: Key,
    batch_size: int = 256,
) -> np.ndarray:
    """Returns the class a model gives each example after an attack on it.

    Args:
        attack: (logits_fn, keys, images, labels) -> what it found.
        logits_fn: as for `predict`.
        dataset: the examples.
        key: what the attack draws from, by example.
        batch_size: as for `predict`.

    Returns:
        As `predict`.
    """

    def ask(model: Classifier, keys: Key, images: Array, labels: Array) -> dict[str, Array]:
        return {"predictions": attack(model, keys, images, labels).predictions}

    return _map(ask, logits_fn, dataset, batch_size, key)["predictions"]


@jax.jit
def _judged(logits: Array, labels: Array) -> tuple[Array, Array]:
    return predicted(logits), cross_entropy(logits, labels)


def _map(
    ask: Callable[[Classifier, Key, Array, Array], Mapping[str, Any]],
    logits_fn: Model,
    dataset: Dataset,
    batch_size: int,
    key: Key | None,
) -> dict[str, np.ndarray]:
    """Asks of every block (model, keys (B,), images, labels) -> arrays (B,) by name."""
    placement, key = Placement(), prng.key(0) if key is None else prng.check(key)
    model = as_classifier(logits_fn).placed(placement.whole)
    examples = Examples(
        dataset.images, dataset.labels, dataset.example_ids, dataset.info.num_classes
    )
    blocks = Blocks(examples, placement, block_size(dataset.num_examples, batch_size, placement))

    def of_block(block: Block, images: Array) -> Mapping[str, Any]:
        rows = block.padded
        ids, labels = placement.split((examples.example_ids[rows], examples.labels[rows]))
        return ask(model, keys_of(key, ids), images, labels)

    return blocks.map(of_block)
