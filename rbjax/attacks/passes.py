"""AutoAttack's passes: which ones its versions make, and how one goes over a dataset."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import prng
from rbjax.attacks import attack
from rbjax.attacks.apgd import make_plan as make_apgd
from rbjax.attacks.attack import Plan, Problem
from rbjax.attacks.counting import Passes, of_plan
from rbjax.attacks.fab import FABPlan
from rbjax.attacks.outcome import Attacked, AutoAttackResult, Setting, Verdict
from rbjax.attacks.search import AimedPlan, Found, ranked_targets
from rbjax.attacks.square import SquarePlan, advance, init
from rbjax.blocks import Block, Blocks, cut, map_blocks, sum_over_processes
from rbjax.captures import Compiled
from rbjax.classifier import Classifier, answer, keys_of
from rbjax.inputs import to_float
from rbjax.typing import Array, Key
from rbjax.verdicts import Verdicts, verdicts

NUM_STEPS, NUM_QUERIES, MOST_TARGETS = 100, 5000, 9

STRETCHES = (50, 200, 500, 1000, 2000, 3000, 4000)
"""Queries after which Square's batches are put together anew."""
_MOST_SIZES, _ROWS = 8, 8
"""The smallest block is an eighth of the full one: each size is compiled for each attack."""
_SQUARE_BLOCKS = 8
"""Blocks whose images Square's queries work on together, as float32."""

VERSIONS: dict[str, tuple[str, ...]] = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
    "rand": ("apgd-ce", "apgd-dlr"),
}
"""The attacks of each version, in their order."""

_RESTARTS = {"standard": 1, "plus": 5, "rand": 1}
"""Of the attacks without targets, but for Square, which is run once."""
_L1_RESTARTS, _L1_TARGETS = 5, 5
"""Of APGD-CE, and of APGD-T, in the standard version in l1."""


class Pass(NamedTuple):
    """One compiled search over what is left."""

    attack: str
    plan: Plan
    rank: int | None = None
    """Which of the wrong classes is aimed at, by clean logit; None: no target."""


def passes(version: str, norm: str, num_classes: int) -> list[Pass]:
    """Returns what is run, in order.

    Args:
        version: a name in `VERSIONS`.
        norm: `"linf"`, `"l2"` or `"l1"`.
        num_classes: K, at least 2; with fewer than 10 there are K - 1 targets.
    """
    in_l1 = norm == "l1" and version == "standard"
    restarts, targets = _L1_RESTARTS if in_l1 else _RESTARTS[version], num_targets(version, norm)
    ratio = "dlr" if num_classes > 2 else "margin"

    def fab(num_restarts: int) -> FABPlan:
        return FABPlan(norm, True, NUM_STEPS, num_restarts, alpha_max=0.1, eta=1.05, beta=0.9)

    plans: dict[str, Plan] = {
        "apgd-ce": make_apgd(norm, NUM_STEPS, restarts, "cross_entropy"),
        "apgd-dlr": make_apgd(norm, NUM_STEPS, restarts, ratio),
        "apgd-t": AimedPlan(make_apgd(norm, NUM_STEPS, 1, "dlr")),
        "fab": fab(restarts),
        "fab-t": AimedPlan(fab(1)),
        "square": SquarePlan(norm, NUM_QUERIES, 1, 0.8, rescale_schedule=False),
    }
    run = []
    for name in VERSIONS[version]:
        aimed = isinstance(plans[name], AimedPlan)
        ranks = range(min(targets[name], num_classes - 1)) if aimed else [None]
        run += [Pass(name, plans[name], rank) for rank in ranks]
    return run


def most(version: str, norm: str, image_shape: tuple[int, ...], num_classes: int) -> Passes:
    """Returns the passes of an image that nothing fools, which are the most that any has.

    Args:
        version: as for `passes`, as are norm and number of classes.
        norm: of the ball.
        image_shape: (H, W, C).
        num_classes: K.
    """
    total = Passes(1, 0, at_most=True)  # as it is
    for part in passes(version, norm, num_classes):
        each = of_plan(part.plan, tuple(image_shape), num_classes, part.rank is not None)
        assert each is not None  # none of their loops ends early
        total = total.plus(each)
    return total


