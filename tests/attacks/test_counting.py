"""Passes that are said to be made are those that are made."""

from __future__ import annotations

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import attacks, prng
from rbjax.attacks.counting import Passes, count_passes

SHAPE, NUM_CLASSES, NUM_IMAGES = (8, 8, 1), 4, 3
WEIGHTS = np.random.default_rng(0).normal(0, 0.2, (64, NUM_CLASSES)).astype(np.float32)
FEW = {
    "apgd_targeted": {"num_targets": 2},
    "fab": {"num_targets": 0, "num_restarts": 2},
    "pgd": {"num_restarts": 2},
    "fmn": {"epsilon": None},
    "square": {"num_queries": 5},
    "carlini_wagner": {"search_steps": 2, "num_steps": 3, "abort_early": False, "epsilon": None},
    "deepfool": {"num_candidates": 3},
}
ENDS_EARLY = ("deepfool", "carlini_wagner")


def create(name):
    options = {"epsilon": 1e-3, **FEW.get(name, {})}
    if "num_steps" in attacks.ATTACKS.options(name):
        options.setdefault("num_steps", 3)
    return attacks.create(name, **options)


def said(name, **options) -> Passes:
    shape = {"image_shape": SHAPE, "num_classes": NUM_CLASSES}
    passes = count_passes(create(name), **shape, **options)
    assert passes is not None
    return passes


def watched(seen, name):
    """A linear model that writes down each pass."""

    def note(what):
        jax.debug.callback(lambda: seen.update([(name, what)]))

    @jax.custom_vjp
    def logits(images):
        note("forwards")
        return images.reshape(len(images), -1) @ WEIGHTS

    def backwards(_, cotangent):
        note("backwards")
        return ((cotangent @ WEIGHTS.T).reshape(-1, *SHAPE),)

    logits.defvjp(lambda images: (logits(images), None), backwards)
    return logits


def test_what_is_said_is_what_is_made():
    names, seen = list(attacks.compiled()), collections.Counter()
    images = np.random.default_rng(1).uniform(0.2, 0.8, (NUM_IMAGES, *SHAPE)).astype(np.float32)
    labels = np.argmax(images.reshape(NUM_IMAGES, -1) @ WEIGHTS, axis=1)

    @jax.jit
    def run(images, labels):
        keys = prng.split(prng.key(0), NUM_IMAGES)
        return [create(name)(watched(seen, name), keys, images, labels).fooled for name in names]

    jax.block_until_ready(run(images, labels))
    jax.effects_barrier()
    for name in names:
        passes, made = said(name), [seen[name, way] for way in ("forwards", "backwards")]
        assert passes.at_most == (name in ENDS_EARLY), name
        if name == "deepfool":  # it may end before its last step, and does here
            assert 0 < made[0] <= passes.forwards, name
            assert made[1] == 2 * (made[0] - 2) // 2, name  # two planes a step of two looks
        else:
            assert [passes.forwards, passes.backwards] == made, name


def test_targets_draws_and_other_models_count():
    targeted = said("apgd_targeted", targeted=True)
    assert targeted == Passes(5, 4)  # a start, three steps and the verdict
    assert said("apgd_targeted") == Passes(2 * 4 + 2, 2 * 4)  # two targets, and their ranks
    assert said("pgd", num_samples=7) == said("pgd").times(7)
    other = attacks.transfer(create("pgd"), lambda images: images.reshape(len(images), -1)[:, :4])
    shape = {"image_shape": SHAPE, "num_classes": NUM_CLASSES}
    assert count_passes(other, **shape) == said("pgd")
    assert count_passes(lambda *given: given, **shape) is None


def test_a_loop_of_unknown_turns_is_not_counted():
    class Unknown:
        norm, ball, box, takes_step_size = "linf", True, True, False

        def objective(self, classifier, keys, images, labels, targets):
            return lambda logits: logits[:, 0]

        def search(self, problem):
            def step(images):
                return images + problem.classifier.logits(problem.keys, images)[0, 0]

            return jax.lax.while_loop(lambda images: jnp.max(images) < 1, step, problem.images)

    shape = {"image_shape": SHAPE, "num_classes": NUM_CLASSES}
    assert count_passes(attacks.CompiledAttack(Unknown(), 0.1), **shape) is None


@pytest.mark.parametrize("targeted", [False, True])
def test_a_suite_says_it(targeted):
    images = np.full((5, *SHAPE), 0.5, np.float32)
    labels, targets = np.zeros(5, np.int32), np.array([1, 1, 1, 1, 0], np.int32)
    result = attacks.run_attacks(
        lambda images: images.reshape(len(images), -1) @ WEIGHTS,
        prng.key(0),
        images,
        labels,
        attacks={"it": create("pgd")},
        targets={"it": targets} if targeted else None,
    )
    assert result.outcomes["it"].passes == said("pgd").times(4 if targeted else 5)
