"""From a resolved config to an evaluation under corruptions: which, whose constants, what of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import atomic, corruptions, data, metrics, prng
from rbjax.config import Config, makers_options
from rbjax.corruptions.table import ALIASES
from rbjax.data import Dataset, DatasetInfo
from rbjax.paths import expanded
from rbjax.progress import Tell
from rbjax.training.predict import predict
from rbjax.typing import Key, LogitsFn

SUITES: dict[str, tuple[str, ...]] = {
    "none": (),
    "common": corruptions.COMMON,
    "extra": corruptions.EXTRA,
    "all": (*corruptions.COMMON, *corruptions.EXTRA),
    "mnist_c": corruptions.MNIST_C,
}
"""Names of several corruptions."""

ALEXNET = "alexnet"
_ALEXNET_OF = ("imagenet", (1, 2, 3, 4, 5))
"""The profile and the severities that AlexNet's published errors are of."""
_ARCHIVE_NAMES = {ours: theirs for theirs, ours in ALIASES.items()}
"""Names in cifar10_corrupted, by ours; the other archives have ours."""
_ARCHIVES = {
    "cifar10": ("cifar10_corrupted", "cifar"),
    "mnist": ("mnist_corrupted", "mnist"),
    "imagenet2012": ("imagenet2012_corrupted", "imagenet"),
}
"""By dataset, its archive and whose constants that has."""


class Plan(NamedTuple):
    """Which corruptions an evaluation covers, and how."""

    names: tuple[str, ...]
    profile: str
    severities: dict[str, tuple[int, ...]]
    archive: str | None
    """The dataset to read; None: the test set is corrupted on the fly."""
    baseline: metrics.Baseline | None
    options: dict[str, dict[str, Any]]
    """By corruption, the keywords of its maker."""


class Results(NamedTuple):
    """A model's confusion matrices and predictions, clean and under corruptions."""

    clean: np.ndarray
    """(K, K) counts, row = true class, column = predicted class."""
    corrupted: dict[str, np.ndarray]
    """By corruption, (S, K, K)."""
    predictions: dict[str, np.ndarray]
    """By corruption, (S, N), in the test set's order; {} of an archive, which has its own."""


def create(config: Config, info: DatasetInfo) -> Plan:
    """Returns the plan of a config.

    Args:
        config: a resolved config.
        info: of the dataset.

    Returns:
        A Plan; without names there is nothing to do.

    Raises:
        ValueError: for an unknown name, severity, archive or baseline.
    """
    group = config.corruptions
    asked = group.name.split("+")
    suites = {**SUITES, "all": (*SUITES["all"], *own())}
    names = tuple(dict.fromkeys(n for one in asked for n in suites.get(one, (one,))))
    profile = group.profile or profile_of(info, names)
    given = makers_options("corruptions", group.to_dict())
    levels, options = {}, {}
    for name in names:
        own_options = corruptions.CORRUPTIONS.options(ALIASES.get(name, name))
        options[name] = {key: value for key, value in given.items() if key in own_options}
        chosen = dict.fromkeys(group.severities or corruptions.severities(name, profile))
        levels[name] = tuple(int(level) for level in chosen)
        made = [
            corruptions.create(name, severity=level, profile=profile, **options[name])
            for level in chosen
        ]
        # What an image's shape does not allow it allows at no severity.
        image = jax.ShapeDtypeStruct(info.image_shape, jnp.float32)
        jax.eval_shape(made[0], prng.key(0), image)
    plan = Plan(names, profile, levels, None, None, options)
    if group.source == "archive" and names:
        plan = plan._replace(archive=_archive(config, info, plan))
    if not (names and group.baseline):
        return plan
    return plan._replace(baseline=_baseline(group.baseline, plan, info.name))


def own() -> tuple[str, ...]:
    """Returns the corruptions of the table that are made from their severity alone."""
    return tuple(name for name in corruptions.CORRUPTIONS if corruptions.is_by_severity(name))


def profile_of(info: DatasetInfo, names: tuple[str, ...]) -> str:
    """Returns whose constants are usual: by the images' size; MNIST-C's where all are of it.

    Those of ImageNet are for images of 224 pixels, and blur and shift by many; below half of that
    (Droughtwatch has 65) they are Tiny ImageNet's.
    """
    side, channels = max(info.image_shape[:2]), info.image_shape[2]
    if side <= 32:
        return "mnist" if channels == 1 and {*names} <= {*corruptions.MNIST_C} else "cifar"
    return "tiny_imagenet" if side < 112 else "imagenet"


