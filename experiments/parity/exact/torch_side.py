"""What the attacks of foolbox, torchattacks, ART and secml-torch do on the problems.

    python -m experiments.parity.exact.torch_side PROBLEMS.npz FOUND.json [NAME ...]

Run by `experiments.parity.exact`, in a Python of its own that has them and not rbjax. Everything is
called as its library has it by default, but where the table says otherwise; steps keep the ratio to
epsilon that the defaults have. Nothing of a library is changed. The smallest perturbations are
looked for in one batch, budgets are tried image by image, as most libraries have one for a batch.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import logging
import platform
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import art.attacks.evasion as art  # pyright: ignore[reportMissingImports]
import foolbox.attacks as fb  # pyright: ignore[reportMissingImports]
import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torchattacks as ta  # pyright: ignore[reportMissingImports]
from art.estimators.classification import (  # pyright: ignore[reportMissingImports]
    PyTorchClassifier,
)
from foolbox import PyTorchModel  # pyright: ignore[reportMissingImports]
from secmlt.adv.evasion.ddn import DDN  # pyright: ignore[reportMissingImports]
from secmlt.adv.evasion.fmn import FMN  # pyright: ignore[reportMissingImports]
from secmlt.adv.evasion.pgd import PGD  # pyright: ignore[reportMissingImports]
from secmlt.models.pytorch.base_pytorch_nn import (  # pyright: ignore[reportMissingImports]
    BasePyTorchClassifier,
)
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.utils.data import DataLoader, TensorDataset  # pyright: ignore[reportMissingImports]

from experiments.parity.exact import measures
from experiments.parity.exact.measures import Row

Attack = Callable[[nn.Module, torch.Tensor, torch.Tensor, float], torch.Tensor]
"""(model, images (N, 1, 10, 10), labels, epsilon, which the smallest have no use for) -> images."""

SETTINGS = {"linf": ("Linf", np.inf, "linf"), "l2": ("L2", 2, "l2"), "l1": ("L1", 1, "l1")}
"""norm: what torchattacks, ART and secml-torch call it."""


class Peer(NamedTuple):
    """An attack of a peer."""

    library: str
    attack: str
    """rbjax's name of the same attack; empty: rbjax has none."""
    called: str
    norm: str
    smallest: bool
    run: Attack


class Classifier(nn.Module):
    """A problem's model, of images (N, 1, 10, 10)."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        super().__init__()
        for name in ("first", "bias", "last", "shift"):
            value = arrays.get(name)
            part = None if value is None else nn.Parameter(torch.tensor(value).float(), False)
            self.register_parameter(name, part)
        self.num_classes = len(arrays["shift"])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the logits."""
        flat = images.reshape(len(images), -1) - 0.5
        if self.first is not None:
            flat = torch.relu(flat @ self.first + self.bias)
        return flat @ self.last + self.shift


def of_foolbox(make: Callable[[], Any], smallest: bool) -> Attack:
    """Returns an attack of foolbox."""

    def run(model: nn.Module, x: torch.Tensor, y: torch.Tensor, epsilon: float) -> torch.Tensor:
        wrapped, budget = PyTorchModel(model, bounds=(0, 1)), None if smallest else epsilon
        return make()(wrapped, x, y, epsilons=budget)[1]

    return run


def of_torchattacks(make: Callable[[nn.Module, float], Any]) -> Attack:
    """Returns an attack of torchattacks, made of (model, epsilon)."""
    return lambda model, x, y, epsilon: make(model, epsilon)(x, y)


def of_art(make: Callable[[Any, float], Any]) -> Attack:
    """Returns an attack of ART, made of (classifier, epsilon)."""

    def run(model: nn.Module, x: torch.Tensor, y: torch.Tensor, epsilon: float) -> torch.Tensor:
        classifier = PyTorchClassifier(
            model,
            loss=nn.CrossEntropyLoss(),
            input_shape=tuple(x.shape[1:]),
            nb_classes=model.num_classes,
            clip_values=(0.0, 1.0),
        )
        labels = np.eye(model.num_classes, dtype=np.float32)[y.numpy()]
        return torch.from_numpy(make(classifier, epsilon).generate(x.numpy(), labels))

    return run


def of_secml(make: Callable[[float], Any]) -> Attack:
    """Returns an attack of secml-torch, made of epsilon."""

    def run(model: nn.Module, x: torch.Tensor, y: torch.Tensor, epsilon: float) -> torch.Tensor:
        loader = DataLoader(TensorDataset(x, y), batch_size=len(x))
        moved = make(epsilon)(BasePyTorchClassifier(model), loader)
        return torch.cat([batch[0] for batch in moved]).detach()

    return run


