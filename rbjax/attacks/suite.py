"""A dataset under several attacks, each alone on every example, and what is right under all.

What is drawn and what is judged belongs to an example, so that results depend on neither the blocks
nor the order; finished blocks are kept where a journal is asked for.
"""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import atomic, prng
from rbjax import journal as journals
from rbjax.attacks.attack import CompiledAttack, clean_keys, verdict_keys
from rbjax.attacks.counting import Passes, count_passes
from rbjax.attacks.jobs import Driver, Entry, Job, jobs_of
from rbjax.attacks.outcome import Outcome, SuiteResult, setting_of
from rbjax.attacks.transfer import TransferAttack
from rbjax.blocks import (
    Block,
    Blocks,
    Examples,
    Placement,
    block_size,
    check_examples,
    sum_over_processes,
)
from rbjax.classifier import Classifier, Model, answer, as_classifier, keys_of
from rbjax.inputs import to_float
from rbjax.options import named
from rbjax.progress import Progress, ShowProgress, teller
from rbjax.typing import Array, Key
from rbjax.verdicts import Verdicts, verdicts


@named
def run_attacks(
    logits_fn: Model,
    key: Key,
    images: Any,
    labels: np.ndarray | Array,
    *,
    attacks: Mapping[str, Entry],
    targets: Mapping[str, np.ndarray | Array] | None = None,
    counted: Mapping[str, np.ndarray | Array] | None = None,
    example_ids: np.ndarray | Array | None = None,
    batch_size: int | None = None,
    devices: Sequence[Any] | None = None,
    keep_images: bool = False,
    journal: str | Path | None = None,
    progress: ShowProgress = None,
    finished: Callable[[str, SuiteResult], None] | None = None,
) -> SuiteResult:
    """Runs attacks on a dataset, each of them on every example, and keeps what became of each.

    The keys of an attack are fold_in(named(key, label), example_id), so that a result depends on
    neither the batch size, the number of devices, the order of the examples nor the other attacks,
    up to what float32 gradients move with the shape of a batch. With several processes
    (`jax.distributed`) each is given all images, attacks its share of the blocks, and returns all
    results.

    Args:
        logits_fn: images -> logits (B, K), or a randomised classifier, as `randomized` makes it.
            With `Partial(model.apply, variables)` new weights do not compile again.
        key: one key.
        images: (N, H, W, C) uint8, or floating in [0, 1]; an array, a memory map, or whatever is
            indexed by row numbers. They are read block by block.
        labels: (N,) integers, the true classes.
        attacks: by labels of one's own, as `attacks.create` makes them; or drivers.
        targets: by label, (N,) integers, the classes that images are to be taken for; an image
            whose target is its own class does not count under that attack.
        counted: by label, (N,) bool, which images an attack is run on; others do not count under
            it, and for the pointwise worst they are as they are without it.
        example_ids: (N,) integers; None: the row numbers.
        batch_size: images attacked at once, over all devices; None: by the platform.
        devices: the `jax.Device`s to use; None: all local ones.
        keep_images: whether to keep the attacked images of every attack, float32 in memory; of a
            driver, if its `run` has a parameter of this name.
        journal: a folder in which finished blocks, and finished drivers, are kept. Repeat the
            call with the same folder to resume; other attacks may be among those of the new call.
            A model is known by what it computes of a few of the images, an attack by its options,
            what is of one's own in it by what that computes.
        progress: shown if True; a function is called after each block; see `progress_bar`.
        finished: called with "clean" and with the label of each attack as it ends, and the results
            so far.

    Returns:
        Predictions, their probabilities and flags of every example, clean and under each attack.

    Raises:
        ValueError: for wrong shapes or values, or another call's journal.

    Example:
        >>> images = np.array([0.2, 0.4, 0.9], np.float32).reshape(3, 1, 1, 1)  # of one pixel
        >>> labels = np.array([0, 0, 1])  # bright or not
        >>> def bright(x):
        ...     return jnp.stack([0.5 - x[:, 0, 0, 0], x[:, 0, 0, 0] - 0.5], axis=1)
        ...
        >>> attacked = rbjax.attacks.run_attacks(
        ...     bright, jax.random.key(0), images, labels,
        ...     attacks={"fgsm": rbjax.attacks.fgsm(epsilon=0.2)},
        ... )
        >>> attacked.outcomes["fgsm"].correct.tolist(), round(attacked.accuracy("fgsm").value, 3)
        ([True, False, True], 0.667)
    """
    key = prng.check(key)
    model = as_classifier(logits_fn)
    examples = check_examples(
        images,
        labels,
        count_classes=model.count_classes,
        example_ids=example_ids,
    )
    jobs = jobs_of(attacks, targets or {}, counted or {}, examples.labels, examples.num_classes)
    placement = Placement(devices)
    size = block_size(len(examples.labels), batch_size, placement, journal)
    blocks = Blocks(examples, placement, size, tell=teller(progress))
    work = _Work(
        logits_fn=logits_fn,
        model=model.placed(placement.whole),
        blocks=blocks.kept_in(journal, key, call="attacks", model=logits_fn),
        options={"batch_size": batch_size, "devices": devices},
        keep_images=keep_images,
    )
    outcomes: dict[str, Outcome] = {}
    clean = work.blocks.map(_classifier(work, key), task="clean", name="clean", fields=_SAID)
    result = SuiteResult(
        labels=examples.labels,
        num_classes=examples.num_classes,
        clean=clean["predictions"],
        clean_probability=clean["probability"],
        outcomes=outcomes,
    )
    if finished is not None:
        finished("clean", result)
    for label, job in jobs.items():
        outcomes[label] = _run(work, label, job, prng.named(key, label), result)
        if finished is not None:
            finished(label, result)
    return result


