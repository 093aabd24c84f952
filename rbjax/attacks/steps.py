"""Attacks made of gradient steps: start, climb, project, clip; the best of several restarts.

FGSM, the iterative gradient sign and PGD are one loop with different parts: the norm's steepest
direction, projection and random start (`norms.py`) and a loss (`losses/adversarial.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import chex
import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from rbjax import checks, prng
from rbjax.attacks import norms
from rbjax.attacks.norms import check_size
from rbjax.convolution import loop_safe
from rbjax.inputs import check_images, check_labels, logits_shape
from rbjax.losses import adversarial
from rbjax.tables import lookup
from rbjax.typing import Array, AttackResult, Key, LogitsFn, LossFn

LOSSES: dict[str, LossFn] = {
    "cross_entropy": adversarial.cross_entropy,
    "margin": adversarial.margin,
}


@dataclasses.dataclass(frozen=True)
class Threat:
    """The set an attack's images lie in."""

    norm: str
    """`"linf"` or `"l2"`."""
    epsilon: float | None
    """Radius of the ball around the image; None where there is no ball."""
    box: bool
    """Whether the images stay in [0, 1]."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What the compiled program of an attack depends on; sizes are arguments, not part of it."""

    norm: str
    num_steps: int
    loss: LossFn
    direction: Literal["ascent", "descent"] | None
    """Which way the loss of the label goes; None: up from the label, down towards a target."""
    ball: bool
    """Whether every step is projected to the ball of radius epsilon."""
    box: bool
    """Whether every step is clipped to [0, 1]."""
    random_start: bool
    num_restarts: int


@dataclasses.dataclass(frozen=True)
class GradientAttack:
    """An attack: `attack(logits_fn, key, images, labels) -> AttackResult`.

    Called on arrays it checks them and runs one compiled program; called inside `jit` it is part
    of the caller's program. With `logits_fn = jax.tree_util.Partial(model.apply, variables)` the
    variables are an argument, and new weights do not compile again. A plain function is part of the
    program: the same function object compiles once, a new one (a lambda made anew) every time.
    Different sizes of `epsilon` and `step_size` never compile again.
    """

    plan: Plan
    epsilon: float
    step_size: float | None
    step_ratio: float
    """Step size over epsilon where no step size is given."""

    @property
    def threat(self) -> Threat:
        """The set that the images of this attack lie in."""
        epsilon = self.epsilon if self.plan.ball else None
        return Threat(norm=self.plan.norm, epsilon=epsilon, box=self.plan.box)

    def __call__(
        self,
        logits_fn: LogitsFn,
        key: Key,
        images: Array,
        labels: Array,
        *,
        targets: Array | None = None,
        epsilon: Array | float | None = None,
        step_size: Array | float | None = None,
    ) -> AttackResult:
        """Attacks a batch.

        Args:
            logits_fn: images -> logits (B, K); normalisation belongs inside.
            key: one key, or (B,) keys, one per example.
            images: (B, H, W, C) floating in [0, 1].
            labels: (B,) integers, the true classes.
            targets: (B,) integers, the classes to be taken for; None: any wrong one.
            epsilon: a number or (B,), in pixel units, in place of the attack's own.
            step_size: a number or (B,), likewise.

        Returns:
            The adversarial images (same shape and dtype), (B,) bool which are fooled, and the (B,)
            float32 loss that was climbed, at those images.

        Raises:
            ValueError: for wrong shapes, and for wrong values where they are known.
        """
        images, labels = jnp.asarray(images), jnp.asarray(labels)
        targets = None if targets is None else jnp.asarray(targets)
        _check_batch(logits_fn, images, labels, targets)
        epsilon = _per_example(
            "epsilon", self.epsilon if epsilon is None else epsilon, self, images
        )
        if step_size is None:
            step_size = self.step_ratio * epsilon if self.step_size is None else self.step_size
        step_size = _per_example("step_size", step_size, self, images)
        keys = prng.broadcast(key, images.shape[0])
        arguments = (keys, images, labels, targets, epsilon, step_size)
        if checks.is_tracing() or checks.is_traced(logits_fn, *arguments):
            return run(self.plan, logits_fn, *arguments)
        compiled = _run_weights if isinstance(logits_fn, Partial) else _run_function
        return compiled(self.plan, logits_fn, *arguments)


