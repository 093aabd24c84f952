"""How the package is built, in figures: what one call runs through, and how small its pieces are.

python -m experiments.structure             # a minute; works on any rbjax that Python imports

Prints the files and functions of rbjax that one PGD call, one RPR score and one corruption run
through (counted by the interpreter's own profiler, first call, tracing included); private helpers
that are used once; and files of 80 lines or fewer.
"""

from __future__ import annotations

import ast
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import numpy as np

import rbjax
from rbjax import attacks, corruptions, perturbations, rpr

PACKAGE = Path(rbjax.__file__).parent
SHORT = 80
"""Lines of a file that may be a crumb."""
TABLE_FOLDERS = ("attacks", "methods", "models", "losses", "builders")
"""Folders whose files are an entry of a table each."""


def run_through(call: Callable[[], object]) -> tuple[int, int]:
    """Returns how many files and functions of rbjax a call runs through.

    Args:
        call: what is profiled, in this thread and in those it starts.

    Returns:
        Files, and functions by file and first line, lambdas and generators among them; what a
        module runs as it is imported does not count.
    """
    functions: set[tuple[str, int]] = set()

    def profile(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        is_ours = event == "call" and code.co_filename.startswith(str(PACKAGE))
        if is_ours and code.co_name != "<module>":
            functions.add((code.co_filename, code.co_firstlineno))

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return len({file for file, _ in functions}), len(functions)


def calls() -> dict[str, Callable[[], object]]:
    """Returns the three calls, on a linear model of 8 x 8 images."""
    images = jax.numpy.asarray(np.random.default_rng(0).random((8, 8, 8, 1), np.float32))
    labels = jax.numpy.zeros(8, "int32")
    weights = jax.numpy.asarray(np.random.default_rng(1).normal(size=(64, 3)), "float32")
    logits_fn = jax.tree_util.Partial(_linear, weights)
    key = jax.random.key(0)
    scheme = perturbations.create("random_pixels")

    def pgd() -> object:
        attack = attacks.pgd(epsilon=0.1, step_size=0.02, num_steps=3)
        return attack(logits_fn, key, images, labels)

    return {
        "one PGD call": pgd,
        "one RPR score": lambda: rpr.score(
            logits_fn, key, images, labels, max_steps=3, perturbation=scheme
        ),
        "one corruption": lambda: corruptions.run_corruptions(
            logits_fn, key, images, labels, profile="cifar", severities={"fog": (3,)}
        ),
    }


def _linear(weights: jax.Array, images: jax.Array) -> jax.Array:
    return images.reshape(len(images), -1) @ weights


def helpers_used_once(files: list[Path]) -> tuple[int, int]:
    """Returns how many private functions of a module there are, and how many are named once."""
    private = once = 0
    for file in files:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        names = [
            node.name
            for node in tree.body
            if isinstance(node, ast.FunctionDef) and node.name.startswith("_")
        ]
        uses = [n.id for n in ast.walk(tree) if isinstance(n, ast.Name)]
        uses += [n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)]
        private += len(names)
        once += sum(uses.count(name) <= 1 for name in names)
    return private, once


def main() -> None:
    """Prints every figure with its goal."""
    for name, call in calls().items():
        num_files, num_functions = run_through(call)
        print(f"{name}: {num_files} files, {num_functions} functions (goal: 9 and 40)")
    files = sorted(PACKAGE.rglob("*.py"))
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    private, once = helpers_used_once(files)
    lines = sum(lengths.values())
    print(
        f"private helpers: {private}, used once {once}, {1000 * once / lines:.1f} per 1,000 lines "
        f"of {lines:,} (goal: 5)"
    )
    short = [
        file.relative_to(PACKAGE)
        for file, length in lengths.items()
        if length <= SHORT and file.name != "__init__.py" and file.parent.name not in TABLE_FOLDERS
    ]
    print(f"files of {SHORT} lines or fewer: {len(short)} of {len(files)} (goal: 25)")
    print("  " + " ".join(map(str, short)))


if __name__ == "__main__":
    main()
