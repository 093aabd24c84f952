"""Weights as PyTorch's libraries save them: are they read, and are the logits theirs?

    python -m experiments.parity.layouts FOLDER

FOLDER holds what `tests/models/make_torch_logits.py` left there in an environment with PyTorch:
each library's network with weights drawn by NumPy, in a file as that library writes it, and the
logits of four images. Each file is read by `rbjax.models.from_torch`, without PyTorch, and the
largest difference of the logits is printed as a share of the largest logit. The table is in
layouts.md beside this file.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import machine
from rbjax import console, models, weights

ALLOWED = 1e-4
"""Of the largest logit."""
MEAN, STD = (0.4, 0.5, 0.6), (0.25, 0.3, 0.2)
"""What the networks were given, as in `tests/models/torch_drawn.py`."""


def difference(case: Mapping[str, Any], path: Path) -> float:
    """Returns the largest difference from PyTorch's logits, as a share of the largest of them.

    Args:
        case: "model", "options", "image_shape" and "logits" of PyTorch's side.
        path: of the weights.

    Raises:
        ValueError: if the file does not fit the model.
    """
    shape = case["image_shape"]
    mean, std = MEAN[: shape[2]], STD[: shape[2]]
    model = models.create(
        case["model"], num_classes=10, image_shape=shape, mean=mean, std=std, **case["options"]
    )
    variables = models.from_torch(model, path)
    images = np.random.default_rng(0).random((4, *shape)).astype(np.float32)
    logits = np.asarray(jax.jit(model.apply)(variables, jnp.asarray(images)))
    expected = np.asarray(case["logits"])
    return float(np.abs(logits - expected).max() / np.abs(expected).max())


@console.steady()
def main(arguments: Sequence[str] | None = None) -> int:
    """Reads, compares and prints.

    Args:
        arguments: of the command line; `sys.argv[1:]`.

    Returns:
        The exit code: 0; 1 if logits differ; 2 for a wrong value.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="what make_torch_logits.py wrote")
    folder = parser.parse_args(arguments).folder
    say = functools.partial(print, flush=True)
    try:
        cases = json.loads((folder / "cases.json").read_text())
    except (OSError, ValueError) as error:
        print(f"error: {folder}: has no cases.json that can be read: {error}", file=sys.stderr)
        return 2
    say("# Weights of PyTorch's libraries, read by `models.from_torch`\n")
    say(f"```\npython -m experiments.parity.layouts FOLDER\n{machine.describe()}\n```\n")
    say("Largest difference from PyTorch's logits, as a share of the largest logit.\n")
    say("| library | file | model | options | tensors in the file | difference |")
    say("|---|---|---|---|---|---|")
    num_equal = 0
    for case in cases.values():
        path = folder / case["file"]
        try:
            found, tensors = difference(case, path), len(weights.read(path).tensors)
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        options = ", ".join(f"{name} {value}" for name, value in case["options"].items())
        say(
            f"| {case['library']} | {path.suffix} | `{case['model']}` | {options} | {tensors} | "
            f"{found:.0e} |"
        )
        num_equal += found <= ALLOWED
    say(f"\nWithin {ALLOWED:g}: {num_equal} of {len(cases)}.")
    return int(num_equal < len(cases))


if __name__ == "__main__":
    sys.exit(main())
