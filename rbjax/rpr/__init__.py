"""Randomized perturbation robustness: how many random perturbations a datapoint withstands (P4).

`score` draws; the other functions say what the draws mean, and take arrays.
"""

from __future__ import annotations

from rbjax.black_box import BlackBox, black_box
from rbjax.progress import Progress, progress_bar
from rbjax.rpr import agreement, closed_form, splitting
from rbjax.rpr.anytime import anytime_interval
from rbjax.rpr.class_bias import Bias, ClassBias, class_bias
from rbjax.rpr.comparison import Comparison, compare, compare_classes
from rbjax.rpr.drawn_error import DrawnError, error_against_draws
from rbjax.rpr.estimators import (
    capped_expectation,
    count_draws,
    expected_steps,
    failure_interval,
    failure_probability,
    failure_upper_bound,
    log_failure_probability,
    robust_probability,
)
from rbjax.rpr.heterogeneity import BetaGeometric, fit_beta_geometric
from rbjax.rpr.probabilistic import (
    Estimate,
    Failures,
    Probabilistic,
    count_failures,
    probabilistic_accuracy,
    probabilistic_robustness,
)
from rbjax.rpr.repeated import score_repeatedly
from rbjax.rpr.scores import Repeated, Scores
from rbjax.rpr.scoring import score
from rbjax.rpr.selection import Subset, random_subset, robust_subset
from rbjax.rpr.survival import (
    Curve,
    Flattening,
    KaplanMeier,
    RobustRatio,
    SurvivalCurves,
    kaplan_meier,
    robust_ratio,
    survival_curve,
)

__all__ = [
    "BetaGeometric",
    "Bias",
    "BlackBox",
    "ClassBias",
    "Comparison",
    "Curve",
    "DrawnError",
    "Estimate",
    "Failures",
    "Flattening",
    "KaplanMeier",
    "Probabilistic",
    "Progress",
    "Repeated",
    "RobustRatio",
    "Scores",
    "Subset",
    "SurvivalCurves",
    "agreement",
    "anytime_interval",
    "black_box",
    "capped_expectation",
    "class_bias",
    "closed_form",
    "compare",
    "compare_classes",
    "count_draws",
    "count_failures",
    "error_against_draws",
    "expected_steps",
    "failure_interval",
    "failure_probability",
    "failure_upper_bound",
    "fit_beta_geometric",
    "kaplan_meier",
    "log_failure_probability",
    "probabilistic_accuracy",
    "probabilistic_robustness",
    "progress_bar",
    "random_subset",
    "robust_probability",
    "robust_ratio",
    "robust_subset",
    "score",
    "score_repeatedly",
    "splitting",
    "survival_curve",
]
