"""Evaluating and scoring a run directory, and what they write."""

import csv
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from rbjax import analysis, command_line, data, journal, models, rpr
from rbjax import config as schema
from rbjax.evaluate import evaluate
from rbjax.rpr import scoring
from rbjax.score import score
from rbjax.training import setup


@pytest.fixture(scope="module")
def workdir(finished, tmp_path_factory):
    return str(shutil.copytree(finished, tmp_path_factory.mktemp("runs") / "run"))


@pytest.fixture
def config(job, workdir):
    return command_line.resolve(job(num_epochs=2), workdir)


def test_evaluate_counts_every_test_image_under_every_attack(config, workdir):
    evaluate(config, workdir)
    report = analysis.read_report(workdir)
    examples = np.load(f"{workdir}/report.npz")
    assert list(report["results"]) == sorted(["clean", "fgsm", "universal"])
    for label, result in report["results"].items():
        matrix = np.array(result["confusion"])
        assert matrix.sum() == 40
        np.testing.assert_array_equal(
            matrix.sum(axis=1), np.bincount(examples["labels"], minlength=10)
        )
        right = np.mean(examples[label] == examples["labels"])
        assert result["summary"]["accuracy"] == pytest.approx(right)
    assert report["results"]["fgsm"]["attack"]["epsilon"] == 0.1
    assert examples["universal/perturbation"].shape == (16, 16, 1)
    assert 0 < np.abs(examples["universal/perturbation"]).max() <= 0.1 + 1e-7
    accuracy = {k: v["summary"]["accuracy"] for k, v in report["results"].items()}
    assert accuracy["fgsm"] < accuracy["clean"]
    with Path(workdir, "examples.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == examples["index"].tolist()
    assert [int(row["fgsm"]) for row in rows] == examples["fgsm"].tolist()  # digits are their names
    assert {row["setting"].partition(";")[0] for row in rows} == {"fgsm: linf, epsilon 0.1, 1 step"}


def test_what_eight_devices_have_done_is_not_done_again_by_one(config, workdir, monkeypatch):
    def fail(self, name, rows=None, **arrays):
        raise AssertionError(name)

    monkeypatch.setattr(scoring, "_BLOCK_SIZES", {"cpu": 2})  # a device
    evaluate(config, workdir)
    score(config, workdir)
    assert len(list(Path(workdir).glob("scoring/*/*-block-*.npz"))) == 3
    files = ["report.json", "report.npz", "rpr.json", "rpr.npz"]
    before = [Path(workdir, name).read_bytes() for name in files]
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
    monkeypatch.setattr(journal.Journal, "write_block", fail)
    evaluate(config, workdir)
    score(config, workdir)
    after = [Path(workdir, name).read_bytes() for name in files]
    assert after[1:] == before[1:]  # the report says how many seconds reading took
    shutil.rmtree(Path(workdir, "scoring"))


def test_evaluation_does_not_depend_on_the_batch_size(job, config, workdir):
    """PGD's random starts follow the example, not its place in a batch."""
    given = job(num_epochs=2)
    given.attacks = ConfigDict()
    given.attacks.pgd = schema.attack("pgd", num_steps=1, epsilon=0.3)
    predictions = []
    for batch_size in (8, 64):
        resolved = command_line.resolve(given, workdir)
        with resolved.unlocked():
            resolved.batch_size = batch_size
        evaluate(resolved, workdir)
        predictions.append(np.load(f"{workdir}/report.npz")["pgd"])
    np.testing.assert_array_equal(*predictions)


def test_score_writes_ratios_curves_and_flags(config, workdir):
    report = score(config, workdir)
    examples = np.load(f"{workdir}/rpr.npz")
    assert len(examples["first_failure"]) == 40
    robust = examples["first_failure"] > 5
    np.testing.assert_array_equal(robust, examples["robust"])
    assert report["all"]["robust_ratio"] == pytest.approx(robust.mean())
    clean = examples["clean_correct"]
    assert report["classified_right"]["robust_ratio"] == pytest.approx(robust[clean].mean())
    needed = np.minimum(examples["first_failure"], 5).sum()
    assert report["forward_passes_needed"] == needed <= report["forward_passes_run"]
    assert report["all"]["survival"][0] == 1.0
    assert report["all"]["survival"][-1] == report["all"]["robust_ratio"]
    with Path(workdir, "datapoints.csv").open() as file:
        first = [int(row["first_failure"]) for row in csv.DictReader(file)]
    assert first == examples["first_failure"].tolist()


def test_an_untrained_directory_cannot_be_evaluated(config, tmp_path):
    with pytest.raises(ValueError, match=r"holds no checkpoint; train into it first"):
        evaluate(config, str(tmp_path))


def test_the_test_set_follows_the_profile_only_where_told(job):
    for apply_to_test, expected in ((False, [36] * 10), (True, [36] * 5 + [9] * 5)):
        given = job(dataset__max_test_examples=None)
        given.imbalance.update(name="step", imbalance_ratio=4.0, apply_to_test=apply_to_test)
        given.imbalance.minority_fraction = 0.5
        test = setup.load_test(command_line.resolve(given, "unused"))
        assert test.class_counts.tolist() == expected


def test_batch_norm_is_averaged_over_devices_unless_the_config_says_per_device(job, monkeypatch):
    axes = []
    resolved = [
        command_line.resolve(job(model__batch_norm=name), "unused")
        for name in ("synchronized", "per_device")
    ]
    monkeypatch.setattr(models, "create", lambda name, *, axis_name, **_: axes.append(axis_name))
    for config in resolved:
        setup.create_model(config, data.info("digits"))
    assert axes == ["data", None]


def resolved(job, workdir, **changes):
    return command_line.resolve(job(num_epochs=2, **changes), workdir)


def test_score_goes_on_where_it_was(job, config, workdir, monkeypatch):
    """Stopped at its first look; then as if it had not been."""
    changes = {"score__max_steps": 9, "score__block_size": 16}
    config = resolved(job, workdir, **changes)

    class StoppedError(Exception):
        pass

    write_block = journal.Journal.write_block

    def write_and_stop(*arguments, **arrays):
        write_block(*arguments, **arrays)
        raise StoppedError

    score(config, workdir)
    files = [Path(workdir, name).read_bytes() for name in ("rpr.json", "rpr.npz")]
    shutil.rmtree(Path(workdir, "scoring"))
    monkeypatch.setattr(journal.Journal, "write_block", write_and_stop)
    with pytest.raises(StoppedError):
        score(config, workdir)
    monkeypatch.undo()
    assert len(list(Path(workdir, "scoring").glob("*/*-block-*.npz"))) == 1
    score(config, workdir)
    assert files == [Path(workdir, name).read_bytes() for name in ("rpr.json", "rpr.npz")]


def test_another_scoring_does_not_disturb_the_first(job, config, workdir):
    files = []
    for max_steps in (6, 7, 6):
        report = score(resolved(job, workdir, score__max_steps=max_steps), workdir)
        assert report["max_steps"] == max_steps
        files.append(Path(workdir, "rpr.json").read_bytes())
    assert files[0] == files[2] != files[1]


def test_score_in_bfloat16_says_what_it_changes(job, config, workdir, capsys):
    exact = score(resolved(job, workdir, score__values="binary"), workdir)
    flags = np.load(f"{workdir}/rpr.npz")["robust"]
    coarse = score(resolved(job, workdir, score__values="binary", score__dtype="bfloat16"), workdir)
    effect = coarse["effect_of_dtype"]
    assert "effect_of_dtype" not in exact
    assert effect["num_compared"] == 40
    differing = np.sum(flags != np.load(f"{workdir}/rpr.npz")["robust"])
    assert effect["flags_that_differ"] == differing
    assert effect["robust_ratio_in_float32"] == exact["all"]["robust_ratio"]
    assert f"40 datapoints, the same draws: {differing} robust flags" in capsys.readouterr().out


def test_the_model_computes_in_what_the_config_says(job, config, workdir, monkeypatch):
    seen = []

    def remember(logits_fn, *arguments, **options):
        images = jax.ShapeDtypeStruct((1, 16, 16, 1), "float32")
        seen.append("bf16" in str(jax.make_jaxpr(lambda x: logits_fn(x))(images)))
        return scorer(logits_fn, *arguments, **options)

    scorer = rpr.score
    monkeypatch.setattr(rpr, "score", remember)
    score(resolved(job, workdir, score__dtype="bfloat16", score__max_steps=3), workdir)
    assert seen == [True, False]  # the scores, and those they are compared with
    score(resolved(job, workdir, score__max_steps=3), workdir)
    assert seen[2:] == [False]


def test_bfloat16_and_an_early_stop(job, config, workdir):
    """The comparison has as many draws as the scores had, wherever its own curve is flat."""
    changes = {"score__stop_window": 1, "score__stop_tolerance": 0.03, "score__max_steps": 9}
    changes["score__values"] = "white"
    report = score(resolved(job, workdir, score__dtype="bfloat16", **changes), workdir)
    effect = report["effect_of_dtype"]
    assert 1 < report["max_steps"] < 9
    assert abs(effect["robust_ratio"] - effect["robust_ratio_in_float32"]) <= 0.1
    assert effect["flags_that_differ"] <= 4


def test_score_of_the_training_split(job, config, workdir):
    report = score(resolved(job, workdir, score__split="train", score__max_steps=2), workdir)
    with np.load(f"{workdir}/rpr.npz") as examples:
        train, _ = setup.load_train(config)
        np.testing.assert_array_equal(examples["example_ids"], train.example_ids)
    assert report["split"] == "train"
    assert report["num_examples"] == train.num_examples


def test_score_repeatedly_and_until_flat(job, config, workdir):
    score(resolved(job, workdir, score__repetitions=3), workdir)
    with np.load(f"{workdir}/rpr.npz") as examples:
        assert examples["repetitions"].shape == (40, 3)
        np.testing.assert_array_equal(examples["repetitions"][:, 0], examples["first_failure"])
        low, high = examples["failure_interval"].T
        assert np.all((low <= examples["failure_probability"]) & (high <= 1))
        assert np.all(examples["draws"] == np.minimum(examples["repetitions"], 5).sum(axis=1))
    flat = score(resolved(job, workdir, score__stop_window=1, score__stop_tolerance=0.9), workdir)
    assert flat["max_steps"] == 1


def test_options_that_exclude_each_other(job, workdir):
    with pytest.raises(ValueError, match=r"score\.repetitions and score\.stop_window"):
        resolved(job, workdir, score__repetitions=2, score__stop_window=5)
    with pytest.raises(ValueError, match=r"score\.max_width: needs score\.repetitions"):
        resolved(job, workdir, score__max_width=0.1)
