"""Hugging Face datasets of images on this machine, as their own library stores them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from rbjax.data import custom, huggingface, own_images, sources

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


def test_what_is_missing_is_refused_in_one_line(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets", reason="needs rbjax[huggingface]")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    columns = {
        "image": datasets.Image(),
        "label": datasets.ClassLabel(names=CLASSES[:2]),
        "patient": datasets.Value("string"),
    }
    rows = [{"image": encoded(n, None), "label": n % 2, "patient": "p"} for n in range(4)]

    def saved(name: str, **changes):
        some = [*rows[:3], {**rows[3], **changes}]
        return datasets.Dataset.from_list(some, features=datasets.Features(columns)), name

    for (stored, name), options, wrong in (
        (saved("image", image=None), {}, "column image says no image of 1 of 4 images, .*row 3"),
        (saved("group", patient=None), {"groups": "patient"}, "patient says no group of 1 of 4"),
        (saved("kind"), {"images": "label"}, "images = 'label': not a column .* but ClassLabel$"),
    ):
        stored.save_to_disk(tmp_path / name)
        with pytest.raises(ValueError, match=wrong):
            custom.load(source(tmp_path / name, **options), "train")
    folds = datasets.DatasetDict({"fold1": saved("")[0], "fold2": saved("")[0]})
    folds.save_to_disk(tmp_path / "folds")
    with pytest.raises(ValueError, match=r"no split is called .*; there are fold1, fold2:"):
        custom.load(source(tmp_path / "folds"), "train")
    # A column that training has and the other's data have not is called as usual there.
    info = custom.info(source(tmp_path / "kind", test_fraction=0.5))
    for labels, found in (("diagnosis", None), ("label", "label")):
        other = own_images.elsewhere("huggingface", str(tmp_path / "kind"), info, labels=labels)
        assert other.labels == found


def test_without_the_library_it_is_asked_for(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="no such file or folder"):
        custom.load(source(tmp_path / "nothing"), "train")

    def missing(name: str):
        raise ImportError(name)

    monkeypatch.setattr(huggingface.importlib, "import_module", missing)
    with pytest.raises(ValueError, match=r"pip install rbjax\[huggingface\]"):
        custom.load(source(tmp_path), "train")
