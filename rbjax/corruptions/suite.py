"""A dataset under many corruptions: every example's class under each, at each severity.

Images are corrupted as they are needed, so that no archive of corrupted ones is kept. What is drawn
belongs to an example, so that results depend on neither the blocks nor the order.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import journal as journals
from rbjax import prng
from rbjax.blocks import Block, Blocks, Placement, block_size, check_examples
from rbjax.classifier import Classifier, Model, answer, as_classifier, keys_of
from rbjax.corruptions import table
from rbjax.errors import spelled
from rbjax.inputs import check_mapping, check_perturbed
from rbjax.metrics import confusion_matrix, error_rates, stack_confusions
from rbjax.options import named
from rbjax.programs import PlainFunction, TracedFunction
from rbjax.progress import ShowProgress, teller
from rbjax.sheet import Sheet
from rbjax.tables import lookup
from rbjax.typing import Array, Key, Perturbation
from rbjax.variants import variants
from rbjax.verdicts import Verdicts, verdicts

CLEAN = "clean"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class CorruptionResult:
    """The class of every example under every corruption; `print` it for a table."""

    profile: str
    """Whose constants."""

    labels: np.ndarray
    """(N,) int32."""
    num_classes: int
    clean: np.ndarray
    """(N,) int32, the class of each image as it is."""
    clean_probability: np.ndarray
    """(N,) float32, what the model gives that class; NaN where it is none."""
    predictions: Mapping[str, np.ndarray]
    """By corruption, (S, N) int32."""
    probability: Mapping[str, np.ndarray]
    """By corruption, (S, N) float32, what the model gives that class."""
    severities: Mapping[str, tuple[int, ...]]
    """By corruption, the S severities."""

    def confusion(self, name: str = CLEAN) -> np.ndarray:
        """Returns counts, row = true class, column = predicted class.

        Args:
            name: "clean", or a corruption.

        Returns:
            (K, K); of a corruption (S, K, K); as `metrics.confusion_matrix` counts.

        Raises:
            ValueError: for an unknown name.
        """
        known = {CLEAN: self.clean, **self.predictions}
        predictions = lookup(known, name, what="corruption")
        matrices = [
            confusion_matrix(self.labels, row, self.num_classes)
            for row in np.atleast_2d(predictions)
        ]
        stacked = stack_confusions(matrices)
        return stacked[0] if name == CLEAN else stacked

    @property
    def sheet(self) -> Sheet:
        """A corruption a row: what is correctly classified at each severity, and on average."""
        levels = sorted({level for known in self.severities.values() for level in known})
        names, rows = [CLEAN], [dict.fromkeys(levels)]
        classes = [1 - error_rates(self.confusion())[1]]
        means = [float(np.mean(self.clean == self.labels))]
        for name, predictions in self.predictions.items():
            right = np.mean(predictions == self.labels, axis=1)
            rows.append(dict(zip(self.severities[name], right.tolist(), strict=True)))
            classes.append(np.mean(1 - error_rates(self.confusion(name))[1], axis=0))
            names.append(name)
            means.append(float(np.mean(right)))
        lowest = [int(np.nanargmin(of_class)) for of_class in classes]
        return Sheet(
            f"run_corruptions, {self.profile}: {len(self.labels):,} images of {self.num_classes} "
            "classes, correctly classified in per cent, by severity",
            {
                "corruption": names,
                **{str(level): [row.get(level) for row in rows] for level in levels},
                "mean": means,
                "worst class": lowest,
                "its mean": [
                    of_class[label] for of_class, label in zip(classes, lowest, strict=True)
                ],
            },
        )

    def __repr__(self) -> str:
        return repr(self.sheet)


@named
def run_corruptions(
    logits_fn: Model,
    key: Key,
    images: Any,
    labels: np.ndarray | Array,
    *,
    profile: str,
    severities: Mapping[str, Sequence[int]] | None = None,
    corruptions: Mapping[str, Callable[..., Any]] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    example_ids: np.ndarray | Array | None = None,
    batch_size: int | None = None,
    devices: Sequence[Any] | None = None,
    journal: str | Path | None = None,
    progress: ShowProgress = None,
    finished: Callable[[str, CorruptionResult], None] | None = None,
) -> CorruptionResult:
    """Classifies a dataset under corruptions, cut to 256 levels (`quantize` of `create`).

    The key of an image under a corruption is fold_in(named(key, "<name>-<severity>"), example_id).
    With several processes (`jax.distributed`) each is given all images, classifies its share of the
    blocks, and returns all results.

    Args:
        logits_fn: images -> logits (B, K). With `Partial(model.apply, variables)` new weights do
            not compile again.
        key: one key.
        images: (N, H, W, C) uint8, or floating in [0, 1]; an array, a memory map, or whatever is
            indexed by row numbers. They are read block by block.
        labels: (N,) integers, the true classes.
        profile: whose constants; one of `PROFILES`.
        severities: by corruption, of 1 to 5; None: all corruptions of the profile at the severities
            that are published, 1 to 5 each, of "mnist" one each.
        corruptions: of your own, by names of your own, beside those: makers
            (*, severity) -> (key, image) -> image, or such functions of an image, at severity 1.
        options: by corruption, the keywords of its maker.
        example_ids: (N,) integers; None: the row numbers.
        batch_size: images at once, over all devices; None: by the platform.
        devices: the `jax.Device`s to use; None: all local ones.
        journal: a folder in which finished blocks are kept; repeat the call to resume.
        progress: shown if True; a function is called after each block; see `progress_bar`.
        finished: called with "clean" and with the name of each corruption as it ends, and the
            results so far.

    Returns:
        Predictions of every example and their probabilities, clean and under each corruption.

    Raises:
        ValueError: for an unknown name, profile or severity, wrong shapes or values, or another
            call's journal.

    Example:
        >>> images = np.stack([np.full((8, 8, 1), value, np.float32) for value in (0.2, 0.9)])
        >>> def bright(x):
        ...     return jnp.stack([0.5 - x.mean((1, 2, 3)), x.mean((1, 2, 3)) - 0.5], axis=1)
        ...
        >>> found = rbjax.corruptions.run_corruptions(
        ...     bright, jax.random.key(0), images, np.array([0, 1]), profile="cifar", severities={},
        ...     corruptions={"dusk": lambda key, image: image / 2},
        ... )
        >>> found.predictions["dusk"].tolist()  # 0.45 is no longer bright
        [[0, 0]]
    """
    made = _make(profile, severities, corruptions or {}, options or {})
    key = prng.check(key)
    model = as_classifier(logits_fn)
    examples = check_examples(
        images, labels, count_classes=model.count_classes, example_ids=example_ids
    )
    placement = Placement(devices)
    size = block_size(len(examples.labels), batch_size, placement, journal)
    blocks = Blocks(examples, placement, size, tell=teller(progress))
    blocks = blocks.kept_in(journal, key, call="corruptions", model=logits_fn)
    model = model.placed(placement.whole)
    clean = _predict(blocks, model, key, CLEAN, None)
    predictions: dict[str, np.ndarray] = {}
    probability: dict[str, np.ndarray] = {}
    chosen = {name: tuple(level for level, _ in levels) for name, levels in made.items()}
    result = CorruptionResult(
        profile=profile,
        labels=examples.labels,
        num_classes=examples.num_classes,
        clean=clean.predictions,
        clean_probability=clean.probability,
        predictions=predictions,
        probability=probability,
        severities=chosen,
    )
    if finished is not None:
        finished(CLEAN, result)
    of_one = key, jax.ShapeDtypeStruct(examples.images.shape[1:], np.float32)
    for name, levels in made.items():
        # As one program, as far as they differ in numbers alone.
        changes = variants([made for _, made in levels], *of_one, placement=placement.whole)
        rows = [
            _predict(blocks, model, key, f"{name}-{level}", change)
            for (level, _), change in zip(levels, changes, strict=True)
        ]
        predictions[name] = np.stack([row.predictions for row in rows])
        probability[name] = np.stack([row.probability for row in rows])
        if finished is not None:
            finished(name, result)
    return result


def _make(
    profile: str,
    severities: Mapping[str, Sequence[int]] | None,
    own: Mapping[str, Callable[..., Any]],
    options: Mapping[str, Mapping[str, Any]],
) -> dict[str, list[tuple[int, Perturbation]]]:
    """Returns the corruptions of a call by name, each with its severity."""
    severities = published(profile) if severities is None else severities
    check_mapping("corruptions", own, '{"mine": function}')
    check_mapping("options", options, '{"frost": {"textures": folder}}')
    check_mapping("severities", severities, '{"fog": (1, 3, 5)}')
    levels_of = dict(severities)
    for name, maker in own.items():
        is_maker = "severity" in inspect.signature(maker).parameters
        levels_of.setdefault(name, (1, 2, 3, 4, 5) if is_maker else (1,))
    made: dict[str, list[tuple[int, Perturbation]]] = {}
    for name, levels in levels_of.items():
        if not isinstance(levels, Sequence):
            raise ValueError(f"severities[{name!r}] is {spelled(levels)}; it must be a sequence")
        given = {"profile": profile, "quantize": True, **options.get(name, {})}
        created = [table.create(own.get(name, name), severity=n, **given) for n in levels]
        made[name] = list(zip(map(int, levels), created, strict=True))
    return made


def published(profile: str) -> dict[str, tuple[int, ...]]:
    """Returns the corruptions of a profile and their published severities.

    Args:
        profile: one of `PROFILES`.

    Returns:
        Severities by name.

    Raises:
        ValueError: for an unknown profile.
    """
    return {name: table.severities(name, profile) for name in table.names(profile)}


def _predict(
    blocks: Blocks, model: Classifier, key: Key, label: str, corruption: PlainFunction | None
) -> Verdicts:
    """Returns the classes of all images under a corruption, and their probabilities."""
    stream, name = prng.named(key, label), label
    model_key = prng.named(stream, "model")
    if blocks.journal is not None:
        image = jax.ShapeDtypeStruct(blocks.examples.images.shape[1:], np.float32)
        about = CLEAN
        if corruption is not None:
            about = journals.function_identity(corruption.fn, corruption.fn, prng.key(0), image)
        mark = journals.digest(label, about)
        name = f"{label}-{mark}"

    bound = None if corruption is None else corruption.bind(list(corruption.traces))

    def ask(block: Block, images: Array) -> dict[str, Any]:
        ids = blocks.placement.split(blocks.examples.example_ids[block.padded])
        if bound is not None:
            images = _corrupt(bound, stream, ids, images)
        return verdicts(answer(model, keys_of(model_key, ids), images))._asdict()

    return Verdicts(**blocks.map(ask, task=label, name=name, fields=Verdicts._fields))


@jax.jit
def _corrupt(corruption: TracedFunction, stream: Key, ids: Array, images: Array) -> Array:
    corrupted = jax.vmap(corruption)(prng.per_example(stream, ids), images)
    return jnp.clip(check_perturbed(corrupted, images, field="the corruption"), 0.0, 1.0)
