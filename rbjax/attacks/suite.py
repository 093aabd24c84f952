"""A dataset under several attacks, each alone on every example, and what is right under all.

The loop runs on the host over blocks of one size, each split over the devices. What draws
and what is judged belongs to an example, so that results depend on neither the blocks nor the
order; finished blocks are kept where a journal is asked for.
"""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import atomic, prng
from rbjax import journal as journals
from rbjax.attacks.attack import clean_keys, count_classes
from rbjax.attacks.classifier import Model, as_model, classifier
from rbjax.attacks.outcome import Outcome, SuiteResult
from rbjax.attacks.progress import Progress
from rbjax.attacks.transfer import TransferAttack
from rbjax.batches import Batches
from rbjax.inputs import check_dataset, check_labels
from rbjax.tables import nearest
from rbjax.typing import Array, AttackResult, Key

RESERVED = ("clean", "worst")
"""What no attack can be called."""


@runtime_checkable
class Driver(Protocol):
    """An attack that goes through a whole dataset by itself, such as AutoAttack."""

    def run(
        self,
        logits_fn: Model,
        key: Key,
        images: Any,
        labels: Any,
        *,
        example_ids: Any,
        batch_size: int | None,
        devices: Sequence[Any] | None,
        progress: Callable[[Any], None] | None,
    ) -> Any:
        """Attacks N images.

        Args:
            logits_fn: the model.
            key: one key.
            images: (N, H, W, C) uint8, or floating in [0, 1].
            labels: (N,) int32.
            example_ids: (N,) int32.
            batch_size: images at once.
            devices: to use.
            progress: called now and then with what has the fields of `Progress`.

        Returns:
            A NamedTuple whose `predictions` are (N,) int32, the classes of the attacked images; its
            numbers and words are kept too, and the arrays by name in a field `kept`, if it has one.

        A driver that has a parameter `targets` can be given (N,) classes to be taken for, and one
        that has `journal` gets a folder of its own in which it can go on from where it was.
        """
        ...


Entry = Callable[..., AttackResult] | Driver
"""What can be run: a compiled attack, or a driver."""


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
    journal: str | Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    finished: Callable[[str, SuiteResult], None] | None = None,
) -> SuiteResult:
    """Runs attacks on a dataset, each of them on every example, and keeps what became of each.

    The keys of an attack are fold_in(named(key, label), example_id), so that a result depends on
    neither the batch size, the number of devices, the order of the examples nor the other attacks,
    up to what float32 gradients move with the shape of a batch.

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
        journal: a folder in which finished blocks, and finished drivers, are kept. The same call
            with the same folder goes on from there; it may have other attacks, which find their
            own. A model is known by what it computes of a few of the images, an attack by its
            options, a loss of one's own by its name.
        progress: called after each block; see `progress_bar`.
        finished: called with "clean" and with the label of each attack as it ends, and what there
            is until then.

    Returns:
        Predictions and flags of every example, clean and under each attack.

    Raises:
        ValueError: for wrong shapes or values, or another call's journal.
    """
    images = np.asarray(images) if isinstance(images, jax.Array | list) else images
    labels = np.asarray(labels)
    ids = np.arange(len(labels)) if example_ids is None else np.asarray(example_ids)
    prng.check_one(key)
    count = functools.partial(count_classes, logits_fn)
    num_classes = check_dataset(images, labels, count_classes=count, example_ids=ids)
    jobs = _jobs(attacks, targets or {}, counted or {}, labels, num_classes)
    batches = Batches(len(labels), batch_size, devices)
    folder = journals.claim(journal, lambda: batches.describe(key, images, labels, ids, logits_fn))
    work = _Work(
        logits_fn=batches.replicate(as_model(logits_fn)),
        images=images,
        labels=labels.astype(np.int32),
        example_ids=ids.astype(np.int32),
        batches=batches,
        options={"batch_size": batch_size, "devices": devices},
        journal=journals.Journal(folder),
        tell=progress or (lambda _: None),
    )
    outcomes: dict[str, Outcome] = {}
    result = SuiteResult(work.labels, num_classes, _classify(work, key), outcomes)
    ended = finished or (lambda *_: None)
    ended("clean", result)
    for label, job in jobs.items():
        outcomes[label] = _run(work, label, job, prng.named(key, label), result.clean)
        ended(label, result)
    return result


