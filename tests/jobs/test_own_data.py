"""A job on one's own data: from a config to a report, and what is said of data that changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rbjax import analysis, command_line, data
from rbjax.console import printable
from rbjax.data import imagenet_folder, load
from rbjax.evaluate import evaluate
from rbjax.train import train
from rbjax.training import setup

CLASSES = ["$", "$a$b", r"\frac", "_", "^", "US$5 to AU$10", "日本語", "עברית", "a\nb", "x" * 120]


def save(path: Path, *, num_test: int = 40) -> None:
    arrays: dict[str, Any] = {"class_names": np.asarray(CLASSES)}
    for split, count in (("train", 640), ("test", num_test)):
        part = load("digits", split)
        arrays[f"{split}_images"] = part.images[:count]
        arrays[f"{split}_labels"] = part.labels[:count]
    np.savez(path, **arrays)


def resolve(job, path: Path, workdir: str, **changes):
    given = job(num_epochs=1, dataset__name="npz", dataset__path=str(path), **changes)
    del given.attacks.universal
    return command_line.resolve(given, workdir)


def test_from_arrays_to_a_report(job, tmp_path):
    path, workdir = tmp_path / "own.npz", str(tmp_path / "run")
    save(path)
    config = resolve(job, path, workdir)
    assert len(config.dataset.fingerprint) == 16
    train(config, workdir)
    # The file may move: what is in it is what counts.
    moved = path.rename(tmp_path / "moved.npz")
    again = resolve(job, moved, workdir, task="evaluate")
    assert again.dataset.path == str(moved)
    evaluate(again, workdir)
    report = json.loads(Path(workdir, "report.json").read_text())
    assert report["class_names"] == CLASSES
    table = analysis.report(workdir)
    for name in CLASSES:
        assert f"\n{printable(name)} " in table
    assert table.endswith("training.png, classwise.png, overview.png, report.html")
    assert sum(report["class_counts"]) == 40
    save(moved, num_test=39)
    with pytest.raises(ValueError, match="holds other data than the run was trained on"):
        resolve(job, moved, workdir, task="evaluate")


def test_mistakes(job, tmp_path):
    def mistake(**changes) -> str:
        given = job(**{f"dataset__{name}": value for name, value in changes.items()})
        with pytest.raises(ValueError, match="dataset") as error:
            command_line.resolve(given, str(tmp_path / "run"))
        return str(error.value)

    assert "dataset.path is missing" in mistake(name="folder")
    assert "no such folder" in mistake(name="folder", path=str(tmp_path / "nowhere"))
    assert "not a file" in mistake(name="npz", path=str(tmp_path))
    assert "dataset.path = 'x': not a field of 'digits'" in mistake(path="x")
    assert "did you mean 'folder'" in mistake(name="foldr")
    wrong = mistake(name="folder", path=str(tmp_path), image_size=(16,))
    assert "dataset.image_size = (16,): must be height and width" in wrong
    wrong = mistake(name="npz", path="own.npz", bands="B4,B3")
    assert "dataset.bands = 'B4,B3': only for droughtwatch" in wrong


def test_what_lacks_a_split_is_refused_before_training(job, tmp_path):
    def mistake(**changes) -> str:
        with pytest.raises(ValueError, match=r"split|no array|configs|unknown") as error:
            command_line.resolve(job(**changes), str(tmp_path / "run"))
        return str(error.value)

    wrong = mistake(dataset__name="alignmnist_generated")
    assert "dataset.name: alignmnist_generated has no split 'test', which task = 'train'" in wrong
    assert "it has train, block_1, block_2" in wrong
    wrong = mistake(dataset__name="cifar10_corrupted/fog_3")
    assert "cifar10_corrupted/fog_3 has no split 'train'" in wrong
    assert "allowed: cifar10_corrupted/gauss" in mistake(dataset__name="cifar10_corrupted")
    assert "config of digits 'fog' is unknown: it has no configs" in mistake(
        dataset__name="digits/fog"
    )
    path = tmp_path / "own.npz"
    save(path)
    with np.load(path) as arrays:
        np.savez(path, train_images=arrays["train_images"], train_labels=arrays["train_labels"])
    wrong = mistake(dataset__name="npz", dataset__path=str(path))
    assert "has no array test_images or x_test" in wrong


def test_another_test_set(job, tmp_path):
    """Here the training images; the model and its normalisation stay those of the run."""
    workdir = str(tmp_path / "run")

    def resolve_on(test_on: str, **changes):
        given = job(
            num_epochs=1, dataset__test_on=test_on, dataset__max_test_examples=100, **changes
        )
        del given.attacks.universal
        return command_line.resolve(given, workdir)

    train(resolve_on("digits"), workdir)
    config = resolve_on("digits:train", task="evaluate")
    evaluate(config, workdir)
    report = json.loads(Path(workdir, "report.json").read_text())
    assert report["split"] == "digits train"
    with np.load(f"{workdir}/report.npz") as examples:
        tested = load("digits", "train")
        rows = np.searchsorted(tested.example_ids, examples["example_ids"])
        np.testing.assert_array_equal(examples["labels"], tested.labels[rows])
    for wrong, message in (
        ("mnist", r"with image_shape \(28, 28, 1\); it must have that of digits"),
        ("digit", "dataset.test_on = 'digit': .*did you mean 'digits'"),
        ("digits:trian", "did you mean 'train'"),
    ):
        with pytest.raises(ValueError, match=message):
            resolve_on(wrong)


def test_another_test_set_has_our_classes_in_our_order():
    cifar = data.info("cifar10")
    swapped = (*cifar.class_names[1::-1], *cifar.class_names[2:])
    mine = cifar._replace(name="npz", class_names=swapped)
    with pytest.raises(ValueError, match=r"it whose class 0 is automobile; .* 0 is airplane$"):
        setup.check_alike(mine, cifar, "it")
    with pytest.raises(ValueError, match=r"class 0 is T-shirt/top; .* mnist .*class 0 is 0$"):
        setup.check_alike(data.info("fashion_mnist"), data.info("mnist"), "it")
    # Numbers of arrays say nothing of their classes.
    for names in (tuple(map(str, range(10))), tuple(map(str.title, cifar.class_names))):
        setup.check_alike(cifar, mine._replace(class_names=names), "it")
    imagenet = data.info("imagenet2012")
    ours = imagenet._replace(class_names=imagenet_folder.NAMES)
    setup.check_alike(data.info("imagenet2012_corrupted"), ours, "it")
