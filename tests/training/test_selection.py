"""Which epoch is the best, and when waiting for a better one ends."""

import json

import pytest

from rbjax.config.fields import CRITERIA as NAMES
from rbjax.training.selection import CRITERIA, Selection, after_epoch


def record(epoch, **figures):
    return {"epoch": epoch, **{f"validation/{name}": value for name, value in figures.items()}}


def course(values, **options):
    """Returns the selection after each epoch of a validation loss."""
    selections, selection = [], Selection()
    for epoch, value in enumerate(values, start=1):
        selection = after_epoch(
            selection, record(epoch, loss=value), step=10 * epoch, best="loss", **options
        )
        # What a checkpoint keeps of it is all of it.
        selection = Selection(**json.loads(json.dumps(selection._asdict())))
        selections.append(selection)
    return selections


def test_the_config_names_the_criteria_that_there_are():
    assert tuple(CRITERIA) == NAMES


def test_each_criterion_by_hand():
    figures = record(
        1,
        loss=0.5,
        accuracy=0.8,
        worst_class_accuracy=0.25,
        robust_accuracy=0.5,
        robust_worst_class_accuracy=0.125,
    )
    expected = {
        "accuracy": 0.8,
        "worst_class": 0.25,
        "average+worst": 1.05,
        "loss": -0.5,
        "robust_accuracy": 0.5,
        "robust_worst_class": 0.125,
        "robust_average+worst": 0.625,
    }
    assert {name: value(figures) for name, value in CRITERIA.items()} == pytest.approx(expected)


def test_the_best_is_the_first_of_the_lowest_losses():
    selections = course([0.5, 0.4, 0.4, 0.3, 0.6, 0.3])
    assert [selection.epoch for selection in selections] == [1, 2, 2, 4, 4, 4]
    assert [selection.step for selection in selections] == [10, 20, 20, 40, 40, 40]
    assert selections[-1].waited == 0  # nothing is waited for


def test_waiting_is_for_more_than_the_least_change():
    """0.90 to 0.81 is no change of 0.1, to 0.79 it is; the slow climb adds up."""
    losses = [0.9, 0.81, 0.79, 0.7, 0.65, 0.64, 0.95]
    selections = course(losses, early_stop="loss", min_change=0.1)
    assert [selection.waited for selection in selections] == [0, 1, 0, 1, 0, 1, 2]
    # The best epoch is that of the lowest loss, however small the change.
    assert [selection.epoch for selection in selections] == [1, 2, 3, 4, 5, 6, 6]


def test_what_is_not_finite_is_neither_best_nor_an_improvement():
    selections = course([float("nan"), float("inf"), 0.5, float("nan")], early_stop="loss")
    assert [selection.epoch for selection in selections] == [None, None, 3, 3]
    assert [selection.waited for selection in selections] == [1, 2, 0, 1]


def test_best_and_stop_may_look_at_different_things():
    selection = after_epoch(
        Selection(), record(1, loss=0.5, accuracy=0.8), step=1, best="accuracy", early_stop="loss"
    )
    selection = after_epoch(
        selection, record(2, loss=0.4, accuracy=0.7), step=2, best="accuracy", early_stop="loss"
    )
    assert (selection.epoch, selection.value, selection.waited) == (1, 0.8, 0)


def test_an_unknown_criterion_is_named():
    with pytest.raises(ValueError, match=r"criterion.*'acuracy'.*accuracy"):
        after_epoch(Selection(), record(1, accuracy=0.5), step=1, best="acuracy")
