"""Weights that others trained, on a folder of ImageNet's validation images: the whole command."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import rbjax
from rbjax import models
from rbjax.data.class_names import IMAGENET
from rbjax.data.datasets import IMAGENET_MEAN, IMAGENET_STD
from rbjax.main import main
from tests.data import imagenet_like
from tests.data.imagenet_like import CHINA, FLOWER, HOPPER

SMOKE = "--config=configs/evaluate_imagenet.py:smoke"
OPTIONS = {"form": "imagenet", "version": "1.1", "width_multiplier": 0.125}


def refused(capsys, *arguments: str) -> str:
    capsys.readouterr()
    assert main(["rbjax", *arguments]) == 2
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """A folder with both layouts, the development kit, and weights."""
    folder = tmp_path_factory.mktemp("imagenet")
    imagenet_like.save_folders(folder / "val")
    imagenet_like.save_flat(folder / "flat")
    model = models.create(
        "squeezenet",
        num_classes=1000,
        image_shape=(64, 64, 3),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        **OPTIONS,
    )
    imagenet_like.save_weights(folder / "squeezenet.safetensors", model)
    return folder


@pytest.fixture(scope="module")
def arguments(there):
    return [
        SMOKE,
        "--config.dataset.image_size=64,64",
        "--config.model.name=squeezenet",
        f"--config.model.weights={there / 'squeezenet.safetensors'}",
        *(f"--config.model.{name}={value}" for name, value in OPTIONS.items() if name != "form"),
    ]


def redder(picture: Image.Image) -> bool:
    """Returns whether the network takes a picture for a daisy: what 7 x 7 of a grid have most of.

    Its first convolution passes the middle of each 3 x 3 pixels, every second, and three max pools
    of 3 x 3 follow; the head averages red less blue as they are normalised, above the mean.
    """
    pixels = np.asarray(picture, np.float64) / 255
    maps = np.maximum((pixels - IMAGENET_MEAN) / IMAGENET_STD, 0)[1:-1:2, 1:-1:2]
    for _ in range(3):
        side = -(-(len(maps) - 3) // 2) + 1
        windows = [
            [maps[2 * y : 2 * y + 3, 2 * x : 2 * x + 3] for x in range(side)] for y in range(side)
        ]
        maps = np.array([[window.max(axis=(0, 1)) for window in row] for row in windows])
    return bool(maps[..., 0].mean() > maps[..., 2].mean())


@pytest.mark.full_size
def test_both_layouts_give_a_report(there, arguments, tmp_path, capsys):
    daisy, palace, uniform = (IMAGENET.index(name) for name in (FLOWER, CHINA, HOPPER))
    workdir = tmp_path / "flat"
    flat = [*arguments, f"--config.dataset.path={there / 'flat'}", f"--workdir={workdir}"]
    assert main(["rbjax", *flat]) == 0
    said = capsys.readouterr().out
    assert "evaluating squeezenet.safetensors on 4 test images" in said
    assert "not shown: 997 classes without images; all are in classwise.csv" in said
    rows = ["n03763968 military uniform", "n03877845 palace", "n11939491 daisy"]
    table = [line.partition("  ")[0].strip() for line in said.splitlines()]
    assert [line for line in table if line in rows] == rows
    assert len((workdir / "classwise.csv").read_text().splitlines()) == 1001
    report = json.loads((workdir / "report.json").read_text())
    assert report["train_class_counts"] is None
    assert report["results"]["pgd"]["attack"]["epsilon"] == 4 / 255
    assert report["corruptions"]["profile"] == "imagenet"
    with np.load(workdir / "report.npz") as arrays:
        assert arrays["labels"].tolist() == [palace, daisy, uniform, daisy]
        clean = arrays["clean"].tolist()
    # What the network says of the middle of each photograph, worked out apart.
    photographs = imagenet_like.photographs()
    for name, answer in zip((CHINA, FLOWER, HOPPER), clean, strict=False):
        width, height = photographs[name].size
        size = 73 * width // min(width, height), 73 * height // min(width, height)
        scaled = photographs[name].resize(size, Image.Resampling.BILINEAR)
        left, top = (round((side - 64) / 2) for side in scaled.size)
        cut = scaled.crop((left, top, left + 64, top + 64))
        assert answer == (daisy if redder(cut) else palace)
    assert clean[:2] == [palace, daisy]

    # Of the same photographs in class folders the same programs say the same.
    command = [
        *arguments,
        f"--config.dataset.path={there / 'val'}",
        f"--workdir={tmp_path / 'val'}",
    ]
    command += ["--config.dataset.max_test_examples=4", "--config.corruptions.name=none"]
    assert main(["rbjax", *command]) == 0
    with np.load(tmp_path / "val/report.npz") as arrays:
        expected = np.array([uniform, uniform, palace, palace, daisy, daisy])
        np.testing.assert_array_equal(arrays["labels"], expected[arrays["index"]])
        said = dict(zip(arrays["index"].tolist(), arrays["clean"].tolist(), strict=True))
    for row, answer in {0: clean[2], 2: palace, 4: daisy}.items():
        assert said.get(row, answer) == answer

    # The directory belongs to these weights; it loads, saves, and is evaluated again.
    run = rbjax.load(workdir)
    assert run.class_names[daisy] == "n11939491 daisy"
    saved = rbjax.load(rbjax.save(run, tmp_path / "net.safetensors"))
    images = np.asarray(photographs[FLOWER].resize((64, 64)), np.float32)[None] / 255
    np.testing.assert_array_equal(run.logits_fn(images), saved.logits_fn(images))
    with pytest.raises(ValueError, match="given weights are of one file"):
        rbjax.load(workdir, checkpoint="best")
    again = ["--config=configs/evaluate_standard.py:smoke", f"--workdir={workdir}"]
    line = refused(capsys, *again)
    assert "attacks.universal: a universal perturbation is crafted on training images" in line
    other = there / "other.safetensors"
    other.write_bytes((there / "squeezenet.safetensors").read_bytes()[:-4] + b"\0\0\0\1")
    line = refused(capsys, *flat, f"--config.model.weights={other}")
    assert "is another file than it was" in line


def test_mistakes_are_said_before_anything_is_written(there, arguments, tmp_path, capsys):
    workdir = f"--workdir={tmp_path / 'run'}"
    command = [*arguments, f"--config.dataset.path={there / 'val'}", workdir]
    line = refused(capsys, SMOKE, workdir)
    assert "give weights that others trained (--config.model.weights=)" in line
    line = refused(capsys, *command, "--config.model.weights=nowhere.pth")
    assert "model.weights = 'nowhere.pth': no such file" in line
    line = refused(capsys, *command, "--config.model.version=1.0")
    assert "features.0.weight (8, 3, 3, 3)" in line or "'features.0.weight' is (8, 3, 3, 3)" in line
    line = refused(
        capsys,
        *command,
        "--config.model.name=vgg16",
        "--config.model.version=none",
        "--config.model.width_multiplier=none",
    )
    assert "is missing" in line
    line = refused(capsys, *command, "--config.task=train")
    assert "training draws weights of its own" in line
    line = refused(capsys, *command, f"--config.dataset.path={there}")
    assert f"did you mean {str(there / 'flat')!r}?" in line
    assert not (tmp_path / "run").exists()
    flat = f"--config.dataset.path={there / 'flat'}"
    line = refused(capsys, *command, flat, "--config.dataset.devkit=nowhere")
    assert "dataset.devkit = 'nowhere': no such folder or archive" in line
    assert not (tmp_path / "run").exists()
