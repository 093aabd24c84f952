"""What rbjax's attacks find on the exported weights: robust or not, image by image."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.parity import peers, weights
from rbjax import attacks, data, prng

BATCH_SIZE = 250
"""What the peers' batches are; the result does not depend on it."""

OPTIONS: dict[str, dict[str, Any]] = {
    "pgd": {"num_steps": 40},  # of epsilon / 4
    "apgd": {"num_steps": 100, "loss": "cross_entropy"},
    "apgd_targeted": {"num_steps": 100, "num_targets": 9},
    "fab": {"num_steps": 100, "num_targets": 9},
    "square": {"num_queries": 5000},
}
"""Single attacks with the parameters that the peers have."""

PEERS = {
    "pgd": ("torchattacks_pgd", "foolbox_pgd"),
    "autoattack": ("autoattack", "four_alone"),
}
"""What the peers call an attack, where they call it something else."""


def is_there(name: str) -> bool:
    """Returns whether this rbjax has an attack."""
    return hasattr(attacks, "run_autoattack") if name == "autoattack" else name in attacks.ATTACKS


def peers_found(model: str) -> dict[str, np.ndarray]:
    """Returns what the peers found on a model.

    Args:
        model: such as "mnist_pgd".

    Returns:
        {attack: (seeds, N) bool, robust or not}; "four_alone", robust to every one of AutoAttack's
        attacks, each alone; "clean" (N,) bool; and the images' "labels" (N,).
    """
    with np.load(weights.FOLDER / f"{model}_peers.npz") as kept:
        found = dict(kept)
    four = ("apgd", "apgd_targeted", "fab", "square")
    if found.keys() >= set(four):
        found["four_alone"] = np.logical_and.reduce([found[name][:1] for name in four])
    return found


def robust(model: str, name: str, num_images: int, seed: int) -> np.ndarray:
    """Attacks a model's first images.

    Args:
        model: such as "mnist_pgd".
        name: an attack of `OPTIONS`, or "autoattack".
        num_images: how many of its images.
        seed: of the key.

    Returns:
        (num_images,) bool: right when clean, and still right after the attack.
    """
    test, logits_fn, key = (
        peers.images(model, num_images),
        weights.load(model),
        prng.key(seed),
    )
    if name != "autoattack":
        attack = attacks.create(name, epsilon=peers.EPSILON[model], **OPTIONS[name])
        return _alone(attack, logits_fn, key, test)
    result = attacks.run_autoattack(
        logits_fn,
        key,
        peers.pixels(test),
        jnp.asarray(test.labels),
        epsilon=peers.EPSILON[model],
        example_ids=test.example_ids,
    )
    return np.asarray(result.robust)


def _alone(attack: Any, logits_fn: Any, key: jax.Array, test: data.Dataset) -> np.ndarray:
    """Attacks what the model is right about; the last batch is filled up with its own images."""
    predictions = [
        jnp.argmax(logits_fn(peers.pixels(test.take(rows))), axis=-1)
        for rows in np.array_split(
            np.arange(test.num_examples), -(-test.num_examples // BATCH_SIZE)
        )
    ]
    robust = np.concatenate(predictions) == test.labels
    correct = np.flatnonzero(robust)
    size = min(BATCH_SIZE, len(correct))
    for start in range(0, len(correct), BATCH_SIZE):
        rows = np.resize(correct[start : start + size], size)
        part = test.take(rows)
        images, labels = peers.pixels(part), jnp.asarray(part.labels)
        keys = prng.per_example(key, jnp.asarray(part.example_ids))
        robust[rows] = ~np.asarray(attack(logits_fn, keys, images, labels).fooled)
    return robust
