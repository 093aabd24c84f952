"""The answer in words: which methods mitigate the bias and which amplify it, each by a number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from experiments.answers import Estimate
from experiments.rendezvous.plan import PLAIN
from experiments.rendezvous.results import Cohort, Place

TITLES = {
    "none": "no method",
    "augmix": "AugMix",
    "deepaugment_augmix": "DeepAugment + AugMix",
    "ant": "ANT",
    "universal": "UAT",
    "shared": "shared adversarial training",
}
OWN = {
    "augmix": "corruptions",
    "deepaugment_augmix": "corruptions",
    "ant": "corruptions",
    "universal": "universal",
    "shared": "universal",
}
"""What a method is to withstand."""
REMEDIES = {
    "class_balanced": "the class-balanced loss",
    "ldam_drw": "LDAM-DRW",
    "balanced_softmax": "balanced softmax",
    "logit_adjustment": "logit adjustment",
}
LEVELS = {
    "natural": "by nature",
    "linear": "at the linear level",
    "long_tailed": "at the long-tailed level",
    "linear_equal": "at the linear level of equal size",
    "long_tailed_equal": "at the long-tailed level of equal size",
}
BIASES = {
    "gap": "the gap between the thirds of classes with most and with fewest images",
    "balanced_accuracy": "what imbalance costs of balanced accuracy",
    "macro_f1": "what imbalance costs of macro F1",
}
Found = Mapping[str, Estimate | None]


def pairs(cohort: Cohort) -> list[tuple[str, str]]:
    """Returns levels of bias, each with the balanced one beside it; of equal size is the last."""
    levels, equal = cohort.levels, "balanced_equal"
    made = [(a, "balanced") for a in ("natural", "linear", "long_tailed")]
    made += [("natural", equal)] if "balanced" not in levels else []
    made += [("linear_equal", equal), (levels[-1], equal)]
    return [pair for pair in made if {*pair} <= {*levels}]


def bias(cohort: Cohort, method: str, pair: tuple[str, str], measure: str) -> Estimate | None:
    """Returns the bias of a method's networks, by a measure of BIASES, above 0 where there is one.

    The gap at a level less the gap of the same classes on balanced data; or the accuracy on
    balanced data less that at the level.
    """
    sign, name = (1, f"gap {pair[0]}") if measure == "gap" else (-1, measure)
    terms = [(sign, Place(pair[0], method)), (-sign, Place(pair[1], method))]
    return cohort.contrast([(float(weight), place) for weight, place in terms], name)


def change(cohort: Cohort, method: str, pair: tuple[str, str], measure: str) -> Estimate | None:
    """Returns what a method adds to the bias of networks trained without it."""
    sign, name = (1.0, f"gap {pair[0]}") if measure == "gap" else (-1.0, measure)
    terms = [
        (sign, Place(pair[0], method)),
        (-sign, Place(pair[1], method)),
        (-sign, Place(pair[0], "none")),
        (sign, Place(pair[1], "none")),
    ]
    return cohort.contrast(terms, name)


def effect(
    cohort: Cohort, level: str, method: str, measure: str, remedy: str = PLAIN
) -> Estimate | None:
    """Returns what a method adds to a measure at a level, both with the same remedy."""
    terms = [(1.0, Place(level, method, remedy)), (-1.0, Place(level, "none", remedy))]
    return cohort.contrast(terms, measure)


def remedied(cohort: Cohort, method: str, remedy: str, measure: str) -> Estimate | None:
    """Returns what a remedy adds to a measure of a method's networks at the long-tailed level."""
    level = cohort.levels[-1]
    terms = [(1.0, Place(level, method, remedy)), (-1.0, Place(level, method))]
    return cohort.contrast(terms, measure)


def side(found: Estimate | None) -> str:
    """Returns on which side of 0 an interval is: "up", "down", "open", or "missing".

    It is open while a seed is missing, which may turn it.
    """
    if found is None:
        return "missing"
    if found.seeds < found.wanted:
        return "open"
    return "up" if found.low > 0 else "down" if found.high < 0 else "open"


def sorted_by_side(found: Found, words: Mapping[str, str]) -> str:
    """Returns "amplify it: A +2.1 (+0.9 to +3.3); mitigate it: none; not told apart: B ...".

    Args:
        found: by what is shown.
        words: what "up", "down" and "open" are called.
    """
    sides: dict[str, list[str]] = {"up": [], "down": [], "open": [], "missing": []}
    for name, estimate in found.items():
        some = ""
        if estimate is not None and estimate.seeds < estimate.wanted:
            some = f", {estimate.seeds} of {estimate.wanted} seeds"
        text = name if estimate is None else f"{name} {estimate}{some}"
        sides[side(estimate)].append(text)
    parts = [f"{words[key]}: {', '.join(sides[key]) or 'none'}" for key in ("up", "down")]
    for key, word in (("open", words["open"]), ("missing", "missing")):
        parts += [f"{word}: {', '.join(sides[key])}"] if sides[key] else []
    return "; ".join(parts)


