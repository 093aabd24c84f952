"""The form all attacks have: made once from keywords, then called on batches.

An attack is a plan, which says how it searches and what its compiled program depends on, and the
sizes, which are arguments of that program. Checking the input, keys, compilation and judging what
was found are the same for all of them and stand here.

What was found is judged on the very images that are returned, by the program that classifies
images everywhere (`classifier.answer`), not by that of the search: two programs of one model differ
in the last bits of its logits, and a smallest perturbation lies on the boundary. Inside a person's
`jit` it is the model as it is, and no operation of the search is fused into it.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import prng
from rbjax.attacks.norms import NORMS, check_size
from rbjax.captures import Compiled, static_first
from rbjax.classifier import Classifier, Model, Objective, answer, as_classifier, predicted
from rbjax.errors import nearest
from rbjax.inputs import (
    ANY_NUMBER,
    check_array,
    check_images,
    check_labels,
    is_known,
    is_tracing,
)
from rbjax.typing import Array, AttackResult, Key


@dataclasses.dataclass(frozen=True)
class Threat:
    """The set an attack's images lie in."""

    norm: str
    """`"linf"`, `"l2"`, `"l1"` or `"l0"`, the number of values that change."""
    epsilon: float | None
    """Radius of the ball around the image; None where there is no ball."""
    box: bool
    """Whether the images stay in [0, 1]."""


class Task(NamedTuple):
    """The examples of a call."""

    keys: Key
    """(B,) keys."""
    images: Array
    """(B, H, W, C) floating."""
    labels: Array
    targets: Array | None


class Problem(NamedTuple):
    """One batch to attack; every size is (B,) float32 and there is a key for every example."""

    classifier: Classifier
    keys: Key
    images: Array
    """(B, H, W, C) float32."""
    labels: Array
    targets: Array | None
    epsilon: Array
    """Infinite where there is no ball."""
    step_size: Array
    objective: Objective
    """What the plan climbs."""
    any_wrong: bool = False
    """Whether targets are only directions, and every wrong class will do."""

    def fooled(self, logits: Array) -> Array:
        """Returns which examples are fooled, see `is_fooled`."""
        return is_fooled(logits, self.labels, None if self.any_wrong else self.targets)


def is_fooled(logits: Array, labels: Array, targets: Array | None) -> Array:
    """Returns which examples are misclassified, or taken for their targets, (B,) bool.

    An answer of no class (`classifier.predicted`) is wrong, and taken for no target.
    """
    predictions = predicted(logits)
    return predictions != labels if targets is None else predictions == targets


class Plan(Protocol):
    """How an attack searches: hashable, all that its compiled program depends on."""

    @property
    def norm(self) -> str:
        """Name of the norm of the ball."""
        ...

    @property
    def ball(self) -> bool:
        """Whether the images stay in the ball of radius epsilon."""
        ...

    @property
    def box(self) -> bool:
        """Whether the images stay in [0, 1]."""
        ...

    @property
    def takes_step_size(self) -> bool:
        """Whether there is a step size to be given."""
        ...

    def objective(
        self,
        classifier: Classifier,
        keys: Key,
        images: Array,
        labels: Array,
        targets: Array | None,
    ) -> Objective:
        """Returns what is climbed."""
        ...

    def search(self, problem: Problem) -> Array:
        """Returns adversarial images, (B, H, W, C) float32."""
        ...


