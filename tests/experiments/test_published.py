"""Experiments on weights of others: what is compared, and what is said where a file is missing."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.delta_accuracy import published
from experiments.delta_accuracy.strength import NETS
from experiments.parity import layouts
from rbjax import data, weights


def test_what_a_folder_lacks_is_named(tmp_path, capsys):
    assert published.main([f"--nets={tmp_path}"]) == 2
    assert "which has no mnist_cnn.pt" in capsys.readouterr().err
    assert layouts.main([str(tmp_path)]) == 2
    assert "no cases.json" in capsys.readouterr().err
    (tmp_path / "cases.json").write_text(json.dumps({"a": CASE}))
    assert layouts.main([str(tmp_path)]) == 2
    assert "lenet.pt" in capsys.readouterr().err


CASE = {
    "library": "kuangliu",
    "file": "lenet.pt",
    "model": "lenet5",
    "options": {},
    "image_shape": [32, 32, 1],
    "logits": [[0.5, 1.0, *[0.0] * 8]] * 4,
}


@pytest.fixture
def path(tmp_path):
    """A LeNet-5 of weights 0, and of biases that are the logits."""
    shapes = {"conv1": (6, 1, 5, 5), "conv2": (16, 6, 5, 5), "fc1": (120, 400), "fc2": (84, 120)}
    tensors = {
        f"{name}.{leaf}": np.zeros(shape if leaf == "weight" else shape[0], np.float32)
        for name, shape in {**shapes, "fc3": (10, 84)}.items()
        for leaf in ("weight", "bias")
    }
    tensors["fc3.bias"][:2] = 0.5, 1.0
    with (tmp_path / "lenet.pt").open("wb") as file:
        weights.write_safetensors(file, tensors, {})
    return tmp_path / "lenet.pt"


def test_a_difference_is_a_share_of_the_largest_logit(path, capsys):
    assert layouts.difference(CASE, path) < 1e-7
    other = {**CASE, "logits": [[0.5, 2.0, *[0.0] * 8]] * 4}
    assert layouts.difference(other, path) == pytest.approx(0.5)
    for case, code in ((CASE, 0), (other, 1)):
        (path.parent / "cases.json").write_text(json.dumps({"a": case}))
        assert layouts.main([str(path.parent)]) == code
        assert "| kuangliu | .pt | `lenet5` |  | 10 |" in capsys.readouterr().out


def test_errors_are_counted_and_accuracies_compared(monkeypatch, capsys):
    """Everything is taken for a 1, and what was printed is another accuracy."""
    known = data.info("digits")._replace(image_shape=(2, 2, 1))
    images = np.zeros((5, 2, 2, 1), np.uint8)
    dataset = data.from_arrays(known, "train", images, np.array([1, 1, 0, 2, 1]))
    ones = jax.tree_util.Partial(lambda images: jax.nn.one_hot(jnp.ones(len(images), int), 10))
    assert published.num_errors(ones, dataset) == 2
    monkeypatch.setattr(published.strength, "published", lambda _: dict.fromkeys(NETS, ones))
    monkeypatch.setattr(published.data, "load", lambda *_, **__: dataset)
    monkeypatch.setattr(published.claims, "published", lambda *_: 60.004)
    assert published.main(["--nets=any"]) == 0
    assert "| StepLR | mnist_cnn_steplr.pt | `lenet_modern` | 60.00 | 60.00 | 2 |" in (
        capsys.readouterr().out
    )
    monkeypatch.setattr(published.claims, "published", lambda *_: 60.01)
    assert published.main(["--nets=any"]) == 1
    assert "Equal to the digit: 0 of 6." in capsys.readouterr().out
