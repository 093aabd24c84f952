"""What the diagnostics see of a model: its answers, and where gradients of several kinds lead.

One compiled search serves all of them: radius, steps, loss and smoothing are its arguments.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import prng
from rbjax.attacks import norms
from rbjax.attacks.attack import CompiledAttack, select
from rbjax.blocks import Block, Blocks
from rbjax.captures import Compiled
from rbjax.classifier import Classifier, Gradient, answer, predicted
from rbjax.inputs import to_float
from rbjax.losses import adversarial
from rbjax.typing import Array, Key

FEW_STEPS, MANY_STEPS = 4, 20
NUM_DRAWS = 2
"""Noisy images whose gradients are averaged in each step of a smoothed search."""
EPSILONS = (0.5, 1.0)
"""Radii at which the margin is followed, of epsilon."""


class Search(NamedTuple):
    """What a search of gradient steps depends on; numbers, so that none compiles it again."""

    num_steps: int
    epsilon: float
    start: float
    """Radius of the ball in which it starts."""
    margin: bool = False
    """Whether the margin is climbed, not the cross-entropy."""
    noise: float = 0.0
    """Deviation of the noise over which gradients are averaged."""
    num_draws: int = 1


class Searched(NamedTuple):
    """Where a search led from N images, on the host."""

    images: np.ndarray
    """(N, H, W, C) the iterate with the largest margin."""
    fooled: np.ndarray
    """(N,) bool, whether that one fools."""
    last_fooled: np.ndarray
    """(N,) bool, whether the last iterate does."""
    margin: np.ndarray
    """(N,) of the last iterate, max_{j != y} z_j - z_y."""
    gradient: np.ndarray
    """(N,) largest absolute value of the last step's gradient; NaN if it is not finite."""


@Compiled
@functools.partial(jax.jit, static_argnums=0)
def _search(
    norm: str, model: Classifier, keys: Key, images: Array, labels: Array, plan: Search
) -> tuple[Array, ...]:
    """Returns the parts of `Searched`: projected ascent by steps of 2.5 epsilon / num_steps."""
    classifier = model.asked_about(images)
    epsilon = jnp.broadcast_to(plan.epsilon, labels.shape).astype(jnp.float32)
    step_size = 2.5 * epsilon / plan.num_steps

    def constrain(moved: Array) -> Array:
        return norms.confine(moved, images, epsilon, norm)

    def judged(draws: Key, moved: Array) -> tuple[Array, Array]:
        logits = classifier.logits(draws, moved)
        return adversarial.margin(logits, labels), predicted(logits) != labels

    def step(number: Array, carry: tuple[Array, ...]) -> tuple[Array, ...]:
        current, best, highest, _, memory = carry
        draws = prng.per_draw(keys, number + 1)
        ascent = _gradient(classifier, draws, current, labels, plan)
        # With noise the logits are not those of `current`; only the last iterate is of use then.
        best, highest = _higher(current, adversarial.margin(ascent.logits, labels), best, highest)
        size = jnp.max(jnp.abs(ascent.gradient), axis=(1, 2, 3))
        size = jnp.where(ascent.broken > 0, jnp.nan, size)
        # The mean is continued over the steps, as each uses few noisy images.
        memory = gradient = ascent.gradient + jnp.where(plan.noise > 0, memory, 0.0)
        inside = norms.Inside(current - images, epsilon, -images, 1.0 - images)
        is_early = number < plan.num_steps - norms.num_sharp(plan.num_steps)
        moved = current + norms.climb(gradient, step_size, norm, inside, is_early=is_early)
        return constrain(moved), best, highest, size, memory

    law = norms.STARTS["uniform"]
    start = constrain(images + norms.start(law, keys, images.shape[1:], plan.start, norm))
    none = jnp.full(labels.shape, -jnp.inf, jnp.float32)
    carry = (start, start, none, none, jnp.zeros_like(images))
    last, best, highest, size, _ = jax.lax.fori_loop(0, plan.num_steps, step, carry)
    margin, last_fooled = judged(prng.per_draw(keys, _LAST), last)
    best, _ = _higher(last, margin, best, highest)
    best = jnp.where(plan.noise > 0, last, best)
    _, fooled = judged(prng.per_draw(keys, _BEST), best)
    return best, fooled, last_fooled, margin, size


_LAST, _BEST = 2**31 - 1, 2**31 - 2
"""Draws that no step makes."""


def _higher(new: Array, margin: Array, old: Array, highest: Array) -> tuple[Array, Array]:
    """Returns the images with the larger margin, and that margin."""
    return select(margin > highest, (new, margin), (old, highest))


