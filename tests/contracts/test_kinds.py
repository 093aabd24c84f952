"""Every cell of the table in docs/inputs.md: what each entry point does with each kind of input."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.core import Tracer
from jax.tree_util import Partial

from rbjax import (
    attacks,
    corruptions,
    data,
    losses,
    methods,
    metrics,
    models,
    perturbations,
    prng,
    rpr,
)
from rbjax.classifier import predicted
from rbjax.data.datasets import DatasetInfo
from rbjax.training.predict import predict
from rbjax.training.state import create_state, place
from rbjax.training.step import Recipe, make_train_step

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (4, 8, 8, 1), dtype=np.uint8)
IMAGES = (PIXELS / np.float32(255)).astype(np.float32)
WEIGHTS = RNG.normal(size=(64, 3)).astype(np.float32)
KEY = jax.random.key(5)
ZERO = np.zeros(3, np.float32)
INFO = DatasetInfo("noise", (8, 8, 1), tuple("abc"), {"train": 4}, (0.5,), (0.25,), "", "")
DEVICES = jax.local_devices()[:1]


def linear(bias, images):
    centred = (images - jnp.asarray(0.5, images.dtype)).reshape(images.shape[0], -1)
    return centred @ WEIGHTS[:, : len(bias)] + bias


LABELS = np.argmax(np.asarray(linear(ZERO, IMAGES)), -1)


def in_unit_box(images) -> bool:
    return bool(np.all((np.asarray(images) >= 0) & (np.asarray(images) <= 1)))


def attack(bias, key, images, labels):
    result = attacks.pgd(epsilon=0.05, num_steps=2)(Partial(linear, bias), key, images, labels)
    assert isinstance(result.images, Tracer) or in_unit_box(result.images)
    return result.predictions, result.loss


def run_attacks(bias, key, images, labels):
    suite = {"fgsm": attacks.fgsm(epsilon=0.05)}
    arguments = Partial(linear, bias), key, images, labels
    return (
        attacks.run_attacks(*arguments, attacks=suite, devices=DEVICES).outcomes["fgsm"].predictions
    )


def run_autoattack(bias, key, images, labels):
    arguments = Partial(linear, bias), key, images, labels
    result = attacks.run_autoattack(*arguments, epsilon=0.5, devices=DEVICES, keep_images=True)
    assert in_unit_box(result.adversarial)
    return result.predictions


def universal(bias, key, images, labels):
    model = Partial(linear, bias)
    options: Any = {"epsilon": 0.05, "num_epochs": 1, "devices": DEVICES}
    delta = attacks.craft_universal(model, key, images, labels, **options).delta
    assert np.isfinite(delta).all()
    result = attacks.evaluate_universal(model, images, labels, delta, key=key, devices=DEVICES)
    return result.predictions


def score(bias, key, images, labels):
    noise = perturbations.gaussian_noise(sigma=0.1)
    arguments = Partial(linear, bias), key, images, labels
    scores = rpr.score(*arguments, max_steps=3, perturbation=noise, devices=DEVICES)
    return np.where(scores.first_failure == 1, -1, 0) if np.isnan(bias).any() else scores.steps


def run_corruptions(bias, key, images, labels):
    arguments = Partial(linear, bias), key, images, labels
    options: Any = {"profile": "mnist", "severities": {"shot_noise": (2,)}, "devices": DEVICES}
    result = corruptions.run_corruptions(*arguments, **options)
    matrix = result.confusion("shot_noise")[0]
    assert matrix.sum() == len(labels)
    return result.predictions["shot_noise"][0]


def classwise(bias, key, images, labels):
    predictions = predicted(linear(bias, images))
    found = metrics.classwise(labels, predictions, num_classes=3)
    assert np.isnan(bias).any() == (found.correct.sum() == 0)
    return predictions


def of_losses(bias, key, images, labels):
    loss = losses.create("class_balanced", class_counts=[5, 3, 2])
    values, gradient = jax.vjp(lambda z: loss(z, labels), linear(bias, images))
    return values, gradient(jnp.ones_like(values))[0]


@functools.cache
def recipe() -> Recipe:
    of: Any = {"image_shape": (8, 8, 1), "mean": (0.5,), "std": (0.25,), "widths": (3,)}
    model = models.create("mlp", num_classes=3, **of)
    keep, loss = (lambda key, image: image), losses.create("cross_entropy")
    return Recipe(model, methods.create("standard"), loss, optax.sgd(0.1), keep, steps_per_epoch=9)


def train(bias, key, images, labels):
    """One step on a dataset that was checked; labels that are traced go past the check."""
    made, is_checked = recipe(), not isinstance(labels, Unchecked)
    labels = labels if is_checked else labels.labels
    ids = np.arange(4, dtype=np.int32)
    if is_checked:
        dataset = data.from_arrays(INFO, "train", images, labels)
        images, labels, ids = dataset.images, dataset.labels, dataset.example_ids
    state = create_state(prng.key(0), made.model, made.method, made.optimizer, num_rows=4)
    head = max(state.variables["params"], key=lambda name: "head" in name.lower())
    params = {**state.variables["params"]}
    params[head] = {**params[head], "bias": params[head]["bias"] + bias}
    state = state._replace(variables={**state.variables, "params": params})
    step = make_train_step(made, key, devices=DEVICES)
    rows = np.arange(4, dtype=np.int32).reshape(1, 1, 4)
    _, step_metrics = step(place(state, DEVICES), np.asarray(images), labels, ids, rows)
    return (np.asarray(step_metrics.loss),)


class Unchecked:
    """Labels that a compiled step is given as they are."""

    def __init__(self, labels: Any) -> None:
        self.labels = np.asarray(labels, np.int32)


def predicting(bias, key, images, labels):
    dataset = data.from_arrays(INFO, "test", images, labels)
    return predict(Partial(linear, bias), dataset, key=key)[np.argsort(dataset.index)]


ENTRIES = {
    "attack": attack,
    "run_attacks": run_attacks,
    "run_autoattack": run_autoattack,
    "universal": universal,
    "rpr.score": score,
    "run_corruptions": run_corruptions,
    "metrics": classwise,
    "losses": of_losses,
    "training": train,
    "predict": predicting,
}

KINDS: dict[str, dict[str, Any]] = {
    "float labels": {"labels": LABELS.astype(np.float32)},
    "bool labels": {"labels": LABELS > 0},
    "one-hot labels": {"labels": np.eye(3, dtype=int)[LABELS]},
    "labels (N, 1)": {"labels": LABELS[:, None]},
    "label -1": {"labels": np.where(np.arange(4) == 1, -1, LABELS)},
    "label K": {"labels": np.where(np.arange(4) == 1, 3, LABELS)},
    "label 2**32": {"labels": np.where(np.arange(4) == 1, 2**32, LABELS)},
    "uint8 labels": {"labels": LABELS.astype(np.uint8)},
    "int64 labels": {"labels": LABELS.astype(np.int64)},
    "traced label -1": {"traced": -1},
    "traced label K": {"traced": 3},
    "NaN logits": {"bias": ZERO * np.nan},
    "a class masked by -inf": {
        "bias": np.array([0, 0, -np.inf], np.float32),
        "labels": LABELS % 2,  # of a masked class the loss is infinite
    },
    "logits near 1e30": {"bias": np.array([0, 0, -3e30], np.float32)},
    "one logit": {"bias": ZERO[:1]},
    "NaN images": {"images": IMAGES * np.nan},
    "images up to 255": {"images": 255 * IMAGES},
    "uint8 images": {"images": PIXELS},
    "float64 images": {"images": IMAGES.astype(np.float64)},
    "rbg key": {"key": jax.random.key(5, impl="rbg")},
    "unsafe_rbg key": {"key": jax.random.key(5, impl="unsafe_rbg")},
    "legacy uint32 key": {"key": jax.random.PRNGKey(5)},
    "a seed for a key": {"key": 5},
    "JAX_ENABLE_X64": {},
}


def table() -> list[tuple[str, str, str]]:
    path = Path(__file__).parents[2] / "docs" / "inputs.md"
    rows = [line for line in path.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return [
        (row[0], entry, cell)
        for row in cells[2:]
        for entry, cell in zip(cells[0][1:], row[1:], strict=True)
    ]


def flat(result: Any) -> list[np.ndarray]:
    return [np.asarray(array) for array in (result if isinstance(result, tuple) else (result,))]


@functools.cache
def plain(entry: str) -> list[np.ndarray]:
    return flat(ENTRIES[entry](*arguments(entry).values()))


def arguments(entry: str, **changes: Any) -> dict[str, Any]:
    images = PIXELS if entry in ("training", "predict") else IMAGES
    return {"bias": ZERO, "key": KEY, "images": images, "labels": LABELS, **changes}


def traced(entry: str, wrong: int) -> list[np.ndarray]:
    labels = np.where(np.arange(4) == 1, wrong, LABELS)
    if entry == "training":
        return [flat(train(*arguments(entry, labels=Unchecked(labels)).values()))[0]]
    call = jax.jit(lambda labels: ENTRIES[entry](*arguments(entry, labels=labels).values()))
    result = flat(call(labels))
    right = [result[1]] if entry == "attack" else result
    assert all(np.isfinite(np.delete(array, 1, axis=0)).all() for array in right)
    return [array[1] for array in right]


def check_cell(kind: str, entry: str, cell: str) -> None:
    ask, changes = ENTRIES[entry], KINDS[kind]
    if cell == "refused":
        assert len(changes) == 1
        with pytest.raises(ValueError, match=r"logits_fn|labels|image|key"):
            ask(*arguments(entry, **changes).values())
    elif cell == "NaN":
        is_traced = "traced" in changes
        result = (
            traced(entry, **{"wrong": changes["traced"]})
            if is_traced
            else flat(ask(*arguments(entry, **changes).values()))
        )
        assert all(np.isnan(array).all() for array in result)
    elif cell == "same":
        expected = plain(entry)
        with jax.enable_x64(kind == "JAX_ENABLE_X64"):
            result = flat(ask(*arguments(entry, **changes).values()))
        for own, other in zip(result, expected, strict=True):
            np.testing.assert_array_equal(own, other)
    elif cell == "wrong":
        (result, *_) = flat(ask(*arguments(entry, **changes).values()))
        np.testing.assert_array_equal(result, -1)
    elif cell == "runs":
        result = flat(ask(*arguments(entry, **changes).values()))
        assert all(np.isfinite(array).all() for array in result)
    else:
        assert cell == "none", cell


def test_no_cell_is_missing():
    kinds, entries, cells = zip(*table(), strict=True)
    assert list(dict.fromkeys(kinds)) == list(KINDS)
    assert list(dict.fromkeys(entries)) == list(ENTRIES)
    assert len(cells) == len(KINDS) * len(ENTRIES)
    assert set(cells) == {"refused", "same", "wrong", "NaN", "runs", "none"}


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_cell(entry):
    failures = []
    for kind, of, cell in table():
        if of != entry:
            continue
        try:
            check_cell(kind, entry, cell)
        except BaseException as error:
            failures.append(f"{kind}: {cell}: {type(error).__name__} {str(error)[:300]}")
    assert not failures, "\n".join(failures)
