"""Usual mistakes are answered by a ValueError that names the way out."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

import rbjax
from rbjax import metrics, perturbations, rpr
from rbjax.errors import nearest, spelled

RNG = np.random.default_rng(0)
IMAGES = RNG.random((4, 8, 8, 3)).astype(np.float32)
LABELS = np.zeros(4, np.int32)
KEY = jax.random.key(0)
BIG_ENDIAN = IMAGES.astype(">f4")
attacks: Any = rbjax.attacks  # what is given wrong here, a type checker would refuse
methods: Any = rbjax.methods
NOISE: Any = perturbations.gaussian_noise()
FGSM = attacks.fgsm(epsilon=0.1)


def logits_fn(x):
    return x.reshape(x.shape[0], -1)[:, :5]


class Foreign:
    """As a tensor of TensorFlow or PyTorch: an array whose dtype is not numpy's."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype = array, array.shape, object()

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.asarray(self.array, dtype)

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, rows: Any) -> Foreign:
        return Foreign(self.array[rows])


def score(
    fn: Any = logits_fn, x: Any = IMAGES, k: Any = KEY, p: Any = NOISE, **options: Any
) -> Any:
    options = options or {"max_steps": 2}
    return rpr.score(fn, k, x, LABELS, perturbation=p, **options)


def suite(fn: Any = logits_fn, x: Any = IMAGES, k: Any = KEY, a: Any = FGSM, **options: Any) -> Any:
    entries = {"a": a} if callable(a) else a
    return attacks.run_attacks(fn, k, x, LABELS, attacks=entries, **options)


def corrupted(x: Any = IMAGES, k: Any = KEY, severities: Any = None, **options: Any) -> Any:
    levels = {"brightness": (1,)} if severities is None else severities
    return rbjax.corruptions.run_corruptions(
        logits_fn, k, x, LABELS, profile="cifar", severities=levels, **options
    )


def universal(x: Any = IMAGES, k: Any = KEY) -> Any:
    return attacks.craft_universal(logits_fn, k, x, LABELS, epsilon=0.1, num_epochs=1)


def autoattack(x: Any = IMAGES, k: Any = KEY, **options: Any) -> Any:
    options = options or {"epsilon": 0.1}
    return attacks.run_autoattack(logits_fn, k, x, LABELS, **options)


def diagnose(x: Any = IMAGES, k: Any = KEY, **options: Any) -> Any:
    options = options or {"epsilon": 0.1}
    return attacks.diagnose(logits_fn, k, x, LABELS, **options)


