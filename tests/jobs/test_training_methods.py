"""Methods of every kind as jobs: stopped and resumed they give the run that nobody disturbed."""

import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import attack_setup, command_line, methods
from rbjax.data import Dataset
from rbjax.errors import StoppedError
from rbjax.evaluate import evaluate
from rbjax.methods import Method
from rbjax.train import _Dispatch, train
from rbjax.training import checkpoint, hooks, run_directory, setup
from rbjax.training.log import read_metrics
from tests.training import toy_methods as toys

STEPS = 16


@pytest.fixture
def small(job):
    """Returns a function that makes the config of 16 steps of a tiny network, in two epochs."""

    def make(**changes):
        fields = {"model__name": "mlp", "model__widths": (4,), "num_epochs": 2}
        fields |= {"optimizer__ema_decay": None, "method__name": "standard"}
        fields |= {"dataset__max_train_examples": 512}  # two whole dispatches: one program
        return job(**{**fields, "method__epsilon": None, **changes})

    return make


def run(config, workdir, method: Method | None = None):
    """Trains with a method of one's own in the place of the config's."""
    config = command_line.resolve(config, str(workdir))
    with pytest.MonkeyPatch.context() as patch:
        if method is not None:
            patch.setattr(methods, "create", lambda *args, **kwargs: method)
        train(config, str(workdir))


def run_with_a_stop(config, workdir, method: Method | None = None, *, after: int):
    """Trains, stopped by SIGTERM in a dispatch; the second run resumes."""
    calls, dispatch = [], _Dispatch.__call__

    def stopping(self, *args):
        calls.append(1)
        if len(calls) == after:
            os.kill(os.getpid(), signal.SIGTERM)
        return dispatch(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Dispatch, "__call__", stopping)
        with pytest.raises(StoppedError, match="rerun the same command to resume"):
            run(config, workdir, method)
    run(config, workdir, method)


def stored(workdir, step=STEPS):
    """Returns every array of a checkpoint by name."""
    import orbax.checkpoint as ocp

    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
        path = setup.checkpoints(str(workdir)).directory / str(step)
        return reader.restore(path, args=ocp.args.Composite(state=ocp.args.StandardRestore())).state


def records(workdir):
    return [
        {key: value for key, value in record.items() if key != "images_per_second"}
        for record in read_metrics(workdir)
    ]


def assert_same_run(one, other):
    first, second = stored(one), stored(other)
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name], err_msg=name)
    assert records(one) == records(other)


KINDS = {
    "weight_perturbation": lambda: methods.pgd(num_steps=1, weight_perturbation=0.01),
    "free": lambda: methods.free(epsilon=0.1, num_replays=2),
    "ant": lambda: methods.ant(distance=1.0, restart_steps=2, history=2),
    "validation_weights": toys.validation_weights,
    "class_means": toys.class_means,
}


# Every kind is held to it by its contract too, without the command.
@pytest.mark.parametrize(
    "name", ["ant", *(pytest.param(k, marks=pytest.mark.full_size) for k in KINDS if k != "ant")]
)
def test_a_stopped_run_resumes_bit_for_bit(small, tmp_path, name):
    """Stopped inside the second epoch, after what was done between the two."""
    config = small(schedule__name="cosine")
    run(config, tmp_path / "unbroken", KINDS[name]())
    run_with_a_stop(config, tmp_path / "stopped", KINDS[name](), after=3)
    assert_same_run(tmp_path / "unbroken", tmp_path / "stopped")
    assert stored(tmp_path / "unbroken")["step"] == STEPS


def collapsing() -> Method:
    """Fast adversarial training whose second epoch climbs the loss."""
    method = methods.fast(epsilon=0.0)  # 16 steps are too few for more

    def loss(seen):
        is_good = seen.state.replicated.number == 0
        return jnp.where(is_good, 1.0, -1.0) * seen.task_loss(seen.outputs.logits)

    return method._replace(loss=loss)


def test_a_collapse_is_undone_also_in_a_run_that_was_stopped(small, tmp_path, capsys):
    rates = {"schedule__learning_rate": 0.01, "optimizer__ema_decay": 0.9}
    config = small(model__widths=(64,), **rates)
    run(config, tmp_path / "unbroken", collapsing())
    assert "epoch 2: accuracy under attack fell from" in capsys.readouterr().out
    before, undone = records(tmp_path / "unbroken")
    of_weights = [name for name in before if name.startswith("validation/")]
    assert {"validation/loss", "validation/plain/loss", "validation/best_epoch"} <= {*of_weights}
    for name in of_weights:  # of the weights that are back, not of those that are lost
        assert undone[name] == before[name], name
    run_with_a_stop(config, tmp_path / "stopped", collapsing(), after=3)
    assert_same_run(tmp_path / "unbroken", tmp_path / "stopped")
    arrays = stored(tmp_path / "unbroken")
    assert arrays["method_state.replicated.number"] == 1
    for part in ("variables", "ema"):
        names = [name for name in arrays if name.startswith(f"{part}.params")]
        assert names
        for name in names:
            np.testing.assert_array_equal(arrays[name], arrays[f"method_state.replicated.{name}"])


