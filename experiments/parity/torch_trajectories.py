"""Foolbox's and torchattacks' attacks on `wong_kolter`, pass by pass.

    python -m experiments.parity.torch_trajectories WEIGHTS IMAGES OUTPUT

Run by `experiments.parity.trajectories` from the repository's root, in a Python of its own that has
PyTorch, foolbox and torchattacks and not rbjax. WEIGHTS is the network's file; IMAGES.npz holds
"images" (N, 28, 28, 1), "labels" and, as JSON, the norms with their radii; OUTPUT is written as
JSON: by norm and attack, the curve and the median.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import foolbox  # pyright: ignore[reportMissingImports]
import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torchattacks  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

from experiments.parity.recorder import Recorder, describe

Run = Callable[[nn.Module, torch.Tensor, torch.Tensor, float], Any]
"""(model, images, labels, epsilon) -> whatever."""


def network() -> nn.Sequential:
    """Returns the architecture, as the authors of the weights have it."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(1568, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )


class _Watched(torch.autograd.Function):
    """The identity, whose pass backwards is written down."""

    @staticmethod
    def forward(context: Any, images: torch.Tensor, recorder: Recorder) -> torch.Tensor:
        context.save_for_backward(images)
        context.recorder = recorder
        return images.clone()

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        context.recorder.backwards(context.saved_tensors[0].detach().numpy())
        return gradients[0], None


class Recorded(nn.Module):
    """A network that writes down what it is asked."""

    def __init__(self, inner: nn.Module, recorder: Recorder) -> None:
        super().__init__()
        self.inner, self.recorder = inner, recorder

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the logits."""
        watched = _Watched.apply(images, self.recorder) if images.requires_grad else images
        logits = self.inner(watched)
        self.recorder.forwards(images.detach().numpy(), logits.detach().numpy())
        return logits


def _torchattacks(name: str, norm: str | None, **options: Any) -> Run:
    def run(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, epsilon: float) -> None:
        given = dict(options) if norm is None else {"norm": norm, **options}
        given |= {} if name == "CW" else {"eps": epsilon}
        if name.startswith("PGD"):
            given["alpha"] = epsilon / 10
        getattr(torchattacks, name)(model, **given)(images, labels)

    return run


def _foolbox(name: str, *, radius: bool = False, **options: Any) -> Run:
    def run(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, epsilon: float) -> None:
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
        attack = getattr(foolbox.attacks, name)(**options)
        attack(wrapped, images, labels, epsilons=[epsilon if radius else None])

    return run


ATTACKS: dict[str, dict[str, Run]] = {
    "linf": {
        "foolbox PGD": _foolbox("LinfPGD", radius=True, steps=1000, rel_stepsize=0.1),
        "foolbox FMN": _foolbox("LInfFMNAttack", steps=1000),
        "foolbox DeepFool": _foolbox("LinfDeepFoolAttack"),
        "torchattacks PGD": _torchattacks("PGD", None, steps=1000),
        "torchattacks APGD": _torchattacks("APGD", "Linf", steps=1000),
        "torchattacks FAB": _torchattacks("FAB", "Linf", steps=100),
        "torchattacks Square": _torchattacks("Square", "Linf", n_queries=2000, loss="margin"),
    },
    "l2": {
        "foolbox PGD": _foolbox("L2PGD", radius=True, steps=1000, rel_stepsize=0.1),
        "foolbox FMN": _foolbox("L2FMNAttack", steps=1000),
        "foolbox DDN": _foolbox("DDNAttack", steps=1000),
        "foolbox DeepFool": _foolbox("L2DeepFoolAttack"),
        "foolbox CW": _foolbox("L2CarliniWagnerAttack", binary_search_steps=9, steps=110),
        "torchattacks PGD": _torchattacks("PGDL2", None, steps=1000),
        "torchattacks APGD": _torchattacks("APGD", "L2", steps=1000),
        "torchattacks FAB": _torchattacks("FAB", "L2", steps=100),
        "torchattacks Square": _torchattacks("Square", "L2", n_queries=2000, loss="margin"),
    },
}


def main() -> None:
    """Attacks, and writes what was met."""
    torch.set_num_threads(1)  # of a network this small more cost more than they save
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    inner = network().eval()
    inner.load_state_dict(torch.load(arguments.weights, map_location="cpu", weights_only=True))
    for parameter in inner.parameters():
        parameter.requires_grad_(False)
    given = np.load(arguments.images)
    radii = json.loads(str(given["radii"]))
    images = torch.from_numpy(given["images"].transpose(0, 3, 1, 2).copy())
    labels = torch.from_numpy(given["labels"].astype(np.int64))
    flat = given["images"].reshape(len(labels), -1)
    names = ("torch", "foolbox", "torchattacks")
    versions = {name: importlib.metadata.version(name) for name in names}
    found: dict[str, Any] = {norm: {} for norm in radii}
    for norm, epsilon in radii.items():
        for name, run in ATTACKS[norm].items():
            torch.manual_seed(0)
            recorder, began = Recorder(flat, given["labels"], norm), time.perf_counter()
            run(Recorded(inner, recorder).eval(), images, labels, epsilon)
            found[norm][name] = describe(recorder, epsilon, time.perf_counter() - began)
            arguments.output.write_text(json.dumps({"versions": versions, "found": found}))
            print(f"{norm}, {name}: {found[norm][name]['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
