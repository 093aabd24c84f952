"""How wrong estimated failure probabilities are, against draws on some of the images."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import prng
from rbjax.blocks import Block, check_examples, cut, map_blocks
from rbjax.captures import Compiled, static_first
from rbjax.classifier import Classifier, Model, as_classifier, predicted
from rbjax.inputs import check_integer, check_perturbed, to_float
from rbjax.losses.adversarial import margin
from rbjax.metrics import clopper_pearson_interval
from rbjax.progress import ShowProgress, teller
from rbjax.rpr.lanes import OF_THE_MODEL, failures
from rbjax.typing import Array, Key, Perturbation


class DrawnError(NamedTuple):
    """Estimates beside draws, one entry an image drawn."""

    rows: np.ndarray
    """(M,) int64, which of the images, ascending."""
    estimated: np.ndarray
    """(M,) float64, the failure probabilities that were to be checked."""
    drawn: np.ndarray
    """(M,) float64, the share of the draws that failed."""
    low: np.ndarray
    """(M,) float64, lower end of the draws' Clopper-Pearson interval."""
    high: np.ndarray
    """(M,) float64, its upper end."""
    num_draws: int
    confidence: float

    @property
    def difference(self) -> np.ndarray:
        """(M,) estimated less drawn."""
        return self.estimated - self.drawn

    @property
    def mean_absolute_error(self) -> float:
        """Mean of |difference|; draws' own error is part of it, see `mean_standard_error`."""
        return float(np.mean(np.abs(self.difference)))

    @property
    def mean_standard_error(self) -> float:
        """Mean over the images of sqrt(p (1 - p) / num_draws), p as drawn."""
        return float(np.mean(np.sqrt(self.drawn * (1 - self.drawn) / self.num_draws)))

    @property
    def outside(self) -> float:
        """Share of the images whose estimate lies outside the draws' interval."""
        return float(np.mean((self.estimated < self.low) | (self.estimated > self.high)))

    @property
    def rank_correlation(self) -> float:
        """Spearman's; NaN where one of the two is constant.

        Images of which no draw failed tie: for small noise it is far below 1, however good the
        estimate.
        """
        from scipy.stats import spearmanr

        if np.ptp(self.estimated) == 0 or np.ptp(self.drawn) == 0:
            return float("nan")
        result = spearmanr(self.estimated, self.drawn)
        return float(result.statistic)  # pyright: ignore[reportAttributeAccessIssue]


