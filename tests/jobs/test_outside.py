"""A thing of every kind, written outside the package, in one run: trained, evaluated, scored."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import attacks, corruptions, losses, methods, models, rpr, testing
from rbjax.main import main
from rbjax.train import _Dispatch
from rbjax.training import optimizers, schedules

LAB = '''
"""What somebody else wrote."""

from typing import Annotated

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from rbjax import attacks
from rbjax.methods import Method
from rbjax.options import Range


class Net(nn.Module):
    """A network with dropout and batch norm."""

    width: Annotated[int, Range(low=1)] = 8
    """Channels."""
    num_classes: int = 10

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.Conv(self.width, (3, 3), strides=(4, 4))(x)
        x = nn.BatchNorm(use_running_average=not train)(x)
        x = nn.relu(x).reshape(x.shape[0], -1)
        x = nn.Dropout(0.1, deterministic=not train)(x)
        return nn.Dense(self.num_classes)(x)


def noisy(*, sigma: Annotated[float, Range(above=0.0, unit="pixels in [0, 1]")] = 0.1) -> Method:
    """Returns training on noisy images.

    Args:
        sigma: standard deviation.
    """

    def inputs(logits_fn, keys, state, images, labels):
        noise = jax.vmap(lambda key, image: jax.random.normal(key, image.shape))(keys, images)
        return jnp.clip(images + sigma * noise, 0.0, 1.0)

    return Method(inputs=inputs)


def focal(*, gamma: float = 2.0):
    """Returns the focal loss."""

    def loss(logits, labels):
        log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
        log_p = jnp.take_along_axis(log_p, labels[:, None], axis=1)[:, 0]
        return -((1 - jnp.exp(log_p)) ** gamma) * log_p

    return loss


def momentum(schedule, *, decay: float = 0.9):
    """Returns an optimizer."""
    return optax.sgd(schedule, momentum=decay)


def halving(*, rate: float = 0.1, steps_per_epoch: int):
    """Returns a rate that is halved each epoch."""
    return lambda step: rate * 0.5 ** (step // steps_per_epoch)


def first_rows(*, share: float = 1.0):
    """Returns the sampler of the first rows."""

    def sampler(labels, *, seed, epoch, batch_size, num_steps):
        rows = np.arange(num_steps * batch_size) % max(1, int(share * len(labels)))
        return rows.reshape(num_steps, batch_size).astype(np.int32)

    return sampler


def at_most(*, class_counts, most: int = 1000):
    """Returns counts that are cut."""
    return np.minimum(class_counts, most)


def blobs(*, size: int = 12, seed: int = 0):
    """Returns a dataset of two kinds of images."""
    rng = np.random.default_rng(seed)
    labels = np.arange(192) % 2
    images = rng.integers(0, 100, (192, size, size), np.uint8) + 120 * labels[:, None, None]
    images = images.astype(np.uint8)
    return {
        "train_images": images[:160],
        "train_labels": labels[:160],
        "test_images": images[160:],
        "test_labels": labels[160:],
        "class_names": ("dark", "bright"),
    }


def darker(*, most: float = 0.2):
    """Returns the perturbation that darkens."""
    return lambda key, image: image * (1 - most * jax.random.uniform(key)).astype(image.dtype)


def greyer(*, severity: int, strength: float = 0.1):
    """Returns the corruption that moves values towards grey."""
    share = min(1.0, strength * severity)
    return lambda key, image: (1 - share) * image + share * 0.5


def one_step(*, epsilon: float = 0.05, times: int = 1):
    """Returns an attack, a plain function."""
    climb = attacks.pgd(epsilon=epsilon, num_steps=times)

    def attack(logits_fn, keys, images, labels, *, targets=None):
        return climb(logits_fn, keys, images, labels, targets=targets)

    return attack
'''

CONFIG = """
from rbjax import config as schema


