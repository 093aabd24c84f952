"""MART: images that the model gets wrong weigh more in the term that keeps predictions stable."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from rbjax import attacks
from rbjax.losses.adversarial import kl_divergence
from rbjax.methods.weight_perturbation import worst_weights
from rbjax.options import Count, Epsilon, NotNegative, StepSize, checked
from rbjax.training.method import Method, MethodState, Seen
from rbjax.typing import Array, Key, LogitsFn


@checked
def mart(
    *,
    epsilon: Epsilon = 8 / 255,
    step_size: StepSize | None = None,
    num_steps: Count = 10,
    norm: Literal["linf", "l2"] = "linf",
    beta: NotNegative = 5.0,
    attack_batch_norm: Literal["eval", "train"] = "eval",
    weight_perturbation: NotNegative = 0.0,
) -> Method:
    """Returns misclassification-aware adversarial training.

    With p = softmax f_w(x) and q = softmax f_w(x'), x' by projected gradient ascent of the
    cross-entropy from x + 0.001 N(0, 1),

    min_w E loss(f_w(x'), y) - log(1.0001 - max_{k != y} q_k) + beta KL(p || q) (1 - p_y).

    The second term is a margin: the strongest wrong class counts by itself.  The last hardly counts
    where the clean image is classified with confidence.  Nothing is held constant while the weights
    descend.  The running statistics follow the clean and then the perturbed images.

    Args:
        epsilon: radius of the ball.
        step_size: length of one step; None: epsilon / 4, as in 8/255 and 2/255.
        num_steps: steps of the attack.
        norm: of the ball.
        beta: weight of the last term: 5 for ResNet-18; the authors take 6 for WRN-34-10.
        attack_batch_norm: batch norm while crafting: running statistics, as in the authors' code,
            or the batch's own.
        weight_perturbation: gamma of `worst_weights`; 0 is the method as published.

    Returns:
        The method; its first term is the config's loss, cross-entropy in the paper.  It remembers
        nothing between steps.

    Source:
        Wang et al. 2020, "Improving Adversarial Robustness Requires Revisiting Misclassified
        Examples", ICLR, section 3.  Start, beta and the constant 1.0001, which keeps the logarithm
        finite, as in the authors' code (2d83e17), whose radius of 0.031 is 8/255 here.
    """
    attack = attacks.pgd(
        epsilon=epsilon,
        step_size=step_size,
        num_steps=num_steps,
        norm=norm,
        start="normal",
    )

    def inputs(
        logits_fn: LogitsFn, keys: Key, state: MethodState, images: Array, labels: Array
    ) -> tuple[Array, Array]:
        del state
        return images, attack(logits_fn, keys, images, labels).images

    def loss(seen: Seen) -> Array:
        clean, perturbed = seen.outputs
        is_label = jax.nn.one_hot(seen.labels, clean.logits.shape[1], dtype=bool)
        probabilities = jax.nn.softmax(perturbed.logits)
        strongest_wrong = jnp.max(jnp.where(is_label, 0.0, probabilities), axis=1)
        confidence = jnp.sum(jnp.where(is_label, jax.nn.softmax(clean.logits), 0.0), axis=1)
        margin = -jnp.log(1.0001 - strongest_wrong)
        divergence = kl_divergence(perturbed.logits, clean.logits)
        return seen.task_loss(perturbed.logits) + margin + beta * divergence * (1.0 - confidence)

    return Method(
        inputs=inputs,
        loss=loss,
        softmax=True,
        attack_batch_norm=attack_batch_norm,
        descend_at=worst_weights(weight_perturbation),
    )
