"""An evaluation's two files: what is large is in the second, and comes back by the reader."""

import json
from typing import Any

import numpy as np
import pytest

from rbjax import analysis, atomic, metrics
from rbjax.analysis.evaluation import write_report

RNG = np.random.default_rng(0)


def classwise(matrix: np.ndarray) -> dict[str, Any]:
    return {
        "confusion": matrix,
        "summary": metrics.summarize(matrix),
        "classwise": metrics.from_confusion(matrix)._asdict(),
        "interval": {"recall": RNG.random((2, len(matrix)))},
    }


def evaluation(num_classes: int, labels: list[str], corruptions: list[str]) -> dict[str, Any]:
    shape = (num_classes, num_classes)
    matrices = {name: RNG.integers(0, 3, (5, *shape), np.int32) for name in corruptions}
    return {
        "dataset": "made_up",
        "split": "test",
        "class_names": [f"class {i}" for i in range(num_classes)],
        "order": labels,
        "results": {label: classwise(RNG.integers(0, 3, shape)) for label in labels},
        "corruptions": {
            "order": corruptions,
            "confusion": matrices,
            "class_accuracy": {name: RNG.random((5, num_classes)) for name in corruptions},
        },
    }


def test_a_thousand_classes_and_nineteen_corruptions_are_less_than_5_mb(tmp_path):
    report = evaluation(1000, ["clean"], ["fog"])
    # The same numbers again and again: it is the JSON that is measured.
    labels = ["clean", "fgsm", "pgd", "apgd", "square"]
    report["results"] = dict.fromkeys(labels, report["results"]["clean"])
    names = [f"corruption_{i}" for i in range(19)]
    report["corruptions"]["order"] = names
    for key in ("confusion", "class_accuracy"):
        report["corruptions"][key] = dict.fromkeys(names, report["corruptions"][key]["fog"])
    report["corruptions"]["confusion"] = {names[0]: report["corruptions"]["confusion"][names[0]]}
    write_report(tmp_path, report, {})
    size = (tmp_path / "report.json").stat().st_size
    assert 1e6 < size < 5e6
    stored = json.loads((tmp_path / "report.json").read_text())
    assert not any("confusion" in result for result in stored["results"].values())


def test_the_reader_gives_what_was_written(tmp_path):
    report = evaluation(3, ["clean", "pgd"], ["fog", "snow"])
    write_report(tmp_path, report, {"labels": np.arange(4)})
    read = analysis.read_report(tmp_path)
    for label, result in report["results"].items():
        np.testing.assert_array_equal(read["results"][label]["confusion"], result["confusion"])
        assert read["results"][label]["confusion"].dtype == np.int64
        assert read["results"][label]["summary"] == atomic.plain(result["summary"])
    for name, matrices in report["corruptions"]["confusion"].items():
        np.testing.assert_array_equal(read["corruptions"]["confusion"][name], matrices)
    with np.load(tmp_path / "report.npz") as arrays:
        np.testing.assert_array_equal(arrays["labels"], np.arange(4))


def test_a_report_of_an_earlier_version_has_them_in_the_json(tmp_path):
    report = evaluation(3, ["clean"], ["fog"])
    atomic.write_json(tmp_path / "report.json", report)
    read = analysis.read_report(tmp_path)
    expected = report["results"]["clean"]["confusion"]
    np.testing.assert_array_equal(read["results"]["clean"]["confusion"], expected)
    assert read["corruptions"]["confusion"]["fog"].shape == (5, 3, 3)


def test_files_of_two_evaluations_are_not_mixed(tmp_path):
    with pytest.raises(ValueError, match=r"holds no report\.json; evaluate it first"):
        analysis.read_report(tmp_path)
    for _ in range(2):
        write_report(tmp_path, evaluation(3, ["clean"], []), {"labels": RNG.random(3)})
        kept = (tmp_path / "report.json").read_bytes()
        analysis.read_report(tmp_path)  # the control
    write_report(tmp_path, evaluation(3, ["clean"], []), {"labels": RNG.random(3)})
    (tmp_path / "report.json").write_bytes(kept)
    with pytest.raises(ValueError, match=r"report\.npz: is damaged, or not of the evaluation"):
        analysis.read_report(tmp_path)
    (tmp_path / "report.npz").unlink()
    with pytest.raises(ValueError, match=r"report\.npz: is missing; evaluate again"):
        analysis.read_report(tmp_path)
    (tmp_path / "report.json").write_bytes(kept[:50])
    with pytest.raises(ValueError, match=r"report\.json: is damaged"):
        analysis.read_report(tmp_path)


def test_lists_of_numbers_are_lines_and_all_else_is_as_json_writes_it(tmp_path):
    value = {"b": [1, 2.5, None], "a": {"c": [[1], []], "d": {}}, "é\udcff": ["$", True]}
    atomic.write_json(tmp_path / "x.json", value)
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text) == value
    assert '"b": [1, 2.5, null]' in text
    assert text.index('"a"') < text.index('"b"')
    with pytest.raises(TypeError, match="has no form in JSON"):
        atomic.write_json(tmp_path / "x.json", {"a": object()})
    assert (tmp_path / "x.json").read_text() == text