def _gradient(
    classifier: Classifier, keys: Key, images: Array, labels: Array, plan: Search
) -> Gradient:
    """Returns the gradient of what is climbed, its mean over noisy images where there is noise."""

    def objective(logits: Array) -> Array:
        margin = adversarial.margin(logits, labels)
        return jnp.where(plan.margin, margin, adversarial.cross_entropy(logits, labels))

    def noisy(draws: Key) -> Array:
        normal = jax.vmap(lambda key: prng.normal(key, images.shape[1:]))(draws)
        return jnp.clip(images + plan.noise * normal, 0.0, 1.0)

    def add(draw: Array, sums: Gradient) -> Gradient:
        draws = prng.per_draw(keys, draw)
        # Drawing as many normal numbers in vain would take longer than a small model.
        moved = jax.lax.cond(plan.noise > 0, noisy, lambda _: images, draws)
        return jax.tree.map(jnp.add, sums, classifier.value_and_grad(objective, draws, moved))

    zeros = Gradient(
        loss=jnp.zeros(labels.shape, jnp.float32),
        logits=jnp.zeros((len(labels), classifier.num_classes), jnp.float32),
        gradient=jnp.zeros_like(images),
        broken=jnp.zeros(labels.shape, jnp.float32),
    )
    sums = jax.lax.fori_loop(0, plan.num_draws, add, zeros)
    return jax.tree.map(lambda total: total / plan.num_draws, sums)


class Probe(NamedTuple):
    """Images in blocks over the devices, and the keys of what is random about them."""

    key: Key
    blocks: Blocks
    norm: str
    epsilon: float

    def keys(self, stream: str, block: Block) -> Key:
        """Returns the keys of a block, of the stream with that name."""
        ids = self.blocks.placement.split(self.blocks.examples.example_ids[block.padded])
        return prng.per_example(prng.named(self.key, stream), ids)

    def answer(
        self,
        model: Classifier,
        stream: str,
        *,
        images: np.ndarray | None = None,
        beside: bool = False,
    ) -> np.ndarray:
        """Returns the logits of all images, (N, K).

        Args:
            model: the model, on the devices.
            stream: what the draws of a randomised model are named by.
            images: others in their place.
            beside: whether every second image of a block is replaced by its negative; the rows
                of those are NaN.
        """
        blocks, size = self.blocks, self.blocks.size
        if images is not None:
            blocks = blocks._replace(examples=blocks.examples._replace(images=images))

        def ask(block: Block, images: Array) -> dict[str, Array]:
            if beside:
                is_second = (np.arange(block.size) % 2 == 1)[:, None, None, None]
                images = jnp.where(is_second, 1.0 - images, images)
            return {"logits": answer(model, self.keys(stream, block), images)}

        logits = blocks.map(ask, task=stream)["logits"]
        if beside:
            logits[np.arange(len(logits)) % size % 2 == 1] = np.nan
        return logits

    def search(
        self, model: Classifier, stream: str, plan: Search, rows: np.ndarray | None = None
    ) -> Searched:
        """Returns where a search leads from some of the images (None: all), on the host."""

        def run(block: Block, images: Array) -> dict[str, Array]:
            labels = self.blocks.placement.split(self.blocks.examples.labels[block.padded])
            keys = self.keys(stream, block)
            parts = _search(self.norm, model, keys, images, labels, plan)
            return dict(zip(Searched._fields, parts, strict=True))

        return Searched(**self.blocks.map(run, rows, task=stream))

    def attack(
        self, model: Classifier, attack: CompiledAttack, stream: str, rows: np.ndarray
    ) -> np.ndarray:
        """Returns which of some images an attack fools."""

        def run(block: Block, images: Array) -> dict[str, Array]:
            labels = self.blocks.placement.split(self.blocks.examples.labels[block.padded])
            result = attack(model, self.keys(stream, block), images, labels, epsilon=self.epsilon)
            return {"fooled": result.fooled}

        return self.blocks.map(run, rows, task=stream)["fooled"]


class Rival(NamedTuple):
    """An attack that should fool nothing that plain gradients do not fool."""

    fooled: np.ndarray
    """(N,) bool, images that it alone fools."""
    by_chance: np.ndarray
    """(N,) bool, images that the adversarial ones of plain gradients fool when asked again
    (randomised)."""


class Evidence(NamedTuple):
    """What was seen of a model on N images; every search is within epsilon if not said."""

    labels: np.ndarray
    largest_pixel: float
    num_samples: int | None
    """Draws of each answer of a randomised model; None of any other."""
    logits: np.ndarray
    """(N, K) of the images as they are."""
    again: np.ndarray
    """(N, K) the same, asked again; with other draws if randomised."""
    beside: np.ndarray
    """(N, K) the same, beside other images; NaN where not asked."""
    gradients: dict[str, np.ndarray]
    """Largest absolute value of the gradient at the image of "cross_entropy" and "margin"."""
    few_fooled: np.ndarray
    """By the last of a few steps."""
    many_fooled: np.ndarray
    """By the last of many."""
    margins: np.ndarray
    """(1 + len(EPSILONS), N) of the image, and after a search within each radius."""
    large_fooled: np.ndarray
    """By a search without any ball."""
    fooled: dict[str, np.ndarray]
    """Fooled by the best iterate that climbed "cross_entropy" or "margin"."""
    rivals: dict[str, Rival]
    """By the name of the check."""

    @property
    def right(self) -> np.ndarray:
        """(N,) bool, which images are correctly classified as they are."""
        return np.asarray(predicted(self.logits)) == self.labels


