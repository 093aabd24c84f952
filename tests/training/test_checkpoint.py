"""Bits come back as they were, on any devices; what is damaged is never used."""

import functools
import logging as python_logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl import logging
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from rbjax.training import checkpoint, optimizers, schedules
from rbjax.training.checkpoint import Checkpoints

ROOT = Path(__file__).parents[2]


class State(NamedTuple):
    step: jax.Array
    variables: dict
    opt_state: optax.OptState
    ema: dict | None


def make_state(step=3):
    """A state with every kind of leaf: NamedTuples, None, bfloat16, integers, NaN, no elements."""
    schedule = schedules.create("constant", learning_rate=0.1, num_steps=9, steps_per_epoch=3)
    optimizer = optimizers.create("adamw", schedule, weight_decay=1e-4, gradient_clip=1.0)
    params = {
        "Dense_0": {"kernel": jnp.linspace(0, 1, 16).reshape(8, 2) + step},
        "half": jnp.array([1 / 3, -0.0, jnp.inf], jnp.bfloat16),
        "empty": jnp.zeros((0, 4)),
    }
    _, opt_state = optimizer.update(params, optimizer.init(params), params)
    more = {"bits": jnp.array([0, 2**32 - 1], jnp.uint32), "nan": jnp.array([jnp.nan, 5e-39])}
    return State(jnp.int32(step), {"params": params, "more": more}, opt_state, None)


def on_one(state):
    return jax.device_put(state, SingleDeviceSharding(jax.devices()[0]))


def on_eight(state):
    mesh = Mesh(jax.devices(), ("data",))
    placed = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    kernel = jax.device_put(state.variables["params"]["Dense_0"]["kernel"], rows)
    placed.variables["params"]["Dense_0"]["kernel"] = kernel
    return placed


PLACEMENTS = {"one device": on_one, "eight devices": on_eight, "numpy": jax.device_get}


def bits(tree):
    return [(x.dtype, x.shape, np.asarray(x).tobytes()) for x in jax.tree.leaves(tree)]


def assert_same(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    assert bits(left) == bits(right)


def restored(checkpoints, template=None):
    result = checkpoints.restore_latest(make_state(0) if template is None else template)
    assert result is not None
    return result


@pytest.fixture
def warnings():
    """The warnings logged while a test runs."""
    messages = []

    class Handler(python_logging.Handler):
        def emit(self, record):
            if record.levelno >= python_logging.WARNING:
                messages.append(record.getMessage())

    handler = Handler()
    logging.get_absl_logger().addHandler(handler)
    yield messages
    logging.get_absl_logger().removeHandler(handler)


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory):
    """A folder with the steps 1 and 2, which tests copy."""
    folder = tmp_path_factory.mktemp("two_steps") / "checkpoints"
    for step in (1, 2):
        Checkpoints(folder).save(step, make_state(step))
    return folder


@pytest.fixture
def checkpoints(two_steps, tmp_path):
    shutil.copytree(two_steps, tmp_path / "checkpoints")
    return Checkpoints(tmp_path / "checkpoints")


def files_of(step_folder):
    return sorted(p.relative_to(step_folder) for p in step_folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("saved_on", PLACEMENTS)
def test_a_state_goes_there_and_back_between_any_devices(tmp_path, saved_on):
    state = make_state()
    extra = {"epoch": 2, "nested": {"a": [1, None, 0.1]}}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, PLACEMENTS[saved_on](state), extra=extra)
    for place in PLACEMENTS.values():
        template = place(jax.tree.map(jnp.zeros_like, state))
        result = restored(checkpoints, template)
        assert (result.step, result.extra) == (3, extra)
        assert_same(result.state, state)
        for leaf, like in zip(
            jax.tree.leaves(result.state), jax.tree.leaves(template), strict=True
        ):
            assert getattr(leaf, "sharding", None) == getattr(like, "sharding", None)


def test_shapes_alone_make_a_template(checkpoints):
    template = jax.eval_shape(make_state)
    assert_same(restored(checkpoints, template).state, make_state(2))


