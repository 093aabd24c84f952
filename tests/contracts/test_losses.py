"""What every loss keeps to."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import losses, testing
from rbjax.losses import adversarial
from rbjax.testing.functions import LABELS, LOGITS
from rbjax.typing import LossFn

COUNTS = np.array([40, 20, 10, 5])  # as a training set has them

FUNCTIONS: dict[str, LossFn] = {
    **{name: losses.create(name, class_counts=COUNTS) for name in losses.LOSSES},
    "weighted": losses.create(
        "focal", class_counts=COUNTS, class_weights="effective_number", start_epoch=3
    ),
    "smoothed": losses.create("cross_entropy", label_smoothing=0.1),
    "adversarial.cross_entropy": adversarial.cross_entropy,
    "adversarial.margin": adversarial.margin,
    "adversarial.probability_margin": adversarial.probability_margin,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_contract(name: str):
    testing.check_loss(FUNCTIONS[name])


def per_batch(logits, labels):
    losses_ = FUNCTIONS["cross_entropy"](logits, labels)
    return losses_ / losses_.mean()


MUTANTS: dict[str, tuple[LossFn, str]] = {
    "a mean": (lambda z, y: FUNCTIONS["cross_entropy"](z, y).mean(), "one an example"),
    "bfloat16": (
        lambda z, y: FUNCTIONS["cross_entropy"](z.astype(jnp.bfloat16), y).astype(z.dtype),
        "float32",
    ),
    "by the batch": (per_batch, "depends on the batch"),
    "overflows": (
        lambda z, y: (
            -jnp.log(
                jnp.exp(z.astype(jnp.float32))[jnp.arange(len(y)), y]
                / jnp.exp(z.astype(jnp.float32)).sum(-1)
            )
        ),
        "not finite",
    ),
    "rises": (lambda z, y: -FUNCTIONS["cross_entropy"](z, y), "does not fall"),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_wrong_loss_fails(mutant: str):
    loss_fn, reason = MUTANTS[mutant]
    with pytest.raises(AssertionError, match=reason):
        testing.check_loss(loss_fn)


@pytest.mark.parametrize("name", ["class_balanced", "balanced_softmax", "ldam"])
def test_missing_class_counts_are_named(name: str):
    with pytest.raises(ValueError, match=f"'{name}' needs class_counts"):
        losses.create(name)


def test_unknown_name_gets_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'cross_entropy'"):
        losses.create("cross_entrpy")


def test_unknown_option_gets_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'label_smoothing'"):
        losses.create("cross_entropy", label_smothing=0.1)


def test_class_counts_are_ignored_where_they_have_no_part():
    loss = losses.create("cross_entropy", class_counts=[0, 0, 0, 0])(LOGITS, LABELS)
    np.testing.assert_array_equal(loss, losses.create("cross_entropy")(LOGITS, LABELS))
