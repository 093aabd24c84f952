"""A run directory is loaded with the weights that were asked for, and what belongs to them."""

from __future__ import annotations

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import rbjax
from rbjax import analysis, methods
from rbjax import config as schema
from rbjax.training import data_card, run_directory, setup
from rbjax.training.log import read_metrics
from tests.trained.runs import IMAGES, TRAINED, config_of, made


def is_equal(one, other):
    return all(map(np.array_equal, *map(jax.tree.leaves, (one, other))))


@pytest.mark.parametrize("name", methods.METHODS)
def test_runs_of_every_method(name, tmp_path):
    config = config_of(name)
    state = made(tmp_path / "run", config)[0]
    model = setup.create_model(config, setup.info(config))
    run = rbjax.load(tmp_path / "run")
    expected = model.apply(state.variables, IMAGES)
    np.testing.assert_array_equal(run.logits_fn(IMAGES), expected)
    assert run.config.to_dict() == config.to_dict()
    assert f"mlp on digits, {name} training; step 0 (last); not evaluated" in repr(run)
    again = rbjax.load(rbjax.save(run, tmp_path / "model.safetensors"))
    np.testing.assert_array_equal(again.logits_fn(IMAGES), expected)
    options = config.method.to_dict()  # a card names the folder of an earlier run by its last part
    folders = {k: Path(v).name for k, v in options.items() if k in ("backbone", "start_from") and v}
    assert again.config.method.to_dict() == options | folders


def test_what_is_known_of_a_trained_run():
    run = rbjax.load(TRAINED)
    config = schema.stored(run_directory.read_config(TRAINED))
    np.testing.assert_array_equal(
        run.logits_fn(IMAGES), setup.trained_logits_fn(config, TRAINED)(IMAGES)
    )
    assert run.class_names == tuple("0123456789")
    assert run.history == read_metrics(TRAINED)
    assert len(run.history) == 2
    report = analysis.read_report(TRAINED)
    assert run.report is not None
    assert run.report["order"] == report["order"]
    clean = 100 * report["results"]["clean"]["summary"]["accuracy"]
    worst = 100 * report["worst"]["summary"]["accuracy"]
    assert repr(run) == (
        f"<rbjax.Run {TRAINED}: mlp on digits, universal training; step 40 (last); "
        f"clean {clean:.1f} %, worst of 3 attacks {worst:.1f} %>"
    )


def test_the_checkpoint_is_the_one_asked_for(tmp_path):
    states = made(tmp_path, config_of(), steps=(10, 20, 30), best=10)
    assert setup.checkpoints(str(tmp_path)).steps() == [30, 20]
    for asked, step, which in (
        (None, 30, "last"),
        ("last", 30, "last"),
        ("best", 10, "best"),
        (20, 20, "step"),
        (10, 10, "step"),
        (np.int64(30), 30, "step"),
    ):
        run = rbjax.load(tmp_path, checkpoint=asked)
        assert (run.step, run.checkpoint) == (step, which)
        assert is_equal(run.variables, states[step].variables)


def test_the_config_says_which_where_nobody_does(tmp_path):
    config = config_of(checkpoint={"which": "best"}, dataset={"validation_fraction": 0.1})
    made(tmp_path / "held_out", config, steps=(10, 20), best=10)
    run = rbjax.load(tmp_path / "held_out")
    assert (run.step, run.checkpoint) == (10, "best")
    made(tmp_path / "none", config, steps=(10, 20))
    run = rbjax.load(tmp_path / "none")
    assert (run.step, run.checkpoint) == (20, "last")


@pytest.mark.parametrize(("weights", "is_averaged"), [("average", True), ("plain", False)])
def test_averaged_weights_are_those_that_are_judged(tmp_path, weights, is_averaged):
    config = config_of(optimizer={"ema_decay": 0.9}, checkpoint={"weights": weights})
    state = made(tmp_path, config)[0]
    moved = state._replace(ema=jax.tree.map(lambda leaf: leaf + 1, state.ema))
    setup.checkpoints(str(tmp_path), keep=2).save(5, moved, extra={})
    for run in (rbjax.load(tmp_path), rbjax.load(tmp_path, checkpoint=5)):
        assert is_equal(run.variables, moved.ema if is_averaged else moved.variables)


def test_an_evaluation_of_other_weights_is_left_out(tmp_path, caplog):
    workdir = shutil.copytree(TRAINED, tmp_path / "run")
    assert rbjax.load(workdir).report is not None
    run = rbjax.load(workdir, logit_adjustment=1.0)
    assert run.report is None
    assert "is of model.logit_adjustment None, the weights loaded are of 1.0" in caplog.text
    (workdir / "checkpoints" / "40").rename(workdir / "checkpoints" / "41")
    assert rbjax.load(workdir).report is None
    assert "is of step 40, the weights loaded are of 41" in caplog.text


