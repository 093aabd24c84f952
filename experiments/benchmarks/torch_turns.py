"""The peer of `experiments.benchmarks.models`: the same passes of the same networks in PyTorch.

    python torch_turns.py THREADS DTYPE {wall,cpu}

Run by `experiments.benchmarks.models` in an environment of its own that has PyTorch, torchvision
and robustbench, and not rbjax. Reads one JSON request a line and answers each with one line of
JSON, so that both sides take turns in one run. On a GPU networks are compiled.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch_models  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

MEAN, STD = 0.5, 0.25
Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}


class Network:
    """A network with its images, channels last, and the passes that are timed."""

    def __init__(self, model: nn.Module, arrays: dict[str, np.ndarray], dtype: str) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device, memory_format=torch.channels_last)
        self.run: Any = torch.compile(self.model) if self.device.type == "cuda" else self.model
        images = torch.from_numpy(arrays["images"]).permute(0, 3, 1, 2).to(self.device)
        self.images = images.float().div(255).contiguous(memory_format=torch.channels_last)
        self.labels = torch.from_numpy(arrays["labels"]).long().to(self.device)
        self.optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
        self.is_narrow = dtype == "bfloat16"

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the logits of images in [0, 1]."""
        narrow = contextlib.nullcontext()
        if self.is_narrow:
            narrow = torch.autocast(self.device.type, torch.bfloat16)
        with narrow:
            return self.run((images - MEAN) / STD).float()

    def forward(self) -> torch.Tensor:
        """Classifies the images."""
        self.model.eval()
        with torch.inference_mode():
            return self.logits(self.images)

    def gradient(self) -> torch.Tensor:
        """Returns the gradient of the summed loss with respect to the images."""
        self.model.eval().requires_grad_(False)
        images = self.images.clone().requires_grad_(True)
        loss = functional.cross_entropy(self.logits(images), self.labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, images)
        return gradient

    def train(self) -> torch.Tensor:
        """Takes a step of gradient descent with momentum; returns the loss."""
        self.model.train().requires_grad_(True)
        self.optimizer.zero_grad()
        loss = functional.cross_entropy(self.logits(self.images), self.labels)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def peak(self, size: int, dtype: str, clock: Clock) -> float:
        """Returns the FLOP/s of one product of large matrices."""
        matrix = torch.full((size, size), 1 / size, dtype=getattr(torch, dtype), device=self.device)
        torch.mm(matrix, matrix)
        self.synchronize()
        began = clock()
        torch.mm(matrix, matrix)
        self.synchronize()
        return 2 * size**3 / (clock() - began)

    def synchronize(self) -> None:
        """Waits for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def resident(field: str) -> int:
    """Returns a size of this process in bytes: of now, "VmRSS", or the largest, "VmHWM"."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def memory_of_training(network: Network, before: int) -> int:
    """Returns the most memory of two training steps, in bytes, over what was used before.

    Args:
        network: made since `before` was asked for.
        before: the process's size without a network.
    """
    if network.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")
    for _ in range(2):
        network.train()
    network.synchronize()
    if network.device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resident("VmHWM") - before


def make(request: dict[str, Any], dtype: str) -> tuple[Network, dict[str, Any]]:
    """Returns a network, its weights written to a file, and what it says of the images."""
    folder = Path(request["folder"])
    torch.manual_seed(0)
    with np.load(folder / "images.npz") as arrays:
        before = resident("VmRSS")
        build = torch_models.BUILDERS[request["name"]]
        module = build(arrays["images"].shape[3], request["num_classes"])
        torch.save(module.state_dict(), folder / "weights.pt")
        network = Network(module, dict(arrays), dtype)
    said = {"logits": network.forward().cpu(), "gradient": network.gradient().cpu()}
    said["gradient"] = said["gradient"].permute(0, 2, 3, 1)
    np.savez(folder / "said.npz", **{name: value.numpy() for name, value in said.items()})
    return network, {"memory": memory_of_training(network, before)}


def turn(network: Network, task: str, calls: int, clock: Clock) -> float:
    """Returns the seconds of some calls of a pass."""
    network.synchronize()
    began = clock()
    for _ in range(calls):
        getattr(network, task)()
    network.synchronize()
    return clock() - began


def main() -> None:
    """Answers requests until there are no more."""
    torch.set_num_threads(int(sys.argv[1]))
    clock = CLOCKS[sys.argv[3]]
    torch.set_flush_denormal(True)  # as XLA does
    network: Any = None
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any] = {}
        if request["task"] == "versions":
            answer = {"torch": torch.__version__, "threads": torch.get_num_threads()}
        elif request["task"] == "make":
            network, answer = make(request, sys.argv[2])
        elif request["task"] == "peak":
            answer = {"flops": network.peak(request["size"], request["dtype"], clock)}
        else:
            answer = {"seconds": turn(network, request["task"], request["calls"], clock)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    main()
