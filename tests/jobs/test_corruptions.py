"""The task evaluate under corruptions: the report, its table, a baseline."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from configs import evaluate_corruptions
from rbjax import analysis, command_line, corruption_setup
from rbjax import config as schema
from rbjax.data import info, load
from rbjax.evaluate import evaluate
from rbjax.metrics import wilson_interval
from rbjax.training import setup


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def workdir(finished, folder) -> str:
    return str(shutil.copytree(finished, folder / "run"))


def resolve(job, workdir, **changes):
    given = job(num_epochs=2, **{f"corruptions__{k}": v for k, v in changes.items()})
    del given.attacks.fgsm, given.attacks.universal
    return command_line.resolve(given, workdir)


@pytest.mark.parametrize(
    ("dataset", "profile"),
    [
        ("cifar10", "cifar"),
        ("tiny_imagenet", "tiny_imagenet"),
        ("droughtwatch", "tiny_imagenet"),  # 65 pixels: ImageNet's would move things by many
        ("imagenet2012", "imagenet"),
    ],
)
def test_constants_are_those_of_the_nearest_size(dataset, profile):
    assert corruption_setup.profile_of(info(dataset), ("fog",)) == profile


def test_report(job, workdir, capsys):
    config = resolve(job, workdir, name="fog+impulse_noise", severities=(1, 5))
    evaluate(config, workdir)
    report = json.loads(Path(workdir, "report.json").read_text())
    found = report["corruptions"]
    assert found["profile"] == "mnist"
    assert found["order"] == ["fog", "impulse_noise"]
    assert found["severities"]["fog"] == [1, 5]
    with np.load(f"{workdir}/report.npz") as examples:
        labels, predictions = examples["labels"], examples["corruptions/fog"]
    assert predictions.shape == (2, 40)
    right = predictions == labels
    np.testing.assert_allclose(found["accuracy"]["fog"], right.mean(axis=1))
    interval = wilson_interval(right.sum(axis=1), 40)
    np.testing.assert_allclose(found["interval"]["fog"], interval)
    for label in range(10):
        member = right[:, labels == label]
        own = member.mean(axis=1) if member.size else np.full(2, np.nan)
        recorded = np.asarray(found["class_accuracy"]["fog"], np.float64)[:, label]
        np.testing.assert_allclose(recorded, own)
    both = [np.mean(found["accuracy"][name]) for name in found["order"]]
    assert found["mean_error"] == pytest.approx(1 - np.mean(both))
    assert found["baseline"] is None
    printed = capsys.readouterr().out
    assert "the constants of mnist, by images of (16, 16)" in printed
    assert "fog: " in printed
    text = " ".join(analysis.report(workdir).split())
    assert "corrupted" in text
    assert f"2 corruptions (mnist, online): mean accuracy {100 * np.mean(both):.1f}" in text
    assert "corruptions.png" in text
    assert Path(workdir, "corruptions.png").stat().st_size > 5000


def test_as_many_images_are_checked_as_in_other_evaluations():
    """A report without the checks would replace one that has them."""
    assert evaluate_corruptions.get_config().diagnostics == schema.default().diagnostics


def test_baseline(job, workdir):
    """A run beside itself has an mCE of 1, all classes together."""
    given = {"name": "fog+impulse_noise", "severities": (1, 5)}
    evaluate(resolve(job, workdir, **given), workdir)
    evaluate(resolve(job, workdir, baseline=workdir, **given), workdir)
    found = json.loads(Path(workdir, "report.json").read_text())["corruptions"]
    assert found["mce"] == pytest.approx(1.0)
    assert found["relative_mce"] == pytest.approx(1.0)
    assert found["relative_corruption_errors"]["fog"] == pytest.approx(1.0)
    assert len(found["class_mce"]) == 10
    assert "mCE 100.0, relative mCE 100.0" in " ".join(analysis.report(workdir).split())


def test_a_baseline_of_another_dataset(job, workdir, folder):
    other = folder / "other"
    other.mkdir()
    found = {"profile": "mnist", "severities": {"fog": [5]}, "mean_errors": {"fog": 0.5}}
    report = {"dataset": "mnist", "corruptions": {**found, "clean_error": 0.1}}
    (other / "report.json").write_text(json.dumps(report))
    with pytest.raises(ValueError, match="is of mnist, this evaluation of digits"):
        resolve(job, workdir, name="fog", baseline=str(other))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "fogg"}, "did you mean 'fog'"),
        ({"name": "fog", "severities": (0,)}, "corruptions.severities = .* between 1 and 5"),
        (
            {"name": "fog", "source": "archive"},
            "corruptions: source = .archive.: there is none of digits",
        ),
        ({"name": "fog", "baseline": "nowhere"}, "there is no nowhere/report.json"),
        ({"name": "spatter", "baseline": "alexnet"}, "no errors of 'spatter'"),
        (
            {"name": "fog", "baseline": "alexnet", "profile": "cifar"},
            "this evaluation has cifar at 1, 2, 3, 4, 5 of fog",
        ),
        (
            {"name": "fog", "baseline": "alexnet", "profile": "imagenet", "severities": (5,)},
            "this evaluation has imagenet at 5 of fog",
        ),
        ({"name": "fog", "profile": "cifr"}, "did you mean 'cifar'"),
    ],
)
def test_mistakes(job, workdir, changes, message):
    with pytest.raises(ValueError, match=message):
        resolve(job, workdir, **changes)


def test_an_archive_is_read(job, workdir, monkeypatch):
    """Archives have an order and labels of their own."""
    asked = []

    def read(name, split, *, data_dir=None):
        asked.append(name)
        whole = load("digits", split)
        return whole.take(np.arange(30 + len(asked))[::-1])

    archive = ("cifar10_corrupted", "cifar")
    monkeypatch.setitem(corruption_setup._ARCHIVES, "digits", archive)
    monkeypatch.setattr("rbjax.data.load", read)
    given = {"name": "glass_blur+fog", "severities": (2, 3), "profile": "cifar"}
    config = resolve(job, workdir, **given)  # of 40 images, which an archive has not
    config.corruptions.source = "archive"
    with config.unlocked():
        config.dataset.max_test_examples = None
    plan = corruption_setup.create(config, load("digits", "test").info)
    monkeypatch.undo()
    test = setup.load_test(config)
    monkeypatch.setattr("rbjax.data.load", read)
    found = corruption_setup.run(
        plan,
        setup.trained_logits_fn(config, workdir),
        jax.random.key(0),
        test,
        data_dir=None,
        batch_size=16,
        journal=None,
        progress=lambda *_: None,
        finished=lambda *_: None,
    )
    names = ["frosted_glass_blur_2", "frosted_glass_blur_3", "fog_2", "fog_3"]
    assert asked == [f"cifar10_corrupted/{name}" for name in names]
    assert [int(m.sum()) for m in found.corrupted["fog"]] == [33, 34]
    assert found.clean.sum() == 360


def archived(dataset, **changes):
    """A plan that reads an archive."""
    config = schema.default()
    config.dataset.name, config.corruptions.source = dataset, "archive"
    config.dataset.max_test_examples = changes.pop("max_test_examples", None)
    config.corruptions.update(changes)
    return corruption_setup.create(config, info(dataset))


@pytest.mark.parametrize("dataset", ["cifar10", "mnist", "imagenet2012"])
def test_archives_hold_what_is_read(dataset):
    """All that is published, by the name that it has there."""
    plan = archived(dataset, name="mnist_c" if dataset == "mnist" else "all")
    archive = str(plan.archive)
    asked = {
        config
        for name, levels in plan.severities.items()
        for config in corruption_setup._archive_configs(archive, name, levels)
    }
    there = {f"{archive}/{config}" for config in info(archive).configs}
    assert asked == there - {"mnist_corrupted/identity"}


@pytest.mark.parametrize(
    ("dataset", "changes", "message"),
    [
        (
            "mnist",
            {"name": "fog", "severities": (3, 5)},
            "mnist_corrupted has no fog at severity 3",
        ),
        ("mnist", {"name": "snow"}, "mnist_corrupted has no snow"),
        ("cifar10", {"name": "shear", "profile": "mnist"}, "cifar10_corrupted has no shear"),
        ("cifar10", {"name": "fog", "profile": "imagenet"}, "has the constants of cifar, not of"),
        ("cifar10", {"name": "fog", "max_test_examples": 99}, "max_test_examples = 99"),
    ],
)
def test_archives_that_do_not_fit(dataset, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        archived(dataset, **changes)
    assert "\n" not in str(error.value)