SEED = "key is 0; it must be a typed key, such as jax.random.key"
ENDIAN = "big-endian; JAX takes the byte order"
NAMES: Any = (["a"], ["a"])
DELTA: Any = np.zeros((8, 8, 3), ">f4")
CORRUPTION: Any = rbjax.corruptions.create("brightness", severity=1)
CASES: dict[str, tuple[Callable[[], Any], str]] = {
    "a seed, attack": (lambda: FGSM(logits_fn, 0, IMAGES, LABELS), SEED),
    "a seed, score": (lambda: score(k=0), SEED),
    "a seed, suite": (lambda: suite(k=0), SEED),
    "a seed, corruptions": (lambda: corrupted(k=0), SEED),
    "a seed, universal": (lambda: universal(k=0), SEED),
    "a seed, AutoAttack": (lambda: autoattack(k=0), SEED),
    "a seed, diagnostics": (lambda: diagnose(k=0), SEED),
    "a seed, perturbation": (lambda: NOISE(0, IMAGES[0]), SEED),
    "a seed, corruption": (lambda: CORRUPTION(0, IMAGES[0]), SEED),
    "no key": (lambda: FGSM(logits_fn, None, IMAGES, LABELS), "key is None"),
    "tensors, suite": (lambda: suite(x=Foreign(IMAGES)), "numpy.asarray"),
    "tensors, score": (lambda: score(x=Foreign(IMAGES)), "numpy.asarray"),
    "tensors, attack": (lambda: FGSM(logits_fn, KEY, Foreign(IMAGES), LABELS), "numpy.asarray"),
    "objects": (lambda: FGSM(logits_fn, KEY, IMAGES.astype(object), LABELS), "array of numbers"),
    "a path, suite": (lambda: suite(x="images.npz"), "images is a str"),
    "a path, attack": (lambda: FGSM(logits_fn, KEY, "a.npz", LABELS), "images is a str"),
    "nothing": (lambda: suite(x=None), "images is None"),
    "big-endian, attack": (lambda: FGSM(logits_fn, KEY, BIG_ENDIAN, LABELS), ENDIAN),
    "big-endian, score": (lambda: score(x=BIG_ENDIAN), ENDIAN),
    "big-endian, corruptions": (lambda: corrupted(x=BIG_ENDIAN), ENDIAN),
    "big-endian, universal": (lambda: universal(x=BIG_ENDIAN), ENDIAN),
    "big-endian, AutoAttack": (lambda: autoattack(x=BIG_ENDIAN), ENDIAN),
    "big-endian, perturbation": (lambda: NOISE(KEY, BIG_ENDIAN[0]), ENDIAN),
    "big-endian, corruption": (lambda: CORRUPTION(KEY, BIG_ENDIAN[0]), ENDIAN),
    "big-endian, delta": (lambda: attacks.apply_universal(IMAGES, DELTA), ENDIAN),
    "0 to 255": (lambda: FGSM(logits_fn, KEY, IMAGES * 255, LABELS), "divide them by 255"),
    "0 to 16": (lambda: suite(x=IMAGES * 16), "the largest value that a pixel can have"),
    "NaN": (lambda: suite(x=IMAGES * np.nan), "some are not finite"),
    "standardised": (lambda: suite(x=4 * IMAGES - 2), "inside the model"),
    "an infinite epsilon": (lambda: attacks.pgd(epsilon=np.inf), "between 0 and 1"),
    "steps of 0": (lambda: attacks.pgd(epsilon=0.1, step_size=2 // 255), "step_size is 0.0; it"),
    "a pair": (lambda: suite(lambda x: (logits_fn(x), {"mean": x})), "logits"),
    "nothing returned": (lambda: suite(lambda x: None), "logits_fn returns None"),
    "text returned": (lambda: suite(lambda x: "a"), "must return logits (B, K)"),
    "a list of attacks": (lambda: suite(a=[FGSM]), "attacks is a list; it must be a dict"),
    "an attack's name": (lambda: suite(a={"a": "pgd"}), "it must be an attack, such as"),
    "devices by name": (lambda: suite(devices="cpu"), "devices is 'cpu'; give some of"),
    "a journal's number": (lambda: suite(journal=3), "journal is 3; it must be a folder"),
    "one severity": (lambda: corrupted(severities={"fog": 1}), "severities['fog'] is 1"),
    "a list of corruptions": (lambda: corrupted(severities=["fog"]), "severities is a list"),
    "class names": (lambda: metrics.classwise(*NAMES, num_classes=2), "whole"),
    "pgd(eps=)": (lambda: attacks.pgd(**{"eps": 0.1}), "did you mean 'epsilon'"),
    "pgd(0.1)": (lambda: attacks.pgd(*[0.1]), "too many positional arguments; its options"),
    "pgd()": (lambda: attacks.pgd(**{}), "missing a required"),
    "pgd(norm=inf)": (lambda: attacks.pgd(epsilon=0.1, norm=np.inf), "mean 'linf'"),
    "pgd(norm=2)": (lambda: attacks.pgd(epsilon=0.1, norm=2), "mean 'l2'"),
    "pgd(norm='Linf')": (lambda: attacks.pgd(epsilon=0.1, norm="Linf"), "mean 'linf'"),
    "an attack's call": (lambda: FGSM(logits_fn, KEY, IMAGES, LABELS, eps=0.1), "mean 'epsilon'"),
    "methods.pgd(alpha=)": (lambda: methods.pgd(**{"alpha": 0.1}), "did you mean 'step_size'"),
    "run_autoattack(eps=)": (lambda: autoattack(eps=0.1), "did you mean 'epsilon'"),
    "diagnose(eps=)": (lambda: diagnose(eps=0.1), "did you mean 'epsilon'"),
    "run_attacks(eps=)": (lambda: suite(eps=0.1), "run_attacks has no option 'eps'; allowed"),
    "run_corruptions(severity=)": (lambda: corrupted(severity=1), "did you mean 'severities'"),
    "rpr.score(steps=)": (lambda: score(steps=2), "score has no option 'steps'; allowed: logits"),
    "create('PGDLinf')": (lambda: attacks.create("PGDLinf", eps=0.1), "did you mean 'pgd'"),
    "create('pgd', steps=)": (lambda: attacks.create("pgd", steps=3), "did you mean 'num_steps'"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_one_error_that_names_the_way_out(name):
    call, words = CASES[name]
    with pytest.raises(ValueError, match=re.escape(words)):
        call()


def test_without_the_mistake_nothing_is_refused():
    suite(x=list(IMAGES))
    score(x=(255 * IMAGES).astype(np.uint8))
    corrupted(severities={"brightness": [1]})
    FGSM(logits_fn, KEY, IMAGES.astype(np.float16), LABELS, epsilon=0.2)
    attacks.pgd(epsilon=3.0, norm="l2", step_size=1e-6)


OPTIONS = {
    "pgd": "eps:epsilon alpha:step_size steps:num_steps eps_iter:step_size nb_iter:num_steps "
    "eps_step:step_size max_iter:num_steps iters:num_steps iterations:num_steps "
    "rel_stepsize:step_size abs_stepsize:step_size ord:norm random_init:random_start "
    "num_random_init:num_restarts rand_init:random_start n_restarts:num_restarts loss_fn:loss",
    "square": "eps:epsilon n_queries:num_queries max_iter:num_queries p_init:initial_share",
    "carlini_wagner": "kappa:confidence c:initial_constant binary_search_steps:search_steps "
    "lr:learning_rate max_iterations:num_steps",
    "deepfool": "max_iter:num_steps candidates:num_candidates",
    "ddn": "init_epsilon:initial_size init_norm:initial_size steps:num_steps",
    "fmn": "max_stepsize:step_length alpha_init:step_length gamma_init:gamma",
    "universal": "xi:epsilon eps:epsilon max_iter:num_epochs eps_step:step_size",
}
ATTACKS = {
    "pgd": "PGDLinf PGDL2 LinfPGD LinfProjectedGradientDescentAttack ProjectedGradientDescent",
    "fgsm": "FGM FastGradientMethod LinfFastGradientAttack",
    "r_fgsm": "FFGSM",
    "iterative_gradient_sign": "BIM IFGSM BasicIterativeMethod",
    "carlini_wagner": "CW L2CarliniWagnerAttack CarliniL2Method",
    "autoattack": "AutoAttack AA",
    "apgd": "APGD-CE",
    "apgd_targeted": "apgd-t APGDT",
    "fab": "FABT",
    "square": "SquareAttack",
    "deepfool": "LinfDeepFoolAttack",
    "ddn": "DDNAttack",
    "fmn": "LInfFMNAttack L0FMN",
    "universal_deepfool": "UniversalPerturbation",
}


def test_the_names_of_other_libraries_are_answered_with_ours():
    named = {}
    for attack, words in OPTIONS.items():
        known = attacks.ATTACKS.options(attack)
        for word in words.split():
            theirs, _, ours = word.partition(":")
            named[attack, theirs] = (nearest(theirs, known), ours)
    for ours, words in ATTACKS.items():
        named |= {word: (nearest(word, attacks.ATTACKS), ours) for word in words.split()}
    wrong = {k: hint for k, (hint, ours) in named.items() if hint != f"; did you mean {ours!r}?"}
    assert not wrong
    # What means something else here is answered by nothing.
    assert nearest("batch_size", attacks.ATTACKS.options("pgd")) == ""


def test_a_value_is_spelled_in_one_short_line():
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    assert spelled(10**5000) == "an int"
    assert spelled(Broken()) == "a Broken"
    assert spelled(np.zeros((50, 50))).count("\n") == 0
    assert len(spelled("x" * 1000)) == 100
