"""The checks of models and methods pass what is right, and refuse what is not."""

from __future__ import annotations

import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from rbjax import methods, models, testing
from rbjax.methods import Method, MethodState, Prepared
from rbjax.models import Model
from rbjax.testing import training as suite
from tests.training import toy_methods as toys


def small_model() -> Model:
    return models.create(
        "mlp", num_classes=3, image_shape=(6, 6, 1), mean=(0.5,), std=(0.25,), widths=(4,)
    )


def test_right_ones_pass():
    testing.check_model(small_model())
    testing.check_method(methods.standard())


def test_methods_with_hooks_pass_and_the_hooks_are_called():
    calls: list[int] = []
    both = toys.validation_weights()._replace(prepare=toys.half_the_data(calls).prepare)
    testing.check_method(both, num_devices=1)
    assert len(calls) == 3  # and once read back
    testing.check_method(toys.guard(), num_devices=1)


@pytest.mark.parametrize(
    ("check", "part", "reason"),
    [
        (testing.check_method, 5, "is an rbjax.methods.Method.*; this is a int"),
        (testing.check_method, methods.standard, "as its maker returns it.*this is a function"),
        (testing.check_model, nn.Dense(3), r"this is a Flax module; make it by models.create\("),
        (testing.check_model, 5, "this is a int"),
        (testing.check_loss, 5, r"\(logits \(B, K\), labels \(B,\)\).*this is a int"),
        (testing.check_loss, lambda *, gamma=1.0: None, "a maker has to be called first"),
        (testing.check_loss, lambda logits, labels: None, "returns a NoneType"),
        (testing.check_perturbation, 5, r"\(key, image\) -> image.*this is a int"),
        (testing.check_perturbation, lambda *, least=1.0: None, "a maker has to be called first"),
    ],
)
def test_another_kind_of_thing_is_told_what_is_expected(check: Any, part: Any, reason: str):
    with pytest.raises(AssertionError, match=f"{check.__name__}.*{reason}"):
        check(part)


def test_one_device_is_said_to_check_nothing(monkeypatch):
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    monkeypatch.setattr(suite, "check_prepare", lambda method: 1 / 0)
    with (
        pytest.warns(UserWarning, match=r"there is one local device.*device_count=8.*=1"),
        pytest.raises(ZeroDivisionError),
    ):
        testing.check_method(methods.standard())
    with pytest.raises(ZeroDivisionError):  # and no warning, which would be an error here
        testing.check_method(methods.standard(), num_devices=1)
    with pytest.raises(ValueError, match=r"num_devices = 8: .* at most the 1 local devices"):
        testing.check_method(methods.standard(), num_devices=8)


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


def counting(key: Any, state: Any, epoch: Any) -> Any:
    """A state that depends on how often it was returned."""
    del key, epoch
    moved = jax.tree.map(lambda leaf: leaf + jnp.float32(next(CALLS)), state.variables)
    return state._replace(variables=moved)


def cast(key: Any, state: Any, epoch: Any) -> Any:
    del key, epoch
    return state._replace(variables=jax.tree.map(lambda leaf: leaf.astype("f2"), state.variables))


def shrinking(key: Any, train_set: Any, model: Any) -> Prepared:
    """Another training set each time."""
    del key, model
    return Prepared(train_set.take(jnp.arange(20 - next(CALLS) % 8)))


WRONG_METHODS = {
    "after_epoch: None": (
        Method(after_epoch=lambda key, state, epoch: None),  # pyright: ignore[reportArgumentType]
        "after_epoch returned a NoneType",
    ),
    "after_epoch: a count": (Method(after_epoch=counting), "another state each time"),
    "after_epoch: a dtype": (Method(after_epoch=cast), r"returned variables.* as float16"),
    "prepare: None": (
        Method(prepare=lambda key, data, model: None),  # pyright: ignore[reportArgumentType]
        "prepare returned a NoneType",
    ),
    "prepare: a count": (Method(prepare=shrinking), "prepare returns something else each time"),
    "prepare: arrays": (
        Method(prepare=lambda key, data, model: Prepared(data.images)),
        "a training set that is a ndarray",
    ),
    "prepare: weights": (
        Method(prepare=lambda key, data, model: Prepared(variables={"params": jnp.ones(3)})),
        r"prepare returned params.* as float32\[3\]",
    ),
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
