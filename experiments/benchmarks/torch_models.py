"""The architectures of `rbjax.models` in PyTorch, for `torch_turns`.

torchvision's and RobustBench's own classes where there are such; forms for CIFAR of torchvision's
are its classes with what differs replaced. What is written here bears the names of a public
implementation or ours, so that `rbjax.models.from_torch` can read its weights.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

# torchvision's detectors need operators that a torch for another machine has not got.
_NO_DETECTORS = "torchvision._meta_registrations"
sys.modules.setdefault(_NO_DETECTORS, types.ModuleType(_NO_DETECTORS))

import torchvision  # noqa: E402  # pyright: ignore[reportMissingImports]

_ZOO = torchvision.models
_INCEPTION = _ZOO.inception


class Flatten(nn.Module):
    """Maps as rows, columns, channels, which is how they lie in memory and how ours are."""

    def forward(self, x: Any) -> Any:
        """Returns (B, F)."""
        return x.permute(0, 2, 3, 1).flatten(1)


def sequence(*layers: nn.Module | tuple[str, nn.Module]) -> nn.Sequential:
    """Returns layers one after another, some of them named."""
    made = nn.Sequential()
    for number, layer in enumerate(layers):
        name, module = layer if isinstance(layer, tuple) else (f"_{number}", layer)
        made.add_module(name, module)
    return made


def _relu() -> nn.Module:
    return nn.ReLU(inplace=True)


def simple_cnn(channels: int, num_classes: int) -> nn.Module:
    """Returns the simple CNN for 28x28."""
    return sequence(
        *(("Conv_0", nn.Conv2d(channels, 32, 3)), _relu()),
        *(("Conv_1", nn.Conv2d(32, 64, 3)), _relu(), nn.MaxPool2d(2), Flatten()),
        ("head", nn.Linear(64 * 12 * 12, num_classes)),
    )


def mlp(channels: int, num_classes: int) -> nn.Module:
    """Returns two hidden layers of 256 for 28x28."""
    return sequence(
        *(Flatten(), ("Dense_0", nn.Linear(28 * 28 * channels, 256)), _relu()),
        *(("Dense_1", nn.Linear(256, 256)), _relu(), ("head", nn.Linear(256, num_classes))),
    )


def lenet5(channels: int, num_classes: int) -> nn.Module:
    """Returns LeNet-5 for 28x28."""
    return sequence(
        *(("Conv_0", nn.Conv2d(channels, 6, 5, padding=2)), _relu(), nn.MaxPool2d(2)),
        *(("Conv_1", nn.Conv2d(6, 16, 5)), _relu(), nn.MaxPool2d(2), Flatten()),
        *(("Dense_0", nn.Linear(400, 120)), _relu(), ("Dense_1", nn.Linear(120, 84)), _relu()),
        ("head", nn.Linear(84, num_classes)),
    )


def lenet_modern(channels: int, num_classes: int, *, pooling: str = "max") -> nn.Module:
    """Returns P3's modern LeNet for 28x28, by its authors' names."""
    layers: list[Any] = []
    for stage, (given, width) in enumerate(((channels, 32), (32, 64)), start=1):
        pool = {
            "max": nn.MaxPool2d(5, 2, 2),
            "average": nn.AvgPool2d(5, 2, 2),
            "conv": nn.Conv2d(width, width, 5, 2, 2),
        }[pooling]
        convs = {f"conv{width}_1": nn.Conv2d(given, width, 3)}
        convs |= {f"conv{width}_2": nn.Conv2d(width, width, 3), f"pool_{stage}": pool}
        for number, named in enumerate(convs.items(), start=1):
            layers += [named, _relu(), (f"BN{width}_{number}", nn.BatchNorm2d(width))]
        layers.append(nn.Dropout(0.4))
    layers += [("conv128", nn.Conv2d(64, 128, 4)), _relu(), ("BN128", nn.BatchNorm2d(128))]
    return sequence(*layers, Flatten(), nn.Dropout(0.4), ("fc", nn.Linear(128, num_classes)))


def vgg_p5(channels: int, num_classes: int) -> nn.Module:
    """Returns P5's VGG for 32x32, as its authors' code has it."""
    layers: list[Any] = []
    number = 0
    for stage, (width, count) in enumerate(((32, 2), (64, 3), (128, 3))):
        for index in range(count):
            layers.append((f"Conv_{number}", nn.Conv2d(channels, width, 3, padding=1)))
            layers += [_relu()] if stage == 0 or index == count - 1 else []
            channels, number = width, number + 1
        layers += [nn.MaxPool2d(2), nn.Dropout(0.25)]
    layers += [Flatten(), ("Dense_0", nn.Linear(2048, 512)), _relu(), nn.Dropout(0.5)]
    return sequence(*layers, ("head", nn.Linear(512, num_classes)))


def vgg(name: str, channels: int, num_classes: int) -> nn.Module:
    """Returns torchvision's layers with the average and the one dense layer of CIFAR's form."""
    module = getattr(_ZOO, name)(num_classes=num_classes, init_weights=False)
    module.features[0] = nn.Conv2d(channels, 64, 3, padding=1)
    module.avgpool = nn.AdaptiveAvgPool2d(1)
    module.classifier = nn.Linear(512, num_classes)
    return module


def resnet(name: str, channels: int, num_classes: int) -> nn.Module:
    """Returns torchvision's network with the 3x3 stem of CIFAR's form."""
    module = getattr(_ZOO, name)(num_classes=num_classes)
    module.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    module.maxpool = nn.Identity()
    return module


class Zeros(nn.Module):
    """Every other pixel, and channels of zeros on both sides."""

    def forward(self, x: Any) -> Any:
        """Returns a shortcut."""
        missing = x.shape[1] // 2
        return functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, missing, missing))


def resnet32(channels: int, num_classes: int) -> nn.Module:
    """Returns the ResNet-32 of the long-tail literature, of torchvision's blocks."""
    block = _ZOO.resnet.BasicBlock
    stages, given = {}, 16
    for stage, width in enumerate((16, 32, 64), start=1):
        halving = stage > 1
        first = block(given, width, 2 if halving else 1, Zeros() if halving else None)
        stages[f"layer{stage}"] = nn.Sequential(first, *(block(width, width) for _ in range(4)))
        given = width
    conv = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
    return sequence(
        *(("conv1", conv), ("bn1", nn.BatchNorm2d(16)), _relu(), *stages.items()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), ("fc", nn.Linear(64, num_classes))),
    )


