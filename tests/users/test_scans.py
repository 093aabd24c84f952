"""Someone has grey 16-bit scans by patient, and another hospital's to test on."""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rbjax.data import load

pytestmark = pytest.mark.full_size

SCRIPT = Path(__file__).with_name("scans_by_patient.sh").read_text(encoding="utf-8")


def write(folder: Path) -> None:
    """Digits as scans of 16 bits of which 12 are used; a patient has ten of one kind."""
    rows = ["file;label;group;split"]
    for place, split in (("scans", "train"), ("hospital_b", "test")):
        digits = load("digits", split)
        for row, (image, label) in enumerate(zip(digits.images, digits.labels, strict=True)):
            name, patient = ("zero", "one", "two", "three")[min(label, 3)], f"p{row // 30:03d}"
            if label > 3 or (place == "hospital_b" and label == 3):
                continue
            pixels = Image.fromarray(image[..., 0].astype(np.uint16) << 4)
            shown = pixels if place == "scans" else pixels.resize((40, 24))
            files = [folder / place / name / f"{patient}_{name}" / f"{row}.png"]
            files += [folder / "flat" / f"{row}.png"] * (place == "scans")
            for file, of in zip(files, (shown, pixels), strict=False):
                file.parent.mkdir(parents=True, exist_ok=True)
                of.save(file)
            is_test = int(patient[1:]) % 5 == 0
            rows += [f"{row}.png;{name};{patient};{'test' if is_test else 'train'}"] * (
                place == "scans"
            )
    (folder / "flat" / "scans.csv").write_text("\n".join(rows), encoding="utf-8")


def test_scans_of_two_hospitals(environment, tmp_path):
    write(tmp_path)
    done = subprocess.run(
        ["bash", "-euc", SCRIPT],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "Traceback" not in done.stdout
    for said in (
        "images with 16 bits: pixels are float32",
        "the largest value is 0.06",
        "groups, each kept whole",
        "hospital_b: no image of class three",
        "images are not 16 x 16: scaled (bilinear",
    ):
        assert said in done.stdout
    with (tmp_path / "runs/scans/examples.csv").open() as file:
        told = list(csv.DictReader(file))
    assert {row["label"] for row in told} == {"zero", "one", "two"}
    assert all((tmp_path / "hospital_b" / row["file"]).is_file() for row in told)
    with (tmp_path / "predictions.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(told)
    with (tmp_path / "runs/table/examples.csv").open() as file:
        tested = {int(row["file"].removesuffix(".png")) // 30 for row in csv.DictReader(file)}
    assert all(patient % 5 == 0 for patient in tested)
