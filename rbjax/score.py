"""Scoring: the RPR of every datapoint of a dataset."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

import rbjax
from rbjax import atomic, prng, processes, rpr
from rbjax import journal as journals
from rbjax.analysis import examples, origin, robustness
from rbjax.config import Config
from rbjax.data import Dataset
from rbjax.training import given, hooks, run_directory, setup
from rbjax.typing import Key, LogitsFn

_COMPARED = 1000
"""Datapoints that are scored in float32 too, to measure the effect of bfloat16."""


@run_directory.job
def score(config: Config, workdir: str) -> dict[str, Any]:
    """Scores a split with the weights a run is judged by and writes the results.

    Rerun the same command to resume after a stop: finished blocks and the state of the current one
    are in the folder `scoring` of the run directory.

    Args:
        config: a resolved config; its dataset and model are the run's.
        workdir: a run directory with a checkpoint.

    Returns:
        What was written to rpr.json: robust ratios, survival curves and class bias, of all
        datapoints and of those correctly classified, how many failed by an answer or a perturbed
        image that is NaN, and the forward passes. rpr.npz holds each
        datapoint's first failing draw, flags, and failure probability with its intervals; of images
        that have files datapoints.csv says the first by name.

    Raises:
        ValueError: if the run directory holds no checkpoint.
    """
    # ------------------------------------------------------------------ model and perturbation
    if config.score.split == "test":
        dataset = setup.load_test(config)
    else:
        dataset = hooks.trained_on(workdir, setup.load_train(config)[0])
    dtype = config.score.dtype or config.model.dtype
    model = setup.create_model(config, dataset.info)
    step, variables = setup.trained_variables(config, workdir, model)
    given.prepare(config, workdir)
    variables = jax.device_put(variables)
    logits_fn = _logits_fn(config, workdir, dataset, dtype, variables)
    title = f"RPR, {config.score.perturbation}, up to {config.score.max_steps} draws"
    print(f"{workdir}: {title}, of {dataset.num_examples} {config.score.split} images")

    # ------------------------------------------------------------------ every datapoint
    started = time.perf_counter()
    journal = _journal(config, workdir, step, logits_fn)
    with rpr.progress_bar(title) as progress:
        scores = _score(config, logits_fn, dataset, journal=journal, progress=progress)
    first_failure, max_steps = scores.first_failure, scores.max_steps
    once = first_failure.reshape(len(first_failure), -1)[:, 0]
    seconds = time.perf_counter() - started

    # ------------------------------------------------------------------ the report
    report = {
        "config": config.to_dict(),
        "step": step,
        "dataset": config.dataset.name,
        "split": config.score.split,
        "class_names": list(dataset.info.class_names),
        "command": origin.command(),
        "versions": origin.versions(),
        "device": jax.devices()[0].device_kind,
        **robustness.of_scores(scores, dataset.labels, num_classes=dataset.info.num_classes),
    }
    if dtype != "float32":
        float32 = _logits_fn(config, workdir, dataset, "float32", variables)
        report["effect_of_dtype"] = _effect(config, float32, dataset, once, max_steps)
    ids = dataset.example_ids
    points = robustness.of_examples(scores, dataset.images, dataset.labels, example_ids=ids)
    if dataset.files is not None:
        points["files"] = dataset.files.astype(str)
    if processes.is_first():
        folder, names = Path(workdir), dataset.info.class_names
        atomic.write_json(folder / robustness.SCORES_FILE, report)
        atomic.write_npz(folder / robustness.DATAPOINTS_FILE, index=dataset.index, **points)
        which: Any = {"index": dataset.index, "files": dataset.files, "class_names": names}
        examples.write(folder / examples.SCORED_FILE, scores, **which)
    _print(report, seconds)
    return report


def _logits_fn(
    config: Config, workdir: str, dataset: Dataset, dtype: str, variables: Any
) -> LogitsFn:
    """Returns the run's model, computing in a given dtype."""
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.model.dtype = dtype
    model = setup.evaluated_model(config, workdir, setup.create_model(config, dataset.info))
    return jax.tree_util.Partial(model.apply, variables)


