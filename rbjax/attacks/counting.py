"""How many passes through the model an attack makes, read off its traced program.

The attack is traced with a model of its own, whose passes forwards and backwards leave marks; a
mark in a loop counts as often as the loop turns. Nothing is run, and nothing of the attack's own
program changes.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.extend import core as jaxprs

from rbjax import prng
from rbjax.attacks.attack import CompiledAttack, Plan, Task, run
from rbjax.attacks.transfer import TransferAttack
from rbjax.classifier import as_classifier
from rbjax.typing import Array


class Passes(NamedTuple):
    """Passes of images through a model."""

    forwards: int
    """A pass forwards and backwards is one of each."""
    backwards: int
    at_most: bool = False
    """Whether a loop may have ended earlier, because nothing was left to be done."""

    @classmethod
    def said(cls, details: Mapping[str, Any]) -> Passes | None:
        """Returns the passes that a driver says it made; None if it does not."""
        forwards, backwards = details.get("forwards"), details.get("backwards")
        return None if forwards is None or backwards is None else cls(forwards, backwards)

    def times(self, count: int) -> Passes:
        """Returns the passes of so many images, or draws."""
        return Passes(self.forwards * count, self.backwards * count, self.at_most)

    def plus(self, other: Passes) -> Passes:
        """Returns the passes of both."""
        return Passes(
            self.forwards + other.forwards,
            self.backwards + other.backwards,
            self.at_most or other.at_most,
        )


def count_passes(
    attack: Any,
    *,
    image_shape: tuple[int, ...],
    num_classes: int,
    num_images: int = 1,
    num_samples: int = 1,
    targeted: bool = False,
) -> Passes | None:
    """Returns the passes that an attack makes, those that judge what it found among them.

    Args:
        attack: as `attacks.create` makes it. Of one that crafts on another model the passes through
            that are counted too.
        image_shape: (H, W, C).
        num_classes: K; some attacks aim at every other class.
        num_images: how many are attacked.
        num_samples: draws of which an answer is the mean, of a randomised classifier.
        targeted: whether images are to be taken for given classes.

    Returns:
        The passes; None for an attack of another kind: AutoAttack and A3 count their own as they
        go, and a function from outside is not known.
    """
    if not isinstance(attack, CompiledAttack | TransferAttack):
        return None
    found = of_plan(attack.plan, tuple(image_shape), num_classes, targeted)
    return None if found is None else found.times(num_images * num_samples)


_FORWARDS, _BACKWARDS, _BATCH = "rbjax forwards", "rbjax backwards", 2


@functools.lru_cache(maxsize=256)
def of_plan(
    plan: Plan, image_shape: tuple[int, ...], num_classes: int, targeted: bool
) -> Passes | None:
    """Returns the passes that a plan makes for one image; None if a loop's turns are unknown."""
    images = jnp.zeros((_BATCH, *image_shape), jnp.float32)
    labels, sizes = jnp.zeros(_BATCH, jnp.int32), jnp.ones(_BATCH, jnp.float32)
    task = Task(prng.split(prng.key(0), _BATCH), images, labels, labels if targeted else None)
    model = as_classifier(_marked(num_classes))
    program = jax.make_jaxpr(functools.partial(run, plan, model))(task, sizes, sizes)
    whole = {_FORWARDS: _BATCH * num_classes, _BACKWARDS: images.size}
    return _count(program.jaxpr, whole, getattr(plan, "num_steps", None))


def _marked(num_classes: int) -> Any:
    """Returns a model, images -> logits (B, K), whose passes can be seen in a program."""

    @jax.custom_vjp
    def logits(images: Array) -> Array:
        means = jnp.mean(images, axis=(1, 2, 3))
        return checkpoint_name(jnp.outer(means, jnp.arange(num_classes)), _FORWARDS)

    def forwards(images: Array) -> tuple[Array, Array]:
        return logits(images), images

    def backwards(images: Array, cotangent: Array) -> tuple[Array]:
        along = jnp.sum(cotangent, axis=1)[:, None, None, None]
        return (checkpoint_name(along * jnp.ones_like(images), _BACKWARDS),)

    logits.defvjp(forwards, backwards)
    return logits


def _count(program: Any, whole: dict[str, int], turns: int | None) -> Passes | None:
    """Returns the passes of a jaxpr.

    Args:
        program: the jaxpr.
        whole: by mark, how many numbers a batch of it has; `vmap` may have put several together.
        turns: of a loop that may end earlier, at most; None: not known.

    Returns:
        The passes; None if there is such a loop and its turns are not known.
    """
    total = Passes(0, 0)
    for equation in program.eqns:
        name, mark = equation.primitive.name, equation.params.get("name")
        if name == "name" and mark in whole:
            batches = equation.outvars[0].aval.size // whole[mark]
            total = total.plus(
                Passes(batches * (mark == _FORWARDS), batches * (mark == _BACKWARDS))
            )
            continue
        inside = [_count(part, whole, turns) for part in jaxprs.jaxprs_in_params(equation.params)]
        found = [part for part in inside if part is not None and part != Passes(0, 0)]
        if None in inside or (found and name == "while" and turns is None):
            return None
        if name == "cond" and found:  # one of its branches
            found = [max(found)._replace(at_most=len(set(inside)) > 1)]
        for part in found:
            if name == "scan":
                part = part.times(equation.params["length"])
            elif name == "while":
                part = part.times(turns or 0)._replace(at_most=True)
            total = total.plus(part)
    return total