class _Work(NamedTuple):
    """What all attacks of a call have in common."""

    logits_fn: Model
    images: Any
    labels: np.ndarray
    example_ids: np.ndarray
    batches: Batches
    options: dict[str, Any]
    """Of drivers."""
    journal: journals.Journal
    tell: Callable[[Progress], None]


class _Job(NamedTuple):
    """One attack."""

    entry: Entry
    rows: np.ndarray
    """The images it is run on, ascending."""
    targets: np.ndarray | None
    """(N,) int32."""


def _run(work: _Work, label: str, job: _Job, key: Key, clean: np.ndarray) -> Outcome:
    """Runs one attack, or reads what it did."""
    began = time.perf_counter()
    about = journals.identity(job.entry)
    mark = journals.digest(label, about, job.rows, 0 if job.targets is None else job.targets)
    name = f"{re.sub(r'[^A-Za-z0-9_.]+', '_', label)}-{mark}"
    predictions, details, kept = clean.copy(), {}, {}
    if isinstance(job.entry, Driver):
        predictions[job.rows], details, kept = _drive(work, label, name, job, key)
    elif len(job.rows):
        predictions[job.rows] = _in_blocks(work, label, name, job.rows, _attacker(work, job, key))
    counted = np.zeros(len(clean), bool)
    counted[job.rows] = True
    seconds = time.perf_counter() - began
    correct = predictions == work.labels
    return Outcome(predictions, correct, counted, job.targets, seconds, details, kept)


Ask = Callable[[np.ndarray, Array], Array]
"""(rows (B,), images (B, H, W, C)) -> predictions (B,), images being on the devices."""


def _attacker(work: _Work, job: _Job, key: Key) -> Ask:
    """Returns what attacks a block; its own verdict on what it returns is what counts."""
    attack: Any = job.entry
    if isinstance(attack, TransferAttack):
        attack = work.batches.replicate(attack)

    def ask(rows: np.ndarray, images: Array) -> Array:
        ids, labels = work.batches.place((work.example_ids[rows], work.labels[rows]))
        targets = None if job.targets is None else work.batches.place(job.targets[rows])
        keys = _keys(key, ids)
        return attack(work.logits_fn, keys, images, labels, targets=targets).predictions

    return ask


def _classify(work: _Work, key: Key) -> np.ndarray:
    """Returns the classes of the images as they are, (N,) int32."""
    model = as_model(work.logits_fn)

    def ask(rows: np.ndarray, images: Array) -> Array:
        keys = _keys(prng.named(key, "clean"), work.batches.place(work.example_ids[rows]))
        return _classes(model, keys, images)

    return _in_blocks(work, "clean", "clean", np.arange(len(work.labels)), ask)


def _in_blocks(work: _Work, label: str, name: str, rows: np.ndarray, ask: Ask) -> np.ndarray:
    """Returns the predictions on some rows, block by block; finished blocks are read."""
    predictions, start, num_robust = np.zeros(len(rows), np.int32), 0, 0
    work.tell(Progress(label, 0, len(rows), 0))
    size = work.batches.size
    # All of one size: another one would be compiled for the last block alone.
    for number, own in enumerate(rows[i : i + size] for i in range(0, len(rows), size)):
        file = f"{name}-block-{number:06d}"
        found = work.journal.read_block(file)
        if found is None or found["predictions"].shape != own.shape:
            answers = np.asarray(ask(*work.batches.block(work.images, own)))
            found = {"predictions": answers[: len(own)]}
            work.journal.write_block(file, **found)
        predictions[start : start + len(own)] = found["predictions"]
        num_robust += int(np.sum(found["predictions"] == work.labels[own]))
        start += len(own)
        work.tell(Progress(label, start, len(rows), num_robust))
    return predictions


