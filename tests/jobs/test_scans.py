"""A job on 16-bit scans by patient, tested on another hospital's: what it writes names files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import rbjax
from rbjax import atomic, command_line, predict
from rbjax.data import load
from rbjax.evaluate import evaluate
from rbjax.score import score
from rbjax.train import train

NAMES = ("zero", "one", "two")


def save(root: Path, split: str, names=NAMES) -> Path:
    digits = load("digits", split)
    for row, (image, label) in enumerate(zip(digits.images, digits.labels, strict=True)):
        if label < len(names) and row < 700:
            file = root / names[label] / f"patient_{row // 20}" / f"{row}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0].astype(np.uint16) * 257).save(file)
    return root


def rows(workdir: str, name: str) -> list[dict[str, str]]:
    with Path(workdir, name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.full_size
def test_scans_of_two_hospitals(job, tmp_path, capsys):
    ours, theirs = save(tmp_path / "a", "train"), save(tmp_path / "b", "test", NAMES[:2])
    workdir = str(tmp_path / "run")
    given = job(num_epochs=2, method__name="standard", method__epsilon=None)
    given.dataset.update(name="folder", path=str(ours), groups="subfolders")
    given.dataset.update(max_test_examples=None, max_train_examples=None, rotation_degrees=0.0)
    given.score.max_steps, given.batch_size = 2, 32
    del given.attacks.universal
    given.corruptions.update(name="contrast", source="online")
    config = command_line.resolve(given, workdir)
    train(config, workdir)
    said = json.loads(Path(workdir, "data.json").read_text())
    assert said["pixels"] == "float32"
    assert said["num_groups"]["train"] > said["num_groups"]["validation"] > 0
    assert [sum(counts) for counts in said["class_counts"].values()]
    assert any("with 16 bits" in note for note in said["notes"])
    score(config, workdir)
    held_out = {row["file"] for row in rows(workdir, "datapoints.csv")}
    assert all((ours / file).is_file() for file in held_out)
    journals = set()
    for change in range(2):
        with given.unlocked():
            given.task, given.dataset.test_on = "evaluate", f"folder:{theirs}"
        capsys.readouterr()
        report = evaluate(command_line.resolve(given, workdir), workdir)
        assert report["split"] == f"folder {theirs}"
        assert any("no image of class two" in note for note in report["notes"])
        journals |= set(Path(workdir, "evaluation").iterdir())
        assert len(journals) == 2 * (change + 1)  # other images, another journal
        next(theirs.rglob("*.png")).unlink()
    told = rows(workdir, "examples.csv")
    assert {row["label"] for row in told} == set(NAMES[:2])
    assert all(row["file"].startswith(f"{row['label']}/patient_") for row in told)
    right = np.mean([row["clean"] == row["label"] for row in told])
    assert right == report["results"]["clean"]["summary"]["accuracy"] > 0.5
    stored = atomic.read_npz(Path(workdir, "report.npz"))
    assert stored is not None
    for severity in (1, 2, 3, 4, 5):  # of each corruption, too
        given = [report["class_names"][i] for i in stored["corruptions/contrast"][severity - 1]]
        assert [row[f"contrast {severity}"] for row in told] == given
    # What is predicted of the same files, read alone, is the same.
    run = rbjax.load(workdir)
    files, found = predict.predict_folder(run, theirs)
    predicted = dict(zip(files, (run.class_names[i] for i in found.classes), strict=True))
    assert all(row["clean"] == predicted[row["file"]] for row in told if row["file"] in predicted)
    assert len(predicted) == len(told) - 1
    assert f"{theirs}: their mean is 0." in capsys.readouterr().err
