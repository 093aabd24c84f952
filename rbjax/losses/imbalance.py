"""Losses that know how often each class occurs in training."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rbjax.inputs import check_integer
from rbjax.losses.adversarial import cross_entropy as softmax_cross_entropy
from rbjax.losses.adversarial import prepare
from rbjax.options import NotNegative, Positive, Share, checked
from rbjax.typing import Array, LossFn

Counts = Sequence[Any] | np.ndarray | Array
"""Of numbers, which `_checked` refuses by class; an option of numbers would be no array."""


@checked
def class_balanced_weights(class_counts: Counts, *, beta: Share = 0.9999) -> np.ndarray:
    """Returns the weight of each class by its effective number of examples.

    `w_c = K v_c / sum_j v_j`, `v_c = (1 - beta) / (1 - beta**n_c)`: all ones for beta 0, inversely
    proportional to the count for beta 1 (the limit).

    Args:
        class_counts: (K,) n_c, each at least 1.
        beta: in [0, 1].

    Returns:
        (K,) float64 weights that sum to K.

    Raises:
        ValueError: if a count is below 1, or `beta` out of its range.

    Source: Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", 2019,
    arXiv:1901.05555, equations 2 and 5.
    """
    counts = _checked(class_counts)
    if beta == 1:
        inverse = 1 / counts
    elif beta == 0:
        inverse = np.ones_like(counts)
    else:  # expm1, because 1 - beta**n loses digits where beta**n is near 1
        inverse = (1 - beta) / -np.expm1(counts * np.log(beta))
    return inverse * len(counts) / inverse.sum()


@checked
def class_balanced(class_counts: Counts, *, beta: Share = 0.9999) -> LossFn:
    """Returns the cross-entropy weighted by the effective number of examples of the class.

    `w_y (-log softmax(z)_y)`, the weights those of `class_balanced_weights`.

    Args:
        class_counts: (K,) examples of each class in training, each at least 1.
        beta: of the effective number of samples (Cui et al. 2019).

    Returns:
        (logits (B, K), labels (B,)) -> (B,) float32; its mean over a batch is divided by the
        number of examples, not by the sum of their weights.

    Raises:
        ValueError: if a count is below 1, or `beta` out of its range.

    Source: Cui et al., 2019, arXiv:1901.05555, equation 10.
    """
    weights = class_balanced_weights(class_counts, beta=beta).astype(np.float32)

    def loss(logits: Array, labels: Array) -> Array:
        _check_classes(logits, len(weights))
        logits, labels = prepare(logits, labels)
        return jnp.asarray(weights)[labels] * softmax_cross_entropy(logits, labels)

    return loss


def weighted(
    loss_fn: LossFn, class_counts: Counts, *, beta: Share = 0.9999, start_epoch: int = 0
) -> LossFn:
    """Returns a loss re-weighted by class, from an epoch on: deferred re-weighting (DRW).

    `w_y loss(z, y)`, w as `class_balanced_weights` but of mean 1 over the training examples, so
    that the loss and the learning rate keep their size.  That is what the authors' division by the
    sum of a batch's weights comes to on average, and an example's loss depends on no other.

    Args:
        loss_fn: (logits, labels) -> (B,).
        class_counts: (K,) n_c, examples of each class in training, each at least 1.
        beta: of the effective number of samples; 1: inversely proportional to the count.
        start_epoch: the first epoch, counted from 0, with weights.

    Returns:
        (logits (B, K), labels (B,), epoch=...) -> (B,); without an epoch the weights are there.

    Raises:
        ValueError: if a count is below 1, or `beta` or `start_epoch` out of its range.

    Source: Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss",
    2019, arXiv:1906.07413, algorithm 1, where beta is 0.9999 and the epoch 160 of 200.
    """
    weights = class_balanced_weights(class_counts, beta=beta)
    counts = np.asarray(class_counts, np.float64)
    weights = (weights * counts.sum() / (weights @ counts)).astype(np.float32)
    start_epoch = check_integer("start_epoch", start_epoch, low=0)

    def loss(logits: Array, labels: Array, *, epoch: Array | int = start_epoch) -> Array:
        _check_classes(logits, len(weights))
        logits, labels = prepare(logits, labels)
        in_use = jnp.where(epoch >= start_epoch, jnp.asarray(weights), jnp.float32(1.0))
        return in_use[labels] * at_epoch(loss_fn, epoch)(logits, labels)

    return loss


def at_epoch(loss_fn: LossFn, epoch: Array | int) -> LossFn:
    """Returns a loss as it is in an epoch: one that takes `epoch` is told it.

    Args:
        loss_fn: (logits, labels) -> (B,), perhaps with the keyword `epoch`.
        epoch: counted from 0; may be traced.

    Example:
        >>> loss = rbjax.losses.at_epoch(rbjax.losses.cross_entropy(), 3)
        >>> loss(jnp.zeros((1, 2)), jnp.array([0])).round(3).tolist()  # ln 2
        [0.6930000185966492]
    """
    told: Callable[..., Array] = loss_fn
    try:
        is_told = "epoch" in inspect.signature(told).parameters
    except ValueError:  # of a function that does not say what it is called with
        is_told = False
    return functools.partial(told, epoch=epoch) if is_told else loss_fn


def balanced_softmax(class_counts: Counts) -> LossFn:
    """Returns the cross-entropy of logits shifted by the log of the class counts.

    `-log softmax(z + log n)_y`

    Args:
        class_counts: (K,) examples of each class in training, each at least 1.

    Returns:
        (logits (B, K), labels (B,)) -> (B,) float32.

    Raises:
        ValueError: if a count is below 1.

    Source: Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", 2020,
    arXiv:2007.10740, equation 4.
    """
    return _adjusted(np.log(_checked(class_counts)), np.zeros(len(class_counts)))


@checked
def logit_adjustment(class_counts: Counts, *, tau: NotNegative = 1.0) -> LossFn:
    """Returns the cross-entropy of logits shifted by the log of the class frequencies.

    `-log softmax(z + tau log pi)_y`, `pi_c = n_c / sum_j n_j`; tau 1 is `balanced_softmax`, tau 0
    the cross-entropy.  `posthoc.adjust_logits` does the same to a model trained without it.

    Args:
        class_counts: (K,) examples of each class in training, each at least 1.
        tau: how much of the prior is taken out.

    Returns:
        (logits (B, K), labels (B,)) -> (B,) float32.

    Raises:
        ValueError: if a count is below 1, or `tau` negative.

    Source: Menon et al., "Long-Tail Learning via Logit Adjustment", 2021, arXiv:2007.07314,
    equation 10.
    """
    return _adjusted(tau * log_prior(class_counts), np.zeros(len(class_counts)))


@checked
def ldam(
    class_counts: Counts, *, max_margin: NotNegative = 0.5, logit_scale: Positive = 30.0
) -> LossFn:
    """Returns the cross-entropy with a margin for the true class, larger for rarer classes.

    `-log softmax(z - s m_y e_y)_y`, `m_c = max_margin (n_c / min_j n_j)**(-1/4)`.  The logits are
    those of a cosine head, `z = s cos`, and the margin is in units of the cosine.  Published with
    deferred re-weighting, LDAM-DRW: see `weighted`.

    Args:
        class_counts: (K,) n_c, examples of each class in training, each at least 1.
        max_margin: that of the rarest class.
        logit_scale: s, what the head multiplies cosines by; 1 for a linear head.

    Returns:
        (logits (B, K), labels (B,)) -> (B,) float32.

    Raises:
        ValueError: if a count is below 1, or an option out of its range.

    Source: Cao et al., 2019, arXiv:1906.07413, equations 10 and 13.
    """
    counts = _checked(class_counts)
    margins = max_margin * (counts / counts.min()) ** -0.25
    return _adjusted(np.zeros(len(counts)), logit_scale * margins)


@checked
def robal(
    class_counts: Counts,
    *,
    margin: NotNegative = 0.1,
    tau_margin: NotNegative = 0.3,
    tau_prior: NotNegative = 1.5,
    logit_scale: Positive = 10.0,
) -> LossFn:
    """Returns RoBal's cross-entropy: a prior, a margin for all, and a larger one for the head.

    `-log softmax(z + tau_prior log pi - (s margin + tau_margin log(n_y / min_j n_j)) e_y)_y` with
    the logits `z = s cos` of a cosine head.  In its authors' method the images are those of PGD,
    and TRADES's divergence is added; both are of the cosines there, of z here.

    Args:
        class_counts: (K,) n_c, examples of each class in training, each at least 1; pi is their
            share.
        margin: in units of the cosine, the same for every class.
        tau_margin: of the margin that grows with the count.
        tau_prior: how much of the prior is taken out.
        logit_scale: s, what the head multiplies cosines by; 1 for a linear head.

    Returns:
        (logits (B, K), labels (B,)) -> (B,) float32.

    Raises:
        ValueError: if a count is below 1, or an option out of its range.

    Source: Wu et al., "Adversarial Robustness under Long-Tailed Distribution", 2021,
    arXiv:2104.02703, section 4; the form and the values are those of the authors' code for
    CIFAR-10, wutong16/Adversarial_Long-Tail at ab2f3a7.
    """
    counts = _checked(class_counts)
    margins = logit_scale * margin + tau_margin * np.log(counts / counts.min())
    return _adjusted(tau_prior * log_prior(counts), margins)


def log_prior(class_counts: Counts) -> np.ndarray:
    """Returns the log of each class's share of the examples.

    Args:
        class_counts: (K,) each at least 1.

    Returns:
        (K,) float64.

    Raises:
        ValueError: if a count is below 1.
    """
    counts = _checked(class_counts)
    return np.log(counts / counts.sum())


def _adjusted(shifts: np.ndarray, margins: np.ndarray) -> LossFn:
    """Returns the cross-entropy of `z + shifts - margins[y] e_y`, both of (K,)."""
    shifts, margins = shifts.astype(np.float32), margins.astype(np.float32)

    def loss(logits: Array, labels: Array) -> Array:
        _check_classes(logits, len(shifts))
        logits, labels = prepare(logits, labels)
        adjusted = logits + shifts
        if margins.any():
            is_label = jax.nn.one_hot(labels, len(margins), dtype=bool)
            adjusted -= jnp.where(is_label, jnp.asarray(margins), jnp.float32(0.0))
        return softmax_cross_entropy(adjusted, labels)

    return loss


def _checked(class_counts: Counts) -> np.ndarray:
    """Returns the counts as float64."""
    counts = np.asarray(class_counts, dtype=np.float64)
    if counts.ndim != 1 or len(counts) < 2:
        raise ValueError(f"class_counts has shape {counts.shape}; allowed: (K,), one per class")
    wrong = np.flatnonzero(~(np.isfinite(counts) & (counts >= 1)))
    if wrong.size:
        raise ValueError(
            f"class_counts is {counts[wrong[0]]:g} for class {wrong[0]}; at least 1 example of "
            "every class is needed"
        )
    return counts


def _check_classes(logits: Array, num_classes: int) -> None:
    if logits.shape[-1] != num_classes:
        raise ValueError(
            f"class_counts has {num_classes} classes, the logits {logits.shape[-1]}; "
            "they must be the same"
        )
