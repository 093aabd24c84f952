from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rbjax import analysis, atomic, metrics
from rbjax.analysis import figures, plots

RUN = Path(__file__).parents[1] / "fixtures" / "run_v0"
WORST = {"count": [10, 10], "correct": [1, 0], "recall": [0.1, 0.0]}
MATRICES = {"clean": np.array([[8, 2], [1, 9]]), "pgd": np.array([[2, 8], [10, 0]])}


def evaluation() -> dict[str, Any]:
    results = {
        label: {
            "summary": metrics.summarize(matrix),
            "classwise": {
                name: value.tolist()
                for name, value in metrics.from_confusion(matrix)._asdict().items()
            },
        }
        for label, matrix in MATRICES.items()
    }
    return {
        "dataset": "digits",
        "split": "test",
        "class_names": ["zero", "one"],
        "class_counts": [10, 10],
        "train_class_counts": [50, 5],
        "order": ["clean", "pgd"],
        "results": results,
    }


def scores(split: str = "test") -> dict[str, Any]:
    part = {
        "class_counts": [10, 10],
        "class_robust": [5, 1],
        "robust_ratio": 0.3,
        "robust_ratio_interval": [0.15, 0.52],
        "survival": [1.0, 0.5, 0.3],
        "survival_band": [[1.0, 0.3, 0.1], [1.0, 0.7, 0.5]],
        "class_survival_band": [[[1.0, 0.3, 0.2], [None] * 3], [[1.0, 0.8, 0.8], [None] * 3]],
        "class_survival": [[1.0, 0.6, 0.5], [None, None, None]],
    }
    right = {**part, "class_counts": [8, 0], "class_robust": [5, 0]}
    return {
        "dataset": "digits",
        "split": split,
        "class_names": ["zero", "one"],
        "max_steps": 2,
        "num_examples": 20,
        "all": part,
        "classified_right": right,
    }


def write(folder: Path, name: str, value: Any) -> None:
    (folder / name).write_text(json.dumps(value) + "\n", encoding="utf-8")


def test_whole_run(tmp_path: Path):
    write(tmp_path, "report.json", evaluation())
    write(tmp_path, "rpr.json", scores())
    write(tmp_path, "metrics.jsonl", {"step": 1, "epoch": 1, "train/loss": 0.1})
    atomic.write_npz(tmp_path / "report.npz", **{"universal/perturbation": np.ones((4, 4, 1))})
    lines = analysis.report(tmp_path).split("\n")
    assert lines[0] == "digits test, per cent; RPR: up to 2 draws:"
    with (tmp_path / "classwise.csv").open(encoding="utf-8", newline="") as file:
        assert [row["setting"] for row in csv.DictReader(file)] == ["RPR: up to 2 draws"] * 2
    cells = {line.split()[0]: line.split()[1:] for line in lines}
    assert cells["class"] == [
        "train",
        "count",
        "clean",
        "precision",
        "f1",
        "pgd",
        "RPR",
        "RPR",
        "of",
        "right",
    ]
    assert cells["zero"] == ["50", "10", "80.0", "88.9", "84.2", "20.0", "50.0", "62.5"]
    assert cells["one"] == ["5", "10", "90.0", "81.8", "85.7", "0.0", "10.0", "-"]
    assert cells["all"] == ["55", "20", "85.0", "85.0", "10.0", "30.0", "62.5"]
    for name in ("classwise.csv", *(f"{p}.png" for p in ("training", "survival", "classwise"))):
        assert name in lines[-1]
        assert (tmp_path / name).stat().st_size > 50
    assert (tmp_path / "overview.png").exists()
    page = (tmp_path / "report.html").read_text("utf-8")
    assert lines[-1].endswith(", report.html")
    assert page.count("<svg") == 5  # accuracies, differences, sizes, survival, training


def with_another_attack() -> dict[str, Any]:
    """An evaluation under two attacks, of which one counts the second class alone."""
    value = evaluation()
    matrix = np.array([[0, 0], [6, 4]])
    value["results"]["only"] = {
        "summary": metrics.summarize(matrix),
        "classwise": {
            name: entry.tolist() for name, entry in metrics.from_confusion(matrix)._asdict().items()
        },
    }
    value["order"].append("only")
    value["worst"] = {"summary": {"accuracy": 0.05}, "classwise": WORST}
    return value


def test_a_plot_that_fails_costs_itself_alone(tmp_path: Path, monkeypatch, caplog):
    write(tmp_path, "report.json", evaluation())
    write(tmp_path, "rpr.json", scores())
    whole = analysis.report(tmp_path)
    assert "classwise.png" in whole

    def fail(*args, **keywords):
        raise RuntimeError("no such\nfont")

    monkeypatch.setattr(plots, "plot_classwise", fail)
    lines = analysis.report(tmp_path).split("\n")
    assert lines[:-1] == whole.split("\n")[:-1]
    assert lines[-1] == whole.split("\n")[-1].replace(", classwise.png", "")
    assert not (tmp_path / "classwise.png").exists()  # it would be of other numbers
    assert [record.getMessage() for record in caplog.records] == [
        "classwise.png is not drawn: RuntimeError: no such font",
        "report.html: accuracy is not drawn: RuntimeError: no such font",
    ]


def test_names_are_tried_beforehand(monkeypatch, caplog):
    names = ["$a$b", "two\nlines", "中文", "\udcff", ""]
    analysis.rehearse(names, ["clean", "_mine"])
    assert caplog.records == []
    with pytest.raises(ValueError, match="names of the classes cannot be reported"):
        analysis.rehearse([object()], ["clean"])  # type: ignore[list-item]

    def fail(*args):
        raise RuntimeError("no fonts")

    monkeypatch.setattr(figures, "try_names", fail)
    analysis.rehearse(names, ["clean"])
    assert [record.getMessage() for record in caplog.records] == [
        "there will be no plots of classes: RuntimeError: no fonts"
    ]


