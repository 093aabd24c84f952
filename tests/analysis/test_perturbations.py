from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from rbjax.analysis.perturbations import plot_perturbations
from rbjax.analysis.plots import draw_perturbation

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 1), np.uint8)
LABELS = np.array([2, 1, 0, 2])
DELTA = np.zeros((6, 5, 1))
DELTA[0, 0], DELTA[1, 0] = 0.1, -0.05


@pytest.fixture
def drawn(monkeypatch):
    """The panels of the figure that is saved: their titles, sides and pictures."""
    figures = []
    save = Figure.savefig

    def keep(self, *args, **kwargs):
        figures.append(self)
        save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)

    def panels():
        (figure,) = figures
        used = [axes for axes in figure.axes if axes.images]
        return [
            (axes.get_title(), [t.get_text() for t in axes.texts], axes.images[0].get_array())
            for axes in used
        ]

    return panels


def test_one_beside_the_other(tmp_path, drawn):
    path = tmp_path / "drawn.png"
    plot_perturbations(path, {"sgd": DELTA, "none": 0 * DELTA}, images=IMAGES)
    assert imread(path).ndim == 3
    titles, sides, pictures = zip(*drawn(), strict=True)
    assert titles[:2] == ("sgd\n25.5/255", "none\n0/255")
    assert [side for side in sides if side] == [["perturbation"], ["image"], ["with it"]]
    # Its own largest value is white; 0 is grey.
    np.testing.assert_allclose(np.asarray(pictures[0])[:2, :2], [[1, 0.5], [0.25, 0.5]])
    np.testing.assert_allclose(pictures[1], 0.5)
    image = IMAGES[0, ..., 0] / 255
    np.testing.assert_allclose(pictures[2], image, rtol=1e-6)
    np.testing.assert_allclose(pictures[4], np.clip(image + DELTA[..., 0], 0, 1), rtol=1e-6)
    np.testing.assert_allclose(pictures[5], image, rtol=1e-6)


def test_one_a_class_on_an_image_of_its_own(tmp_path, drawn):
    deltas = np.stack([DELTA, 2 * DELTA, -DELTA])
    path, names = tmp_path / "drawn.png", ["cat", "dog", "bird"]
    plot_perturbations(
        path,
        {"all": DELTA, "class-wise": deltas},
        images=IMAGES,
        labels=LABELS,
        class_names=names,
    )
    panels = drawn()
    assert len(panels) == 3 + 9
    assert [title for title, *_ in panels if title] == [
        "all\n25.5/255",
        "cat\n25.5/255",
        "dog\n51/255",
        "bird\n25.5/255",
    ]
    shown = [picture for *_, picture in panels]
    for picture, row in zip(shown[6:9], (2, 1, 0), strict=True):
        np.testing.assert_allclose(picture, IMAGES[row, ..., 0] / 255, rtol=1e-6)


def test_many_classes_and_colours(tmp_path, drawn):
    """Ten beside each other, the first twenty of a hundred."""
    images = np.random.default_rng(1).uniform(0, 1, (3, 4, 4, 3))
    plot_perturbations(tmp_path / "drawn.png", {"all": np.ones((100, 4, 4, 3))}, images=images)
    panels = drawn()
    assert len(panels) == 60
    assert all(picture.shape == (4, 4, 3) for *_, picture in panels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"perturbations": {}}, "perturbations is empty"),
        ({"images": IMAGES[:0]}, r"images has shape \(0, 6, 5, 1\)"),
        ({"perturbations": {"a": DELTA[:3]}}, r"perturbations\['a'\] has shape \(3, 5, 1\)"),
    ],
)
def test_wrong_input(tmp_path, options, message):
    options = {"perturbations": {"a": DELTA}, "images": IMAGES, **options}
    with pytest.raises(ValueError, match=message):
        plot_perturbations(tmp_path / "drawn.png", **options)


def test_what_they_were_crafted_on_is_said_above(tmp_path, monkeypatch):
    said, suptitle = [], Figure.suptitle
    monkeypatch.setattr(Figure, "suptitle", lambda *a, **k: said.append(a[1]) or suptitle(*a, **k))
    crafted_on = {"sgd": "1,240 balanced training images"}
    plot_perturbations(tmp_path / "drawn.png", {"sgd": DELTA}, images=IMAGES, crafted_on=crafted_on)
    assert said == ["sgd: crafted on 1,240 balanced\ntraining images"]
    axes = Figure().add_subplot()
    draw_perturbation(axes, DELTA, crafted_on=crafted_on["sgd"])
    assert axes.get_title().endswith("25.5/255\ncrafted on 1,240 balanced training images")