def _foolbox_peers() -> list[Peer]:
    smallest = [
        ("fmn", "LInfFMNAttack", "linf"),
        ("fmn", "L2FMNAttack", "l2"),
        ("fmn", "L1FMNAttack", "l1"),
        ("fmn", "L0FMNAttack", "l0"),
        ("ddn", "DDNAttack", "l2"),
        ("deepfool", "LinfDeepFoolAttack", "linf"),
        ("deepfool", "L2DeepFoolAttack", "l2"),
        ("", "NewtonFoolAttack", "l2"),
    ]
    budget = [
        ("fgsm", "LinfFastGradientAttack", "linf"),
        ("fgsm", "L2FastGradientAttack", "l2"),
        ("fgsm", "L1FastGradientAttack", "l1"),
        ("iterative_gradient_sign", "LinfBasicIterativeAttack", "linf"),
        ("iterative_gradient_sign", "L2BasicIterativeAttack", "l2"),
        ("iterative_gradient_sign", "L1BasicIterativeAttack", "l1"),
        ("pgd", "LinfPGD", "linf"),
        ("pgd", "L2PGD", "l2"),
        ("pgd", "L1PGD", "l1"),
        ("pgd", "SparseL1DescentAttack", "l1"),
    ]
    peers = []
    for is_smallest, names in ((True, smallest), (False, budget)):
        for attack, name, norm in names:
            run = of_foolbox(getattr(fb, name), is_smallest)
            peers.append(Peer("foolbox", attack, name, norm, is_smallest, run))
    steps = {"steps": 1000}
    for attack, name, norm, options in (
        ("carlini_wagner", "L2CarliniWagnerAttack", "l2", steps),
        ("", "EADAttack", "l1", {**steps, "decision_rule": "L1"}),
    ):
        run = of_foolbox(lambda n=name, o=options: getattr(fb, n)(**o), True)
        peers.append(Peer("foolbox", attack, _call(name, options), norm, True, run))
    return peers


def _call(name: str, options: dict[str, Any]) -> str:
    return ", ".join([name, *(f"{key}={value!r}" for key, value in options.items())])


def _torchattacks_peers() -> list[Peer]:
    def add(attack: str, name: str, norm: str, smallest: bool = False, /, **options: Any) -> None:
        def make(model: nn.Module, epsilon: float) -> Any:
            own: dict[str, Any] = dict(options)
            if "norm" in options or name in ("FGSM", "RFGSM", "BIM", "PGD", "PGDL2"):
                own["eps"] = 100.0 if smallest else epsilon  # FAB returns nothing beyond it
            if name in ("RFGSM", "BIM", "PGD"):
                own["alpha"] = epsilon / 4
            if name == "PGDL2":
                own["alpha"] = epsilon / 5
            if name in ("APGDT", "FAB", "AutoAttack"):
                own["n_classes"] = model.num_classes
            return getattr(ta, name)(model, **own)

        peers.append(
            Peer(
                "torchattacks", attack, _call(name, options), norm, smallest, of_torchattacks(make)
            )
        )

    peers: list[Peer] = []
    add("fgsm", "FGSM", "linf")
    add("iterative_gradient_sign", "BIM", "linf")
    add("pgd", "PGD", "linf")
    add("pgd", "PGDL2", "l2")
    add("deepfool", "DeepFool", "l2", True)
    add("carlini_wagner", "CW", "l2", True)
    add("carlini_wagner", "CW", "l2", True, steps=1000)
    add("", "SparseFool", "l1", True)
    add("", "EADL1", "l1", True)
    for norm in ("linf", "l2"):
        name = SETTINGS[norm][0]
        for steps in ({}, {"steps": 100}):
            add("fab", "FAB", norm, True, norm=name, **steps)
            add("apgd", "APGD", norm, norm=name, **steps)
            add("apgd_targeted", "APGDT", norm, norm=name, **steps)
        add("square", "Square", norm, norm=name)
        add("autoattack", "AutoAttack", norm, norm=name)
    return peers


def _art_peers() -> list[Peer]:
    def add(attack: str, name: str, norm: str, smallest: bool = False, /, **options: Any) -> None:
        def make(classifier: Any, epsilon: float) -> Any:
            own: dict[str, Any] = dict(options)
            if not smallest:
                own["eps"] = epsilon
                if name not in ("SquareAttack", "FastGradientMethod"):
                    own["eps_step"] = epsilon / 3
                if name != "BasicIterativeMethod":
                    own["norm"] = SETTINGS[norm][1]
            if name not in ("FastGradientMethod", "AutoAttack"):
                own["verbose"] = False
            return getattr(art, name)(classifier, **own)

        peers.append(Peer("ART", attack, _call(name, options), norm, smallest, of_art(make)))

    peers: list[Peer] = []
    add("deepfool", "DeepFool", "l2", True)
    add("carlini_wagner", "CarliniL2Method", "l2", True)
    add("", "CarliniLInfMethod", "linf", True)
    for norm in SETTINGS:
        add("fgsm", "FastGradientMethod", norm)
        add("pgd", "ProjectedGradientDescent", norm)
        add("apgd", "AutoProjectedGradientDescent", norm)
        if norm != "l1":
            add("square", "SquareAttack", norm)
    add("iterative_gradient_sign", "BasicIterativeMethod", "linf")
    return peers


