"""Losses that attacks climb: the higher, the nearer to a mistake. One number per example.

A class that a model masks, whose logit is -inf, is none that an example could be taken for: no loss
divides by it, and it adds nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from rbjax.inputs import check_labels, is_known
from rbjax.typing import Array, LossFn


def prepare(logits: Array, labels: Array, *, field: str = "labels") -> tuple[Array, Array]:
    """Returns what a loss is computed of: logits in float32 and labels in int32.

    Args:
        logits: (B, K) of any float dtype.
        labels: (B,) integers in [0, K). Known ones outside are refused; a traced one makes its
            row of logits NaN, and the gradient there.
        field: what the message calls the labels.

    Raises:
        ValueError: for other shapes or one class, labels that are no integers, or known ones
            outside [0, K).
    """
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ValueError(
            f"logits has shape {logits.shape}; it must be (batch, classes), of at least two classes"
        )
    num_examples, num_classes = logits.shape
    labels = check_labels(labels, num_examples=num_examples, num_classes=num_classes, field=field)
    logits, labels = logits.astype(jnp.float32), jnp.asarray(labels)
    if is_known(labels):
        return logits, labels
    # A product: what `where` chose would have no gradient.
    return logits * jnp.where(labels < num_classes, jnp.float32(1.0), jnp.nan)[:, None], labels


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Returns the cross-entropy of each example, what FGSM and PGD climb.

    `-log softmax(z)_y = log sum_j exp(z_j) - z_y`

    Args:
        logits: (B, K) of any float dtype; computed in float32.
        labels: (B,) integers in [0, K), as for every loss of labels; see `prepare`.

    Returns:
        (B,) float32, at least 0.

    Source: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", 2017,
    arXiv:1706.06083, equation 2.1.
    """
    logits, labels = prepare(logits, labels)
    log_probabilities = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(log_probabilities, labels[:, None], axis=1, mode="fill")[:, 0]


def margin(logits: Array, labels: Array) -> Array:
    """Returns by how much the strongest wrong class exceeds the true one.

    `max_{j != y} z_j - z_y`, positive where the example is misclassified. Its gradient does not
    vanish where the classifier is sure, as cross-entropy's does.

    Args:
        logits: (B, K), K at least 2.
        labels: (B,) integers in [0, K).

    Returns:
        (B,) float32.

    Source: Carlini and Wagner, "Towards Evaluating the Robustness of Neural Networks", 2016,
    arXiv:1608.04644, section V-A, f_6 without its clamp.
    """
    logits, labels = prepare(logits, labels)
    is_label = jax.nn.one_hot(labels, logits.shape[1], dtype=bool)
    true = jnp.sum(jnp.where(is_label, logits, 0), axis=1)
    return jnp.max(jnp.where(is_label, -jnp.inf, logits), axis=1) - true


def probability_margin(logits: Array, labels: Array) -> Array:
    """Returns by how much the probability of the likeliest wrong class exceeds the true one's.

    `max_{j != y} p_j - p_y`, p = softmax(z): in [-1, 1], positive where the example is
    misclassified. Of all wrong classes the likeliest counts most in its gradient and the others by
    their probabilities; where one class has nearly all of it the gradient vanishes, as that of
    cross-entropy does.

    Args:
        logits: (B, K), K at least 2.
        labels: (B,) integers in [0, K).

    Returns:
        (B,) float32.

    Source: Xie et al., "Towards Million-Scale Adversarial Robustness Evaluation With Stronger
    Individual Attacks", 2024, arXiv:2411.15210, the loss of its attack PMA.
    """
    logits, labels = prepare(logits, labels)
    return margin(jax.nn.softmax(logits), labels)


def kl_divergence(logits: Array, clean_logits: Array) -> Array:
    """Returns how far the prediction has moved from the clean image's, what TRADES climbs.

    `KL(p || q) = sum_j p_j (log p_j - log q_j)`, p = softmax(clean_logits), q = softmax(logits).
    Its gradient at the clean image itself is 0: start elsewhere.

    Args:
        logits: (B, K) of the perturbed images.
        clean_logits: (B, K) of the images as they are.

    Returns:
        (B,) float32, at least 0 up to rounding.

    Source: Zhang et al., "Theoretically Principled Trade-off between Robustness and Accuracy",
    2019, arXiv:1901.08573, equation 5.
    """
    if logits.shape != clean_logits.shape or logits.ndim != 2:
        raise ValueError(
            f"logits and clean_logits have shapes {logits.shape} and {clean_logits.shape}; both "
            "must be (batch, classes), the same"
        )
    clean = jax.nn.log_softmax(clean_logits.astype(jnp.float32))
    perturbed = jax.nn.log_softmax(logits.astype(jnp.float32))
    # 0 log 0 is 0: the inner `where` keeps the NaN of two infinities out of the gradient.
    is_possible = clean > -jnp.inf
    apart = jnp.where(is_possible, clean, 0.0) - jnp.where(is_possible, perturbed, 0.0)
    return jnp.sum(jnp.exp(clean) * apart, axis=1)


