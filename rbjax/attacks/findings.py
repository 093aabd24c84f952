"""What follows from the evidence on a model: one check a function, each with its tolerance.

A share of images fails a check where it is above the tolerance beyond chance (the lower bound of
its interval is), so that one image more or less is no alarm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from rbjax.attacks.probe import EPSILONS, FEW_STEPS, MANY_STEPS, Evidence
from rbjax.classifier import predicted
from rbjax.metrics.intervals import clopper_pearson_interval
from rbjax.sheet import Sheet, spoken

CONFIDENCE = 0.999
"""One-sided, of every bound that a tolerance is held against."""
DARK = 0.05
"""Images without any brighter value were divided by 255 twice."""
SAME = 1e-3
"""Of the spread of the logits: what rounding can explain."""
TOLERANCES = {
    "randomness": 0.05,
    "zero_gradients": 0.01,
    "saturation": 0.1,
    "more_steps": 0.01,
    "margin_growth": 0.15,
    "large_epsilon": 0.05,
    "smoothed_gradients": 0.01,
    "black_box": 0.01,
    "transfer": 0.01,
}
"""Shares of the correctly classified images, but in "randomness".

Of 14 healthy models in 16 settings (linear, MLP, CNN; standard, adversarially and very robustly
trained; 2, 10 and 100 classes; three radii), 200 images and 20 keys each in l-inf, the largest
shares were 0.10 for "saturation", 0.04 for "margin_growth", 0.02 for "smoothed_gradients" and 0.01
or less for the rest; none failed. (That was with 4 noisy images and epsilon / 4 besides.) In l2
0.03 for "black_box"; in l1, where few pixels move in a step, 0.15 for "margin_growth" and 0.07 for
"large_epsilon". Where gradients are of no use, a third to all of the margins do not grow.
"""


class Finding(NamedTuple):
    """The result of one check."""

    name: str
    passed: bool
    value: float
    """The number that it judged by, a share of images where not said otherwise."""
    seen: str
    """That number in words."""
    advice: str
    """What to do; empty if it passed."""


class Findings(list[Finding]):
    """The findings on a model, one a check; `print` them for a table with advice."""

    norm: str
    epsilon: float
    num_examples: int
    """That were looked at."""

    def __init__(
        self, findings: Iterable[Finding], *, norm: str, epsilon: float, num_examples: int
    ) -> None:
        super().__init__(findings)
        self.norm, self.epsilon, self.num_examples = norm, epsilon, num_examples

    @property
    def failed(self) -> list[Finding]:
        """Those that failed."""
        return [finding for finding in self if not finding.passed]

    @property
    def sheet(self) -> Sheet:
        """A check a row."""
        advice = "".join(f"\n{one.name} -> {one.advice}" for one in self.failed)
        return Sheet(
            f"diagnose: {self.norm}, epsilon {spoken(self.epsilon)}, {self.num_examples:,} images; "
            f"{len(self.failed) or 'none'} of {len(self)} checks failed{advice}",
            {
                "check": [finding.name for finding in self],
                "verdict": ["ok" if finding.passed else "FAILED" for finding in self],
                "value": [finding.value for finding in self],
                "seen": [finding.seen for finding in self],
            },
            plain=("value",),
        )

    def __repr__(self) -> str:
        return repr(self.sheet)


def _finding(name: str, passed: bool, value: float, seen: str, advice: str) -> Finding:
    return Finding(name, bool(passed), float(value), seen, "" if passed else advice)


def _bounds(count: int, total: int) -> tuple[float, float]:
    """Returns the one-sided bounds of a proportion."""
    low, high = clopper_pearson_interval(count, total, 2 * CONFIDENCE - 1)
    return float(low), float(high)


def _of_right(
    name: str, evidence: Evidence, counted: np.ndarray, what: str, advice: str
) -> Finding:
    """Returns the finding on a share of the images that are correctly classified."""
    count, total = int(np.sum(counted & evidence.right)), int(np.sum(evidence.right))
    if total == 0:
        return Finding(name, True, 0.0, "no image is correctly classified: nothing to attack", "")
    passed = _bounds(count, total)[0] <= TOLERANCES[name]
    seen = f"{count} of {total} images {what}"
    return _finding(name, passed, count / total, seen, advice)


def _above_half(count: int, total: int) -> bool:
    """Returns whether more than half of the images that differ do so in one direction."""
    return total > 0 and _bounds(count, total)[0] > 0.5


def pixel_range(evidence: Evidence) -> Finding:
    """The images use the range [0, 1]; the value is the largest one."""
    largest = evidence.largest_pixel
    return _finding(
        "pixel_range",
        largest > DARK,
        largest,
        f"the largest value of the images is {largest:.3g}",
        "the images look divided by 255 twice; give uint8, or floating images that fill [0, 1]",
    )


def finite(evidence: Evidence) -> Finding:
    """Logits and gradients are numbers; a logit may be -inf, that of a class that is masked."""
    is_number = np.isfinite(evidence.logits)
    parts = [np.all(is_number | np.isneginf(evidence.logits), axis=1) & is_number.any(axis=1)]
    parts += [np.isfinite(size) for size in evidence.gradients.values()]
    count, total = int(np.sum(~np.all(parts, axis=0))), len(evidence.labels)
    return _finding(
        "finite",
        count == 0,
        count / total,
        f"{count} of {total} images have logits or gradients that are not finite",
        "an attack fails or succeeds on them by accident; look for overflow, log(0), a square root "
        "or a division at 0 in the model",
    )


def clean_accuracy(evidence: Evidence) -> Finding:
    """More images are correctly classified than a guess would be, beyond chance.

    A guess is one class at random, or always the one with the most images; of images of one class
    alone the second says nothing of the model.
    """
    total, num_classes = evidence.logits.shape
    count, largest = int(np.sum(evidence.right)), int(np.max(np.bincount(evidence.labels)))
    guessed = max(1 / num_classes, largest / total if largest < total else 0.0)
    low, high = _bounds(count, total)
    advice = (
        "no better than guessing, as far as so many images tell: robustness of a model that "
        "recognises nothing means nothing; look whether it is trained and its weights are the "
        "right ones, at the order of the labels and the normalisation, or give more images"
    )
    if high < 1 / num_classes:
        advice = (
            "worse than guessing: the labels' order or the normalisation does not belong to this "
            "model"
        )
    seen = f"{count} of {total} images are correctly classified as they are; {num_classes} classes"
    if largest * num_classes > total and largest < total:
        seen += f", {largest} images are of the largest"
    return _finding("clean_accuracy", low > guessed, count / total, seen, advice)


def probabilities(evidence: Evidence) -> Finding:
    """The answers are logits; the value is the share of rows that are probabilities."""
    logits = evidence.logits
    inside = np.all((logits >= 0) & (logits <= 1), axis=1)
    rows = inside & (np.abs(np.sum(np.where(inside[:, None], logits, 0), axis=1) - 1) < SAME)
    share = float(np.mean(rows))
    return _finding(
        "probabilities",
        share < 0.5,
        share,
        f"{np.sum(rows)} of {len(rows)} rows of logits lie in [0, 1] and add up to 1",
        "the model returns probabilities, whose gradients vanish; return what goes into the "
        "softmax, or the logarithm of the probabilities",
    )


def _changes(evidence: Evidence, others: np.ndarray) -> np.ndarray:
    """Returns how far each image's logits move, of their spread; NaN where unknown."""
    with np.errstate(invalid="ignore"):
        spreads, moved = np.ptp(evidence.logits, axis=1), np.abs(others - evidence.logits)
    spread = np.mean(spreads, where=np.isfinite(spreads)) if np.isfinite(spreads).any() else 0.0
    return np.max(moved, axis=1) / max(float(spread), np.finfo(np.float32).tiny)


