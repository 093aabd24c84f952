"""Shared adversarial training: each perturbation is crafted for a heap of several images."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from rbjax.attacks.norms import STARTS, project, start, steepest
from rbjax.classifier import as_classifier
from rbjax.losses.adversarial import cross_entropy
from rbjax.methods.idle import refuse_idle
from rbjax.methods.weight_perturbation import worst_weights
from rbjax.options import Count, Epsilon, NotNegative, Positive, Share, StepSize, checked
from rbjax.prng import per_draw
from rbjax.training.method import Method, MethodState, Seen
from rbjax.typing import Array, Key, LogitsFn

KAPPA = -math.log(0.2)
"""The loss of an image whose class has a probability of 0.2."""


@checked
def shared(
    *,
    epsilon: Epsilon = 8 / 255,
    step_size: StepSize | None = None,
    num_steps: Count = 4,
    heap_size: Count = 8,
    sigma: Share = 0.5,
    loss_clip: Positive = KAPPA,
    norm: Literal["linf", "l2"] = "linf",
    random_start: bool = True,
    attack_batch_norm: Literal["eval", "train"] = "eval",
    weight_perturbation: NotNegative = 0.0,
) -> Method:
    """Returns shared adversarial training.

    min_w E[sigma loss(f_w(clip(x + xi_h)), y) + (1 - sigma) loss(f_w(x), y)], where x is in the
    heap h and xi_h = argmax_{|xi| <= epsilon} sum_{i in h} min(L(f_w(clip(x_i + xi)), y_i), clip),
    by projected ascent along the heap's sum of gradients.  L is the cross-entropy; the config's
    loss is descended, whose `label_smoothing` is part of the paper's recipe.

    Rows 0 to s - 1 of the batch are a heap, the next s another, and so on, whatever the devices.
    So a heap must not lie on two of them: the batch size must be a multiple of heap_size times the
    number of devices.  heap_size = 1 with sigma = 1 and no clip is PGD training, and a heap of the
    whole batch a universal perturbation crafted anew for each batch.

    Args:
        epsilon: radius of the ball; at most 1 in linf, any positive size in l2.
        step_size: length of one step; None: epsilon / 2, as in the paper.
        num_steps: steps of the attack.
        heap_size: s, images that share a perturbation; the paper tries 1, 8 and 64.
        sigma: share of the perturbed images' loss; the paper tries 0.3 to 0.9.  With 0 nothing is
            crafted, and `epsilon` and `norm` are only those of the evaluation.
        loss_clip: the most that an image's loss counts while crafting, image by image, so that
            those already lost stop counting; 1e6: hardly a limit.
        norm: of the ball; the paper has linf.
        random_start: whether the attack starts at a random point of the ball.
        attack_batch_norm: batch norm while crafting: running statistics, as in `pgd` here, or the
            batch's own.
        weight_perturbation: gamma of `worst_weights`; 0 is the method as published.

    Returns:
        The method; it remembers nothing between steps.  With sigma between 0 and 1 the network
        sees the perturbed images and then the clean ones.

    Raises:
        ValueError: for options of the attack that are set with sigma 0.

    Source:
        Mummadi, Brox and Metzen 2019, arXiv:1812.03705 (ICCV).
    """
    if not sigma:
        refuse_idle(
            shared,
            "sigma above 0",
            step_size=step_size,
            num_steps=num_steps,
            heap_size=heap_size,
            loss_clip=loss_clip,
            random_start=random_start,
            attack_batch_norm=attack_batch_norm,
        )
    length = epsilon / 2 if step_size is None else step_size
    attack = HeapAttack(epsilon, length, num_steps, heap_size, loss_clip, norm, random_start)

    def inputs(
        logits_fn: LogitsFn, keys: Key, state: MethodState, images: Array, labels: Array
    ) -> Array | tuple[Array, Array]:
        del state
        if not sigma:
            return images
        moved = attack(logits_fn, keys, images, labels)
        return moved if sigma == 1 else (moved, images)

    def loss(seen: Seen) -> Array:
        moved, clean = (seen.task_loss(output.logits) for output in seen.outputs)
        return sigma * moved + (1 - sigma) * clean

    return Method(
        inputs=inputs,
        loss=loss if 0 < sigma < 1 else None,
        attack_batch_norm=attack_batch_norm,
        rows_together=heap_size if sigma else 1,
        descend_at=worst_weights(weight_perturbation),
    )


class HeapAttack(NamedTuple):
    """Projected ascent of one perturbation for each heap of a batch (S-PGD)."""

    epsilon: float
    step_size: float
    num_steps: int
    heap_size: int
    loss_clip: float
    norm: str
    random_start: bool

    def __call__(self, logits_fn: LogitsFn, keys: Key, images: Array, labels: Array) -> Array:
        """Returns the images (B, H, W, C), each with the perturbation of its heap.

        Raises:
            ValueError: if the last heap is not whole.
        """
        epsilon, norm = self.epsilon, self.norm
        if len(images) % self.heap_size:
            raise ValueError(
                f"heap_size is {self.heap_size}, and a device has {len(images)} rows of the batch; "
                "they must be whole heaps"
            )
        heaps = images.reshape(-1, self.heap_size, *images.shape[1:])
        # A perturbation is carried as the heap's first image with it: for heaps of one, that is
        # the image that PGD carries, bit for bit.
        first = heaps[:, 0]
        # What no image of a heap has room for in [0, 1] would move none of them.
        low, high = first - jnp.max(heaps, axis=1), 1.0 + (first - jnp.min(heaps, axis=1))

        def confine(moved: Array) -> Array:
            return jnp.clip(first + project(moved - first, epsilon, norm), low, high)

        def perturbed(moved: Array) -> Array:
            each = moved[:, None] + (heaps - first[:, None])
            return jnp.clip(each, 0.0, 1.0).reshape(images.shape)

        def truncated(logits: Array) -> Array:
            losses = cross_entropy(logits, labels)
            return jnp.minimum(losses, self.loss_clip)

        classifier = as_classifier(logits_fn).asked_about(images)

        def climb(_: Array | int, moved: Array) -> Array:
            gradients = classifier.value_and_grad(truncated, keys, perturbed(moved)).gradient
            total = jnp.sum(gradients.reshape(heaps.shape), axis=1)
            return confine(moved + self.step_size * steepest(total, norm))

        moved = first
        if self.random_start:
            own_keys = per_draw(keys[:: self.heap_size], 0)
            drawn = start(STARTS["uniform"], own_keys, images.shape[1:], epsilon, norm)
            moved = confine(first + drawn)
        return perturbed(jax.lax.fori_loop(0, self.num_steps, climb, moved))
