"""What PyTorch's implementations call the layers of our architectures."""

from __future__ import annotations

import functools
import re
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
    unused: tuple[str, ...] = ()
    """What the names of layers begin with that are no part of the network when it classifies."""


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


def renamed(
    shapes: Shapes,
    _: tuple[int, int, int],
    *,
    rules: Mapping[str, str],
    unused: tuple[str, ...] = (),
) -> Names:
    """Returns the names that follow from ours.

    Args:
        shapes: of the model.
        rules: pattern of a whole path, joined by "/" -> PyTorch's name; the first that fits counts.
        unused: as of `Names`.
    """
    modules: dict[Path, str] = {}
    for path in shapes:
        text = "/".join(path)
        fits = (re.fullmatch(pattern, text) for pattern in rules)
        for found, name in zip(fits, rules.values(), strict=True):
            if found is not None:
                modules.setdefault(path, found.expand(name))
    return Names(modules, {}, unused)


def lenet5(shapes: Shapes, image_shape: tuple[int, int, int]) -> Names:
    """Returns kuangliu's names: `conv1`, `conv2`, `fc1`, `fc2`, `fc3`."""
    modules = {("backbone", f"Conv_{n}"): f"conv{n + 1}" for n in range(2)}
    modules |= {("backbone", f"Dense_{n}"): f"fc{n + 1}" for n in range(2)}
    # Two 5x5 convolutions without padding, each halved; 32 is what smaller images are padded to.
    height, width = (((max(size, 32) - 4) // 2 - 4) // 2 for size in image_shape[:2])
    return Names({**modules, HEAD: "fc3"}, {("backbone", "Dense_0"): (height, width, 16)})


def vgg(
    shapes: Shapes,
    _: tuple[int, int, int],
    *,
    dense: tuple[str, str, str] = ("classifier.0", "classifier.3", "classifier.6"),
) -> Names:
    """Returns torchvision's names, and those of kuangliu's VGG: places in a sequence of layers.

    Args:
        shapes: of the model.
        dense: what the form for ImageNet calls its dense layers.
    """
    is_cifar = ("backbone", "fc1") not in shapes
    modules: dict[Path, str] = {HEAD: "classifier" if is_cifar else dense[2]}
    place, stage = 0, 1
    while (of_stage := ("backbone", f"stage{stage}")) and (*of_stage, "conv1") in shapes:
        number = 1
        while (*of_stage, f"conv{number}") in shapes:
            modules[*of_stage, f"conv{number}"] = f"features.{place}"
            has_norm = (*of_stage, f"bn{number}") in shapes
            if has_norm:
                modules[*of_stage, f"bn{number}"] = f"features.{place + 1}"
            place, number = place + (3 if has_norm else 2), number + 1
        place, stage = place + 1, stage + 1
    if is_cifar:
        return Names(modules, {})
    modules |= {("backbone", "fc1"): dense[0], ("backbone", "fc2"): dense[1]}
    places = shapes["backbone", "fc1"]["kernel"][0] // (7 * 7)
    return Names(modules, {("backbone", "fc1"): (7, 7, places)})


def squeezenet(shapes: Shapes, _: tuple[int, int, int]) -> Names:
    """Returns torchvision's names, and for CIFAR those in weiaicunzai's pytorch-cifar100."""
    if ("backbone", "bn1") in shapes:
        return renamed(shapes, _, rules=_SQUEEZENET)
    is_first = shapes["backbone", "conv1"]["kernel"][0] == 7
    places = (3, 4, 5, 7, 8, 9, 10, 12) if is_first else (3, 4, 6, 7, 9, 10, 11, 12)
    modules: dict[Path, str] = {HEAD: "classifier.1", ("backbone", "conv1"): "features.0"}
    for number, place in enumerate(places, start=2):
        for part in ("squeeze", "expand1x1", "expand3x3"):
            modules["backbone", f"fire{number}", part] = f"features.{place}.{part}"
    return Names(modules, {})


def googlenet(shapes: Shapes, _: tuple[int, int, int]) -> Names:
    """Returns kuangliu's names: branches are sequences of convolution, batch norm and ReLU."""
    modules: dict[Path, str] = {HEAD: "linear"}
    for path in shapes:
        if path == HEAD:
            continue
        branch, _under, number = path[-2].partition("_")
        place = 3 * (int(number or 1) - 1) + (path[-1] == "bn") + (branch == "b4")
        name = "pre_layers" if len(path) == 3 else f"{path[1]}.{branch}"
        modules[path] = f"{name}.{place}"
    return Names(modules, {})


_DENSENET = {
    "head": "classifier",
    r"backbone/block(\d+)_layer(\d+)/(norm|conv)(\d)": r"features.denseblock\1.denselayer\2.\3\4",
    r"backbone/transition(\d)_(norm|conv)": r"features.transition\1.\2",
    r"backbone/(conv0|norm0|norm5)": r"features.\1",
}
_WIDE_RESNET = {
    "head": "fc",
    r"backbone/block(\d)_(\d+)/shortcut": r"block\1.layer.\2.convShortcut",
    r"backbone/block(\d)_(\d+)/(\w+)": r"block\1.layer.\2.\3",
    r"backbone/(\w+)": r"\1",
}
_SQUEEZENET = {
    "head": "conv10",
    "backbone/conv1": "stem.0",
    "backbone/bn1": "stem.1",
    r"backbone/(fire\d)/squeeze": r"\1.squeeze.0",
    r"backbone/(fire\d)/squeeze_bn": r"\1.squeeze.1",
    r"backbone/(fire\d)/expand(\dx\d)": r"\1.expand_\2.0",
    r"backbone/(fire\d)/expand(\dx\d)_bn": r"\1.expand_\2.1",
}
_PREACT_RESNET = {
    "head": "linear",
    r"backbone/layer(\d)_(\d+)/shortcut": r"layer\1.\2.shortcut.0",
    r"backbone/layer(\d)_(\d+)/(\w+)": r"layer\1.\2.\3",
    r"backbone/(\w+)": r"\1",
}
_INCEPTION = {
    "head": "fc",
    r"backbone/(\w+)/(conv|bn)": r"\1.\2",
    r"backbone/(\w+)/(\w+)/(conv|bn)": r"\1.\2.\3",
}

_KUANGLIU = functools.partial(resnet, shortcut="shortcut", head="linear")
"""https://github.com/kuangliu/pytorch-cifar, and MadryLab's and RobustBench's after it."""
_TORCHVISION = functools.partial(resnet, shortcut="downsample", head="fc")
"""Also timm's."""
_RESNETS = (_KUANGLIU, _TORCHVISION)
_VGGS = (vgg, functools.partial(vgg, dense=("pre_logits.fc1", "pre_logits.fc2", "head.fc")))
"""torchvision's and timm's."""
_DENSENETS = (
    functools.partial(renamed, rules=_DENSENET),
    # As in the files that torchvision publishes: denselayer1.norm.1.
    functools.partial(
        renamed, rules={old: new.replace(r"\3\4", r"\3.\4") for old, new in _DENSENET.items()}
    ),
)

LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "lenet5": (lenet5,),
    "lenet_modern": (lenet_modern,),
    "lenet_no_batch_norm": (lenet_modern,),
    "lenet_no_dropout": (lenet_modern,),
    "lenet_conv_pool": (lenet_modern,),
    "lenet_average_pool": (lenet_modern,),
    **dict.fromkeys(("vgg16", "vgg16_bn", "vgg19", "vgg19_bn"), _VGGS),
    **dict.fromkeys(("resnet18", "resnet34", "resnet50", "resnet32"), _RESNETS),
    "preact_resnet18": (functools.partial(renamed, rules=_PREACT_RESNET),),
    # RobustBench's have a block that TRADES' code made and never called.
    **dict.fromkeys(
        ("wide_resnet", "wide_resnet_28_10", "wide_resnet_34_10"),
        (functools.partial(renamed, rules=_WIDE_RESNET, unused=("sub_block1.",)),),
    ),
    **dict.fromkeys(("densenet121", "densenet169", "densenet201"), _DENSENETS),
    "googlenet": (googlenet,),
    "inception_v3": (functools.partial(renamed, rules=_INCEPTION, unused=("AuxLogits.",)),),
    "squeezenet": (squeezenet,),
}
"""Name of a model -> how others call its layers, of which the one that fits best is taken."""