def randomness(evidence: Evidence) -> Finding:
    """The same images get the same answers, or of a randomised model the same classes."""
    total, draws = len(evidence.labels), evidence.num_samples
    if draws is None:
        count = int(np.sum(_changes(evidence, evidence.again) > SAME))
        return _finding(
            "randomness",
            count == 0,
            count / total,
            f"{count} of {total} images get other logits when asked again",
            "the model is random and hides it; give its randomness a key and wrap it: "
            "attacks.randomized(fn, num_samples=20), fn(keys, images)",
        )
    classes = [predicted(logits) for logits in (evidence.logits, evidence.again)]
    count = int(np.sum(classes[0] != classes[1]))
    return _finding(
        "randomness",
        _bounds(count, total)[0] <= TOLERANCES["randomness"],
        count / total,
        f"{count} of {total} images change their class with other draws, {draws} an answer",
        "what is attacked and what is judged is mostly noise; take more draws: "
        f"attacks.randomized(fn, num_samples={max(20, 10 * draws)})",
    )


def batch_dependence(evidence: Evidence) -> Finding:
    """An image's logits do not depend on its batch; the value is the largest relative change."""
    changes = _changes(evidence, evidence.beside)
    finite = changes[np.isfinite(changes)]
    largest = float(np.max(finite, initial=0.0))
    return _finding(
        "batch_dependence",
        largest <= SAME,
        largest,
        f"beside other images the logits change by at most {largest:.2g} of their spread",
        "an image's answer depends on its batch, as with batch norm in training mode; attack the "
        "model as it is deployed, with its running statistics",
    )


