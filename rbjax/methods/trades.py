"""TRADES: accuracy on clean images, and predictions that do not move inside a ball."""

from __future__ import annotations

from typing import Literal

from rbjax import attacks
from rbjax.losses.adversarial import kl_divergence
from rbjax.methods.weight_perturbation import worst_weights
from rbjax.options import Count, Epsilon, NotNegative, StepSize, checked
from rbjax.training.method import Method, MethodState, Seen
from rbjax.typing import Array, Key, LogitsFn


@checked
def trades(
    *,
    epsilon: Epsilon = 8 / 255,
    step_size: StepSize | None = None,
    num_steps: Count = 10,
    norm: Literal["linf", "l2"] = "linf",
    beta: NotNegative = 6.0,
    attack_batch_norm: Literal["eval", "train"] = "eval",
    weight_perturbation: NotNegative = 0.0,
) -> Method:
    """Returns TRADES, which trades accuracy against predictions that move inside a ball.

    min_w E loss(f_w(x), y) + beta max_{|d| <= epsilon} KL(softmax f_w(x) || softmax f_w(x + d)),
    the maximum by projected gradient ascent from x + 0.001 N(0, 1): at x itself the gradient is 0.
    Neither prediction of the divergence is held constant while the weights descend.

    The running statistics follow the clean, the perturbed and again the clean images, as in the
    authors' code.

    Args:
        epsilon: radius of the ball.
        step_size: length of one step; None: epsilon / 4, as in 8/255 and 2/255.
        num_steps: steps of the attack.
        norm: of the ball.
        beta: weight of the divergence; the paper's 1 / lambda.
        attack_batch_norm: batch norm while crafting: running statistics, as in the authors' code,
            or the batch's own.
        weight_perturbation: gamma of `worst_weights`, 0.005 in TRADES-AWP; 0 is TRADES.

    Returns:
        The method; its clean term is the config's loss, and it remembers nothing between steps.

    Source:
        Zhang et al. 2019, arXiv:1901.08573, equation 5; start, number of steps and beta as in the
        authors' code for CIFAR-10 (6e8e11b), whose radius of 0.031 and steps of 0.007 are 8/255 and
        2/255 here.  In l2 they take steps of 2 epsilon / num_steps.
    """
    attack = attacks.pgd(
        epsilon=epsilon,
        step_size=step_size,
        num_steps=num_steps,
        norm=norm,
        start="normal",
        loss="kl",
    )

    def inputs(
        logits_fn: LogitsFn, keys: Key, state: MethodState, images: Array, labels: Array
    ) -> tuple[Array, Array, Array]:
        del state
        # The third is for the running statistics: its logits are the first one's, and not read.
        return images, attack(logits_fn, keys, images, labels).images, images

    return Method(
        inputs=inputs,
        loss=lambda seen: trades_loss(seen, beta=beta),
        softmax=True,
        attack_batch_norm=attack_batch_norm,
        descend_at=worst_weights(weight_perturbation),
    )


def trades_loss(seen: Seen, *, beta: Array | float, task_weight: Array | float = 1.0) -> Array:
    """Returns TRADES' loss of each example, (B,).

    `task_weight loss(f(x), y) + beta KL(softmax f(x) || softmax f(x'))`.

    Args:
        seen: the clean, the perturbed and again the clean images.
        beta: () or (B,).
        task_weight: () or (B,).
    """
    clean, perturbed, _ = seen.outputs
    divergence = kl_divergence(perturbed.logits, clean.logits)
    return task_weight * seen.task_loss(clean.logits) + beta * divergence
