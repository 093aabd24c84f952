"""The fields of one attack of an evaluation: its maker's options, and whom it attacks."""

from __future__ import annotations

from rbjax.config.field import Field

EPSILON = "radius of the perturbation; at most 1 in linf, any positive size in l2 and l1"

FIXED_NORM = {"carlini_wagner": "l2"}
"""Attacks that have no other norm, and no field for it."""

_TO_RESTART = ("pgd", "apgd", "apgd_targeted", "fab", "square")
_COMPILED = ("fgsm", "r_fgsm", "iterative_gradient_sign", *_TO_RESTART, "deepfool", *FIXED_NORM)
_CLIMBING = ("universal", "universal_classwise")
_UNIVERSAL = (*_CLIMBING, "universal_deepfool")

ATTACK: dict[str, Field] = {
    "name": Field(str, None, "the attack"),
    "epsilon": Field(
        float,
        8 / 255,
        f"{EPSILON}; the method's own, in linf 8/255",
        low=0.0,
        unit="pixels in [0, 1]",
    ),
    "norm": Field(
        str,
        "linf",
        "the ball's norm; the method's own",
        choices=("linf", "l2", "l1"),
        only=(*(name for name in _COMPILED if name not in FIXED_NORM), "autoattack", *_UNIVERSAL),
    ),
    "step_size": Field(
        float,
        None,
        "length of one step; a quarter of epsilon, or epsilon itself if not projected",
        above=0.0,
        unit="pixels in [0, 1]",
        only=("iterative_gradient_sign", "pgd", *_CLIMBING),
        optional=True,
    ),
    "num_steps": Field(
        int,
        10,
        "steps of one run, at most",
        low=1,
        only=(
            "iterative_gradient_sign",
            "pgd",
            "apgd",
            "apgd_targeted",
            "fab",
            "deepfool",
            "carlini_wagner",
        ),
        defaults={
            "apgd": 100,
            "apgd_targeted": 100,
            "fab": 100,
            "deepfool": 50,
            "carlini_wagner": 1000,
        },
    ),
    "loss": Field(
        str,
        "cross_entropy",
        "what is climbed",
        choices=("cross_entropy", "margin", "dlr", "kl"),
        only=("fgsm", "r_fgsm", "iterative_gradient_sign", "pgd", "apgd"),
    ),
    "direction": Field(
        str,
        None,
        "up or down the loss; up from the label, down towards target_class",
        choices=("ascent", "descent"),
        only=("fgsm", "iterative_gradient_sign"),
        optional=True,
    ),
    "projected": Field(
        bool,
        True,
        "stay in the ball; if not, each step adds its length (P5)",
        only=("iterative_gradient_sign",),
    ),
    "clipped": Field(bool, True, "stay in [0, 1]", only=("iterative_gradient_sign",)),
    "random_start": Field(bool, True, "start at a random point of the ball", only=("pgd",)),
    "start": Field(
        str,
        "uniform",
        "law of that point: in the ball, on its surface, TRADES's, R+FGSM's",
        choices=("uniform", "sphere", "normal", "half_signs"),
        only=("pgd",),
    ),
    "num_restarts": Field(int, 1, "random starts; the best is kept", low=1, only=_TO_RESTART),
    "optimizer": Field(
        str,
        "steepest",
        "what makes steps of gradients",
        choices=("steepest", "adam"),
        only=("pgd",),
    ),
    "momentum": Field(
        float, 0.0, "decay of the sum of past gradients (MI-FGSM)", low=0.0, only=("pgd",)
    ),
    "use_best": Field(bool, False, "keep the best iterate, not the last", only=("pgd",)),
    "num_targets": Field(
        int,
        9,
        "wrong classes that are aimed at in turn",
        low=1,
        only=("apgd_targeted", "fab"),
    ),
    "num_queries": Field(int, 5000, "queries after the start", low=1, only=("square",)),
    "version": Field(
        str,
        "standard",
        "which attacks, with which parameters",
        choices=("standard", "plus"),
        only=("autoattack",),
    ),
    "overshoot": Field(
        float,
        0.02,
        "share by which the way to the boundary is lengthened",
        low=0.0,
        only=("deepfool", "universal_deepfool"),
    ),
    "num_candidates": Field(
        int,
        10,
        "classes whose boundaries are looked at, the label among them",
        low=2,
        only=("deepfool", "universal_deepfool"),
    ),
    "confidence": Field(
        float, 0.0, "by how much the wrong class has to win", low=0.0, only=("carlini_wagner",)
    ),
    "search_steps": Field(
        int, 9, "weights of the margin that are tried", low=1, only=("carlini_wagner",)
    ),
    "learning_rate": Field(float, 0.01, "of its Adam", above=0.0, only=("carlini_wagner",)),
    "num_epochs": Field(int, 5, "passes over the crafting set", low=1, only=_CLIMBING),
    "loss_clip": Field(
        float,
        None,
        "climb min(loss, loss_clip); the plain loss",
        above=0.0,
        only=_CLIMBING,
        optional=True,
    ),
    "max_passes": Field(
        int, 10, "passes over the crafting set, at most", low=1, only=("universal_deepfool",)
    ),
    "fooling_rate": Field(
        float,
        0.8,
        "share of the crafting set at which it is enough",
        low=0.0,
        high=1.0,
        only=("universal_deepfool",),
    ),
    "max_examples": Field(
        int, None, "craft on so many of train; all", low=1, only=_UNIVERSAL, optional=True
    ),
    "source": Field(
        str,
        None,
        "another run directory, on whose model the images are crafted (P5's transfer)",
        only=_COMPILED,
        optional=True,
    ),
    "only_class": Field(
        int, None, "attack and count test images of this class alone (P5)", low=0, optional=True
    ),
    "target_class": Field(
        int,
        None,
        "the class to be taken for; its own images do not count",
        low=0,
        only=(*_COMPILED, *_CLIMBING),
        optional=True,
    ),
}

NO_OPTIONS = ("source", "only_class", "target_class", "max_examples")
"""Fields that say what an attack is used for, and are no options of its maker."""
