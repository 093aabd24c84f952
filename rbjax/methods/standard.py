"""Standard training: the model sees the images as they are."""

from __future__ import annotations

from rbjax.training.method import Method


def standard() -> Method:
    """Returns empirical risk minimisation, min_w E loss(f_w(x), y)."""
    return Method(mixup=True)
