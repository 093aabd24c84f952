"""A3's rounds: what each does, on which images, and along which directions among the logits."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import prng
from rbjax.attacks import attack, norms
from rbjax.attacks.attack import column, is_fooled, select
from rbjax.attacks.passes import Run
from rbjax.attacks.search import (
    Found,
    annealed,
    better,
    merit,
    nothing_found,
    ranked_targets,
)
from rbjax.blocks import Block, Blocks, map_blocks
from rbjax.captures import Compiled
from rbjax.classifier import Classifier, answer
from rbjax.losses import adversarial
from rbjax.typing import Array, Key
from rbjax.verdicts import Verdicts, verdicts

_LEARNT = ("margins", "early", "wrong", "right")
"""What a climb says of each image besides its class: the next rounds depend on it."""


class Round(NamedTuple):
    """What one round does."""

    share: float
    """Of the images that are still robust, those of the largest margins, that are attacked."""
    first_steps: int
    """Along a direction among the logits."""
    num_steps: int
    """Up the margin."""
    repeats: int = 1


BEGINNING = Round(1.0, 0, 8), Round(1.0, 7, 15), Round(1.0, 7, 15)
"""From a random start alone; along random directions; along such as led somewhere."""
USUAL = (
    Round(0.7, 7, 32),
    Round(0.6, 7, 37),
    Round(0.5, 7, 37),
    Round(0.4, 7, 42),
    Round(0.3, 7, 47),
    Round(0.2, 7, 52),
    Round(0.1, 7, 57),
    Round(0.1, 7, 57, 4),
    Round(0.065, 7, 62, 4),
    Round(0.03, 7, 67, 50),
)
MISLED = (
    Round(1.0, 10, 15, 10),
    Round(1.0, 15, 20),
    Round(1.0, 15, 25),
    Round(1.0, 10, 20),
    Round(1.0, 10, 25),
    Round(1.0, 10, 28),
    Round(1.0, 10, 30),
    Round(0.8, 10, 35, 5),
    Round(0.5, 10, 45, 5),
    Round(0.5, 10, 55, 20),
)
"""Where first steps fool many by themselves: the margin's gradient seems to mislead."""
NUM_ROUNDS = len(BEGINNING) + len(USUAL)

_FEWEST = 100
"""Images that a round attacks in any case, if as many are left."""
_FEW_LEFT, _MORE_REPEATS = 0.1, 10
"""Where a smaller share of all images is left each is attacked, in so many more repeats."""
_MANY = 0.05
"""Fooled by first steps, of what was left when there were first steps at last."""


class Directions(NamedTuple):
    """How directions are drawn: weights of the logits, uniform in [-1, 1) but for two."""

    low: float
    """The label's is uniform from here"""
    high: float
    """to here."""
    aimed: float
    """That of the wrong class that is aimed at; 0: it and the label's are as all others."""


ANY = Directions(0.0, 0.0, 0.0)


def directions(
    num_classes: int, *, wrong: float, right: float, is_misled: bool, is_last: bool
) -> Directions:
    """Returns how directions are drawn once some have led somewhere.

    Args:
        num_classes: K; of more than ten the two weights are larger by as much.
        wrong: sum of the weights of the classes that images were taken for, over those fooled
            along random directions.
        right: sum of the weights of their labels.
        is_misled: see `MISLED`.
        is_last: whether it is one of the last rounds.
    """
    if num_classes > 10:
        low, high, aimed = -0.5, 0.1, 0.8
    elif is_last:
        low, high, aimed = (0.0, 0.0, 0.8) if is_misled else (-0.8, 0.1, 0.8)
    elif is_misled:
        low, high, aimed = -0.1, 0.5, 0.8
    else:
        low, high = (-0.1, 0.5) if right > 0 else (-0.5, 0.1)
        aimed = 0.8 if wrong >= 0 else -0.8
    scale = max(1.0, num_classes / 10)
    return Directions(scale * low, scale * high, scale * aimed)


def num_ranks(num_classes: int, *, is_last: bool = False) -> int:
    """Returns how many of the wrong classes are aimed at in turn, those of the largest logits."""
    few = 4 if is_last else 9
    many = 14 if num_classes <= 100 else 20
    return min(few if num_classes <= 10 else many, num_classes - 1)


