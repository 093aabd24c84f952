"""JAX_ENABLE_X64=1, as many programs set it: everything runs, and float32 stays what it was.

A program in which nothing is float64 and no draw takes 64 bits gives the numbers it gives without.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import attacks, corruptions, losses, metrics, perturbations, prng, rpr
from rbjax.data import augment
from rbjax.losses import adversarial
from rbjax.rpr import closed_form, splitting
from rbjax.testing.attacks import KEYS, LABELS, make_images, model
from tests.contracts.test_attacks import settings

RNG = np.random.default_rng(0)
IMAGE = RNG.random((16, 16, 3)).astype(np.float32)
LOGITS = RNG.normal(size=(4, 5)).astype(np.float32)
KEY = prng.key(0)


@pytest.fixture
def x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def equations(jaxpr: Any) -> Iterator[Any]:
    for eqn in jaxpr.eqns:
        yield eqn
        is_program = lambda leaf: hasattr(getattr(leaf, "jaxpr", leaf), "eqns")
        for inner in jax.tree.leaves(list(eqn.params.values()), is_leaf=is_program):
            if is_program(inner):
                yield from equations(getattr(inner, "jaxpr", inner))


def check(fn, *args, result=np.float32) -> None:
    """Checks a program without running it."""
    program: Any = jax.make_jaxpr(fn)(*args)
    assert program.out_avals[0].dtype == result
    for eqn in equations(program.jaxpr):
        assert eqn.params.get("bit_width", 32) != 64, f"draws 64 bits: {eqn}"
        for variable in eqn.outvars:
            is_wide = str(getattr(variable.aval, "dtype", "")) == "float64"
            # A number of Python's own, such as -inf, takes the width of what it meets.
            assert not is_wide or variable.aval.weak_type, f"is float64: {eqn}"


@pytest.mark.parametrize(("name", "options"), list(settings()))
def test_attacks(x64, name, options):
    attack, of = attacks.create(name, **options), model()
    check(lambda *args: attack(of, *args).images, KEYS, make_images(), LABELS)


def test_perturbations(x64):
    for name in perturbations.PERTURBATIONS:
        check(perturbations.create(name), KEY, IMAGE)
    for values in ("binary", "byte"):
        check(perturbations.create("random_pixels", values=values, replace=True), KEY, IMAGE)


@pytest.mark.parametrize("profile", corruptions.PROFILES)
def test_corruptions(x64, profile):
    image = IMAGE[..., :1] if profile == "mnist" else IMAGE
    for name in corruptions.names(profile):
        check(corruptions.create(name, profile=profile), KEY, image)


def test_losses_augmentation_and_metrics(x64):
    labels = np.arange(4)
    made = [losses.create(name, class_counts=[5, 4, 3, 2, 1]) for name in losses.LOSSES]
    made += [loss for name, loss in adversarial.LOSSES.items() if name != "kl"]
    for loss in made:
        check(jax.grad(lambda z, y, loss=loss: loss(z, y).sum()), LOGITS, labels)
        check(loss, LOGITS, labels)
    check(adversarial.kl_divergence, LOGITS, 2 * LOGITS)
    options = {
        "brightness": 0.1,
        "contrast": 0.1,
        "saturation": 0.1,
        "hue": 0.1,
        "deformation": 0.1,
    }
    options: Any = dict(options)
    changes = augment.create(
        flip_horizontal=True, rotation_degrees=9.0, crop_padding=2, cutout_size=3, **options
    )
    check(changes, KEY, IMAGE)
    counts = metrics.classwise(labels, labels, num_classes=4)
    assert (counts.count.dtype, counts.recall.dtype) == (np.int32, np.float32)


WEIGHTS = RNG.normal(size=(192, 4)).astype(np.float32)


def logits_fn(images):
    return (images - np.float32(0.5)).reshape(images.shape[0], -1) @ WEIGHTS


def results() -> list[np.ndarray]:
    """Numbers of calls on whole datasets, and of programs that have their own dtypes to lose."""
    one: Any = {"devices": jax.local_devices()[:1]}
    images = np.random.default_rng(1).random((5, 8, 8, 3)).astype(np.float32)
    labels = np.argmax(logits_fn(images), -1)
    arguments = logits_fn, KEY, images, labels
    suite = {"adam": attacks.pgd(epsilon=0.1, optimizer="adam", num_steps=2)}
    attacked = attacks.run_attacks(*arguments, attacks=suite, **one)
    shift = perturbations.shift(max_shift=2.0)
    drawn = rpr.score(*arguments, max_steps=3, perturbation=shift, **one)
    crafted = attacks.craft_universal(
        *arguments, epsilon=0.1, num_epochs=1, random_start=True, **one
    )
    corrupted = corruptions.run_corruptions(
        *arguments, profile="cifar", severities={"motion_blur": (5,)}, **one
    )
    estimated = closed_form.mmse(*arguments, sigma=0.1, num_draws=2)
    rare = splitting.failure_probability(*arguments, scale=0.3, num_particles=20, num_moves=2)
    return [
        attacked.outcomes["adam"].predictions,
        drawn.first_failure,
        np.asarray(crafted.delta),
        corrupted.predictions["motion_blur"],
        estimated.failure_probability,
        rare.log10_probability,
    ]


def test_numbers_are_those_without_it():
    expected = results()
    with jax.enable_x64(True):
        assert jnp.zeros(1).dtype == np.float64
        found = results()
    for own, other in zip(expected, found, strict=True):
        assert own.dtype == other.dtype
        np.testing.assert_array_equal(own, other)
