"""The findings from the measured failures: numbers, a table, and one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.datapoints.inherent.models import Measured
from rbjax.rpr import agreement
from rbjax.rpr.estimators import count_draws, log_failure_probability

Findings = Mapping[str, Any]
"""What `find` returns: plain numbers, lists and mappings."""

MOSTLY = 0.5
"""Robustness is mostly the datapoint's own with more of the variance than this."""
HARDLY = 0.2
"""And hardly with less than this."""


def find(measured: Measured, max_steps: int, *, num_resamples: int) -> Findings:
    """Returns how much models agree on the datapoints.

    Args:
        measured: the first failures of N datapoints under F families of S seeds, R repetitions.
        max_steps: T, draws of a repetition.
        num_resamples: of the bootstrap over datapoints.

    Returns:
        "within" and "between" families and "kappa", each {"value", "low", "high"}; "shares" the
        same for each of `agreement.COMPONENTS`; "cut" components; "correlations" (F S, F S);
        "other_draws", the correlations where each of two models had draws of its own; counts.
    """
    F, S, N, R = measured.first_failure.shape
    values = _log_probabilities(measured.first_failure, max_steps)
    # P4's flag is of one repetition.
    flags = measured.first_failure[..., 0] > max_steps
    ranks, shares = agreement.rank_correlation(values), agreement.variance_shares(values)
    kappas = agreement.cohen_kappa(flags)
    interval = agreement.bootstrap_agreement(values, flags, num_resamples=num_resamples)
    components = zip(agreement.COMPONENTS, shares.shares, *interval.shares, strict=True)
    return {
        "num_datapoints": N,
        "num_families": F,
        "num_seeds": S,
        "repetitions": R,
        "max_steps": max_steps,
        "num_resamples": num_resamples,
        "correlations": ranks.matrix,
        "within": _with_interval(ranks.within, interval.within),
        "between": _with_interval(ranks.between, interval.between),
        "other_draws": _with_other_draws(measured.first_failure, max_steps),
        "kappa": _with_interval(agreement.fleiss_kappa(flags), interval.kappa),
        "cohen": {"within": kappas.within, "between": kappas.between},
        "shares": {name: _with_interval(share, ends) for name, share, *ends in components},
        "cut": list(shares.cut),
        "robust": np.mean(flags, axis=(1, 2)),
        "never_failed": np.mean(np.all(measured.first_failure > max_steps, axis=(1, 3))),
        "accuracy": np.mean(measured.clean_correct, axis=(1, 2)),
        "seconds": measured.seconds,
    }


def verdict(findings: Findings) -> str:
    """Returns "mostly", "partly" or "hardly": how much of robustness belongs to the datapoint.

    Mostly: the interval of the datapoint's share of the variance lies above `MOSTLY`. Hardly: it
    lies below `HARDLY`. Partly: neither.
    """
    own = findings["shares"]["datapoint"]
    if own["low"] > MOSTLY:
        return "mostly"
    return "hardly" if own["high"] < HARDLY else "partly"


def sentence(findings: Findings) -> str:
    """Returns the answer in one sentence, computed from the numbers."""
    shares = findings["shares"]
    families = shares["family"]["value"] + shares["datapoint_family"]["value"]
    seeds = shares["seed"]["value"] + shares["residual"]["value"]
    return (
        f"Robustness is {verdict(findings)} a property of the datapoint: of the variance of log "
        f"failure probabilities {_per_cent(shares['datapoint'])} belongs to the datapoint, "
        f"{families:.0%} to the family (alone and with the datapoint) and {seeds:.0%} to the seed "
        f"(likewise, noise included), and the datapoints' ranks correlate with "
        f"{_number(findings['within'])} within families and {_number(findings['between'])} between "
        f"them ({findings['num_datapoints']:,} images, {findings['num_families']} families of "
        f"{findings['num_seeds']} seeds; 95 % intervals over images)."
    )


def table(findings: Findings, families: tuple[str, ...]) -> str:
    """Returns the numbers as text."""
    lines = [f"{'':<34}{'value':>8}  95 % interval over images"]
    rows = {
        "rank correlation within families": findings["within"],
        "rank correlation between families": findings["between"],
        "Fleiss' kappa of the robust flags": findings["kappa"],
        **{f"variance share: {name}": cell for name, cell in findings["shares"].items()},
    }
    for name, cell in rows.items():
        lines.append(f"{name:<34}{_or_dash(cell['value']):>8}  {_ends(cell)}")
    cohen, other = findings["cohen"], findings["other_draws"]
    lines += [
        f"Cohen's kappa, mean over pairs: {_or_dash(cohen['within'])} within families, "
        f"{_or_dash(cohen['between'])} between",
        f"rank correlation of halves of the repetitions: {_or_dash(other['same_within'])} within "
        f"families and {_or_dash(other['same_between'])} between with the same draws, "
        f"{_or_dash(other['other_within'])} and {_or_dash(other['other_between'])} with others",
    ]
    if findings["cut"]:
        lines.append(f"estimated below 0 and cut there: {', '.join(findings['cut'])}")
    for family, accuracy, robust in zip(
        families, findings["accuracy"], findings["robust"], strict=True
    ):
        lines.append(f"{family:<12} accuracy {accuracy:.2%}, robust {robust:.4f}")
    return "\n".join(lines)


def _log_probabilities(first_failure: np.ndarray, max_steps: int) -> np.ndarray:
    """Returns log10 failure probabilities (F, S, N) of (F, S, N, R)."""
    counts = count_draws(first_failure.reshape(-1, first_failure.shape[-1]), max_steps)
    return log_failure_probability(*counts).reshape(first_failure.shape[:-1])


def _with_other_draws(first_failure: np.ndarray, max_steps: int) -> dict[str, float]:
    """Returns correlations of halves of the repetitions: with the same draws, and with others.

    Common draws make models more similar; if that mattered, the two would differ. One
    repetition cannot be halved: NaN.
    """
    half = first_failure.shape[-1] // 2
    names = ("same_within", "same_between", "other_within", "other_between")
    if half == 0:
        return dict.fromkeys(names, float("nan"))
    first, second = (
        _log_probabilities(part, max_steps)
        for part in (first_failure[..., :half], first_failure[..., half : 2 * half])
    )
    F, S, _ = first.shape
    both = agreement.rank_correlation(np.concatenate([first, second], axis=1)).matrix
    both = both.reshape(F, 2, S, F, 2, S)
    family, seed = np.indices((F, S)).reshape(2, -1)
    pairs = {
        "within": (family[:, None] == family) & (seed[:, None] != seed),
        "between": family[:, None] != family,
    }
    same = (both[:, 0, :, :, 0] + both[:, 1, :, :, 1]).reshape(F * S, F * S) / 2
    other = both[:, 0, :, :, 1].reshape(F * S, F * S)
    means = [
        float(matrix[pair].mean()) if pair.any() else float("nan")
        for matrix in (same, other)
        for pair in pairs.values()
    ]
    return dict(zip(names, means, strict=True))


def _with_interval(value: float, ends: Any) -> dict[str, float]:
    return {"value": float(value), "low": float(ends[0]), "high": float(ends[1])}


def _per_cent(cell: Mapping[str, float]) -> str:
    return f"{cell['value']:.0%} ({cell['low']:.0%} to {cell['high']:.0%})"


def _number(cell: Mapping[str, float]) -> str:
    return f"{cell['value']:.2f} ({cell['low']:.2f} to {cell['high']:.2f})"


def _or_dash(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"


def _ends(cell: Mapping[str, float]) -> str:
    return f"{_or_dash(cell['low'])} to {_or_dash(cell['high'])}"