class Rounds(Run):
    """Where a run stands: `passes.Run`, and what the next round depends on."""

    def __init__(self, model: Any, blocks: Blocks, epsilon: float, norm: str, keep: bool) -> None:
        super().__init__(model, blocks, epsilon, keep)
        logits, labels = jnp.asarray(self._clean_logits), jnp.asarray(self.examples.labels)
        self._norm, self._num_classes = norm, logits.shape[1]
        self._ranked = np.asarray(ranked_targets(logits, labels, num_ranks(self._num_classes)))
        self._margins = np.array(merit(adversarial.margin(logits, labels)))
        """(N,) the largest that was met of each image."""
        self._num_repeats, self._num_early, self._num_then = 0, 0, 0
        self._wrong, self._right = 0.0, 0.0

    def apply_round(self, number: int, key: Key) -> None:
        """Makes one round, with its repeats."""
        name, is_early = f"round {number}", number < len(BEGINNING)
        is_misled = not is_early and self._num_early >= _MANY * self._num_then
        part = (*BEGINNING, *(MISLED if is_misled else USUAL))[number]
        if self.robust.sum() < _FEW_LEFT * len(self.robust):
            part = part._replace(share=1.0, repeats=part.repeats + _MORE_REPEATS)
        is_last = number >= NUM_ROUNDS - (2 if is_misled else 3)
        drawn = ANY
        if number > 1:
            drawn = directions(
                self._num_classes,
                wrong=self._wrong,
                right=self._right,
                is_misled=is_misled,
                is_last=is_last,
            )
        if number == 1:
            self._num_then = int(self.robust.sum())
        self.num_attacked[name] = 0
        for _ in range(part.repeats):
            rows = self._nearest(part.share)
            self.num_attacked[name] += len(rows)
            rank = max(self._num_repeats - 2, 0) % num_ranks(self._num_classes, is_last=is_last)
            if len(rows):
                again = prng.fold_in(key, self._num_repeats)
                found = self._climb(part, drawn, rank, again, rows, f"{self._num_repeats:03d}")
                self._learn(number, rows, found)
            self._num_repeats += 1
        self.accuracy_after[name] = float(self.robust.mean())

    def _nearest(self, share: float) -> np.ndarray:
        """Returns the robust images whose margins were largest, ascending."""
        left = np.flatnonzero(self.robust)
        count = min(max(_FEWEST, int(share * len(left))), len(left))
        order = np.argsort(-self._margins[left], kind="stable")
        return np.sort(left[order[:count]])

    def _climb(
        self, part: Round, drawn: Directions, rank: int, key: Key, rows: np.ndarray, name: str
    ) -> dict[str, np.ndarray]:
        """Runs the attack once on some images."""

        def run(block: Block, images: Array) -> dict[str, np.ndarray]:
            keys, labels = self._place(key, block.padded)
            targets = self._blocks.placement.split(self._ranked[block.padded, rank])
            task = attack.Task(keys, images, labels, None)
            search = _compiled_search(
                self._norm,
                self._model,
                task,
                targets,
                self._epsilons(block.size),
                drawn,
                part.first_steps,
                part.num_steps,
            )
            # What counts is a forward pass of its own.
            said = verdicts(answer(self._model, attack.verdict_keys(keys), search.images))
            made = int(search.num_passes)
            results = self._results(
                block,
                search.images,
                said,
                forwards=made + 2,  # the last look, and the verdict
                backwards=made,
            )
            count = len(block.rows)
            places = np.arange(count)
            weights = np.asarray(search.weights)[:count]
            return {
                **results,
                "margins": np.asarray(search.margins)[:count],
                "early": np.asarray(search.early)[:count],
                "wrong": weights[places, results["predictions"]],
                "right": weights[places, self.examples.labels[block.rows]],
            }

        blocks = self._blocks.cut(rows, name=name, smaller=self._smaller)
        return map_blocks(
            run,
            blocks,
            read=self._blocks.read,
            journal=self._blocks.journal,
            fields=(*Verdicts._fields, *_LEARNT, "forwards", "backwards"),
            finished=self._collect,
        )

    def _learn(self, number: int, rows: np.ndarray, found: Mapping[str, np.ndarray]) -> None:
        """Takes in what a climb has found, and which of the random directions led there."""
        self._take(rows, found)
        self._margins[rows] = np.maximum(self._margins[rows], found["margins"])
        fooled = ~self.robust[rows]
        self._num_early += int(np.sum(found["early"] & fooled))
        if number == 1:
            self._wrong += float(np.sum(found["wrong"][fooled]))
            self._right += float(np.sum(found["right"][fooled]))