@dataclasses.dataclass(frozen=True)
class CompiledAttack:
    """An attack: `attack(logits_fn, key, images, labels) -> AttackResult`.

    Called on arrays it checks them and runs one compiled program; called inside `jit` it is part
    of the caller's program. With `logits_fn = jax.tree_util.Partial(model.apply, variables)` the
    variables are an argument, and new weights do not compile again. A plain function is traced at
    each call, and compiled only if no function that does the same was: see `as_classifier`.
    Different sizes of `epsilon` and `step_size` never compile again.
    """

    plan: Plan
    epsilon: float | None
    """None: no ball."""
    step_size: float | None = None
    step_ratio: float = 0.25
    """Step size over epsilon where no step size is given."""

    @property
    def threat(self) -> Threat:
        """The set that the images of this attack lie in."""
        epsilon = self.epsilon if self.plan.ball else None
        return Threat(norm=self.plan.norm, epsilon=epsilon, box=self.plan.box)

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
        """Attacks a batch.

        Args:
            logits_fn: images -> logits (B, K); normalisation belongs inside. Or a randomised
                classifier, as `randomized` makes it.
            key: one key, or (B,) keys, one per example.
            images: (B, H, W, C) floating in [0, 1].
            labels: (B,) integers, the true classes.
            targets: (B,) integers, the classes to be taken for; None: any wrong one.
            epsilon: a number or (B,), in pixel units, in place of the attack's own.
            step_size: a number or (B,), likewise.
            **unknown: refused.

        Returns:
            The adversarial images (same shape and dtype, finite), (B,) bool which are fooled, the
            (B,) float32 loss that was climbed and the (B,) predicted classes, at those images.

        Raises:
            ValueError: for wrong shapes, and for wrong values where they are known.
        """
        for name in unknown:
            hint = nearest(name, ("targets", "epsilon", "step_size"))
            raise ValueError(f"an attack is not called with {name!r}{hint}")
        images = jnp.asarray(check_array(images))
        model = as_classifier(logits_fn)
        is_traced = is_tracing(model, key, images, labels, targets, epsilon, step_size)
        check_images(images)
        if images.dtype == jnp.uint8:
            raise ValueError(
                "images has dtype uint8; an attack needs floating images: images / 255"
            )
        if not len(images):
            raise ValueError("images holds no image; there must be at least one")
        num_classes = ANY_NUMBER if is_traced else model.count_classes(images)
        counts: Any = {"num_examples": len(images), "num_classes": num_classes}
        labels = check_labels(labels, **counts)
        targets = None if targets is None else check_labels(targets, **counts, field="targets")
        if step_size is not None and not self.plan.takes_step_size:
            raise ValueError(f"step_size is {step_size}; this attack chooses its steps itself")
        norm, shape = self.plan.norm, images.shape[:1]
        radius = _per_example("epsilon", self.epsilon if epsilon is None else epsilon, norm, shape)
        step = self.step_size if step_size is None else step_size
        if step is None:
            step = self.step_ratio * radius if self.plan.takes_step_size else 0.0
        step = _per_example("step_size", step, norm, shape)
        is_given = step_size is not None and is_known((step, radius))
        if is_given and np.any((np.asarray(step) == 0) & (np.asarray(radius) > 0)):
            raise ValueError("step_size is 0; it must be above 0: nothing would move")
        keys = prng.broadcast(key, images.shape[0])
        task = Task(keys, images, labels, targets)
        return (run if is_traced else run_compiled)(self.plan, model, task, radius, step)


def run(
    plan: Plan, model: Classifier, task: Task, epsilon: Array, step_size: Array
) -> AttackResult:
    """Runs a plan on arrays: pure and jit-able, every size (B,) float32."""
    return judge(plan, model, task, _search(plan, model, task, epsilon, step_size))


def run_compiled(
    plan: Plan, model: Classifier, task: Task, epsilon: Array, step_size: Array
) -> AttackResult:
    """Runs a plan on arrays, as `run`: a program that searches, and then those that judge."""
    return judge_compiled(
        plan, model, task, _compiled_search(plan, model, task, epsilon, step_size)
    )


def _search(plan: Plan, model: Classifier, task: Task, epsilon: Array, step_size: Array) -> Array:
    """Returns what a plan finds; the image itself where nothing is allowed, or it is not finite."""
    # Nothing of an attack is differentiated by its caller (adversarial training).
    images = jax.lax.stop_gradient(task.images)
    asked, wide = model.asked_about(images), images.astype(jnp.float32)
    labels, targets = _checked(task, asked.num_classes)
    objective = plan.objective(asked, task.keys, wide, labels, targets)
    problem = Problem(asked, task.keys, wide, labels, targets, epsilon, step_size, objective)
    moved = plan.search(problem)
    is_finite = jnp.all(jnp.isfinite(moved), axis=(1, 2, 3))
    # Exactly the image, also where it lay a rounding outside the box.
    return _rounded(plan.norm, select((epsilon > 0) & is_finite, moved, wide), images, epsilon)


