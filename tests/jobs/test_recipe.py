"""Robust validation, early stopping and best epochs, as jobs: cut anywhere, they end the same."""

import contextlib
import io
import re
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from rbjax import command_line
from rbjax.evaluate import evaluate
from rbjax.train import train
from rbjax.training import selection, setup
from rbjax.training.checkpoint import Checkpoints
from rbjax.training.log import read_metrics
from rbjax.training.predict import predict, predict_with_loss
from tests.jobs.test_training_methods import run_with_a_stop


@pytest.fixture
def recipe(job):
    """Returns a function that makes a config of 9 epochs at most, of 4 steps, with all of it."""

    def make(**changes):
        fields = {"model__name": "mlp", "model__widths": (4,), "num_epochs": 9}
        fields |= {"dataset__max_train_examples": 256, "dataset__max_test_examples": 20}
        fields |= {"validation__attack": "pgd"}
        fields |= {"validation__max_share": 1.0, "validation__max_examples": 40}
        fields |= {"checkpoint__every_epochs": 2, "score__max_steps": 0}
        return job(**{**fields, **changes})

    return make


STOPPING = {
    "schedule__early_stop": "loss",
    "schedule__early_stop_patience": 4,
    "schedule__early_stop_min_change": 100.0,
    "checkpoint__best": "robust_accuracy",
}
"""No loss falls by 100: there are 5 epochs."""


def run(config, workdir):
    train(command_line.resolve(config, str(workdir)), str(workdir))


def records(workdir):
    return [
        {name: value for name, value in record.items() if name != "images_per_second"}
        for record in read_metrics(workdir)
    ]


def stored(folder, step):
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
        args = ocp.args.Composite(state=ocp.args.StandardRestore(), extra=ocp.args.JsonRestore())
        return reader.restore(folder / str(step), args=args)