class _Work(NamedTuple):
    """What all attacks of a call have in common."""

    logits_fn: Model
    """As it was given: for drivers."""
    model: Classifier
    blocks: Blocks
    options: dict[str, Any]
    """Of drivers."""
    keep_images: bool


def _run(work: _Work, label: str, job: Job, key: Key, clean: SuiteResult) -> Outcome:
    """Runs one attack, or reads what it did."""
    began = time.perf_counter()
    about = _identity(work.blocks.examples, job)
    mark = journals.digest(label, about, job.rows, 0 if job.targets is None else job.targets)
    name = f"{re.sub(r'[^A-Za-z0-9_.]+', '_', label)}-{mark}"
    predictions, probability = clean.clean.copy(), clean.clean_probability.copy()
    details, kept = {}, {}
    if isinstance(job.entry, Driver):
        found, details, kept = _drive(work, label, name, job, key)
        passes = Passes.said(details)
    else:
        fields = (*_SAID, *(("images",) if work.keep_images else ()))
        attack = _attacker(work, job, key)
        found = work.blocks.map(attack, job.rows, task=label, name=name, fields=fields)
        passes = count_passes(
            job.entry,
            image_shape=work.blocks.examples.images.shape[1:],
            num_classes=work.blocks.examples.num_classes,
            num_images=len(job.rows),
            num_samples=work.model.num_samples,
            targeted=job.targets is not None,
        )
    predictions[job.rows], probability[job.rows] = found["predictions"], found["probability"]
    counted = np.zeros(len(predictions), bool)
    counted[job.rows] = True
    return Outcome(
        predictions=predictions,
        correct=predictions == work.blocks.examples.labels,
        counted=counted,
        targets=job.targets,
        seconds=time.perf_counter() - began,
        passes=passes,
        details=details,
        kept=kept,
        setting=setting_of(job.entry),
        probability=probability,
        images=_among_all(work.blocks.examples, job.rows, found.get("images")),
    )


def _among_all(
    examples: Examples, rows: np.ndarray, attacked: np.ndarray | None
) -> np.ndarray | None:
    """Returns all images, (N, H, W, C) float32, those of some rows attacked; None without any."""
    if attacked is None or len(rows) == len(examples.labels):
        return attacked
    images = np.array(to_float(np.asarray(examples.images[:])))
    images[rows] = attacked
    return images


def _identity(examples: Examples, job: Job) -> str:
    """Returns what a journal knows an attack by: a person's by what it does of a linear model."""
    attack: Any = job.entry
    images = jax.ShapeDtypeStruct((2, *examples.images.shape[1:]), jnp.float32)
    size = int(np.prod(images.shape[1:]))
    weights = np.linspace(-1.0, 1.0, size * examples.num_classes, dtype=np.float32)
    weights = weights.reshape(size, examples.num_classes)

    def linear(images: Array) -> Array:
        return images.reshape(len(images), -1) @ weights

    def call(images: Array, labels: Array) -> Any:
        keys = prng.split(prng.key(0), len(images))
        targets = None if job.targets is None else labels
        result = attack(as_classifier(linear), keys, images, labels, targets=targets)
        return result.images, result.predictions

    labels = jax.ShapeDtypeStruct((2,), jnp.int32)
    return journals.function_identity(attack, call, images, labels)


Ask = Callable[[Block, Array], Mapping[str, Any]]
"""(block, images (B, H, W, C) on the devices) -> predictions and their probabilities (B,)."""
_SAID = Verdicts._fields


