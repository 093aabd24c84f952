"""Heat maps, curves and galleries: what stands where in them, and below them."""

from __future__ import annotations

import re
from typing import Any

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure

from rbjax import analysis, attacks
from rbjax.analysis import classes, curves, grid, measured
from rbjax.analysis.evaluation import Report, summarize
from rbjax.attacks.outcome import Outcome, Setting, SuiteResult
from rbjax.corruptions import CorruptionResult

LABELS = np.array([0, 0, 0, 0, 1, 1], np.int32)
NAMES = ["cat", "$dog$"]
KEY = jax.random.key(0)


def outcome(right: int, setting: Setting, steps: int) -> Outcome:
    """An attack that leaves the first images correctly classified."""
    predictions = np.where(np.arange(6) < right, LABELS, 1 - LABELS).astype(np.int32)
    passes = attacks.Passes(6 * (steps + 1), 6 * steps)
    kept: Any = {"details": {}, "kept": {}, "images": None, "seconds": 0.0, "targets": None}
    flags = {"correct": predictions == LABELS, "counted": np.ones(6, bool)}
    probability = np.ones(6, np.float32)
    return Outcome(
        predictions, probability=probability, setting=setting, passes=passes, **flags, **kept
    )


def values(line: Any, axis: str) -> np.ndarray:
    """Where a line's points stand."""
    return np.asarray(line.get_xdata() if axis == "x" else line.get_ydata(), np.float64)


def suite(outcomes: dict[str, Outcome]) -> SuiteResult:
    clean = LABELS.copy()
    clean[5] = 0
    return SuiteResult(LABELS, 2, clean, np.ones(6, np.float32), outcomes)


SUITE = suite(
    {
        "pgd 8/255": outcome(3, Setting("linf", 8 / 255, "20 steps"), 20),
        "pgd 2/255": outcome(4, Setting("linf", 2 / 255, "20 steps"), 20),
        "pgd100": outcome(1, Setting("linf", 8 / 255, "100 steps"), 100),
        "l2 pgd": outcome(2, Setting("l2", 0.5, "20 steps"), 20),
    }
)
SPECS = {
    label: {"name": "pgd", "norm": of.norm, "epsilon": of.epsilon, "num_steps": steps}
    for (label, of), steps in zip(SUITE.settings.items(), (20, 20, 100, 20), strict=True)
}
REPORT = Report(
    {"class_names": NAMES, "class_counts": [4, 2], "step": 1, "dataset": "d", "split": "test"}
    | summarize(SUITE, SPECS)
)


@pytest.mark.parametrize("result", [SUITE, REPORT], ids=["suite", "report"])
def test_attacks_alike_but_for_their_size_are_one_curve_from_clean_on(result):
    found = measured.attacked(result)
    ((name, points),) = measured.over_epsilon(found)["linf"]
    assert name == "pgd, 20 steps"
    assert [one.setting.epsilon for one in points] == [0.0, 2 / 255, 8 / 255]
    assert [one.accuracy.value for one in points] == pytest.approx([5 / 6, 4 / 6, 3 / 6])
    np.testing.assert_allclose([one.classes for one in points], [[1, 0.5], [1, 0], [0.75, 0]])
    assert list(measured.over_epsilon(found)) == ["linf"]  # in l2 there is one size
    said = measured.radii(measured.over_epsilon(found))
    assert said.replace("\xa0", " ") == "pgd, 20 steps: linf, epsilon 2/255, 8/255; n = 6 images"


def test_a_curve_over_epsilon_has_its_numbers_and_its_classes():
    axes = Figure().add_subplot()
    families = measured.over_epsilon(measured.attacked(SUITE))["linf"]
    curves.draw_epsilons(axes, families, NAMES)
    overall, best, worst = axes.lines
    np.testing.assert_allclose(values(overall, "x"), [0, 2 / 255, 8 / 255])
    np.testing.assert_allclose(values(overall, "y"), [5 / 6, 4 / 6, 3 / 6])
    np.testing.assert_allclose(values(best, "y"), [1, 1, 0.75])
    np.testing.assert_allclose(values(worst, "y"), [0.5, 0, 0])
    assert axes.get_xlabel() == "epsilon, linf"


def test_passes_are_those_of_an_image():
    families = dict(measured.over_passes(measured.attacked(SUITE)))
    assert list(families) == [
        "pgd: linf, epsilon 8/255",
        "pgd: linf, epsilon 2/255",
        "l2 pgd: l2, epsilon 0.5",
    ]
    assert [one.passes for one in families["pgd: linf, epsilon 8/255"]] == [41, 201]
    axes = Figure().add_subplot()
    curves.draw_passes(axes, list(families.items()), NAMES)
    np.testing.assert_allclose(values(axes.lines[0], "x"), [41, 201])
    np.testing.assert_allclose(values(axes.lines[0], "y"), [3 / 6, 1 / 6])
    np.testing.assert_allclose(values(axes.lines[1], "y"), [0, 0])  # the weakest class
    legend = axes.get_legend()
    assert legend
    said = [text.get_text() for text in legend.get_texts()]
    assert said == [*families, "small: the weakest class at each"]