def _drive(
    work: _Work, label: str, name: str, job: _Job, key: Key
) -> tuple[np.ndarray, dict[str, Any], dict[str, np.ndarray]]:
    """Returns a driver's predictions on its rows, what else it says and what is to be kept."""
    file = f"{name}-block-000000"
    found = work.journal.read_block(file)
    if found is None:
        found = _driven(work, label, name, job, key)
        work.journal.write_block(file, **found)
    details = json.loads(str(found["details"]))
    kept = {k.removeprefix("kept/"): v for k, v in found.items() if k.startswith("kept/")}
    return found["predictions"], details, kept


def _driven(work: _Work, label: str, name: str, job: _Job, key: Key) -> dict[str, np.ndarray]:
    """Runs a driver and returns what there is to write down."""
    assert isinstance(job.entry, Driver)
    rows, options, known = job.rows, dict(work.options), signature(job.entry.run).parameters
    if job.targets is not None:
        options["targets"] = job.targets[rows]
    if "journal" in known and work.journal.folder is not None:
        options["journal"] = work.journal.folder / f"{name}-block-parts"

    def relay(told: Any) -> None:
        state = Progress(f"{label}: {told.attack}", told.done, told.of, told.num_robust)
        work.tell(state)

    whole = len(rows) == len(work.labels)
    result = job.entry.run(
        work.logits_fn,
        key,
        work.images if whole else work.images[rows],
        work.labels[rows],
        example_ids=work.example_ids[rows],
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
    kept = fields.pop("kept", {})
    details = {k: v for k, v in fields.items() if not hasattr(v, "__array__")}
    return {
        "predictions": predictions.astype(np.int32),
        "details": np.asarray(json.dumps(atomic.plain(details))),
        **{f"kept/{k}": np.asarray(v) for k, v in kept.items()},
    }


_keys = jax.jit(prng.per_example)


@jax.jit
def _classes(model: Any, keys: Key, images: Array) -> Array:
    logits = classifier(model, images).logits(clean_keys(keys), images)
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def _jobs(
    attacks: Mapping[str, Entry],
    targets: Mapping[str, Any],
    counted: Mapping[str, Any],
    labels: np.ndarray,
    num_classes: int,
) -> dict[str, _Job]:
    """Returns what is to be run; raises a ValueError for what is wrong with it."""
    for field, given in (("targets", targets), ("counted", counted)):
        for label in given:
            if label not in attacks:
                raise ValueError(
                    f"{field} names {label!r}; allowed: {', '.join(attacks)}"
                    f"{nearest(label, attacks)}"
                )
    jobs = {}
    for label, entry in attacks.items():
        _check_entry(label, entry, aimed=label in targets)
        rows = np.asarray(counted.get(label, np.ones(len(labels), bool)))
        if rows.shape != labels.shape or rows.dtype != bool:
            raise ValueError(
                f"counted[{label!r}] is {rows.dtype} of shape {rows.shape}; it must be bool of "
                f"shape {labels.shape}, one an image"
            )
        aimed = None
        if label in targets:
            aimed = np.asarray(targets[label])
            field = f"targets[{label!r}]"
            check_labels(aimed, num_examples=len(labels), num_classes=num_classes, field=field)
            rows, aimed = rows & (aimed != labels), aimed.astype(np.int32)
        if not rows.any():
            raise ValueError(f"attacks[{label!r}] has no image to attack; count at least one")
        jobs[label] = _Job(entry, np.flatnonzero(rows), aimed)
    return jobs


def _check_entry(label: str, entry: Any, *, aimed: bool) -> None:
    where = f"attacks[{label!r}]"
    if label in RESERVED:
        raise ValueError(f"{where}: {label!r} means something else in results; rename it")
    if isinstance(entry, Driver):
        if aimed and "targets" not in signature(entry.run).parameters:
            raise ValueError(f"targets[{label!r}]: {type(entry).__name__} takes no targets")
    elif not callable(entry):
        raise ValueError(
            f"{where} is {entry!r}; it must be an attack, such as attacks.pgd(epsilon=8/255), or "
            "have a method run"
        )
