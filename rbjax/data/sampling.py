"""Which rows each step of an epoch trains on, by class.

A sampler is a pure function `(labels, *, seed, epoch, batch_size, num_steps) -> rows`, so that a
resumed run goes on exactly.  A dataset's rows are in the order of `example_ids`, so that the rows
do not depend on how the split is stored.  An epoch has as many steps as one of the uniform sampler
in training, `N // B`; a sampler makes any number of them, and fewer are the first of more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from rbjax.data.order import epoch_order, priorities
from rbjax.inputs import ANY_NUMBER, check_integer, check_labels
from rbjax.options import Share, checked
from rbjax.tables import Table


class Sampler(Protocol):
    """Rows of an epoch, a function of its arguments alone."""

    def __call__(
        self, labels: np.ndarray, *, seed: int, epoch: int, batch_size: int, num_steps: int
    ) -> np.ndarray:
        """Returns rows (num_steps, batch_size) int32 for labels (N,)."""
        ...


def uniform(
    labels: np.ndarray, *, seed: int, epoch: int, batch_size: int, num_steps: int
) -> np.ndarray:
    """Returns the rows of an epoch in which no row comes twice.

    Args:
        labels: (N,) integers; only their number counts.
        seed: an integer >= 0.
        epoch: an integer >= 0.
        batch_size: B.
        num_steps: S, at most N // B.

    Returns:
        (S, B) int32, the first steps of `order.epoch_order`.

    Raises:
        ValueError: if an argument is out of range.
    """
    if num_steps > len(labels) // batch_size:
        raise ValueError(
            f"num_steps = {num_steps}: must be at most {len(labels) // batch_size}, the number of "
            f"batches of {batch_size} in {len(labels)} examples"
        )
    order = epoch_order(len(labels), seed=seed, epoch=epoch, batch_size=batch_size)
    return order[:num_steps]


def class_aware(
    labels: np.ndarray, *, seed: int, epoch: int, batch_size: int, num_steps: int
) -> np.ndarray:
    """Returns the rows of an epoch that goes round the classes, and round each class's rows.

    Each round takes every class once, in an order of its own; a class takes every row of its once
    before one comes again, in a new order each time.  Classes of no rows are left out.

    Args:
        labels: (N,) integers >= 0.
        seed: an integer >= 0.
        epoch: an integer >= 0.
        batch_size: B.
        num_steps: S; published code has S B = K max n_c.

    Returns:
        (S, B) int32.

    Raises:
        ValueError: if an argument is out of range.

    Source: Shen, Lin and Huang, "Relay Backpropagation for Effective Learning of Deep Convolutional
    Neural Networks", 2016, arXiv:1512.05830.
    """
    rows_of = _rows_of_classes(labels)
    count, num_classes = num_steps * batch_size, len(rows_of)
    rounds = -(-count // num_classes)
    classes = _shuffles(num_classes, rounds, seed=seed, name="class_aware", epoch=epoch)
    order = _take_turns(rows_of, classes.reshape(-1)[:count], seed=seed, epoch=epoch)
    return order.reshape(num_steps, batch_size)


def square_root(
    labels: np.ndarray, *, seed: int, epoch: int, batch_size: int, num_steps: int
) -> np.ndarray:
    """Returns the rows of an epoch whose classes are drawn with `p_c ~ sqrt(n_c)`.

    Classes are drawn independently; a class takes every row of its once before one comes again.

    Args:
        labels: (N,) integers >= 0.
        seed: an integer >= 0.
        epoch: an integer >= 0.
        batch_size: B.
        num_steps: S.

    Returns:
        (S, B) int32.

    Raises:
        ValueError: if an argument is out of range.

    Source: Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition",
    2020, arXiv:1910.09217, equation 1 with q = 1/2.
    """
    return _drawn(np.sqrt, labels, seed, epoch, batch_size, num_steps)


@checked
def effective_number(*, beta: Share = 0.9999) -> Sampler:
    """Makes the sampler whose rows are drawn in proportion to `(1 - beta) / (1 - beta**n_c)`.

    A class is drawn with `p_c ~ n_c (1 - beta) / (1 - beta**n_c)`: as often as it occurs for beta
    0, every class alike for beta 1 (the limit).  Within a class as `square_root`.

    Args:
        beta: of the effective number of samples (Cui et al. 2019).

    Returns:
        A sampler.

    Raises:
        ValueError: if beta is out of its range.

    Source: Cui et al., 2019, arXiv:1901.05555, equation 2, as the re-sampling rule of Cao et al.,
    "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", 2019,
    arXiv:1906.07413.
    """

    def weights(counts: np.ndarray) -> np.ndarray:
        if beta == 0:
            return counts
        if beta == 1:
            return np.ones_like(counts)
        return counts / -np.expm1(counts * np.log(beta))

    def sampler(
        labels: np.ndarray, *, seed: int, epoch: int, batch_size: int, num_steps: int
    ) -> np.ndarray:
        return _drawn(weights, labels, seed, epoch, batch_size, num_steps)

    return sampler


def deferred(sampler: Sampler, *, start_epoch: int) -> Sampler:
    """Makes the sampler that is uniform until an epoch, and another one from it on.

    Args:
        sampler: the other one.
        start_epoch: the first epoch, counted from 0, of `sampler`.

    Returns:
        A sampler.

    Raises:
        ValueError: if `start_epoch` is negative or not an integer.

    Source: Cao et al., 2019, arXiv:1906.07413 (DRS), where it is epoch 160 of 200.
    """
    start_epoch = check_integer("start_epoch", start_epoch, low=0)

    def switched(
        labels: np.ndarray, *, seed: int, epoch: int, batch_size: int, num_steps: int
    ) -> np.ndarray:
        chosen = sampler if epoch >= start_epoch else uniform
        return chosen(labels, seed=seed, epoch=epoch, batch_size=batch_size, num_steps=num_steps)

    return switched


def _without_options(sampler: Sampler) -> Callable[[], Sampler]:
    """Returns the maker of a sampler that has none."""

    def maker() -> Sampler:
        return sampler

    maker.__doc__ = sampler.__doc__
    return maker


SAMPLERS: Table[Sampler] = Table(
    "sampler",
    {
        "uniform": _without_options(uniform),
        "class_aware": _without_options(class_aware),
        "square_root": _without_options(square_root),
        "effective_number": effective_number,
    },
    makes=(Callable, "a function (labels, *, seed, epoch, batch_size, num_steps)"),
)
"""Name -> maker."""


def create(name: str | Sampler, *, start_epoch: int = 0, **options: float) -> Sampler:
    """Returns a sampler by name.

    Args:
        name: a name in `SAMPLERS`, or `package.module:maker`; or a sampler.
        start_epoch: uniform before this epoch, counted from 0.
        **options: the maker's keywords.

    Returns:
        A sampler.

    Raises:
        ValueError: for an unknown name or option, or a value out of its range.
    """
    if not isinstance(name, str) and options:
        raise ValueError(f"a sampler that is made already has no options; got {options}")
    sampler = SAMPLERS.create(name, options) if isinstance(name, str) else name
    return deferred(sampler, start_epoch=start_epoch) if start_epoch else sampler


def _drawn(
    weigh: Callable[[np.ndarray], np.ndarray],
    labels: np.ndarray,
    seed: int,
    epoch: int,
    batch_size: int,
    num_steps: int,
) -> np.ndarray:
    rows_of = _rows_of_classes(labels)
    weights = weigh(np.array([len(rows) for rows in rows_of], np.float64))
    numbers = np.arange(num_steps * batch_size)
    raw = priorities(numbers, seed=seed, name="drawn_class", epoch=epoch)
    upper = np.cumsum(weights) / weights.sum()
    # The upper 53 bits are a double in [0, 1).
    classes = np.searchsorted(upper[:-1], (raw >> 11) * 2.0**-53, side="right")
    return _take_turns(rows_of, classes, seed=seed, epoch=epoch).reshape(num_steps, batch_size)


def _rows_of_classes(labels: np.ndarray) -> list[np.ndarray]:
    """The rows of each class that has any, in the order of the rows."""
    labels = check_labels(labels, num_examples=np.size(labels), num_classes=ANY_NUMBER)
    order = np.argsort(labels, kind="stable").astype(np.int32)
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)


def _take_turns(
    rows_of: list[np.ndarray], classes: np.ndarray, *, seed: int, epoch: int
) -> np.ndarray:
    """A row for each class asked for: all of a class's in a shuffled order, then again."""
    taken = np.empty(len(classes), np.int32)
    for number, rows in enumerate(rows_of):
        places = np.flatnonzero(classes == number)
        rounds = -(-len(places) // len(rows))
        turns = _shuffles(len(rows), rounds, seed=seed, name=f"class_{number}", epoch=epoch)
        taken[places] = rows[turns.reshape(-1)[: len(places)]]
    return taken


def _shuffles(size: int, times: int, *, seed: int, name: str, epoch: int) -> np.ndarray:
    """(times, size): orders of 0 to size - 1; the first are the same however many there are."""
    raw = priorities(np.arange(times * size), seed=seed, name=name, epoch=epoch)
    return np.argsort(raw.reshape(times, size), axis=1, kind="stable")
