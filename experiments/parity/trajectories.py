"""Robust accuracy against passes: our attacks beside foolbox's and torchattacks' on one network.

    python -m experiments.parity.trajectories FOLDER [--torch-python=PATH] [--images=200]

The network is `wong_kolter` of `nets`, whose file lies in FOLDER. Each attack is given about 2,000
passes an image, and what counts is the smallest perturbation that it met on its way, also where it
returns another one. Writes trajectories.md, .json and .png beside this; without PATH, a Python with
PyTorch, foolbox and torchattacks (see `experiments.parity.peers`), the peers' curves of an earlier
call stay.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.benchmarks import machine
from experiments.parity import nets
from experiments.parity.recorder import MOST, PASSES, Recorder, describe
from rbjax import atomic, attacks, console, data, prng
from rbjax.analysis.figures import plain, save
from rbjax.typing import Array, LogitsFn

HERE = Path(__file__).resolve().parent
NET = "wong_kolter"
RADII = {"linf": 0.2, "l2": 1.5}
"""About half of the images withstand."""

OURS: dict[str, dict[str, dict[str, Any]]] = {
    "linf": {
        "pgd": {"num_steps": 1000, "step_size": RADII["linf"] / 10},
        "apgd": {"num_steps": 1000},
        "apgd_targeted": {"num_steps": 110},
        "fab": {"num_steps": 180, "num_targets": 0},
        "fmn": {"num_steps": 1000},
        "deepfool": {},
        "square": {"num_queries": 2000},
    },
    "l2": {
        "pgd": {"num_steps": 1000, "step_size": RADII["l2"] / 10},
        "apgd": {"num_steps": 1000},
        "apgd_targeted": {"num_steps": 110},
        "fab": {"num_steps": 180, "num_targets": 0},
        "fmn": {"num_steps": 1000},
        "ddn": {"num_steps": 1000},
        "deepfool": {},
        "carlini_wagner": {"search_steps": 9, "num_steps": 110},
        "square": {"num_queries": 2000},
    },
}
_NO_RADIUS = ("fab", "fmn", "ddn", "deepfool", "carlini_wagner")
"""They look for the smallest perturbation, whatever the radius."""


def recorded(logits_fn: LogitsFn, recorder: Recorder) -> LogitsFn:
    """Returns a model that tells a recorder what it is asked."""

    @jax.custom_vjp
    def watched(images: Array) -> Array:
        logits = logits_fn(images)
        jax.debug.callback(recorder.forwards, images, logits)
        return logits

    def backwards(images: Array, cotangent: Array) -> tuple[Array]:
        jax.debug.callback(recorder.backwards, images)
        return jax.vjp(logits_fn, images)[1](cotangent)

    watched.defvjp(lambda images: (watched(images), images), backwards)
    return watched


def ours(logits_fn: LogitsFn, images: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Runs our attacks on a batch and returns what they met, by norm and attack."""
    found: dict[str, Any] = {norm: {} for norm in RADII}
    keys = prng.per_example(prng.key(0), jnp.arange(len(labels)))
    for norm, epsilon in RADII.items():
        for name, options in OURS[norm].items():
            given = {} if name in ("ddn", "carlini_wagner") else {"norm": norm}  # l2 alone
            given |= {} if name in _NO_RADIUS else {"epsilon": epsilon}
            attack = attacks.create(name, **given, **options)
            recorder = Recorder(images.reshape(len(labels), -1), labels, norm)
            began = time.perf_counter()
            result = attack(
                recorded(logits_fn, recorder), keys, jnp.asarray(images), jnp.asarray(labels)
            )
            jax.block_until_ready(result)
            jax.effects_barrier()
            found[norm][f"rbjax {name}"] = describe(recorder, epsilon, time.perf_counter() - began)
            print(f"{norm}, {name}: {found[norm][f'rbjax {name}']['seconds']:.0f} s", flush=True)
    return found