def zero_gradients(evidence: Evidence) -> Finding:
    """Cross-entropy has a gradient at the images that are correctly classified."""
    sizes = evidence.gradients
    is_zero = sizes["cross_entropy"] == 0
    flat = int(np.sum(is_zero & (sizes["margin"] == 0) & evidence.right))
    if 2 * flat > np.sum(is_zero & evidence.right):
        advice = (
            f"for {flat} of them the margin's gradient is 0 as well: look in the model for "
            "stop_gradient, rounding, argmax or steps; replace their derivative (BPDA) or attack "
            "with square"
        )
    else:
        advice = (
            "cross-entropy underflows on so sure a model; attack with loss='margin' or 'dlr', "
            "with logits in float32"
        )
    return _of_right("zero_gradients", evidence, is_zero, "have a gradient of exactly 0", advice)


def saturation(evidence: Evidence) -> Finding:
    """Climbing the margin fools few images that climbing cross-entropy does not."""
    return _of_right(
        "saturation",
        evidence,
        evidence.fooled["margin"] & ~evidence.fooled["cross_entropy"],
        "are fooled by climbing the margin and not by climbing cross-entropy",
        "PGD on cross-entropy overstates the robustness; attack with loss='margin' or 'dlr', or "
        "with run_autoattack",
    )


def more_steps(evidence: Evidence) -> Finding:
    """More steps leave no more images unfooled; the value is by how many more, of those correct."""
    few, many = evidence.few_fooled & evidence.right, evidence.many_fooled & evidence.right
    lost, won = int(np.sum(few & ~many)), int(np.sum(many & ~few))
    finding = _of_right(
        "more_steps",
        evidence,
        few & ~many,
        f"are fooled by {FEW_STEPS} steps and not by {MANY_STEPS}, {won} the other way round",
        "small steps are led astray: the gradients are noisy or masked; average them over noise "
        "(see smoothed_gradients) and trust square more than PGD",
    )
    value = (lost - won) / max(int(np.sum(evidence.right)), 1)
    passed = finding.passed or not _above_half(lost, lost + won)
    return _finding("more_steps", passed, value, finding.seen, finding.advice)


def margin_growth(evidence: Evidence) -> Finding:
    """The larger epsilon, the nearer PGD comes to a mistake; the value is of the worst pair."""
    held = evidence.margins[1:] <= evidence.margins[:-1]
    worst = int(np.argmax(np.sum(held & evidence.right, axis=1)))
    radii = (0.0, *EPSILONS)
    return _of_right(
        "margin_growth",
        evidence,
        held[worst],
        f"come no nearer to a mistake at {radii[worst + 1]:g} epsilon than at {radii[worst]:g}",
        "PGD does not climb: the gradient has the wrong sign, is 0 or is noise; compare it with "
        "finite differences",
    )


def large_epsilon(evidence: Evidence) -> Finding:
    """Without a ball, every image can become one of another class, and none stays right."""
    if len(np.unique(predicted(evidence.logits))) == 1:
        seen = "the model says the same class of all images: nothing else in reach is known"
        return Finding("large_epsilon", True, 0.0, seen, "")
    return _of_right(
        "large_epsilon",
        evidence,
        ~evidence.large_fooled,
        "stay right where every image is within epsilon",
        "they cannot be robust to that, so PGD does not find what is there; trust none of its "
        "numbers on this model before its gradients are mended",
    )


_RIVALS = {
    "smoothed_gradients": (
        "are fooled along gradients averaged over noise and by nothing else",
        "the gradients are shattered; average them over noisy copies of the image: "
        "attacks.randomized over Gaussian noise as the model to craft on",
    ),
    "black_box": (
        "are fooled without gradients and not with them",
        "the gradients are masked (zero, wrong or noise): report square and run_autoattack, not "
        "PGD; find what hides the gradient and replace its derivative (BPDA)",
    ),
    "transfer": (
        "are fooled by what was crafted on the source and not on the model itself",
        "its own gradients lead less far than another model's: they are masked; report the "
        "transferred attack too, and find what hides the gradient",
    ),
}


def rivals(evidence: Evidence) -> list[Finding]:
    """Attacks that know less fool next to nothing that PGD on two losses does not fool."""
    findings = []
    for name, rival in evidence.rivals.items():
        what, advice = _RIVALS[name]
        finding = _of_right(name, evidence, rival.fooled, what, advice)
        # Asking a randomised model again fools it about as often.
        by_chance = int(np.sum(rival.by_chance & ~rival.fooled & evidence.right))
        alone = int(np.sum(rival.fooled & ~rival.by_chance & evidence.right))
        if evidence.num_samples is not None and not finding.passed:
            passed = not _above_half(alone, alone + by_chance)
            finding = _finding(name, passed, finding.value, finding.seen, advice)
        findings.append(finding)
    return findings


CHECKS: tuple[Callable[[Evidence], Finding], ...] = (
    pixel_range,
    finite,
    clean_accuracy,
    probabilities,
    randomness,
    batch_dependence,
    zero_gradients,
    saturation,
    more_steps,
    margin_growth,
    large_epsilon,
)


def judge(evidence: Evidence) -> list[Finding]:
    """Returns every check's finding."""
    return [check(evidence) for check in CHECKS] + rivals(evidence)
