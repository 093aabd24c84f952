"""What a suite can run, and what of a call of it is to be run on which images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from rbjax.blocks import Tell
from rbjax.classifier import Model
from rbjax.inputs import check_labels, check_mapping
from rbjax.tables import nearest
from rbjax.typing import AttackResult, Key

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
        progress: Tell | None,
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
            progress: called now and then with a `Progress`; its task is what the driver is doing.

        Returns:
            A NamedTuple or dataclass whose `predictions` are (N,) int32, the classes of the
            attacked images; its numbers and words are kept too, and the arrays by name in a field
            `kept`, if it has one.

        It may have `probability` (N,) of these classes. A driver that has a parameter `targets` can
        be given (N,) classes to be taken for; one that has `journal` gets a folder of its own from
        which it can resume; one that has `keep_images` is asked for its `images`.
        """
        ...


Entry = Callable[..., AttackResult] | Driver
"""What can be run: a compiled attack, or a driver."""


class Job(NamedTuple):
    """One attack."""

    entry: Entry
    rows: np.ndarray
    """The images it is run on, ascending."""
    targets: np.ndarray | None
    """(N,) int32."""
    label: str


def jobs_of(
    attacks: Mapping[str, Entry],
    targets: Mapping[str, Any],
    counted: Mapping[str, Any],
    labels: np.ndarray,
    num_classes: int,
) -> dict[str, Job]:
    """Returns what is to be run; raises a ValueError for what is wrong with it."""
    check_mapping("attacks", attacks, '{"pgd": attacks.pgd(epsilon=8/255)}')
    for field, by_label in (("targets", targets), ("counted", counted)):
        for label in by_label:
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
            aimed = check_labels(
                np.asarray(targets[label]),
                num_examples=len(labels),
                num_classes=num_classes,
                field=f"targets[{label!r}]",
            )
            rows = rows & (aimed != labels)
        if not rows.any():
            raise ValueError(f"attacks[{label!r}] has no image to attack; count at least one")
        jobs[label] = Job(entry, np.flatnonzero(rows), aimed, label)
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
