"""Makes `torch_logits.json.gz`: names, shapes and logits of PyTorch's side.

Commands, in an environment of its own:

    pip install torch==2.14.1 torchvision==0.29.1 timm==1.0.31 dill safetensors
    pip install --no-deps robustness==1.2.1.post2 robustbench==1.1.1
    python tests/models/make_torch_logits.py KUANGLIU WEIAICUNZAI [FILES]

KUANGLIU and WEIAICUNZAI are clones of github.com/kuangliu/pytorch-cifar and of
github.com/weiaicunzai/pytorch-cifar100. In the folder FILES it leaves the weights too, each as its
library saves them, for `python -m experiments.parity.layouts`.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import pickle
import sys
import types
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

import dill  # pyright: ignore[reportMissingImports]
import numpy as np
import safetensors.torch  # pyright: ignore[reportMissingImports]
import timm  # pyright: ignore[reportMissingImports]
import torch  # pyright: ignore[reportMissingImports]
import torch_drawn  # pyright: ignore[reportMissingImports]
import torchvision  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

# What MadryLab's package imports and none of its networks needs: log books, an old torchvision.
_NEEDLESS = ("cox", "cox.store", "cox.utils", "pandas", "torchvision.models.utils")
sys.modules.update({name: mock.MagicMock() for name in _NEEDLESS})

from robustness import attacker, cifar_models  # noqa: E402  # pyright: ignore[reportMissingImports]
from robustness.imagenet_models import resnet as imagenet_resnet  # noqa: E402  # pyright: ignore[reportMissingImports]

SMALL, WIDE, PHOTO = (28, 28, 1), (32, 32, 3), (64, 64, 3)
IMAGENET = {"form": "imagenet"}
NARROW = {"form": "imagenet", "width": 8}


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


class Case:
    """A network of PyTorch's, and the checkpoint that its library makes of it."""

    def __init__(
        self,
        library: str,
        model: str,
        module: Any,
        image_shape: tuple[int, int, int],
        **options: Any,
    ) -> None:
        self.library, self.model, self.options = library, model, options
        self.image_shape = image_shape
        self.mean, self.std = (
            torch.tensor(values[: image_shape[2]], dtype=torch.float32)
            for values in (torch_drawn.MEAN, torch_drawn.STD)
        )
        self.normalizes = library == "robustness"
        if self.normalizes:
            said = types.SimpleNamespace(mean=self.mean, std=self.std)
            module = attacker.AttackerModel(module, said)
        self.module = module.eval()
        drawn = {
            name: torch.from_numpy(torch_drawn.tensor(name, tuple(value.shape)))
            for name, value in module.state_dict().items()
            # Batch norms that never run stay as they were made.
            if model != "lenet_no_batch_norm" or not name.startswith("BN")
        }
        module.load_state_dict(drawn, strict=False)

    def checkpoint(self) -> dict[str, Any]:
        """Returns what the library's own training loop would save."""
        if self.library == "robustness":
            parallel = nn.DataParallel(self.module)
            made = torch.optim.SGD(parallel.parameters(), 0.1)
            more = {"optimizer": made.state_dict(), "schedule": None, "epoch": 1, "amp": None}
            return {"model": parallel.state_dict(), **more}
        if self.library == "kuangliu":
            return {"net": nn.DataParallel(self.module).state_dict(), "acc": 90.0, "epoch": 1}
        if self.library == "robustbench":
            return {"state_dict": self.module.state_dict()}
        return self.module.state_dict()

    def save(self, path: Path) -> Path:
        """Writes the checkpoint as the library does; returns where."""
        if self.library == "timm":
            path = path.with_suffix(".safetensors")
            safetensors.torch.save_file(self.checkpoint(), path)
            return path
        module = dill if self.library == "robustness" else pickle
        torch.save(self.checkpoint(), path.with_suffix(".pt"), pickle_module=module)
        return path.with_suffix(".pt")

    def said(self) -> dict[str, Any]:
        """Returns model, options, names, shapes and logits."""
        drawn = torch_drawn.images(self.image_shape).transpose(0, 3, 1, 2)
        images = torch.from_numpy(np.ascontiguousarray(drawn))
        if not self.normalizes:
            images = (images - self.mean[:, None, None]) / self.std[:, None, None]
        with torch.no_grad():
            logits = self.module(images)
        logits = logits[0] if self.normalizes else logits
        return {
            "library": self.library,
            "model": self.model,
            "options": self.options,
            "image_shape": self.image_shape,
            "shapes": dict(shapes(self.checkpoint())),
            "logits": np.round(logits.numpy().astype(float), 6).tolist(),
        }


def shapes(checkpoint: dict[str, Any], prefix: str = "") -> Any:
    """Yields names and shapes of a checkpoint's tensors."""
    for name, value in checkpoint.items():
        if isinstance(value, torch.Tensor):
            yield prefix + name, tuple(value.shape)
        elif isinstance(value, dict):
            yield from shapes(value, f"{prefix}{name}.")


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


CHANNELS = [8, 8, "M", 16, 16, "M", 32, 32, 32, "M", 64, 64, 64, "M", 64, 64, 64, "M"]
"""VGG-16's by eight."""


def narrow_vgg(*, norm: bool) -> Any:
    """Returns torchvision's VGG-16 with an eighth of the channels."""
    of_vgg = torchvision.models.vgg
    module = of_vgg.VGG(of_vgg.make_layers(CHANNELS, batch_norm=norm), init_weights=False)
    dense = [nn.Linear(64 * 49, 512), nn.ReLU(), nn.Dropout(), nn.Linear(512, 512), nn.ReLU()]
    module.classifier = nn.Sequential(*dense, nn.Dropout(), nn.Linear(512, 10))
    return module