def test_trades_trains_from_its_config_and_resumes_bit_for_bit(small, tmp_path):
    config = small(method__name="trades", method__epsilon=0.1, method__num_steps=2)
    run(config, tmp_path / "unbroken")
    run_with_a_stop(config, tmp_path / "stopped", after=3)
    assert_same_run(tmp_path / "unbroken", tmp_path / "stopped")
    log = records(tmp_path / "unbroken")
    assert log[1]["train/loss"] < log[0]["train/loss"]
    assert run_directory.read_config(tmp_path / "unbroken")["method"]["beta"] == 6.0


def test_an_average_of_epochs_is_kept_judged_and_resumed_bit_for_bit(small, tmp_path):
    options = {"epsilon": 0.1, "num_steps": 2, "warmup_epochs": 1}
    options |= {"average_from": 1, "average_threshold": 0.0}
    changes = {f"method__{name}": value for name, value in options.items()}
    config = small(method__name="cfa", optimizer__ema_decay=0.85, **changes)
    run(config, tmp_path / "unbroken")
    run_with_a_stop(config, tmp_path / "stopped", after=3)
    assert_same_run(tmp_path / "unbroken", tmp_path / "stopped")
    first, last = (stored(tmp_path / "unbroken", step) for step in (8, 16))
    config = command_line.resolve(config, str(tmp_path / "unbroken"))
    model = setup.create_model(config, setup.load_test(config).info)
    _, judged = setup.trained_variables(config, str(tmp_path / "unbroken"), model)
    for path, weights in jax.tree.leaves_with_path(judged):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        one, two = (checkpoint[f"variables.{name}"] for checkpoint in (first, last))
        np.testing.assert_array_equal(first[f"ema.{name}"], one)
        np.testing.assert_allclose(weights, 0.85 * one + 0.15 * two, rtol=1e-5, atol=1e-7)


def test_class_weights_follow_the_validation_that_was_logged(small, tmp_path):
    """And the sums of an epoch hold each of its examples once, also over a stop inside it."""
    seen: list[methods.Epoch] = []
    method = toys.validation_weights()
    weigh = method.after_epoch
    assert weigh is not None

    def recorded(key, state, epoch):
        seen.append(epoch)
        return weigh(key, state, epoch)

    run_with_a_stop(small(), tmp_path / "run", method._replace(after_epoch=recorded), after=1)
    errors = 1.01 - np.array(records(tmp_path / "run")[-1]["validation/recall"])
    weights = stored(tmp_path / "run")["method_state.replicated"]
    np.testing.assert_allclose(weights, errors / errors.mean(), rtol=1e-6)
    assert [epoch.number for epoch in seen] == [1, 2]
    for epoch, record in zip(seen, records(tmp_path / "run"), strict=True):
        assert epoch.train.count.sum() == 512
        accuracy = epoch.train.correct.sum() / 512
        np.testing.assert_allclose(accuracy, record["train/accuracy"], rtol=1e-12)
        assert epoch.train.loss.sum() > 0
        assert epoch.num_epochs == 2


def test_a_new_head_on_a_backbone_that_was_trained_before(small, tmp_path):
    run(small(num_epochs=1), tmp_path / "first")
    config = command_line.resolve(small(num_epochs=1), str(tmp_path / "first"))
    model = setup.create_model(config, setup.load_test(config).info)
    _, variables = setup.trained_variables(config, str(tmp_path / "first"), model)
    method = toys.new_head(variables)
    run(small(seed=1), tmp_path / "unbroken", method)
    run_with_a_stop(small(seed=1), tmp_path / "stopped", method, after=1)
    assert_same_run(tmp_path / "unbroken", tmp_path / "stopped")
    _, after = setup.trained_variables(config, str(tmp_path / "unbroken"), model)
    backbones = (variables["params"]["backbone"], after["params"]["backbone"])
    for a, b in zip(*map(jax.tree.leaves, backbones), strict=True):
        np.testing.assert_array_equal(a, b)
    heads = [tree["params"]["head"]["kernel"] for tree in (variables, after)]
    assert np.abs(heads[0] - heads[1]).max() > 0.01
    names = [name for name in stored(tmp_path / "unbroken") if name.startswith("opt_state")]
    assert not [name for name in names if "backbone" in name]


