"""What is done to a trained model, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import models
from rbjax.training import posthoc
from tests.training.recipes import make_model

COUNTS = [100, 25, 4]
IMAGES = jax.random.uniform(jax.random.key(0), (5, 8, 8, 1))


def test_logit_adjustment_of_known_logits():
    model = make_model("mlp", None)._replace(
        apply=lambda variables, images: jnp.array([[0.5, 0.2, -0.1]])
    )
    adjusted = posthoc.adjust_logits(model, COUNTS)
    expected = [[0.754642, 1.840937, 3.373518]]
    np.testing.assert_allclose(adjusted.apply({}, IMAGES), expected, rtol=1e-6)
    assert posthoc.adjust_logits(model, np.array(COUNTS)) is adjusted
    half = posthoc.adjust_logits(model, COUNTS, tau=0.5).apply({}, IMAGES)
    np.testing.assert_allclose(half, (expected + np.array([[0.5, 0.2, -0.1]])) / 2, rtol=1e-6)
    with pytest.raises(ValueError, match="class_counts has 2 classes, the model 3"):
        posthoc.adjust_logits(model, [1, 2])


def test_normalized_heads_have_weights_of_one_length_and_no_bias():
    model = make_model("mlp", None)
    variables = model.init(jax.random.key(1), IMAGES)
    head = variables["params"]["head"]
    head["kernel"], head["bias"] = head["kernel"] * jnp.array([1.0, 3.0, 9.0]), jnp.ones(3)
    features = model.features(variables, IMAGES)
    lengths = np.linalg.norm(head["kernel"], axis=0)
    for tau in (0.0, 0.5, 1.0):
        logits = model.apply(posthoc.normalize_head(variables, tau=tau), IMAGES)
        np.testing.assert_allclose(logits, features @ (head["kernel"] / lengths**tau), rtol=1e-4)
    base = {"num_classes": 3, "image_shape": (8, 8, 1), "mean": (0.5,), "std": (0.25,)}
    cosine = models.create("mlp", **base, head="cosine").init(jax.random.key(1), IMAGES)
    with pytest.raises(ValueError, match=r"tau_norm = 1: needs a linear head, .* a cosine head"):
        posthoc.normalize_head(cosine)