def test_attacks_on_other_classes_or_for_other_targets_are_no_curve():
    pgd = SUITE.outcomes["pgd 8/255"]
    some = {f"pgd class {c}": pgd._replace(counted=np.isin(LABELS, c)) for c in (0, 1)}
    aimed = {f"pgd to {c}": pgd._replace(targets=np.full(6, c)) for c in (0, 1)}
    result = suite({**some, **aimed})
    specs = {label: {**SPECS["pgd 8/255"], "target_class": None} for label in some}
    specs |= {label: {**SPECS["pgd 8/255"], "target_class": int(label[-1])} for label in aimed}
    report = Report(REPORT | summarize(result, specs))
    for of in (result, report):
        families = measured.over_passes(measured.attacked(of))
        assert [name.split(":")[0] for name, _ in families] == [
            "pgd class, class 0 alone",
            "pgd class, class 1 alone",
            "pgd to, taken for class 0",
            "pgd to, taken for class 1",
        ]
        assert [len(points) for _, points in families] == [1, 1, 1, 1]
        said = measured.described(measured.attacked(of))
        assert "pgd to 1: linf, epsilon 8/255, 20 steps, taken for class 1;" in said
        with pytest.raises(ValueError, match="run one at two or more"):
            measured.over_epsilon(measured.attacked(of))


def test_points_of_a_curve_do_not_stand_at_the_same_place():
    pgd, more = SUITE.outcomes["pgd 8/255"], SUITE.outcomes["pgd100"]
    found = measured.attacked(suite({"pgd1": pgd, "pgd2": pgd, "pgd3": more}))
    families = measured.over_passes(found)
    assert [[one.label for one in points] for _, points in families] == [["pgd1", "pgd3"], ["pgd2"]]


def test_attacks_of_two_names_are_two_curves():
    outcomes = list(SUITE.outcomes.values())
    result = suite(dict(zip(("a1", "a2", "a3", "a4"), [*outcomes[:2], *outcomes[:2]], strict=True)))
    specs = {
        label: {**of, "name": name}
        for label, of, name in zip(
            result.outcomes, list(SPECS.values())[:2] * 2, ("pgd", "pgd", "mim", "mim"), strict=True
        )
    }
    found = measured.attacked(Report(REPORT | summarize(result, specs)))
    by_norm = measured.over_epsilon(found)
    assert [name for name, _ in by_norm["linf"]] == ["a, pgd, 20 steps", "a, mim, 20 steps"]
    for _, points in by_norm["linf"]:
        assert [one.setting.epsilon for one in points] == [0.0, 2 / 255, 8 / 255]
    assert "a, mim, 20 steps: linf, epsilon 2/255, 8/255" in measured.radii(by_norm)
    assert [name for name, _ in measured.over_passes(found)] == [
        f"a, {name}: linf, epsilon {epsilon}"
        for name in ("pgd", "mim")
        for epsilon in ("8/255", "2/255")
    ]


def test_a_heat_map_has_classes_in_rows_and_many_are_ranked():
    found = measured.attacked(SUITE)
    axes = Figure().add_subplot()
    classes.draw_heat_map(axes, {one.label: one.classes for one in found}, class_names=NAMES)
    cells = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(cells[0], [1, 0.75, 1, 0.25, 0.5, 0.25])
    assert [text.get_text() for text in axes.texts[:6]] == ["100", "75", "100", "25", "50", "25"]
    rng, axes = np.random.default_rng(0), Figure().add_subplot()
    columns = {"clean": rng.random(1000), "worst": rng.random(1000)}
    classes.draw_heat_map(axes, columns, class_names=list(map(str, range(1000))))
    cells = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(cells[:, 1], np.sort(columns["worst"])[::-1])
    assert axes.get_yticklabels()[-1].get_text() == "1,000"
    assert not axes.texts


def corruptions(levels: tuple[int, ...]) -> CorruptionResult:
    rows = np.stack([np.where(np.arange(6) < 6 - level, LABELS, 1 - LABELS) for level in levels])
    return CorruptionResult(
        profile="cifar",
        labels=LABELS,
        num_classes=2,
        clean=LABELS,
        clean_probability=np.ones(6, np.float32),
        predictions={"fog": rows},
        probability={"fog": np.ones(rows.shape, np.float32)},
        severities={"fog": levels},
    )