def _rounded(norm: str, moved: Array, images: Array, epsilon: Array) -> Array:
    """Returns moved images in the images' dtype; rounding does not take them out of their balls."""
    nearest = moved.astype(images.dtype)
    if images.dtype.itemsize >= moved.dtype.itemsize:
        return nearest
    wide = images.astype(moved.dtype)
    is_farther = jnp.abs(nearest - wide) > jnp.abs(moved - wide)
    towards = jnp.where(is_farther, jnp.nextafter(nearest, images), nearest)
    sizes = jax.vmap(NORMS[norm].size)(nearest.astype(moved.dtype) - wide)
    return select(sizes > epsilon, towards, nearest)


def judge(plan: Plan, model: Classifier, task: Task, moved: Array) -> AttackResult:
    """Returns what `moved`, found by a plan, does to a model: pure and jit-able."""
    images, moved = jax.lax.stop_gradient((task.images, jax.lax.optimization_barrier(moved)))
    frozen = dataclasses.replace(model, fn=jax.lax.stop_gradient(model.fn))
    logits = frozen.logits(prng.per_draw(task.keys, _VERDICT), moved)
    parts = _judged(plan, frozen, task._replace(images=images), logits)
    return jax.lax.stop_gradient(AttackResult(moved, *parts, logits=logits))


def judge_compiled(plan: Plan, model: Classifier, task: Task, moved: Array) -> AttackResult:
    """Returns what images that were found do to a model, as `judge`, by the program of all."""
    logits = answer(model, verdict_keys(task.keys), moved)
    return AttackResult(moved, *_compiled_judged(plan, model, task, logits), logits=logits)


def _judged(plan: Plan, model: Classifier, task: Task, logits: Array) -> tuple[Array, Array, Array]:
    """Returns what logits say: who is fooled, the loss and the classes."""
    asked, wide = model.asked_about(task.images), task.images.astype(jnp.float32)
    labels, targets = _checked(task, asked.num_classes)
    objective = plan.objective(asked, task.keys, wide, labels, targets)
    return is_fooled(logits, labels, targets), objective(logits), predicted(logits)


def _checked(task: Task, num_classes: int) -> tuple[Array, Array | None]:
    """Returns class numbers; in the caller's program they may be any, see `check_labels`."""
    counts: Any = {"num_examples": len(task.labels), "num_classes": num_classes}
    targets = task.targets
    aimed = None if targets is None else check_labels(targets, **counts, field="targets")
    return check_labels(task.labels, **counts), aimed


_jit = functools.partial(jax.jit, static_argnums=0)
_compiled_search = Compiled(static_first(_search, _jit))
_compiled_judged = Compiled(static_first(_judged, _jit))

_VERDICT, _CLEAN = 2**31 - 1, 2**31 - 2
"""Draws that no search makes: they are numbered from 0."""


verdict_keys = jax.jit(lambda keys: prng.per_draw(keys, _VERDICT))
"""(B,) keys -> those of the pass that judges."""


def clean_keys(keys: Key) -> Key:
    """Returns the keys for the logits of the images as they are."""
    return prng.per_draw(keys, _CLEAN)


def column(values: Array) -> Array:
    """Returns (B,) as (B, 1, 1, 1)."""
    return values[:, None, None, None]


def select[T](condition: Array, chosen: T, other: T) -> T:
    """Returns `where(condition, chosen, other)` of two pytrees, with a (B,) condition."""

    def pick(a: Array, b: Array) -> Array:
        return jnp.where(condition.reshape(condition.shape + (1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(pick, chosen, other)


def _per_example(
    field: str, value: Array | float | None, norm: str, examples: tuple[int, ...]
) -> Array:
    """Returns a size as (B,) float32, checked; None is infinite."""
    if value is None:
        return jnp.full(examples, jnp.inf, jnp.float32)
    check_size(field, value, norm)
    shape = jnp.shape(value)
    if shape not in ((), examples):
        raise ValueError(f"{field} has shape {shape}; allowed: () or {examples}, one per image")
    return jnp.broadcast_to(jnp.asarray(value, jnp.float32), examples)
