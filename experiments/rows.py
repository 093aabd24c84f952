"""Rows of grids: what a training method, a loss or a remedy for imbalance changes in a config."""

from __future__ import annotations

from collections.abc import Callable

from rbjax.config import Config

Row = Callable[[Config], None]
"""Changes a config, in place."""


def method(name: str, **options: object) -> Row:
    """Returns the row of a training method with its options."""

    def row(config: Config) -> None:
        config.method.update(name=name, **options)

    return row


def loss(name: str, **options: object) -> Row:
    """Returns the row of a loss with its options."""

    def row(config: Config) -> None:
        config.loss.update(name=name, **options)

    return row


def ldam_drw(config: Config) -> None:
    """Margins, a cosine head, and class weights in the last fifth of the epochs."""
    config.model.head = "cosine"
    start = config.num_epochs - max(config.num_epochs // 5, 1)
    config.loss.update(name="ldam", class_weights="effective_number", start_epoch=start)


REMEDIES: dict[str, Row] = {
    "class_balanced": loss("class_balanced"),
    "ldam_drw": ldam_drw,
    "balanced_softmax": loss("balanced_softmax"),
    "logit_adjustment": loss("logit_adjustment"),
}
"""For imbalance, by the loss."""
