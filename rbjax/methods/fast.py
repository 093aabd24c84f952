"""Fast adversarial training: one gradient step from a random start."""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp

from rbjax import attacks
from rbjax.attacks.norms import confine, sample
from rbjax.methods.guard import guarded
from rbjax.methods.weight_perturbation import worst_weights
from rbjax.options import Epsilon, NotNegative, Share, StepSize, checked
from rbjax.training.method import Method, MethodState
from rbjax.typing import Array, Key, LogitsFn


@checked
def fast(
    *,
    form: Literal["fgsm_rs", "n_fgsm"] = "fgsm_rs",
    epsilon: Epsilon = 8 / 255,
    step_size: StepSize | None = None,
    noise: NotNegative | None = None,
    guard: Share = 0.5,
    attack_batch_norm: Literal["eval", "train"] = "train",
    weight_perturbation: NotNegative = 0.0,
) -> Method:
    """Returns fast adversarial training, at twice the cost of standard training.

    x_0 = clip(x + noise epsilon u, 0, 1), u uniform in [-1, 1), and

    x' = clip(P(x_0 + step_size sign(grad L(f_w(x_0), y))), 0, 1), L the cross-entropy, which the
    weights are trained on by the config's loss.  In FGSM-RS P projects to the ball of radius
    epsilon around x.  In N-FGSM there is no projection: the noise augments the image as well, x'
    may lie (noise + 1) epsilon from x, and the robustness aimed at is still that of epsilon.

    One-step training may overfit to its attack at once: images found by several steps are all
    misclassified from one epoch to the next.  The guard attacks held-out images, or training images
    where there is no validation split, by PGD of 5 steps of epsilon / 4 after each epoch and puts
    the most robust weights back, see `guarded`.  (The authors of FGSM-RS, who attack training
    images, stop at the epoch before, after a fall of 20 points, half of what CIFAR-10 has at 8/255.
    Training goes on here, what has less than 20 points is guarded, too, and so is a collapse that
    takes several epochs.)

    Args:
        form: "fgsm_rs" or "n_fgsm".
        epsilon: radius of the ball, in linf.
        step_size: length of the step; None: 1.25 epsilon in FGSM-RS, epsilon in N-FGSM.
        noise: size of the random start, in epsilons; None: 1 in FGSM-RS, 2 in N-FGSM.
        guard: largest share of the best accuracy under attack that may be lost; 1: no guard.
        attack_batch_norm: batch norm while crafting: running statistics, or the batch's own, as in
            both authors' code, where that pass moves the running statistics as well.
        weight_perturbation: gamma of `worst_weights`; 0 is the method as published.

    Returns:
        The method; with a guard its state is the last good weights.

    Source:
        FGSM-RS: Wong, Rice, Kolter 2020, arXiv:2001.03994, algorithm 3, and the guard as in the
        authors' code (54f7287) with --early-stop.  N-FGSM: de Jorge et al. 2022, arXiv:2202.01181,
        as in the authors' code (pdejorge/N-FGSM, 0a9e4f0).
    """
    steps = {"fgsm_rs": 1.25, "n_fgsm": 1.0}
    length = steps[form] * epsilon if step_size is None else step_size
    radius = {"fgsm_rs": 1.0, "n_fgsm": 2.0}[form] if noise is None else noise
    attack = attacks.fgsm(epsilon=min(length, 1.0))  # the box is no wider

    def inputs(
        logits_fn: LogitsFn, keys: Key, state: MethodState, images: Array, labels: Array
    ) -> Array:
        del state
        drawn = sample(keys, images.shape[1:], radius * epsilon, "linf")
        moved = attack(logits_fn, keys, jnp.clip(images + drawn, 0.0, 1.0), labels).images
        return confine(moved, images, epsilon, "linf") if form == "fgsm_rs" else moved

    method = Method(
        inputs=inputs,
        attack_batch_norm=attack_batch_norm,
        descend_at=worst_weights(weight_perturbation),
    )
    if guard == 1.0:
        return method
    return guarded(method, attacks.pgd(epsilon=epsilon, num_steps=5), max_loss=guard)
