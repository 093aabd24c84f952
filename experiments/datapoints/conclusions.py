"""What the numbers say, in sentences: each with its number, its interval, and words that follow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.datapoints import measures, records
from experiments.datapoints.measures import TARGETS, OverSeeds, Results, Row, over_seeds
from experiments.datapoints.plan import PRBENCH, Scale
from experiments.datapoints.readings import READINGS
from rbjax import rpr
from rbjax.sweep import Result

P4, BENCH = records.expected("P4"), records.expected("PRBench")
GAP = P4["train_ratio"] - P4["test_ratio"]
GAIN = P4["robust_test_ratio"] - P4["test_ratio"]


def conclude(results: Results, scale: Scale, *, unbalanced: bool) -> list[str]:
    """Returns the sentences, of the networks that reach the floor.

    Args:
        results: of `sweep.read`; what is missing is left out, and said.
        scale: of the grid.
        unbalanced: which retraining test.
    """
    kept, below = measures.trained(results, scale)
    said = [_floor(below, scale)] if below else []
    found = measures.rows(kept, scale)
    if found:
        said += [_nearest(found, scale), _gap(found, scale), _conjecture(found, scale)]
    for scheme in scale.retrained:
        have = measures.retrained(kept, scale, scheme, unbalanced=unbalanced)
        if have:
            said += _retrained(list(have.values()), scheme, scale)
    for scheme in scale.retrained[:1]:
        have = measures.retrained(kept, scale, scheme, unbalanced=unbalanced)
        if have:
            said.append(_figure4(list(have.values()), scheme, scale))
    if PRBENCH in kept:
        said.append(_prbench(kept[PRBENCH]))
    return said or ["Nothing is finished that anything follows from."]


def shown(estimate: OverSeeds, *, signed: bool = True) -> str:
    """Returns a number with its interval, such as "+0.0265 (-0.0455 to +0.0985, 3 seeds)"."""
    form = "+.4f" if signed else ".4f"
    seeds = len(estimate.values)
    if np.isnan(estimate.low):
        return f"{estimate.value:{form}} (1 seed, no interval)"
    number = f"{seeds} seeds" if seeds > 1 else "1 seed, of its images"
    # What has no sign is a share or a distance of shares.
    low, high = (x if signed else min(max(x, 0.0), 1.0) for x in (estimate.low, estimate.high))
    return f"{estimate.value:{form}} ({low:{form}} to {high:{form}}, {number})"


def side(estimate: OverSeeds, words: tuple[str, str, str], scale: Scale) -> str:
    """Returns the word for an interval above, below, or around 0; the last while seeds are missing.

    A seed more may turn what some of them say: they differ by more than their images do.
    """
    if len(estimate.values) < scale.seeds:
        return words[2]
    return words[0] if estimate.low > 0 else words[1] if estimate.high < 0 else words[2]


def _floor(below: dict[str, float], scale: Scale) -> str:
    names = ", ".join(f"{name} ({value:.2%})" for name, value in below.items())
    return f"Below the floor of {scale.floor:.0%} clean accuracy, and in no conclusion: {names}."


def _nearest(found: Sequence[Row], scale: Scale) -> str:
    row = measures.nearest(found, "printed")
    outside = [
        f"{split} ratio"
        for split, ours, theirs in zip(
            ("test", "train"), (row.test, row.train), TARGETS["printed"], strict=True
        )
        if not ours.low <= theirs <= ours.high
    ]
    verdict = (
        f"The paper's {' and '.join(outside)} {'lies' if len(outside) == 1 else 'lie'} outside."
        if outside
        else "Both of the paper's ratios lie inside."
    )
    if len(row.seeds) < scale.seeds:
        verdict = "Whether the paper's ratios lie inside is open."
    return (
        f"Of {len(found)} readings of scheme and model, {row.title}, comes nearest to both ratios "
        f"as printed: test {shown(row.test, signed=False)}, the paper {P4['test_ratio']:.4f}; "
        f"train {shown(row.train, signed=False)}, the paper {P4['train_ratio']:.4f}; "
        f"{shown(row.distance['printed'], signed=False)} away, root mean square. {verdict}"
        f"{_of_seeds(len(row.seeds), scale)}"
    )


def _of_seeds(number: int, scale: Scale) -> str:
    return f" ({number} of {scale.seeds} seeds are run.)" if number < scale.seeds else ""


def _gap(found: Sequence[Row], scale: Scale) -> str:
    whole = [row for row in found if len(row.seeds) == scale.seeds]
    row = max(whole or found, key=lambda row: row.gap.value)
    reaches = [other for other in whole if other.gap.high >= GAP]
    verdict = (
        f"the interval of {len(reaches)} of {len(whole)} reaches it, so both of its numbers may "
        "come from one scheme"
        if reaches
        else f"no interval of {len(whole)} reaches it, so none of these readings gives both numbers"
        if whole
        else "no reading has all its seeds, so this is open"
    )
    return (
        f"Train less test is at most {shown(row.gap)} ({row.title}), in the paper {GAP:+.4f}: "
        f"{verdict}."
    )


def _conjecture(found: Sequence[Row], scale: Scale) -> str:
    printed, other = (measures.nearest(found, target) for target in TARGETS)
    ours, theirs = (
        dict(zip(row.seeds, row.distance[target].values, strict=True))
        for row, target in ((printed, "printed"), (other, "conjecture"))
    )
    seeds = sorted(ours.keys() & theirs.keys())
    nearer = over_seeds([ours[seed] - theirs[seed] for seed in seeds])
    verdict = side(
        nearer,
        ("So read, the paper is nearer to what is measured", "So read, it is farther", "Open"),
        scale,
    )
    return (
        "A conjecture that the paper does not state: were its test ratio the share that fails, "
        f"{TARGETS['conjecture'][0]:.4f} would withstand, and {other.title}, would come nearest: "
        f"test {shown(other.test, signed=False)}, train {shown(other.train, signed=False)}, "
        f"{shown(other.distance['conjecture'], signed=False)} away. That is nearer by "
        f"{shown(nearer)}. {verdict}."
    )


def _retrained(have: Sequence[Result], scheme: str, scale: Scale) -> list[str]:
    """Returns what training on robust images does, at equal epochs and at equal updates."""
    said = [_of_budget(have, scheme, scale, budget) for budget in ("epochs", "updates")]
    longer = measures.difference(have, "balanced-epochs", "balanced-updates", "robust")
    words = ("more robust", "less robust", "neither more nor less robust, as far as can be told")
    verdict = side(longer, words, scale)
    return [*said, f"M_B's images for more updates alone make it {verdict}: {shown(longer)}."]


def _of_budget(have: Sequence[Result], scheme: str, scale: Scale, budget: str) -> str:
    models = [result["models"] for result in have]
    updates = ", ".join(f"{m[f'robust-{budget}']['updates']:,}" for m in models)
    gain, of_random, of_balanced = (
        measures.difference(have, other, f"robust-{budget}", "robust")
        for other in ("M", f"random-{budget}", f"balanced-{budget}")
    )
    loss = measures.difference(have, "M", f"robust-{budget}", "accuracy")
    words = ("more robust than", "less robust than", "not to be told apart in robustness from")
    levels = ("above", "below", "not to be told apart from")
    return (
        f"{READINGS[scheme].title}, equal {budget} ({updates} updates, M's "
        f"{models[0]['M']['updates']:,}): M_R, trained on robust images alone, is "
        f"{side(gain, words, scale)} M, {shown(gain)}, in the paper {GAIN:+.4f}; it is "
        f"{side(of_random, words, scale)} M_C, as many at random, {shown(of_random)}, and "
        f"{side(of_balanced, words, scale)} M_B, as many of each class at random, "
        f"{shown(of_balanced)}. Its accuracy is {side(loss, levels, scale)} M's, {shown(loss)}, "
        f"in the paper {P4['robust_accuracy'] - P4['accuracy']:+.4f}."
        f"{_of_seeds(len(have), scale)}"
    )


def _figure4(have: Sequence[Result], scheme: str, scale: Scale) -> str:
    found = measures.figure4(have)
    together = found.pop("together")
    verdict = side(together, ("comes out", "is reversed", "is open"), scale)
    parts = [
        f"{label} {shown(estimate)}, p {_p_value(estimate.p_value)}"
        for label, estimate in found.items()
    ]
    return (
        f"Figure 4's claim, that class {P4['robust_class']} is more robust than "
        f"{', '.join(map(str, P4['fragile_classes']))}, {verdict} with {READINGS[scheme].title}: "
        f"{shown(together)} of its training images, p {_p_value(together.p_value)}. Against each, "
        f"p of three tests (Holm): {'; '.join(parts)}."
    )


def _p_value(value: float) -> str:
    return "-" if np.isnan(value) else "< 1e-99" if value < 1e-99 else f"{value:.1g}"


def robustness(result: Result, law: str, radius: str) -> rpr.Probabilistic:
    """Returns PR of the images that are correctly classified, at a radius of PRBench's cell."""
    labels = np.frombuffer(bytes.fromhex(result["labels"]["test"]), np.uint8).astype(np.int64)
    return rpr.probabilistic_robustness(
        np.asarray(result["failures"][law][radius]),
        result["num_draws"],
        labels,
        num_classes=int(labels.max()) + 1,
        counted=records.unpack_flags(result["clean"], len(labels)),
    )


def _prbench(result: Result) -> str:
    parts = []
    for radius in result["failures"]["truncated"]:
        published = BENCH["robustness"][radius]
        value, low, high = robustness(result, "truncated", radius).overall
        where = "above" if low > published else "below" if high < published else "level with"
        parts.append(
            f"PR({radius}) {value:.4f} ({low:.4f} to {high:.4f}), {where} PRBench's "
            f"{published:.4f}, {value - published:+.4f}"
        )
    about = result["net"]
    return (
        f"PRBench's MNIST row, {about['epochs']} epochs on {about['images']:,} images, clean "
        f"{about['accuracy']:.4f} to PRBench's {BENCH['accuracy']:.4f}: {'; '.join(parts)} "
        "(1 seed, intervals of its images)."
    )