def error_against_draws(
    failure_probability: np.ndarray,
    logits_fn: Model,
    key: Key,
    images: np.ndarray | Array,
    labels: np.ndarray | Array,
    *,
    perturbation: Perturbation,
    num_draws: int = 1000,
    num_images: int | None = None,
    confidence: float = 0.95,
    example_ids: np.ndarray | Array | None = None,
    block_size: int = 256,
    progress: ShowProgress = None,
) -> DrawnError:
    """Draws perturbations of some images and sets the share that fails beside the estimate.

    `rbjax.rpr.closed_form` assumes `perturbations.gaussian_noise(sigma=...).change`, noise that is
    not clipped; with `gaussian_noise(sigma=...)` as it is, the error that clipping brings is seen
    too. Draw t of an image has the key of `rbjax.rpr.score`.

    Args:
        failure_probability: (N,) in [0, 1], of all images.
        logits_fn: images -> logits (B, K).
        key: one key.
        images: (N, H, W, C) uint8, or floating in [0, 1].
        labels: (N,) integers, the true classes.
        perturbation: (key, image (H, W, C)) -> image.
        num_draws: draws of each image.
        num_images: M, images that are drawn, chosen at random with the key; None: all.
        confidence: of the intervals.
        example_ids: (N,) integers; None: the row numbers.
        block_size: images of one forward pass.
        progress: shown if True; a function is called after each block.

    Returns:
        Estimates, draws and their differences.

    Raises:
        ValueError: for wrong shapes or values.

    Example:
        >>> images = np.array([0.2, 0.4, 0.9], np.float32).reshape(3, 1, 1, 1)  # of one pixel
        >>> labels = np.array([0, 0, 1])  # bright or not
        >>> def bright(x):
        ...     return jnp.stack([0.5 - x[:, 0, 0, 0], x[:, 0, 0, 0] - 0.5], axis=1)
        ...
        >>> darker = lambda key, image: image - 0.5  # every draw fails where the image was bright
        >>> found = rbjax.rpr.error_against_draws(
        ...     np.array([0.0, 0.0, 0.9]), bright, jax.random.key(0), images, labels,
        ...     perturbation=darker, num_draws=10,
        ... )
        >>> found.drawn.tolist(), found.difference.round(1).tolist()
        ([0.0, 0.0, 1.0], [0.0, 0.0, -0.1])
    """
    key = prng.check(key)
    model = as_classifier(logits_fn)
    examples = check_examples(
        images,
        labels,
        count_classes=model.count_classes,
        example_ids=example_ids,
    )
    estimated = np.asarray(failure_probability, np.float64)
    if estimated.shape != examples.labels.shape:
        raise ValueError(
            f"failure_probability has shape {estimated.shape}; it must be {examples.labels.shape}"
        )
    for wrong in estimated[~((estimated >= 0) & (estimated <= 1))]:
        raise ValueError(f"failure_probability holds {wrong:g}; allowed: 0 to 1")
    num_draws = check_integer("num_draws", num_draws, low=1)
    block_size = check_integer("block_size", block_size, low=1)
    chosen = np.arange(len(examples.labels))
    if num_images is not None:
        num_images = check_integer("num_images", num_images, low=1)
        if num_images > len(chosen):
            raise ValueError(f"num_images is {num_images}; there are {len(chosen)} images")
        order = prng.permutation(prng.named(key, "rows"), len(chosen))
        chosen = np.sort(np.asarray(order)[:num_images]).astype(np.int64)

    def count_block(block: Block, images: np.ndarray) -> dict[str, Array]:
        rows = block.padded
        keys = prng.per_example(key, jnp.asarray(examples.example_ids[rows]))
        batch = to_float(block.fill(images)), jnp.asarray(examples.labels[rows])
        failed, _ = count_failed(perturbation, model, keys, *batch, num_draws, False)
        return {"failed": failed}

    blocks = cut(chosen, min(block_size, len(chosen)))
    counted = map_blocks(
        count_block,
        blocks,
        read=lambda block: examples.read(block.rows),
        tell=teller(progress),
    )
    failed = counted["failed"]
    low, high = clopper_pearson_interval(failed, num_draws, confidence)
    drawn = failed / num_draws
    return DrawnError(chosen, estimated[chosen], drawn, low, high, num_draws, confidence)


@Compiled
@functools.partial(static_first, compiled=functools.partial(jax.jit, static_argnums=0))
def count_failed(
    perturbation: Perturbation,
    model: Classifier,
    keys: Key,
    images: Array,
    labels: Array,
    num_draws: Array,
    ties_fail: Array,
) -> tuple[Array, Array]:
    """Returns how many draws of each image fail, (B,) int32, and whether it fails as it is."""
    model = model.in_loops()

    def fail(keys: Key, images: Array) -> Array:
        logits = model.logits(prng.per_draw(keys, OF_THE_MODEL), images)
        is_tied = ties_fail & (margin(logits, labels) >= 0)
        return (failures(predicted(logits), images, labels) != 0) | is_tied

    def add(draw: Array, failed: Array) -> Array:
        keys_of_draw = prng.per_draw(keys, draw + 1)
        drawn = check_perturbed(jax.vmap(perturbation)(keys_of_draw, images), images)
        return failed + fail(keys_of_draw, drawn)

    none = jnp.zeros(labels.shape, jnp.int32)
    return jax.lax.fori_loop(0, num_draws, add, none), fail(keys, images)