def overall(cohorts: Sequence[Cohort]) -> list[str]:
    """Returns the answer: of which data each method amplifies or mitigates the bias."""
    words = {"up": "amplified on", "down": "mitigated on", "open": "not told apart on"}
    lines = []
    for name, title in TITLES.items():
        if name != "none":
            found = {
                f"{cohort.dataset} ({cohort.network})": change(
                    cohort, name, pairs(cohort)[-1], "gap"
                )
                for cohort in cohorts
            }
            lines.append(f"**{title}**: the bias is {sorted_by_side(found, words)}.")
    return lines


def sentences(cohort: Cohort) -> list[str]:
    """Returns what follows from a dataset's and a network's cells."""
    if not cohort.results:
        return ["No cell is there yet that counts."]
    main = pairs(cohort)[-1]
    lines = [_without(cohort, main)]
    for measure in BIASES:
        lines.append(_answer(cohort, main, measure, "at equal size"))
    for pair in pairs(cohort)[:-1]:
        size = "at equal size" if pair[1] == "balanced_equal" else "P1's levels, of unequal size"
        lines.append(_answer(cohort, pair, "balanced_accuracy", size))
    lines += [_spread(cohort, level) for level in dict.fromkeys((main[0], main[1]))]
    lines.append(_robustness(cohort, main[0]))
    if any(key.remedy != PLAIN for key in cohort.results):
        lines += _remedies(cohort)
    return lines


def _methods(function: Callable[[str], Estimate | None]) -> dict[str, Estimate | None]:
    return {TITLES[name]: function(name) for name in TITLES if name != "none"}


def _without(cohort: Cohort, pair: tuple[str, str]) -> str:
    found = {words: bias(cohort, "none", pair, name) for name, words in BIASES.items()}
    words = {"up": "there is a bias by", "down": "the reverse of one by", "open": "none is told by"}
    return (
        f"Without a method, {LEVELS[pair[0]]}, beside balanced data of equal size: "
        f"{sorted_by_side(found, words)}."
    )


def _answer(cohort: Cohort, pair: tuple[str, str], measure: str, size: str) -> str:
    found = _methods(lambda name: change(cohort, name, pair, measure))
    words = {"up": "amplify it", "down": "mitigate it", "open": "not told apart from no method"}
    return f"Bias {LEVELS[pair[0]]} ({size}), by {BIASES[measure]}: {sorted_by_side(found, words)}."


def _spread(cohort: Cohort, level: str) -> str:
    found = _methods(lambda name: effect(cohort, level, name, "spread"))
    words = {"up": "widened by", "down": "narrowed by", "open": "not told apart"}
    where = LEVELS.get(level, "on balanced data of equal size")
    return f"Class spread {where}: {sorted_by_side(found, words)}."


def _robustness(cohort: Cohort, level: str) -> str:
    found = _methods(lambda name: effect(cohort, level, name, OWN[name]))
    words = {"up": "more robust with", "down": "less robust with", "open": "not told apart"}
    return (
        f"Robustness {LEVELS[level]}, to corruptions or to a universal perturbation, whichever the "
        f"method is for: {sorted_by_side(found, words)}."
    )


def _remedies(cohort: Cohort) -> list[str]:
    """Returns whether remedies survive robust training, and whether that survives remedies."""
    crossed = dict.fromkeys(key.method for key in cohort.results if key.remedy != PLAIN)
    used = dict.fromkeys(key.remedy for key in cohort.results if key.remedy != PLAIN)
    robust, lines = [name for name in TITLES if name in crossed and name != "none"], []
    words = {"up": "survives", "down": "does harm with", "open": "not told from nothing with"}
    gains = {"up": "gains", "down": "loses", "open": "gains nothing that can be told"}
    for remedy in used:
        alone = remedied(cohort, "none", remedy, "balanced_accuracy")
        verdict = {**gains, "missing": "is missing"}[side(alone)]
        found: Found = {
            TITLES[name]: remedied(cohort, name, remedy, "balanced_accuracy") for name in robust
        }
        lines.append(
            f"Without a method {REMEDIES[remedy]} {verdict}{'' if alone is None else f': {alone}'} "
            f"points of balanced accuracy; {sorted_by_side(found, words)}."
        )
    words = {"up": "survives", "down": "is reversed with", "open": "not told from nothing with"}
    for name in robust:
        alone = effect(cohort, cohort.levels[-1], name, OWN[name])
        verdict = {**gains, "missing": "is missing"}[side(alone)]
        found = {
            REMEDIES[remedy]: effect(cohort, cohort.levels[-1], name, OWN[name], remedy)
            for remedy in used
        }
        against = "a universal perturbation" if OWN[name] == "universal" else "corruptions"
        lines.append(
            f"Under {against} {TITLES[name]} {verdict}{'' if alone is None else f': {alone}'} "
            f"points with cross-entropy; {sorted_by_side(found, words)}."
        )
    return lines