def narrow_vgg_of_timm(*, norm: bool) -> Any:
    """Returns timm's, likewise."""
    of_vgg = timm.models.vgg
    module = of_vgg.VGG(CHANNELS, num_classes=10, norm_layer=nn.BatchNorm2d if norm else None)
    module.pre_logits = of_vgg.ConvMlp(64, 512, 7)
    module.head.fc = nn.Linear(512, 10)
    return module


def of_p3() -> dict[str, Case]:
    """Returns P3's networks."""
    made = {
        "lenet_modern": LeNetModern(28),
        "lenet_no_batch_norm": LeNetModern(28, norm=False),
        "lenet_conv_pool": LeNetModern(28, pool="conv"),
        "lenet_average_pool": LeNetModern(28, pool="average"),
    }
    cases = {name: Case("P3", name, module, SMALL) for name, module in made.items()}
    return cases | {"lenet_modern 33": Case("P3", "lenet_modern", LeNetModern(33), (33, 33, 1))}


def for_imagenet() -> dict[str, Case]:
    """Returns torchvision's networks, timm's and MadryLab's."""
    zoo, timms = torchvision.models, timm.create_model
    inception = zoo.inception_v3(num_classes=10, init_weights=False, transform_input=False)
    of = {
        "torchvision": {
            "resnet18": zoo.resnet18(num_classes=10),
            "resnet50": zoo.resnet50(num_classes=10),
            "densenet121": zoo.densenet121(num_classes=10),
        },
        "timm": {
            "resnet18": timms("resnet18", num_classes=10),
            "resnet50": timms("resnet50", num_classes=10),
            "densenet121": timms("densenet121", num_classes=10),
        },
        "robustness": {"resnet50": imagenet_resnet.resnet50(num_classes=10)},
    }
    cases = {
        f"{name} {library}": Case(library, name, module, PHOTO, **IMAGENET)
        for library, made in of.items()
        for name, module in made.items()
    }
    for name, norm in (("vgg16", False), ("vgg16_bn", True)):
        made = {"torchvision": narrow_vgg(norm=norm), "timm": narrow_vgg_of_timm(norm=norm)}
        for library, module in made.items():
            cases[f"{name} {library}"] = Case(library, name, module, PHOTO, **NARROW)
    for library, module in (
        ("torchvision", inception),
        ("timm", timms("inception_v3", num_classes=10)),
    ):
        case = Case(library, "inception_v3", module, (80, 80, 3), **IMAGENET)
        cases[f"inception_v3 {library}"] = case
    for version, made, size in (("1.0", zoo.squeezenet1_0, 64), ("1.1", zoo.squeezenet1_1, 65)):
        options = {**IMAGENET, "version": version}
        case = Case("torchvision", "squeezenet", made(num_classes=10), (size, size, 3), **options)
        cases[f"squeezenet {version}"] = case
    return cases


def for_cifar(kuangliu: Path, weiaicunzai: Path) -> dict[str, Case]:
    """Returns kuangliu's networks, weiaicunzai's, MadryLab's and RobustBench's."""
    names = ("lenet", "vgg", "resnet", "preact_resnet", "googlenet")
    theirs = {name: of_file(kuangliu / "models" / f"{name}.py") for name in names}
    squeezenet = of_file(weiaicunzai / "models" / "squeezenet.py").squeezenet(10)
    resnet, wrn = of_robustbench("resnet"), of_robustbench("wide_resnet").WideResNet
    raw = resnet.PreActResNet(resnet.PreActBlock, [2, 2, 2, 2], bn_before_fc=True)
    preact = "preact_resnet18"
    unlike = {"shortcut": "raw", "final_norm": True}
    made: list[tuple[str, str, Any, dict[str, Any]]] = [
        ("kuangliu", "lenet5", theirs["lenet"].LeNet(), {}),
        ("kuangliu", "vgg16_bn", theirs["vgg"].VGG("VGG16"), {}),
        ("kuangliu", "resnet18", theirs["resnet"].ResNet18(), {}),
        ("kuangliu", "resnet50", theirs["resnet"].ResNet50(), {}),
        ("kuangliu", preact, theirs["preact_resnet"].PreActResNet18(), {}),
        ("kuangliu", "googlenet", theirs["googlenet"].GoogLeNet(), {}),
        ("weiaicunzai", "squeezenet", squeezenet, {}),
        ("robustness", "resnet18", cifar_models.resnet18(), {}),
        ("robustness", "resnet50", cifar_models.resnet50(), {}),
        ("robustbench", "resnet18", resnet.ResNet18(), {}),
        ("robustbench", preact, raw, unlike),
        ("robustbench", "wide_resnet", wrn(28, widen_factor=1), {"depth": 28}),
        ("robustbench", "wide_resnet", wrn(34, widen_factor=1, sub_block1=True), {"depth": 34}),
    ]
    cases = {}
    for library, name, module, options in made:
        if name == "wide_resnet":
            options["widen_factor"] = 1
        label = f"{name} {library} cifar {options.get('depth', '')}".strip()
        cases[label] = Case(library, name, module, WIDE, **options)
    return cases


def main(kuangliu: Path, weiaicunzai: Path, files: Path | None) -> None:
    """Writes the file, and the weights where a folder is given."""
    warnings.simplefilter("ignore")
    cases = of_p3() | for_imagenet() | for_cifar(kuangliu, weiaicunzai)
    said = {label: case.said() for label, case in cases.items()}
    text = json.dumps(said)
    Path(__file__).with_name("torch_logits.json.gz").write_bytes(
        gzip.compress(text.encode(), mtime=0)
    )
    if files is not None:
        for label, case in cases.items():
            said[label]["file"] = case.save(files / label.replace(" ", "_").replace(".", "_")).name
        (files / "cases.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]) if sys.argv[3:] else None)
