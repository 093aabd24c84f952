"""The table of our results and the paper's, as text and as Markdown, with sentences under it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Summary = Mapping[str, Any]
"""What `results.summarize` returns."""

_HEADINGS = (
    *("reading", "seeds", "M accuracy", "M test", "M test of right", "M train"),
    *("M train of right", "M_R accuracy", "M_R test", "M_R test of right"),
    *("M_C accuracy", "M_C test", "M_C test of right"),
)
_LEGEND = (
    "Ratio of images that withstand every draw, of all images and of those that are classified "
    "right as they are; mean ± standard deviation over the seeds. M is trained on all images, M_R "
    "on robust ones alone, M_C on as many of each class at random."
)


def ratios(summary: Summary) -> list[list[str]]:
    """Returns the rows of the main table, the paper's first, headings above."""
    paper, blank = summary["paper"], "-"
    first = ["paper", blank, _per_cent(paper["accuracy"]), _ratio(paper["test_ratio"]), blank]
    first += [_ratio(paper["train_ratio"]), blank, _per_cent(paper["robust_accuracy"])]
    first += [_ratio(paper["robust_test_ratio"]), *[blank] * 4]
    ranks = summary["nearest_to_test"]
    rows = sorted(summary["readings"], key=lambda row: ranks.index(row["name"]))
    return [list(_HEADINGS), first, *(_row(row) for row in rows)]


def differences(summary: Summary) -> list[list[str]]:
    """Returns the differences between models, one row a reading and pair, headings above."""
    rows = [["reading", "models", "of", "difference over seeds", "seed 0, 95 % interval", "p"]]
    groups: dict[tuple[str, str, str], list[Summary]] = {}
    names = {"all": "M_R - M", "random": "M_R - M_C"}
    for entry in summary["differences"]:
        key = entry["reading"], names[entry["models"][1]], entry["of"]
        groups.setdefault(key, []).append(entry)
    for key, entries in groups.items():
        one = entries[0]
        interval = f"{one['difference']:+.4f} ({one['low']:+.4f} to {one['high']:+.4f})"
        values = [entry["difference"] for entry in entries]
        mean = sum(values) / len(values)
        spread = (sum((value - mean) ** 2 for value in values) / max(len(values) - 1, 1)) ** 0.5
        over = f"{mean:+.4f} ± {spread:.4f}" if len(values) > 1 else f"{mean:+.4f}"
        rows.append([*key, over, f"{interval} of {one['count']:,}", _p_value(one["p_value"])])
    return rows


def subsets(summary: Summary) -> list[list[str]]:
    """Returns robust images kept of those there were, class by class, headings above."""
    counts = summary["subsets"]
    num_classes = len(counts[0]["class_counts"]) if counts else 0
    rows = [["reading", "seed", *(f"class {label}" for label in range(num_classes))]]
    for entry in counts:
        pairs = zip(entry["class_counts"], entry["available"], strict=True)
        cells = [f"{kept:,} of {there:,}" for kept, there in pairs]
        rows.append([entry["reading"], str(entry["seed"]), *cells])
    return rows


def paragraph(summary: Summary) -> str:
    """Returns sentences computed from the numbers."""
    rows = {row["name"]: row for row in summary["readings"]}
    paper = summary["paper"]
    best = rows[summary["nearest_to_test"][0]]
    parts = [
        f"Of {len(rows)} readings, {best['title']}, comes nearest to the paper's test ratio "
        f"{_ratio(paper['test_ratio'])}: {_statistic(best['test'], _ratio)} here, "
        f"{best['test']['mean'] - paper['test_ratio']:+.4f}."
    ]
    both = [row for row in rows.values() if row["train"] is not None]
    if both:
        parts += _splits(summary, rows, both)
        parts += _retrained(summary, rows[summary["followed"][0]])
    return " ".join(parts)


def as_text(rows: Sequence[Sequence[str]]) -> str:
    """Returns aligned columns, the first to the left, with a rule under the headings."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    """Returns a table in Markdown."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], f"|{'---|' * len(rows[0])}", *lines[1:]])


