"""The checks of models and methods pass what is right, and refuse what is not."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from rbjax import methods, models, testing
from rbjax.methods import Method, MethodState
from rbjax.models import Model


def small_model() -> Model:
    return models.create(
        "mlp", num_classes=3, image_shape=(6, 6, 1), mean=(0.5,), std=(0.25,), widths=(4,)
    )


def test_right_ones_pass():
    testing.check_model(small_model())
    testing.check_method(methods.standard())


def centred(variables: Any, images: jax.Array) -> jax.Array:
    return small_model().apply(variables, images - images.mean(axis=0))


def half(variables: Any, images: jax.Array) -> jax.Array:
    return small_model().apply(variables, images).astype(jnp.bfloat16)


def masked_by_row(variables: Any, images: jax.Array, keys: jax.Array) -> Any:
    logits, stats = small_model().apply_train(variables, images, keys)
    return logits * jnp.arange(1, len(images) + 1)[:, None], stats


WRONG_MODELS = {
    "by the batch": ({"apply": centred}, "depends on the batch"),
    "bfloat16": ({"apply": half}, "not float32"),
    "by the row": ({"apply_train": masked_by_row}, "does not follow from the example's key"),
    "no features": ({"features": lambda variables, images: images}, r"not \(B, F\)"),
    "no weights": (
        {"apply": lambda variables, images: images.reshape(len(images), -1)[:, :3]},
        "other weights give the same logits",
    ),
}


@pytest.mark.parametrize("name", WRONG_MODELS)
def test_wrong_model_fails(name: str):
    change, reason = WRONG_MODELS[name]
    with pytest.raises(AssertionError, match=reason):
        testing.check_model(small_model()._replace(**change))


CALLS = itertools.count()


def hidden_count(*args: Any) -> MethodState:
    """A state that depends on how often it was made."""
    del args
    return MethodState(replicated=jnp.float32(next(CALLS)), per_row=())


WRONG_METHODS = {
    "not finite": (
        Method(loss=lambda seen: seen.task_loss(seen.outputs.logits) * jnp.inf),
        "not finite",
    ),
    "still": (Method(loss=lambda seen: 0 * seen.task_loss(seen.outputs.logits)), "do not move"),
    "another run": (
        Method(
            init=hidden_count,
            loss=lambda seen: seen.task_loss(seen.outputs.logits) * (1 + seen.state.replicated),
        ),
        "resumed run ends elsewhere",
    ),
    "by the device": (
        # The mean over a device's own rows, where sums over all devices are meant.
        Method(loss=lambda seen: seen.task_loss(seen.outputs.logits - seen.outputs.logits.mean(0))),
        "devices give other numbers",
    ),
}


@pytest.mark.parametrize("name", WRONG_METHODS)
def test_wrong_method_fails(name: str):
    method, reason = WRONG_METHODS[name]
    with pytest.raises(AssertionError, match=reason):
        testing.check_method(method)
