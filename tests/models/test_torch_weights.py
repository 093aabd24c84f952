"""Logits are PyTorch's where its state dict is read; what does not fit is named."""

import gzip
import json
import re
import struct
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import models
from rbjax.models import torch_layouts
from tests.models import torch_drawn

KNOWN = json.loads(gzip.decompress(Path(__file__).with_name("torch_logits.json.gz").read_bytes()))
MEAN, STD = torch_drawn.MEAN, torch_drawn.STD
DTYPES = {"float32": "F32", "float64": "F64", "float16": "F16", "int64": "I64"}


def write(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    """Writes a safetensors file."""
    header, start = {}, 0
    for name, array in tensors.items():
        said = {"dtype": DTYPES[str(array.dtype)], "shape": array.shape}
        header[name] = said | {"data_offsets": (start, start + array.nbytes)}
        start += array.nbytes
    text = json.dumps(header).encode()
    content = b"".join(array.tobytes() for array in tensors.values())
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)
    return path


def state_dict(case: str) -> dict[str, np.ndarray]:
    shapes = KNOWN[case]["shapes"]
    return {name: torch_drawn.tensor(name, tuple(shape)) for name, shape in shapes.items()}


def model_of(case: str) -> models.Model:
    known = KNOWN[case]
    shape = known["image_shape"]
    mean, std = MEAN[: shape[2]], STD[: shape[2]]
    return models.create(
        known["model"], num_classes=10, image_shape=shape, mean=mean, std=std, **known["options"]
    )


@pytest.fixture(scope="module")
def lenet() -> tuple[models.Model, dict[str, np.ndarray]]:
    return model_of("lenet_modern"), state_dict("lenet_modern")


@pytest.mark.parametrize("case", KNOWN)
def test_logits_are_those_of_pytorch(tmp_path, case):
    model, tensors = model_of(case), state_dict(case)
    if "no_batch_norm" in case:  # made, as in the author's class, but never run
        made = {"weight": 1, "bias": 0, "running_mean": 0, "running_var": 1}
        for name in list(tensors):
            if name.startswith("BN"):
                value = made.get(name.rpartition(".")[2], 0)
                tensors[name] = np.full_like(tensors[name], value)
    variables = models.from_torch(model, write(tmp_path / "a", tensors))
    logits = np.asarray(
        jax.jit(model.apply)(variables, jnp.asarray(torch_drawn.images(model.image_shape)))
    )
    expected = np.array(KNOWN[case]["logits"])
    assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(
    "prefix", ["module.", "state_dict.model.", "net.module.", "_modules.model.", "module.0."]
)
def test_prefixes_and_what_stands_beside(tmp_path, lenet, prefix):
    model, tensors = lenet
    saved = {prefix + name: array for name, array in tensors.items()}
    saved["optimizer.state.0.exp_avg"] = np.ones(3, np.float32)
    saved |= {"scaler._scale": np.ones(1, np.float32), "rng_state": np.ones(9, np.int64)}
    saved["best_accuracy"] = np.array(0.5)
    got = models.from_torch(model, write(tmp_path / "a", saved))
    np.testing.assert_array_equal(got["params"]["head"]["kernel"], tensors["fc.weight"].T)
    norm = got["batch_stats"]["backbone"]["BatchNorm_6"]
    np.testing.assert_array_equal(norm["var"], tensors["BN128.running_var"])
    assert set(got) == {"params", "batch_stats"}


def test_a_tensor_of_the_model_outside_of_its_dict_is_left_over(tmp_path, lenet):
    model, tensors = lenet
    saved = {f"model.{name}": array for name, array in tensors.items()}
    saved |= {"fc.bias": tensors["fc.bias"], "model.scale": np.array(0.5)}
    with pytest.raises(ValueError, match="left over") as caught:
        models.from_torch(model, write(tmp_path / "a", saved))
    assert {line.split("'")[1] for line in str(caught.value).splitlines()} == {
        "fc.bias",
        "model.scale",
    }


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        ("", "scaler.weight"),
        ("", "scaler.gain"),
        ("", "schedule.0.bias"),
        ("model.", "scaler.weight"),
        ("model.", "model.scaler.gain"),
    ],
)
def test_a_module_that_is_called_as_a_part_of_training_is_left_over(tmp_path, lenet, prefix, name):
    model, tensors = lenet
    saved = {prefix + own: array for own, array in tensors.items()}
    path = write(tmp_path / "a", saved | {name: np.ones(2, np.float32)})
    with pytest.raises(ValueError, match=rf"'{re.escape(name)}' \(2,\) is left over"):
        models.from_torch(model, path)


def test_a_number_in_a_bare_state_dict_is_left_over(tmp_path, lenet):
    model, tensors = lenet
    path = write(tmp_path / "a", tensors | {"temperature": np.array(0.5)})
    with pytest.raises(ValueError, match=r"'temperature' \(\) is left over"):
        models.from_torch(model, path)


def test_a_module_saved_whole(tmp_path, lenet):
    model, tensors = lenet
    saved = {}
    for name, array in tensors.items():
        module, _, leaf = name.rpartition(".")
        kind = "_buffers" if "running" in leaf or "num_" in leaf else "_parameters"
        saved[f"_modules.{module}.{kind}.{leaf}"] = array
    got = models.from_torch(model, write(tmp_path / "a", saved))
    np.testing.assert_array_equal(got["params"]["head"]["bias"], tensors["fc.bias"])


