"""The picture and the paragraph of an evaluation under corruptions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
from matplotlib.figure import Figure

from rbjax.analysis import tables
from rbjax.analysis.corrupted import draw_corruptions, plot_corruptions

RNG = np.random.default_rng(0)


def report(num_classes: int) -> dict[str, Any]:
    """As it is read from JSON; class 1 has no images."""
    names = ["fog", "glass_blur"]
    classes = {name: RNG.random((2, num_classes)).tolist() for name in names}
    for rows in classes.values():
        for row in rows:
            row[1] = None
    accuracy = {"fog": [0.5, 0.3], "glass_blur": [0.9, 0.7]}
    return {"order": names, "class_accuracy": classes, "accuracy": accuracy}


def test_cells_are_means_over_severities():
    found = report(3)
    axes: Any = Figure().add_subplot()
    drawn: Any = draw_corruptions(axes, found, class_names=list("abc"))
    cells = drawn.get_array().filled(np.nan)
    np.testing.assert_allclose(cells[:, 0], [0.4, 0.8])
    np.testing.assert_allclose(
        cells[1, 3], np.mean(np.array(found["class_accuracy"]["glass_blur"])[:, 2])
    )
    assert np.isnan(cells[:, 2]).all()
    texts = {text.get_position(): text for text in axes.texts}
    assert texts[(0, 0)].get_text() == "40"
    # Nothing is drawn below a class without images: white on white would not be seen.
    assert (texts[(2, 0)].get_text(), texts[(2, 0)].get_color()) == ("-", "black")


def test_many_classes_are_ranked_by_their_mean():
    for count in (100, 1000):
        found, axes = report(count), Figure().add_subplot()
        means = np.mean(np.array(list(found["class_accuracy"].values()), float), axis=(0, 1))
        ranked = np.argsort(-np.nan_to_num(means, nan=-1))
        drawn: Any = draw_corruptions(axes, found, class_names=[f"c{i}" for i in range(count)])
        cells = drawn.get_array().filled(np.nan)[:, -count:]  # of a hundred, "all" is the first
        np.testing.assert_allclose(cells.mean(axis=0)[:-1], means[ranked][:-1])
        assert drawn.get_interpolation() == "nearest"
        ticks = [text.get_text() for text in axes.get_xticklabels()]
        if count == 100:
            assert ticks == ["all", *(f"c{i}" for i in ranked)]
            assert len(axes.texts) == 2 * 101
        else:
            assert (ticks[0], ticks[-1], len(axes.texts)) == ("1", "1,000", 0)
            assert axes.get_yticklabels()[1].get_text() == "glass blur, all 80 %"


def test_a_thousand_classes_are_a_picture_that_can_be_opened(tmp_path: Path):
    plot_corruptions(tmp_path / "many.png", report(1000), class_names=["name"] * 1000)
    height, width, _ = matplotlib.image.imread(tmp_path / "many.png").shape
    assert height > 200
    assert 2000 < width <= 3000


def test_what_is_said():
    found = {
        "mean_errors": {"fog": 0.6, "glass_blur": 0.2},
        "mean_error": 0.4,
        "profile": "cifar",
        "source": "online",
        "baseline": None,
    }
    said = "2 corruptions (cifar, online): mean accuracy 60.0, lowest 40.0 under fog"
    assert tables.describe_corruptions(found) == said
    baseline = {"errors": {"fog": 0.9, "glass_blur": 0.1}, "clean_error": 0.1}
    scaled = {**found, "baseline": baseline, "mce": 0.5, "relative_mce": 1.25}
    assert tables.describe_corruptions(scaled) == f"{said}; mCE 50.0, relative mCE 125.0"
    scaled["relative_mce"] = None  # NaN in JSON
    why = "no relative mCE, as the baseline is no worse under glass_blur"
    assert tables.describe_corruptions(scaled) == f"{said}; mCE 50.0; {why}"
    scaled["baseline"] = {**baseline, "clean_error": None}
    why = "no relative mCE, as the baseline's clean error is not known"
    assert tables.describe_corruptions(scaled) == f"{said}; mCE 50.0; {why}"