def run(
    plan: Plan,
    logits_fn: LogitsFn,
    key: Key,
    test: Dataset,
    *,
    data_dir: str | None,
    batch_size: int,
    journal: Path | None,
    progress: Tell,
    finished: Callable[[str, np.ndarray], None],
) -> Results:
    """Classifies the test set under the corruptions of a plan.

    Args:
        plan: with at least one name.
        logits_fn: the model.
        key: one key.
        test: the images as they are.
        data_dir: where archives are.
        batch_size: images at once.
        journal: a folder for finished blocks.
        progress: called after each block.
        finished: called with each corruption's name and its (S, K, K) counts as it ends.

    Returns:
        A Results.
    """
    if plan.archive is not None:
        return _read_archives(plan, logits_fn, test, data_dir, finished)

    def ended(name: str, result: corruptions.CorruptionResult) -> None:
        if name in plan.names:
            finished(name, result.confusion(name))

    result = corruptions.run_corruptions(
        logits_fn,
        key,
        test.images,
        test.labels,
        profile=plan.profile,
        severities=plan.severities,
        options=plan.options,
        example_ids=test.example_ids,
        batch_size=batch_size,
        journal=journal,
        progress=progress,
        finished=ended,
    )
    matrices = {name: result.confusion(name) for name in plan.names}
    return Results(result.confusion(), matrices, dict(result.predictions))


def columns(plan: Plan, results: Results) -> dict[str, np.ndarray]:
    """Returns the predictions of each corruption and severity by a heading, "fog 3"; each (N,).

    Args:
        plan: of `create`.
        results: of `run`; of an archive there are none.
    """
    return {
        f"{name} {severity}": row
        for name, rows in results.predictions.items()
        for severity, row in zip(plan.severities[name], rows, strict=True)
    }


def summarize(plan: Plan, results: Results) -> dict[str, Any]:
    """Returns what a report says: accuracies by corruption and severity, and errors, per class.

    Args:
        plan: of the evaluation.
        results: of `run`.

    Returns:
        For JSON: accuracies, counts, the mean error over corruptions and, with a baseline, mCE and
        relative mCE, each of all images and of each class.
    """
    clean, class_clean = metrics.error_rates(results.clean)
    rates = {name: metrics.error_rates(matrix) for name, matrix in results.corrupted.items()}
    whole = {name: rate for name, (rate, _) in rates.items()}
    classes = {name: rate for name, (_, rate) in rates.items()}
    plain = metrics.corruption_errors(whole, clean)
    class_plain = metrics.corruption_errors(classes, class_clean)
    report = {
        "profile": plan.profile,
        "source": plan.archive or "online",
        "order": list(plan.names),
        "severities": plan.severities,
        "confusion": results.corrupted,
        "accuracy": {name: 1 - rate for name, rate in whole.items()},
        "class_accuracy": {name: 1 - rate for name, rate in classes.items()},
        "interval": {  # of the accuracy at each severity, 95 %, (S,) each
            name: list(metrics.wilson_interval(np.trace(m, 0, -2, -1), m.sum((-2, -1))))
            for name, m in results.corrupted.items()
        },
        "clean_error": clean,
        "mean_errors": plain.errors,
        "mean_error": plain.mean,
        "class_mean_error": class_plain.mean,
        "relative_mean_error": plain.relative_mean,
        "class_relative_mean_error": class_plain.relative_mean,
        "baseline": None,
    }
    if plan.baseline is not None:
        scaled = metrics.corruption_errors(whole, clean, baseline=plan.baseline)
        class_scaled = metrics.corruption_errors(classes, class_clean, baseline=plan.baseline)
        report |= {
            "baseline": plan.baseline._asdict(),
            "corruption_errors": scaled.errors,
            "relative_corruption_errors": scaled.relative_errors,
            "mce": scaled.mean,
            "relative_mce": scaled.relative_mean,
            "class_mce": class_scaled.mean,
            "class_relative_mce": class_scaled.relative_mean,
        }
    return report


