"""The check of attacks takes what `run_attacks` takes, and says what it needs."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from rbjax import attacks, testing
from rbjax.testing import attacks as suite
from rbjax.typing import AttackResult

FGSM = attacks.fgsm(epsilon=0.1)


def plain(logits_fn: Any, keys: Any, images: Any, labels: Any, *, targets: Any = None) -> Any:
    return FGSM(logits_fn, keys, images, labels, targets=targets)


def changed(change: Any, *, logits: Any = None) -> Any:
    """The plain attack, with other images at the end."""

    def attack(logits_fn: Any, keys: Any, images: Any, labels: Any, *, targets: Any = None) -> Any:
        result = plain(logits_fn, keys, images, labels, targets=targets)
        moved = change(images, result.images)
        predictions = jnp.argmax(logits_fn(moved), -1)
        fooled = predictions != labels if targets is None else predictions == targets
        return AttackResult(moved, fooled, result.loss, predictions)

    return attack


def test_a_plain_function_passes_with_and_without_a_set():
    testing.check_attack(plain)
    testing.check_attack(plain, norm="linf", epsilon=0.1, num_devices=1)


WRONG = {
    "a number": (5, {}, "check_attack: an attack is called as"),
    "a maker": (attacks.fgsm, {}, "a maker has to be called first"),
    "images only": (lambda f, k, x, y: x, {}, "not an AttackResult"),
    "still": (changed(lambda images, moved: images), {}, "check_fall: the margin does not fall"),
    "too far": (plain, {"norm": "linf", "epsilon": 0.05}, "check_set: sizes"),
    "no targets": (
        lambda f, k, x, y: plain(f, k, x, y),
        {},
        "check_targets: .*targeted=False",
    ),
    "by row": (
        changed(lambda images, moved: moved * jnp.linspace(0.9, 1, 8)[:, None, None, None]),
        {"targeted": False},
        "check_order",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_one_fails(name: str):
    attack, options, reason = WRONG[name]
    with pytest.raises(AssertionError, match=reason):
        testing.check_attack(attack, num_devices=1, **options)


def test_one_device_is_said_to_check_nothing(monkeypatch):
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    monkeypatch.setattr(suite, "_check_result", lambda attack: 1 / 0)
    with (
        pytest.warns(UserWarning, match="check_attack: there is one local device"),
        pytest.raises(ZeroDivisionError),
    ):
        testing.check_attack(FGSM)
