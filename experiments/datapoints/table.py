"""The tables: published numbers beside ours, every reading, the retraining test, PRBench's row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from experiments.datapoints import measures, records, scales
from experiments.datapoints.conclusions import BENCH, P4, conclude, robustness, shown
from experiments.datapoints.measures import OverSeeds, Results, over_seeds
from experiments.datapoints.plan import PAPER, PRBENCH, Scale, grid
from experiments.datapoints.readings import READINGS
from rbjax import rpr
from rbjax.sweep import Result

NAMES = {"M": "M", "robust": "M_R", "random": "M_C", "balanced": "M_B"}
TOLERANCES = (0.1, 0.05, 0.01)
"""Of PRBench's ProbAcc."""
_MEANINGS = {
    "seeds": "seeds",
    "retrained": "readings of the scheme of the retraining test",
    "schemes": "readings of the scheme that readings of the model are scored with",
    "models": "readings of the model",
    "scanned": "images of each split that a reading is scored on",
    "num_test": "test images of the retraining test",
    "num_train": "training images of which the robust ones are kept",
    "max_steps": "draws of an image",
    "num_epochs": "epochs of M",
    "prbench_epochs": "epochs of PRBench's network",
    "prbench_train": "images that PRBench's network is trained on",
    "prbench_test": "test images of PRBench's row",
    "radii": "radii of PRBench's row",
    "dataset": "dataset",
}