def densenet(name: str, channels: int, num_classes: int) -> nn.Module:
    """Returns torchvision's network with the 3x3 stem of CIFAR's form."""
    module = getattr(_ZOO, name)(num_classes=num_classes)
    module.features.conv0 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    for layer in ("norm0", "relu0", "pool0"):
        setattr(module.features, layer, nn.Identity())
    return module


def of_robustbench(name: str) -> Any:
    """Returns a file of RobustBench's architectures, without what the package imports."""
    [folder] = getattr(importlib.util.find_spec("robustbench"), "submodule_search_locations", [])
    path = Path(folder) / "model_zoo" / "architectures" / f"{name}.py"
    spec: Any = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def preact_resnet18(_: int, num_classes: int) -> nn.Module:
    """Returns RobustBench's, which is kuangliu's in this form."""
    theirs = of_robustbench("resnet")
    block = theirs.PreActBlock
    return theirs.PreActResNet(block, [2, 2, 2, 2], num_classes=num_classes, out_shortcut=True)


def wide_resnet(_: int, num_classes: int, *, depth: int, widen_factor: int) -> nn.Module:
    """Returns RobustBench's, which is TRADES'."""
    theirs = of_robustbench("wide_resnet")
    return theirs.WideResNet(depth, num_classes, widen_factor)


