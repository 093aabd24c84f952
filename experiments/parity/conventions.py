"""What other libraries count as success, leave alone, leave behind and take for granted.

    python -m experiments.parity.conventions [--out=experiments/parity/conventions.md]

Run from the repository's root in a Python of its own that has the libraries and not rbjax, with
PyTorch on CPU (`pip install --no-deps torchattacks` keeps away the old requests that it pins):

    python3.11 -m venv peers && peers/bin/pip install torch==2.13.0 foolbox==3.3.4 tqdm scipy \
        adversarial-robustness-toolbox==1.20.1 secml-torch==1.5
    peers/bin/pip install --no-deps torchattacks==3.5.1

A linear network of three classes answers six images, of which the first is misclassified as it is.
Nothing of a library is changed; every sentence of the page is made of what it did here.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import inspect
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import foolbox  # pyright: ignore[reportMissingImports]
import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torchattacks  # pyright: ignore[reportMissingImports]
from art.attacks.evasion import (  # pyright: ignore[reportMissingImports]
    AutoAttack,
    ProjectedGradientDescentPyTorch,
)
from art.estimators.classification import (  # pyright: ignore[reportMissingImports]
    PyTorchClassifier,
)
from art.utils import compute_success  # pyright: ignore[reportMissingImports]
from secmlt.metrics.classification import (  # pyright: ignore[reportMissingImports]
    AttackSuccessRate,
)
from secmlt.models.pytorch.base_pytorch_nn import (  # pyright: ignore[reportMissingImports]
    BasePyTorchClassifier,
)
from torch import nn  # pyright: ignore[reportMissingImports]

PACKAGES = ("torch", "foolbox", "torchattacks", "adversarial-robustness-toolbox", "secml-torch")
SHAPE, NUM_CLASSES = (3, 2, 2), 3


def network() -> nn.Module:
    """Returns a linear network."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, NUM_CLASSES)).eval()


def batch(model: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns six images and their labels, of which the first is not what the network says."""
    torch.manual_seed(1)
    images = torch.rand(6, *SHAPE)
    labels = model(images).argmax(1)
    labels[0] = (labels[0] + 1) % NUM_CLASSES
    return images, labels


def of_art(model: nn.Module) -> Any:
    """Returns a network as ART takes it."""
    return PyTorchClassifier(
        model, nn.CrossEntropyLoss(), SHAPE, NUM_CLASSES, clip_values=(0, 1), device_type="cpu"
    )


def success() -> dict[str, str]:
    """Returns how many of the six images, as they are, each library calls a success."""
    model = network()
    images, labels = batch(model)
    unmoved = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    _, _, is_adversarial = foolbox.attacks.LinfPGD()(unmoved, images, labels, epsilons=[0.0])
    one_hot = np.eye(NUM_CLASSES, dtype=np.float32)[labels.numpy()]
    by_art = compute_success(of_art(model), images.numpy(), one_hot, images.numpy())
    batches = [(images, labels)]
    by_secml = AttackSuccessRate()(BasePyTorchClassifier(model), batches)
    counts = {
        "foolbox, `is_adv` at epsilon 0": int(is_adversarial.sum()),
        "secml-torch, `AttackSuccessRate`": round(6 * float(by_secml)),
        "ART, `compute_success`": round(6 * float(by_art)),
    }
    return {name: f"{count} of 6" for name, count in counts.items()}


def moves_what_is_wrong() -> dict[str, str]:
    """Returns whether each attack of torchattacks changes the image that is misclassified."""
    model = network()
    images, labels = batch(model)
    made = {
        "FGSM": torchattacks.FGSM(model),
        "PGD": torchattacks.PGD(model),
        "APGD": torchattacks.APGD(model),
        "CW": torchattacks.CW(model, steps=5),
        "DeepFool": torchattacks.DeepFool(model),
        "FAB": torchattacks.FAB(model, n_classes=NUM_CLASSES, steps=5),
        "Square": torchattacks.Square(model, n_queries=50),
    }
    moved = {}
    for name, attack in made.items():
        is_moved = bool((attack(images, labels)[0] != images[0]).any())
        moved[f"torchattacks {name}"] = "changes it" if is_moved else "leaves it as it is"
    return moved


def modes_afterwards() -> dict[str, str]:
    """Returns the modes of a network in training and of its frozen batch norm after two steps."""
    modes = {}
    for name in ("foolbox", "torchattacks", "ART"):
        model = nn.Sequential(
            nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, NUM_CLASSES)
        )
        model.train()[1].eval()
        images, labels = batch(network())
        if name == "foolbox":
            attacked = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
            foolbox.attacks.LinfPGD(steps=2)(attacked, images, labels, epsilons=[0.1])
        elif name == "torchattacks":
            torchattacks.PGD(model, steps=2)(images, labels)
        else:
            ProjectedGradientDescentPyTorch(of_art(model), max_iter=2, verbose=False).generate(
                images.numpy()
            )
        said = {True: "training", False: "evaluation"}
        modes[name] = f"network in {said[model.training]}, batch norm in {said[model[1].training]}"
    return modes


def _default(call: Any, option: str) -> Any:
    return inspect.signature(call).parameters[option].default


def defaults() -> dict[str, str]:
    """Returns what an attack of a name is, if nothing else is said."""
    fool, attack = foolbox.attacks.LinfPGD, torchattacks.PGD
    art = ProjectedGradientDescentPyTorch.__init__
    suite = torchattacks.AutoAttack(network(), n_classes=10)._autoattack.attacks
    of_suite = [f"{type(one).__name__} {getattr(one, 'steps', '')}".strip() for one in suite]
    of_art_suite = [type(one).__name__ for one in AutoAttack(of_art(network())).attacks]
    return {
        "foolbox LinfPGD": f"{_default(fool, 'steps')} steps of "
        f"{_default(fool, 'rel_stepsize'):.4f} epsilon",
        "torchattacks PGD": f"{_default(attack, 'steps')} steps of "
        f"{_default(attack, 'alpha') / _default(attack, 'eps'):.2f} epsilon, epsilon "
        f"{255 * _default(attack, 'eps'):.0f}/255",
        "ART ProjectedGradientDescentPyTorch": f"{_default(art, 'max_iter')} steps of "
        f"{_default(art, 'eps_step') / _default(art, 'eps'):.2f} epsilon, epsilon "
        f"{_default(art, 'eps')}, from the image itself",
        "torchattacks AutoAttack": ", ".join(of_suite),
        "ART AutoAttack": ", ".join(of_art_suite),
    }


SECTIONS = {
    "Six images as they are, one of them misclassified: how many are a success": success,
    "What is misclassified already": moves_what_is_wrong,
    "A network in training with its batch norm frozen, after two steps of PGD": modes_afterwards,
    "Defaults": defaults,
}


def page() -> str:
    """Returns what was seen, as Markdown."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    lines = [
        "# What other libraries do by convention",
        "",
        "Written by `python -m experiments.parity.conventions`, which says how it is run; CPU,",
        f"{versions}.",
    ]
    for heading, see in SECTIONS.items():
        lines += ["", f"## {heading}", "", "| library | seen |", "|---|---|"]
        lines += [f"| {name} | {value} |" for name, value in see().items()]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", default=str(Path(__file__).with_suffix(".md")))
    out = Path(parser.parse_args(arguments).out)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # foolbox of networks in training
        text = page()
    out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
