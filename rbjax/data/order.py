"""Orders that depend on a seed and on the examples, never on where they are stored."""

from __future__ import annotations

import hashlib
import zlib

import numpy as np

from rbjax.inputs import ANY_NUMBER, check_labels


def example_ids(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns each example's rank in its split by SHA-256 of label and pixels.

    The rank does not depend on the order in which the split is stored.  Equal examples (same label,
    same pixels) take consecutive ranks in the order they are stored in.

    Args:
        images: (N, H, W, C) uint8.
        labels: (N,) integers.

    Returns:
        (N,) int32, a permutation of 0 to N - 1.
    """
    labels = check_labels(labels, num_examples=len(images), num_classes=ANY_NUMBER)
    little_endian = labels.astype("<i4")
    digests = b"".join(
        hashlib.sha256(label.tobytes() + image.tobytes()).digest()
        for label, image in zip(little_endian, images, strict=True)
    )
    words = np.frombuffer(digests, ">u8").reshape(-1, 4).astype(np.uint64)
    ranks = np.empty(len(labels), np.int32)
    ranks[np.lexsort(words.T[::-1])] = np.arange(len(labels), dtype=np.int32)
    return ranks


def priorities(numbers: np.ndarray, *, seed: int, name: str, epoch: int = 0) -> np.ndarray:
    """Returns a random number for each number, a function of it and of the seed alone.

    NumPy guarantees that the raw output of its bit generators never changes, unlike its shuffles.

    Args:
        numbers: (N,) integers >= 0, such as example ids.
        seed: an integer >= 0.
        name: the purpose of the random numbers, for example "validation".
        epoch: an integer >= 0.

    Returns:
        (N,) uint64.

    Raises:
        ValueError: if the seed or the epoch is negative or not an integer.
    """
    for field, value in (("seed", seed), ("epoch", epoch)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
            raise ValueError(f"{field} = {value!r}: must be an integer of at least 0")
    if len(numbers) == 0:
        return np.empty(0, np.uint64)
    stream = np.random.Philox(np.random.SeedSequence([seed, epoch, zlib.crc32(name.encode())]))
    return stream.random_raw(int(np.max(numbers)) + 1)[numbers]


def epoch_order(num_examples: int, *, seed: int, epoch: int, batch_size: int) -> np.ndarray:
    """Returns the rows of each step of an epoch.

    A pure function of its arguments, so that a resumed run continues exactly.  A dataset's rows are
    in the order of `example_ids`, so the order does not depend on how the split is stored.

    Args:
        num_examples: N.
        seed: an integer >= 0.
        epoch: an integer >= 0.
        batch_size: B, at most N.

    Returns:
        (N // B, B) int32; no row twice.  The N % B rows that do not fill a batch are left out;
        they differ from epoch to epoch.

    Raises:
        ValueError: if an argument is out of range.
    """
    if not 1 <= batch_size <= num_examples:
        raise ValueError(
            f"batch_size = {batch_size}: must be in 1..{num_examples}, the number of examples"
        )
    order = np.argsort(
        priorities(np.arange(num_examples), seed=seed, name="epoch", epoch=epoch), kind="stable"
    )
    num_steps = num_examples // batch_size
    return order[: num_steps * batch_size].reshape(num_steps, batch_size).astype(np.int32)
