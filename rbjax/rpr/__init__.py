"""Randomized perturbation robustness: how many random perturbations a datapoint withstands (P4)."""

from __future__ import annotations

from rbjax.rpr.black_box import BlackBox, black_box
from rbjax.rpr.repeated import Repeated, score_repeatedly
from rbjax.rpr.scoring import Progress, Scores, score
from rbjax.rpr.stopping import Flattening
from rbjax.rpr.survival import RobustRatio, SurvivalCurves, robust_ratio, survival_curve

__all__ = [
    "BlackBox",
    "Flattening",
    "Progress",
    "Repeated",
    "RobustRatio",
    "Scores",
    "SurvivalCurves",
    "black_box",
    "robust_ratio",
    "score",
    "score_repeatedly",
    "survival_curve",
]
