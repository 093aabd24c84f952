"""What foolbox and torchattacks find: robust or not, image by image, on rbjax's weights.

    python -m experiments.parity.torch_side WEIGHTS IMAGES EPSILON OUTPUT [options]

Run by `experiments.parity.peers` from the repository's root, in a Python of its own that has
PyTorch, foolbox and torchattacks and not rbjax. Reads weights as `experiments.parity.train` exports
them; images, labels and logits (rbjax's, which PyTorch's are checked against) from IMAGES. Writes
OUTPUT.npz, (seeds, images) bool of every attack, and OUTPUT.json, the settings, the seconds and the
versions, after every attack, so that a run that is stopped leaves what it found.

torchattacks.AutoAttack has other parameters than AutoAttack (10 steps in place of 100, a rescaled
Square), so the cascade here is made of its classes, with the standard ones. Nothing of either
library is changed. `pip install --no-deps torchattacks` keeps away the old requests that it pins
and torchvision, which it names but does not import.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import foolbox  # pyright: ignore[reportMissingImports]
import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torchattacks  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

from experiments.benchmarks.torch_rpr import make_model

Attack = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(images, labels) -> adversarial images."""

Maker = Callable[[nn.Module, float, int], Attack]
"""(model, epsilon, seed) -> the attack."""

PGD_STEPS, PGD_STEP_RATIO = 40, 0.25
"""Steps of PGD, and one step over epsilon."""

BATCH_SIZE = 250
"""Of PGD, and AutoAttack's own."""

TOLERANCE = 1e-6
"""How far outside the ball or [0, 1] an image may lie by rounding."""


