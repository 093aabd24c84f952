"""What every loss keeps to."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import losses
from rbjax.losses import adversarial
from rbjax.typing import LossFn

NUM_CLASSES = 4
COUNTS = [40, 20, 10, 5]
LOGITS = 3 * jax.random.normal(jax.random.key(0), (8, NUM_CLASSES))
LABELS = jnp.array([0, 1, 2, 3, 3, 2, 1, 0])

FUNCTIONS: dict[str, LossFn] = {
    **{name: losses.create(name, class_counts=COUNTS) for name in losses.LOSSES},
    "smoothed": losses.create("cross_entropy", label_smoothing=0.1),
    "adversarial.cross_entropy": adversarial.cross_entropy,
    "adversarial.margin": adversarial.margin,
}


@pytest.mark.parametrize("name", FUNCTIONS)
class TestLoss:
    def test_one_float32_per_example(self, name: str):
        for dtype in (jnp.float32, jnp.bfloat16):
            loss = FUNCTIONS[name](LOGITS.astype(dtype), LABELS)
            assert loss.shape == (8,)
            assert loss.dtype == jnp.float32

    def test_bfloat16_logits_are_computed_in_float32(self, name: str):
        coarse = LOGITS.astype(jnp.bfloat16)
        expected = FUNCTIONS[name](coarse.astype(jnp.float32), LABELS)
        np.testing.assert_array_equal(FUNCTIONS[name](coarse, LABELS), expected)

    def test_example_stands_alone(self, name: str):
        together = FUNCTIONS[name](LOGITS, LABELS)
        alone = jnp.stack(
            [FUNCTIONS[name](LOGITS[i : i + 1], LABELS[i : i + 1])[0] for i in range(8)]
        )
        np.testing.assert_allclose(together, alone, rtol=1e-6)

    def test_jit_and_gradient(self, name: str):
        loss_fn = FUNCTIONS[name]
        np.testing.assert_allclose(
            jax.jit(loss_fn)(LOGITS, LABELS), loss_fn(LOGITS, LABELS), rtol=1e-5
        )
        gradient = jax.grad(lambda z: loss_fn(z, LABELS).sum())(100 * LOGITS)
        assert np.isfinite(gradient).all()

    def test_falls_as_the_true_logit_rises(self, name: str):
        gradient = jax.grad(lambda z: FUNCTIONS[name](z, LABELS).sum())(LOGITS / 100)
        assert (np.asarray(gradient)[np.arange(8), LABELS] < 0).all()


@pytest.mark.parametrize("name", ["class_balanced", "balanced_softmax"])
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