def dlr(logits: Array, labels: Array) -> Array:
    """Returns the difference of logits ratio: the margin, whatever the scale of the logits.

    `-(z_y - max_{j != y} z_j) / (z_(1) - z_(3))`, z_(i) the i-th largest logit; above 0 where
    the example is misclassified, and in [-1, 0] otherwise. Where masked classes leave only two
    logits the denominator is 1.

    Args:
        logits: (B, K), K at least 3.
        labels: (B,) integers in [0, K).

    Returns:
        (B,) float32.

    Source: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of
    diverse parameter-free attacks", 2020, arXiv:2003.01690, equation 6.
    """
    logits, labels = prepare(logits, labels)
    if logits.shape[1] < 3:
        raise ValueError(
            f"loss 'dlr' divides by the third largest logit and there are {logits.shape[1]} "
            "classes; use 'margin'"
        )
    top = _largest(logits, 3)
    return margin(logits, labels) / _spread(top, top[:, 2])


def targeted_dlr(logits: Array, labels: Array, targets: Array) -> Array:
    """Returns by how much the target exceeds the true class, whatever the scale of the logits.

    `-(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2)`; with fewer than four classes that are not masked
    the denominator is 1: of the logits that are left, one made of z_y and z_t alone would make the
    ratio constant.

    Args:
        logits: (B, K), K at least 2.
        labels: (B,) integers in [0, K).
        targets: (B,) integers in [0, K).

    Returns:
        (B,) float32.

    Source: Croce and Hein 2020, arXiv:2003.01690, equation 7.
    """
    logits, labels = prepare(logits, labels)
    logits, targets = prepare(logits, targets, field="targets")
    rows = jnp.arange(logits.shape[0])
    difference = logits[rows, targets] - logits[rows, labels]
    if logits.shape[1] < 4:
        return difference
    top = _largest(logits, 4)
    return difference / _spread(top, 0.5 * (top[:, 2] + top[:, 3]))


_TINY = 1e-12


def _spread(top: Array, low: Array) -> Array:
    """Returns what a ratio divides by, (B,): 1 where it would be of a masked class."""
    is_finite = jnp.isfinite(low)
    return jnp.where(is_finite, top[:, 0] - jnp.where(is_finite, low, 0.0) + _TINY, 1.0)


def _largest(logits: Array, count: int) -> Array:
    """Returns each example's largest logits, (B, count), in falling order.

    One maximum after another: XLA's `top_k` sorts, and its gradient scatters.
    """
    rest, largest = logits.astype(jnp.float32), []
    for _ in range(count):
        largest.append(jnp.max(rest, axis=1))
        is_largest = jax.nn.one_hot(jnp.argmax(rest, axis=1), rest.shape[1], dtype=bool)
        rest = jnp.where(is_largest, -jnp.inf, rest)
    return jnp.stack(largest, axis=1)


LOSSES: dict[str, LossFn] = {
    "cross_entropy": cross_entropy,
    "margin": margin,
    "dlr": dlr,
    "probability_margin": probability_margin,
    "kl": kl_divergence,
}
"""What an attack may climb, by name: all but "kl" are of the labels; it is of the logits of the
image as it is."""

OfLabels = Literal["cross_entropy", "margin", "dlr", "probability_margin"]
"""A name in `LOSSES` of a loss of the labels."""
Climbed = Literal["cross_entropy", "margin", "dlr", "probability_margin", "kl"]
"""A name in `LOSSES`."""

Direction = Literal["ascent", "descent"]


def objective(
    loss: LossFn,
    labels: Array,
    targets: Array | None,
    *,
    direction: Direction | None = None,
    clean_logits: Array | None = None,
) -> Callable[[Array], Array]:
    """Returns what is climbed, logits (B, K) -> (B,).

    Args:
        loss: of `LOSSES`, or (logits, labels) -> (B,).
        labels: (B,).
        targets: (B,), in place of the labels where there are any.
        direction: whether the loss is raised or lowered; None: raised for labels, lowered for
            targets.
        clean_logits: (B, K), in place of both where the loss is of them.
    """
    lowered = (direction or ("ascent" if targets is None else "descent")) == "descent"
    sign = -1.0 if lowered else 1.0
    if targets is not None and loss is dlr:
        # The ratio of the target alone is constant where it is third: it is of label and target.
        return lambda logits: -sign * targeted_dlr(logits, labels, targets)
    reference = labels if targets is None else targets
    reference = reference if clean_logits is None else clean_logits
    return lambda logits: sign * loss(logits, reference)