def num_targets(version: str, norm: str) -> dict[str, int]:
    """Returns how many targets APGD-T and FAB-T have, where there are as many wrong classes."""
    in_l1 = norm == "l1" and version == "standard"
    return {"apgd-t": _L1_TARGETS if in_l1 else MOST_TARGETS, "fab-t": MOST_TARGETS}


def notes(version: str, norm: str, num_classes: int) -> tuple[str, ...]:
    """Returns what is done otherwise where there are few classes, a sentence each."""
    said, run = [], VERSIONS[version]
    fewer: dict[int, list[str]] = {}
    for name, most in num_targets(version, norm).items():
        if name in run and num_classes - 1 < most:
            fewer.setdefault(most, []).append(name)
    for most, names in fewer.items():
        said.append(
            f"{num_classes} classes: {' and '.join(names)} aim{'s' * (len(names) == 1)} at "
            f"{num_classes - 1} targets, not {most}"
        )
    if "apgd-t" in run and num_classes < 4:
        said.append(
            f"{num_classes} classes: apgd-t climbs z_t - z_y itself, for want of a fourth logit to "
            "divide by"
        )
    if "apgd-dlr" in run and num_classes < 3:
        said.append("2 classes: apgd-dlr climbs the margin, for want of a third logit")
    return tuple(said)


