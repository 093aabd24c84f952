"""What is wrong with a thing from outside is one line, before anything is trained or written."""

from __future__ import annotations

import json
import sys

import pytest

from rbjax.main import main

LAB = """
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.typing import Dtype

from rbjax import attacks
from rbjax.methods import Method


class Linear(nn.Module):
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        return nn.Dense(10, param_dtype=self.param_dtype)(x.reshape(len(x), -1))


class Counted(nn.Module):
    @nn.compact
    def __call__(self, x):
        count = self.variable("counts", "calls", jnp.zeros, ())
        count.value += 1
        return nn.Dense(10)(x.reshape(len(x), -1))


class Noisy(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = False):
        if train:
            x += jax.random.normal(self.make_rng("noise"), x.shape)
        return nn.Dense(10)(x.reshape(len(x), -1))


class Means(nn.Module):
    mean: float = 0.5

    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(x.reshape(len(x), -1))


def zero(*, a: int = 3) -> Method:
    return 1 / 0


def five() -> Method:
    return 5


def required(*, sigma: float) -> Method:
    return Method()


def named(*, name: str = "x") -> Method:
    return Method()


def doubled() -> Method:
    return Method(inputs=lambda f, keys, state, images, labels: jnp.concatenate([images, images]))


def fails() -> Method:
    return Method(loss=lambda seen: {}["loss"])


def plain(*, start: Literal["none", "uniform"] = "uniform", word: str = "x", b: float | None = 0.5):
    print("made of", start, word, b)
    return Method()


def mean_loss():
    def loss(logits, labels):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    return loss


def images_only():
    return lambda logits_fn, keys, images, labels, *, targets=None: images


def sourced(*, source: str = "here"):
    return attacks.fgsm(epsilon=0.1)


def clipped(schedule, *, gradient_clip: float = 1.0):
    return optax.sgd(schedule)


def perturbation(*, level: float = 0.1):
    return lambda key, image: image


def no_rows():
    def sampler(labels, *, seed, epoch, batch_size, num_steps):
        return np.full((num_steps, batch_size), len(labels))

    return sampler
"""

CONFIG = """
from rbjax import config as schema


def get_config(variant=""):
    config = schema.default()
    config.batch_size, config.num_epochs, config.diagnostics = 256, 1, 0
    config.model.name, config.dataset.max_train_examples = "mlp", 512
    config.score.max_steps = 0
    return config
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    (tmp_path / "wronglab.py").write_text(LAB)
    (tmp_path / "own.py").write_text(CONFIG)
    yield tmp_path
    sys.modules.pop("wronglab", None)


def run(*typed: str) -> int:
    return main(["rbjax", "--config=own.py", "--workdir=run", *(f"--config.{t}" for t in typed)])


@pytest.mark.parametrize(
    ("typed", "parts"),
    [
        ("method.name=wronglab:zero", ("method: ", "making it failed: ZeroDivisionError")),
        ("method.name=wronglab:five", ("makes an int", "rbjax.methods.Method")),
        ("method.name=wronglab:required", ("sigma is missing: required by wronglab:required",)),
        ("method.name=wronglab:named", ("has an option 'name'", "rename")),
        ("method.name=wronglab:doubled", ("inputs have the shapes", "(256, 16, 16, 1)")),
        ("method.name=wronglab:fails", ("step with method 'wronglab:fails' fails: KeyError",)),
        ("method.name=wronglab:", ("write it as package.module:maker",)),
        ("method.name=:five", ("write it as package.module:maker",)),
        ("loss.name=wronglab:mean_loss", ("loss: ", "one number per example")),
        ("loss.name=wronglab:perturbation", ("loss: ", "one number per example")),
        ("schedule.name=wronglab:perturbation", ("schedule: ", "fails: TypeError")),
        ("sampler.name=wronglab:perturbation", ("sampler ", "fails: TypeError")),
        ("sampler.name=wronglab:no_rows", ("there are 512, numbered from 0",)),
        ("imbalance.name=wronglab:perturbation", ("it must make 10 whole numbers",)),
        ("model.name=wronglab:Counted", ("cannot be trained", "counts")),
        ("model.name=wronglab:Noisy", ("cannot be trained", "noise")),
        ("model.name=wronglab:Means", ("has an option 'mean'", "rename")),
        ("optimizer.name=wronglab:clipped", ("has an option 'gradient_clip'", "rename")),
        ("optimizer.name=optax:chain", ("optimizer: ",)),
        ("optimizer.name=optax:lbfgs", ("optimizer: ",)),
        ("optimizer.name=optax:noisy_sgd", ("optimizer: ",)),
        ("attacks.a.name=wronglab:images_only", ("must return an rbjax.typing.AttackResult",)),
        ("attacks.a.name=wronglab:perturbation", ("attacks.a: ", "fails: TypeError")),
        ("attacks.a.name=wronglab:sourced", ("has an option 'source'", "rename")),
        ("attacks.a.epsilon=0.1", ("no attack 'a'", "--config.attacks.a.name=NAME")),
        ("corruptions.name=wronglab:perturbation", ("corruptions: ", "no option 'severity'")),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_run_directory(lab, capsys, typed, parts):
    assert run(typed) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    for part in parts:
        assert part in lines[0]
    assert not (lab / "run").exists()


@pytest.mark.parametrize("typed", ["model.name=wronglab:Linear", "optimizer.name=optax:adafactor"])
def test_what_json_cannot_hold_is_no_field(lab, typed):
    assert run(typed) == 0


def test_none_is_a_value_where_the_option_says_so(lab, capsys):
    fields = ("name=wronglab:plain", "start=none", "word=none", "b=none")
    assert run(*(f"method.{field}" for field in fields)) == 0
    assert "made of none none None" in capsys.readouterr().out
    saved = json.loads((lab / "run/config.json").read_text())["method"]
    assert saved == {"name": "wronglab:plain", "start": "none", "word": "none", "b": None}

    # Checkpoints are kept as one likes; an evaluation knows the fields of the run's own makers.
    assert run(*(f"method.{field}" for field in fields), "checkpoint.keep=5") == 0
    capsys.readouterr()
    assert run("task=evaluate", "method.word=none") == 0
    assert "made of none none None" in capsys.readouterr().out
    assert run("task=evaluate", "method.word=y") == 2
    assert "method.word = 'y': the run in run has 'none'" in capsys.readouterr().err
    (lab / "wronglab.py").unlink()
    sys.modules.pop("wronglab")
    assert run("task=evaluate") == 2
    error = capsys.readouterr().err
    assert "there is no module 'wronglab'" in error
    assert "the config of the run in run names it" in error