def report(results: Results, *, scale: Scale, unbalanced: bool = False) -> str:
    """Returns all tables and the conclusions, as Markdown.

    Args:
        results: of `sweep.read`; what is missing is left out, and said.
        scale: of the grid.
        unbalanced: which retraining test.
    """
    kept, _ = measures.trained(results, scale)
    blocks = [("Conclusions", _listed(conclude(results, scale, unbalanced=unbalanced)))]
    published = list(_published(kept, scale, unbalanced))
    if published:
        head = ["number", "published", "ours", "difference"]
        blocks.append(("Published and ours", as_markdown([head, *published])))
    if measures.rows(kept, scale):
        blocks.append(("Readings of scheme and model", as_markdown(_readings(kept, scale))))
    for scheme in scale.retrained:
        have = list(measures.retrained(kept, scale, scheme, unbalanced=unbalanced).values())
        if have:
            title = f"Retraining, {READINGS[scheme].title}"
            blocks.append((title, "\n\n".join(map(as_markdown, _retraining(have)))))
    if PRBENCH in kept:
        blocks.append(("PRBench's measures by class", as_markdown(_prbench(kept[PRBENCH]))))
    wanted = [cell.name for cell in grid(scale, unbalanced=unbalanced)]
    missing = [name for name in wanted if name not in results]
    left = [f"not run yet: {', '.join(missing)}"] if missing else []
    left += scales.cuts(_numbers(scale), _numbers(PAPER), _MEANINGS)
    if left:
        blocks.append(("Left out", _listed(left)))
    return "\n\n".join(f"### {title}\n\n{body}" for title, body in blocks)


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    """Returns a table in Markdown, of rows with the headings above."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], f"|{'---|' * len(rows[0])}", *lines[1:]])


def _numbers(scale: Scale) -> Scale:
    """Returns a scale with how many of its readings and radii there are in their places."""
    lengths: Any = {k: len(v) for k, v in scale._asdict().items() if isinstance(v, tuple)}
    return scale._replace(**lengths)


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _published(kept: Results, scale: Scale, unbalanced: bool) -> Iterator[list[str]]:
    """Yields P4's and PRBench's numbers, ours, and the differences."""

    def line(name: str, published: float, ours: OverSeeds) -> list[str]:
        moved = ours.value - published
        return [name, f"{published:.4f}", shown(ours, signed=False), f"{moved:+.4f}"]

    found = measures.rows(kept, scale)
    base = next((row for row in found if row.model == "base"), None)
    if base:
        yield line("accuracy of M", P4["accuracy"], base.accuracy)
    if found:
        row = measures.nearest(found, "printed")
        yield line(f"test ratio of M, nearest ({row.title})", P4["test_ratio"], row.test)
        yield line("train ratio of M, the same", P4["train_ratio"], row.train)
    for scheme in scale.retrained:
        have = list(measures.retrained(kept, scale, scheme, unbalanced=unbalanced).values())
        for budget in ("epochs", "updates") if have else ():
            name, title = f"robust-{budget}", f"of M_R, {scheme}, equal {budget}"
            accuracy = over_seeds([result["models"][name]["accuracy"] for result in have])
            yield line(f"accuracy {title}", P4["robust_accuracy"], accuracy)
            yield line(f"test ratio {title}", P4["robust_test_ratio"], _ratio(have, name))
    if PRBENCH in kept:
        net = over_seeds([kept[PRBENCH]["net"]["accuracy"]])
        yield line("PRBench, accuracy", BENCH["accuracy"], net)
        for law, failures in kept[PRBENCH]["failures"].items():
            for radius in failures:
                published = BENCH["robustness"][radius]
                value, low, high = robustness(kept[PRBENCH], law, radius).overall
                ours = f"{value:.4f} ({low:.4f} to {high:.4f})"
                name = f"PRBench, PR({radius}), {law} noise"
                yield [name, f"{published:.4f}", ours, f"{value - published:+.4f}"]


def _ratio(have: Sequence[Result], name: str) -> OverSeeds:
    ratios = np.array([records.unpack(result, "test", name).ratio for result in have])
    number = len(records.unpack(have[0], "test", name).labels)
    return over_seeds(ratios, within=float(np.mean(ratios * (1 - ratios)) / number))


def _readings(kept: Results, scale: Scale) -> list[list[str]]:
    """Returns every reading, the nearest to the printed ratios first."""
    head = ["scheme", "model", "seeds", "accuracy", "test", "train", "from printed"]
    found = sorted(measures.rows(kept, scale), key=lambda row: row.distance["printed"].value)
    first = ["paper", "", "", f"{P4['accuracy']:.2%}"]
    first += [f"{P4[name]:.4f}" for name in ("test_ratio", "train_ratio")]
    rows = [[*head, "from conjecture"], [*first, "", ""]]
    for row in found:
        ratios = [_spread(row.test), _spread(row.train)]
        distances = [_spread(row.distance[target]) for target in measures.TARGETS]
        accuracy = f"{row.accuracy.value:.2%}"
        rows.append([row.scheme, row.model, str(len(row.seeds)), accuracy, *ratios, *distances])
    return rows


def _spread(estimate: OverSeeds) -> str:
    """Returns a mean and its standard deviation over seeds."""
    return f"{estimate.value:.4f}" + (f" ± {estimate.std:.4f}" if len(estimate.values) > 1 else "")


def _retraining(have: Sequence[Result]) -> Iterator[list[list[str]]]:
    """Yields the models, their differences, the subsets, and the classes of figure 4."""
    rows = [["model", "images", "epochs", "updates", "accuracy", "robust test images"]]
    for name in have[0]["models"]:
        kind, _, budget = name.partition("-")
        about = [result["models"][name] for result in have]
        title = f"{NAMES[kind]}{f', equal {budget}' if budget else ''}"
        numbers = [
            ", ".join(dict.fromkeys(f"{m[field]:,}" for m in about))
            for field in ("images", "epochs", "updates")
        ]
        accuracy = over_seeds([m["accuracy"] for m in about])
        rows.append([title, *numbers, _spread(accuracy), _spread(_ratio(have, name))])
    yield rows
    rows = [["difference", "equal", "robust", "p", "accuracy", "p"]]
    for budget in ("epochs", "updates"):
        for other in ("M", "random", "balanced"):
            second = other if other == "M" else f"{other}-{budget}"
            both = [
                measures.difference(have, second, f"robust-{budget}", of)
                for of in ("robust", "accuracy")
            ]
            told = [text for found in both for text in (shown(found), f"{found.p_value:.1g}")]
            rows.append([f"M_R - {NAMES[other]}", budget, *told])
    yield rows
    classes = range(len(have[0]["class_counts"]))
    rows = [["class", *map(str, classes)]]
    for seed, result in enumerate(have):
        pairs = zip(result["class_counts"], result["available"], strict=True)
        rows.append([f"kept of robust, {seed}", *(f"{n:,} of {m:,}" for n, m in pairs)])
    rows.append(["robust, of all", *(f"{share:.3f}" for share in measures.class_shares(have))])
    yield rows


def _prbench(result: Result) -> list[list[str]]:
    """Returns PR and ProbAcc of each class at every radius, truncated noise."""
    labels = np.frombuffer(bytes.fromhex(result["labels"]["test"]), np.uint8).astype(np.int64)
    counted = records.unpack_flags(result["clean"], len(labels))
    num_classes = int(labels.max()) + 1
    rows = [["measure", "all", *map(str, range(num_classes))]]
    for radius in result["failures"]["truncated"]:
        failures = np.asarray(result["failures"]["truncated"][radius])
        found = {f"PR({radius})": robustness(result, "truncated", radius)}
        for tolerance in TOLERANCES:
            found[f"ProbAcc({tolerance}) at {radius}"] = rpr.probabilistic_accuracy(
                failures,
                result["num_draws"],
                labels,
                num_classes=num_classes,
                tolerance=tolerance,
                counted=counted,
            )
        for name, measure in found.items():
            value, low, high = measure.overall
            classes = [f"{share:.3f}" for share in measure.classes.value]
            rows.append([name, f"{value:.4f} ({low:.4f} to {high:.4f})", *classes])
    return rows