def get_config(variant=""):
    config = schema.default()
    config.batch_size = 32
    config.num_epochs = 2
    config.diagnostics = 0
    config.method.name = "{lab}:noisy"
    config.method.sigma = 0.05
    config.score.max_steps = 3
    config.corruptions.severities = (1, 3)
    return config
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """The current folder, with a module and a config file of somebody's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    name = "somebodys_lab"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(LAB))
    (tmp_path / "own.py").write_text(CONFIG.format(lab=name))
    yield name
    sys.modules.pop(name, None)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of somebody's own in the current folder; returns its module of parts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    folder = tmp_path / "somebodys_package"
    (folder / "networks").mkdir(parents=True)
    parts, network, rest = LAB.partition("class Net(nn.Module):")
    network, end, rest = rest.partition("def noisy(")
    imports = parts[parts.index("from typing") :]
    (folder / "__init__.py").write_text('"""What somebody else wrote, as a package."""\n')
    (folder / "networks" / "__init__.py").write_text("from .small import Net\n")
    (folder / "networks" / "small.py").write_text(f"{imports}class Net(nn.Module):{network}")
    (folder / "parts.py").write_text(f"{parts}from .networks import Net\n\n\n{end}{rest}")
    (tmp_path / "own.py").write_text(CONFIG.format(lab="somebodys_package.parts"))
    yield "somebodys_package.parts"
    for name in [name for name in sys.modules if name.startswith("somebodys_package")]:
        del sys.modules[name]


def arguments(lab: str, *more: str) -> list[str]:
    fields = {
        "dataset.name": f"{lab}:blobs",
        "dataset.size": "16",
        "imbalance.name": f"{lab}:at_most",
        "imbalance.most": "70",
        "sampler.name": f"{lab}:first_rows",
        "sampler.share": "0.5",
        "model.name": f"{lab}:Net",
        "model.width": "4",
        "loss.name": f"{lab}:focal",
        "loss.gamma": "1/2",
        "optimizer.name": f"{lab}:momentum",
        "optimizer.decay": "0.8",
        "schedule.name": f"{lab}:halving",
        "schedule.rate": "0.2",
        "attacks.mine.name": f"{lab}:one_step",
        "attacks.mine.times": "2",
        "corruptions.name": f"brightness+{lab}:greyer",
        "corruptions.strength": "0.3",
        "score.perturbation": f"{lab}:darker+gaussian_noise",
        "score.most": "0.9",
        "score.sigma": "0.2",
    }
    typed = [f"--config.{field}={value}" for field, value in fields.items()]
    return ["rbjax", "--config=own.py", "--workdir=run", *typed, *more]


@pytest.mark.full_size
def test_a_thing_of_every_kind_in_one_run(lab, capsys, tmp_path):
    assert main(arguments(lab)) == 0
    printed = capsys.readouterr().out
    for shown in ("sigma=0.05", "width=4", "gamma=0.5", "decay=0.8", "times=2", "most=0.9"):
        assert shown in printed
    saved = json.loads((tmp_path / "run/config.json").read_text())
    assert saved["method"] == {"name": f"{lab}:noisy", "sigma": 0.05}
    assert saved["schedule"].items() >= {"name": f"{lab}:halving", "rate": 0.2}.items()
    assert "learning_rate" not in saved["schedule"]
    assert saved["attacks"]["mine"]["epsilon"] == 0.05
    assert len(saved["dataset"]["fingerprint"]) == 16
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert report["class_names"] == ["dark", "bright"]
    assert report["train_class_counts"] == [70, 70]
    assert report["results"]["clean"]["summary"]["accuracy"] > 0.9
    assert set(report["corruptions"]["accuracy"]) == {"brightness", f"{lab}:greyer"}
    scores = np.load(tmp_path / "run/rpr.npz")
    assert scores["robust"].shape == (32,)

    # The same command finds it trained; an evaluation reads the makers from the run's config.
    assert main(arguments(lab)) == 0
    assert "trained already" in capsys.readouterr().out
    evaluation = ["rbjax", "--config=own.py", "--workdir=run", "--config.task=evaluate"]
    evaluation += [f"--config.attacks.mine.name={lab}:one_step", "--config.attacks.mine.times=3"]
    assert main(evaluation) == 0
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert report["results"]["mine"]["attack"]["times"] == 3
    assert main([*arguments(lab), "--config.method.sigma=0.1"]) == 2
    assert "method.sigma = 0.05 there, 0.1 here" in capsys.readouterr().err


@pytest.mark.full_size
def test_parts_of_a_package_in_a_run_that_is_stopped_and_resumed(
    package, capsys, tmp_path, monkeypatch
):
    command = [*arguments(package), "--config.score.max_steps=0"]
    assert main(command) == 0
    (tmp_path / "run").rename(tmp_path / "whole")
    calls, dispatch = [], _Dispatch.__call__

    def stopping(self, *args):
        calls.append(1)
        if len(calls) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return dispatch(self, *args)

    monkeypatch.setattr(_Dispatch, "__call__", stopping)
    assert main(command) == 75
    assert "stopped at step 4 of 8 and saved; rerun the same" in capsys.readouterr().err
    assert main(command) == 0
    assert "training from step 4 of 8" in capsys.readouterr().out
    epochs, results = [], []
    for name in ("whole", "run"):
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        epochs.append([{**json.loads(line), "images_per_second": 0} for line in lines])
        results.append(np.load(tmp_path / name / "report.npz"))
    assert epochs[0] == epochs[1]
    for name in ("clean", "mine", "worst"):
        np.testing.assert_array_equal(results[0][name], results[1][name])


def test_parts_of_a_package_are_checked_and_called(package, tmp_path, monkeypatch):
    """Each by its `check_*` where there is one, and by a library call."""
    monkeypatch.syspath_prepend(tmp_path)
    parts = importlib.import_module(package)
    key, arrays = jax.random.key(0), parts.blobs()
    dataset = {"num_classes": 2, "image_shape": (12, 12, 1), "mean": (0.4,), "std": (0.2,)}
    net = models.create(parts.Net(width=2), **dataset)
    corruption = corruptions.create(parts.greyer, severity=3, strength=0.2)
    testing.check_attack(parts.one_step(epsilon=0.1), norm="linf", epsilon=0.1, num_devices=1)
    testing.check_method(parts.noisy(sigma=0.1), num_devices=1)
    testing.check_model(net)
    testing.check_loss(parts.focal())
    testing.check_perturbation(parts.darker())

    images, labels = arrays["test_images"][..., None], arrays["test_labels"]
    variables = net.init(key, jnp.zeros((1, 12, 12, 1)))
    logits_fn = jax.tree_util.Partial(net.apply, variables)
    attacked = attacks.run_attacks(
        logits_fn, key, images, labels, attacks={"mine": parts.one_step(epsilon=0.3)}
    )
    assert attacked.accuracy("mine").value < attacked.accuracy("clean").value
    corrupted = corruptions.run_corruptions(
        logits_fn,
        key,
        images,
        labels,
        profile="mnist",
        severities={"mine": (1,)},
        corruptions={"mine": corruption},
    )
    assert corrupted.predictions["mine"].shape == (1, len(labels))
    scores = rpr.score(
        logits_fn, key, images, labels, max_steps=2, perturbation=parts.darker(most=0.1)
    )
    assert scores.first_failure.shape == (len(labels),)
    rate = schedules.create(
        parts.halving(rate=0.2, steps_per_epoch=5), num_steps=9, steps_per_epoch=5
    )
    optimizer = optimizers.create(parts.momentum(rate, decay=0.5), rate)
    gradients = jax.tree.map(np.ones_like, variables["params"])
    updates, _ = optimizer.update(gradients, optimizer.init(gradients), gradients)
    assert {float(leaf.max()) for leaf in jax.tree.leaves(updates)} == {np.float32(-0.2)}
    assert methods.create(parts.noisy()).inputs is not methods.standard().inputs
    loss = losses.create(parts.focal(gamma=0.0))(jnp.zeros((1, 2)), jnp.array([1]))
    np.testing.assert_allclose(loss, np.log(2), rtol=1e-6)


@pytest.mark.parametrize(
    ("typed", "parts"),
    [
        ("method.sigma=0", ("method.sigma = 0.0", "above 0", "pixels in [0, 1]")),
        ("method.sigm=0.1", ("'sigm' in method", "did you mean 'sigma'")),
        ("method.sigma=much", ("config.method.sigma", "8/255")),
        ("model.width=0", ("model.width = 0", "whole number of at least 1")),
        ("model.name={lab}:Nett", ("model.name", "has no 'Nett'", "did you mean 'Net'")),
        ("loss.name=somebody:focal", ("loss.name", "no module 'somebody'", "'somebodys_lab'")),
        ("model.name=math:sin", ("model", "'math:sin' cannot be made")),
        ("dataset.name={lab}:noisy", ("dataset", "noisy", "must return train_images")),
    ],
)
def test_a_mistake_is_one_line(lab, capsys, typed, parts):
    typed = f"--config.{typed.format(lab=lab)}"
    kept = [a for a in arguments(lab) if a.partition("=")[0] != typed.partition("=")[0]]
    if typed.startswith("--config.dataset.name"):
        kept = [a for a in kept if "dataset.size" not in a]
    if "math:sin" in typed or "somebody:" in typed:
        kept = [
            a for a in kept if not a.startswith(("--config.model.width", "--config.loss.gamma"))
        ]
    assert main([*kept, typed]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    for part in parts:
        assert part in lines[0]


@pytest.mark.parametrize(
    "path", ["optax:adabelief", pytest.param("optax:lion", marks=pytest.mark.full_size)]
)
def test_an_optimizer_of_optax(lab, path, tmp_path):
    command = [a for a in arguments(lab) if "optimizer" not in a]
    command += [f"--config.optimizer.name={path}", "--config.num_epochs=1", "--config.task=score"]
    command += ["--config.schedule.rate=0.001"]
    assert main([*command, "--config.score.max_steps=1"]) == 0
    rates = (tmp_path / "run/metrics.csv").read_text()
    assert "0.001" in rates
