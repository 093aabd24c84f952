"""What PyTorch's implementations call the layers of our architectures."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

Path = tuple[str, ...]
"""Of a Flax module, from the classifier down: ("backbone", "Conv_0")."""
Shapes = Mapping[Path, Mapping[str, tuple[int, ...]]]
"""Module -> parameter, or statistic, by its name -> shape."""


class Names(NamedTuple):
    """What one implementation calls the modules of a model."""

    modules: dict[Path, str]
    """Module -> PyTorch's name of it."""
    flattened: Mapping[Path, tuple[int, int, int]]
    """Dense layer that is given flattened maps -> their (H, W, C), which PyTorch flattens as
    (C, H, W)."""


Layout = Callable[[Shapes, tuple[int, int, int]], Names]
"""(shapes of a model's variables, shape of an image) -> names."""

HEAD: Path = ("head",)


def lenet_modern(shapes: Shapes, image_shape: tuple[int, int, int]) -> Names:
    """Returns the names in the notebook of P3's author.

    Source: https://github.com/mikkelfo/02456-Deep-Learning, A_look_into_robustness.ipynb.
    """
    pools = (["pool_1"], ["pool_2"]) if ("backbone", "Conv_6") in shapes else ([], [])
    convs = ["conv32_1", "conv32_2", *pools[0], "conv64_1", "conv64_2", *pools[1], "conv128"]
    norms = ["BN32_1", "BN32_2", "BN32_3", "BN64_1", "BN64_2", "BN64_3", "BN128"]
    modules: dict[Path, str] = {("backbone", f"Conv_{n}"): name for n, name in enumerate(convs)}
    if ("backbone", "BatchNorm_0") in shapes:
        modules |= {("backbone", f"BatchNorm_{n}"): name for n, name in enumerate(norms)}
    height, width = (_after_lenet(size) for size in image_shape[:2])
    return Names({**modules, HEAD: "fc"}, {HEAD: (height, width, 128)})


def _after_lenet(size: int) -> int:
    """Returns what two pairs of 3x3 convolutions and a pool, and a 4x4 convolution leave."""
    for _ in range(2):
        size = (size - 4 - 1) // 2 + 1
    return size - 3


def resnet(shapes: Shapes, _: tuple[int, int, int], *, shortcut: str, head: str) -> Names:
    """Returns the names of a residual network: `layer2.0.conv1`, `layer2.0.<shortcut>.0`.

    Args:
        shapes: of the model.
        shortcut: what a block calls its projection.
        head: what the network calls its last layer.
    """
    modules: dict[Path, str] = {
        HEAD: head,
        ("backbone", "Conv_0"): "conv1",
        ("backbone", "BatchNorm_0"): "bn1",
    }
    stage, index, before = 1, -1, None
    for block in _blocks(shapes):
        convs = [shapes[*block, f"Conv_{n}"]["kernel"] for n in range(_count(shapes, block))]
        num_main = 3 if convs[0][:2] == (1, 1) else 2
        width = convs[num_main - 1][-1]
        stage, index = (stage, index + 1) if width == before or before is None else (stage + 1, 0)
        before = width
        for n in range(len(convs)):
            name = f"layer{stage}.{index}"
            conv, norm = (f"conv{n + 1}", f"bn{n + 1}")
            if n == num_main:
                conv, norm = f"{shortcut}.0", f"{shortcut}.1"
            modules[*block, f"Conv_{n}"] = f"{name}.{conv}"
            modules[*block, f"BatchNorm_{n}"] = f"{name}.{norm}"
    return Names(modules, {})


def _blocks(shapes: Shapes) -> list[Path]:
    """Returns the blocks of a residual network in order."""
    blocks = {path[:2] for path in shapes if len(path) == 3}
    return sorted(blocks, key=lambda path: int(path[1].rpartition("_")[2]))


def _count(shapes: Shapes, block: Path) -> int:
    return sum(path[:2] == block and path[2].startswith("Conv_") for path in shapes)


_KUANGLIU = functools.partial(resnet, shortcut="shortcut", head="linear")
"""https://github.com/kuangliu/pytorch-cifar, and MadryLab's and RobustBench's after it."""
_TORCHVISION = functools.partial(resnet, shortcut="downsample", head="fc")

LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "lenet_modern": (lenet_modern,),
    "lenet_no_batch_norm": (lenet_modern,),
    "lenet_no_dropout": (lenet_modern,),
    "lenet_conv_pool": (lenet_modern,),
    "lenet_average_pool": (lenet_modern,),
    "resnet18": (_KUANGLIU, _TORCHVISION),
    "resnet32": (_KUANGLIU, _TORCHVISION),
    "resnet34": (_KUANGLIU, _TORCHVISION),
    "resnet50": (_KUANGLIU, _TORCHVISION),
}
"""Name of a model -> how others call its layers, of which the one that fits best is taken."""
