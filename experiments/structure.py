"""How the package is built, in figures: what one call runs through, and how small its pieces are.

python -m experiments.structure             # a minute; works on any rbjax that Python imports

Prints the files and functions of rbjax that one PGD call, one RPR score and one corruption run
through (counted by the interpreter's own profiler, first call, tracing included); helpers that are
used once, private ones and all; options that stand at a maker and in the schema, too; and files of
80 lines or fewer.
"""

from __future__ import annotations

import ast
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import jax
import numpy as np

import rbjax
from rbjax import attacks, console, corruptions, perturbations, prng, rpr
from rbjax import config as schema
from rbjax.config import catalog

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
    key = prng.key(0)
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


class Helpers(NamedTuple):
    """Functions of modules, and how many are named only once beside their definition."""

    private: int
    """Functions that begin with an underscore."""
    private_once: int
    """Those used once in their module."""
    public_once: int
    """Functions without an underscore that are used once in their own module and nowhere else in
    the package, its tests and experiments, and that no `__all__` exports."""


def helpers_used_once(files: list[Path], others: Sequence[Path] = ()) -> Helpers:
    """Returns how many helper functions there are that are used once.

    Args:
        files: of the package.
        others: which use the package, too: what they name is used there.
    """
    trees = {
        file: ast.parse(file.read_text(encoding="utf-8"))
        for file in dict.fromkeys([*files, *others])
    }
    uses = {file: _uses(tree) for file, tree in trees.items()}
    total = sum(uses.values(), Counter())
    private = private_once = public_once = 0
    for file in files:
        for node in trees[file].body:
            if not isinstance(node, ast.FunctionDef):
                continue
            here = uses[file][node.name]
            if node.name.startswith("_"):
                private += 1
                private_once += here <= 1
            else:
                public_once += here == 1 and total[node.name] == 1
    return Helpers(private, private_once, public_once)


def _uses(tree: ast.Module) -> Counter[str]:
    """Counts the names that a file uses, imports and exports."""
    uses = Counter(n.id for n in ast.walk(tree) if isinstance(n, ast.Name))
    uses += Counter(n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute))
    uses += Counter(
        alias.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for alias in n.names
    )
    exported = [
        n.value
        for n in tree.body
        if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"
    ]
    return uses + Counter(name for value in exported for name in ast.literal_eval(value))


def options_said_twice() -> list[str]:
    """Returns the options, as group.option, that stand at a maker and in the schema, too."""
    return [
        f"{group.kind}.{option}"
        for group in (*schema.GROUPS.values(), schema.ATTACKS)
        if group.kind is not None
        for option in sorted(
            {o for entry in catalog.entries(group.kind).values() for o in entry.options}
            & set(group.own)
        )
    ]


@console.steady()
def main() -> None:
    """Prints every figure with its goal."""
    for name, call in calls().items():
        num_files, num_functions = run_through(call)
        print(f"{name}: {num_files} files, {num_functions} functions (goal: 9 and 40)")
    files = sorted(PACKAGE.rglob("*.py"))
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    root = PACKAGE.parent
    others = [file for name in ("tests", "experiments") for file in (root / name).rglob("*.py")]
    helpers, lines = helpers_used_once(files, others), sum(lengths.values())
    print(
        f"private helpers: {helpers.private}, used once {helpers.private_once}, "
        f"{1000 * helpers.private_once / lines:.1f} per 1,000 lines of {lines:,} (goal: 5)"
    )
    both = helpers.private_once + helpers.public_once
    print(
        f"helpers used once, with or without an underscore: {both}, "
        f"{1000 * both / lines:.1f} per 1,000 lines"
    )
    twice = options_said_twice()
    print(f"options said twice: {len(twice)} (goal: 0) {' '.join(twice)}".rstrip())
    short = [
        file.relative_to(PACKAGE)
        for file, length in lengths.items()
        if length <= SHORT and file.name != "__init__.py" and file.parent.name not in TABLE_FOLDERS
    ]
    print(f"files of {SHORT} lines or fewer: {len(short)} of {len(files)} (goal: 25)")
    print("  " + " ".join(map(str, short)))


if __name__ == "__main__":
    main()
