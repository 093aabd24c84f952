"""The peers of `experiments.benchmarks.attacks`: the same attacks in PyTorch, timed on request.

    python -m experiments.benchmarks.torch_attacks

Run by `experiments.benchmarks.attacks` from the repository's root, in a Python of its own that has
PyTorch, foolbox and torchattacks and not rbjax. Reads one JSON request a line and answers each
with one line of JSON, so that both sides take turns in one run.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import foolbox  # pyright: ignore[reportMissingImports]
import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torchattacks  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

from experiments.benchmarks import torch_loop
from experiments.parity import torch_side

EPSILON, STEP_SIZE = 8 / 255, 2 / 255
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
LAYOUTS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "CNN": (torch_loop.make_cnn, (256, 1, 28, 28)),
    "ResNet-18": (torch_loop.make_resnet18, (32, 3, 32, 32)),
}


def ways() -> list[str]:
    """Returns the names of the ways to run PGD here."""
    loops = [f"loop {layout}" for layout in LAYOUTS]
    compiled = [f"{loop} compiled" for loop in loops] if DEVICE.type == "cuda" else []
    return ["torchattacks", "foolbox", *loops, *compiled]


def step(
    model: nn.Module, x: torch.Tensor, images: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Returns the images after one step of PGD."""
    x = x.detach().requires_grad_(True)
    loss = functional.cross_entropy(model(x), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, x)
    with torch.no_grad():
        x = x + STEP_SIZE * gradient.sign()
        return torch.clamp(images + torch.clamp(x - images, -EPSILON, EPSILON), 0, 1)


@functools.cache
def make(network: str, way: str) -> Callable[[int], Any]:
    """Returns PGD of a network's batch in one of `ways()`, steps -> adversarial images."""
    torch.manual_seed(0)
    create, shape = NETWORKS[network]
    name, *options = way.split()
    layout = LAYOUTS["NHWC" if "NHWC" in options else "NCHW"]
    model = create().eval().requires_grad_(False).to(DEVICE, memory_format=layout)
    images = torch.rand(shape, device=DEVICE).contiguous(memory_format=layout)
    labels = torch.arange(shape[0], device=DEVICE) % 10
    if name == "torchattacks":
        return lambda steps: torchattacks.PGD(model, EPSILON, STEP_SIZE, steps)(images, labels)
    if name == "foolbox":
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=DEVICE)
        linf_pgd = functools.partial(foolbox.attacks.LinfPGD, abs_stepsize=STEP_SIZE)
        return lambda steps: linf_pgd(steps=steps)(wrapped, images, labels, epsilons=EPSILON)
    one = torch.compile(step) if "compiled" in options else step

    def loop(steps: int) -> torch.Tensor:
        x = torch.clamp(images + torch.empty_like(images).uniform_(-EPSILON, EPSILON), 0, 1)
        for _ in range(steps):
            x = one(model, x, images, labels)
        return x

    return loop


def timed(function: Callable, *arguments: Any) -> tuple[float, Any]:
    """Returns the seconds of a call, the device's work included, and what it returned."""
    began = time.perf_counter()
    result = function(*arguments)
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began, result


def autoattack(weights: str, images: str, epsilon: float, seed: int) -> dict[str, Any]:
    """Runs torchattacks' classes with AutoAttack's standard parameters; see `torch_side`."""
    model = torch_side.load_model(weights).to(DEVICE)
    with np.load(images) as kept:
        pixels = torch.from_numpy(kept["images"]).permute(0, 3, 1, 2).contiguous().to(DEVICE)
        labels = torch.from_numpy(kept["labels"]).to(DEVICE)
    seconds, after = timed(torch_side.cascade, model, pixels, labels, epsilon, seed)
    return {"seconds": seconds, "robust": {name: rows.tolist() for name, rows in after.items()}}


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Returns the answer to one request."""
    task = request.pop("task")
    if task == "versions":
        found = torch_side.versions() | {"device": str(DEVICE), "threads": torch.get_num_threads()}
        return {"ways": ways(), "versions": " ".join(f"{k} {v}" for k, v in found.items())}
    if task == "autoattack":
        return autoattack(**request)
    return {"seconds": timed(make(request["network"], request["way"]), request["num_steps"])[0]}


def main() -> None:
    """Answers requests until there are no more."""
    torch.set_float32_matmul_precision("high")  # as JAX multiplies float32 on a GPU
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