def test_damage_beside_the_weights_is_said_and_costs_itself_alone(tmp_path, caplog):
    workdir = shutil.copytree(TRAINED, tmp_path / "run")
    (workdir / "report.json").write_text("{")
    (workdir / "metrics.jsonl").write_text("{\n{\n")
    run = rbjax.load(workdir)
    assert (run.report, run.history) == (None, [])
    assert "report.json: is damaged" in caplog.text
    assert "line 1 is not a record of metrics" in caplog.text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"checkpoint": "bst"}, r"'bst': unknown; allowed: best, last, or a step; .*'best'"),
        ({"checkpoint": "best"}, "has no best epoch, as nothing was held out"),
        ({"checkpoint": 7}, "holds no checkpoint of step 7; it has those of 40"),
        ({"checkpoint": -1}, "checkpoint is -1; it must be a whole number"),
        ({"checkpoint": True}, "checkpoint is True; it must be a whole number"),
        ({"tau_norm": -1.0}, "tau_norm = -1.0: must be"),
        ({"logit_adjustment": "much"}, "logit_adjustment = 'much': must be"),
        ({"model": "mlp"}, "model = 'mlp': .*is a run directory"),
    ],
)
def test_what_a_run_directory_does_not_have_is_said(given, message, tmp_path):
    workdir = shutil.copytree(TRAINED, tmp_path / "run")
    shutil.rmtree(workdir / "checkpoints" / "best", ignore_errors=True)
    with pytest.raises(ValueError, match=message) as error:
        rbjax.load(workdir, **given)
    assert "\n" not in str(error.value)


def test_what_is_no_run_is_said(tmp_path):
    (tmp_path / "uat_digits").mkdir()
    with pytest.raises(ValueError, match=r"uat_digit'.*; did you mean 'uat_digits'\?"):
        rbjax.load(tmp_path / "uat_digit")
    with pytest.raises(ValueError, match=r"has no config.json, so it is not a run directory"):
        rbjax.load(tmp_path / "uat_digits")
    made(tmp_path / "run", config_of())
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(ValueError, match="holds no checkpoint; train into it first"):
        rbjax.load(tmp_path / "run")
    with pytest.raises(ValueError, match="holds no checkpoint of step 3; it has those of no step"):
        rbjax.load(tmp_path / "run", checkpoint=3)


def test_ones_own_data_are_those_it_was_trained_on(tmp_path):
    generator, labels = np.random.default_rng(0), np.arange(8) % 2

    def write(path):
        images = generator.integers(0, 256, (8, 6, 6), np.uint8)
        np.savez(
            path, train_images=images, train_labels=labels, test_images=images, test_labels=labels
        )

    data = str(tmp_path / "mine.npz")
    write(data)
    config = config_of(dataset={"name": "npz", "path": data})
    with config.unlocked():
        config.dataset.fingerprint = rbjax.data.custom.fingerprint(setup.own_data(config))
    made(tmp_path / "run", config)
    run = rbjax.load(tmp_path / "run")
    saved = rbjax.save(run, tmp_path / "model.safetensors")
    Path(data).unlink()
    again = rbjax.load(saved)
    images = IMAGES[:, :6, :6]
    np.testing.assert_array_equal(again.logits_fn(images), run.logits_fn(images))
    assert again.card is not None
    assert again.card["data"]["fingerprint"] == config.dataset.fingerprint
    assert again.card["data"]["train"]["class_counts"] == [4, 4]
    write(data)
    with pytest.raises(ValueError, match="holds other data than the run was trained on"):
        rbjax.load(tmp_path / "run")


def test_ones_own_data_may_be_elsewhere_by_now(tmp_path, monkeypatch):
    """Where the run was trained by a job, which keeps what the model needs to know of them."""
    generator, labels = np.random.default_rng(0), np.arange(8) % 2
    images = generator.integers(0, 256, (8, 6, 6), np.uint8)
    arrays = {"train_images": images, "train_labels": labels}
    np.savez(tmp_path / "mine.npz", **arrays, test_images=images, test_labels=labels)
    config = config_of(dataset={"name": "npz", "path": str(tmp_path / "mine.npz")})
    with config.unlocked():
        config.dataset.fingerprint = rbjax.data.custom.fingerprint(setup.own_data(config))
    made(tmp_path / "run", config)
    data_card.write(str(tmp_path / "run"), config, *setup.load_train(config))
    before = rbjax.load(tmp_path / "run")
    (tmp_path / "mine.npz").unlink()
    monkeypatch.setattr(rbjax.data.custom, "info", None)  # nothing asks the data themselves
    run = rbjax.load(tmp_path / "run")
    assert run.class_names == before.class_names
    np.testing.assert_array_equal(
        run.logits_fn(IMAGES[:, :6, :6]), before.logits_fn(IMAGES[:, :6, :6])
    )
    assert run.predict(images[..., None]).classes.shape == (8,)
    np.savez(tmp_path / "mine.npz", **arrays, test_images=255 - images, test_labels=labels)
    monkeypatch.undo()
    for use in (setup.load_train, setup.load_test):  # and whatever reads images, it is held to
        with pytest.raises(ValueError, match="holds other data than the run was trained on"):
            use(run.config)
    with pytest.raises(ValueError, match="holds other data than the run was trained on"):
        rbjax.save(run, tmp_path / "model.safetensors")
    (tmp_path / "mine.npz").unlink()
    (tmp_path / "run" / "data.json").write_text("{")
    with pytest.raises(ValueError, match=r"mine.npz"):
        rbjax.load(tmp_path / "run")