def theirs(python: str, file: Path, images: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Runs the peers' attacks in their own Python; returns "versions" and "found"."""
    with tempfile.TemporaryDirectory() as folder:
        given, output = Path(folder) / "images.npz", Path(folder) / "found.json"
        np.savez(given, images=images, labels=labels, radii=json.dumps(RADII))
        command = [python, "-m", "experiments.parity.torch_trajectories"]
        subprocess.run(
            [*command, str(file), str(given), str(output)], check=True, cwd=HERE.parents[1]
        )
        return json.loads(output.read_text())


def table(found: dict[str, Any]) -> str:
    """Returns robust accuracy after some passes, and the median size, as Markdown."""
    shown = [10, 30, 100, 300, 1000, MOST]
    places = [int(np.searchsorted(PASSES, count, side="right")) - 1 for count in shown]
    parts = []
    for norm, epsilon in RADII.items():
        heads = " | ".join(f"{count:,}" for count in shown)
        parts += [f"### {norm}, {epsilon}", ""]
        parts += [f"| attack | {heads} | median size | passes made |", "|---" * 9 + "|"]
        for name, row in sorted(found[norm].items(), key=lambda item: item[1]["robust"][-1]):
            shares = " | ".join(f"{row['robust'][place]:.1f}" for place in places)
            median = "" if row["median"] is None else f"{row['median']:.4f}"
            parts.append(f"| {name} | {shares} | {median} | {row['passes']:,.0f} |")
        parts.append("")
    return "\n".join(parts)


@plain
def draw(found: dict[str, Any], path: Path) -> None:
    """Draws the curves: ours whole, the peers' dashed, one colour an attack."""
    figure = Figure(figsize=(13, 4.8), layout="constrained")
    for number, (norm, epsilon) in enumerate(RADII.items()):
        axes = figure.add_subplot(1, len(RADII), number + 1)
        colours: dict[str, str] = {}
        for name, row in found[norm].items():
            library, attack = name.split(" ")
            kind = attack.lower().replace("carlini_wagner", "cw")
            colour = colours.setdefault(kind, f"C{len(colours)}")
            style = {"rbjax": "-", "foolbox": "--", "torchattacks": ":"}[library]
            axes.plot(PASSES, row["robust"], style, color=colour, label=name, linewidth=1.5)
        axes.set_xscale("log")
        axes.set_xlabel("passes an image, forwards and backwards")
        axes.set_ylabel("robust accuracy, per cent" if number == 0 else "")
        axes.set_title(f"{norm}, radius {epsilon}")
        axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    save(figure, path)


def write(kept: dict[str, Any], count: int) -> str:
    """Writes the figures and the table of what was kept, and returns the table."""
    peers = kept.get("peers", {"versions": {}, "found": {}})
    found = {norm: {**kept["ours"][norm], **peers["found"].get(norm, {})} for norm in RADII}
    draw(found, HERE / "trajectories.png")
    versions = ", ".join(f"{name} {version}" for name, version in peers["versions"].items())
    text = _HEADING.format(count=count, versions=versions, machine=machine.describe())
    text += f"\n{table(found)}"
    (HERE / "trajectories.md").write_text(text)
    return text


@console.steady()
def main(argv: Sequence[str] | None = None) -> int:
    """Attacks, and writes table, figures and curves; 2 if the network's file is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the network's file lies")
    parser.add_argument("--torch-python", help="a Python that has the peers")
    parser.add_argument("--images", type=int, default=200, help="of MNIST's test set")
    arguments = parser.parse_args(argv)
    try:
        logits_fn = nets.load(NET, arguments.folder)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    test, path = data.load("mnist", "test"), HERE / "trajectories.json"
    images, labels = np.asarray(test.images[: arguments.images], np.float32) / 255, test.labels
    labels = labels[: arguments.images]
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if arguments.torch_python:
        file = arguments.folder / nets.NETS[NET].file
        kept["peers"] = theirs(arguments.torch_python, file, images, labels)
        atomic.write_json(path, kept)
    kept["ours"] = ours(logits_fn, images, labels)
    atomic.write_json(path, kept)
    text = write(kept, len(labels))
    print(f"\n{text}")
    return 0


_HEADING = """# Robust accuracy against passes

Written by `python -m experiments.parity.trajectories FOLDER --torch-python=PATH`, on the first
{count} test images of MNIST and the network `wong_kolter`; one seed; {versions}.
Per cent of all images for which no perturbation within the radius was met in so many passes of each
image, one forwards and one backwards counting 2; the median of the smallest that were met in 2,000,
of all images. torchattacks' Square drops what it has fooled and shrinks its schedule to its
queries, which `square` does with `rescale_schedule=True`. The curves are in trajectories.png.

```
{machine}
```
"""


if __name__ == "__main__":
    sys.exit(main())
