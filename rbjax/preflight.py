"""What a job would do, found out without doing it: `--dry_run` of any job.

The data are read, everything is made, and two steps, or two blocks, are measured on this machine.
Nothing is written.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from rbjax import attack_setup, attacks, corruption_setup, cost, methods, prng, rpr, validation
from rbjax.analysis.evaluation import EXAMPLES_FILE, REPORT_FILE
from rbjax.analysis.examples import ATTACKED_FILE, SCORED_FILE
from rbjax.analysis.robustness import DATAPOINTS_FILE, SCORES_FILE
from rbjax.attacks import Passes
from rbjax.attacks import passes as autoattack
from rbjax.attacks.outcome import counted
from rbjax.attacks.universal.gradient import count_epochs
from rbjax.config import Config
from rbjax.console import printable
from rbjax.corruptions import run_corruptions
from rbjax.cost import Part, Rates, size_of, spoken
from rbjax.data import Dataset, card
from rbjax.data import info as known_info
from rbjax.paths import expanded
from rbjax.sheet import Sheet
from rbjax.training import beginning, given, run_directory, setup
from rbjax.training.step import Recipe
from rbjax.typing import LogitsFn

_FEWEST = 10
"""Test images of a class, below which its accuracy says little."""
_SHOWN = 30
"""Classes that have a row of their own."""
_SCORED, _DRAWS = 512, 2
"""Images and draws that are scored to time a pass."""


class Measured(NamedTuple):
    """What a job would read, take and write."""

    data: list[str]
    """What is read, in a line; then the sizes of the classes."""
    parts: list[Part]
    files: dict[str, int | None]
    """What is written into the run directory, and the bytes of what is large."""


def preflight(config: Config, workdir: str) -> str:
    """Returns what a job would read, make, take and write, and makes none of it.

    Args:
        config: a resolved config.
        workdir: the run directory, which stays as it is.

    Returns:
        Data, shapes and classes, steps and passes, time and memory, files; lines.

    Raises:
        ValueError: if data are missing or the job would refuse them, its config or the directory.
    """
    data, parts, files = measure(config, workdir)
    lines = [f"dry run of {config.task}: nothing is written", *data]
    return "\n".join([*lines, "", cost.times(parts), cost.memory(), *_written(workdir, files)])


def measure(config: Config, workdir: str, *, passes: int | None = None) -> Measured:
    """Returns what a job would read, take and write, and does none of it.

    Args:
        config: as for `preflight`, as is the run directory.
        workdir: of the job.
        passes: forward passes of one image that follow training, in place of evaluation and
            scoring; None: those.

    Raises:
        ValueError: as `preflight`.
    """
    _check_found(config)
    test = None if _scores_alone(config, "train") else setup.load_test(config)
    has_train = "train" in setup.info(config).num_examples
    train, held_out = setup.load_train(config) if has_train else (None, None)
    data = _data(config, train, held_out, test)
    logits_fn, parts, files = _model(config, workdir, train, held_out)
    if passes is not None and train is not None:
        rates = cost.measure_passes(logits_fn, train, batch_size=config.batch_size)
        parts.append(Part("what follows", f"{passes:,} passes", passes * rates.forward))
        return Measured(data, parts, files)
    scored = train if config.score.split == "train" else test
    if config.task in ("train", "evaluate"):
        assert test is not None
        parts += _evaluation(config, logits_fn, train, held_out, test)
        files |= dict.fromkeys(("evaluation/", REPORT_FILE, EXAMPLES_FILE, ATTACKED_FILE))
    if config.task in ("train", "score") and config.score.max_steps:
        assert scored is not None
        parts.append(_scoring(config, logits_fn, scored))
        files |= dict.fromkeys(("scoring/", SCORES_FILE, DATAPOINTS_FILE, SCORED_FILE))
    files |= dict.fromkeys(("report.html", "classwise.csv", "plots (*.png)"))
    return Measured(data, parts, files)


def _scores_alone(config: Config, split: str) -> bool:
    return config.task == "score" and config.score.split == split


def _check_found(config: Config) -> None:
    """Refuses a dataset that is not there: reading it would download and write it.

    Args:
        config: a resolved config.

    Raises:
        ValueError: saying how to get it.
    """
    if setup.own_data(config) is None:
        about = known_info(config.dataset.name)
        if not card.found(about, config.data_dir):
            raise ValueError(
                f"dataset.name = {config.dataset.name!r}: is not on this machine, and a dry run "
                f"writes nothing; `rbjax data {config.dataset.name} --prepare` gets it"
            )


# ------------------------------------------------------------------ data


def _data(
    config: Config, train: Dataset | None, held_out: Dataset | None, test: Dataset | None
) -> list[str]:
    """Returns what is read, and the sizes of the classes."""
    info, own = setup.info(config), setup.own_data(config)
    if own is not None:
        where = own.path or own.kind
    else:
        where = card.found(known_info(config.dataset.name), config.data_dir)
    sets = {"train": train, "validation": held_out, "test": test}
    there = {name: dataset for name, dataset in sets.items() if dataset is not None}
    shape = " x ".join(map(str, info.image_shape))
    sizes = ", ".join(f"{dataset.num_examples:,} {name}" for name, dataset in there.items())
    lines = [
        f"data: {printable(info.name)}, {shape}, {info.num_classes} classes: {sizes} ({where})"
    ]
    counts = {name: dataset.class_counts for name, dataset in there.items()}
    if info.num_classes <= _SHOWN:
        columns = {"class": list(map(str, info.class_names))}
        lines.append(repr(Sheet("", {**columns, **{k: v.tolist() for k, v in counts.items()}})))
    else:
        lines += [f"{k}: {v.min():,} to {v.max():,} images of a class" for k, v in counts.items()]
    return [*lines, *_cautions(info.class_names, counts)]


def _cautions(class_names: Sequence[str], counts: Mapping[str, np.ndarray]) -> list[str]:
    """Returns a line for classes that are too small to be judged, or are not learnt at all."""
    lines = []
    for name, fewest, words in (
        ("test", _FEWEST, f"fewer than {_FEWEST} test images, whose accuracy says little"),
        ("train", 1, "no training images"),
    ):
        few = np.flatnonzero(counts[name] < fewest) if name in counts else np.array([], int)
        if few.size:
            names = [printable(str(class_names[i])) for i in few[:10]]
            more = f" and {few.size - 10} more" if few.size > 10 else ""
            lines.append(f"caution: {words}: {', '.join(names)}{more}")
    return lines


# ------------------------------------------------------------------ training


def _model(
    config: Config, workdir: str, train: Dataset | None, held_out: Dataset | None
) -> tuple[LogitsFn, list[Part], dict[str, int | None]]:
    """Returns the model that is judged, the training that comes first, and what that writes.

    The model has the weights that are there, or those before the first step.
    """
    model = setup.create_model(config, setup.info(config))
    trains = config.task in ("train", "score") and not given.are_given(config)
    if not trains or train is None:
        variables = setup.trained_variables(config, workdir, model)[1]
        model = setup.evaluated_model(config, workdir, model)
        return jax.tree_util.Partial(model.apply, jax.device_put(variables)), [], {}
    method = methods.create(config.method.name, **setup.options(config, "method"))
    recipe, state = beginning.begin(config, model, method, jax.device_count(), train)
    checkpoints = setup.checkpoints(workdir, keep=config.checkpoint.keep)
    beginning.check_directory(config, method, recipe, workdir, checkpoints)
    done, steps = max(checkpoints.steps(), default=0), recipe.steps_per_epoch * config.num_epochs
    left = max(steps - done, 0)
    size = f"{counted('num_steps', left)} of {config.batch_size} images"
    each, flops = cost.measure_step(config, recipe, state, train) if left else (0.0, 0.0)
    since = f", from step {done:,} of {steps:,}" if done else ""
    may_stop = config.schedule.early_stop != "none"
    size = f"{size}, {spoken(each)} each{since}"
    parts = [Part("training", size, left * each, may_stop, left, left * flops)]
    logits_fn = jax.tree_util.Partial(model.apply, jax.device_put(state.variables))
    if held_out is not None and left:
        epochs = math.ceil(left / recipe.steps_per_epoch)
        part = _validation(config, method, logits_fn, held_out, recipe, epochs)
        parts.append(part._replace(is_most=may_stop))
    for name, hook in {
        "prepares": method.prepare,
        "does between epochs": method.after_epoch or method.average or method.guard,
    }.items():
        if hook is not None:
            parts.append(Part(f"what the method {name}", config.method.name, None))
    names = ["config.json", "data.json", "metrics.jsonl", "metrics.csv"]
    if config.writers.name != "none":
        names.append(f"the log of {config.writers.name}")
    keep, whole = config.checkpoint.keep, sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    kept = f"checkpoints/ ({keep} of {size_of(whole)})"
    if held_out is not None:  # the best epoch's weights, and one more while they are written
        best = sum(leaf.nbytes for leaf in jax.tree.leaves(state.variables))
        kept = f"{kept[:-1]}, {keep + 1} of {size_of(best)} in best/)"
        whole += best
    return logits_fn, parts, {**dict.fromkeys(names), kept: (keep + 1) * whole}


def _validation(
    config: Config,
    method: methods.Method,
    logits_fn: LogitsFn,
    held_out: Dataset,
    recipe: Recipe,
    epochs: int,
) -> Part:
    """Returns the validation of each epoch."""
    images = recipe.steps_per_epoch * config.batch_size
    made = validation.create(config, method, held_out, images_per_epoch=images)
    passes = Passes(held_out.num_examples, 0)
    if made.attack is not None and made.attacked is not None:
        passes = passes.plus(_passes(made.attack, made.attacked, made.attacked.num_examples))
    rates = cost.measure_passes(logits_fn, held_out, batch_size=config.batch_size)
    size = f"{epochs:,} times {held_out.num_examples:,} images"
    return Part("validation", size, epochs * rates.seconds(passes))


# ------------------------------------------------------------------ evaluation and scoring


def _evaluation(
    config: Config,
    logits_fn: LogitsFn,
    train: Dataset | None,
    held_out: Dataset | None,
    test: Dataset,
) -> list[Part]:
    """Returns the attacks and the corruptions, at the rate of two measured blocks."""
    made = attack_setup.create(config, train, test, held_out)
    rates = cost.measure_passes(logits_fn, test, batch_size=config.batch_size)
    num_images = test.num_examples
    parts = [Part("clean", f"{num_images:,} images", rates.seconds(Passes(num_images, 0)))]
    for label, entry in made.attacks.items():
        count = int(made.counted[label].sum()) if label in made.counted else num_images
        passes = _passes_of(config, entry, test, count, targeted=label in made.targets)
        if passes is None:
            parts.append(Part(label, f"{count:,} images, as many passes as they need", None))
            continue
        forwards, backwards = (n / max(count, 1) for n in passes[:2])
        size = f"{count:,} images, {forwards:,.0f} passes forward and {backwards:,.0f} back each"
        parts.append(Part(label, size, rates.seconds(passes), passes.at_most))
    if config.diagnostics and config.attacks:
        parts.append(Part("checks for masked gradients", f"{config.diagnostics} images", None))
    plan = corruption_setup.create(config, test.info)
    return [*parts, *([_corruptions(config, plan, logits_fn, test, rates)] if plan.names else [])]


def _passes_of(
    config: Config, entry: Any, test: Dataset, count: int, *, targeted: bool
) -> Passes | None:
    """Returns the passes of an attack, its crafting among them; None: not known beforehand."""
    info = test.info
    if isinstance(entry, attacks.AutoAttack):
        most = autoattack.most(entry.version, entry.norm, info.image_shape, info.num_classes)
        return most.times(count)
    if not isinstance(entry, attack_setup.Universal):
        return None if hasattr(entry, "run") else _passes(entry, test, count, targeted=targeted)
    sizes = {
        attacks.craft_universal: entry.images.num_examples,
        attacks.craft_universal_classwise: int(entry.images.class_counts.max()),
    }
    if entry.craft not in sizes:  # each image has as many steps as it needs
        return None
    options = dict(entry.options)
    epochs = count_epochs(options.get("num_epochs"), sizes[entry.craft], config.batch_size)
    crafting = epochs * entry.images.num_examples
    return Passes(crafting + 2 * count, crafting)


def _passes(entry: Any, dataset: Dataset, count: int, *, targeted: bool = False) -> Any:
    return attacks.count_passes(
        entry,
        image_shape=dataset.info.image_shape,
        num_classes=dataset.info.num_classes,
        num_images=count,
        targeted=targeted,
    )


def _corruptions(
    config: Config, plan: corruption_setup.Plan, logits_fn: LogitsFn, test: Dataset, rates: Rates
) -> Part:
    """Returns the evaluation under corruptions, at the rate of two blocks of each."""
    passes = test.num_examples * sum(len(levels) for levels in plan.severities.values())
    size = f"{len(plan.names)} of {test.num_examples:,} images, {passes:,} passes"
    if plan.archive is not None:
        return Part("corruptions", f"{size}, of {plan.archive}", passes * rates.forward)
    block = min(config.batch_size, test.num_examples)
    first = {name: plan.severities[name][:1] for name in plan.names}

    def seconds(num_blocks: int) -> float:
        some = test.take(np.arange(num_blocks * block) % test.num_examples)
        started = time.perf_counter()
        run_corruptions(
            logits_fn,
            prng.key(0),
            np.asarray(some.images),
            some.labels,
            profile=plan.profile,
            severities=first,
            options=plan.options,
            batch_size=block,
        )
        return time.perf_counter() - started

    seconds(1)  # compiles
    return Part("corruptions", size, seconds(2) / (2 * block * (len(first) + 1)) * passes)


def _scoring(config: Config, logits_fn: LogitsFn, dataset: Dataset) -> Part:
    """Returns the scoring, at most, at the rate of some images' first draws."""
    some = setup.first(dataset, min(_SCORED, dataset.num_examples))
    perturbation, images = setup.create_perturbation(config), np.asarray(some.images[:])

    def rate() -> float:
        started = time.perf_counter()
        scores = rpr.score(
            logits_fn,
            prng.key(0),
            images,
            some.labels,
            max_steps=_DRAWS,
            perturbation=perturbation,
            batch_size=config.score.batch_size,
        )
        return (time.perf_counter() - started) / scores.forward_passes_run

    rate()  # compiles
    most = dataset.num_examples * config.score.max_steps * config.score.repetitions
    size = f"{dataset.num_examples:,} images, up to {config.score.max_steps:,} draws"
    if config.score.repetitions > 1:
        size += f", {config.score.repetitions} times"
    return Part("RPR", size, most * rate(), is_most=True)


# ------------------------------------------------------------------ what it comes to


def _written(workdir: str, files: Mapping[str, int | None]) -> list[str]:
    """Returns what would be written where, and what is there."""
    folder = expanded(workdir, field="workdir")
    there = "goes on there" if run_directory.is_run(folder) else "would be made"
    lines = [f"would be written in {workdir} ({there}): {', '.join(files)}"]
    above: Path = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free, needed = shutil.disk_usage(above).free, sum(filter(None, files.values()))
    if free < needed:
        lines.append(
            f"caution: {size_of(free)} are free in {above}, checkpoints take {size_of(needed)}"
        )
    return lines
