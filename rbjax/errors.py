"""Errors of rbjax's own, and how one names what was meant.

What a person gave wrong is a plain `ValueError`.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable

_LONGEST = 100
_ELSEWHERE = {
    # ------------------------------------------------------------------ options
    "epsilon": "eps epsilons eps_max max_eps xi radius max_norm perturbation_size",
    "step_size": "alpha eps_iter eps_step rel_stepsize abs_stepsize stepsize step_len attack_lr",
    "num_steps": "steps nb_iter nb_iters max_iter max_iters iters iter iterations n_iter num_iter "
    "niter n_iters num_iterations n_iterations nb_iterations max_iterations attack_steps itr k "
    "n_queries nqueries",
    "num_queries": "n_queries nqueries max_queries steps nb_iter max_iter iterations",
    "max_passes": "max_iter max_iter_uni max_iter_df nb_iter iterations",
    "num_restarts": "n_restarts restarts nb_restarts num_random_init num_random_restarts n_starts "
    "random_restarts repeats",
    "random_start": "random_init rand_init rand_start rand init_random random_initialization",
    "norm": "ord p order distance norm_type lp lp_norm threat_model distance_metric",
    "num_candidates": "candidates nb_candidate nb_grads subsample top_k",
    "num_targets": "n_target_classes n_targets target_classes nb_targets topk",
    "confidence": "kappa conf",
    "initial_constant": "c initial_const const",
    "initial_size": "init_epsilon init_norm",
    "step_length": "max_stepsize alpha_init",
    "gamma": "gamma_init",
    "search_steps": "binary_search_steps bin_search_steps",
    "momentum": "decay_factor mu decay",
    "initial_share": "p_init",
    "num_classes": "n_classes nb_classes classes num_labels",
    "targets": "y_target target target_labels targeted targeted_labels",
    "target_class": "target target_label targeted y_target",
    "labels": "y y_true ys y_test truth",
    "images": "x xs inputs x_test data",
    "logits_fn": "model fmodel classifier estimator predict predict_fn forward_fn apply_fn net f "
    "model_fn",
    "key": "seed rng rngs rng_key prng_key random_state rng_seed",
    "seed": "random_seed rng random_state rng_seed manual_seed",
    "batch_size": "bs batchsize n_batch batch minibatch mini_batch_size",
    "max_test_examples": "n_examples num_examples n_ex",
    "num_epochs": "epochs n_epochs nb_epochs max_epochs epoch max_epoch max_iter max_iter_uni "
    "iterations",
    "learning_rate": "lr base_lr initial_lr eta step_size",
    "max_learning_rate": "max_lr peak_lr",
    "final_learning_rate": "min_lr eta_min end_lr",
    "half_cycle_epochs": "step_size_up stepsize cycle",
    "warmup_epochs": "warmup warmup_steps",
    "milestones": "boundaries steps",
    "weight_decay": "wd l2 decay",
    "gradient_clip": "clip grad_clip max_grad_norm clip_norm clipnorm",
    "ema_decay": "ema polyak",
    "b1": "beta1 beta_1 betas",
    "b2": "beta2 beta_2 betas",
    "beta": "trades_beta lambda lam",
    "sigma": "std noise_std stddev noise_sd scale",
    "loss": "loss_fn criterion objective loss_type",
    "imbalance_ratio": "imb_factor imbalance_factor imf rho",
    "label_smoothing": "smoothing",
    "severities": "severity",
    "mixup_alpha": "alpha mixup",
    "max_steps": "num_draws draws n_draws n_samples num_samples",
    "version": "attacks_to_run",
    # ------------------------------------------------------------------ names
    "pgd": "projected_gradient_descent projectedgradientdescentnumpy madry linfpgd l2pgd pgd_at "
    "adversarial_training at pgdrs upgd tpgd eotpgd apgdr",
    "fgsm": "fgm fast_gradient fast_gradient_sign gradient_sign gsa",
    "r_fgsm": "ffgsm rfgsm fast_fgsm fast",
    "iterative_gradient_sign": "bim ifgsm i_fgsm iterative_fgsm basic_iterative "
    "linf_basic_iterative mifgsm mi_fgsm momentum_iterative",
    "carlini_wagner": "cw c&w carlini cw2 carlini_l2 carlini_wagner_l2",
    "autoattack": "aa auto_attack",
    "apgd": "apgd_ce auto_pgd autopgd auto_projected_gradient_descent",
    "apgd_targeted": "apgd_t apgdt apgd_targ",
    "fab": "fabt fab_t fast_adaptive_boundary minimal_fab",
    "universal": "targeted_universal_perturbation uap_pgd universal_pgd",
    "universal_deepfool": "uap universal_perturbation universal_adversarial_perturbation",
    "standard": "erm normal natural vanilla clean",
    "cross_entropy": "ce xent nll softmax_cross_entropy sparse_categorical_crossentropy",
    "margin": "cw carlini_wagner hinge",
    "probability_margin": "pm pma",
    "class_balanced": "cb cb_loss effective_number",
    "balanced_softmax": "bsl logit_adjustment logit_adjusted",
    "class_aware": "balanced class_balanced weighted",
    "exponential": "long_tailed lt exp",
    "gaussian_noise": "gaussian awgn",
    "uniform_noise": "uniform",
    "impulse_noise": "salt_and_pepper salt_pepper",
    "rotation": "rotate",
    "shift": "translate translation",
    "random_pixels": "pixels rpr",
    "cosine": "cosine_annealing cosine_decay cosineannealinglr",
    "step": "steplr multistep multisteplr piecewise_constant",
    "triangular": "cyclic cycliclr",
    "constant": "fixed",
    "linf": "inf infinity l_infinity chebyshev max sup",
    "l2": "2 2.0 euclidean",
    "l1": "1 1.0 manhattan",
}
"""What other libraries call what has these names here: Foolbox, Torchattacks, the Adversarial
Robustness Toolbox, CleverHans, AutoAttack, RobustBench, optax, PyTorch."""


class StoppedError(RuntimeError):
    """A job was asked to stop, by Ctrl-C or SIGTERM; the same call goes on from there."""


class NotFiniteError(RuntimeError):
    """A number that a job needs is not finite: a loss, a gradient, a weight, or a logit."""


class FullDiskError(OSError):
    """There is no room for a file: the disk is full, or a quota is used up."""


class LostProcessError(RuntimeError):
    """Another process of a run is lost; the same command goes on, in all of them."""


class InUseError(ValueError):
    """Another process works in a run directory."""


def exit_code(error: Exception) -> int | None:
    """Returns what a command ends with, as docs/stops.md has it; None: with a traceback."""
    if is_full(error):
        return 74
    kinds = {StoppedError: 75, LostProcessError: 69, NotFiniteError: 1, ValueError: 2, OSError: 2}
    return next((code for kind, code in kinds.items() if isinstance(error, kind)), None)


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_full(error: BaseException) -> bool:
    """Returns whether an error is one of no room: the system's, or a library's words of it."""
    if isinstance(error, FullDiskError) or (isinstance(error, OSError) and error.errno in _FULL):
        return True
    return any(os.strerror(code) in str(error) for code in _FULL)


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns "; did you mean 'x'?" for the known name nearest to a wrong one, or "".

    What another library calls by the name goes before what is spelled alike.
    """
    name, known = str(name), list(known)
    folded = {_folded(entry): entry for entry in known}
    close = [folded[word] for word in _meant(name) if word in folded]
    if name not in _ELSEWHERE:  # which means something else
        import difflib  # as a job begins, what is imported before stops are heeded is little

        close = close or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        close = close or difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _meant(name: str) -> list[str]:
    """Returns our names, folded, for what is called so elsewhere, the likeliest first."""
    word = _folded(name)
    stem = re.sub(r"(attack|method)$", "", word)
    bare = re.sub(r"^(linf|l2|l1|l0|inf)(?=.)|(?<=.)(linf|l2|l1|l0|inf)$", "", stem)
    meant = []
    for one in dict.fromkeys((word, stem, bare)):
        theirs = [ours for ours, words in _ELSEWHERE.items() if one in map(_folded, words.split())]
        meant += [_folded(ours) for ours in theirs] or [one]
    return meant


def _folded(name: str) -> str:
    return re.sub(r"[^a-z0-9&.]", "", name.lower())


def a_type(value: object) -> str:
    """Returns what a value is, for messages: "an int", "None"."""
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def spelled(value: object) -> str:
    """Returns a value for messages, in one line of at most 100 characters."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # an object whose `repr` fails, or a number of more digits than Python spells
        text = a_type(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."
