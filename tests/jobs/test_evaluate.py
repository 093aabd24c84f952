"""An evaluation's report: intervals, the pointwise worst, whom an attack counts, and resuming."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from rbjax import analysis, attack_setup, attacks, command_line, journal, main, prng
from rbjax import config as schema
from rbjax.errors import NotFiniteError
from rbjax.evaluate import evaluate
from rbjax.metrics import wilson_interval
from rbjax.testing.training import make_train_set
from rbjax.training import setup

ATTACKS = {
    "fgsm": schema.attack("fgsm"),
    "pgd": schema.attack("pgd", num_steps=3, loss="margin", momentum=0.5),
}


@pytest.fixture(scope="module")
def workdir(finished, tmp_path_factory) -> str:
    """A trained run; `other` beside it is as it was after the first epoch."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("run", "other"):
        shutil.copytree(finished, folder / name)
    shutil.rmtree(folder / "other" / "checkpoints" / "16")
    return str(folder / "run")


def resolve(job, workdir, attacks: dict[str, Any], **changes):
    given = job(num_epochs=2, **changes)
    given.attacks = ConfigDict(attacks)
    return command_line.resolve(given, workdir)


def read(workdir) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    with np.load(f"{workdir}/report.npz") as examples:
        return analysis.read_report(workdir), dict(examples)


def test_intervals_and_the_worst(job, workdir, capsys):
    evaluate(resolve(job, workdir, ATTACKS), workdir)
    report, examples = read(workdir)
    labels = examples["labels"]
    right = {label: examples[label] == labels for label in ("clean", *ATTACKS)}
    for label, flags in right.items():
        interval = report["results"][label]["interval"]
        assert interval["accuracy"] == [float(x) for x in wilson_interval(flags.sum(), 40)]
        counts = [np.bincount(labels[of], minlength=10) for of in (flags, flags | True)]
        np.testing.assert_array_equal(interval["recall"], wilson_interval(counts[0], counts[1]))
    np.testing.assert_array_equal(examples["worst"], np.all(list(right.values()), axis=0))
    worst = report["worst"]
    assert worst["attacks"] == ["fgsm", "pgd"]
    assert worst["summary"]["accuracy"] == pytest.approx(examples["worst"].mean())
    lowest = min(r["summary"]["accuracy"] for r in report["results"].values())
    assert worst["summary"]["accuracy"] <= lowest
    assert sum(worst["classwise"]["correct"]) == examples["worst"].sum()
    fooled = right["clean"] & ~right["pgd"]
    rate = report["results"]["pgd"]["attack_success_rate"]
    assert rate == pytest.approx(fooled.sum() / right["clean"].sum())
    printed = capsys.readouterr().out
    for label, flags in [*right.items(), ("worst", examples["worst"])]:
        (line,) = [line for line in printed.splitlines() if line.startswith(f"{label}: ")]
        assert f"{label}: {100 * flags.mean():.1f} % (" in line
        assert "worst class" in line


def test_killed_after_some_blocks_it_goes_on(job, workdir, monkeypatch):
    config = resolve(job, workdir, ATTACKS, seed=0, batch_size=16)
    written, write_block = [], journal.Journal.write_block

    class KilledError(Exception):
        pass

    def write_and_stop(self, name, rows=None, **arrays):
        write_block(self, name, rows, **arrays)
        written.append(name)
        if len(written) == 5:
            raise KilledError

    monkeypatch.setattr(journal.Journal, "write_block", write_and_stop)
    with pytest.raises(KilledError):
        evaluate(config, workdir)
    evaluate(config, workdir)
    assert len(written) == len(set(written)) == 9  # 40 images in blocks of 16: clean, two attacks
    report, examples = read(workdir)
    monkeypatch.undo()
    evaluate(resolve(job, workdir, ATTACKS, batch_size=40), workdir)
    for name, array in read(workdir)[1].items():
        np.testing.assert_array_equal(array, examples[name], err_msg=name)
    assert report["worst"] == read(workdir)[0]["worst"]