def assert_same_run(one, other):
    """Weights, optimizer, log, what was best and its weights."""
    assert records(one) == records(other)
    for of in (setup.checkpoints, setup.best_checkpoints):
        first, second = of(str(one)), of(str(other))
        newest = first.steps()[0]
        assert second.steps()[0] == newest
        a, b = (stored(folder.directory, newest) for folder in (first, second))
        for extra in (a.extra, b.extra):  # all but the speed, which is another each time
            extra["log"] = re.sub(r'"images_per_second": [^,]*, ', "", extra.get("log", ""))
        assert a.extra == b.extra
        assert a.state.keys() == b.state.keys()
        for name, array in a.state.items():
            np.testing.assert_array_equal(array, b.state[name], err_msg=name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def unbroken(recipe, folder, monkeypatch):
    """The run that nobody disturbs, whose best epoch is the third: between two checkpoints."""
    monkeypatch.setitem(
        selection.CRITERIA, "robust_accuracy", lambda record: -float(abs(record["epoch"] - 3))
    )
    if not (folder / "unbroken").exists():
        with contextlib.redirect_stdout(io.StringIO()) as said:
            run(recipe(**STOPPING), folder / "unbroken")
        (folder / "said.txt").write_text(said.getvalue())
    return folder / "unbroken"


def test_a_run_that_stops_early_ends_the_same_wherever_it_was_cut(
    recipe, unbroken, folder, tmp_path, monkeypatch, capsys
):
    """Stopped inside an epoch; and killed after the best was written, before the checkpoint was."""
    log = records(unbroken)
    assert [record["epoch"] for record in log] == [1, 2, 3, 4, 5]
    assert [record["validation/best_epoch"] for record in log] == [1, 2, 3, 3, 3]
    assert setup.best_checkpoints(str(unbroken)).steps() == [12, 8]
    said = (folder / "said.txt").read_text()
    assert "stopped after epoch 5: validation loss has not improved by more than 100 for 4" in said
    assert "best epoch by validation robust_accuracy: 3" in said
    assert "40 images\n" in said
    (about,) = {record["validation/attack"] for record in log}
    assert about.startswith("pgd, linf, epsilon 0.1, ")
    assert all(f"validation/plain/{name}" in log[0] for name in ("loss", "robust_recall"))

    run(recipe(**STOPPING), unbroken)
    assert "trained already, 20 steps" in capsys.readouterr().out

    run_with_a_stop(recipe(**STOPPING), tmp_path / "stopped", after=3)
    assert_same_run(unbroken, tmp_path / "stopped")

    saved, save = [], Checkpoints.save

    def dying(self, step, state, **keywords):
        if self.directory.name != "best" and step > 8:
            raise KeyboardInterrupt
        saved.append((self.directory.name, step))
        save(self, step, state, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", dying)
        with pytest.raises(KeyboardInterrupt):
            run(recipe(**STOPPING), tmp_path / "killed")
    assert saved == [("best", 8), ("checkpoints", 8), ("best", 12)]
    run(recipe(**STOPPING), tmp_path / "killed")
    assert_same_run(unbroken, tmp_path / "killed")


def test_either_epochs_weights_are_evaluated(recipe, unbroken, tmp_path):
    config = command_line.resolve(recipe(**STOPPING), str(unbroken))
    assert config.checkpoint.which == "best"  # as early stopping has it
    _, validation_set = setup.load_train(config)
    assert validation_set is not None
    model = setup.create_model(config, validation_set.info)
    log, steps = records(unbroken), {}
    for which, epoch in (("best", 3), ("last", 5)):
        with config.unlocked():
            config.checkpoint.which = which
        steps[which], variables = setup.trained_variables(config, str(unbroken), model)
        assert steps[which] == 4 * epoch
        logits_fn = jax.tree_util.Partial(model.apply, jax.device_put(variables))
        found, loss = predict_with_loss(logits_fn, validation_set)
        np.testing.assert_array_equal(found, predict(logits_fn, validation_set))
        record = log[epoch - 1]
        assert loss == record["validation/loss"]
        assert np.mean(found == validation_set.labels) == record["validation/accuracy"]
        assert evaluate(config, str(unbroken))["step"] == steps[which]
    for given, typed, expected in (
        ({}, (), "best"),  # as the run has it
        ({"checkpoint__which": "last"}, ("checkpoint.which",), "last"),
    ):
        asked = recipe(task="evaluate", **given)
        resolved = command_line.resolve(asked, str(unbroken), typed=typed)
        assert resolved.checkpoint.which == expected
        assert resolved.checkpoint.best == "robust_accuracy"
    asked = recipe(task="evaluate", checkpoint__best="loss")
    with pytest.raises(ValueError, match=r"checkpoint.best = 'loss': the run in .* has 'robust_a"):
        command_line.resolve(asked, str(unbroken), typed=("checkpoint.best",))
    shutil.copytree(unbroken, tmp_path / "lost")
    best = setup.best_checkpoints(str(tmp_path / "lost"))
    with config.unlocked():
        config.checkpoint.which = "best"
    assert best.has(12)
    files = [file for file in (best.directory / "12").rglob("*") if file.is_file()]
    max(files, key=lambda file: file.stat().st_size).write_bytes(b"\0")
    assert not best.has(12)
    with pytest.raises(ValueError, match=r"best epoch, of step 12, are gone or damaged; .*last"):
        setup.trained_variables(config, str(tmp_path / "lost"), model)


def test_plain_weights_are_kept_where_they_are_asked_for(recipe, tmp_path):
    config = recipe(num_epochs=1, checkpoint__weights="plain", validation__attack="none")
    run(config, tmp_path / "run")
    best = setup.best_checkpoints(str(tmp_path / "run"))
    weights = stored(best.directory, 4).state["variables.params.head.kernel"]
    state = stored(setup.checkpoints(str(tmp_path / "run")).directory, 4).state
    np.testing.assert_array_equal(weights, state["variables.params.head.kernel"])
    assert np.abs(weights - state["ema.params.head.kernel"]).max() > 1e-4
    (record,) = records(tmp_path / "run")
    assert "validation/average/accuracy" in record
    assert not [name for name in record if "robust" in name]


def test_without_a_validation_split_the_last_is_the_best(recipe, tmp_path):
    config = recipe(num_epochs=1, dataset__validation_fraction=0.0, checkpoint__which="best")
    run(config, tmp_path / "run")
    resolved = command_line.resolve(config, str(tmp_path / "run"))
    model = setup.create_model(resolved, setup.info(resolved))
    assert setup.trained_variables(resolved, str(tmp_path / "run"), model)[0] == 4
    assert not setup.best_checkpoints(str(tmp_path / "run")).steps()


def test_epochs_can_be_chosen_by_the_test_set_or_by_the_last_examples(recipe):
    """As P5's code does."""
    resolved = command_line.resolve(
        recipe(dataset__validation_fraction=0.0, dataset__validation_from="test"), "unused"
    )
    train_set, validation_set = setup.load_train(resolved)
    assert train_set.num_examples == resolved.dataset.max_train_examples
    assert validation_set is not None
    test = setup.load(resolved, "test")
    np.testing.assert_array_equal(validation_set.example_ids, test.example_ids)
    changes = {"dataset__validation_from": "last", "dataset__max_train_examples": None}
    train_set, validation_set = setup.load_train(command_line.resolve(recipe(**changes), "unused"))
    assert validation_set is not None
    assert train_set.index.max() < validation_set.index.min()
    for fraction, source in ((0.1, "test"), (0.0, "last")):
        changes = {
            "dataset__validation_fraction": fraction,
            "dataset__validation_from": source,
            "schedule__early_stop": "none",
        }
        with pytest.raises(ValueError, match=f"validation_from = '{source}': needs dataset.valid"):
            command_line.resolve(recipe(**changes), "unused")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"schedule__early_stop": "loss", "dataset__validation_fraction": 0.0},
            "early_stop = 'loss': needs a validation split; set dataset.validation_fraction",
        ),
        (
            {"checkpoint__best": "robust_worst_class", "validation__attack": "none"},
            "best = 'robust_worst_class': needs validation.attack, which is 'none'",
        ),
        ({"schedule__early_stop": "losss"}, r"early_stop = 'losss'.*loss"),
        ({"validation__norm": "l2"}, "validation.epsilon is missing: there is no usual one in l2"),
        ({"validation__epsilon": 8.0}, r"validation.epsilon = 8: must be at most 1.*8/255"),
    ],
)
def test_contradictions_are_named(recipe, changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        command_line.resolve(recipe(**changes), str(tmp_path / "run"))


def test_inputs_may_stay_in_the_unit_interval(recipe, tmp_path):
    """P5 trains on [0, 1]: the same weights see the images as they are."""
    images = jax.random.uniform(jax.random.key(0), (3, 16, 16, 1))
    config = command_line.resolve(recipe(), str(tmp_path / "run"))
    info = setup.info(config)
    normalized = setup.create_model(config, info)
    with config.unlocked():
        config.model.normalize = False
    plain = setup.create_model(config, info)
    variables = plain.init(jax.random.key(0), images)
    expected = normalized.apply(variables, images * info.std[0] + info.mean[0])
    np.testing.assert_allclose(plain.apply(variables, images), expected, rtol=1e-4, atol=1e-5)
