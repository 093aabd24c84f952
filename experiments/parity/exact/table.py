"""The tables that are made of the rows: by norm, ours beside the peers'."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from experiments.parity.exact.measures import MULTIPLES, ORDERS, SHARE, Row, of_share
from experiments.parity.exact.problems import KINDS, MODELS

NEAR = 0.01
"""By how much ours may be behind a peer's same attack."""


def report(kept: dict[str, Any]) -> str:
    """Returns results.md, of what results.json holds."""
    rows = [Row(**row) for row in kept["rows"].values()]
    lines = [_HEADING.format(**kept["images"], share=SHARE, least=MULTIPLES[0])]
    for side, made in kept["made"].items():
        used = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
        command = f"python -m experiments.parity.exact {made['options']}".strip()
        lines.append(f"- {side}: `{command}`, {made['date']}; {used}.")
    for norm in ORDERS:
        for smallest in (True, False):
            chosen = [row for row in rows if (row.norm, row.smallest) == (norm, smallest)]
            if chosen:
                what = "the smallest perturbation" if smallest else "a budget"
                lines += ["", f"## {norm}: {what}", "", *_table(chosen, smallest)]
    lines += ["", "## Behind a peer", "", *_behind(rows)]
    return "\n".join(lines) + "\n"


def _arrays(row: Row) -> dict[str, np.ndarray]:
    """Returns ratios by model, those that were missed infinite."""
    return {
        name: np.array([np.inf if r is None else r for r in v]) for name, v in row.ratios.items()
    }


def _by_kind(arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Returns the ratios of each kind of image, over the models."""
    parts = [np.split(values, len(KINDS)) for values in arrays.values()]
    return [np.concatenate(kind) for kind in zip(*parts, strict=True)]


def _number(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "none"


def _cell(found: np.ndarray, smallest: bool) -> str:
    """Returns median and worst, and what was missed; or the multiple for nine tenths."""
    if not smallest:
        multiple = of_share(found)
        return f"{multiple:g}" if np.isfinite(multiple) else f"> {MULTIPLES[-1]:g}"
    hit = found[np.isfinite(found)]
    missed = len(found) - len(hit)
    worst = f"{np.max(hit):.2f}" if len(hit) else "none"
    return f"{_number(np.median(found))}, {worst}" + (f", {missed} missed" if missed else "")


def _table(rows: list[Row], smallest: bool) -> list[str]:
    names = [name for name in MODELS if any(name in row.ratios for row in rows)]
    head = ["attack", "library", *names, *KINDS]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    ours_first = sorted(
        rows, key=lambda row: (row.attack == "", row.attack, row.library != "rbjax")
    )
    for row in ours_first:
        arrays = _arrays(row)
        cells = [_cell(arrays[name], smallest) if name in arrays else "" for name in names]
        for kind in _by_kind(arrays):
            value = np.median(kind) if smallest else of_share(kind)
            cells.append(_number(value) if smallest else _cell(kind, False))
        lines.append(f"| {' | '.join([row.called, row.library, *cells])} |")
    return lines


def _score(row: Row, name: str) -> float:
    found = _arrays(row)[name]
    return float(np.median(found)) if row.smallest else of_share(found)


def behind(rows: Iterable[Row]) -> list[tuple[Row, Row, str]]:
    """Returns where our attack at its defaults is farther off than a peer's of the same name.

    Returns:
        Our row, the best peer's, and the model, where they differ by more than `NEAR`.
    """
    rows, found = list(rows), []
    for own in rows:
        if own.library != "rbjax" or own.called != own.attack:
            continue
        same = (own.attack, own.norm)
        peers = [row for row in rows if row.library != "rbjax" and (row.attack, row.norm) == same]
        for name in own.ratios:
            best = min(peers, key=lambda row: _score(row, name), default=None)
            if best is not None and _score(own, name) > _score(best, name) + NEAR:
                found.append((own, best, name))
    return found


def _behind(rows: list[Row]) -> list[str]:
    told = [
        f"- {own.called} in {own.norm}, {name}: {_score(own, name):.4g}, where "
        f"{best.library}'s {best.called} has {_score(best, name):.4g}"
        for own, best, name in behind(rows)
    ]
    none = f"None of our attacks is more than {NEAR:g} behind the best peer's of the same name."
    return told or [none]


_HEADING = """# Attacks beside the exact minimum

Written by `python -m experiments.parity.exact`. Linear models and nets of one hidden layer of 8
ReLUs, of random weights, on images of 10 x 10 values: grey (0.3 to 0.7), uniform, black and white,
and dark (0 to 0.1); {num_images} of each kind and model, seed {seed}. The least perturbation in
[0, 1] is known: in closed form of the linear models, by HiGHS (l1, l-inf) and least distance
programming (l2, scipy's `nnls`) for each pattern of ReLUs of the nets, whose l0 was not solved for.

Of attacks that look for the smallest perturbation: its size over the exact one, median and worst,
and how many images were missed; by kind of image the median. Of attacks with a budget: the smallest
multiple of the exact distance, {least} at least, at which {share:.0%} of the images are fooled. An
attack that raises an error, or leaves [0, 1] or its budget, has missed. A ReLU net may be flat at
an image, where a gradient says nothing.
"""