def make(
    *,
    norm: str,
    epsilon: float,
    step_size: float | None,
    step_ratio: float,
    num_steps: int,
    loss: str | LossFn = "cross_entropy",
    direction: Literal["ascent", "descent"] | None = None,
    ball: bool = True,
    box: bool = True,
    random_start: bool = False,
    num_restarts: int = 1,
) -> GradientAttack:
    """Returns an attack of gradient steps, its options checked.

    Args:
        norm: `"linf"` or `"l2"`.
        epsilon: in pixel units.
        step_size: in pixel units; None: `step_ratio` times epsilon.
        step_ratio: see `step_size`.
        num_steps: steps of one restart.
        loss: a name in `LOSSES`, or (logits, labels) -> (B,), which is climbed.
        direction: see `Plan`.
        ball: see `Plan`.
        box: see `Plan`.
        random_start: whether a restart begins at a random point of the ball.
        num_restarts: restarts; the best is kept.

    Returns:
        The attack.

    Raises:
        ValueError: for an option out of range.
    """
    check_size("epsilon", checks.real("epsilon", epsilon, low=float("-inf")), norm)
    if step_size is not None:
        check_size("step_size", checks.real("step_size", step_size, low=float("-inf")), norm)
    if direction not in (None, "ascent", "descent"):
        raise ValueError(f"direction is {direction!r}; allowed: 'ascent', 'descent', None")
    checks.integer("num_steps", num_steps, low=1)
    checks.integer("num_restarts", num_restarts, low=1)
    if num_restarts > 1 and not random_start:
        raise ValueError(
            f"num_restarts is {num_restarts} with random_start off; every restart would be the same"
        )
    loss_fn = lookup(LOSSES, loss, what="loss") if isinstance(loss, str) else loss
    plan = Plan(norm, num_steps, loss_fn, direction, ball, box, random_start, num_restarts)
    return GradientAttack(plan, float(epsilon), step_size, step_ratio)


def run(
    plan: Plan,
    logits_fn: LogitsFn,
    keys: Key,
    images: Array,
    labels: Array,
    targets: Array | None,
    epsilon: Array,
    step_size: Array,
) -> AttackResult:
    """Runs a plan on arrays: pure and jit-able, every size (B,) float32 and every key given."""
    # Nothing of an attack is differentiated by its caller (adversarial training).
    if isinstance(logits_fn, Partial):
        logits_fn = jax.tree.map(jax.lax.stop_gradient, logits_fn)
    logits_fn, images = loop_safe(logits_fn), jax.lax.stop_gradient(images)
    wide = images.astype(jnp.float32)
    objective = _objective(plan, labels, targets)

    def classify(adversarial_images: Array) -> Array:
        logits = logits_fn(adversarial_images.astype(images.dtype)).astype(jnp.float32)
        chex.assert_shape(logits, (images.shape[0], None))
        return logits

    def restart(keys: Key) -> AttackResult:
        moved = _climb(
            plan, lambda x: jnp.sum(objective(classify(x))), keys, wide, epsilon, step_size
        )
        # Exactly the image where nothing is allowed, also where it lay a rounding outside the box.
        moved = jnp.where(_column(epsilon) > 0, moved, wide).astype(images.dtype)
        logits = classify(moved)
        predictions = jnp.argmax(logits, axis=-1)
        fooled = predictions != labels if targets is None else predictions == targets
        return AttackResult(moved, fooled, objective(logits))

    if plan.num_restarts == 1:
        return jax.lax.stop_gradient(restart(prng.per_draw(keys, 0)))

    def keep_better(number: Array, best: AttackResult) -> AttackResult:
        new = restart(prng.per_draw(keys, number))
        higher = (new.fooled == best.fooled) & (new.loss > best.loss)
        better = (number == 0) | (new.fooled & ~best.fooled) | higher
        return AttackResult(*(_select(better, n, b) for n, b in zip(new, best, strict=True)))

    none = jnp.zeros(images.shape[:1])
    start = AttackResult(images, none.astype(bool), none)
    return jax.lax.stop_gradient(jax.lax.fori_loop(0, plan.num_restarts, keep_better, start))


