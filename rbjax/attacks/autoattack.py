"""AutoAttack: four attacks in a row, each on the images that are still robust.

A driver: it loops on the host over passes (one attack, or one target of it) and over batches of a
few fixed sizes, so that the images that are left fill them and little is compiled.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import journal as journals
from rbjax import prng
from rbjax.attacks import attack, versions
from rbjax.attacks.attack import Found, Problem
from rbjax.attacks.classifier import Model, Randomized, as_model, classifier
from rbjax.attacks.search import ranked_targets
from rbjax.attacks.square import SquarePlan, advance, init
from rbjax.attacks.versions import Pass
from rbjax.batches import Batches
from rbjax.inputs import check_dataset, to_float
from rbjax.tables import lookup
from rbjax.typing import Array, Key


class AutoAttackResult(NamedTuple):
    """What AutoAttack returns."""

    images: np.ndarray
    """(N, H, W, C) float32, an adversarial image where one was found, else the image itself."""
    predictions: np.ndarray
    """(N,) int32, the class of each of `images`."""
    robust: np.ndarray
    """(N,) bool: classified right as it is, and after every attack."""
    clean_predictions: np.ndarray
    """(N,) int32."""
    accuracy_after: dict[str, float]
    """Share of all images that is still robust: "clean", then after each attack, in order."""
    num_attacked: dict[str, int]
    """Images that each attack was run on."""
    notes: tuple[str, ...]
    """What was done otherwise than in the version asked for, and why."""


class Progress(NamedTuple):
    """What AutoAttack tells while it runs."""

    attack: str
    done: int
    """Passes finished, of all attacks."""
    of: int
    num_robust: int


@dataclasses.dataclass(frozen=True)
class AutoAttack:
    """AutoAttack as an entry of `run_attacks`: it attacks a whole dataset itself."""

    epsilon: float
    norm: str
    version: str

    @property
    def threat(self) -> attack.Threat:
        """The set that the images of this attack lie in."""
        return attack.Threat(self.norm, self.epsilon, box=True)

    def run(
        self,
        logits_fn: Model,
        key: Key,
        images: Any,
        labels: Any,
        *,
        journal: str | Path | None = None,
        **options: Any,
    ) -> AutoAttackResult:
        """Returns what `run_autoattack` returns; it takes the same options."""
        fields = dataclasses.asdict(self)
        return run_autoattack(logits_fn, key, images, labels, journal=journal, **fields, **options)


def autoattack(*, epsilon: float, norm: str = "linf", version: str = "standard") -> AutoAttack:
    """Returns AutoAttack, to be run on a whole dataset.

    Args:
        epsilon: radius of the ball, in pixel units; at most 1 in l-inf.
        norm: `"linf"` or `"l2"`.
        version: a name in `VERSIONS`.

    Returns:
        An attack whose `run` is `run_autoattack`.

    Raises:
        ValueError: for an option out of range.
    """
    _check_options(epsilon, norm, version)
    return AutoAttack(float(epsilon), norm, version)


def run_autoattack(
    logits_fn: Model,
    key: Key,
    images: np.ndarray | Array,
    labels: np.ndarray | Array,
    *,
    epsilon: float,
    norm: str = "linf",
    version: str = "standard",
    example_ids: np.ndarray | Array | None = None,
    batch_size: int | None = None,
    devices: Sequence[Any] | None = None,
    journal: str | Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> AutoAttackResult:
    """Runs AutoAttack on a dataset, each attack on the images that are still robust.

    "standard" is the version of the official code since August 2020, with its parameters: APGD-CE
    (100 steps), APGD-T and FAB-T (100 steps for each of 9 targets) and Square (5,000 queries).
    "plus" adds restarts, APGD-DLR and FAB; "rand" is for randomised classifiers, as
    `attacks.randomized` makes them: APGD-CE and APGD-DLR on averaged gradients.

    Where the attacks follow the algorithms rather than the official code, `apgd`, `fab` and
    `square` say so. A result does not depend on the batch size, the number of devices or the order
    of the images, up to what float32 gradients move with the shape of a batch.

    Args:
        logits_fn: images -> logits (B, K), or a randomised classifier. With
            `Partial(model.apply, variables)` new weights do not compile again.
        key: one key.
        images: (N, H, W, C) uint8, or floating in [0, 1]; may stay on the host.
        labels: (N,) integers, the true classes.
        epsilon: radius of the ball, in pixel units; at most 1 in l-inf.
        norm: `"linf"` or `"l2"`.
        version: a name in `VERSIONS`.
        example_ids: (N,) integers; None: the row numbers.
        batch_size: images attacked at once, over all devices; None: 128 on CPU, 1,024 elsewhere.
        devices: the `jax.Device`s to use; None: all local ones.
        journal: a folder in which finished passes are kept: one attack, or one target of it. The
            same call with the same folder goes on from there; another call is refused.
        progress: called after each pass.

    Returns:
        Adversarial images, which images are robust, and the accuracy after each attack.

    Raises:
        ValueError: for wrong shapes or values, for "rand" with a classifier that is not
            randomised, and for another call's journal.

    Source:
        Croce and Hein 2020, arXiv:2003.01690, section 5.
    """
    _check_options(epsilon, norm, version)
    images, labels = np.asarray(images), np.asarray(labels)
    ids = np.arange(len(images)) if example_ids is None else np.asarray(example_ids)
    count = functools.partial(attack.count_classes, logits_fn)
    num_classes = check_dataset(images, labels, count_classes=count, example_ids=ids)
    if version == "rand" and not isinstance(logits_fn, Randomized):
        raise ValueError(
            "version 'rand' is for randomised classifiers, and logits_fn is a plain function; wrap "
            "one in attacks.randomized, or take version 'standard'"
        )
    batches = Batches(len(images), batch_size, devices)
    book = journals.Journal(
        journals.claim(
            journal,
            lambda: {
                "key": np.asarray(jax.random.key_data(key)),
                **journals.about_data(images, labels, ids),
                "attack": [epsilon, norm, version],
                "batch_size": batches.size,
                "model": journals.identity(logits_fn, to_float(journals.sample(images))),
            },
        )
    )
    model = batches.replicate(as_model(logits_fn))
    run = _Run(model, images, labels, ids, epsilon, batches)
    passes = versions.passes(version, norm, num_classes)
    for number, part in enumerate(passes):
        name = f"{number:02d}-{part.attack}-block-{part.rank or 0}"
        found = book.read_block(name)
        if found is None:
            book.write_block(name, **run.apply(part, prng.named(key, part.attack)))
        else:
            run.recall(part, **found)
        if progress is not None:
            progress(Progress(part.attack, number + 1, len(passes), int(run.robust.sum())))
    return run.result(versions.notes(version, num_classes))


class _Run:
    """Where a run stands: what is still robust, and the adversarial images found."""

    def __init__(
        self,
        model: Any,
        images: np.ndarray,
        labels: np.ndarray,
        ids: np.ndarray,
        epsilon: float,
        batches: Batches,
    ) -> None:
        self._model, self._epsilon, self._batches = model, epsilon, batches
        self._images, self._labels, self._ids = images, labels.astype(np.int32), ids
        self.adversarial = batches.to_float(images)
        self._clean_logits = self._all_logits()
        self.clean_predictions = self._clean_logits.argmax(axis=1).astype(np.int32)
        self.predictions = self.clean_predictions.copy()
        self.robust = self.predictions == self._labels
        self.accuracy_after = {"clean": float(self.robust.mean())}
        self.num_attacked: dict[str, int] = {}

    def apply(self, part: Pass, key: Key) -> dict[str, np.ndarray]:
        """Runs one pass on what is left, and returns what it fooled."""
        left = np.flatnonzero(self.robust)
        self.num_attacked.setdefault(part.attack, len(left))
        if isinstance(part.plan, SquarePlan):
            self._apply_square(part.plan, key, left)
        else:
            self._apply_plan(part, key, left)
        self.accuracy_after[part.attack] = float(self.robust.mean())
        rows = left[~self.robust[left]]
        return {
            "rows": rows,
            "images": self.adversarial[rows],
            "predictions": self.predictions[rows],
        }

    def recall(
        self, part: Pass, rows: np.ndarray, images: np.ndarray, predictions: np.ndarray
    ) -> None:
        """Takes over what a pass fooled, without running it."""
        self.num_attacked.setdefault(part.attack, int(self.robust.sum()))
        self._take(rows, images, predictions)
        self.accuracy_after[part.attack] = float(self.robust.mean())

    def result(self, notes: tuple[str, ...]) -> AutoAttackResult:
        """Returns what was found."""
        return AutoAttackResult(
            images=self.adversarial,
            predictions=self.predictions,
            robust=self.robust,
            clean_predictions=self.clean_predictions,
            accuracy_after=self.accuracy_after,
            num_attacked=self.num_attacked,
            notes=notes,
        )

    def _all_logits(self) -> np.ndarray:
        """Returns the logits of the images as they are, (N, K)."""
        key, parts = prng.named(jax.random.key(0), "clean"), []
        for rows, count in self._batches.split(np.arange(len(self._labels))):
            keys, images, _ = self._place(rows, key)
            parts.append(np.asarray(_logits(self._model, keys, images))[:count])
        return np.concatenate(parts)

    def _apply_plan(self, part: Pass, key: Key, left: np.ndarray) -> None:
        targets = None
        if part.rank is not None:
            key = jax.random.fold_in(key, part.rank)
            ranked = ranked_targets(
                jnp.asarray(self._clean_logits), jnp.asarray(self._labels), part.rank + 1
            )
            targets = np.asarray(ranked)[:, part.rank]
        last = None  # read one batch late: the device is never waited for
        for rows, count in self._batches.split(left):
            keys, images, labels = self._place(rows, key)
            aimed = None if targets is None else self._batches.place(targets[rows])
            sizes = self._sizes(rows)
            found = _attack(part.plan, self._model, keys, images, labels, aimed, *sizes)
            if last is not None:
                self._take(*last)
            last = (rows[:count], found.images, found.predictions)
        if last is not None:
            self._take(*last)

    def _apply_square(self, plan: SquarePlan, key: Key, left: np.ndarray) -> None:
        """Runs the queries in stretches and drops what is fooled between two of them."""
        current = self.adversarial.copy()
        merit = np.full(len(self._labels), -np.inf, np.float32)
        for first, last in zip(
            (None, *versions.STRETCHES), (*versions.STRETCHES, plan.num_queries), strict=True
        ):
            pending = []
            for rows, count in self._batches.split(left):
                keys, images, labels = self._place(rows, key)
                state = None if first is None else (current[rows], merit[rows])
                epsilon, state = self._sizes(rows)[0], self._batches.place(state)
                batch = (self._model, keys, images, labels, epsilon, state)
                found = _square_queries(plan, *batch, first or 0, last)
                pending.append((rows[:count], found))
            fooled = []
            for rows, found in pending:
                current[rows] = np.asarray(found.images)[: len(rows)]
                merit[rows] = np.asarray(found.merit)[: len(rows)]
                fooled.append(rows[np.asarray(found.fooled)[: len(rows)]])
            self._judge(np.concatenate([*fooled, left[:0]]), current, key)
            left = left[self.robust[left]]

    def _judge(self, candidates: np.ndarray, current: np.ndarray, key: Key) -> None:
        """Takes those of some images that are fooled in a pass of their own."""
        for rows, count in self._batches.split(candidates):
            keys, _, _ = self._place(rows, jax.random.fold_in(key, 1))
            images = self._batches.place(current[rows])
            logits = np.asarray(_logits(self._model, keys, images))[:count]
            self._take(rows[:count], current[rows], logits.argmax(axis=1))

    def _take(self, rows: np.ndarray, images: Any, predictions: Any) -> None:
        """Notes the images among some rows that are fooled."""
        predicted = np.asarray(predictions)[: len(rows)]
        fooled = np.flatnonzero(predicted != self._labels[rows])
        if len(fooled):
            self.adversarial[rows[fooled]] = np.asarray(images)[fooled]
            self.predictions[rows[fooled]] = predicted[fooled]
            self.robust[rows[fooled]] = False

    def _place(self, rows: np.ndarray, key: Key) -> tuple[Key, Array, Array]:
        """Returns keys, images and labels of some rows on the devices."""
        images = self._batches.to_float(self._images[rows])
        ids, images, labels = self._batches.place((self._ids[rows], images, self._labels[rows]))
        return _keys(key, ids), images, labels

    def _sizes(self, rows: np.ndarray) -> tuple[Array, Array]:
        epsilon = np.full(len(rows), self._epsilon, np.float32)
        return self._batches.place((epsilon, np.zeros_like(epsilon)))


_attack = jax.jit(attack.run, static_argnums=0)
_keys = jax.jit(prng.per_example)


@jax.jit
def _logits(model: Any, keys: Key, images: Array) -> Array:
    return classifier(model, images).logits(keys, images)


def _square(
    plan: SquarePlan,
    model: Any,
    keys: Key,
    images: Array,
    labels: Array,
    epsilon: Array,
    state: tuple[Array, Array] | None,
    first: int,
    last: int,
) -> Found:
    """Returns where Square stands after some queries, on from images and margins or from none."""
    asked, unused = classifier(model, images), jnp.zeros_like(epsilon)
    objective = plan.objective(asked, keys, images, labels, None)
    problem = Problem(asked, keys, images, labels, None, epsilon, unused, objective)
    if state is None:
        found = init(plan, problem)
    else:
        current, merit = state
        found = Found(current, jnp.zeros(merit.shape, bool), merit)
    return advance(plan, problem, found, first, last)


_square_queries = jax.jit(_square, static_argnums=0)


def _check_options(epsilon: float, norm: str, version: str) -> None:
    lookup(dict.fromkeys(("linf", "l2")), norm, what="norm")
    attack.check_radius(epsilon, norm)
    lookup(versions.VERSIONS, version, what="version")