def test_whom_an_attack_counts(job, workdir):
    one = {"num_steps": 3, "epsilon": 0.2}
    given = {
        "pgd": schema.attack("pgd", **one),
        "three": schema.attack("pgd", only_class=3, **one),
        "to_seven": schema.attack("pgd", target_class=7, **one),
        "universal": schema.attack("universal", target_class=7, num_epochs=1, max_examples=64),
    }
    evaluate(resolve(job, workdir, given), workdir)
    report, examples = read(workdir)
    labels = examples["labels"]
    three = report["results"]["three"]
    assert np.array(three["confusion"]).sum(axis=1).nonzero()[0].tolist() == [3]
    assert three["summary"]["num_examples"] == np.sum(labels == 3)
    np.testing.assert_array_equal(examples["three/counted"], labels == 3)
    for label in ("to_seven", "universal"):
        result, counted = report["results"][label], labels != 7
        assert result["summary"]["num_examples"] == np.sum(counted)
        right = counted & (examples["clean"] == labels)
        rate = np.mean(examples[label][right] == 7)
        assert result["attack_success_rate"] == pytest.approx(rate)
    worst = np.all([examples[k] == labels for k in ("clean", "pgd", "to_seven", "universal")], 0)
    np.testing.assert_array_equal(
        examples["worst"], worst & ((examples["three"] == labels) | (labels != 3))
    )
    text = analysis.report(workdir)
    assert f"three {100 * three['summary']['accuracy']:.1f} of {np.sum(labels == 3)} (" in text


def test_images_crafted_on_another_run(job, workdir):
    other = str(Path(workdir).parent / "other")
    given = {
        "own": schema.attack("pgd", num_steps=3, epsilon=0.2),
        "transfer": schema.attack("pgd", num_steps=3, epsilon=0.2, source=other),
        "itself": schema.attack(
            "pgd", num_steps=3, epsilon=0.2, source=workdir, random_start=False
        ),
    }
    config = resolve(job, workdir, given)
    evaluate(config, workdir)
    report, examples = read(workdir)
    accuracy = {k: r["summary"]["accuracy"] for k, r in report["results"].items()}
    assert accuracy["own"] < accuracy["transfer"] < accuracy["clean"]
    # The same by the pieces, on the same keys.
    test, train_set = setup.load_test(config), setup.load_train(config)[0]
    own: Any = attack_setup.create(config, train_set, test).attacks["own"]
    attack = attacks.transfer(own, setup.trained_logits_fn(config, other))
    ids = jnp.asarray(test.example_ids)
    keys = prng.per_example(prng.named(jax.random.key(0), "transfer"), ids)
    logits_fn = setup.trained_logits_fn(config, workdir)
    images, labels = jnp.asarray(test.images / np.float32(255)), jnp.asarray(test.labels)
    result = attack(logits_fn, keys, images, labels)
    np.testing.assert_array_equal(result.predictions, examples["transfer"])


def test_what_a_universal_perturbation_is_crafted_on(job):
    """On a long tail: as many of each class as the smallest has, or all, or what is held out."""
    options: dict[str, Any] = {
        "whole": {"craft_on": "train"},
        "some": {"craft_on": "train", "max_examples": 25},
        "balanced": {},
        "few": {"max_examples": 25},
        "held_out": {"craft_on": "validation"},
    }
    given = {label: schema.attack("universal", **own) for label, own in options.items()}
    tail = {"imbalance__name": "exponential", "imbalance__imbalance_ratio": 10.0}
    config = resolve(job, "unused", given, dataset__max_train_examples=None, **tail)
    train_set, validation_set = setup.load_train(config)
    made = attack_setup.create(config, train_set, train_set, validation_set).attacks
    sets: Any = {label: getattr(attack, "images", None) for label, attack in made.items()}
    counts = train_set.class_counts
    assert (counts.max(), counts.min()) == (128, 13)
    np.testing.assert_array_equal(sets["whole"].example_ids, train_set.example_ids)
    assert sets["some"].num_examples == 25
    assert set(sets["balanced"].class_counts) == {counts.min()}
    assert set(sets["few"].class_counts) == {2}
    assert validation_set is not None
    np.testing.assert_array_equal(sets["held_out"].example_ids, validation_set.example_ids)
    assert set(sets["balanced"].example_ids) < set(train_set.example_ids)
    with pytest.raises(
        ValueError, match=r"attacks\.x: craft_on is 'validation', and no image is h"
    ):
        resolve(job, "unused", {"x": given["held_out"]}, dataset__validation_fraction=0.0)