def _attacker(work: _Work, job: Job, key: Key) -> Ask:
    """Returns what attacks a block; the model's verdict on what it returns is what counts."""
    attack: Any = job.entry
    examples, place = work.blocks.examples, work.blocks.placement
    if isinstance(attack, TransferAttack):
        attack = place.replicate(attack)

    def ask(block: Block, images: Array) -> Mapping[str, Any]:
        rows = block.padded
        ids, labels = place.split((examples.example_ids[rows], examples.labels[rows]))
        targets = None if job.targets is None else place.split(job.targets[rows])
        keys = keys_of(key, ids)
        result = attack(work.model, keys, images, labels, targets=targets)
        kept = {"images": result.images} if work.keep_images else {}
        if isinstance(attack, CompiledAttack | TransferAttack):  # whose verdict that is
            return {**verdicts(result.logits)._asdict(), **kept}
        num_broken = int(np.sum(~np.isfinite(np.sum(result.images, axis=(1, 2, 3)))))
        if num_broken:
            raise ValueError(
                f"attacks[{job.label!r}] returns {num_broken} of {block.size} images with values "
                "that are not finite; it must return images in [0, 1]"
            )
        return {**verdicts(answer(work.model, verdict_keys(keys), result.images))._asdict(), **kept}

    return ask


def _classifier(work: _Work, key: Key) -> Ask:
    """Returns what classifies a block of images as they are."""
    stream = prng.named(key, "clean")

    def ask(block: Block, images: Array) -> Mapping[str, Any]:
        ids = work.blocks.placement.split(work.blocks.examples.example_ids[block.padded])
        keys = keys_of(stream, ids)
        keys = clean_keys(keys) if work.model.is_random else keys
        return verdicts(answer(work.model, keys, images))._asdict()

    return ask


def _drive(
    work: _Work, label: str, name: str, job: Job, key: Key
) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, np.ndarray]]:
    """Returns what a driver says of each of its rows, its other results and what is to be kept."""
    file, journal = f"{name}-block-000000", work.blocks.journal
    wanted = {"probability", *(("images",) if _keeps(work, job) else ())}
    stored = None if journal is None else journal.read_block(file, job.rows)
    stored = None if stored is None or not wanted <= set(stored) else stored
    # A driver may wait for all processes, so that it is run by all or by none.
    is_missing = np.zeros(jax.process_count(), np.int32)
    is_missing[jax.process_index()] = stored is None
    if sum_over_processes(is_missing).any() or stored is None:
        stored = _driven(work, label, name, job, key)
        if journal is not None:
            journal.write_block(file, job.rows, **stored)
    details = json.loads(str(stored["details"]))
    kept = {k.removeprefix("kept/"): v for k, v in stored.items() if k.startswith("kept/")}
    return {k: stored[k] for k in (*_SAID, "images") if k in stored}, details, kept


def _keeps(work: _Work, job: Job) -> bool:
    """Returns whether a driver is asked for its images."""
    assert isinstance(job.entry, Driver)
    return work.keep_images and "keep_images" in signature(job.entry.run).parameters


def _driven(work: _Work, label: str, name: str, job: Job, key: Key) -> dict[str, np.ndarray]:
    """Runs a driver and returns what there is to write down."""
    assert isinstance(job.entry, Driver)
    examples, journal = work.blocks.examples, work.blocks.journal
    rows, options = job.rows, dict(work.options)
    if job.targets is not None:
        options["targets"] = job.targets[rows]
    if "journal" in signature(job.entry.run).parameters and journal is not None:
        options["journal"] = journal.folder / f"{name}-block-parts"

    if _keeps(work, job):
        options["keep_images"] = True

    def relay(state: Progress) -> None:
        if work.blocks.tell is not None:
            work.blocks.tell(state._replace(task=f"{label}: {state.task}"))

    is_whole = len(rows) == len(examples.labels)
    result = job.entry.run(
        work.logits_fn,
        key,
        examples.images if is_whole else examples.images[rows],
        examples.labels[rows],
        example_ids=examples.example_ids[rows],
        progress=relay,
        **options,
    )
    predictions = np.asarray(result.predictions)
    if predictions.shape != rows.shape:
        raise ValueError(
            f"attacks[{label!r}] gives predictions of shape {predictions.shape}; they must be "
            f"{rows.shape}, one an image"
        )
    fields = result._asdict() if hasattr(result, "_asdict") else {}
    fields = dict(vars(result)) if dataclasses.is_dataclass(result) else fields
    kept, probability = fields.pop("kept", {}), fields.get("probability")
    details = {k: v for k, v in fields.items() if not (v is None or hasattr(v, "__array__"))}
    probability = np.full(rows.shape, np.nan) if probability is None else np.asarray(probability)
    return {
        "predictions": predictions.astype(np.int32),
        "probability": probability.astype(np.float32),
        **({"images": np.asarray(fields["images"])} if _keeps(work, job) else {}),
        "details": np.asarray(json.dumps(atomic.plain(details))),
        **{f"kept/{k}": np.asarray(v) for k, v in kept.items()},
    }
