"""Times a hand-written PyTorch PGD, or training steps, on one of the benchmarks' two networks.

    python torch_loop.py {CNN,ResNet-18} {attack,train} REPEATS

Run by `experiments.benchmarks.loop` in an environment of its own that has PyTorch and not rbjax;
prints one line of JSON.
"""

from __future__ import annotations

import json
import statistics
import sys
import time

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the block's output."""
        y = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def make_cnn() -> nn.Module:
    """Returns two 3x3x32 convolutions, max pooling and a dense layer, for 28x28x1."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 12 * 12, 10)),
    )


def make_resnet18() -> nn.Module:
    """Returns ResNet-18 with a 3x3 stem, for 32x32x3."""
    layers = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    channels = 64
    for width, stride in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1)):
        layers.append(Block(channels, width, stride))
        channels = width
    layers += [Block(256, 512, 2), Block(512, 512, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(512, 10))


def pgd(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, steps: int) -> torch.Tensor:
    """Returns images after l-inf PGD of epsilon 8/255 and step 2/255."""
    x = images.clone()
    for _ in range(steps):
        x.requires_grad_(True)
        loss = functional.cross_entropy(model(x), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x)
        with torch.no_grad():
            x = x + 2 / 255 * gradient.sign()
            x = torch.clamp(images + torch.clamp(x - images, -8 / 255, 8 / 255), 0, 1)
    return x.detach()


def train(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, steps: int) -> None:
    """Takes steps of gradient descent."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        functional.cross_entropy(model(images), labels).backward()
        optimizer.step()


def main() -> None:
    """Prints PyTorch's version and the images per second, the median of the repeats."""
    network, task, repeats = sys.argv[1], sys.argv[2], int(sys.argv[3])
    torch.manual_seed(0)
    if network == "CNN":
        model, shape, steps = make_cnn(), (256, 1, 28, 28), 10
    else:
        model, shape, steps = make_resnet18(), (32, 3, 32, 32), 5
    images, labels = torch.rand(shape), torch.randint(0, 10, (shape[0],))
    # As in the JAX steps, batch norm uses its running statistics in both tasks.
    model.eval().requires_grad_(task == "train")
    run = train if task == "train" else pgd
    run(model, images, labels, 1)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run(model, images, labels, steps)
        seconds.append((time.perf_counter() - start) / steps)
    rate = shape[0] / statistics.median(seconds)
    print(json.dumps({"version": torch.__version__, "images_per_second": rate}))


if __name__ == "__main__":
    main()