def test_groups_have_no_part_in_what_is_crafted_on():
    """Whole groups would be of uneven classes, and more or fewer than asked for."""
    labels = np.arange(24, dtype=np.int32) % 3
    train_set = dataclasses.replace(make_train_set(), labels=labels, groups=np.arange(24) // 5)
    for craft_on, most, counts in (
        ("balanced", None, [8, 8, 8]),
        ("balanced", 7, [2, 2, 2]),
        ("train", 4, [2, 1, 1]),
        ("validation", 4, [2, 1, 1]),
    ):
        group = ConfigDict({"craft_on": craft_on, "max_examples": most})
        some = attack_setup._crafted_on(group, train_set, train_set)
        np.testing.assert_array_equal(some.class_counts, counts)


def test_perturbations_of_each_class_are_kept_and_drawn(job, workdir, capsys):
    options: dict[str, Any] = {"num_epochs": 1, "max_examples": 64}
    given = {
        "each": schema.attack("universal_classwise", **options),
        "deepfool": schema.attack(
            "universal_deepfool", max_passes=1, max_examples=32, craft_on="validation"
        ),
    }
    evaluate(resolve(job, workdir, given), workdir)
    report, examples = read(workdir)
    assert examples["each/perturbation"].shape == (10, 16, 16, 1)
    assert examples["deepfool/perturbation"].shape == (16, 16, 1)
    assert 0 <= report["results"]["each"]["details"]["dominant_label"] < 10
    text = analysis.report(workdir)
    assert "perturbations.png" in text
    printed = capsys.readouterr().out
    crafted_on = {"each": "60 balanced training images", "deepfool": "32 validation images"}
    for label, said in crafted_on.items():
        assert report["results"][label]["details"]["crafted_on"] == said
        assert f"{label}: crafted on {said}" in text
        assert f", crafted on {said}, " in printed
    assert report["results"]["each"]["attack"]["craft_on"] == "balanced"
    assert Path(workdir, "perturbations.png").stat().st_size > 1000


def test_diagnostics_are_reported(job, workdir, capsys):
    evaluate(resolve(job, workdir, ATTACKS, diagnostics=24), workdir)
    found = read(workdir)[0]["diagnostics"]
    assert (found["num_examples"], found["epsilon"], found["norm"]) == (24, 0.1, "linf")
    assert {"zero_gradients", "black_box"} <= {finding["name"] for finding in found["findings"]}
    assert "checks for a false sense of robustness, 24 images" in capsys.readouterr().out
    evaluate(resolve(job, workdir, ATTACKS, diagnostics=0), workdir)
    assert read(workdir)[0]["diagnostics"] is None


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pgd", {"only_class": 10}, r"attacks\.x: only_class is 10; allowed: 0 to 9, the classes"),
        ("pgd", {"target_class": 12}, r"attacks\.x: target_class is 12; allowed: 0 to 9"),
        ("pgd", {"target_class": 2, "only_class": 2}, r"are the same: no image is left"),
        ("pgd", {"target_class": 2, "loss": "kl"}, r"attacks\.x: loss 'kl' has no targets"),
        ("pgd", {"source": "runs/nowhere"}, r"attacks\.x: source: workdir = 'runs/nowhere'"),
        (
            "square",
            {"norm": "l0", "epsilon": 1.0},
            r"attacks\.x\.norm = 'l0': allowed: linf, l2, l1",
        ),
        (
            "autoattack",
            {"norm": "l0", "epsilon": 1.0},
            r"attacks\.x\.norm = 'l0': allowed: linf, l2, l1",
        ),
        ("universal_deepfool", {"norm": "l3"}, r"attacks\.x\.norm = 'l3': allowed: linf, l2, l1"),
        ("universal", {"max_examples": 9}, r"attacks\.x: max_examples is 9, .*must be at least 10"),
        ("pgd", {"craft_on": "train"}, r"attacks\.x\.craft_on = 'train': not a field of 'pgd'"),
        ("autoattack", {"version": "rand"}, r"attacks\.x: version 'rand' is for randomised"),
        ("autoattack", {"target_class": 1}, r"attacks\.x\.target_class = 1: not a field of 'autoa"),
        ("pgd", {"optimizer": "adam", "momentum": 0.5}, r"attacks\.x: momentum is 0\.5 with"),
    ],
)
def test_what_cannot_be_run_shows_at_once(job, name, options, message):
    with pytest.raises(ValueError, match=message):
        resolve(job, "unused", {"x": schema.attack(name, **options)})