def test_a_severity_curve_begins_with_clean_and_names_the_weakest_class():
    ((fog,), said) = measured.corrupted(corruptions((1, 3)))
    np.testing.assert_array_equal(fog.severities, [0, 1, 3])
    np.testing.assert_allclose(fog.overall, [1, 5 / 6, 3 / 6])
    np.testing.assert_allclose(fog.classes, [[1, 1], [1, 0.5], [0.75, 0]])
    assert "n\xa0=\xa06 images" in said
    axes = Figure().add_subplot()
    curves.draw_severities(axes, fog, NAMES)
    assert [text.get_text() for text in axes.texts] == [r"weakest: \$dog\$"]
    with pytest.raises(ValueError, match="has one severity"):
        measured.corrupted(corruptions((3,)))


def test_every_picture_says_attack_epsilon_and_number(tmp_path):
    drawn: Any = {
        "heat": (analysis.plot_heat_map, REPORT),
        "epsilons": (analysis.plot_epsilons, REPORT),
        "passes": (analysis.plot_passes, SUITE),
        "severities": (analysis.plot_severities, corruptions((1, 2))),
    }
    for name, (draw, result) in drawn.items():
        draw(result, tmp_path / f"{name}.svg")
        text = (tmp_path / f"{name}.svg").read_text()
        assert re.search(r"n\s=\s6 images", text), name
        wanted = ("fog",) if name == "severities" else ("pgd", "linf", "8/255", "20 steps")
        assert all(word in text for word in wanted), name
        with pytest.raises(ValueError, match="result is an int; it must be what run_"):
            draw(3, tmp_path / "a.svg")
    with pytest.raises(ValueError, match="class_names has 1 names"):
        analysis.plot_heat_map(SUITE, tmp_path / "a.png", class_names=["one"])
    alone = suite({"pgd": SUITE.outcomes["pgd100"]})
    with pytest.raises(ValueError, match="run one at two or more"):
        analysis.plot_epsilons(alone, tmp_path / "a.png")
    with pytest.raises(ValueError, match="run at least two"):
        analysis.plot_passes(alone, tmp_path / "a.png")


def test_a_gallery_draws_each_row(tmp_path):
    image = np.full((4, 4, 1), 0.5, np.float32)
    rows: Any = {
        "noise": lambda key, x: x + 0.1 * jax.random.uniform(key, x.shape),
        "brighter": [lambda key, x: x + 0.1, lambda key, x: x + 0.2],
        "attacked": np.zeros((1, 4, 4, 1), np.float32),
    }
    made = grid.pictures(KEY, image, rows, 3)
    assert [len(images) for images in made.values()] == [3, 2, 1]
    assert not np.array_equal(made["noise"][0], made["noise"][1])
    np.testing.assert_allclose(made["brighter"][:, 0, 0, 0], [0.6, 0.7])
    assert made["attacked"].max() == 0
    analysis.gallery(KEY, image, tmp_path / "some.svg", rows=rows, num_draws=3)
    text = (tmp_path / "some.svg").read_text()
    assert text.count("<image") == 3 + 3 + 2 + 1
    said = " ".join(" ".join(re.findall(r"<!-- (.*?) -->", text)).split())
    assert "epsilon, the largest change in each row: noise: linf 0.0" in said
    assert said.endswith("brighter: linf 0.2, l2 0.8; attacked: linf 0.5, l2 2; n = 1 image")
    radius = {"a_pgd": np.full((4, 4, 1), 0.5 - 8 / 255)}
    assert grid.sizes_said(image, grid.pictures(KEY, image, radius, 1)).endswith(
        ": a pgd: linf 8/255, l2 0.125"
    )
    for wrong, words in (
        ({}, "rows is empty"),
        ({"a": np.zeros((2, 3, 4, 1))}, r"rows\['a'\] is of shape \(2, 3, 4, 1\)"),
        ({"a": lambda key, x: x[:2]}, r"rows\['a'\] returns \(2, 4, 1\)"),
    ):
        with pytest.raises(ValueError, match=words):
            analysis.gallery(KEY, image, tmp_path / "a.png", rows=wrong)
    with pytest.raises(ValueError, match="image has shape"):
        analysis.gallery(KEY, image[0], tmp_path / "a.png", rows=rows)
    with pytest.raises(ValueError, match="give one of them"):
        analysis.gallery(KEY, image, tmp_path / "a.png", rows=rows, profile="cifar")
    with pytest.raises(ValueError, match="profile"):
        analysis.gallery(KEY, image, tmp_path / "a.png", profile="cifra")
