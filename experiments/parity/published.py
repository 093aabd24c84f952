"""Attacks networks whose robustness others published; writes published.md beside this.

    python -m experiments.parity.published FOLDER [NET ...] [--attacks pgd a3 ...] [--images=10000]

FOLDER holds the networks' files, which nothing here fetches; what is missing is named with the
place that it comes from. Each attack is run on the first test images of MNIST, in the order that
`data.load` has, and on at most as many as ROWS says it is given on a CPU. Figures of earlier calls,
in published.json, stay in the table until they are made again.

For `wong_kolter` the exact error is known: a solver went through all 10,000 images. No attack may
report more, and none that is worth its name less than PGD's 4.11 %.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import machine
from experiments.parity import nets
from rbjax import atomic, attacks, console, data, prng
from rbjax.metrics import wilson_interval
from rbjax.typing import LogitsFn

HERE = Path(__file__).resolve().parent
BATCH_SIZE = 250


class Row(NamedTuple):
    """One attack on one network."""

    make: Callable[[], Any]
    published: str
    """What others report, on all 10,000 images."""
    images: int = 10_000
    median: bool = False
    """Whether it looks for the smallest perturbation, and the median of those is compared."""


def _fixed(name: str, published: str, images: int = 10_000, **options: Any) -> Row:
    return Row(functools.partial(attacks.create, name, **options), published, images)


def _smallest(name: str, published: str, images: int = 1_000, **options: Any) -> Row:
    return Row(functools.partial(attacks.create, name, **options), published, images, median=True)


_FAB_20 = {"num_steps": 20, "num_targets": 0}

ROWS: dict[str, dict[str, Row]] = {
    "wong_kolter": {
        "pgd-100": _fixed("pgd", "95.89", epsilon=0.1, num_steps=100, step_size=0.01),
        "apgd": _fixed("apgd", "95.62 to 95.89", epsilon=0.1),
        "autoattack": _fixed("autoattack", "95.62 to 95.89", epsilon=0.1, images=1_000),
        "a3": _fixed("adaptive_autoattack", "95.62 to 95.89", epsilon=0.1),
        "a3 on autoattack's images": _fixed(
            "adaptive_autoattack", "95.62 to 95.89", epsilon=0.1, images=1_000
        ),
        "deepfool": _fixed("deepfool", "at least 95.62", epsilon=0.1, norm="linf"),
        "fab": _fixed("fab", "95.62 to 95.89", epsilon=0.1, num_targets=0, images=1_000),
        "fmn": _fixed("fmn", "95.62 to 95.89", epsilon=0.1, images=1_000),
        "square": _fixed("square", "at least 95.62", epsilon=0.1, images=1_000),
    },
    "trades": {
        "autoattack": _fixed("autoattack", "92.81", epsilon=0.3, images=200),
        "a3": _fixed("adaptive_autoattack", "92.71", epsilon=0.3, images=1_000),
    },
    "madry_lenet5": {
        "pgd-40": _fixed(
            *("pgd", "93.2"), epsilon=0.3, num_steps=40, step_size=0.01, random_start=False
        ),
        "deepfool": _fixed("deepfool", "92.58", epsilon=0.3, norm="linf", images=1_000),
        "fab linf": _smallest("fab", "0.3509", norm="linf", **_FAB_20),
        "fmn linf": _smallest("fmn", "", norm="linf"),
        "fab l2": _smallest("fab", "3.04", norm="l2", **_FAB_20),
        "ddn": _smallest("ddn", "1.872 (1,000 steps, rounded to 256 levels)"),
        "ddn-1000": _smallest(
            *("ddn", "1.872 (rounded to 256 levels)", 500), num_steps=1000, initial_size=1.0
        ),
        "fmn l2": _smallest("fmn", "", norm="l2"),
        "fab l1": _smallest("fab", "112.8", norm="l1", **_FAB_20),
        "fmn l1": _smallest("fmn", "", norm="l1"),
        "autoattack l2": _fixed("autoattack", "", epsilon=1.0, norm="l2", images=200),
        "a3 l2": _fixed("adaptive_autoattack", "", epsilon=1.0, norm="l2", images=200),
        "autoattack l1": _fixed("autoattack", "", epsilon=10.0, norm="l1", images=200),
    },
}


def clean_accuracy(logits_fn: LogitsFn, images: np.ndarray, labels: np.ndarray) -> float:
    """Returns the share of images that a network is right about."""
    logits = [np.asarray(logits_fn(jnp.asarray(part))) for part in np.array_split(images, 40)]
    return float(np.mean(np.argmax(np.concatenate(logits), axis=1) == labels))


def measure(
    row: Row, logits_fn: LogitsFn, images: np.ndarray, labels: np.ndarray
) -> dict[str, Any]:
    """Attacks images and returns what came out, with its 95 % interval.

    Args:
        row: the attack.
        logits_fn: the network.
        images: (N, H, W, C) float32 in [0, 1].
        labels: (N,).

    Returns:
        "value", "low", "high": robust accuracy in per cent of all images; or the median distance
        among those that were right and are fooled, with order statistics for its interval.
    """
    began, attack, key = time.perf_counter(), row.make(), prng.key(0)
    found: dict[str, Any] = {"images": len(labels)}
    if row.median:
        sizes, correct = _distances(attack, logits_fn, key, images, labels)
        ordered = np.sort(sizes)
        spread = 0.98 * np.sqrt(len(ordered))
        places = np.clip(np.round(len(ordered) / 2 + np.array([-spread, 0, spread])), 0, None)
        low, middle, high = ordered[np.minimum(places.astype(int), len(ordered) - 1)]
        found |= {"value": middle, "low": low, "high": high, "fooled": len(sizes) / correct}
    else:
        result = attacks.run_attacks(
            logits_fn, key, images, labels, attacks={"it": attack}, batch_size=BATCH_SIZE
        )
        robust = int(result.worst.sum())
        low, high = wilson_interval(np.asarray(robust), np.asarray(len(labels)))
        shares = [100 * robust / len(labels), 100 * float(low), 100 * float(high)]
        found |= dict(zip(("value", "low", "high"), shares, strict=True))
        details = result.outcomes["it"].details
        found |= {name: details[name] for name in ("forwards", "backwards") if name in details}
    found["seconds"] = time.perf_counter() - began
    return found


def _distances(
    attack: Any, logits_fn: LogitsFn, key: Any, images: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, int]:
    """Returns the sizes of what fools images that were right, and how many those were."""
    norm, sizes, correct = attack.threat.norm, [], 0
    for start in range(0, len(labels), BATCH_SIZE):
        rows = np.arange(start, start + BATCH_SIZE) % len(labels)
        batch, own = jnp.asarray(images[rows]), jnp.asarray(labels[rows])
        result = attack(logits_fn, prng.per_example(key, jnp.asarray(rows)), batch, own)
        moved = (np.asarray(result.images) - images[rows]).reshape(len(rows), -1)
        of = np.abs(moved)
        size = {"linf": of.max(1), "l2": np.sqrt((of**2).sum(1)), "l1": of.sum(1)}[norm]
        right = np.argmax(np.asarray(logits_fn(batch)), axis=1) == labels[rows]
        right &= start + np.arange(BATCH_SIZE) < len(labels)
        sizes.append(size[right & np.asarray(result.fooled)])
        correct += int(right.sum())
    return np.concatenate(sizes), correct


def table(kept: dict[str, dict[str, Any]]) -> str:
    """Returns the figures as Markdown, in the order of ROWS."""
    lines = [
        "| network | attack | images | rbjax, 95 % interval | published | passes an image | s |",
        "|---|---|---|---|---|---|---|",
    ]
    for net, rows in ROWS.items():
        for name, row in {"clean": None, **rows}.items():
            found = kept.get(f"{net} {name}")
            if found is None:
                continue
            digits, unit = (4, "") if row is not None and row.median else (2, " %")
            value, low, high = (f"{found[part]:.{digits}f}" for part in ("value", "low", "high"))
            what = f"{value}{unit} ({low} to {high})"
            if "fooled" in found:
                what += f", {100 * found['fooled']:.1f} % fooled"
            published = found["published"] if row is None else row.published
            passes = ""
            if "forwards" in found:
                forwards, backwards = (found[part] / found["images"] for part in PASSES)
                passes = f"{forwards:,.0f} + {backwards:,.0f}"
            cells = [net, name, f"{found['images']:,}", what, published, passes]
            lines.append(f"| {' | '.join(cells)} | {found['seconds']:,.0f} |")
    return "\n".join(lines)


PASSES = ("forwards", "backwards")
CLEAN = {"wong_kolter": "98.11", "trades": "99.48", "madry_lenet5": "98.64"}


def run(folder: Path, names: Sequence[str], chosen: Sequence[str], most: int) -> None:
    """Attacks the networks and keeps each figure as it comes."""
    path = HERE / "published.json"
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    models = {name: nets.load(name, folder) for name in names}
    test = data.load("mnist", "test")
    images, labels = np.asarray(test.images, np.float32) / 255, test.labels
    for name, logits_fn in models.items():
        right = clean_accuracy(logits_fn, images, labels)
        low, high = wilson_interval(np.asarray(round(right * len(labels))), np.asarray(len(labels)))
        clean = {"images": len(labels), "published": CLEAN[name], "seconds": 0.0}
        clean |= {"value": 100 * right, "low": 100 * float(low), "high": 100 * float(high)}
        kept[f"{name} clean"] = clean
        for label, row in ROWS[name].items():
            if chosen and label not in chosen:
                continue
            count = min(row.images, most)
            found = measure(row, logits_fn, images[:count], labels[:count])
            kept[f"{name} {label}"] = atomic.plain(found)
            atomic.write_json(path, kept)
            print(f"{name}, {label}: {found['value']:.4f} ({found['seconds']:.0f} s)", flush=True)
    atomic.write_json(path, kept)


@console.steady()
def main(argv: Sequence[str] | None = None) -> int:
    """Attacks, and writes the table; the exit code is 0, or 2 for a file that is missing."""
    labels = sorted({label for rows in ROWS.values() for label in rows})
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the networks' files lie")
    parser.add_argument("nets", nargs="*", metavar="NET", help=", ".join(ROWS))
    parser.add_argument("--attacks", nargs="*", default=[], choices=labels)
    parser.add_argument("--images", type=int, default=10_000, help="at most so many")
    arguments = parser.parse_args(argv)
    unknown = [name for name in arguments.nets if name not in ROWS]
    if unknown:
        parser.error(f"NET is {unknown[0]!r}; allowed: {', '.join(ROWS)}")
    try:
        run(arguments.folder, arguments.nets or list(ROWS), arguments.attacks, arguments.images)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    kept = json.loads((HERE / "published.json").read_text())
    sources = "\n".join(f"- `{name}`: {net.file}, {net.source}." for name, net in nets.NETS.items())
    text = f"{_HEADING}\n```\n{machine.describe()}\n```\n\n{table(kept)}\n\n{sources}\n"
    (HERE / "published.md").write_text(text)
    print(f"\n{text}")
    return 0


_HEADING = """# Networks whose robustness is published

Written by `python -m experiments.parity.published FOLDER`. Robust accuracy on MNIST's test images,
or the median size of the perturbations of those that were right and are fooled; published figures
are of all 10,000. `wong_kolter` (l-inf 0.1): the exact robust accuracy is 95.62 % (Tjeng et al.
2019, arXiv:1711.07356), PGD leaves 95.89. `trades` (l-inf 0.3): AutoAttack and A3 as A3's authors
report them. `madry_lenet5` (l-inf 0.3): as advertorch's benchmarks print them. Passes are forwards
+ backwards.
"""


if __name__ == "__main__":
    sys.exit(main())