def halves(size: int) -> list[int]:
    """Returns about the half, the quarter and the eighth of a size, rounded up to multiples of 8.

    They are the same for any number of devices up to 8, which need not fill them up then.
    """
    sizes, least = [], max(size // _MOST_SIZES, _ROWS)
    while (half := -(-size // (2 * _ROWS)) * _ROWS) < size and half >= least:
        size = half
        sizes.append(size)
    return sizes


class Run:
    """Where a run stands: what is still robust, and the adversarial images so far."""

    def __init__(self, model: Any, blocks: Blocks, epsilon: float, keep: bool) -> None:
        self._model, self._blocks, self._epsilon, self._keep = model, blocks, epsilon, keep
        self._smaller = halves(blocks.size)
        self.examples = blocks.examples
        self.adversarial: list[tuple[np.ndarray, np.ndarray]] = []
        """Rows and images of each block of this process."""
        self._clean_logits = self._all_logits()
        self.clean = verdicts(self._clean_logits)
        self.predictions, self.probability = (x.copy() for x in self.clean)
        self.accuracy_after = {"clean": float(self.robust.mean())}
        self.num_attacked: dict[str, int] = {}
        self.made = Passes(len(self.predictions), 0).times(model.num_samples)
        self.notes: tuple[str, ...] = ()

    @property
    def robust(self) -> np.ndarray:
        """(N,) bool, what nothing has fooled yet."""
        return self.predictions == self.examples.labels

    def verdict(self) -> Verdict:
        """Returns what is known of every image."""
        return Verdict(
            predictions=self.predictions,
            probability=self.probability,
            robust=self.robust,
            clean_predictions=self.clean.predictions,
            clean_probability=self.clean.probability,
            accuracy_after=self.accuracy_after,
            num_attacked=self.num_attacked,
            forwards=self.made.forwards,
            backwards=self.made.backwards,
            notes=self.notes,
        )

    def attacked(self) -> Attacked:
        """Returns what is known of every image, and the images."""
        images = self.result("", Setting(None, None, "")).images
        assert images is not None  # they were kept
        return Attacked(**vars(self.verdict()), images=images)

    def result(self, name: str, setting: Setting) -> AutoAttackResult:
        """Returns that with the adversarial images of all processes, if they were kept.

        Args:
            name: of the function that returns it.
            setting: of the attack.
        """
        was_right = self.clean.predictions == self.examples.labels
        rows = np.flatnonzero(was_right & ~self.robust)
        return AutoAttackResult(
            **vars(self.verdict()),
            name=name,
            setting=setting,
            labels=self.examples.labels,
            num_classes=self.examples.num_classes,
            adversarial_rows=rows,
            adversarial=self._gathered(rows) if self._keep else None,
            originals=self.examples.images if self._keep else None,
        )

    def _gathered(self, rows: np.ndarray) -> np.ndarray:
        """Returns the adversarial images of some rows, which all processes found together."""
        adversarial = np.zeros((len(rows), *self.examples.images.shape[1:]), np.float32)
        for own, images in self.adversarial:
            adversarial[np.searchsorted(rows, own)] = images
        return sum_over_processes(adversarial)

    def apply(self, part: Pass, key: Key, name: str) -> None:
        """Runs one pass on what is left."""
        left = np.flatnonzero(self.robust)
        self.num_attacked.setdefault(part.attack, len(left))
        size, name = self._blocks.size, f"{name}-{part.rank or 0}"
        options: dict[str, Any] = {
            "journal": self._blocks.journal,
            "fields": ("predictions", "probability", "forwards", "backwards"),
            "finished": self._collect,
        }
        if isinstance(part.plan, SquarePlan):
            blocks = cut(left, _SQUARE_BLOCKS * size, name=name)
            function = functools.partial(self._query, part.plan, key)
        else:
            blocks = self._blocks.cut(left, name=name, smaller=self._smaller)
            function, options["read"] = self._attacker(part, key), self._blocks.read
        if blocks:
            found = map_blocks(function, blocks, **options)
            self._take(left, found)
        self.accuracy_after[part.attack] = float(self.robust.mean())

    def _all_logits(self) -> np.ndarray:
        """Returns the logits of the images as they are, (N, K)."""
        key = prng.named(prng.key(0), "clean")

        def ask(block: Block, images: Array) -> dict[str, Array]:
            keys, _ = self._place(key, block.padded)
            return {"logits": answer(self._model, keys, images)}

        rows = np.arange(len(self.examples.labels))
        blocks = self._blocks.cut(rows, smaller=self._smaller)
        return map_blocks(ask, blocks, read=self._blocks.read)["logits"]

    def _attacker(self, part: Pass, key: Key) -> Callable[[Block, Array], Any]:
        """Returns what runs a pass on one block."""
        targets = None
        if part.rank is not None:
            key = prng.fold_in(key, part.rank)
            logits, labels = jnp.asarray(self._clean_logits), jnp.asarray(self.examples.labels)
            targets = np.asarray(ranked_targets(logits, labels, part.rank + 1))[:, part.rank]
        shape, num_classes = self.examples.images.shape[1:], self.examples.num_classes
        each = of_plan(part.plan, shape, num_classes, targets is not None)
        assert each is not None  # none of their loops ends early
        made = {"forwards": each.forwards, "backwards": each.backwards}

        def run(block: Block, images: Array) -> dict[str, np.ndarray]:
            keys, labels = self._place(key, block.padded)
            aimed = None if targets is None else self._blocks.placement.split(targets[block.padded])
            task, epsilon = attack.Task(keys, images, labels, aimed), self._epsilons(block.size)
            result = attack.run_compiled(part.plan, self._model, task, epsilon, 0 * epsilon)
            return self._results(block, result.images, verdicts(result.logits), **made)

        return run

    def _query(self, plan: SquarePlan, key: Key, block: Block, __: None) -> dict[str, np.ndarray]:
        """Runs Square's queries in stretches and drops what is fooled between two of them."""
        split, labels = self._blocks.placement.split, self.examples.labels[block.rows]
        images = np.array(to_float(self.examples.read(block.rows)))
        current, predictions = images.copy(), labels.copy()
        probability = self.probability[block.rows]
        merit = np.full(len(labels), -np.inf, np.float32)
        num_asked = np.zeros(len(labels), np.int32)
        stretches = (None, *STRETCHES), (*STRETCHES, plan.num_queries)
        for first, last in zip(*stretches, strict=True):
            pending = []
            left = np.flatnonzero(predictions == labels)
            for part in self._blocks.cut(left, smaller=self._smaller):
                places = part.padded
                keys, own = self._place(key, block.rows[places])
                batch = (keys, split(images[places]), own)
                state = None if first is None else split((current[places], merit[places]))
                start, epsilon = first or 0, self._epsilons(len(places))
                square = _square_queries(plan, self._model, *batch, epsilon, state, start, last)
                pending.append((part.rows, square))
            num_asked[left] += last - (first or -1)  # the start is asked about, too
            fooled = [left[:0]]
            for places, square in pending:
                current[places] = np.asarray(square.images)[: len(places)]
                merit[places] = np.asarray(square.merit)[: len(places)]
                fooled.append(places[np.asarray(square.fooled)[: len(places)]])
            # What counts is a forward pass of its own.
            judged = self._blocks.cut(np.concatenate(fooled), smaller=self._smaller)
            for part in judged:
                keys, _ = self._place(prng.fold_in(key, 1), block.rows[part.padded])
                said = verdicts(answer(self._model, keys, split(current[part.padded])))
                predictions[part.rows] = said.predictions[: len(part.rows)]
                probability[part.rows] = said.probability[: len(part.rows)]
                num_asked[part.rows] += 1
        said = Verdicts(predictions, probability)
        return self._results(block, current, said, forwards=num_asked, backwards=0)

    def _take(self, rows: np.ndarray, found: Mapping[str, np.ndarray]) -> None:
        """Takes in what some images are classified as, and the passes made, each for one image."""
        self.predictions[rows] = found["predictions"]
        fooled = ~self.robust[rows]  # where nothing fools, the image is as it was
        self.probability[rows[fooled]] = found["probability"][fooled]
        made = Passes(int(found["forwards"].sum()), int(found["backwards"].sum()))
        self.made = self.made.plus(made.times(self._model.num_samples))

    def _results(
        self,
        block: Block,
        images: Any,
        said: Verdicts,
        *,
        forwards: int | np.ndarray,
        backwards: int | np.ndarray,
    ) -> dict[str, np.ndarray]:
        """Returns a block's classes, its passes and, if they are wanted, the images that fool."""
        count = len(block.rows)
        predictions = said.predictions[:count].astype(np.int32)
        results = {"predictions": predictions, "probability": said.probability[:count]}
        for name, each in (("forwards", forwards), ("backwards", backwards)):
            results[name] = np.broadcast_to(np.asarray(each, np.int32), predictions.shape)
        if not self._keep:
            return results
        fooled = predictions != self.examples.labels[block.rows]
        return {**results, "images": np.asarray(images)[:count][fooled]}

    def _collect(self, block: Block, results: Mapping[str, np.ndarray]) -> None:
        if self._keep:
            fooled = results["predictions"] != self.examples.labels[block.rows]
            self.adversarial.append((block.rows[fooled], results["images"]))

    def _place(self, key: Key, rows: np.ndarray) -> tuple[Key, Array]:
        """Returns keys and labels of some rows on the devices."""
        ids, labels = self.examples.example_ids[rows], self.examples.labels[rows]
        ids, labels = self._blocks.placement.split((ids, labels))
        return keys_of(key, ids), labels

    def _epsilons(self, count: int) -> Array:
        return self._blocks.placement.split(np.full(count, self._epsilon, np.float32))


def _square(
    plan: SquarePlan,
    model: Classifier,
    keys: Key,
    images: Array,
    labels: Array,
    epsilon: Array,
    state: tuple[Array, Array] | None,
    first: int,
    last: int,
) -> Found:
    """Returns where Square stands after some queries, from a state or from the start."""
    asked, unused = model.asked_about(images), jnp.zeros_like(epsilon)
    objective = plan.objective(asked, keys, images, labels, None)
    problem = Problem(asked, keys, images, labels, None, epsilon, unused, objective)
    if state is None:
        stand = init(plan, problem)
    else:
        current, merit = state
        stand = Found(current, jnp.zeros(merit.shape, bool), merit)
    return advance(plan, problem, stand, first, last)


_square_queries = Compiled(jax.jit(_square, static_argnums=0))
