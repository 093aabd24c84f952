"""Adversarial weight perturbation: the gradient is taken at the worst weights nearby."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rbjax.training.method import MethodState
from rbjax.typing import Array

PyTree = Any
DescendAt = Callable[[Callable[[PyTree], PyTree], PyTree, MethodState], PyTree]

_TINY = 1e-20


def worst_weights(gamma: float) -> DescendAt | None:
    """Returns a method's `descend_at` for adversarial weight perturbation.

    w + v, v_l = gamma ||w_l|| g_l / ||g_l|| for every kernel l, g the gradient of the value that is
    descended, over the whole batch: one step up the loss, as long as gamma times the kernel.  What
    has fewer than two axes (biases, the scale of a norm) stays.  The gradient at w + v then moves
    w, and a forward and a backward pass are added to each step.  The running statistics are those
    of w + v; weight decay, which the authors' optimizer takes of w + v, is of w here.

    Args:
        gamma: size relative to the kernel's norm, at least 0.

    Returns:
        (gradient_fn, params, state) -> the perturbed weights; None where gamma is 0.

    Source:
        Wu, Xia, Wang 2020, arXiv:2004.05884, as in the authors' code (csdongxian/AWP, a7acf5d): one
        step, the gradient in training mode, no running statistics written for it.
    """
    if gamma == 0:
        return None

    def descend_at(
        gradient_fn: Callable[[PyTree], PyTree], params: PyTree, state: MethodState
    ) -> PyTree:
        del state
        return jax.tree.map(perturbed, params, gradient_fn(params))

    def perturbed(weights: Array, gradient: Array) -> Array:
        if weights.ndim < 2:
            return weights
        size = jnp.linalg.norm(weights.ravel()) / (jnp.linalg.norm(gradient.ravel()) + _TINY)
        return weights + gamma * size * gradient

    return descend_at
