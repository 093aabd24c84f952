"""`rbjax.audit`: a model of any origin in one call, and the page that it writes."""

from __future__ import annotations

import csv
import re
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

import rbjax
from rbjax import analysis, attacks
from rbjax.analysis import origin

RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(16, 3)).astype(np.float32)
IMAGES = RNG.random((40, 4, 4, 1), np.float32)
NAMES = ["cat", "<b>dog</b>", "cow"]


def linear(images: Any) -> Any:
    return (images - 0.5).reshape(len(images), -1) @ jnp.asarray(WEIGHTS)


LABELS = np.array(jnp.argmax(linear(IMAGES), -1))
LABELS[:4] = (LABELS[:4] + 1) % 3  # four misclassified as they are


def audit(folder, **options: Any):
    entries = {"fgsm": attacks.fgsm(epsilon=0.1)}
    given = {"epsilon": 0.1, "entries": entries, "max_steps": 5, "folder": folder, **options}
    return rbjax.audit(linear, IMAGES, LABELS, **given)


def test_a_model_is_audited_in_one_call(tmp_path):
    counts = np.array([100, 10, 1])
    result = audit(tmp_path / "a", class_names=NAMES, train_counts=counts, name="Mine")
    report = analysis.read_report(tmp_path / "a")
    assert report["results"]["clean"]["summary"]["accuracy"] == pytest.approx(0.9)
    data = jnp.asarray(IMAGES), jnp.asarray(LABELS)
    fooled = attacks.fgsm(epsilon=0.1)(linear, rbjax.prng.key(0), *data).fooled
    expected = 1 - float(jnp.mean(fooled))
    assert result.attacked.accuracy("fgsm").value == pytest.approx(expected)
    assert 0 < expected < 0.9
    page = result.page.read_text("utf-8")
    for said in ("Mine on images", "linf, epsilon 0.1", "&lt;b&gt;dog", "withstand 5 draws"):
        assert said in page, said
    assert "<b>dog" not in page
    config = report["config"]
    assert (config["epsilon"], config["norm"], config["batch_size"]) == (0.1, "linf", 128)
    assert config["attacks"]["fgsm"]["epsilon"] == 0.1
    assert config["score"]["max_steps"] == 5
    assert set(report["versions"]) == {"rbjax", "jax", "jaxlib", "flax", "numpy", "Python"}
    assert f"numpy {np.__version__}" in page
    assert report["command"] == origin.command()
    assert sys.orig_argv[-1].split()[0].rpartition("/")[2] in report["command"]
    assert {finding.name for finding in result.findings} >= {"pixel_range"}
    assert f"{len(result.findings)} checks for a false sense of robustness, 40 images: " in str(
        result
    )
    assert repr(result).startswith(
        "images test, per cent; fgsm: linf, epsilon 0.1, 1 step; "
        "RPR: up to 5 draws of RandomPixels:\n"
    )
    table = analysis.table(result)
    assert "Mine on images, 40 images" in table.title
    assert "linf, epsilon 0.1" in table.title
    assert repr(table).split("class  ")[1] in repr(result)
    assert analysis.columns(result)["RPR"] == table.columns["RPR"]
    analysis.plot(result, tmp_path / "audit.png")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"files": ["a.png"]}, r"files is 1 names; it must be 40 names, one an image"),
        ({"files": "folder"}, r"files is 'folder'; it must be 40 names"),
        ({"class_names": ["a", "b"]}, "class_names has 2 names; there are 3 classes"),
        ({"train_counts": np.ones(2, int)}, r"train_counts is int64 of shape \(2,\)"),
        ({"class_names": "cow"}, "class_names is 'cow'; it must be a list of names"),
        ({"class_names": 3}, "class_names is 3; it must be a list of names"),
        ({"epsilon": -1.0}, "epsilon is -1"),
        ({"norm": "Linf"}, "norm 'Linf' is unknown.*did you mean 'linf'"),
        ({"folder": __file__}, "folder = .*: is a file; give a folder"),
        ({"folder": ""}, "folder is ''"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_what_is_wrong_is_said(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        audit(**{"folder": tmp_path / "b", **options})


def test_checks_that_fail_are_printed_with_their_advice(tmp_path):
    def probable(images: Any) -> Any:
        return jax.nn.softmax(linear(images))

    entries, files = {"fgsm": attacks.fgsm(epsilon=0.1)}, tmp_path / "a"
    result = rbjax.audit(probable, IMAGES, LABELS, entries=entries, max_steps=2, folder=files)
    said = re.search(
        r"\d+ checks .*40 images: (\d+) failed\n(FAILED .*\n.*-> .*\n?)+$", str(result)
    )
    assert said
    assert int(said[1]) == sum(not finding.passed for finding in result.findings)
    assert "return what goes into the softmax" in str(result)


def test_a_forest_is_audited_by_its_answers(tmp_path):
    forest = RandomForestClassifier(5, random_state=0).fit(IMAGES.reshape(40, -1), LABELS)
    given = {"epsilon": 0.3, "max_steps": 3, "folder": tmp_path / "a"}
    result = rbjax.audit(rbjax.wrap(forest), IMAGES, LABELS, **given)
    assert list(result.attacked.outcomes) == ["square"]
    assert result.attacked.outcomes["square"].fooled.any()
    np.testing.assert_array_equal(result.attacked.clean, forest.predict(IMAGES.reshape(40, -1)))
    assert result.findings == []
    assert "Can the numbers be trusted" not in result.page.read_text("utf-8")
    again = rbjax.audit(rbjax.wrap(forest), IMAGES, LABELS, **given)  # from the journals
    assert repr(again) == repr(result)
    forest.fit(IMAGES.reshape(40, -1), 2 - LABELS)
    with pytest.raises(ValueError, match="journal"):
        rbjax.audit(rbjax.wrap(forest), IMAGES, LABELS, **given)


def test_files_stand_beside_what_is_said_of_their_images(tmp_path):
    files = [f"scans/<i>{row}.png" for row in range(40)]
    result = audit(tmp_path / "a", files=files, class_names=NAMES)
    tables = {}
    for name in ("examples.csv", "datapoints.csv"):
        with (tmp_path / "a" / name).open(encoding="utf-8") as file:
            tables[name] = list(csv.DictReader(file))
        assert [row["file"] for row in tables[name]] == files
        assert [row["label"] for row in tables[name]] == [NAMES[label] for label in LABELS]
    assert [row["fgsm"] for row in tables["examples.csv"]] == [
        NAMES[i] for i in result.attacked.outcomes["fgsm"].predictions
    ]
    page = result.page.read_text("utf-8")
    least = int(np.argmin(np.where(result.attacked.clean == LABELS, result.scores.robust, True)))
    assert f"scans/&lt;i&gt;{least}.png: fails at draw" in page or result.scores.robust.all()
    assert len(re.findall(r"scans/&lt;i&gt;\d+\.png: ", page)) == page.count("an image of class")
    assert ", example " not in page


def test_a_run_directory_is_left_alone(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="is a run directory; give another folder"):
        audit(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]
