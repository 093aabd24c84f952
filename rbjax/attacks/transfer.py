"""Transfer: images crafted on one model, judged on another."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from rbjax import prng
from rbjax.attacks.attack import CompiledAttack, Plan, Task, Threat, judge, judge_compiled
from rbjax.classifier import Classifier, Model, as_classifier
from rbjax.inputs import check_array, is_tracing
from rbjax.typing import Array, AttackResult, Key


@partial(jax.tree_util.register_dataclass, data_fields=["source"], meta_fields=["attack"])
@dataclasses.dataclass(frozen=True)
class TransferAttack:
    """An attack that knows another model than the one it is called on; `transfer` makes it.

    A pytree of the source's weights, so that it can go through `jit` as an argument.
    """

    attack: CompiledAttack
    source: Classifier

    @property
    def plan(self) -> Plan:
        """How the images are searched for."""
        return self.attack.plan

    @property
    def threat(self) -> Threat:
        """The set that the images lie in."""
        return self.attack.threat

    @property
    def epsilon(self) -> float | None:
        """Radius of the ball; None: no ball."""
        return self.attack.epsilon

    def __call__(
        self,
        logits_fn: Model,
        key: Key,
        images: Array,
        labels: Array,
        *,
        targets: Array | None = None,
        epsilon: Array | float | None = None,
        step_size: Array | float | None = None,
        **unknown: Any,
    ) -> AttackResult:
        """Crafts images on the source and judges them on a model.

        Args:
            logits_fn: the model that is to be fooled; it is asked for its logits alone.
            key: one key, or (B,) keys, one per example.
            images: (B, H, W, C) floating in [0, 1].
            labels: (B,) integers, the true classes.
            targets: (B,) integers, the classes to be taken for; None: any wrong one.
            epsilon: a number or (B,), in pixel units, in place of the attack's own.
            step_size: a number or (B,), likewise.
            **unknown: refused.

        Returns:
            The images that the attack finds for the source; which of them fool the model, the loss
            and the classes are the model's.

        Raises:
            ValueError: for wrong shapes and values, and for models of other numbers of classes.
        """
        images, model = jnp.asarray(check_array(images)), as_classifier(logits_fn)
        options = {"targets": targets, "epsilon": epsilon, "step_size": step_size, **unknown}
        source = self.source.of_the_moment()
        crafted = self.attack(source, key, images, labels, **options)
        labels, targets = jnp.asarray(labels), None if targets is None else jnp.asarray(targets)
        if not is_tracing():
            has, needs = self.source.count_classes(images), model.count_classes(images)
            if has != needs:
                raise ValueError(f"source has {has} classes; it must have the model's, {needs}")
        keys = prng.broadcast(key, images.shape[0])
        task = Task(keys, images, labels, targets)
        is_traced = is_tracing(model, *task, crafted.images)
        return (judge if is_traced else judge_compiled)(self.plan, model, task, crafted.images)


def transfer(attack: CompiledAttack, source: Model) -> TransferAttack:
    """Returns an attack that crafts its images on a model of its own.

    It is called as any attack is, on the model that is to be fooled, whose gradients it never sees.
    With `Partial(apply, variables)` as the source other weights do not compile again.

    Args:
        attack: any attack of `ATTACKS`.
        source: images -> logits (B, K), of as many classes; or a randomised classifier.

    Returns:
        The attack; its set is that of the one it was made of.

    Raises:
        ValueError: if the attack is none, or the source no function.

    Source:
        Papernot, McDaniel, Goodfellow 2016, arXiv:1605.07277; P5's "transfer" takes the gradients
        of the network that was trained on balanced data.
    """
    if not isinstance(attack, CompiledAttack):
        raise ValueError(
            f"attack is a {type(attack).__name__}; it must be an attack, such as pgd(epsilon=8/255)"
        )
    if not (callable(source) or isinstance(source, Classifier)):
        raise ValueError(
            f"source is a {type(source).__name__}; it must be a function, images -> logits"
        )
    return TransferAttack(attack, as_classifier(source))