def test_frl_begins_with_the_weights_of_another_run(small, tmp_path):
    run(small(num_epochs=1), tmp_path / "first")
    config = command_line.resolve(small(num_epochs=1), str(tmp_path / "first"))
    model = setup.create_model(config, setup.load_test(config).info)
    _, expected = setup.trained_variables(config, str(tmp_path / "first"), model)
    prepare = methods.frl(start_from=str(tmp_path / "first")).prepare
    assert prepare is not None
    prepared = prepare(jax.random.key(0), setup.load_train(config)[0], model)
    assert prepared.train_set is None
    for a, b in zip(*map(jax.tree.leaves, (prepared.variables, expected)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_data_set_is_prepared_once_and_kept(small, tmp_path, monkeypatch):
    calls: list[int] = []
    sizes = []
    plan = hooks.prepare

    def recorded(*args, **kwargs):
        prepared = plan(*args, **kwargs)
        sizes.append(prepared.train_set)
        return prepared

    monkeypatch.setattr(hooks, "prepare", recorded)
    config = small(batch_size=32)  # of 512 examples 256 are left: 8 steps an epoch
    run_with_a_stop(config, tmp_path / "stopped", toys.half_the_data(calls), after=1)
    assert len(calls) == 1
    first, second = sizes
    assert isinstance(first, Dataset)
    assert first.num_examples == 256
    for field in ("images", "labels", "index", "example_ids"):
        np.testing.assert_array_equal(getattr(first, field), getattr(second, field))
    run(config, tmp_path / "unbroken", toys.half_the_data([]))
    assert_same_run(tmp_path / "unbroken", tmp_path / "stopped")
    assert stored(tmp_path / "stopped")["step"] == STEPS


def test_a_prepared_data_set_that_is_gone_is_not_made_anew_in_silence(small, tmp_path):
    config = small(batch_size=32, num_epochs=1)
    run(config, tmp_path / "run", toys.half_the_data([]))
    (tmp_path / "run" / hooks.PREPARED_FILE).unlink()
    with pytest.raises(ValueError, match=r"prepared.npz: is missing or damaged"):
        run(config, tmp_path / "run", toys.half_the_data([]))


def test_the_report_and_universal_attacks_are_of_the_prepared_data_set(
    small, tmp_path, monkeypatch
):
    config = small(batch_size=32, num_epochs=1, diagnostics=0)
    run(config, tmp_path / "run", toys.half_the_data([]))
    crafted_on, create = [], attack_setup.create
    monkeypatch.setattr(
        attack_setup, "create", lambda *args: crafted_on.append(args[1]) or create(*args)
    )
    resolved = command_line.resolve(config, str(tmp_path / "run"))
    report = evaluate(resolved, str(tmp_path / "run"))
    assert report["train_class_counts"].sum() == 256
    assert crafted_on[0].num_examples == 256
    original, _ = setup.load_train(resolved)
    np.testing.assert_array_equal(crafted_on[0].images, 255 - original.images[:256])


def test_too_small_a_prepared_data_set_is_said_to_be_the_methods(small, tmp_path):
    with pytest.raises(ValueError, match=r"at most 256, .* that the method standard prepared"):
        run(small(batch_size=400), tmp_path / "run", toys.half_the_data([]))

    assert not (tmp_path / "run").exists()


def test_a_method_that_cannot_prepare_leaves_no_run_directory(small, tmp_path):
    def fail(key, train_set, model):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run(small(), tmp_path / "deep" / "run", Method(prepare=fail))
    assert list(tmp_path.iterdir()) == []
    run(small(num_epochs=1), tmp_path / "begun", toys.half_the_data([]))
    before = sorted(path.name for path in (tmp_path / "begun").iterdir())
    (tmp_path / "begun" / hooks.PREPARED_FILE).write_bytes(b"")
    with pytest.raises(ValueError, match="damaged"):
        run(small(num_epochs=1), tmp_path / "begun", toys.half_the_data([]))
    assert sorted(path.name for path in (tmp_path / "begun").iterdir()) == before


def test_the_schedule_of_replays_ends_where_training_does(small, tmp_path):
    """Its steps are descents, of which a batch has several."""
    run(small(schedule__name="cosine"), tmp_path / "free", methods.free(epsilon=0.1, num_replays=2))
    run(small(schedule__name="cosine", seed=1), tmp_path / "plain")
    rates = [records(tmp_path / name)[-1]["learning_rate"] for name in ("free", "plain")]
    assert rates[0] == pytest.approx(rates[1], abs=2e-5)
    count = [name for name in stored(tmp_path / "free") if name.endswith("count")]
    assert {int(stored(tmp_path / "free")[name]) for name in count} == {2 * STEPS}


def test_mixed_images_are_refused_before_training(small, tmp_path):
    config = small(method__name="trades", dataset__mixup_alpha=0.2)
    with pytest.raises(ValueError, match=r"dataset.mixup_alpha = 0.2.*'trades'.*'standard'"):
        command_line.resolve(config, str(tmp_path / "run"))


def test_checkpoints_of_methods_that_remember_the_weights_hold_them(small, tmp_path):
    run(small(num_epochs=1), tmp_path / "run", toys.guard())
    names = stored(tmp_path / "run", 8)
    assert any(name.startswith("method_state.replicated.variables.params") for name in names)
    assert checkpoint.Checkpoints(tmp_path / "run" / "checkpoints").steps() == [8]


def test_heaps_that_would_lie_on_two_devices_are_refused_before_training(small, tmp_path):
    """Eight simulated devices: each of them must hold whole heaps."""
    config = small(method__name="shared", method__heap_size=16)
    message = r"batch_size = 64: .*shared keeps 16 rows.* 8 devices; .*multiple of 128"
    with pytest.raises(ValueError, match=message):
        run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
