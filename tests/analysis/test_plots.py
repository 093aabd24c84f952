from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rbjax.analysis import curves, plots
from rbjax.analysis.measured import Levels
from rbjax.metrics import wilson_interval

RNG = np.random.default_rng(0)


def ratios(num_classes: int) -> dict[str, np.ndarray]:
    return {name: RNG.random(num_classes) for name in ("clean", "PGD")}


def names(num_classes: int) -> list[str]:
    return [f"class number {i}" for i in range(num_classes)]


def survival(num_classes: int) -> np.ndarray:
    curves = np.exp(-np.linspace(0, 1, num_classes)[:, None] * np.arange(21) / 10)
    curves[0] = np.nan  # a class without images
    return curves


def axes_of(draw: Callable[..., None], *arguments: Any, **keywords: Any) -> Any:
    axes: Any = Figure().add_subplot()
    draw(axes, *arguments, **keywords)
    return axes


def assert_png(path: Path, low: int = 300) -> None:
    image = matplotlib.image.imread(path)
    assert min(image.shape[:2]) > low
    assert image[..., :3].std() > 0.01  # something is drawn
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # nothing temporary


@pytest.mark.parametrize("num_classes", [3, 100])
def test_every_plot_is_written(tmp_path: Path, num_classes: int):
    curves = survival(num_classes)
    keywords: dict[str, Any] = {
        "class_names": names(num_classes),
        "counts": np.arange(num_classes),
    }
    path = tmp_path / "plot.png"
    plots.plot_classwise(path, ratios(num_classes), **keywords)
    assert_png(path)
    plots.plot_survival(path, np.nanmean(curves, 0), curves, class_names=names(num_classes))
    assert_png(path)
    plots.plot_overview(
        path,
        ratios(num_classes),
        **keywords,
        survival=np.nanmean(curves, 0),
        class_survival=curves,
        perturbation=RNG.uniform(-0.1, 0.1, (8, 8, 1)),
        title="a run",
    )
    assert_png(path)


def test_overview_needs_bars_alone(tmp_path: Path):
    plots.plot_overview(tmp_path / "plot.png", ratios(3), class_names=names(3))
    assert_png(tmp_path / "plot.png")


def test_more_attacks_than_colours_are_told_apart():
    columns = {f"attack {i}": np.array([0.5, np.nan]) for i in range(11)}
    axes = axes_of(plots.draw_classwise, columns, class_names=["a", "b"], counts=np.array([9, 9]))
    bars = axes.patches[::2]  # the first class's
    looks = [(bar.get_facecolor(), bar.get_hatch()) for bar in bars]
    assert len(set(looks)) == 11


def test_bars_have_their_heights_and_intervals():
    columns = {"clean": np.array([0.5, 0.9]), "PGD": np.array([0.1, 0.0])}
    axes = axes_of(plots.draw_classwise, columns, class_names=["a", "b"], counts=np.array([10, 20]))
    heights = [bar.get_height() for bar in axes.patches]
    np.testing.assert_allclose(heights, [0.5, 0.9, 0.1, 0.0])
    segments = np.concatenate([lines.get_segments() for lines in axes.collections])
    expected = [wilson_interval(s, n) for s, n in ((5, 10), (18, 20), (1, 10), (0, 20))]
    np.testing.assert_allclose(segments[:, :, 1], expected, atol=1e-12)


def test_many_classes_are_sorted_by_the_first_column():
    columns = ratios(40)
    axes = axes_of(plots.draw_classwise, columns, class_names=[str(i) for i in range(40)])
    order = np.argsort(-columns["clean"])
    assert [text.get_text() for text in axes.get_xticklabels()] == [str(i) for i in order]
    np.testing.assert_allclose(axes.lines[1].get_ydata(), columns["PGD"][order])


def test_of_more_classes_than_there_is_room_for_the_distribution_is_drawn():
    columns = ratios(1000)
    axes = axes_of(
        plots.draw_classwise,
        columns,
        class_names=[str(i) for i in range(1000)],
        counts=np.full(1000, 50),
    )
    assert not axes.get_xticklabels()
    assert axes.get_xlabel().startswith("1,000 classes")
    assert not any(lines.get_segments() for lines in axes.collections)
    for line, column in zip(axes.lines, columns.values(), strict=True):
        np.testing.assert_allclose(line.get_ydata(), np.sort(column)[::-1])


def test_draws_are_whole_numbers():
    axes = axes_of(plots.draw_survival, [1, 0.5, 0.25])
    ticks = axes.xaxis.get_majorticklocs()
    np.testing.assert_array_equal(ticks, np.rint(ticks))


def test_survival_legend_ranks_the_classes():
    curves = np.array([[1, 0.2], [1, 0.7], [np.nan, np.nan]])
    axes = axes_of(plots.draw_survival, [1, 0.45], curves, class_names=["a", "b", "c"])
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["all  45%", "b  70%", "a  20%"]


