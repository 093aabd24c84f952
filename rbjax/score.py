"""Scoring: the RPR of every datapoint of a dataset."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from rbjax import atomic, prng, rpr
from rbjax.config import Config
from rbjax.training import setup

SCORES_FILE = "rpr.json"
EXAMPLES_FILE = "rpr.npz"


def score(config: Config, workdir: str) -> dict[str, Any]:
    """Scores a split with a run's newest weights and writes what it found.

    Args:
        config: a resolved config; its dataset and model are the run's.
        workdir: a run directory with a checkpoint.

    Returns:
        What was written to rpr.json: the robust ratio, of all and of the images classified right,
        overall and per class, the survival curve and the forward passes.  rpr.npz holds each
        datapoint's first failing draw and flags.

    Raises:
        ValueError: if the run directory holds no checkpoint.
    """
    # ------------------------------------------------------------------ model and perturbation
    dataset = (
        setup.load_test(config) if config.score.split == "test" else setup.load_train(config)[0]
    )
    model = setup.create_model(config, dataset.info)
    step, variables = setup.trained_variables(config, workdir, model)
    logits_fn = jax.tree_util.Partial(model.apply, jax.device_put(variables))
    max_steps, perturbation = config.score.max_steps, setup.create_perturbation(config)
    title = f"RPR, {config.score.perturbation}, up to {max_steps} draws"
    print(f"{workdir}: {title}, of {dataset.num_examples} {config.score.split} images")

    # ------------------------------------------------------------------ every datapoint
    started = time.perf_counter()
    with tqdm(
        total=dataset.num_examples, desc=title, unit="image", leave=False, disable=None
    ) as bar:

        def progress(state: rpr.Progress) -> None:
            bar.set_postfix(robust=state.num_robust, passes=f"{state.forward_passes_run:,}")
            bar.update(state.num_scored - bar.n)

        scores = rpr.score(
            logits_fn,
            prng.named(jax.random.key(config.seed), "rpr"),
            dataset.images,
            dataset.labels,
            max_steps=max_steps,
            perturbation=perturbation,
            example_ids=dataset.example_ids,
            batch_size=config.score.batch_size,
            progress=progress,
        )
    seconds = time.perf_counter() - started

    # ------------------------------------------------------------------ what was found
    report = {
        "config": config.to_dict(),
        "step": step,
        "dataset": config.dataset.name,
        "split": config.score.split,
        "class_names": list(dataset.info.class_names),
        "max_steps": max_steps,
        "num_examples": dataset.num_examples,
        "all": _ratios(scores, dataset.labels, dataset.info.num_classes, None),
        "classified_right": _ratios(
            scores, dataset.labels, dataset.info.num_classes, scores.clean_correct
        ),
        "forward_passes_run": scores.forward_passes_run,
        "forward_passes_needed": scores.forward_passes_needed,
        "seconds": seconds,
    }
    atomic.write_json(Path(workdir) / SCORES_FILE, report)
    atomic.write_npz(
        Path(workdir) / EXAMPLES_FILE,
        index=dataset.index,
        example_ids=dataset.example_ids,
        labels=dataset.labels,
        first_failure=scores.first_failure,
        robust=scores.robust,
        clean_correct=scores.clean_correct,
    )
    _print(report, float(np.mean(scores.clean_correct)))
    return report


def _ratios(
    scores: rpr.Scores, labels: np.ndarray, num_classes: int, counted: np.ndarray | None
) -> dict[str, Any]:
    """Robust ratio and survival curve, overall and per class, of the datapoints that count."""
    arguments = (scores.first_failure, scores.max_steps, labels)
    curves = rpr.survival_curve(*arguments, num_classes=num_classes, counted=counted)
    ratio = rpr.robust_ratio(*arguments, num_classes=num_classes, counted=counted)
    return {
        "robust_ratio": ratio.overall,
        "class_counts": ratio.counts,
        "class_robust": ratio.robust,
        "survival": curves.overall,
        "class_survival": curves.classes,
    }


def _print(report: dict[str, Any], accuracy: float) -> None:
    run, needed = report["forward_passes_run"], report["forward_passes_needed"]
    print(
        f"accuracy {accuracy:.2%}; robust {report['all']['robust_ratio']:.4f} of all images, "
        f"{report['classified_right']['robust_ratio']:.4f} of those classified right\n"
        f"{run:,} forward passes run for {needed:,} needed ({run / needed:.3f}), "
        f"{report['seconds']:.1f} s with compilation"
    )
