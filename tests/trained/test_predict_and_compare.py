"""A run says what images are, and two runs are compared image by image."""

from __future__ import annotations

import csv
import json
import re
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

import rbjax
from rbjax import analysis, atomic, attacks, compare, compared, predict, rpr
from rbjax import config as schema
from rbjax.analysis import robustness
from rbjax.attacks.outcome import Outcome, Setting
from tests.trained.runs import IMAGES, TRAINED, config_of, made

RUN = rbjax.load(TRAINED)


def test_what_a_run_says_of_images():
    found = RUN.predict(IMAGES)
    shares = np.asarray(jax.nn.softmax(RUN.logits_fn(IMAGES)))
    np.testing.assert_allclose(found.probabilities, shares, rtol=1e-4)
    np.testing.assert_array_equal(found.classes, np.argmax(shares, axis=1))
    np.testing.assert_allclose(found.probability, shares.max(axis=1), rtol=1e-4)
    taken = analysis.table(found).columns["images"]
    assert taken == [int(np.sum(found.classes == label)) for label in range(10)]
    assert "probabilities" not in repr(found)
    with pytest.raises(ValueError, match=r"images have shape \(2,\)"):
        RUN.predict([1, 2])
    with pytest.raises(ValueError, match=r"images have shape \(3, 8, 8, 1\); it must be \(N, 16"):
        RUN.predict(IMAGES[:, ::2, ::2])


