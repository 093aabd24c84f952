"""Do rbjax's attacks find what foolbox's and torchattacks' find? Writes results.md beside this.

    python -m experiments.parity [MODEL ...] [--attacks pgd apgd ...] [--seeds=3]

Attacks the exported weights with three keys and sets what was found beside what the peers found
with three seeds. Figures of earlier calls, in results.json, stay in the table until they are made
again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.parity import ours
from experiments.parity.train import CONFIGS
from rbjax import atomic, console

HERE = Path(__file__).resolve().parent
ALLOWED = {"pgd": 0.5, "autoattack": 0.5}
"""Largest difference of robust accuracies that we want, in points; 1 of the others."""


class Row(NamedTuple):
    """An attack on a model, ours beside a peer's."""

    model: str
    attack: str
    peer: str
    num_images: int
    ours: list[float]
    """Robust accuracy of each key, per cent."""
    theirs: list[float]
    """Robust accuracy of each of the peer's seeds, per cent."""
    opposed: int
    """Images that all our runs find robust and none of the peer's, or the other way round."""

    @property
    def difference(self) -> float:
        """Mean robust accuracy of ours less the peer's, in points."""
        return float(np.mean(self.ours) - np.mean(self.theirs))


def compare(model: str, attack: str, peer: str, ours: np.ndarray, theirs: np.ndarray) -> Row:
    """Returns the row of an attack on a model.

    Args:
        model: its name.
        attack: its name here.
        peer: its name at the peer.
        ours: (keys, N) bool, robust or not.
        theirs: (seeds, N) bool.

    Returns:
        The row.
    """
    one_way = ours.all(0) & ~theirs.any(0)
    other_way = ~ours.any(0) & theirs.all(0)
    opposed = int(np.sum(one_way | other_way))
    return Row(model, attack, peer, ours.shape[1], _shares(ours), _shares(theirs), opposed)


def run(model: str, attack: str, seeds: int) -> list[Row]:
    """Runs an attack on a model and compares it with each peer that has it."""
    found = ours.peers_found(model)
    names = [name for name in ours.PEERS.get(attack, (attack,)) if name in found]
    if not names:
        return []
    if not ours.is_there(attack):
        print(f"{model}, {attack}: skipped, this rbjax does not have it")
        return []
    number, began = found[names[0]].shape[1], time.perf_counter()
    flags = np.array([ours.robust(model, attack, number, seed) for seed in range(seeds)])
    rows = [compare(model, attack, name, flags, found[name]) for name in names]
    print(f"{model}, {attack}: {time.perf_counter() - began:.0f} s", flush=True)
    return rows


def table(rows: list[Row]) -> str:
    """Returns the rows as a Markdown table."""
    lines = [
        "| model | attack | images | rbjax | peer | peer's | difference | allowed | opposed |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row.model, row.attack, f"{row.num_images:,}", _spread(row.ours), row.peer]
        cells += [_spread(row.theirs), f"{row.difference:+.2f}", f"{ALLOWED.get(row.attack, 1):g}"]
        lines.append(f"| {' | '.join(cells)} | {row.opposed} |")
    return "\n".join(lines)


def _shares(flags: np.ndarray) -> list[float]:
    """Returns the share of each run, per cent."""
    return [round(100 * share, 2) for share in flags.mean(1).tolist()]


def _spread(shares: list[float]) -> str:
    """Returns each run's share, or the one they have in common."""
    return " ".join(f"{share:.1f}" for share in (shares if len(set(shares)) > 1 else shares[:1]))


@console.steady()
def main(argv: Sequence[str] | None = None) -> None:
    """Attacks, and writes the table."""
    every = [*ours.OPTIONS, "autoattack"]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(CONFIGS))
    parser.add_argument("--attacks", nargs="*", default=every, choices=every)
    parser.add_argument("--seeds", type=int, default=3, help="keys 0 to SEEDS - 1")
    arguments = parser.parse_args(argv)
    path = HERE / "results.json"
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for model in arguments.models or CONFIGS:
        for attack in arguments.attacks:
            for row in run(model, attack, arguments.seeds):
                kept[f"{model} {attack} {row.peer}"] = row._asdict()
            atomic.write_json(path, kept)
    order = [(model, attack) for model in CONFIGS for attack in every]
    rows = sorted((Row(**row) for row in kept.values()), key=lambda r: order.index(r[:2]))
    text = f"{_HEADING}\n{table(rows)}\n"
    (HERE / "results.md").write_text(text)
    print(f"\n{text}")


_HEADING = """# Parity with foolbox and torchattacks

Written by `python -m experiments.parity`. Robust accuracy in per cent on the same weights and the
same test images: of each of our keys, and of each of the peer's seeds, one figure where they agree.
"difference" is of the means, in points; "opposed" counts the images that all runs of one side find
robust and no run of the other.
"""


if __name__ == "__main__":
    main()