def _conv_norm(given: int, width: int, size: int) -> list[nn.Module]:
    return [nn.Conv2d(given, width, size, padding=size // 2), nn.BatchNorm2d(width), _relu()]


class Beside(nn.Module):
    """Modules beside each other, their maps joined."""

    def __init__(self, **branches: nn.Module) -> None:
        super().__init__()
        for name, branch in branches.items():
            self.add_module(name, branch)

    def forward(self, x: Any) -> Any:
        """Returns the maps of all."""
        return torch.cat([branch(x) for branch in self.children()], 1)


_GOOGLENET = {
    "a3": (64, 96, 128, 16, 32, 32),
    "b3": (128, 128, 192, 32, 96, 64),
    "a4": (192, 96, 208, 16, 48, 64),
    "b4": (160, 112, 224, 24, 64, 64),
    "c4": (128, 128, 256, 24, 64, 64),
    "d4": (112, 144, 288, 32, 64, 64),
    "e4": (256, 160, 320, 32, 128, 128),
    "a5": (256, 160, 320, 32, 128, 128),
    "b5": (384, 192, 384, 48, 128, 128),
}
"""Channels of the branches, as the paper's table 1 lists them."""


def googlenet(channels: int, num_classes: int) -> nn.Module:
    """Returns GoogLeNet for CIFAR, by kuangliu's names."""
    layers: list[Any] = [("pre_layers", nn.Sequential(*_conv_norm(channels, 192, 3)))]
    given = 192
    for name, (one, to_three, three, to_five, five, pooled) in _GOOGLENET.items():
        fives = [*_conv_norm(given, to_five, 1), *_conv_norm(to_five, five, 3)]
        module = Beside(
            b1=nn.Sequential(*_conv_norm(given, one, 1)),
            b2=nn.Sequential(*_conv_norm(given, to_three, 1), *_conv_norm(to_three, three, 3)),
            b3=nn.Sequential(*fives, *_conv_norm(five, five, 3)),
            b4=nn.Sequential(nn.MaxPool2d(3, 1, 1), *_conv_norm(given, pooled, 1)),
        )
        layers.append((name, module))
        layers += [nn.MaxPool2d(3, 2, 1)] if name in ("b3", "e4") else []
        given = one + three + five + pooled
    head = ("linear", nn.Linear(given, num_classes))
    return sequence(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


class Fire(nn.Module):
    """A squeezing convolution, and two that expand beside each other; perhaps a shortcut."""

    def __init__(self, given: int, squeezed: int, width: int, *, is_bypassed: bool) -> None:
        super().__init__()
        self.is_bypassed = is_bypassed
        for name, one, other, size in (
            ("squeeze", given, squeezed, 1),
            ("expand1x1", squeezed, width, 1),
            ("expand3x3", squeezed, width, 3),
        ):
            self.add_module(name, nn.Conv2d(one, other, size, padding=size // 2))
            self.add_module(f"{name}_bn", nn.BatchNorm2d(other))

    def forward(self, x: Any) -> Any:
        """Returns the maps."""

        def conv(x: Any, name: str) -> Any:
            y = getattr(self, f"{name}_bn")(getattr(self, name)(x))
            return functional.relu(y, inplace=True)

        squeezed = conv(x, "squeeze")
        y = torch.cat([conv(squeezed, "expand1x1"), conv(squeezed, "expand3x3")], 1)
        return y + x if self.is_bypassed else y


def squeezenet(channels: int, num_classes: int) -> nn.Module:
    """Returns SqueezeNet for CIFAR, by our names."""
    stem = ("conv1", nn.Conv2d(channels, 96, 3, padding=1)), ("bn1", nn.BatchNorm2d(96)), _relu()
    layers: list[Any] = [*stem, nn.MaxPool2d(2)]
    given = 96
    for number in range(2, 10):
        squeezed = 16 * (number // 2)
        fire = Fire(given, squeezed, 4 * squeezed, is_bypassed=number in (3, 5, 7))
        layers.append((f"fire{number}", fire))
        layers += [nn.MaxPool2d(2)] if number in (4, 8) else []
        given = 8 * squeezed
    head = ("head", nn.Linear(512, num_classes))
    return sequence(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


def inception_v3(channels: int, num_classes: int) -> nn.Module:
    """Returns torchvision's network with what differs in the form for CIFAR replaced."""
    options = {"aux_logits": False, "init_weights": False, "transform_input": False}
    module = _ZOO.inception_v3(num_classes=num_classes, **options)
    conv = functools.partial(_INCEPTION.BasicConv2d, kernel_size=3)
    module.Conv2d_1a_3x3 = conv(channels, 32, padding=1)
    module.Conv2d_2a_3x3 = conv(32, 32, padding=1)
    module.maxpool1 = module.maxpool2 = nn.Identity()
    for name, part in module.named_children():
        if isinstance(part, _INCEPTION.InceptionA):
            given, width = part.branch_pool.conv.in_channels, part.branch_pool.conv.out_channels
            part.branch_pool = conv(given, width, padding=1)
        elif isinstance(part, _INCEPTION.InceptionC):
            width = part.branch7x7_1.conv.out_channels
            tall, flat = {"kernel_size": (7, 1)}, {"kernel_size": (1, 7)}
            part.branch7x7_2 = _INCEPTION.BasicConv2d(width, width, padding=(3, 0), **tall)
            part.branch7x7_3 = _INCEPTION.BasicConv2d(width, 192, padding=(0, 3), **flat)
        elif name == "Mixed_7a":
            part._forward = types.MethodType(_halving, part)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eps = 1e-5
    return module


def _halving(self: Any, x: Any) -> list[Any]:
    """Returns the maps of InceptionD's branches, with an average pool."""
    three = self.branch3x3_2(self.branch3x3_1(x))
    seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
    return [three, seven, functional.avg_pool2d(x, 3, 2)]


def for_imagenet(name: str, _: int, num_classes: int) -> nn.Module:
    """Returns torchvision's own."""
    options = {}
    if name == "inception_v3":
        options = {"aux_logits": False, "init_weights": False, "transform_input": False}
    return getattr(_ZOO, name)(num_classes=num_classes, **options)


Builder = Callable[[int, int], nn.Module]
"""(channels, num_classes) -> module."""

BUILDERS: dict[str, Builder] = {
    **{f.__name__: f for f in (simple_cnn, mlp, lenet5, lenet_modern, vgg_p5, resnet32)},
    **{f.__name__: f for f in (preact_resnet18, googlenet, squeezenet, inception_v3)},
    "lenet_conv_pool": functools.partial(lenet_modern, pooling="conv"),
    "lenet_average_pool": functools.partial(lenet_modern, pooling="average"),
    "wide_resnet_40_2": functools.partial(wide_resnet, depth=40, widen_factor=2),
    "wide_resnet_28_10": functools.partial(wide_resnet, depth=28, widen_factor=10),
    "wide_resnet_34_10": functools.partial(wide_resnet, depth=34, widen_factor=10),
    **{name: functools.partial(vgg, name) for name in ("vgg16_bn", "vgg19_bn")},
    **{name: functools.partial(resnet, name) for name in ("resnet18", "resnet34", "resnet50")},
    **{name: functools.partial(densenet, name) for name in ("densenet121", "densenet169")},
    **{
        f"{name}, ImageNet": functools.partial(for_imagenet, name)
        for name in (
            *("resnet50", "vgg16", "vgg16_bn", "densenet121", "densenet169", "inception_v3"),
            *("squeezenet1_0", "squeezenet1_1"),
        )
    },
}
"""Name of a case of `models` -> its PyTorch side."""