def test_a_restored_state_is_donated_and_traced_once(tmp_path):
    mesh = Mesh(jax.devices(), ("data",))
    state = jax.device_put({"w": jnp.zeros(64)}, NamedSharding(mesh, PartitionSpec()))
    traces = []

    @functools.partial(
        jax.pmap, axis_name="data", in_axes=(None, 0), out_axes=None, donate_argnums=0
    )
    def step(state, x):
        traces.append(1)
        return {"w": state["w"] + jax.lax.pmean(x, "data")}

    state = step(state, jnp.ones(8))
    Checkpoints(tmp_path).save(1, state)
    result = Checkpoints(tmp_path).restore_latest(state)
    assert result is not None
    state = step(step(result.state, jnp.ones(8)), jnp.ones(8))
    assert len(traces) == 1
    for shard in state["w"].addressable_shards:
        np.testing.assert_array_equal(shard.data, np.full(64, 3.0))


def test_part_of_a_state_can_be_read(checkpoints):
    template = {"variables": {"params": make_state(0).variables["params"]}}
    result = checkpoints.restore_latest(template, partial=True)
    assert_same(result.state["variables"]["params"], make_state(2).variables["params"])
    with pytest.raises(ValueError, match="which is not expected"):
        checkpoints.restore_latest(template)


def test_no_checkpoint_is_none(tmp_path):
    assert Checkpoints(tmp_path / "missing").restore_latest(make_state()) is None
    assert Checkpoints(tmp_path).restore_latest(make_state()) is None
    assert list(tmp_path.iterdir()) == []


def test_the_newest_steps_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (5, 10, 100):
        checkpoints.save(step, {"w": jnp.full(2, step)})
    assert checkpoints.steps() == [100, 10]
    assert restored(checkpoints, {"w": jnp.zeros(2, jnp.int32)}).state["w"].tolist() == [100, 100]


def test_a_relative_path_is_resolved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoints = Checkpoints(Path("runs/a"))
    monkeypatch.chdir("/")
    checkpoints.save(1, {"w": jnp.ones(2)})
    assert (tmp_path / "runs" / "a" / "1").is_dir()


