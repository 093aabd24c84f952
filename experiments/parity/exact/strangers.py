"""What a stranger's model does to attacks: the same classifier with other answers than logits.

    python -m experiments.parity.exact.strangers

A linear model of ten classes answers with log-probabilities, probabilities, tiny, huge or constant
logits, in half precision, at other temperatures; the classes that it says are the same. Each attack
should fool what it fools on plain logits, or `attacks.diagnose` say why it does not. Writes
strangers.md beside this.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from experiments.parity.exact import problems
from experiments.parity.exact.problems import Problem
from rbjax import attacks, console
from rbjax.typing import Array

HERE = Path(__file__).resolve().parent
BUDGET = 2.0
"""Times the exact distance, what attacks with a budget have; R+FGSM, half of whose step is random,
twice as much."""
AS_MANY = 0.95
"""Of what is fooled on plain logits, what has to be fooled."""
SURE = 300.0
"""The logits times this: gaps of some hundreds to thousands."""


def _plain(last: Array, shift: Array, images: Array) -> Array:
    return (images.reshape(len(images), -1) - 0.5) @ last + shift


def _in(dtype: Any) -> Callable[[Array, Array, Array], Array]:
    def logits(last: Array, shift: Array, images: Array) -> Array:
        narrow = (part.astype(dtype) for part in (last, shift, images))
        return _plain(*narrow).astype(jnp.float32)

    return logits


def _of(change: Callable[[Array], Array]) -> Callable[[Array, Array, Array], Array]:
    return lambda last, shift, images: change(_plain(last, shift, images))


ANSWERS: dict[str, Callable[[Array, Array, Array], Array]] = {
    "plain logits": _plain,
    "log-probabilities": _of(jax.nn.log_softmax),
    "probabilities": _of(jax.nn.softmax),
    "times 1e-6": _of(lambda z: 1e-6 * z),
    "times 1e4": _of(lambda z: 1e4 * z),
    "temperature 100": _of(lambda z: z / 100),
    f"times {SURE:g}": _of(lambda z: SURE * z),
    f"softmax of {SURE:g} times": _of(lambda z: jax.nn.softmax(SURE * z)),
    "float16": _in(jnp.float16),
    "bfloat16": _in(jnp.bfloat16),
    "constant": _of(lambda z: 0 * jax.lax.stop_gradient(z)),
}
"""(weights, shift, images) -> what the model answers."""

ATTACKS: dict[str, dict[str, Any]] = {
    "fgsm": {"epsilon": 0.1},
    "r_fgsm": {"epsilon": 0.1},
    "iterative_gradient_sign": {"epsilon": 0.1},
    "pgd": {"epsilon": 0.1},
    "pgd, margin": {"epsilon": 0.1, "loss": "margin"},
    "apgd": {"epsilon": 0.1},
    "apgd, dlr": {"epsilon": 0.1, "loss": "dlr"},
    "apgd_targeted": {"epsilon": 0.1},
    "square": {"epsilon": 0.1, "num_queries": 1000},
    "fab": {},
    "deepfool": {"norm": "linf"},
    "fmn": {},
    "ddn": {},
    "carlini_wagner": {},
}


class Cell(NamedTuple):
    """What an attack did to one kind of answer."""

    fooled: np.ndarray
    """(N,) bool."""
    alone: bool
    """Whether the first images are fooled, or not, also one by one."""


def answering(problem: Problem, number: int) -> Partial:
    """Returns the model with one kind of answer; all of them are one program."""
    last, shift = (jnp.asarray(part, jnp.float32) for part in (problem.net.last, problem.net.shift))
    return Partial(_answer, jnp.int32(number), last, shift)


def _answer(number: Array, last: Array, shift: Array, images: Array) -> Array:
    return jax.lax.switch(number, list(ANSWERS.values()), last, shift, images)


def measure(name: str, problem: Problem, number: int, num_alone: int = 2) -> Cell:
    """Returns what an attack does to a kind of answer.

    Args:
        name: of `ATTACKS`.
        problem: the problem, a linear model.
        number: of the answer.
        num_alone: images that are attacked one by one, too.
    """
    attack, model = attacks.create(name.split(",")[0], **ATTACKS[name]), answering(problem, number)
    images = jnp.asarray(problem.images)
    labels = jnp.argmax(model(images), axis=1)  # the constant one says 0 of all
    keys = jax.random.split(jax.random.key(0), len(images))
    sizes: dict[str, Array] = {}
    budget = 2 * BUDGET if name == "r_fgsm" else BUDGET
    if "epsilon" in ATTACKS[name]:
        sizes["epsilon"] = jnp.asarray(budget * problem.exact["linf"], jnp.float32)

    def run(rows: slice) -> Any:
        own = {field: size[rows] for field, size in sizes.items()}
        return attack(model, keys[rows], images[rows], labels[rows], **own)

    whole = run(slice(None))
    ones = [run(slice(row, row + 1)) for row in range(num_alone)]
    same = [bool(one.fooled[0] == whole.fooled[row]) for row, one in enumerate(ones)]
    return Cell(np.asarray(whole.fooled), all(same))


def reasons(problem: Problem, number: int) -> list[str]:
    """Returns the names of the checks that `diagnose` fails."""
    model = answering(problem, number)
    images = problem.images
    labels = np.argmax(np.asarray(model(jnp.asarray(images))), axis=1)
    epsilon = BUDGET * float(np.median(problem.exact["linf"]))
    findings = attacks.diagnose(model, jax.random.key(0), images, labels, epsilon=epsilon)
    return [finding.name for finding in findings if not finding.passed]


def report(cells: dict[str, list[Cell]], why: list[list[str]], num_images: int) -> str:
    """Returns strangers.md.

    Args:
        cells: of each attack, by kind of answer.
        why: what `diagnose` fails, by kind of answer.
        num_images: of each kind.
    """
    lines = [_HEADING.format(command=_COMMAND, budget=BUDGET, number=num_images), ""]
    lines += [f"| attack | {' | '.join(ANSWERS)} |", f"|{'---|' * (len(ANSWERS) + 1)}"]
    unexplained = []
    for name, row in cells.items():
        plain, shown = row[0].fooled, []
        for cell, answer, said in zip(row, ANSWERS, why, strict=True):
            of = int(np.sum(plain))
            count = int(np.sum(cell.fooled & plain))
            shown.append(f"{count} of {of}" + ("" if cell.alone else ", not alone"))
            if count < AS_MANY * of and not said:
                unexplained.append(f"{name} on {answer}")
        lines.append(f"| {name} | {' | '.join(shown)} |")
    said = [", ".join(names) or "nothing" for names in why]
    lines.append(f"| `diagnose` fails | {' | '.join(said)} |")
    lines += ["", "Not explained: " + (", ".join(unexplained) or "none") + "."]
    return "\n".join(lines) + "\n"


_COMMAND = "python -m experiments.parity.exact.strangers"
_HEADING = """# Attacks on a stranger's model

Written by `{command}`.

A linear model of ten classes that answers with something else than its logits; images as in
results.md, {number} of each kind. What each attack fools, of what it fools on plain logits; attacks
with a budget have {budget:g} times the exact distance in l-inf (R+FGSM, half of whose step is
random, twice that), Square 1,000 queries. "not alone": otherwise for images one by one. Last, the
checks of `attacks.diagnose` that fail. A constant model cannot be fooled."""


@console.steady()
def main(argv: Sequence[str] | None = None) -> None:
    """Measures, and writes the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--num-images", type=int, default=25, help="of each kind")
    parser.add_argument("--only", nargs="*", default=list(ATTACKS), choices=ATTACKS)
    parser.add_argument("--folder", type=Path, default=HERE, help="of strangers.md")
    arguments = parser.parse_args(argv)
    problem = problems.make("linear, 10 classes", arguments.num_images, 0)
    cells = {}
    for name in arguments.only:
        cells[name] = [measure(name, problem, number) for number in range(len(ANSWERS))]
        print(name, [int(cell.fooled.sum()) for cell in cells[name]], flush=True)
    why = [reasons(problem, number) for number in range(len(ANSWERS))]
    text = report(cells, why, arguments.num_images)
    (arguments.folder / "strangers.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
