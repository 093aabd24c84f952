"""Two processes that each read their share of a streamed set train as one that reads it all.

They hold one run directory together.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax

from rbjax import losses, methods, models
from rbjax.data import Dataset, DatasetInfo, augment, streaming
from rbjax.data.order import epoch_order
from rbjax.data.pipeline import Schedule
from rbjax.training.run_directory import hold
from rbjax.training.state import create_state, on_host, place
from rbjax.training.step import Recipe, make_train_step

ROOT = Path(__file__).parents[2]
N, BATCH, SHAPE = 96, 16, (6, 6, 1)
_SHARED = """
import json, os, sys, jax, numpy as np
number, port, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.distributed.initialize(f"localhost:{port}", 2, number)
from rbjax.training.run_directory import hold
from tests.training.test_streamed_processes import trained
with hold(f"{folder}/run"):  # process 0 has the lock, for both
    held = json.load(open(f"{folder}/run/lock.json"))["pid"] == os.getpid()
    found = trained(jax.local_devices(), jax.devices(), (jax.process_index(), jax.process_count()))
refusal = None
try:
    with hold(f"{folder}/taken"):
        pass
except ValueError as error:
    refusal = f"{type(error).__name__}: {error}"
json.dump([held, refusal], open(f"{folder}/{number}.json", "w"))
np.save(f"{folder}/{number}.npy", found)
"""


def trained(local, devices, process=(0, 1)) -> np.ndarray:
    """Returns all weights after an epoch over all the devices, fed to the local ones."""
    generator = np.random.default_rng(0)
    info = DatasetInfo("made_up", SHAPE, ("a", "b", "c"), {"train": N}, (0.5,), (0.25,), "", "")
    images = generator.integers(0, 256, (N, *SHAPE), dtype=np.uint8)
    labels, rows = generator.integers(0, 3, N).astype(np.int32), np.arange(N, dtype=np.int32)
    dataset = Dataset(info, "train", images, labels, rows, rows)
    model = models.create(
        "mlp", num_classes=3, image_shape=SHAPE, mean=(0.5,), std=(0.25,), widths=(8,)
    )
    recipe = Recipe(
        model=model,
        method=methods.standard(),
        loss_fn=losses.create("cross_entropy"),
        optimizer=optax.sgd(0.1),
        augment=augment.create(flip_horizontal=True, crop_padding=1),
        steps_per_epoch=N // BATCH,
    )
    schedule = Schedule(
        lambda epoch: epoch_order(N, seed=0, epoch=epoch, batch_size=BATCH),
        steps_per_epoch=N // BATCH,
        num_epochs=1,
        steps_per_block=2,
    )
    plan = streaming.plan(
        images,
        batch_size=BATCH,
        steps_per_block=2,
        devices=local,
        streaming="always",
        num_processes=process[1],
    )
    key = jax.random.key(0)
    state = create_state(key, model, recipe.method, recipe.optimizer, num_rows=BATCH)
    state = place(on_host(state), local)
    step = make_train_step(recipe, key, num_steps=2, devices=devices, streamed=True)
    with streaming.feed(dataset, schedule, plan, devices=local, process=process) as feed:
        for block in feed:
            state, _ = step(state, *block)
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(on_host(state).variables)])


def test_two_processes_train_as_one(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    command = [sys.executable, "-c", _SHARED]
    with hold(tmp_path / "taken"):
        processes = [
            subprocess.Popen([*command, str(i), str(port), tmp_path], cwd=ROOT, env=environment)
            for i in range(2)
        ]
        assert [process.wait(timeout=120) for process in processes] == [0, 0]
    (held, refusal), (other_held, other_refusal) = (
        json.loads((tmp_path / f"{number}.json").read_text()) for number in range(2)
    )
    assert (held, other_held) == (True, False)
    assert refusal.startswith("InUseError: workdir = ")  # so that a sweep goes on to the next
    assert f"process {os.getpid()} on " in refusal
    assert refusal == other_refusal
    first, second = (np.load(tmp_path / f"{number}.npy") for number in range(2))
    np.testing.assert_array_equal(first, second)
    one = jax.local_devices()[:1]
    np.testing.assert_allclose(first, trained(one, one), rtol=1e-5, atol=1e-6)
