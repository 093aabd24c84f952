"""Networks that others trained and published with their robustness, as functions of the images."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rbjax import weights
from rbjax.typing import Array, LogitsFn


class Convolution(NamedTuple):
    """A convolution with a bias, and a ReLU."""

    name: str
    stride: int = 1
    padding: int = 0


class Pool(NamedTuple):
    """The largest of 2 x 2."""


class Dense(NamedTuple):
    """An affine layer; a ReLU follows but for the last."""

    name: str


Layer = Convolution | Pool | Dense


class Net(NamedTuple):
    """A network of MNIST in a file that its authors published."""

    file: str
    source: str
    """Repository, commit, path and licence."""
    sha256: str
    layers: tuple[Layer, ...]
    """As PyTorch's file names them."""


NETS = {
    "wong_kolter": Net(
        file="master_seed_1_epochs_100.pth",
        source="github.com/vtjeng/MIPVerify_data at 35578a1, weights/mnist/WK17a/linf0.1, MIT; "
        "from github.com/locuslab/convex_adversarial",
        sha256="665cce40af979286eabde7ba405af0a3a2575bbe6abbcaddc2c5e6f58621efc3",
        layers=(
            Convolution("0", stride=2, padding=1),
            Convolution("2", stride=2, padding=1),
            Dense("5"),
            Dense("7"),
        ),
    ),
    "trades": Net(
        file="model_mnist_smallcnn.pt",
        source="github.com/liuye6666/adaptive_auto_attack at c3650cd, model_weights/TRADES, MIT",
        sha256="5b99888064f692047d5592b38df2dde126aa1b991a26c6aad683ce709634bea0",
        layers=(
            Convolution("feature_extractor.conv1"),
            Convolution("feature_extractor.conv2"),
            Pool(),
            Convolution("feature_extractor.conv3"),
            Convolution("feature_extractor.conv4"),
            Pool(),
            Dense("classifier.fc1"),
            Dense("classifier.fc2"),
            Dense("classifier.fc3"),
        ),
    ),
    "madry_lenet5": Net(
        file="mnist_lenet5_advtrained.pt",
        source="github.com/BorealisAI/advertorch at e063e34, advertorch_examples/trained_models, "
        "LGPL-3.0",
        sha256="b89abfcfe8b33235fe8f8e964188d82a97c56a12ffe25132eaba197e40ac7658",
        layers=(
            Convolution("conv1", padding=1),
            Pool(),
            Convolution("conv2", padding=1),
            Pool(),
            Dense("linear1"),
            Dense("linear2"),
        ),
    ),
}


def load(name: str, folder: Path) -> LogitsFn:
    """Returns a network as logits_fn, its weights read without PyTorch.

    Args:
        name: in `NETS`.
        folder: where its file lies.

    Raises:
        ValueError: if the file is missing, is another one, or lacks a tensor.
    """
    net, path = NETS[name], folder / NETS[name].file
    if not path.is_file():
        raise ValueError(f"{folder} has no {net.file}; it is in {net.source}")
    if hashlib.sha256(path.read_bytes()).hexdigest() != net.sha256:
        raise ValueError(f"{path} is not the file of {net.source}: its SHA-256 is another one")
    tensors = {name: jnp.asarray(tensor) for name, tensor in weights.read(path).tensors.items()}
    return jax.tree_util.Partial(functools.partial(forward, net.layers), tensors)


def forward(layers: tuple[Layer, ...], tensors: dict[str, Array], images: Array) -> Array:
    """Returns logits (B, K) of images (B, H, W, C) in [0, 1], from PyTorch's tensors."""
    x = images
    for number, layer in enumerate(layers):
        match layer:
            case Convolution(name, stride, padding):
                kernel, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
                x = jax.lax.conv_general_dilated(
                    x,
                    jnp.transpose(kernel, (2, 3, 1, 0)),
                    (stride, stride),
                    [(padding, padding)] * 2,
                    dimension_numbers=("NHWC", "HWIO", "NHWC"),
                )
                x = jax.nn.relu(x + bias)
            case Pool():
                windows = x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2, x.shape[3])
                x = jnp.max(windows, axis=(2, 4))
            case Dense(name):
                if x.ndim == 4:  # PyTorch flattens channels first
                    x = jnp.transpose(x, (0, 3, 1, 2)).reshape(len(x), -1)
                x = x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]
                x = x if number == len(layers) - 1 else jax.nn.relu(x)
    return x
