"""An exported model is a program for any batch, or one, that may be attacked."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

import rbjax
from rbjax import models
from rbjax.models.resnet import ResNet
from tests.contracts.test_models import create, drawn
from tests.trained.runs import IMAGES, TRAINED


@pytest.fixture(scope="module")
def run():
    return rbjax.load(TRAINED)


def program(path) -> Any:
    return jax.export.deserialize(bytearray(path.read_bytes()))


def test_any_number_of_images_on_any_platform(tmp_path, run):
    exported = program(rbjax.export(run, tmp_path / "model"))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    for images in (IMAGES, IMAGES[:1], np.tile(IMAGES, (3, 1, 1, 1))):
        logits = run.logits_fn(images)
        np.testing.assert_allclose(exported.call(images), logits, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["lenet_modern", "resnet"])
def test_pooling_and_batch_norm_know_no_batch_size_either(tmp_path, run, name):
    model = create(name)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, *model.image_shape)))
    other = dataclasses.replace(run, model=model, variables=drawn(shapes))
    exported = program(rbjax.export(other, tmp_path / "model"))
    for count in (1, 3):
        images = np.random.default_rng(0).random((count, *model.image_shape)).astype(np.float32)
        logits = other.logits_fn(images)
        np.testing.assert_allclose(exported.call(images), logits, rtol=1e-5, atol=1e-5)


def test_a_fixed_batch_and_gradients(tmp_path, run):
    path = rbjax.export(run, tmp_path / "model", batch_size=3, platforms=["cpu"], vjp_order=1)
    exported = program(path)
    assert exported.in_avals[0].shape == (3, 16, 16, 1)

    def gradient(logits_fn):
        return jax.grad(lambda images: logits_fn(images)[:, 0].sum())(IMAGES)

    there, here = gradient(exported.call), gradient(run.logits_fn)
    assert np.abs(here).max() > 0.01
    np.testing.assert_allclose(there, here, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="shape"):
        exported.call(IMAGES[:2])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"platforms": ["cud"]}, r"'cud' is unknown; allowed: cpu, cuda, rocm, tpu; .*'cuda'"),
        ({"platforms": "cud"}, r"platforms = \('cud',\): 'cud' is unknown; .*'cuda'"),
        ({"platforms": ()}, r"names none; allowed: cpu, cuda, rocm, tpu"),
        ({"batch_size": 0}, "batch_size is 0; it must be a whole number"),
        ({"vjp_order": -1}, "vjp_order is -1; it must be a whole number"),
    ],
)
def test_what_cannot_be_exported_is_said(tmp_path, run, given, message):
    with pytest.raises(ValueError, match=message):
        rbjax.export(run, tmp_path / "model", **given)
    assert not list(tmp_path.iterdir())


def test_a_path_is_no_trained_model(tmp_path):
    for write in (rbjax.save, rbjax.export):
        with pytest.raises(ValueError, match=r"run is 'runs/a'; it must be what rbjax.load"):
            write("runs/a", tmp_path / "model")


def test_bfloat16_is_right_on_each_platform():
    """What a program is compiled for decides how, not where it is traced."""
    options = {"num_classes": 3, "image_shape": (8, 8, 3), "mean": (0.5,) * 3, "std": (0.3,) * 3}
    options |= {"width": 32, "blocks": (1, 1)}
    exact, rounded = (models.create(ResNet, dtype=dtype, **options) for dtype in models.DTYPES)
    images = jax.random.uniform(jax.random.key(0), (2, 8, 8, 3))
    variables = exact.init(jax.random.key(1), images)
    apply = jax.jit(lambda images: rounded.apply(variables, images))
    program = jax.export.export(apply, platforms=("cuda", "cpu"))(images)
    expected = exact.apply(variables, images)
    np.testing.assert_allclose(program.call(images), expected, atol=0.05)
