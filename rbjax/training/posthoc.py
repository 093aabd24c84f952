"""What makes a trained model fair to rare classes without training it again."""

from __future__ import annotations

import functools
from typing import Any

import jax.numpy as jnp

from rbjax.losses.imbalance import Counts, log_prior
from rbjax.models import Model
from rbjax.typing import Array


def adjust_logits(model: Model, class_counts: Counts, *, tau: float = 1.0) -> Model:
    """Returns a model that answers as if every class had been as frequent: logit adjustment.

    `z - tau log pi`, `pi_c = n_c / sum_j n_j`.  Training it on is not affected.

    Args:
        model: trained without an adjustment of its own.
        class_counts: (K,) training examples of each class, each at least 1.
        tau: how much of the prior is taken out.

    Returns:
        The model, the same object for the same arguments.

    Raises:
        ValueError: if a count is below 1, or there are not as many as classes.

    Source: Menon et al., "Long-Tail Learning via Logit Adjustment", 2021, arXiv:2007.07314,
    equation 9.
    """
    prior = tuple(float(value) for value in log_prior(class_counts))
    if len(prior) != model.num_classes:
        raise ValueError(
            f"class_counts has {len(prior)} classes, the model {model.num_classes}; they must be "
            "the same"
        )
    return _adjusted(model, prior, float(tau))


@functools.cache
def _adjusted(model: Model, prior: tuple[float, ...], tau: float) -> Model:
    def apply(variables: Any, images: Array) -> Array:
        return model.apply(variables, images) - tau * jnp.asarray(prior, jnp.float32)

    return model._replace(apply=apply)


def normalize_head(variables: Any, *, tau: float = 1.0) -> Any:
    """Returns weights whose linear head treats classes alike: tau-normalisation.

    `w_c / |w_c|**tau`, and no bias: rare classes have short weights where training was long-tailed.

    Args:
        variables: of a model with a linear head, "params/head".
        tau: 0 leaves the weights as they are, 1 gives all the same length.

    Raises:
        ValueError: if there is no linear head.

    Source: Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition",
    2020, arXiv:1910.09217, section 4.1.
    """
    head = variables["params"].get("head", {})
    if set(head) != {"kernel", "bias"}:
        raise ValueError(
            f"tau_norm = {tau:g}: needs a linear head, weights and a bias a class; this model has "
            + ("a cosine head, whose classes are alike already" if head else "none of rbjax's")
        )
    norms = jnp.linalg.norm(head["kernel"], axis=0)
    kernel = head["kernel"] / jnp.maximum(norms, 1e-12) ** tau
    head = {"kernel": kernel, "bias": jnp.zeros_like(head["bias"])}
    return {**variables, "params": {**variables["params"], "head": head}}