def report(summary: Summary, *, markdown: bool) -> str:
    """Returns all tables and the sentences, as text or as Markdown."""
    show = as_markdown if markdown else as_text
    cuts = summary["cuts"]
    blocks = [
        ("Ours beside the paper's", f"{show(ratios(summary))}\n\n{_LEGEND}"),
        ("What differs", paragraph(summary)),
    ]
    if summary["followed"]:
        blocks += [
            ("Differences on the same test images and draws", show(differences(summary))),
            ("Robust training images kept, of those there were", show(subsets(summary))),
        ]
    if cuts:
        blocks.append(("Cut", "\n".join(f"- {line}" for line in cuts)))
    return "\n\n".join(f"{'## ' if markdown else ''}{title}\n\n{body}" for title, body in blocks)


def _row(row: Summary) -> list[str]:
    cells = [row["name"], str(row["num_seeds"]), _statistic(row["accuracy"], _per_cent)]
    cells += [_statistic(row[part], _ratio) for part in ("test", "test_right")]
    cells += [_statistic(row[part], _ratio) for part in ("train", "train_right")]
    for kind in ("robust", "random"):
        own = row[kind] or dict.fromkeys(("accuracy", "test", "test_right"))
        cells.append(_statistic(own["accuracy"], _per_cent))
        cells += [_statistic(own[part], _ratio) for part in ("test", "test_right")]
    return cells


def _splits(summary: Summary, rows: Mapping[str, Summary], both: Sequence[Summary]) -> list[str]:
    """Returns a sentence about the difference between train and test, here and in the paper."""
    paper = summary["paper"]
    train = rows[summary["nearest_to_train"][0]]
    gaps = [row["train"]["mean"] - row["test"]["mean"] for row in both]
    gap = paper["train_ratio"] - paper["test_ratio"]
    widest = max(gaps)
    text = [
        f"Of {len(both)} scored on train, {train['title']}, comes nearest to the paper's train "
        f"ratio {_ratio(paper['train_ratio'])}: {_statistic(train['train'], _ratio)}.",
        f"Under one model and one reading, train less test is here at most {widest:+.4f}, in "
        f"the paper by {gap:+.4f}",
    ]
    text[-1] += (
        ", so no reading here gives both of its numbers."
        if widest < gap / 2
        else ", so both of its numbers may come from one scheme."
    )
    failing = 1 - paper["test_ratio"]
    lenient = min(rows.values(), key=lambda row: abs(row["test"]["mean"] - failing))
    text.append(
        "A conjecture that the paper does not state: were its test ratio the share that fails, "
        f"{_ratio(failing)} would withstand, {failing - paper['train_ratio']:+.4f} from its train "
        f"ratio, and {lenient['title']}, would come nearest "
        f"({_statistic(lenient['test'], _ratio)})."
    )
    return text


def _retrained(summary: Summary, row: Summary) -> list[str]:
    """Returns a sentence about the effect of training on robust images."""
    paper = summary["paper"]
    entries = [e for e in summary["differences"] if e["reading"] == row["name"]]

    def told(other: str, of: str) -> str:
        pair = [e for e in entries if e["models"][1] == other and e["of"] == of]
        mean = sum(entry["difference"] for entry in pair) / len(pair)
        above = sum(entry["low"] > 0 for entry in pair)
        below = sum(entry["high"] < 0 for entry in pair)
        sides = f"above 0 by its interval in {above}, below in {below} of {len(pair)} seeds"
        return f"{mean:+.4f} ({sides})"

    gain = paper["robust_test_ratio"] - paper["test_ratio"]
    loss = paper["robust_accuracy"] - paper["accuracy"]
    return [
        f"With {row['title']}, training on robust images alone changes the test ratio by "
        f"{told('all', 'robust')}, in the paper by {gain:+.4f}, and the accuracy by "
        f"{told('all', 'accuracy')}, in the paper by {loss:+.4f}.",
        "Against as many images of each class at random, the control that the paper lacks, it is "
        f"{told('random', 'robust')} in ratio and {told('random', 'accuracy')} in accuracy.",
    ]


def _statistic(value: Summary | None, show: Any) -> str:
    if value is None:
        return "-"
    spread = "" if value["std"] is None else f" ± {show(value['std'])}"
    return f"{show(value['mean'])}{spread}"


def _p_value(value: float) -> str:
    return "< 1e-99" if value < 1e-99 else f"{value:.1g}"


def _ratio(value: float) -> str:
    return f"{value:.4f}"


def _per_cent(value: float) -> str:
    return f"{100 * value:.2f} %"