_run_weights = jax.jit(run, static_argnums=0)
_run_function = jax.jit(run, static_argnums=(0, 1))


def _climb(
    plan: Plan,
    loss_fn: Callable[[Array], Array],
    keys: Key,
    images: Array,
    epsilon: Array,
    step_size: Array,
) -> Array:
    """Returns the images after `num_steps` of `x <- box(ball(x + step_size * steepest))`."""
    # The sum, not the mean: an example's gradient does not depend on the batch it is in.
    gradient_fn = jax.grad(loss_fn)

    def constrain(moved: Array) -> Array:
        if plan.ball:
            moved = images + norms.project(moved - images, epsilon, plan.norm)
        return jnp.clip(moved, 0.0, 1.0) if plan.box else moved

    def step(_: Array | int, current: Array) -> Array:
        direction = norms.steepest(gradient_fn(current), plan.norm)
        return constrain(current + _column(step_size) * direction)

    start = images
    if plan.random_start:
        start = constrain(images + norms.sample(keys, images.shape[1:], epsilon, plan.norm))
    if plan.num_steps == 1:
        return step(0, start)
    return jax.lax.fori_loop(0, plan.num_steps, step, start)


def _objective(plan: Plan, labels: Array, targets: Array | None) -> Callable[[Array], Array]:
    """Returns logits -> (B,) what the attack climbs."""
    classes = labels if targets is None else targets
    direction = plan.direction or ("ascent" if targets is None else "descent")
    sign = 1.0 if direction == "ascent" else -1.0
    return lambda logits: sign * plan.loss(logits, classes)


def _check_batch(logits_fn: LogitsFn, images: Array, labels: Array, targets: Array | None) -> None:
    """Raises a ValueError for what is wrong with a batch, as far as it is known."""
    check_images(images)
    if images.dtype == jnp.uint8:
        raise ValueError("images has dtype uint8; an attack needs floating images: images / 255")
    num_examples = images.shape[0]
    if checks.is_tracing() or checks.is_traced(logits_fn, images):
        num_classes = jnp.iinfo(jnp.int32).max
    else:
        num_classes = logits_shape(logits_fn, images)[-1]
    check_labels(labels, num_examples=num_examples, num_classes=num_classes)
    if targets is not None:
        check_labels(targets, num_examples=num_examples, num_classes=num_classes, field="targets")


def _per_example(field: str, value: Array | float, attack: GradientAttack, images: Array) -> Array:
    """Returns a size as (B,) float32, checked."""
    check_size(field, value, attack.plan.norm)
    shape = jnp.shape(value)
    if shape not in ((), images.shape[:1]):
        raise ValueError(
            f"{field} has shape {shape}; allowed: () or ({images.shape[0]},), one per image"
        )
    return jnp.broadcast_to(jnp.asarray(value, jnp.float32), images.shape[:1])


def _column(values: Array) -> Array:
    """Returns (B,) as (B, 1, 1, 1)."""
    return values[:, None, None, None]


def _select(condition: Array, chosen: Array, other: Array) -> Array:
    """Returns `where(condition, chosen, other)` with a (B,) condition."""
    return jnp.where(condition.reshape(condition.shape + (1,) * (chosen.ndim - 1)), chosen, other)
