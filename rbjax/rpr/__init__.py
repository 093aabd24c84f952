"""Randomized perturbation robustness: how many random perturbations a datapoint withstands (P4)."""

from __future__ import annotations

from rbjax.rpr.scoring import Progress, Scores, score
from rbjax.rpr.survival import RobustRatio, SurvivalCurves, robust_ratio, survival_curve

__all__ = [
    "Progress",
    "RobustRatio",
    "Scores",
    "SurvivalCurves",
    "robust_ratio",
    "score",
    "survival_curve",
]