def _read_archives(
    plan: Plan,
    logits_fn: LogitsFn,
    test: Dataset,
    data_dir: str | None,
    finished: Callable[[str, np.ndarray], None],
) -> Results:
    """Classifies the archives of corrupted test sets that TFDS has."""
    num_classes = test.info.num_classes

    def count(dataset: Dataset) -> np.ndarray:
        predictions = predict(logits_fn, dataset)
        return np.asarray(metrics.confusion_matrix(dataset.labels, predictions, num_classes))

    corrupted = {}
    for name in plan.names:
        configs = _archive_configs(str(plan.archive), name, plan.severities[name])
        sets = (data.load(config, "test", data_dir=data_dir) for config in configs)
        corrupted[name] = metrics.stack_confusions([count(dataset) for dataset in sets])
        finished(name, corrupted[name])
    return Results(count(test), corrupted, {})


def _archive(config: Config, info: DatasetInfo, plan: Plan) -> str:
    """Returns the archive of a dataset, which has to hold all that a plan asks for."""
    if info.name not in _ARCHIVES:
        raise ValueError(
            f"source = 'archive': there is none of {info.name}, only of "
            f"{', '.join(_ARCHIVES)}; take source = online"
        )
    archive, profile = _ARCHIVES[info.name]
    for name, levels in plan.severities.items():
        _archive_configs(archive, name, levels)
    if plan.profile != profile:
        raise ValueError(
            f"source = 'archive': {archive} has the constants of {profile}, not of "
            f"profile = {plan.profile!r}"
        )
    for field, given in (
        ("dataset.max_test_examples", config.dataset.max_test_examples),
        ("dataset.bands", config.dataset.bands),
        ("dataset.test_on", config.dataset.get("test_on")),
        ("imbalance.apply_to_test", config.imbalance.apply_to_test),
    ):
        if given:
            raise ValueError(
                f"source = 'archive': {archive} has whole test images in an order of its own, "
                f"{field} = {given} asks for others; take source = online"
            )
    return archive


def _archive_configs(archive: str, name: str, levels: tuple[int, ...]) -> list[str]:
    """Returns what data.load calls a corruption at some severities."""
    if archive == "mnist_corrupted":
        # It has each at one severity, which its names do not tell.
        known = {
            (own, corruptions.default_severity(own, "mnist")): own for own in corruptions.MNIST_C
        }
    else:
        own = _ARCHIVE_NAMES.get(name, name) if archive == "cifar10_corrupted" else name
        known = {(name, level): f"{own}_{level}" for level in range(1, 6)}
    there = data.DATASETS[archive].configs
    for level in levels:
        if known.get((name, level)) not in there:
            raise ValueError(f"source = 'archive': {archive} has no {name} at severity {level}")
    return [f"{archive}/{known[name, level]}" for level in levels]


def _baseline(given: str, plan: Plan, dataset: str) -> metrics.Baseline:
    """Returns the errors that others are divided by."""
    where = f"baseline = {given!r}"
    if given == ALEXNET:
        baseline = metrics.Baseline(metrics.ALEXNET)
    else:
        file = expanded(given, field="baseline") / "report.json"
        if not file.is_file():
            raise ValueError(f"{where}: there is no {file}; allowed: {ALEXNET}, or a run directory")
        whole = atomic.read_json(file)
        report = whole.get("corruptions") if isinstance(whole, dict) else None
        needed = ("profile", "severities", "mean_errors", "clean_error")
        if report and not ("dataset" in whole and all(name in report for name in needed)):
            raise ValueError(f"{where}: {file} is damaged; evaluate that run again")
        if not report:
            raise ValueError(f"{where}: that run was not evaluated under corruptions")
        if whole["dataset"] != dataset:
            raise ValueError(f"{where}: is of {whole['dataset']}, this evaluation of {dataset}")
        if report["profile"] != plan.profile:
            raise ValueError(
                f"{where}: has the constants of {report['profile']}, this evaluation those of "
                f"{plan.profile}"
            )
        for name, levels in plan.severities.items():
            theirs = report["severities"].get(name)
            if theirs is not None and tuple(theirs) != levels:
                raise ValueError(
                    f"{where}: has severities {theirs} of {name}, this evaluation {list(levels)}"
                )
        baseline = metrics.Baseline(report["mean_errors"], report["clean_error"])
    try:  # what cannot be divided by is said before hours of evaluation
        metrics.corruption_errors({name: [0.5] for name in plan.names}, 0.5, baseline=baseline)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if given == ALEXNET:
        for name, levels in plan.severities.items():
            if (plan.profile, tuple(sorted(levels))) != _ALEXNET_OF:
                raise ValueError(
                    f"{where}: has the constants of imagenet at severities 1 to 5, this "
                    f"evaluation has {plan.profile} at {', '.join(map(str, levels))} of {name}"
                )
    return baseline