def test_a_source_must_fit_the_dataset(job, workdir):
    given = job(num_epochs=2, dataset__name="mnist")
    given.attacks = ConfigDict({"x": schema.attack("pgd", source=workdir)})
    with pytest.raises(
        ValueError, match=r"a run on digits with image_shape \(16, 16, 1\); it must"
    ):
        command_line.resolve(given, "unused")


def test_every_attack_can_be_named(job):
    """The fields of each name are options of its maker."""
    for name in attacks.ATTACKS:
        epsilon = {"epsilon": 1.0} if name in ("carlini_wagner", "ddn") else {}
        assert resolve(job, "unused", {"x": schema.attack(name, **epsilon)}).attacks.x.name == name


def test_answers_that_are_nan_are_told_and_the_job_ends_with_1(job, workdir, monkeypatch, capsys):
    step, variables = setup.trained_variables(*_run(job, workdir))
    nan = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), variables)
    monkeypatch.setattr(setup, "trained_variables", lambda *_: (step, nan))
    config = job(num_epochs=2, task="evaluate")
    config.attacks = ConfigDict({"fgsm": ATTACKS["fgsm"]})
    with pytest.raises(NotFiniteError, match="count as wrong: clean 40, fgsm 40; look for"):
        main.run(config, workdir)
    report, examples = read(workdir)
    assert report["no_class"] == {"clean": 40, "fgsm": 40}
    assert report["results"]["clean"]["summary"]["accuracy"] == 0.0
    assert report["results"]["fgsm"]["fooling_rate"] == 1.0
    np.testing.assert_array_equal(examples["clean"], np.full(40, -1))
    monkeypatch.setattr(main, "run", lambda *_, **__: (_ for _ in ()).throw(NotFiniteError("NaN")))
    assert main.main(["rbjax", "--config=configs/uat_digits.py"]) == 1
    assert "rbjax: NaN" in capsys.readouterr().err


def _run(job, workdir):
    config = resolve(job, workdir, {})
    return config, workdir, setup.create_model(config, setup.load_test(config).info)


def test_a_report_is_of_one_step(job, workdir):
    """Where the newest checkpoint is damaged, nothing is put beside scores of its step."""
    config = resolve(job, workdir, {"fgsm": schema.attack("fgsm")})
    scores = Path(workdir) / "rpr.json"
    same = {"config": config.to_dict()}
    scores.write_text(json.dumps({"step": 1000000, **same}))
    with pytest.raises(ValueError, match=r"rpr.json: is of step 1000000, and the newest intact"):
        evaluate(config, workdir)
    # Scores of other weights are no sign of damage, and the report has what was measured last.
    scores.write_text(json.dumps({"step": 1000000, "config": {"checkpoint": {"which": "best"}}}))
    evaluate(config, workdir)
    assert "left out: rpr.json is of step 1000000, report.json of" in analysis.report(workdir)
    step = json.loads((Path(workdir) / "report.json").read_text())["step"]
    same["config"]["model"]["tau_norm"] = 0.5
    scores.write_text(json.dumps({"step": step, **same}))
    os.utime(scores, (0, 0))
    said = "left out: rpr.json is of model.tau_norm 0.5, report.json of model.tau_norm None"
    assert said in analysis.report(workdir)
    scores.write_text('{"step"')
    with pytest.raises(ValueError, match=r"rpr.json: is damaged, not JSON"):
        analysis.report(workdir)
    scores.unlink()