def test_a_folder_of_images_nobody_labelled(tmp_path, capsys):
    (tmp_path / "in" / "b").mkdir(parents=True)
    pixels = (255 * IMAGES[..., 0]).astype(np.uint8)
    for name, image in zip(("b/one.png", "c.png", "a,b.png"), pixels, strict=True):
        Image.fromarray(image).save(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("no image")
    out = tmp_path / "found.csv"
    assert predict.main([TRAINED, str(tmp_path / "in"), f"--out={out}"]) == 0
    printed = capsys.readouterr()
    counts = [int(word) for word in re.findall(r"\w+ (\d+)(?:,|\n)", printed.out)]
    assert printed.out.startswith("3 images: ")
    assert sum(counts) == 3
    assert "left out, not an image that Pillow reads: 1 (notes.txt)" in printed.err
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [row["file"] for row in rows] == ["a,b.png", "b/one.png", "c.png"]
    expected = RUN.predict(pixels[[2, 0, 1], ..., None])
    assert [row["class"] for row in rows] == [RUN.class_names[i] for i in expected.classes]
    np.testing.assert_allclose([float(row["probability"]) for row in rows], expected.probability)
    for wrong, words in {
        (TRAINED, str(tmp_path / "no")): "there is no such folder",
        (str(tmp_path / "run"), str(tmp_path)): "there is no such run directory or file",
        (TRAINED, str(tmp_path), "--out=/no/folder/a.csv"): "there is no folder",
        (TRAINED, str(tmp_path), f"--out={tmp_path}"): "is a folder; give a file in it",
        (TRAINED, str(tmp_path), "--out=p.xlsx"): "out = 'p.xlsx': suffix '.xlsx'; allowed: .csv",
        (TRAINED, str(out)): "is a file; give a folder",
        # Before anything is read:
        ("/no/run", "/no", "--batch_size=0"): "batch_size is 0; it must be a whole number of at",
    }.items():
        assert predict.main(wrong) == 2
        assert words in capsys.readouterr().err


def test_the_scoring_of_a_run(tmp_path, caplog):
    made(tmp_path / "run", config_of())
    folder, first = tmp_path / "run", np.array([1, 3, 3])
    run = rbjax.load(folder)
    assert run.scores is None
    about = {"config": run.config.to_dict(), "step": 0, "max_steps": 2}
    about |= {"forward_passes_run": 6, "forward_passes_needed": 5}
    atomic.write_json(folder / "rpr.json", about)
    flags = np.array([True, True, False])
    arrays = {"first_failure": first, "clean_correct": flags, "no_class": ~flags}
    atomic.write_npz(folder / "rpr.npz", labels=np.arange(3), **arrays)
    scores = rbjax.load(folder).scores
    assert isinstance(scores, rpr.Scores)
    assert scores.steps.tolist() == [1, 2, 2]
    assert scores.robust.tolist() == [False, True, True]
    assert "3 images, up to 2 draws" in repr(scores)
    atomic.write_json(folder / "rpr.json", about | {"step": 5})  # of other weights
    assert rbjax.load(folder).scores is None
    assert "rpr.json is of step 5, the weights loaded are of 0" in caplog.text
    (folder / "rpr.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"or damaged ones; score it"):
        robustness.read_scores(folder)


def attacked(wrong: list[int], labels: np.ndarray) -> attacks.SuiteResult:
    sure = np.ones(len(labels), np.float32)
    predictions = labels.copy()
    predictions[wrong] = (labels[wrong] + 1) % 10
    outcome = Outcome(
        predictions=predictions,
        correct=predictions == labels,
        counted=np.ones(len(labels), bool),
        targets=None,
        seconds=0.0,
        passes=None,
        details={},
        kept={},
        setting=Setting("linf", 8 / 255, "20 steps"),
        probability=sure,
        images=None,
    )
    return attacks.SuiteResult(labels, 10, labels, sure, {"pgd": outcome})


def test_two_runs_image_by_image(tmp_path, monkeypatch, capsys):
    """The attacks are other tests' matter: here they say what they are told to."""
    other, asked = tmp_path / "other", []
    made(other, config_of())

    def run_attacks(logits_fn, key, images, labels, *, attacks, example_ids, **options):
        asked.append((key, images, example_ids, attacks["pgd"].threat))
        zeros = np.flatnonzero(labels == 0)
        return attacked([] if len(asked) == 2 else zeros[:8].tolist(), labels)

    monkeypatch.setattr("rbjax.attacks.run_attacks", run_attacks)
    options = [f"--out={tmp_path / 'found.csv'}", "--epsilon=8/255", "--norm=linf"]
    assert compare.main([TRAINED, str(other), *options]) == 0
    (key, images, ids, threat), (key_2, images_2, ids_2, threat_2) = asked
    assert key == key_2
    assert threat == threat_2 == attacks.Threat("linf", 8 / 255, True)
    np.testing.assert_array_equal(images, images_2)
    np.testing.assert_array_equal(ids, ids_2)
    text = capsys.readouterr().out
    assert "pgd: linf, epsilon 8/255, 20 steps" in text
    assert f"{other} is better (p = 0.0078)" in text  # 8 heads of 8
    assert "no difference beyond chance (p = 1)" in text  # as they are
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["whole"]["pgd"]["only_second"] == 8
    assert found["p_holm"]["pgd"][0] == pytest.approx(10 * 2 / 2**8)  # of ten classes
    rows = list(csv.DictReader((tmp_path / "found.csv").read_text().splitlines()))
    assert len(rows) == 3 * 11
    assert float(rows[12]["difference"]) == pytest.approx(8 / 36, abs=0.01)
    assert f"written: {tmp_path / 'found.json'}" in text
    page = (tmp_path / "found.html").read_text("utf-8")
    assert f"{other} is better (p\xa0=\xa00.0078)" in page
    assert "method.name" in page  # the configs of both
    assert repr(compared.read(tmp_path / "found.json")) in text
    line = next(line for line in text.split("pgd:")[1].splitlines() if line.startswith("0 "))
    assert "second" not in line  # 0.08 after Holm


def test_runs_of_other_data_are_refused(tmp_path, capsys):
    with pytest.raises(
        ValueError, match=r"first is 'runs/a'; give what rbjax.load\(path\) returns"
    ):
        compare.compare_runs("runs/a", RUN)  # pyright: ignore[reportArgumentType]
    made(tmp_path / "other", config_of(dataset={"name": "mnist"}))
    assert compare.main([TRAINED, str(tmp_path / "other")]) == 2
    said = capsys.readouterr().err
    assert "has dataset.name mnist" in said
    assert "runs of different data cannot be compared" in said
    assert said.count("\n") == 1


def test_both_orders_are_attacked_within_the_ball_of_training(capsys):
    def run(path, **method) -> Any:
        config = schema.default()
        config.method.update(method)
        return SimpleNamespace(path=path, config=schema.resolve(config))

    plain, small = run("plain"), run("small", name="pgd", epsilon=4 / 255, norm="linf")
    round_ = run("round", name="pgd", epsilon=0.5, norm="l2")
    for runs in ((plain, small), (small, plain), (small, small)):
        assert compare._ball(runs, None, None) == {"norm": "linf", "epsilon": 4 / 255}
        assert compare._ball(runs, 0.1, None) == {"norm": "linf", "epsilon": 0.1}
    assert compare._ball((plain, plain), None, None) == {"norm": "linf", "epsilon": 8 / 255}
    assert compare._ball((small, round_), 1.0, "l2") == {"norm": "l2", "epsilon": 1.0}
    with pytest.raises(ValueError, match=r"small linf, epsilon 4/255 and .*--epsilon and --norm"):
        compare._ball((small, round_), None, None)
    with pytest.raises(ValueError, match=r"both are attacked, --norm$"):
        compare._ball((small, round_), 0.1, None)
    with pytest.raises(ValueError, match=r"norm = 'l2': give epsilon too"):
        compare._ball((plain, small), None, "l2")
    small.config.method.name, small.config.method.epsilon = "standard", None
    with plain.config.unlocked():
        plain.config.attacks.fgsm = schema.attack("fgsm", epsilon=0.2, norm="linf")
    for runs in ((plain, small), (small, plain)):
        assert compare._ball(runs, None, None) == {"norm": "linf", "epsilon": 0.2}
    assert compare.main([TRAINED, TRAINED, "--max_examples=0"]) == 2
    assert "max_examples is 0; it must be a whole number of at least 1" in capsys.readouterr().err