def test_names_of_densenet_as_torchvision_publishes_them(tmp_path):
    tensors = state_dict("densenet121 torchvision")
    old = {re.sub(r"(norm|conv)([12])\.", r"\1.\2.", name): x for name, x in tensors.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    got = models.from_torch(model_of("densenet121 torchvision"), write(tmp_path / "a", old))
    expected = tensors["features.denseblock2.denselayer3.norm2.weight"]
    layer = got["params"]["backbone"]["block2_layer3"]
    np.testing.assert_array_equal(layer["norm2"]["scale"], expected)


def madry_lab(tensors: dict[str, np.ndarray], mean: float, std: float) -> dict[str, np.ndarray]:
    """Returns the names of MadryLab's checkpoints: the model twice, and two normalisers."""
    saved = {}
    for of in ("model.", "attacker.model."):
        saved |= {f"model.module.{of}{name}": array for name, array in tensors.items()}
    for of in ("normalizer.", "attacker.normalize."):
        saved[f"model.module.{of}new_mean"] = np.full((1, 1, 1), mean, np.float32)
        saved[f"model.module.{of}new_std"] = np.full((1, 1, 1), std, np.float32)
    return saved


def test_madry_labs_checkpoints_and_their_normalisers(tmp_path, lenet):
    model, tensors = lenet
    path = write(tmp_path / "a", madry_lab(tensors, MEAN[0], STD[0]))
    got = models.from_torch(model, path)
    np.testing.assert_array_equal(got["params"]["head"]["bias"], tensors["fc.bias"])
    path = write(tmp_path / "a", madry_lab(tensors, 0.41, STD[0]))
    with pytest.raises(ValueError, match=r"new_mean' is \(0\.41\); the model's mean is \(0\.4,\)"):
        models.from_torch(model, path)
    for name, value in (("mu", MEAN[0]), ("sigma", 0.3)):
        path = write(tmp_path / "a", tensors | {name: np.full((1, 1, 1, 1), value)})
        if name == "mu":
            models.from_torch(model, path)
            continue
        with pytest.raises(ValueError, match=r"'sigma' is \(0\.3\); the model's std"):
            models.from_torch(model, path)


def test_two_sets_of_weights_that_differ(tmp_path, lenet):
    model, tensors = lenet
    saved = {f"state_dict.{name}": array for name, array in tensors.items()}
    saved |= {f"ema.{name}": array + 1 for name, array in tensors.items()}
    path = write(tmp_path / "a", saved)
    with pytest.raises(ValueError, match=r"'state_dict\.' and 'ema\.', which differ; say which"):
        models.from_torch(model, path)
    got = models.from_torch(model, path, prefix="ema.")
    np.testing.assert_array_equal(got["params"]["head"]["bias"], tensors["fc.bias"] + 1)
    with pytest.raises(ValueError, match=r"prefix is 'em\.'; allowed: .*did you mean 'ema\.'"):
        models.from_torch(model, path, prefix="em.")


def test_every_tensor_that_does_not_fit_is_named(tmp_path, lenet):
    model, tensors = lenet
    saved: dict[str, np.ndarray] = {**tensors, "extra": np.ones(2, np.float32)}
    del saved["conv64_1.bias"]
    saved["fc.weight"] = saved["fc.weight"][:9]
    saved["BN32_1.bias"] = np.ones(32, np.int64)
    path = write(tmp_path / "a", saved)
    with pytest.raises(ValueError, match=r"a: '") as caught:
        models.from_torch(model, path)
    assert set(str(caught.value).splitlines()) == {
        f"{path}: 'BN32_1.bias' is int64; must be floating point",
        f"{path}: 'conv64_1.bias' (64,) is missing",
        f"{path}: 'fc.weight' is (9, 128); must be (10, 128)",
        f"{path}: 'extra' (2,) is left over: the model has no place",
    }


def test_batch_norms_that_ran_are_left_over_in_a_model_without(tmp_path, lenet):
    _, tensors = lenet
    with pytest.raises(ValueError, match=r"'BN32_1\.weight' \(32,\) is left over") as caught:
        models.from_torch(model_of("lenet_no_batch_norm"), write(tmp_path / "a", tensors))
    assert "... and 8 more" in str(caught.value)


def test_a_file_of_another_network(tmp_path, lenet):
    path = write(tmp_path / "a", {"encoder.w": np.ones(2, np.float32)})
    with pytest.raises(ValueError, match=r"a: has none of the model's tensors, such as .*encoder"):
        models.from_torch(lenet[0], path)


@pytest.mark.parametrize("name", ["mlp", "simple_cnn", "vgg_p5"])
def test_a_model_that_nobody_published(tmp_path, name):
    model = models.create(name, num_classes=2, image_shape=(8, 8, 1), mean=(0.5,), std=(0.5,))
    said = rf"model is '{name}', of which no published .*allowed: lenet5, .*rbjax\.weights\.read"
    with pytest.raises(ValueError, match=said) as caught:
        models.from_torch(model, tmp_path / "a")
    assert "\n" not in str(caught.value)


def test_each_other_model_has_names():
    """By name: what has none is refused above."""
    unknown = {"mlp", "simple_cnn", "vgg_p5"}
    assert set(models.MODELS) - set(torch_layouts.LAYOUTS) == unknown
