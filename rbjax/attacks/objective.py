"""What an attack climbs, from a loss, the classes it is of, and which way."""

from __future__ import annotations

from typing import Literal

from rbjax.attacks.classifier import Objective
from rbjax.losses import adversarial
from rbjax.tables import lookup
from rbjax.typing import Array, LossFn

Direction = Literal["ascent", "descent"]

LOSSES: dict[str, LossFn] = {
    "cross_entropy": adversarial.cross_entropy,
    "margin": adversarial.margin,
    "dlr": adversarial.dlr,
    "kl": adversarial.kl_divergence,
}
"""All but "kl" are of the labels; it is of the logits of the image as it is."""

LOSS_NAMES = '`"cross_entropy"`, `"margin"`, `"dlr"`, `"kl"`'


def create(loss: str | LossFn) -> LossFn:
    """Returns a loss by name; a function as it is.

    Raises:
        ValueError: for an unknown name, or what is neither.
    """
    if isinstance(loss, str):
        return lookup(LOSSES, loss, what="loss")
    if not callable(loss):
        raise ValueError(
            f"loss is {loss!r}; it must be a name ({', '.join(LOSSES)}) or a function "
            "(logits, labels) -> (B,)"
        )
    return loss


def is_of_clean_logits(loss: LossFn) -> bool:
    """Returns whether a loss compares with the logits of the clean image, not with a label."""
    return loss is adversarial.kl_divergence


def objective(
    loss: LossFn,
    direction: Direction | None,
    labels: Array,
    targets: Array | None,
    clean_logits: Array | None,
) -> Objective:
    """Returns what is climbed, logits (B, K) -> (B,).

    Args:
        loss: as `create` gives it.
        direction: whether the loss is raised or lowered; None: raised for labels, lowered for
            targets.
        labels: (B,).
        targets: (B,), in place of the labels where there are any.
        clean_logits: (B, K), in place of both where the loss is of them.
    """
    lowered = (direction or ("ascent" if targets is None else "descent")) == "descent"
    sign = -1.0 if lowered else 1.0
    if targets is not None and loss is adversarial.dlr:
        # The ratio of the target alone is constant where it is third: it is of label and target.
        return lambda logits: -sign * adversarial.targeted_dlr(logits, labels, targets)
    reference = labels if targets is None else targets
    reference = reference if clean_logits is None else clean_logits
    return lambda logits: sign * loss(logits, reference)