def _journal(config: Config, workdir: str, step: int, logits_fn: Any) -> Path:
    """Returns the folder of this scoring; one with other settings or another model has another."""
    images = jax.ShapeDtypeStruct((2, *setup.info(config).image_shape), np.float32)
    about = {"step": step, "score": config.score.to_dict(), "format": journals.FORMAT}
    about["model"] = journals.identity(logits_fn, images)
    about["rbjax"] = rbjax.__version__  # or a journal of an earlier one would be in the way
    if ":" in config.score.perturbation:
        perturbation, image = setup.create_perturbation(config), setup.info(config).image_shape
        about["perturbation"] = journals.function_identity(
            perturbation,
            perturbation,
            prng.key(0),
            jax.ShapeDtypeStruct(image, np.float32),
        )
    about["test"] = setup.test_identity(config)
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    return Path(workdir) / "scoring" / digest[:12]


def _score(
    config: Config, logits_fn: Any, dataset: Dataset, **options: Any
) -> rpr.Scores | rpr.Repeated:
    """Scores once or several times, as the config says."""
    settings: dict[str, Any] = {
        "max_steps": config.score.max_steps,
        "perturbation": setup.create_perturbation(config),
        "example_ids": dataset.example_ids,
        "batch_size": config.score.batch_size,
        "block_size": config.score.block_size,
        **options,
    }
    data = (logits_fn, _key(config), dataset.images, dataset.labels)
    if config.score.repetitions > 1:
        repeats = {k: config.score[k] for k in ("repetitions", "max_width")}
        return rpr.score_repeatedly(*data, **settings, **repeats)
    stop = None
    if config.score.stop_window is not None:
        stop = rpr.Flattening(config.score.stop_window, config.score.stop_tolerance)
    return rpr.score(*data, **settings, stop=stop)


def _key(config: Config) -> Key:
    return prng.named(prng.key(config.seed), "rpr")


def _effect(
    config: Config, float32: Any, dataset: Dataset, once: np.ndarray, max_steps: int
) -> dict[str, Any]:
    """Scores some datapoints in float32 too, with the same draws, and returns the differences."""
    some = setup.first(dataset, _COMPARED)
    exact = rpr.score(
        float32,
        _key(config),
        some.images,
        some.labels,
        max_steps=max_steps,
        perturbation=setup.create_perturbation(config),
        example_ids=some.example_ids,
    ).first_failure
    other = once[np.isin(dataset.example_ids, some.example_ids)]
    flags = int(np.sum((exact > max_steps) != (other > max_steps)))
    return {
        "num_compared": len(exact),
        "flags_that_differ": flags,
        "share_that_differs_at_most": float(rpr.failure_upper_bound(flags, len(exact))),
        "first_failures_that_differ": int(np.sum(exact != other)),
        "robust_ratio": float(np.mean(other > max_steps)),
        "robust_ratio_in_float32": float(np.mean(exact > max_steps)),
    }


def _print(report: dict[str, Any], seconds: float) -> None:
    run, needed = report["forward_passes_run"], report["forward_passes_needed"]
    all_images, right = report["all"], report["classified_right"]
    print(
        f"accuracy {report['accuracy']:.2%}; robust {_ratio(all_images)} of all images, "
        f"{_ratio(right)} of those correctly classified"
    )
    print(
        f"mean RPR of all: E[min(N, T)] {all_images['mean_expected_steps']:.1f}, "
        f"min(T, E[N]) {all_images['mean_capped_expectation']:.1f}; T = {report['max_steps']}"
    )
    print(robustness.describe(all_images, report["class_names"]))
    effect = report.get("effect_of_dtype")
    if effect:
        print(
            f"against float32, {effect['num_compared']:,} datapoints, the same draws: "
            f"{effect['flags_that_differ']} robust flags and "
            f"{effect['first_failures_that_differ']} first failures differ (95 % sure: at most "
            f"{effect['share_that_differs_at_most']:.2%} of all flags do); robust "
            f"{effect['robust_ratio']:.4f}, in float32 {effect['robust_ratio_in_float32']:.4f}"
        )
    print(
        f"{run:,} forward passes run for {needed:,} needed ({run / needed:.3f}), "
        f"{seconds:.1f} s with compilation"
    )


def _ratio(part: dict[str, Any]) -> str:
    low, high = part["robust_ratio_interval"]
    return f"{part['robust_ratio']:.4f} ({low:.4f} to {high:.4f})"
