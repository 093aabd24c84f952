"""Any model judged in one call: attacked, perturbed at random and checked, class by class."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from rbjax import analysis, atomic, attacks, perturbations, prng, rpr
from rbjax.analysis import evaluation, origin, robustness
from rbjax.analysis.document import PAGE_FILE
from rbjax.analysis.examples import ATTACKED_FILE, SCORED_FILE
from rbjax.analysis.examples import write as write_examples
from rbjax.analysis.tables import classwise_sheet, columns_of
from rbjax.attacks.diagnostics import diagnose, summary_of
from rbjax.attacks.findings import Finding
from rbjax.attacks.norms import check_size
from rbjax.attacks.outcome import SuiteResult, described, spec_of
from rbjax.attacks.suite import Entry
from rbjax.black_box import BlackBox
from rbjax.blocks import check_examples
from rbjax.classifier import Model, as_classifier
from rbjax.data.order import priorities
from rbjax.inputs import check_integer, check_real, names_of
from rbjax.options import Norm
from rbjax.paths import of_a_folder
from rbjax.progress import ShowProgress
from rbjax.rpr.scores import called
from rbjax.sheet import Sheet
from rbjax.training.run_directory import is_run
from rbjax.typing import Array, Perturbation

_CHECKED = 256
"""Images of the checks for a false sense of robustness."""


class Audit(NamedTuple):
    """What was found out; `print` it for the table of classes."""

    page: Path
    """report.html, for a browser."""
    attacked: SuiteResult
    """Every attack's predictions."""
    scores: rpr.Scores
    """How many random perturbations each datapoint withstands."""
    findings: list[Finding]
    """Of the checks for a false sense of robustness, those that failed among them;
    none of a model without gradients."""
    text: str
    """The table of classes, which files were written, and how many of the checks failed."""
    sheet: Sheet
    """The same table, as `analysis.table` gives it."""

    def __repr__(self) -> str:
        return self.text


