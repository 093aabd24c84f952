"""What methods that treat classes apart share: numbers of classes, and sums over their examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import jax
import jax.numpy as jnp

from rbjax.options import MOST, Range
from rbjax.typing import Array

ClassNumber = Annotated[int, Range(low=0, high=MOST)]


def check_class(field: str, number: int | None, num_classes: int) -> None:
    """Refuses the number of a class that the dataset does not have.

    Args:
        field: the option of the method.
        number: given for it; None: no class is.
        num_classes: K.

    Raises:
        ValueError: for a number beyond K - 1.
    """
    if number is not None and number >= num_classes:
        raise ValueError(
            f"method.{field} is {number}; it must be between 0 and {num_classes - 1}, the last "
            "class"
        )


def check_one_a_class(field: str, given: Sequence[float], num_classes: int) -> None:
    """Refuses other numbers of values than classes.

    Args:
        field: the option of the method.
        given: its values; empty: none are given.
        num_classes: K.

    Raises:
        ValueError: for other than 0 or K values.
    """
    if given and len(given) != num_classes:
        raise ValueError(
            f"method.{field} has {len(given)} entries; it must have {num_classes}, one a class"
        )


def class_sums(labels: Array, values: Array, num_classes: int) -> Array:
    """Returns the sum of each class's values, (K, ...) float32.

    Args:
        labels: (B,) integers in [0, K).
        values: (B, ...) float32.
        num_classes: K.
    """
    of_class = jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)
    # A product: where added up by scattering, GPUs add in any order; and without TF32's rounding.
    return jnp.einsum("bk,b...->k...", of_class, values, precision="highest")


def class_counts(labels: Array, num_classes: int) -> Array:
    """Returns how many examples of each class there are, (K,) float32.

    Args:
        labels: (B,) integers in [0, K).
        num_classes: K.
    """
    return class_sums(labels, jnp.ones(len(labels), jnp.float32), num_classes)