class _Climbed(NamedTuple):
    """What one climb found."""

    images: Array
    margins: Array
    """(B,)."""
    early: Array
    """(B,) bool, whether the first steps fooled it."""
    weights: Array
    """(B, K) of the logits: the directions."""
    num_passes: Array
    """() int32, forwards and backwards."""


class _State(NamedTuple):
    number: Array
    images: Array
    best: Found
    early: Array


def _search(
    norm: str,
    model: Classifier,
    task: attack.Task,
    targets: Array,
    epsilon: Array,
    drawn: Directions,
    first_steps: Array,
    num_steps: Array,
) -> _Climbed:
    """Returns the first image that fools, or else the one of the largest margin.

    x_{k+1} = P(x_k + s_k d) from a point uniform in the ball, with d the steepest step of <w, z>
    and s_k = epsilon at first, and then d that of the margin and s_k falling from epsilon to a
    thousandth of it (a tenth in ten steps or fewer) like a cosine.
    """
    origin, keys, labels = task.images.astype(jnp.float32), task.keys, task.labels
    asked, num_all = model.asked_about(task.images), first_steps + num_steps
    weights = _weights(keys, labels, targets, drawn, asked.num_classes)
    last = jnp.where(num_steps <= 10, 0.1, 0.001)

    def climbed(number: Array, logits: Array) -> Array:
        along = jnp.sum(weights * jnp.where(jnp.isfinite(logits), logits, 0.0), axis=1)
        return jnp.where(number < first_steps, along, adversarial.margin(logits, labels))

    def judged(images: Array, logits: Array, best: Found) -> Found:
        margins = merit(adversarial.margin(logits, labels))
        return better(Found(images, is_fooled(logits, labels, None), margins), best)

    def step(state: _State) -> _State:
        number, images = state.number, state.images
        seen = asked.value_and_grad(
            functools.partial(climbed, number), prng.per_draw(keys, number + 3), images
        )
        best = judged(images, seen.logits, state.best)
        early = jnp.where(number <= first_steps, best.fooled & (first_steps > 0), state.early)
        length = annealed(number - first_steps, num_steps + 1, 1.0, last)
        length = epsilon * jnp.where(number < first_steps, 1.0, length)
        ahead = column(length) * norms.steepest(seen.gradient, norm)
        moved = norms.confine(images + ahead, origin, epsilon, norm)
        return _State(number + 1, select(best.fooled, images, moved), best, early)

    def goes_on(state: _State) -> Array:
        return (state.number < num_all) & ~jnp.all(state.best.fooled)

    start = origin + norms.sample(prng.per_draw(keys, 0), origin.shape[1:], epsilon, norm)
    start = norms.confine(start, origin, epsilon, norm)
    never = jnp.zeros(labels.shape, bool)
    begin = _State(jnp.zeros((), jnp.int32), start, nothing_found(origin), never)
    end = jax.lax.while_loop(goes_on, step, begin)
    logits = asked.logits(prng.per_draw(keys, num_all + 3), end.images)
    best = judged(end.images, logits, end.best)
    return _Climbed(best.images, best.merit, end.early, weights, end.number)


def _weights(
    keys: Key, labels: Array, targets: Array, drawn: Directions, num_classes: int
) -> Array:
    """Returns the directions, (B, K)."""
    uniform = jax.vmap(lambda key: prng.uniform(key, (num_classes,), minval=-1.0, maxval=1.0))
    weights = uniform(prng.per_draw(keys, 1))
    own = jax.vmap(prng.uniform)(prng.per_draw(keys, 2))
    own = drawn.low + (drawn.high - drawn.low) * own
    rows = jnp.arange(len(labels))
    biased = weights.at[rows, labels].set(own).at[rows, targets].set(drawn.aimed)
    return jnp.where(drawn.aimed == 0, weights, biased)


_compiled_search = Compiled(jax.jit(_search, static_argnums=0))
