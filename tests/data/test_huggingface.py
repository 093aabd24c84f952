"""Hugging Face datasets of images on this machine, as their own library stores them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from rbjax.data import custom, huggingface, sources

CLASSES = ["ant", "bee", "cow"]


def pixels(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)


def encoded(number: int, path: str | None) -> dict:
    file = io.BytesIO()
    Image.fromarray(pixels(number)).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": path}


def source(path, **options) -> sources.Source:
    return sources.source("huggingface", options, path=str(path))


def test_what_is_saved_is_read(tmp_path, monkeypatch, capsys):
    datasets = pytest.importorskip("datasets", reason="needs rbjax[huggingface]")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    columns = {
        "image": datasets.Image(),
        "label": datasets.ClassLabel(names=["none", *CLASSES]),
        "patient": datasets.Value("string"),
    }

    def split(numbers, *, named: bool):
        rows = [
            {
                "image": encoded(n, f"scan_{n}.png" if named else None),
                "label": 1 + n % 3,
                "patient": f"p{n // 3}",
            }
            for n in numbers
        ]
        return datasets.Dataset.from_list(rows, features=datasets.Features(columns))

    whole = datasets.DatasetDict(
        {"train": split(range(12), named=True), "test": split(range(12, 18), named=False)}
    )
    whole.save_to_disk(tmp_path / "saved")
    for name in whole:
        place = tmp_path / "hub" / "data" / f"{name}-00000-of-00001.parquet"
        place.parent.mkdir(parents=True, exist_ok=True)
        whole[name].to_parquet(place)
    marks = set()
    for path in (tmp_path / "saved", tmp_path / "hub"):
        train, test = (custom.load(source(path), part) for part in ("train", "test"))
        assert train.info.class_names == tuple(CLASSES)  # without the one of no image
        assert (train.num_examples, test.num_examples) == (12, 6)
        for row, number in enumerate(train.index):
            np.testing.assert_array_equal(train.images[row], pixels(number))
            assert train.labels[row] == number % 3
            assert train.files is not None
            assert train.files[row] == f"train/scan_{number}.png"
        assert test.files is not None
        assert sorted(test.files)[0] == "test/00000000"
        marks.add(custom.fingerprint(source(path)))
    assert len(marks) == 1  # the same data, however they are stored
    capsys.readouterr()
    # One split, one file: a share is held out, whole patients.
    one = source(tmp_path / "hub/data/train-00000-of-00001.parquet", groups="patient")
    train, test = (custom.load(one, part) for part in ("train", "test"))
    assert (train.num_examples, test.num_examples) == (9, 3)
    assert "4 groups, each kept whole" in capsys.readouterr().err
    for wrong, options in (
        (
            r"dataset.groups = 'patiemt': no such column; .* did you mean 'patient'",
            {"groups": "patiemt"},
        ),
        (r"dataset.labels: 'labell': no such column; .*label \(ClassLabel\)", {"labels": "labell"}),
    ):
        with pytest.raises(ValueError, match=wrong):
            custom.load(source(tmp_path / "hub", **options), "train")
    (tmp_path / "hub/data/train-00000-of-00001.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match="not a dataset that the library datasets reads"):
        custom.load(source(tmp_path / "hub"), "train")
    lost = datasets.Dataset.from_list(
        [{"image": encoded(n, None), "label": -n % 2 - 1} for n in range(4)],
        features=datasets.Features({k: columns[k] for k in ("image", "label")}),
    )
    lost.save_to_disk(tmp_path / "unlabelled")
    with pytest.raises(
        ValueError, match="column label says no class of 2 of 4 images, such as row 0"
    ):
        custom.load(source(tmp_path / "unlabelled"), "train")


def test_without_the_library_it_is_asked_for(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="no such file or folder"):
        custom.load(source(tmp_path / "nothing"), "train")

    def missing(name: str):
        raise ImportError(name)

    monkeypatch.setattr(huggingface.importlib, "import_module", missing)
    with pytest.raises(ValueError, match=r"pip install rbjax\[huggingface\]"):
        custom.load(source(tmp_path), "train")
