"""What the curves of a training show."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from rbjax.analysis import figures
from rbjax.analysis.training_curves import (
    draw_classes,
    draw_curves,
    plot_training,
    training_said,
)


def assert_png(path: Path):
    assert path.read_bytes().startswith(b"\x89PNG")


def test_training_curves_leave_out_what_is_null(tmp_path: Path):
    records = [
        {"step": 10, "epoch": 1, "train/loss": 2.0, "validation/accuracy": None},
        {"step": 20, "epoch": 2, "train/loss": None, "validation/accuracy": 0.5},
    ]
    plot_training(tmp_path / "training.png", records)
    assert_png(tmp_path / "training.png")
    with pytest.raises(ValueError, match="no loss, accuracy or learning rate"):
        plot_training(tmp_path / "empty.png", [{"step": 1, "images_per_second": 3.0}])


def record(epoch: int, clean: list, robust: list) -> dict[str, Any]:
    return {
        "step": 10 * epoch,
        "epoch": epoch,
        "train/loss": 1 / epoch,
        "train/accuracy": 0.5,
        "learning_rate": 0.1,
        "validation/loss": 2 / epoch,
        "validation/plain/loss": 3 / epoch,
        "validation/accuracy": 0.4,
        "validation/plain/accuracy": 0.3,
        "validation/plain/worst_class_accuracy": 0.1,
        "validation/robust_accuracy": 0.2,
        "validation/robust_worst_class_accuracy": 0.1,
        "validation/recall": clean,
        "validation/robust_recall": robust,
        "validation/best_epoch": 1,
        "validation/attack": "pgd",
    }


RECORDS = [record(1, [0.5, 0.3], [0.2, None]), record(2, [0.6, 0.2], [0.4, None])]


def axes() -> Any:
    return Figure().add_subplot()


def drawn(panel) -> dict[str, Any]:
    """Returns the curves by what the legend calls them."""
    names = [text.get_text() for text in panel.get_legend().get_texts()]
    lines = panel.get_legend().get_lines()
    by_look = {(line.get_color(), line.get_linestyle()): line for line in panel.get_lines()}
    looks = [(line.get_color(), line.get_linestyle()) for line in lines]
    return {name: by_look[look] for name, look in zip(names, looks, strict=True)}


def test_accuracies_clean_robust_and_of_the_other_weights_look_different():
    panel = axes()
    draw_curves(panel, RECORDS, [n for n in RECORDS[0] if n.endswith("accuracy")], "accuracy")
    curves = drawn(panel)
    assert set(curves) == {
        "train",
        "validation",
        "validation plain",
        "validation robust",
        "validation robust worst class",
    }
    for name, height in (("validation robust", 0.2), ("validation plain", 0.3)):
        np.testing.assert_array_equal(curves[name].get_ydata(), [height, height])


def test_no_two_curves_look_the_same():
    names = ["train/loss", "validation/loss", "validation/robust_loss", "validation/plain/loss"]
    names += ["test/loss", "other/loss", "loss", "of_mine/loss"]
    panel = axes()
    draw_curves(panel, [{"step": 1, **dict.fromkeys(names, 1.0)}], names, "loss")
    looks = {(line.get_color(), line.get_linestyle()) for line in panel.get_lines()}
    assert len(looks) == len(names)


def test_each_class_and_their_mean_over_the_epochs():
    panel = axes()
    draw_classes(panel, RECORDS, "validation/robust_recall", "attacked", ("cat", "dog"))
    curves = drawn(panel)
    np.testing.assert_array_equal(curves["cat"].get_xdata(), [1, 2])
    np.testing.assert_allclose(curves["cat"].get_ydata(), [0.2, 0.4])
    np.testing.assert_allclose(curves["mean"].get_ydata(), [0.2, 0.4])  # of what there is
    assert np.isnan(np.asarray(curves["dog"].get_ydata(), float)).all()


def test_few_attacked_images_have_no_curves_of_classes(tmp_path: Path, monkeypatch):
    panels = []
    monkeypatch.setattr(figures, "save", lambda figure, path: panels.extend(figure.axes))
    said = "pgd, linf, epsilon 0.1, 1 step of 0.1, {} images"
    for number, names in ((19, ["mean", "worst class"]), (20, ["mean", "cat", "dog"])):
        records = [{**of, "validation/attack": said.format(number)} for of in RECORDS]
        panels.clear()
        plot_training(tmp_path / "training.png", records, class_names=("cat", "dog"))
        by_title = {panel.get_title(): panel for panel in panels}
        assert list(drawn(by_title["Classes, attacked"])) == names
        assert set(drawn(by_title["Classes, clean"])) == {"mean", "cat", "dog"}
        assert ("mean and worst class alone" in training_said(records)) == (number == 19)
    panel = axes()
    records = [{"step": i, "r": of} for i, of in enumerate([[0.5, 0.25], [None, 1.0]])]
    draw_classes(panel, records, "r", "few", few=True)
    np.testing.assert_array_equal(drawn(panel)["worst class"].get_ydata(), [0.25, 1.0])


def test_many_classes_are_grey_around_their_mean():
    panel, many = axes(), [{"step": 1, "epoch": 1, "validation/recall": [0.25, 0.75] * 50}]
    draw_classes(panel, many, "validation/recall", "clean")
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["mean"]
    assert len(panel.get_lines()) == 101
    np.testing.assert_allclose(panel.get_lines()[-1].get_ydata(), [0.5])


def test_the_whole_picture(tmp_path: Path):
    plot_training(tmp_path / "training.png", RECORDS, class_names=("$cat", "_dog"))
    assert_png(tmp_path / "training.png")