def audit(
    logits_fn: Model,
    images: np.ndarray | Array,
    labels: np.ndarray | Array,
    *,
    class_names: Sequence[str] | None = None,
    folder: str | os.PathLike[str] = "audit",
    name: str = "A model",
    dataset: str = "images",
    epsilon: float = 8 / 255,
    norm: Norm = "linf",
    entries: Mapping[str, Entry] | None = None,
    perturbation: Perturbation | None = None,
    max_steps: int = 100,
    train_counts: np.ndarray | None = None,
    example_ids: np.ndarray | None = None,
    files: Sequence[str] | None = None,
    batch_size: int = 128,
    seed: int = 0,
    progress: ShowProgress = None,
) -> Audit:
    """Attacks a model, perturbs its images at random, and writes what came out as report.html.

    The accuracies of all images and of each class, as they are and under each attack, with their
    95 % intervals; how many of `max_steps` random perturbations each image withstands; whether
    masked gradients, saturated outputs or randomness may deceive the attacks. Rerun the same call
    to resume a stopped one: what is done is in the folder.

    Args:
        logits_fn: images (B, H, W, C) in [0, 1] -> logits (B, K); or a black box that
            journals know: of `rbjax.wrap`, or with a fingerprint.
        images: (N, H, W, C) uint8, or floating in [0, 1]: test images.
        labels: (N,) integers, the true classes.
        class_names: K names; None: the numbers.
        folder: where report.html and the numbers behind it are written; it is made.
        name: of the model, in the page's title.
        dataset: of the images, likewise.
        epsilon: radius of the ball of the attacks, in pixel units.
        norm: `"linf"`, `"l2"` or `"l1"`.
        entries: label -> attack, as for `attacks.run_attacks`; None: "pgd" with 20 steps and "apgd"
            with 100; of a model without gradients "square" with 1,000 queries.
        perturbation: (key, image) -> image; None: `perturbations.random_pixels()`.
        max_steps: random perturbations of an image, at most.
        train_counts: (K,) training images of each class, to set beside their robustness; None: not
            known.
        example_ids: (N,) integers; None: the row numbers.
        files: N names, of the images' files, which then stand beside what is said of each: in the
            page, and in examples.csv and datapoints.csv, where else rows stand; None: none.
        batch_size: images at once.
        seed: of all random numbers, an integer >= 0.
        progress: shown if True; a function is called after each block of each part.

    Returns:
        The results, and where the page is.

    Raises:
        ValueError: for wrong shapes or values, the folder of another audit, or a run directory.

    Example:
        >>> images = np.array([0.2, 0.4, 0.7, 0.9], np.float32).reshape(4, 1, 1, 1)  # of one pixel
        >>> labels = np.array([0, 0, 1, 1])  # bright or not
        >>> def bright(x):
        ...     return jnp.stack([0.5 - x[:, 0, 0, 0], x[:, 0, 0, 0] - 0.5], axis=1)
        ...
        >>> found = rbjax.audit(bright, images, labels, epsilon=0.15, max_steps=5)
        >>> found.page.name, found.attacked.class_accuracy("worst").value.tolist()
        ('report.html', [0.5, 1.0])
    """
    check_size("epsilon", check_real("epsilon", epsilon), norm)
    max_steps = check_integer("max_steps", max_steps, low=1)
    where = of_a_folder(folder, field="folder")
    if is_run(where):
        raise ValueError(f"folder = {str(folder)!r}: is a run directory; give another folder")
    classifier, key = as_classifier(logits_fn), prng.key(check_integer("seed", seed, low=0))
    # A journal knows a black box by what it says of itself, and all else by what it computes.
    model = logits_fn if isinstance(logits_fn, BlackBox) else classifier
    ball: dict[str, Any] = {"epsilon": epsilon, "norm": norm}
    entries = _entries(model, ball) if entries is None else entries
    images = np.asarray(images)
    examples = check_examples(
        images, labels, count_classes=classifier.count_classes, example_ids=example_ids
    )
    ids, truth = examples.example_ids, examples.labels
    names, files = names_of(class_names, examples.num_classes), _files(files, len(ids))
    counts = _train_counts(train_counts, examples.num_classes)
    given: dict[str, Any] = {"example_ids": ids, "batch_size": batch_size, "progress": progress}

    # ------------------------------------------------------------------ measured
    attacked = attacks.run_attacks(
        model, key, images, truth, attacks=entries, journal=where / "evaluation", **given
    )
    some = np.argsort(priorities(ids, seed=seed, name="diagnostics"), kind="stable")[:_CHECKED]
    findings = []
    if _has_gradient(model):
        checks, of = prng.named(key, "diagnostics"), {**ball, **given, "example_ids": ids[some]}
        findings = diagnose(model, checks, images[some], truth[some], **of)
    drawn = perturbation or perturbations.random_pixels()
    scores = rpr.score(
        model,
        prng.named(key, "rpr"),
        images,
        truth,
        max_steps=max_steps,
        perturbation=drawn,
        journal=where / "scoring",
        **given,
    )

    # ------------------------------------------------------------------ written
    config = {
        "seed": seed,
        "model": {"name": name},
        **ball,
        "batch_size": batch_size,
        "attacks": {label: spec_of(entry) for label, entry in entries.items()},
        "score": {"perturbation": called(drawn), "max_steps": max_steps},
    }
    about = {"config": config, "dataset": dataset, "class_names": names, **_made()}
    checked = {"num_examples": len(some), **ball}
    checked["findings"] = [finding._asdict() for finding in findings]
    report = _report(about, attacked, counts, checked if findings else None)
    said = {**about, **robustness.of_scores(scores, truth, num_classes=len(names))}
    points = robustness.of_examples(scores, images, truth, example_ids=ids)
    if files is not None:
        points["files"] = np.array(files)
    which: Any = {"index": np.arange(len(truth)), "files": files, "class_names": names}
    for file, result in {ATTACKED_FILE: attacked, SCORED_FILE: scores}.items():
        write_examples(where / file, result, **which)
    _store(where, report, attacked, ids, said, points)
    sheet = _sheet(report, said, attacked)
    text = analysis.report(where)
    if findings:
        text += "\n" + summary_of(findings, num_examples=len(some))
    return Audit(where / PAGE_FILE, attacked, scores, findings, text, sheet)


