"""What rbjax's attacks do on the problems: all at their defaults, and some with restarts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from experiments.parity.exact import measures
from experiments.parity.exact.problems import Problem
from experiments.parity.exact.solve import Net
from rbjax import attacks
from rbjax.typing import Array

RESTARTS = 20
"""Of those rows that have restarts."""


class Entry(NamedTuple):
    """An attack of the table."""

    attack: str
    smallest: bool
    norms: tuple[str, ...]
    options: Mapping[str, Any] = {}

    @property
    def called(self) -> str:
        """The attack with its options."""
        return ", ".join([self.attack, *(f"{k}={v!r}" for k, v in self.options.items())])


BALLS = ("linf", "l2", "l1")
ENTRIES = (
    Entry("fmn", True, ("linf", "l2", "l1", "l0")),
    Entry("fmn", True, ("linf", "l2", "l1", "l0"), {"num_restarts": RESTARTS}),
    Entry("ddn", True, ("l2",)),
    Entry("ddn", True, ("l2",), {"num_restarts": RESTARTS}),
    Entry("fab", True, BALLS),
    Entry("fab", True, BALLS, {"num_restarts": 5}),
    Entry("deepfool", True, ("linf", "l2")),
    Entry("carlini_wagner", True, ("l2",)),
    Entry("fgsm", False, BALLS),
    Entry("r_fgsm", False, BALLS),
    Entry("iterative_gradient_sign", False, BALLS),
    Entry("pgd", False, BALLS),
    Entry("pgd", False, BALLS, {"num_steps": 40, "loss": "margin"}),
    Entry("apgd", False, BALLS),
    Entry("apgd_targeted", False, BALLS),
    Entry("square", False, BALLS),
    Entry("autoattack", False, BALLS),
    Entry("adaptive_autoattack", False, ("linf", "l2")),
)
DRIVERS = {
    "autoattack": attacks.run_autoattack,
    "adaptive_autoattack": attacks.run_adaptive_autoattack,
}
"""What has one epsilon a call: image by image."""


def _logits(arrays: dict[str, Array], images: Array) -> Array:
    flat = images.reshape(len(images), -1) - 0.5
    if "first" in arrays:
        flat = jax.nn.relu(flat @ arrays["first"] + arrays["bias"])
    return flat @ arrays["last"] + arrays["shift"]


def logits_fn(net: Net) -> Partial:
    """Returns a net as a function of images (B, 10, 10, 1)."""
    arrays = {name: value for name, value in net._asdict().items() if value is not None}
    return Partial(_logits, {name: jnp.asarray(v, jnp.float32) for name, v in arrays.items()})


def measure(entry: Entry, norm: str, problem: Problem, seed: int) -> np.ndarray:
    """Returns ratios of an attack, (N,), infinite where it missed.

    Args:
        entry: the attack.
        norm: of its norms.
        problem: the problem.
        seed: of the key.
    """
    fn, exact, key = logits_fn(problem.net), problem.exact[norm], jax.random.key(seed)
    if entry.smallest:
        in_norm = {} if entry.attack in ("ddn", "carlini_wagner") else {"norm": norm}
        attack = attacks.create(entry.attack, **in_norm, **entry.options)
        result = attack(fn, key, jnp.asarray(problem.images), jnp.asarray(problem.labels))
        fooled = np.asarray(result.fooled)
        return measures.ratios(np.asarray(result.images), problem.images, fooled, exact, norm)
    most = 1.0 if norm == "linf" else np.inf
    if entry.attack in DRIVERS:

        def fools(rows: np.ndarray, multiples: np.ndarray) -> np.ndarray:
            told = []
            for row, epsilon in zip(rows, np.minimum(multiples * exact[rows], most), strict=True):
                one = problem.images[[row]], problem.labels[[row]]
                run = DRIVERS[entry.attack]
                result = run(fn, key, *one, epsilon=float(epsilon), norm=norm, example_ids=[row])
                told.append(not result.robust[0])
            return np.array(told)

        return measures.smallest_multiples(fools, len(exact))
    attack = attacks.create(entry.attack, epsilon=0.1, norm=norm, **entry.options)
    keys = jax.random.split(key, len(exact))

    def fools_all(rows: np.ndarray, multiples: np.ndarray) -> np.ndarray:
        # All images each time: one shape, one compilation.
        epsilon = np.array(exact)
        epsilon[rows] *= multiples
        epsilon = jnp.asarray(np.minimum(epsilon, most), jnp.float32)
        batch = jnp.asarray(problem.images), jnp.asarray(problem.labels)
        result = attack(fn, keys, *batch, epsilon=epsilon)
        moved, fooled = np.asarray(result.images), np.asarray(result.fooled)
        spent = measures.sizes(moved, problem.images, norm)
        if np.any(spent > np.asarray(epsilon) * (1 + 1e-5)):
            raise RuntimeError(f"{entry.called} in {norm} left its ball")
        measures.ratios(moved, problem.images, fooled, exact, norm)  # none nearer than possible
        return fooled[rows]

    return measures.smallest_multiples(fools_all, len(exact))
