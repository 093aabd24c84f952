"""Metrics of classifiers, per class always: counts, and what follows from them."""

from rbjax.metrics.classwise import (
    ClasswiseMetrics,
    classwise,
    confusion_matrix,
    from_confusion,
    stack_confusions,
    summarize,
)
from rbjax.metrics.corruption import (
    ALEXNET,
    Baseline,
    CorruptionErrors,
    corruption_errors,
    error_rates,
)
from rbjax.metrics.intervals import (
    SeedMean,
    clopper_pearson_interval,
    mean_over_seeds,
    wilson_interval,
)
from rbjax.metrics.resampling import resample_classes

__all__ = [
    "ALEXNET",
    "Baseline",
    "ClasswiseMetrics",
    "CorruptionErrors",
    "SeedMean",
    "classwise",
    "clopper_pearson_interval",
    "confusion_matrix",
    "corruption_errors",
    "error_rates",
    "from_confusion",
    "mean_over_seeds",
    "resample_classes",
    "stack_confusions",
    "summarize",
    "wilson_interval",
]