def unbounded(norm: str, shape: tuple[int, ...]) -> float:
    """Returns the radius within which every image in [0, 1] reaches every other."""
    size = math.prod(shape)
    return {"linf": 1.0, "l2": math.sqrt(size), "l1": float(size)}[norm]


def smoothing(norm: str, epsilon: float, shape: tuple[int, ...]) -> float:
    """Returns the deviation at which noise is about half as large as epsilon."""
    size = math.prod(shape)
    return 0.5 * epsilon / {"linf": 1.0, "l2": math.sqrt(size), "l1": size}[norm]


def gather(
    probe: Probe, model: Classifier, source: Classifier | None, black_box: CompiledAttack | None
) -> Evidence:
    """Queries and attacks a model for all that the checks judge by; models are on the devices."""
    examples = probe.blocks.examples
    shape, epsilon = examples.images.shape[1:], probe.epsilon
    looks = {
        loss: probe.search(model, "gradient", Search(1, 0.0, 0.0, loss == "margin"))
        for loss in ("cross_entropy", "margin")
    }
    few = probe.search(model, "ascent", Search(FEW_STEPS, epsilon, epsilon))
    many = [
        probe.search(model, "ascent", Search(MANY_STEPS, part * epsilon, part * epsilon))
        for part in EPSILONS
    ]
    margin = probe.search(model, "margin", Search(MANY_STEPS, epsilon, epsilon, margin=True))
    large = Search(MANY_STEPS, unbounded(probe.norm, shape), epsilon)
    return Evidence(
        labels=examples.labels,
        largest_pixel=float(np.max(to_float(examples.images))),
        num_samples=model.num_samples if model.is_random else None,
        logits=probe.answer(model, "answer"),
        again=probe.answer(model, "again" if model.is_random else "answer"),
        beside=probe.answer(model, "answer", beside=True),
        gradients={loss: look.gradient for loss, look in looks.items()},
        few_fooled=few.last_fooled,
        many_fooled=many[-1].last_fooled,
        margins=np.stack([looks["margin"].margin, *(search.margin for search in many)]),
        large_fooled=probe.search(model, "large", large).fooled,
        fooled={"cross_entropy": many[-1].fooled, "margin": margin.fooled},
        rivals=_rivals(probe, model, source, black_box, (many[-1], margin)),
    )


def _rivals(
    probe: Probe,
    model: Classifier,
    source: Classifier | None,
    black_box: CompiledAttack | None,
    searches: tuple[Searched, ...],
) -> dict[str, Rival]:
    """Returns what other attacks fool of the images that plain gradients leave unfooled."""
    unfooled = ~np.any([search.fooled for search in searches], axis=0)
    rows = np.flatnonzero(unfooled)
    attacks = {"smoothed_gradients": lambda: _smoothed(probe, model, rows)}
    if black_box is not None:
        attacks["black_box"] = lambda: probe.attack(model, black_box, "black box", rows)
    if source is not None:
        attacks["transfer"] = lambda: _transferred(probe, model, source, rows)
    by_chance = np.zeros_like(unfooled)
    if model.is_random:
        for search in searches:
            by_chance |= unfooled & _fools(probe, model, "chance", search.images)
    rivals = {}
    for name, attack in attacks.items():
        fooled = np.zeros_like(unfooled)
        if len(rows) > 0:
            fooled[rows] = attack()
        rivals[name] = Rival(fooled, by_chance)
    return rivals


def _fools(probe: Probe, model: Classifier, stream: str, images: np.ndarray) -> np.ndarray:
    """Returns which of N images are not taken for their labels."""
    logits = probe.answer(model, stream, images=images)
    return np.asarray(predicted(logits)) != probe.blocks.examples.labels


def _smoothed(probe: Probe, model: Classifier, rows: np.ndarray) -> np.ndarray:
    """Returns which rows a search along gradients averaged over noise fools."""
    noise = smoothing(probe.norm, probe.epsilon, probe.blocks.examples.images.shape[1:])
    plan = Search(MANY_STEPS, probe.epsilon, probe.epsilon, noise=noise, num_draws=NUM_DRAWS)
    return probe.search(model, "smoothed", plan, rows).fooled


def _transferred(
    probe: Probe, model: Classifier, source: Classifier, rows: np.ndarray
) -> np.ndarray:
    """Returns which rows are fooled by what was crafted on another model."""
    images = np.array(to_float(probe.blocks.examples.images))
    plan = Search(MANY_STEPS, probe.epsilon, probe.epsilon)
    images[rows] = probe.search(source, "source", plan, rows).images
    return _fools(probe, model, "transfer", images)[rows]