def test_a_flipped_bit_in_any_file_is_found(checkpoints, warnings):
    folder = checkpoints.directory / "2"
    for name in files_of(folder):
        content = (folder / name).read_bytes()
        if not content:
            continue
        damaged = bytearray(content)
        damaged[len(damaged) // 2] ^= 1
        (folder / name).write_bytes(damaged)
        assert restored(checkpoints).step == 1, name
        assert "step 2" in warnings[-1]
        # A flipped bit in the manifest looks like one in the file whose digest it is.
        assert name.name in warnings[-1] or name.name == checkpoint.MANIFEST
        (folder / name).write_bytes(content)
    assert len(warnings) >= 5
    assert restored(checkpoints).step == 2


def test_a_truncated_or_missing_file_is_found(checkpoints, warnings):
    folder = checkpoints.directory / "2"
    for name in files_of(folder):
        content = (folder / name).read_bytes()
        if content:
            (folder / name).write_bytes(content[: len(content) // 2])
            assert restored(checkpoints).step == 1, name
        (folder / name).unlink()
        assert restored(checkpoints).step == 1, name
        assert name.name in warnings[-1]
        (folder / name).write_bytes(content)
    assert restored(checkpoints).step == 2


def test_a_step_without_its_manifest_is_unfinished(checkpoints, warnings):
    (checkpoints.directory / "2" / checkpoint.MANIFEST).unlink()
    assert restored(checkpoints).step == 1
    assert "unfinished" in warnings[-1]


def test_restoring_changes_no_file(checkpoints):
    (checkpoints.directory / "2" / checkpoint.MANIFEST).unlink()
    before = files_of(checkpoints.directory)
    restored(checkpoints)
    assert files_of(checkpoints.directory) == before


def test_nothing_intact_is_an_error_that_names_every_step(checkpoints):
    for step in (1, 2):
        (checkpoints.directory / str(step) / checkpoint.MANIFEST).write_text("{}")
    with pytest.raises(ValueError, match=r"none of .* is intact \(step 2: .*; step 1: "):
        checkpoints.restore_latest(make_state())


def test_a_damaged_step_is_replaced_when_the_run_comes_by_again(checkpoints):
    (checkpoints.directory / "2" / checkpoint.MANIFEST).unlink()
    checkpoints.save(2, make_state(7))
    assert checkpoints.steps() == [2, 1]
    assert_same(restored(checkpoints).state, make_state(7))


def test_a_damaged_step_does_not_count_among_the_kept(checkpoints):
    checkpoints.save(3, make_state(3))
    (checkpoints.directory / "2" / checkpoint.MANIFEST).unlink()
    (checkpoints.directory / "3" / checkpoint.MANIFEST).unlink()
    shutil.copytree(checkpoints.directory / "2", checkpoints.directory / "1")
    checkpoints.save(3, make_state(3))
    checkpoints.save(4, make_state(4))
    assert checkpoints.steps() == [4, 3]


def test_an_intact_step_is_not_written_over(checkpoints):
    for step in (1, 2):
        with pytest.raises(ValueError, match="already holds an intact step 2"):
            checkpoints.save(step, make_state(9))
    assert_same(restored(checkpoints).state, make_state(2))


def test_a_save_that_fails_leaves_the_step_before(checkpoints, monkeypatch):
    def full_disk(path, value):
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoint.atomic, "write_json", full_disk)
    with pytest.raises(OSError, match="no space"):
        checkpoints.save(3, make_state(3))
    assert restored(checkpoints).step == 2
    assert checkpoints.steps() == [2, 1]  # half a checkpoint takes room


KILLED = """
import os, signal, sys
import jax.numpy as jnp
from rbjax import atomic
from rbjax.training import checkpoint
checkpoints = checkpoint.Checkpoints(sys.argv[1], keep=1)
checkpoints.save(1, {"w": jnp.full(3, 1.0)})
die = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "while Orbax writes":
    os.rename = os.replace = die
    import pathlib
    pathlib.Path.rename = pathlib.Path.replace = die
elif sys.argv[2] == "before the manifest":
    atomic.write_json = die
else:
    checkpoint.intact.delete = die
checkpoints.save(2, {"w": jnp.full(3, 2.0)})
"""


@pytest.mark.parametrize(
    ("moment", "step"),
    [("while Orbax writes", 1), ("before the manifest", 1), ("while old steps are deleted", 2)],
)
def test_a_run_killed_at_any_moment_finds_an_intact_step(tmp_path, moment, step):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    child = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), moment],
        env=environment,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    checkpoints = Checkpoints(tmp_path, keep=1)
    template = {"w": jnp.zeros(3)}
    result = restored(checkpoints, template)
    assert (result.step, result.state["w"].tolist()) == (step, [float(step)] * 3)
    checkpoints.save(6, {"w": jnp.full(3, 9.0)})
    assert restored(checkpoints, template).state["w"].tolist() == [9.0] * 3
    assert [p.name for p in tmp_path.iterdir()] == ["6"]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ({"w": np.zeros(3, np.float32)}, r"its w is float32\[2\], not float32\[3\]"),
        ({"w": np.zeros(2, np.int32)}, r"its w is float32\[2\], not int32\[2\]"),
        ({"w": np.zeros(2, np.float32), "v": np.zeros(2)}, "lacks v"),
        ({}, "holds w, which is not expected"),
    ],
)
def test_a_template_that_does_not_fit_is_named(tmp_path, template, message):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"w": jnp.ones(2)})
    with pytest.raises(ValueError, match=message):
        checkpoints.restore_latest(template)


def test_a_typed_key_is_refused(tmp_path):
    with pytest.raises(ValueError, match="key is a typed key"):
        Checkpoints(tmp_path).save(1, {"key": jax.random.key(0)})
    assert list(tmp_path.iterdir()) == []


def test_keep_is_at_least_one(tmp_path):
    with pytest.raises(ValueError, match=r"checkpoint\.keep is 0"):
        Checkpoints(tmp_path, keep=0)


def test_orbax_is_quiet(tmp_path, caplog):
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.INFO)
    logging.get_absl_logger().addHandler(caplog.handler)
    try:
        Checkpoints(tmp_path).save(1, {"w": jnp.ones(2)})
        assert restored(Checkpoints(tmp_path), {"w": jnp.ones(2)}).step == 1
        logging.info("ours")
    finally:
        logging.get_absl_logger().removeHandler(caplog.handler)
        logging.set_verbosity(verbosity)
    assert {record.getMessage() for record in caplog.records} == {"ours"}