class Normalized(nn.Module):
    """A model of images in [0, 1]: mean and deviation, then the network."""

    def __init__(self, network: nn.Module, mean: np.ndarray, std: np.ndarray) -> None:
        super().__init__()
        self.network = network
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.from_numpy(values).reshape(1, -1, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the logits of images (B, C, H, W)."""
        return self.network((images - self.mean) / self.std)


def load_model(path: str | Path) -> nn.Module:
    """Returns the simple CNN with exported weights, in evaluation mode, nothing to train."""
    with np.load(path) as kept:
        arrays = dict(kept)
    arrays["mapped_height"] = (arrays["image_shape"][0] - 4) // 2
    model = Normalized(make_model(arrays), arrays["mean"], arrays["std"])
    return model.eval().requires_grad_(False)


def foolbox_pgd(model: nn.Module, epsilon: float, seed: int) -> Attack:
    """Returns foolbox's PGD."""
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=next(model.parameters()).device)
    attack = foolbox.attacks.LinfPGD(
        rel_stepsize=PGD_STEP_RATIO, steps=PGD_STEPS, random_start=True
    )

    def run(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        _, clipped, _ = attack(wrapped, images, labels, epsilons=epsilon)
        return clipped

    torch.manual_seed(seed)
    return run


def torchattacks_pgd(model: nn.Module, epsilon: float, seed: int) -> Attack:
    """Returns torchattacks' PGD."""
    torch.manual_seed(seed)
    return torchattacks.PGD(model, epsilon, PGD_STEP_RATIO * epsilon, PGD_STEPS, random_start=True)


def apgd(model: nn.Module, epsilon: float, seed: int) -> Attack:
    """Returns AutoAttack's first: APGD on the cross-entropy."""
    return torchattacks.APGD(model, "Linf", epsilon, 100, 1, seed, loss="ce", eot_iter=1, rho=0.75)


def apgd_targeted(model: nn.Module, epsilon: float, seed: int) -> Attack:
    """Returns AutoAttack's second: APGD on the targeted DLR loss, 9 targets."""
    return torchattacks.APGDT(
        model, "Linf", epsilon, 100, 1, seed, eot_iter=1, rho=0.75, n_classes=10
    )


def fab(model: nn.Module, epsilon: float, seed: int) -> Attack:
    """Returns AutoAttack's third: FAB towards 9 targets, which has no random start."""
    options = {"alpha_max": 0.1, "eta": 1.05, "beta": 0.9, "multi_targeted": True, "n_classes": 10}
    return torchattacks.FAB(model, "Linf", epsilon, 100, 1, seed=seed, **options)


def square(model: nn.Module, epsilon: float, seed: int) -> Attack:
    """Returns AutoAttack's fourth: Square."""
    options = {"p_init": 0.8, "loss": "margin", "resc_schedule": False}
    return torchattacks.Square(model, "Linf", epsilon, 5000, 1, seed=seed, **options)


PGD: dict[str, Maker] = {"foolbox_pgd": foolbox_pgd, "torchattacks_pgd": torchattacks_pgd}
AUTOATTACK: dict[str, Maker] = {
    "apgd": apgd,
    "apgd_targeted": apgd_targeted,
    "fab": fab,
    "square": square,
}
"""The standard AutoAttack, in its order."""
ONCE = ("apgd_targeted", "fab", "square", "autoattack")
"""Run with the first seed alone: each takes minutes, and nothing is random in FAB."""


def correct(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Returns which images are correctly classified, (B,) bool."""
    with torch.no_grad():
        return model(images).argmax(1) == labels


def survives(
    attack: Attack, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, epsilon: float
) -> torch.Tensor:
    """Attacks images in one batch and returns which are still correctly classified.

    Raises:
        RuntimeError: if an adversarial image lies outside the ball or [0, 1].
    """
    adversarial = attack(images, labels).detach()
    distance = (adversarial - images).abs().max().item()
    outside = max(-adversarial.min().item(), adversarial.max().item() - 1, distance - epsilon)
    if outside > TOLERANCE:
        raise RuntimeError(f"an image lies {outside:g} outside its set")
    return correct(model, adversarial, labels)


def alone(
    make: Maker,
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    epsilon: float,
    seed: int,
) -> np.ndarray:
    """Returns (N,) bool: right when clean, and still right after an attack alone."""
    attack, clean = make(model, epsilon, seed), correct(model, images, labels)
    batches = zip(images.split(BATCH_SIZE), labels.split(BATCH_SIZE), strict=True)
    kept = [survives(attack, model, *batch, epsilon) for batch in batches]
    return (torch.cat(kept) & clean).cpu().numpy()


def cascade(
    model: nn.Module, images: torch.Tensor, labels: torch.Tensor, epsilon: float, seed: int
) -> dict[str, np.ndarray]:
    """Runs the standard AutoAttack, each attack on the images that are still robust.

    Returns:
        {"clean" or the attack: (N,) bool, what is robust after it}, in the attacks' order.
    """
    robust = correct(model, images, labels)
    after = {"clean": robust.cpu().numpy()}
    for name, make in AUTOATTACK.items():
        rows = robust.nonzero().flatten()
        for part in rows.split(BATCH_SIZE) if len(rows) else ():
            attack = make(model, epsilon, seed)
            robust[part] = survives(attack, model, images[part], labels[part], epsilon)
        after[name] = robust.cpu().numpy().copy()
    return after


def find(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    epsilon: float,
    names: list[str],
    arguments: argparse.Namespace,
) -> Iterator[tuple[str, np.ndarray, list[float]]]:
    """Yields each attack's name, its (seeds, images) bool, and the seconds of each seed."""
    for name in names:
        number = arguments.num_pgd if name in PGD else arguments.num_autoattack
        batch = (model, images[:number], labels[:number], epsilon)
        flags, seconds = [], []
        for seed in range(1 if name in ONCE else arguments.seeds):
            began = time.perf_counter()
            if name == "autoattack":
                flags.append(cascade(*batch, seed)["square"])
            else:
                flags.append(alone({**PGD, **AUTOATTACK}[name], *batch, seed))
            seconds.append(round(time.perf_counter() - began, 1))
        yield name, np.array(flags), seconds


def versions() -> dict[str, str]:
    """Returns the versions of what takes part."""
    names = ("torch", "foolbox", "torchattacks", "eagerpy", "numpy")
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in names
    }


def parse() -> argparse.Namespace:
    """Returns the arguments of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("weights", "images"):
        parser.add_argument(name, type=Path)
    parser.add_argument("epsilon", type=float)
    parser.add_argument("output", type=Path)
    every = [*PGD, *AUTOATTACK, "autoattack"]
    parser.add_argument("--attacks", nargs="*", default=every, choices=every)
    parser.add_argument("--seeds", type=int, default=3, help="0 to SEEDS - 1")
    parser.add_argument("--num-pgd", type=int, default=1000, help="images that PGD attacks")
    parser.add_argument("--num-autoattack", type=int, default=200, help="that the others attack")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def main() -> None:
    """Attacks, and writes what was found after every attack."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    model = load_model(arguments.weights)
    with np.load(arguments.images) as kept:
        arrays = dict(kept)
    images = torch.from_numpy(arrays["images"]).permute(0, 3, 1, 2).contiguous()
    labels = torch.from_numpy(arrays["labels"])
    with torch.no_grad():
        difference = np.abs(model(images).numpy() - arrays["logits"]).max().item()
    if difference > 1e-3:
        raise RuntimeError(f"logits differ from rbjax's by {difference:g}")
    clean = correct(model, images, labels).numpy()
    found = {"labels": arrays["labels"].astype(np.uint8), "clean": clean}
    report = {
        "epsilon": arguments.epsilon,
        "pgd": {"steps": PGD_STEPS, "step_size_over_epsilon": PGD_STEP_RATIO},
        "seeds": list(range(arguments.seeds)),
        "largest_difference_of_logits": difference,
        "versions": versions(),
        "threads": arguments.threads,
        "seconds_of_each_seed": {},
        "robust_accuracy": {"clean": round(clean.mean().item(), 4)},
    }
    for name, flags, seconds in find(
        model, images, labels, arguments.epsilon, arguments.attacks, arguments
    ):
        found[name] = flags
        report["seconds_of_each_seed"][name] = seconds
        report["robust_accuracy"][name] = [round(share, 4) for share in flags.mean(1).tolist()]
        np.savez_compressed(arguments.output.with_suffix(".npz"), **found)
        arguments.output.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
        print(name, report["robust_accuracy"][name], seconds, "s", flush=True)


if __name__ == "__main__":
    main()
