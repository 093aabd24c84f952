"""Every kind of result is tabulated, drawn, saved and loaded by one call each."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import sys
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from rbjax import analysis, attacks, metrics, rpr
from rbjax.analysis.evaluation import Report, summarize
from rbjax.attacks.outcome import Outcome, Setting
from rbjax.compared import Compared
from rbjax.corruptions import CorruptionResult

LABELS = np.array([0, 0, 1, 2], np.int32)
CLEAN = np.array([0, 0, 1, 0], np.int32)
SURE = np.array([0.9, 0.8, 0.7, np.nan], np.float32)
NAMES = ["cat", "$dog$", "<b>frog</b>"]
DELTA: Any = np.linspace(-8 / 255, 8 / 255, 12, dtype=np.float32).reshape(2, 2, 3)
EACH: Any = np.stack([DELTA] * 3)
PGD = Setting("linf", 8 / 255, "20 steps")


def outcome(predictions: list[int], setting: Setting, **options: Any) -> Outcome:
    found = np.array(predictions, np.int32)
    counted = np.ones(4, bool)
    given: Any = {"targets": None, "seconds": 1.5, "passes": attacks.Passes(80, 80), "details": {}}
    given |= {"kept": {}, "probability": SURE, "images": None, **options}
    return Outcome(found, found == LABELS, counted=counted, setting=setting, **given)


SUITE = attacks.SuiteResult(
    labels=LABELS,
    num_classes=3,
    clean=CLEAN,
    clean_probability=SURE,
    outcomes={
        "pgd": outcome([0, 1, 0, 0], PGD, images=np.zeros((4, 2, 2, 3), np.float32)),
        "l2": outcome([0, 0, 0, 0], Setting("l2", 0.5, ""), kept={"delta": DELTA}),
    },
)
SPECS = {"pgd": {"name": "pgd", "norm": "linf", "epsilon": 8 / 255, "num_steps": 20}, "l2": {}}
ABOUT = {"dataset": "digits", "split": "test", "step": 3, "class_names": NAMES}
REPORT = Report({**ABOUT, "class_counts": [2, 1, 1], **summarize(SUITE, SPECS)})
FIRST = np.array([3, 1, 2, 3], np.int32)
SCORED: Any = {"clean_correct": CLEAN == LABELS, "max_steps": 2, "forward_passes_run": 8}
SCORED |= {"no_class": np.zeros(4, bool), "labels": LABELS}
AUTO = attacks.AutoAttackResult(
    predictions=np.array([0, 1, 1, 0], np.int32),
    probability=SURE,
    robust=np.array([True, False, True, False]),
    clean_predictions=CLEAN,
    clean_probability=SURE,
    accuracy_after={"clean": 0.75, "apgd-ce": 0.5},
    num_attacked={"apgd-ce": 3},
    forwards=400,
    backwards=300,
    notes=("no target",),
    name="run_autoattack, standard",
    setting=PGD,
    labels=LABELS,
    num_classes=3,
    originals=np.zeros((4, 2, 2, 3), np.uint8),
    adversarial_rows=np.array([1]),
    adversarial=np.ones((1, 2, 2, 3), np.float32),
)
CRAFTED: Any = {"forwards": 8, "backwards": 8, "setting": Setting("linf", 8 / 255, "2 epochs")}
PAIRED = rpr.compare(CLEAN == LABELS, AUTO.robust)
COMPARED = Compared(
    names=("runs/a", "runs/b"),
    class_names=tuple(NAMES),
    settings={"pgd": PGD},
    whole={"clean": PAIRED, "pgd": PAIRED},
    classes={"clean": [PAIRED] * 3, "pgd": [PAIRED, PAIRED, rpr.compare(FIRST > 4, FIRST > 9)]},
    p_holm={"clean": [1.0, 0.01, 1.0], "pgd": [0.04, np.nan, 1.0]},
    about={"config": [{"seed": 0, "name": None}, {"seed": 1}], "step": [3, None]},
)
RESULTS: dict[str, Any] = {
    "compared": COMPARED,
    "suite": SUITE,
    "report": REPORT,
    "autoattack": AUTO,
    "corruptions": CorruptionResult(
        profile="mnist",
        labels=LABELS,
        num_classes=3,
        clean=CLEAN,
        clean_probability=SURE,
        predictions={"fog": np.stack([CLEAN, LABELS])},
        probability={"fog": np.stack([SURE, SURE])},
        severities={"fog": (1, 3)},
    ),
    "scores": rpr.Scores(
        first_failure=FIRST,
        steps=np.minimum(FIRST, 2),
        robust=FIRST > 2,
        forward_passes_needed=7,
        **SCORED,
    ),
    "repeated": rpr.Repeated(
        first_failure=np.stack([FIRST, FIRST], axis=1),
        failures=np.array([0, 2, 2, 0]),
        draws=np.array([4, 2, 4, 4]),
        **SCORED,
    ),
    "classwise": metrics.classwise(LABELS, CLEAN, num_classes=3),
    "findings": attacks.Findings(
        [
            attacks.Finding("finite", True, 0.0, "0 of 4 images", ""),
            attacks.Finding("zero_gradients", False, 0.5, "2 of 4 images", "take another loss"),
        ],
        norm="linf",
        epsilon=8 / 255,
        num_examples=4,
    ),
    "universal": attacks.UniversalResult(DELTA, np.array([0.5, 1.5]), **CRAFTED),
    "each_class": attacks.ClasswiseResult(EACH, np.ones((3, 2)), **CRAFTED),
    "deepfool": attacks.UniversalDeepFoolResult(
        DELTA, np.array([0.5, 0.75]), np.array([3, 1]), **CRAFTED
    ),
}
ATTACKED = {
    "suite",
    "report",
    "compared",
    "autoattack",
    "findings",
    "universal",
    "each_class",
    "deepfool",
}


@pytest.mark.parametrize("kind", RESULTS)
def test_every_kind(kind, tmp_path):
    result = RESULTS[kind]
    sheet = analysis.table(result)
    if kind in ATTACKED:  # whoever compares two tables sees it
        assert "linf, epsilon 8/255" in repr(result)
        assert "linf, epsilon 8/255" in sheet.title
    analysis.plot(result, tmp_path / "picture.svg")
    picture = (tmp_path / "picture.svg").read_text()
    assert picture.startswith("<?xml")
    if kind == "report":  # whose interval is not that of a share of the class's images
        assert "pgd" in picture
        assert "precision" not in picture
    analysis.plot(result, Figure().add_subplot())
    again = analysis.load(analysis.save(result, tmp_path / "result.npz"))
    assert type(again) is type(result)
    assert repr(again) == repr(result)
    assert repr(analysis.table(again)) == repr(sheet)
    rows = analysis.save(result, tmp_path / "rows.csv").read_text().splitlines()
    columns = analysis.columns(result)
    assert len(rows) == 1 + len(next(iter(columns.values())))
    headings = rows[0].split(",")
    assert headings[: len(columns)] == list(columns)
    has_none = ("corruptions", "classwise", "findings")  # or rows of it
    assert ("setting" in headings) == (kind not in has_none)
    assert len(headings) == len(columns) + (kind not in (*has_none, "compared"))
    if kind in ATTACKED and kind not in has_none:  # the last row, as what is clean comes first
        assert "linf, epsilon 8/255" in rows[-1]


def test_a_class_a_row_and_names_are_text():
    sheet = analysis.table(SUITE, class_names=NAMES)
    assert list(sheet.columns) == ["class", "count", "clean", "pgd", "l2", "worst"]
    assert repr(sheet).splitlines()[:2] == [
        "4 images, correctly classified in per cent",
        "pgd: linf, epsilon 8/255, 20 steps; l2: l2, epsilon 0.5",
    ]
    assert sheet.columns["pgd"] == [0.5, 0.0, 0.0]
    assert sheet.below["class"] == ["all", "mean", "worst class", "spread"]
    assert sheet.below["pgd"] == pytest.approx([0.25, 0.5 / 3, 0.0, 0.5])
    assert "<b>" not in sheet._repr_html_()
    with pytest.raises(ValueError, match=r"class_names has 2 names; there are 3 classes"):
        analysis.table(SUITE, class_names=NAMES[:2])
    assert repr(analysis.table(REPORT)).splitlines()[4].split() == [
        "cat",
        "2",
        "100.0",
        "66.7",
        "80.0",
        "50.0",
        "100.0",
        "50.0",
    ]


def test_repetitions_are_all_in_the_heading():
    first = np.array([[3, 3], [1, 3], [2, 1], [3, 1]])
    result = RESULTS["repeated"]._replace(first_failure=first, drawn="Gaussian (sigma 0.1)")
    said = "the first of 2 repetitions; robust in one on average 50.0 ± 0.0 %"
    assert said in " ".join(repr(result).split())
    # Of repetitions that some images did not need nothing is said of all.
    third = result._replace(first_failure=np.hstack([first, [[0], [1], [0], [0]]]))
    said_of_three = "the first of 3 repetitions; robust in one of 2 that every image had on average"
    assert f"{said_of_three} 50.0 ± 0.0 %" in " ".join(repr(third).split())
    alone = result._replace(first_failure=np.array([[3, 0], [1, 1], [2, 0], [3, 0]]))
    assert "the first of 2 repetitions: 4 images" in " ".join(repr(alone).split())
    title = analysis.table(result).title
    assert title.startswith(f"rpr: up to 2 draws of Gaussian (sigma 0.1); {said}\n")


@pytest.mark.parametrize("kind", ["scores", "repeated", "autoattack"])
def test_classes_without_images_have_a_row(kind):
    result = RESULTS[kind]
    own = getattr(result, "_replace", functools.partial(dataclasses.replace, result))
    result = own(num_classes=5)
    sheet = analysis.table(result)
    assert sheet.columns["class"] == list("01234")
    assert sheet.columns["count"][3:] == [0, 0]
    with pytest.raises(ValueError, match="class_names has 3 names; there are 5 classes"):
        analysis.table(result, class_names=NAMES)


def test_corruptions_name_the_weakest_class():
    sheet = analysis.table(RESULTS["corruptions"], class_names=NAMES)
    numbers = analysis.table(RESULTS["corruptions"]).columns["worst class"]
    assert sheet.columns["worst class"] == [NAMES[i] for i in numbers]
    axes = Figure().add_subplot()
    analysis.plot(RESULTS["corruptions"], axes, class_names=NAMES)
    drawn = [text.get_text() for text in axes.get_xticklabels()]
    assert drawn == ["all", "cat", r"\$dog\$", "<b>frog</b>"]
    with pytest.raises(ValueError, match="class_names has 1 names; there are 3 classes"):
        analysis.table(RESULTS["corruptions"], class_names=NAMES[:1])


def test_what_is_kept_of_each_example(tmp_path):
    columns = analysis.columns(SUITE)
    assert list(columns) == [
        *("label", "clean", "clean_probability", "pgd", "pgd_probability"),
        *("l2", "l2_probability", "worst"),
    ]
    rows = analysis.save(SUITE, tmp_path / "rows.csv").read_text().splitlines()
    assert rows[4].startswith("2,0,,0,,0,,False,")  # of no probability
    again = analysis.load(analysis.save(SUITE, tmp_path / "suite.npz"))
    np.testing.assert_array_equal(again.outcomes["pgd"].images, SUITE.outcomes["pgd"].images)
    np.testing.assert_array_equal(again.outcomes["l2"].kept["delta"], DELTA)
    assert again.outcomes["pgd"].setting == PGD
    saved = analysis.load(analysis.save(AUTO, tmp_path / "auto.npz"))
    np.testing.assert_array_equal(saved.images, AUTO.images)


def test_as_a_data_frame(monkeypatch):
    if importlib.util.find_spec("pandas"):
        frame = analysis.to_pandas(SUITE)
        assert frame["pgd"].tolist() == [0, 1, 0, 0]
        assert analysis.to_pandas(analysis.table(SUITE))["count"].tolist() == [2, 1, 1]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ValueError, match=r'pip install "rbjax\[pandas\]"'):
        analysis.to_pandas(SUITE)


def test_what_is_no_result_or_no_file_of_one(tmp_path):
    for call in (analysis.table, analysis.columns, analysis.to_pandas):
        with pytest.raises(ValueError, match=r"result is an int; it must be what run_attacks"):
            call(3)
    for wrong, words in {
        "a.json": r"suffix '.json'; allowed: .npz",
        "no/a.npz": r"there is no folder",
    }.items():
        with pytest.raises(ValueError, match=words):
            analysis.save(SUITE, tmp_path / wrong)
    with pytest.raises(ValueError, match=r"where is an int; it must be the path of a picture"):
        analysis.plot(SUITE, 3)
    with pytest.raises(ValueError, match=r"where = .*: there is no folder"):
        analysis.plot(SUITE, tmp_path / "no" / "a.png")
    with pytest.raises(ValueError, match=r"suffix '.jpeg' says no kind of picture"):
        analysis.plot(SUITE, tmp_path / "a.jpeg")
    with pytest.raises(ValueError, match=r"there is no such file"):
        analysis.load(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"is damaged, or holds no result"):
        analysis.load(tmp_path / "a.npz")