def _secml_peers() -> list[Peer]:
    peers = []
    for norm in (*SETTINGS, "l0"):
        options = {"num_steps": 100, "step_size": 1.0}
        run = of_secml(lambda _, n=norm, o=options: FMN(perturbation_model=n, **o))
        peers.append(Peer("secml-torch", "fmn", _call("FMN", options), norm, True, run))
    run = of_secml(lambda _: DDN(num_steps=100))
    peers.append(Peer("secml-torch", "ddn", "DDN, num_steps=100", "l2", True, run))
    for norm in SETTINGS:
        run = of_secml(
            lambda epsilon, n=norm: PGD(
                perturbation_model=n,
                epsilon=epsilon,
                num_steps=40,
                step_size=epsilon / 4,
                random_start=True,
                backend="native",
            )
        )
        peers.append(Peer("secml-torch", "pgd", "PGD, num_steps=40", norm, False, run))
    return peers


def says(model: nn.Module, images: torch.Tensor) -> np.ndarray:
    """Returns the classes that the model says."""
    with torch.no_grad():
        return model(images).argmax(1).numpy()


def measure(peer: Peer, model: nn.Module, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Returns ratios of an attack on a problem, (N,), infinite where it missed."""
    images = torch.from_numpy(arrays["images"]).permute(0, 3, 1, 2).contiguous()
    labels, exact = torch.from_numpy(arrays["labels"]), arrays[f"exact/{peer.norm}"]
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - what ART draws from
    if peer.smallest:
        moved = peer.run(model, images.clone(), labels.clone(), np.inf).detach()
        fooled = says(model, moved) != arrays["labels"]
        return measures.ratios(moved.numpy(), images.numpy(), fooled, exact, peer.norm)
    most = 1.0 if peer.norm == "linf" else np.inf

    def fools(rows: np.ndarray, multiples: np.ndarray) -> np.ndarray:
        told = []
        for row, multiple in zip(rows, multiples, strict=True):
            epsilon = min(float(multiple * exact[row]), most)
            one = images[row : row + 1]
            moved = peer.run(model, one.clone(), labels[row : row + 1].clone(), epsilon).detach()
            spent = measures.sizes(moved.numpy(), one.numpy(), peer.norm)[0]
            # One that leaves its ball, or the box, has not fooled within its budget.
            fair = spent <= epsilon * (1 + 1e-4) and bool(
                ((moved >= -1e-6) & (moved <= 1 + 1e-6)).all()
            )
            told.append(fair and says(model, moved)[0] != arrays["labels"][row])
        return np.array(told)

    return measures.smallest_multiples(fools, len(exact))


def versions() -> dict[str, str]:
    """Returns the versions of what takes part."""
    names = ("torch", "foolbox", "torchattacks", "adversarial-robustness-toolbox", "secml-torch")
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in (*names, "numpy")
    }


def read(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """Returns the arrays of each problem."""
    problems: dict[str, dict[str, np.ndarray]] = {}
    with np.load(path) as kept:
        for name in kept.files:
            model, part = name.split("/", 1)
            problems.setdefault(model, {})[part] = kept[name]
    return problems


def main() -> None:
    """Measures every attack on every problem, and writes rows after each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("problems", type=Path)
    parser.add_argument("found", type=Path)
    parser.add_argument("only", nargs="*", help="names of attacks or libraries")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    found: dict[str, Any] = {"versions": versions(), "rows": []}
    peers = _foolbox_peers() + _torchattacks_peers() + _art_peers() + _secml_peers()
    problems = read(arguments.problems)
    for peer in peers:
        if arguments.only and not {peer.attack, peer.library, peer.called} & set(arguments.only):
            continue
        began, ratios, raised = time.perf_counter(), {}, ""
        for name, arrays in problems.items():
            if f"exact/{peer.norm}" not in arrays:
                continue
            model = Classifier(arrays).eval()
            if not np.allclose(
                model(torch.tensor(arrays["images"])).numpy(), arrays["logits"], atol=1e-3
            ):
                raise RuntimeError(f"logits of {name} differ from rbjax's")
            try:
                ratios[name] = measures.kept(measure(peer, model, arrays))
            except Exception as error:  # a peer's own; the table counts it as a miss
                raised = f" raised {type(error).__name__}: {error}"[:200]
                ratios[name] = [None] * len(arrays["labels"])
        row = Row(peer.library, peer.attack, peer.called, peer.norm, peer.smallest, ratios)
        found["rows"].append(row._asdict())
        arguments.found.write_text(json.dumps(found))
        print(f"{row.key()}: {time.perf_counter() - began:.0f} s{raised}", flush=True)


if __name__ == "__main__":
    main()