def test_odd_names_are_lines_of_the_table_and_cells_of_the_csv(tmp_path: Path):
    names = ["two\nlines,\x1b", "\udcff中"]
    value = evaluation() | {"class_names": names}
    write(tmp_path, "report.json", value)
    text = analysis.report(tmp_path)
    assert r"two\nlines,\x1b" in text
    with (tmp_path / "classwise.csv").open(encoding="utf-8", newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == [names[0], r"\udcff中"]


def test_several_attacks_have_a_worst_column_and_intervals(tmp_path: Path):
    write(tmp_path, "report.json", with_another_attack())
    lines = analysis.report(tmp_path).split("\n")
    cells = {line.split()[0]: line.split()[1:] for line in lines}
    assert cells["class"] == ["train", "count", "clean", "precision", "f1", "pgd", "only", "worst"]
    assert cells["zero"][-3:] == ["20.0", "-", "10.0"]  # not counted is not 0
    assert cells["one"][-3:] == ["0.0", "40.0", "0.0"]
    assert cells["all"][-3:] == ["10.0", "40.0", "5.0"]
    text = " ".join(line.strip() for line in lines)
    low, high = (100 * float(edge) for edge in metrics.wilson_interval(17, 20))
    assert f"accuracy (95 % interval): clean 85.0 ({low:.1f} to {high:.1f}), pgd 10.0 (" in text
    assert "only 40.0 of 10 (" in text
    assert "worst 5.0 (" in text
    assert all(len(line) <= 100 for line in lines)
    with (tmp_path / "classwise.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["worst"] for row in rows] == ["0.1", "0.0"]
    assert [row["only"] for row in rows] == ["", "0.4"]
    assert rows[0]["only low"] == ""
    edges = metrics.wilson_interval(4, 10)
    assert [float(rows[1][f"only {edge}"]) for edge in ("low", "high")] == [float(e) for e in edges]


def test_another_test_set_is_named_once(tmp_path: Path):
    elsewhere = {"dataset": "folder", "split": "folder scans"}
    write(tmp_path, "rpr.json", scores() | elsewhere)
    assert analysis.report(tmp_path).startswith("folder scans, per cent;")


def test_one_attack_has_no_worst_column(tmp_path: Path):
    value = evaluation() | {"worst": {"summary": {"accuracy": 0.05}, "classwise": WORST}}
    write(tmp_path, "report.json", value)
    assert "worst" not in analysis.report(tmp_path).split("\n")[1]


def test_perturbations_are_drawn(tmp_path: Path):
    write(tmp_path, "report.json", evaluation())
    arrays = {
        "each/perturbation": np.ones((2, 4, 4, 1)),
        "shown/images": np.zeros((2, 4, 4, 1), np.uint8),
        "shown/labels": np.arange(2),
    }
    atomic.write_npz(tmp_path / "report.npz", **arrays)
    assert analysis.report(tmp_path).endswith("overview.png, perturbations.png, report.html")
    assert (tmp_path / "perturbations.png").stat().st_size > 1000


def test_the_table_says_what_it_is_of(tmp_path: Path):
    report, given = evaluation(), scores()
    report["results"]["pgd"]["attack"] = {"name": "pgd", "norm": "linf", "epsilon": 8 / 255}
    given["config"] = {"score": {"perturbation": "fog"}}
    write(tmp_path, "report.json", report)
    write(tmp_path, "rpr.json", given)
    said = "digits test, per cent; pgd: linf, epsilon 8/255; RPR: up to 2 draws of fog:"
    assert analysis.report(tmp_path).split("\n")[0] == said


def test_scores_alone(tmp_path: Path):
    write(tmp_path, "rpr.json", scores("train"))
    text = analysis.report(tmp_path)
    assert text.startswith("digits train, per cent; RPR: up to 2 draws:")
    assert "overview.png" not in text


def test_scores_of_another_split_say_so(tmp_path: Path):
    write(tmp_path, "report.json", evaluation())
    write(tmp_path, "rpr.json", scores("train"))
    assert "RPR train  RPR train of right" in analysis.report(tmp_path)


def test_training_alone(tmp_path: Path):
    write(tmp_path, "metrics.jsonl", {"step": 1, "train/loss": 0.1})
    assert analysis.report(tmp_path) == "written: training.png, report.html"


def test_nothing_to_report(tmp_path: Path):
    with pytest.raises(ValueError, match=r"holds no report\.json"):
        analysis.report(tmp_path)


@pytest.mark.parametrize("change", [{"step": "x"}, {"step": [1]}, {"class_counts": ["a", 1, 1]}])
def test_a_damaged_report_is_named(tmp_path: Path, change):
    write(tmp_path, "report.json", evaluation() | {"step": 8} | change)
    write(tmp_path, "rpr.json", scores() | {"step": 8})
    with pytest.raises(ValueError, match=r"report\.json.* is damaged.*; evaluate or score again"):
        analysis.report(tmp_path)


def test_the_page_and_the_files_have_the_same_pictures(tmp_path):
    """But for the overview, which the page has in parts, and what only the page has."""
    shutil.copytree(RUN, tmp_path / "run")
    written = analysis.report(tmp_path / "run").splitlines()[-1]
    page = (tmp_path / "run/report.html").read_text("utf-8")
    files = {name: f"{name}.png" for name in ("training", "survival", "heat_map", "perturbations")}
    for name, file in {**files, "accuracy": "classwise.png"}.items():
        assert file in written
        assert f'id="{name}-' in page
    assert "overview.png" in written
    assert 'id="overview-' not in page
