"""The tables: networks and their classes, beside the published ones, and the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.classwise import conclude, explain, plan, results
from experiments.classwise.plan import AFTER_TRAINING, ROBUST, SHARES, Key, Scale
from experiments.classwise.results import Grid, Network
from rbjax import atomic
from rbjax.data.class_names import CIFAR100_SUPERCLASSES
from rbjax.metrics import wilson_interval
from rbjax.sweep import Result

EXPECTED: dict[str, Any] = atomic.read_json(Path(__file__).with_name("expected.json"))
_MEASURES = {
    "mean": results.mean,
    "worst": results.worst,
    "spread": results.spread,
    "deviation": results.deviation,
}


def report(found: Mapping[str, Result], *, scale: Scale) -> str:
    """Returns all tables and the answers, as Markdown.

    Args:
        found: of `sweep.read`; what is missing is left out, and said.
        scale: of the grid.
    """
    grid = results.grid(found, scale)
    lines = [_describe(scale), *_apart(grid)]
    if not grid.results:
        return "\n".join([*lines, "", "No cell is there yet."])
    for title, rows in (
        ("Standard and robust networks", _networks(grid, "datasets")),
        ("Radii of the attack", _radii(grid)),
        ("Classes", _classes(grid)),
        ("Other architectures", _networks(grid, "networks")),
        ("Other optimizers", _networks(grid, "optimizers")),
        ("Remedies", _remedies(grid)),
        ("Robust and non-robust features", _taught(grid)),
        ("Superclasses", _superclasses(grid)),
        ("Corruptions", _corruptions(grid)),
        ("Answers", conclude.sentences(grid)),
    ):
        if rows:
            lines += ["", f"### {title}", "", *rows]
    lines += [
        "",
        "Per cent, with 95 % intervals: of test images, drawn class by class, and of seeds where "
        "there are more. Mean, worst, spread (best less worst) and deviation (beyond that of the "
        "draw of images) are of the accuracies of classes.",
    ]
    return "\n".join(lines)


def _describe(scale: Scale) -> str:
    full, parts = (
        plan.PAPER,
        [f"{scale.network} {dict(scale.networks[scale.network]) or ''}".strip()],
    )
    for words, here, there in (
        ("training images", scale.train, "all"),
        ("epochs", scale.epochs, str(full.epochs)),
        ("steps of the attack in training", scale.craft_steps, str(full.craft_steps)),
        ("test images at most", scale.test, "all"),
        ("of them under corruptions", scale.corrupted, str(full.corrupted)),
    ):
        if here is not None and str(here) != there:
            parts.append(f"{words}: {here:,} in place of {there}")
    radii = (f"{name} {plan.epsilon(scale, name):.4g}" for name in scale.datasets)
    parts.append(f"linf radii that are trained against: {', '.join(radii)}")
    return "; ".join(parts) + f". Attacked by PGD of {scale.attack_steps} steps of an eighth."


def _apart(grid: Grid) -> list[str]:
    if not grid.apart:
        return []
    return ["", "Not trained, and in no number below: " + ", ".join(grid.apart) + "."]


def _row(grid: Grid, network: Network) -> list[str]:
    """Returns the four measures of a network, as text."""
    found = (grid.contrast([(1, network)], measure) for measure in _MEASURES.values())
    return ["" if one is None else one.plain() for one in found]


def _networks(grid: Grid, group: str) -> list[str]:
    keys = dict.fromkeys(k._replace(seed=0) for k in grid.results if k.group == group)
    if not keys:
        return []
    lines = [f"| network | seeds | images | {' | '.join(_MEASURES)} | lowest classes |"]
    lines.append("|---" * (len(_MEASURES) + 4) + "|")
    for key in keys:
        name = key.name.removeprefix(f"{group}.").removesuffix(".0")
        for label, words in (("clean", "clean"), (AFTER_TRAINING, "attacked")):
            network = Network(key, label)
            low = ", ".join(conclude.vulnerable(grid, network))
            cells = " | ".join(_row(grid, network))
            lines.append(f"| {name} | {len(grid.seeds(key))} | {words} | {cells} | {low} |")
    return lines


def _radii(grid: Grid) -> list[str]:
    lines = ["| network | radius | mean | worst | spread | deviation |", "|---" * 6 + "|"]
    for pair in conclude.pairs(grid):
        for key in pair:
            for label, share in SHARES.items():
                radius = share * plan.epsilon(grid.scale, key.dataset)
                cells = " | ".join(_row(grid, Network(key, label)))
                lines.append(f"| {key.dataset}.{key.method} | {radius:.4g} | {cells} |")
    return lines if lines[2:] else []


def _classes(grid: Grid) -> list[str]:
    """Each class of the base dataset, clean and attacked, with the published ones beside."""
    pair = next((p for p in conclude.pairs(grid) if p[0].dataset == grid.scale.base), None)
    if pair is None:
        return []
    standard, robust = pair
    columns = {
        "standard, clean": Network(standard, "clean"),
        "standard, attacked": conclude.matched_networks(grid, standard, robust)[0],
        "robust, clean": Network(robust, "clean"),
        "robust, attacked": Network(robust, AFTER_TRAINING),
    }
    published = EXPECTED["classes"] if grid.scale.base == plan.BASE else {}
    title = f" | {EXPECTED['network']}, clean, attacked" if published else ""
    lines = [f"| class | {' | '.join(columns)}{title} |"]
    lines.append("|---" * (len(columns) + 1 + bool(published)) + "|")
    for label, name in enumerate(grid.names(standard)):
        cells = [_of_class(grid, network, label) for network in columns.values()]
        if published:
            known = published.get(name)
            cells.append(f"{known['clean']}, {known['attacked']}" if known else "")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    share = SHARES[columns["standard, attacked"].label]
    lines += ["", f"The standard network is attacked at {share:g} of the radius trained against."]
    return lines + _expected_order(grid, columns["robust, attacked"])


def _of_class(grid: Grid, network: Network, label: int) -> str:
    """Returns a class's accuracy; the interval holds Wilson's: draws of no error have none."""
    found = grid.contrast([(1, network)], results.of_class(label))
    if found is None:
        return ""
    total = next(iter(grid.counts(key)[label] for key in grid.seeds(network.key).values()))
    low, high = wilson_interval(round(found.value / 100 * total), total)
    low, high = min(found.low, 100 * float(low)), max(found.high, 100 * float(high))
    return found._replace(low=low, high=high).plain()


def _expected_order(grid: Grid, attacked: Network) -> list[str]:
    hard = EXPECTED["vulnerable"].get(grid.scale.base)
    if not hard:
        return []
    found = conclude.vulnerable(grid, attacked, len(hard))
    alike = [name for name in found if name in hard]
    return [
        "",
        f"Published as the most vulnerable everywhere: {', '.join(hard)}; here {', '.join(found)}: "
        f"{len(alike)} of {len(hard)} the same.",
    ]


def _remedies(grid: Grid) -> list[str]:
    base = Key("datasets", grid.scale.base, grid.scale.network, grid.scale.optimizer, ROBUST, 0)
    keys = [base] if grid.seeds(base) else []
    keys += dict.fromkeys(k._replace(seed=0) for k in grid.results if k.group == "remedies")
    if len(keys) < 2:
        return []
    critical = grid.names(base)[plan.CRITICAL] if grid.seeds(base) else str(plan.CRITICAL)
    published = EXPECTED["methods"] if grid.scale.base == plan.BASE else {}
    lines = [
        f"| training | clean mean | clean worst | mean | worst | spread | {critical} | published |"
    ]
    lines.append("|---" * 8 + "|")
    measures = (results.mean, results.worst)
    own = (*measures, results.spread, results.of_class(plan.CRITICAL))
    for key in keys:
        found = [grid.contrast([(1, Network(key, "clean"))], m) for m in measures]
        found += [grid.contrast([(1, Network(key, AFTER_TRAINING))], m) for m in own]
        cells = ["" if one is None else one.plain() for one in found]
        known = published.get(key.method, {})
        cells.append(f"{known['mean']} mean, {known['worst']} worst" if known else "")
        lines.append(f"| {key.method} | {' | '.join(cells)} |")
    return [*lines, "", f"Published: {published['source']}."] if published else lines


def _taught(grid: Grid) -> list[str]:
    """What datasets of features teach, on the test images as they are and attacked in l2."""
    keys = list(dict.fromkeys(k._replace(seed=0) for k in grid.results if k.group == "features"))
    if not keys:
        return []
    published = EXPECTED["taught"] if grid.scale.base == plan.BASE else {}
    labels = ("clean", *plan.L2_RADII)
    lines = [
        "| trained on | moved by | clean | l2 0.25 | l2 0.5 | worst class, clean | published |"
    ]
    lines.append("|---" * 7 + "|")
    for key in keys:
        own = [grid.results[k] for k in grid.seeds(key).values()]
        moved = f"{np.mean([r['moved'] for r in own]):.2f}" if "moved" in own[0] else ""
        found = [grid.contrast([(1, Network(key, label))], results.mean) for label in labels]
        found.append(grid.contrast([(1, Network(key, "clean"))], results.worst))
        cells = ["" if one is None else one.plain() for one in found]
        known = published.get(key.method)
        cells.append(f"{known['clean']} clean, {known['l2_0.25']} at 0.25" if known else "")
        lines.append(f"| {key.method} | {moved} | {' | '.join(cells)} |")
    return [*lines, "", f"Published: {published['source']}."] if published else lines


def _superclasses(grid: Grid) -> list[str]:
    lines = ["| network | images | errors | within the superclass | by chance |", "|---" * 5 + "|"]
    for pair in conclude.pairs(grid):
        for key in pair:
            if key.dataset != "cifar100":
                continue
            for label in ("clean", AFTER_TRAINING):
                own = [grid.results[k] for k in grid.seeds(key).values()]
                matrix = np.sum([explain.confusion(result, label) for result in own], axis=0)
                share = explain.within_superclass(matrix, CIFAR100_SUPERCLASSES)
                shown = f"{share.value:.1f} ({share.low:.1f} to {share.high:.1f})"
                words = "clean" if label == "clean" else "attacked"
                lines.append(
                    f"| {key.method} | {words} | {share.count:,} | {shown} | {share.chance:.1f} |"
                )
    return lines if lines[2:] else []


def _corruptions(grid: Grid) -> list[str]:
    """The mean of the classes under each corruption, and its worst class."""
    lines: list[str] = []
    for standard, robust in conclude.pairs(grid):
        tables = [_of_corruptions(grid, key) for key in (standard, robust)]
        names = grid.names(standard)
        lines += ["", f"{standard.dataset}, {grid.scale.corrupted:,} images:", ""]
        lines += [
            "| corruption | standard | worst class | robust | worst class |",
            "|---" * 5 + "|",
        ]
        for name in tables[0]:
            cells = []
            for found in tables:
                values = found[name]
                low = int(np.argmin(values))
                cells += [f"{100 * np.mean(values):.1f}", f"{names[low]} {100 * values[low]:.1f}"]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines[1:]


def _of_corruptions(grid: Grid, key: Key) -> dict[str, np.ndarray]:
    own: Sequence[Mapping[str, Any]] = [
        grid.results[k]["corruptions"]["class_accuracy"] for k in grid.seeds(key).values()
    ]
    return {name: np.mean([table[name] for table in own], axis=0) for name in own[0]}