def test_bands_are_shaded_for_all_and_for_each_class():
    curve, classes = np.array([1, 0.5]), np.array([[1, 0.6], [np.nan, np.nan], [1, 0.4]])
    axes = axes_of(
        plots.draw_survival,
        curve,
        classes,
        class_names=["a", "b", "c"],
        band=(curve - 0.1, curve + 0.1),
        class_band=(classes - 0.2, classes + 0.3),
    )
    heights = [shade.get_paths()[0].get_extents().ymax for shade in axes.collections]
    np.testing.assert_allclose(heights, [1.1, 1.3, 1.3])  # the class without images has none
    ends = [shade.get_paths()[0].get_extents().ymin for shade in axes.collections]
    np.testing.assert_allclose(ends, [0.4, 0.4, 0.2])


def test_of_many_classes_the_outermost_are_named():
    axes = axes_of(plots.draw_survival, np.ones(21), survival(50), class_names=names(50))
    legend = axes.get_legend()
    assert legend is not None
    assert len(legend.get_texts()) == 1 + 3 + 3
    assert len(axes.lines) == 1 + 49


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scale", [0.0, 0.1])
def test_zero_perturbation_is_grey(channels: int, scale: float):
    delta = np.zeros((4, 4, channels))
    delta[0, 0] = scale
    delta[1, 1] = -scale
    axes = axes_of(plots.draw_perturbation, delta)
    shown = np.asarray(axes.images[0].get_array(), np.float64).reshape(4, 4, -1)
    np.testing.assert_allclose(shown[3, 3], 0.5, atol=0.01)
    if scale:
        np.testing.assert_allclose(shown[0, 0], 1, atol=0.01)
        np.testing.assert_allclose(shown[1, 1], 0, atol=0.01)


def test_pyplot_is_not_imported():
    import subprocess
    import sys

    code = "import sys, rbjax.analysis.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (18, "of each class"),
        (19, "of the three highest and the three lowest classes; the others grey"),
        (151, "of the three highest and the three lowest classes; the middle 80 % of classes as a"),
    ],
)
def test_what_is_said_of_the_classes_curves_is_drawn(count: int, said: str):
    of_class = np.linspace(1, 0, count)[:, None] * np.ones(2)
    bands: Any = {"band": (np.zeros(2), np.ones(2)), "class_band": (of_class, of_class)}
    axes = axes_of(
        plots.draw_class_curves, [0, 1], np.ones(2), of_class, class_names=names(count), **bands
    )
    assert plots.class_curves_said(count).startswith(said)
    named, is_band = (count, False) if "each" in said else (6, "middle" in said)
    assert len(axes.collections) == 1 + named + is_band  # 95 % bands, and that of the middle
    grey = [line for line in axes.lines if line.get_color() == "#BBBBBB"]
    assert len(grey) == (count - 6 if "grey" in said else 0)


@pytest.mark.parametrize(("count", "said"), [(20, "of each other class"), (21, "from the 10th")])
def test_what_is_said_of_severities_is_drawn(count: int, said: str):
    shares = np.linspace(1, 0, count + 1) * np.ones((2, 1))
    shares[:, -1] = np.nan  # a class without images
    levels = Levels("fog", np.arange(2), np.ones(2), shares)
    axes = axes_of(curves.draw_severities, levels, names(count + 1))
    assert curves.severities_said([levels]).startswith(said)
    assert len(axes.collections) == ("percentile" in curves.severities_said([levels]))
    assert len(axes.lines) == (2 + count if "each" in said else 2)


def test_of_very_many_classes_the_middle_is_a_band_and_the_outermost_are_named():
    curves = np.linspace(1, 0, 1000)[:, None] * np.ones(3)
    axes = axes_of(plots.draw_class_curves, [0, 1, 2], np.ones(3), curves, class_names=names(1000))
    assert len(axes.lines) == 1 + 6
    (band,) = axes.collections
    heights = band.get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose([heights.min(), heights.max()], [0.1, 0.9], atol=1e-9)


def test_the_legend_stands_above_the_bars_where_a_telephone_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    found: list[Figure] = []
    monkeypatch.setattr(plots, "save", lambda figure, path: found.append(figure))
    columns = {name: np.linspace(0, 1, 10) for name in ("clean", "pgd20", "universal", "worst")}
    plots.plot_classwise(tmp_path / "a.svg", columns, class_names=[str(i) for i in range(10)])
    (figure,) = found
    FigureCanvasAgg(figure).draw()
    (legend,), (axes,) = figure.legends, figure.axes
    assert [text.get_text() for text in legend.get_texts()] == list(columns)
    where, plot = legend.get_window_extent(), axes.get_tightbbox()
    assert plot is not None
    assert 0 <= where.x0 <= where.x1 < 4.4 * figure.dpi < figure.bbox.width / 2
    assert where.y0 > plot.y1
