"""Makes `torch_logits.json.gz`: names, shapes and logits of PyTorch's side.

Commands, in an environment of its own: `pip install torch==2.13.0 numpy`, `pip install --no-deps
torchvision==0.28.0 robustbench==1.1.1`, a clone of github.com/kuangliu/pytorch-cifar, and
`python tests/models/make_torch_logits.py FOLDER_OF_THE_CLONE`.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch_drawn  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

# torchvision's detectors need operators that a torch for another machine has not got.
_NO_DETECTORS = "torchvision._meta_registrations"
sys.modules[_NO_DETECTORS] = types.ModuleType(_NO_DETECTORS)

import torchvision  # noqa: E402  # pyright: ignore[reportMissingImports]

MEAN, STD = (0.4, 0.5, 0.6), (0.25, 0.3, 0.2)


class LeNetModern(nn.Module):
    """P3's network, with its names."""

    def __init__(self, size: int, *, norm: bool = True, pool: str = "max") -> None:
        super().__init__()
        self.norm, self.pooled = norm, pool
        for width, channels in ((32, 1), (64, 32)):
            setattr(self, f"conv{width}_1", nn.Conv2d(channels, width, 3))
            setattr(self, f"conv{width}_2", nn.Conv2d(width, width, 3))
            for number in (1, 2, 3):
                setattr(self, f"BN{width}_{number}", nn.BatchNorm2d(width))
        if pool == "conv":
            self.pool_1 = nn.Conv2d(32, 32, 5, 2, 2)
            self.pool_2 = nn.Conv2d(64, 64, 5, 2, 2)
        self.conv128 = nn.Conv2d(64, 128, 4)
        self.BN128 = nn.BatchNorm2d(128)
        self.fc = nn.Linear(128 * ((((size - 4) + 1) // 2 - 4 + 1) // 2 - 3) ** 2, 10)

    def forward(self, x: Any) -> Any:
        """Returns logits."""
        pools = {"max": nn.MaxPool2d(5, 2, 2), "average": nn.AvgPool2d(5, 2, 2)}
        for stage, width in enumerate((32, 64), 1):
            pool = pools.get(self.pooled) or getattr(self, f"pool_{stage}")
            layers = [getattr(self, f"conv{width}_1"), getattr(self, f"conv{width}_2"), pool]
            for number, layer in enumerate(layers, 1):
                x = torch.relu(layer(x))
                x = getattr(self, f"BN{width}_{number}")(x) if self.norm else x
        x = torch.relu(self.conv128(x))
        x = self.BN128(x) if self.norm else x
        return self.fc(x.flatten(1))


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut, by the names of kuangliu's pytorch-cifar."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride > 1 or channels != width:
            conv = nn.Conv2d(channels, width, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(width))

    def forward(self, x: Any) -> Any:
        """Returns maps."""
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + self.shortcut(x))


class ResNet18(nn.Module):
    """ResNet-18 for CIFAR, likewise."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        channels = 64
        for stage, width in enumerate((64, 128, 256, 512), 1):
            blocks = [Block(channels, width, 1 if stage == 1 else 2), Block(width, width, 1)]
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
            channels = width
        self.linear = nn.Linear(512, 10)

    def forward(self, x: Any) -> Any:
        """Returns logits."""
        x = torch.relu(self.bn1(self.conv1(x)))
        for stage in (1, 2, 3, 4):
            x = getattr(self, f"layer{stage}")(x)
        return self.linear(x.mean((2, 3)))


def logits_of(module: Any, image_shape: tuple[int, int, int]) -> dict[str, Any]:
    """Returns the shapes of a module's state dict, and its logits with the drawn one."""
    shapes = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    drawn = {name: torch_drawn.tensor(name, shape) for name, shape in shapes.items()}
    module.load_state_dict({name: torch.from_numpy(array) for name, array in drawn.items()})
    channels = image_shape[2]
    mean, std = (np.array(values[:channels], np.float32) for values in (MEAN, STD))
    images = (torch_drawn.images(image_shape) - mean) / std
    with torch.no_grad():
        logits = module.eval()(torch.from_numpy(images.transpose(0, 3, 1, 2)))
    return {
        "image_shape": image_shape,
        "shapes": shapes,
        "logits": np.round(logits.numpy().astype(float), 6).tolist(),
    }


def of_robustbench(name: str) -> Any:
    """Returns a file of RobustBench's architectures, without what the package imports."""
    [folder] = getattr(importlib.util.find_spec("robustbench"), "submodule_search_locations", [])
    return of_file(Path(folder) / "model_zoo" / "architectures" / f"{name}.py")


def of_file(path: Path) -> Any:
    """Returns a module from its file alone."""
    spec: Any = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def narrow_vgg(*, norm: bool) -> Any:
    """Returns torchvision's VGG-16 with an eighth of the channels."""
    cfg = [8, 8, "M", 16, 16, "M", 32, 32, 32, "M", 64, 64, 64, "M", 64, 64, 64, "M"]
    of_vgg = torchvision.models.vgg
    module = of_vgg.VGG(of_vgg.make_layers(cfg, batch_norm=norm), init_weights=False)
    dense = [nn.Linear(64 * 49, 512), nn.ReLU(), nn.Dropout(), nn.Linear(512, 512), nn.ReLU()]
    module.classifier = nn.Sequential(*dense, nn.Dropout(), nn.Linear(512, 10))
    return module


def main(kuangliu: Path) -> None:
    """Writes the file."""
    warnings.simplefilter("ignore")
    small, larger, wide, photo = (28, 28, 1), (33, 33, 1), (32, 32, 3), (64, 64, 3)
    zoo, resnet, wrn = torchvision.models, of_robustbench("resnet"), of_robustbench("wide_resnet")
    inception = zoo.inception_v3(num_classes=10, init_weights=False, transform_input=False)
    theirs = {name: of_file(kuangliu / "models" / f"{name}.py") for name in ("vgg", "googlenet")}
    raw = resnet.PreActResNet(resnet.PreActBlock, [2, 2, 2, 2], bn_before_fc=True)
    said = {
        "lenet_modern": logits_of(LeNetModern(28), small),
        "lenet_modern larger": logits_of(LeNetModern(33), larger),
        "lenet_no_batch_norm": logits_of(LeNetModern(28, norm=False), small),
        "lenet_conv_pool": logits_of(LeNetModern(28, pool="conv"), small),
        "lenet_average_pool": logits_of(LeNetModern(28, pool="average"), small),
        "resnet18": logits_of(ResNet18(), wide),
        "resnet50": logits_of(zoo.resnet50(num_classes=10), photo),
        "vgg16": logits_of(narrow_vgg(norm=False), photo),
        "vgg16_bn": logits_of(narrow_vgg(norm=True), photo),
        "densenet121": logits_of(zoo.densenet121(num_classes=10), photo),
        "inception_v3": logits_of(inception, (80, 80, 3)),
        "squeezenet 1.0": logits_of(zoo.squeezenet1_0(num_classes=10), photo),
        "squeezenet 1.1": logits_of(zoo.squeezenet1_1(num_classes=10), (65, 65, 3)),
        "wide_resnet": logits_of(wrn.WideResNet(16, widen_factor=2, sub_block1=True), wide),
        "preact_resnet18": logits_of(raw, wide),
        "vgg16_bn cifar": logits_of(theirs["vgg"].VGG("VGG16"), wide),
        "googlenet": logits_of(theirs["googlenet"].GoogLeNet(), wide),
    }
    content = gzip.compress(json.dumps(said).encode(), mtime=0)
    Path(__file__).with_name("torch_logits.json.gz").write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
