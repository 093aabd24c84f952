"""Evaluation: a run's weights under every attack of the config, per class."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

import rbjax
from rbjax import attack_setup, attacks, corruption_setup, journal, metrics, prng, processes
from rbjax.analysis import examples, origin
from rbjax.analysis.evaluation import Report, read_json, summarize, write_report
from rbjax.analysis.report import weights_of
from rbjax.analysis.robustness import SCORES_FILE
from rbjax.attacks.counting import Passes
from rbjax.attacks.diagnostics import diagnose, summary_of
from rbjax.attacks.outcome import Outcome, SuiteResult
from rbjax.config import Config
from rbjax.console import printable
from rbjax.data import Dataset
from rbjax.inputs import NO_CLASS
from rbjax.progress import progress_bar
from rbjax.training import given, hooks, run_directory, setup
from rbjax.typing import LogitsFn


@run_directory.job
def evaluate(config: Config, workdir: str) -> Report:
    """Attacks the test set and writes the report.

    Rerun the same command to resume after a stop: finished blocks are in the folder `evaluation` of
    the run directory.

    Args:
        config: a resolved config; its dataset and model are the run's.
        workdir: a run directory with a checkpoint; with given weights it is made.

    Returns:
        The report, as `analysis.read_report` reads it back: for "clean" and for each attack its
        settings, confusion matrix, summary and 95 % intervals; "worst", what is correctly
        classified clean and under every attack; "diagnostics", what looks like a false sense of
        robustness; "corruptions", accuracies by corruption and severity and their mCE; and
        "no_class", how many answers are NaN, under what. report.json has all but the matrices;
        these are in report.npz, with each example's predictions (-1 for such an answer), what the
        model gives these classes ("<attack>/probability"), whether all of them are correct, and
        each universal perturbation.  examples.csv says the same, a row an example: its file, or its
        index in the split.

    Raises:
        ValueError: if the run directory holds no checkpoint, or an attack cannot be made.
    """
    # ------------------------------------------------------------------ the trained model
    test = setup.load_test(config)
    model = setup.create_model(config, test.info)
    step, variables = setup.trained_variables(config, workdir, model)
    _check_step(config, workdir, step)
    model = setup.evaluated_model(config, workdir, model)
    logits_fn = jax.tree_util.Partial(model.apply, jax.device_put(variables))
    which = f"step {step}"
    if given.are_given(config):
        given.prepare(config, workdir)
        which = Path(config.model.weights).name
    print(f"{workdir}: evaluating {which} on {test.num_examples} test images")

    # ------------------------------------------------------------------ clean, then each attack
    train, validation = None, None
    if "train" in test.info.num_examples:
        train, validation = setup.load_train(config)
        train = hooks.trained_on(workdir, train)
    suite = attack_setup.create(config, train, test, validation)
    plan = corruption_setup.create(config, test.info)
    images = jax.ShapeDtypeStruct((2, *test.info.image_shape), np.float32)
    folder = _folder(config, workdir, f"{step} {journal.identity(logits_fn, images)}")
    with progress_bar() as progress:
        results = attacks.run_attacks(
            logits_fn,
            prng.key(config.seed),
            test.images,
            test.labels,
            **suite._asdict(),
            example_ids=test.example_ids,
            batch_size=config.batch_size,
            journal=folder,
            progress=progress,
            finished=lambda label, result: tqdm.write(_line(label, result, test)),
        )
    if len(results.outcomes) > 1:
        print(_line("worst", results, test))
    diagnostics = _diagnose(config, logits_fn, test, suite.attacks)
    corrupted = _corrupt(config, plan, logits_fn, test, folder) if plan.names else None

    # ------------------------------------------------------------------ the report
    about = {
        "config": config.to_dict(),
        "step": step,
        "dataset": config.dataset.name,
        "split": test.split,
        "notes": test.info.notes,
        "class_names": list(test.info.class_names),
        "class_counts": test.class_counts,
        "train_class_counts": None if train is None else train.class_counts,
        **summarize(results, {k: group.to_dict() for k, group in config.attacks.items()}),
        "diagnostics": diagnostics,
        "corruptions": corruption_setup.summarize(plan, corrupted) if corrupted else None,
        "no_class": _count_no_class(results, corrupted),
        "command": origin.command(),
        "versions": origin.versions(),
        "device": jax.devices()[0].device_kind,
    }
    report = Report(about)
    arrays = {
        "index": test.index,
        "example_ids": test.example_ids,
        "labels": test.labels,
        "clean": results.clean,
        "clean/probability": results.clean_probability,
        "worst": results.worst,
    }
    for label, outcome in results.outcomes.items():
        arrays |= {label: outcome.predictions, f"{label}/probability": outcome.probability}
        if not outcome.counted.all():
            arrays[f"{label}/counted"] = outcome.counted
        arrays |= {f"{label}/{name}": array for name, array in outcome.kept.items()}
        if "perturbation" in outcome.kept:
            # One image of each class, for the pictures of the perturbations.
            rows = np.unique(test.labels, return_index=True)[1]
            arrays |= {"shown/images": test.images[rows], "shown/labels": test.labels[rows]}
    if corrupted:
        arrays |= {f"corruptions/{name}": rows for name, rows in corrupted.predictions.items()}
    if test.files is not None:
        arrays["files"] = test.files.astype(str)
    if processes.is_first():
        write_report(workdir, report, arrays)
        examples.write(
            Path(workdir) / examples.ATTACKED_FILE,
            results,
            index=test.index,
            files=test.files,
            class_names=test.info.class_names,
            predictions=corruption_setup.columns(plan, corrupted) if corrupted else None,
        )
    return report


def _count_no_class(
    results: SuiteResult, corrupted: corruption_setup.Results | None
) -> dict[str, int]:
    """Returns how many answers are of no class, such as NaN, under what; {} if none is."""
    answers = {"clean": results.clean}
    answers |= {k: outcome.predictions[outcome.counted] for k, outcome in results.outcomes.items()}
    counts = {label: np.sum(predictions == NO_CLASS) for label, predictions in answers.items()}
    num_classes = results.num_classes
    for name, matrices in (corrupted.corrupted if corrupted else {}).items():
        counts[name] = np.sum(matrices[..., num_classes:])
    return {label: int(count) for label, count in counts.items() if count}


def _check_step(config: Config, workdir: str, step: int) -> None:
    """Refuses to put an evaluation beside scores of the same weights at a later step.

    Raises:
        ValueError: if the run was scored at a later step: its newest checkpoint is damaged.
    """
    file = Path(workdir) / SCORES_FILE
    scored = read_json(file)
    if scored is None:
        return
    there, here = weights_of(scored), weights_of({"config": config.to_dict(), "step": step})
    if {name for name in here if here[name] != there[name]} == {"step"} and there["step"] > step:
        raise ValueError(
            f"{file}: is of step {there['step']}, and the newest intact checkpoint of step "
            f"{step}; train the run to its end again (--config.task=train), or remove the file"
        )


def _corrupt(
    config: Config,
    plan: corruption_setup.Plan,
    logits_fn: LogitsFn,
    test: Dataset,
    folder: Path,
) -> corruption_setup.Results:
    """Classifies the test set under every corruption and prints the accuracy of each."""

    def ended(name: str, matrix: np.ndarray) -> None:
        right = 100 * (1 - metrics.error_rates(matrix)[0])
        severities = ", ".join(map(str, plan.severities[name]))
        by_severity = " ".join(f"{value:.1f}" for value in right)
        tqdm.write(f"{name}: {by_severity} % correct at severity {severities}")

    chosen = "" if config.corruptions.profile else f", by images of {test.info.image_shape[:2]}"
    print(f"corruptions: the constants of {plan.profile}{chosen}")
    with progress_bar() as progress:
        return corruption_setup.run(
            plan,
            logits_fn,
            prng.named(prng.key(config.seed), "corruptions"),
            test,
            data_dir=config.data_dir,
            batch_size=config.batch_size,
            journal=folder.with_name(f"{folder.name}-corruptions"),
            progress=progress,
            finished=ended,
        )


def _folder(config: Config, workdir: str, model: str) -> Path:
    """Returns the folder of evaluations of this model, with its weights, on this test set."""
    about: dict[str, Any] = {"model": model, "batch_size": config.batch_size}
    about["format"] = journal.FORMAT
    about["test"] = setup.test_identity(config)
    about["versions"] = (rbjax.__version__, jax.__version__)
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    return Path(workdir) / "evaluation" / digest[:12]


def _diagnose(
    config: Config, logits_fn: LogitsFn, test: Dataset, entries: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Looks for a false sense of robustness in the ball of the method, or of the first attack."""
    groups = [config.method, *config.attacks.values()]
    balls = [g for g in groups if g.get("norm") and g.get("epsilon") and g.get("projected", True)]
    if not config.diagnostics or not config.attacks:
        return None
    if not balls:
        print("no check for a false sense of robustness: no attack has a ball with a norm")
        return None
    sources = (e.source for e in entries.values() if isinstance(e, attacks.TransferAttack))
    some = setup.first(test, config.diagnostics)
    ball = {"epsilon": balls[0].epsilon, "norm": balls[0].norm}
    key = prng.named(prng.key(config.seed), "diagnostics")
    findings = diagnose(
        logits_fn,
        key,
        some.images,
        some.labels,
        example_ids=some.example_ids,
        batch_size=config.batch_size,
        source=next(sources, None),
        progress=True,
        **ball,
    )
    print(summary_of(findings, num_examples=some.num_examples))
    return {
        "num_examples": some.num_examples,
        **ball,
        "findings": [finding._asdict() for finding in findings],
    }


def _passes(outcome: Outcome) -> str:
    """Returns the passes that an attack made for each image that it was run on."""
    forwards, backwards, at_most = outcome.passes or Passes(0, 0)
    count = int(np.sum(outcome.counted))
    each = f"{forwards / count:,.0f} forward and {backwards / count:,.0f} backward passes an image"
    return f"at most {each}" if at_most else each


def _line(label: str, results: SuiteResult, test: Dataset) -> str:
    """Returns the line that is printed when an attack has ended."""
    classes = results.class_accuracy(label).value
    lowest = int(np.nanargmin(classes))
    share, low, high = (100 * value for value in results.accuracy(label)[:3])
    parts = [f"{label}: {share:.1f} % ({low:.1f} to {high:.1f}) correct"]
    parts.append(
        f"worst class {printable(test.info.class_names[lowest])} {100 * classes[lowest]:.1f} %"
    )
    if label in results.outcomes:
        crafted_on = results.outcomes[label].details.get("crafted_on")
        parts += [f"crafted on {crafted_on}"] if crafted_on else []
        if results.outcomes[label].passes is not None:
            parts.append(_passes(results.outcomes[label]))
        parts.append(f"{results.outcomes[label].seconds:.1f} s")
    return ", ".join(parts)