def _made() -> dict[str, Any]:
    """Returns what every report says of how it was made."""
    return {
        "step": None,
        "split": "test",
        "command": origin.command(),
        "versions": origin.versions(),
        "device": jax.devices()[0].device_kind,
    }


def _has_gradient(model: Model) -> bool:
    return not isinstance(model, BlackBox) or model.gradient is not None


def _entries(model: Model, ball: dict[str, Any]) -> dict[str, Entry]:
    """Returns the attacks of an audit that names none."""
    if _has_gradient(model):
        return {"pgd": attacks.pgd(num_steps=20, **ball), "apgd": attacks.apgd(**ball)}
    return {"square": attacks.square(num_queries=1000, **ball)}


def _report(
    about: dict[str, Any],
    attacked: SuiteResult,
    train_counts: np.ndarray | None,
    checked: dict[str, Any] | None,
) -> dict[str, Any]:
    """Returns what report.json says, as of an evaluation."""
    return {
        **about,
        "class_counts": np.bincount(attacked.labels, minlength=attacked.num_classes),
        "train_class_counts": train_counts,
        **evaluation.summarize(attacked, about["config"]["attacks"]),
        "diagnostics": checked,
        "corruptions": None,
    }


def _store(
    where: Path,
    report: dict[str, Any],
    attacked: SuiteResult,
    ids: np.ndarray,
    said: dict[str, Any],
    points: dict[str, np.ndarray],
) -> None:
    """Writes the files that `analysis.report` reads: of an evaluation and of a scoring."""
    predictions = {label: outcome.predictions for label, outcome in attacked.outcomes.items()}
    arrays = {"example_ids": ids, "labels": attacked.labels, "clean": attacked.clean}
    arrays |= {**predictions, "worst": attacked.worst}
    evaluation.write_report(where, report, arrays)
    atomic.write_json(where / robustness.SCORES_FILE, said)
    atomic.write_npz(where / robustness.DATAPOINTS_FILE, **points)


def _sheet(report: dict[str, Any], said: dict[str, Any], attacked: SuiteResult) -> Sheet:
    """Returns the table of classes."""
    columns, totals = columns_of(report, said)
    name, count = report["config"]["model"]["name"], len(attacked.labels)
    return classwise_sheet(
        f"{name} on {report['dataset']}, {count:,} images, in per cent\n"
        f"{described(attacked.settings)}; RPR: up to {said['max_steps']:,} random draws",
        columns,
        class_names=report["class_names"],
        counts=report["class_counts"],
        totals=totals,
        train_counts=report["train_class_counts"],
    )


def _files(files: Sequence[str] | None, num_images: int) -> list[str] | None:
    """Returns the names of the images' files, if they are known."""
    if files is None:
        return None
    if isinstance(files, str) or len(files) != num_images:
        what = repr(files) if isinstance(files, str) else f"{len(files)} names"
        raise ValueError(f"files is {what}; it must be {num_images} names, one an image")
    return [str(file) for file in files]


def _train_counts(counts: np.ndarray | None, num_classes: int) -> np.ndarray | None:
    """Returns the training images of each class, if they are known."""
    if counts is None:
        return None
    values = np.asarray(counts)
    if values.shape != (num_classes,) or values.dtype.kind not in "iu" or values.min() < 0:
        raise ValueError(
            f"train_counts is {values.dtype} of shape {values.shape}; it must be ({num_classes},) "
            "integers of 0 and more, one a class"
        )
    return values
