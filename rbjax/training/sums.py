"""What the steps of an epoch add up to."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from rbjax.training.method import ClassSums
from rbjax.training.step import StepMetrics


class EpochSums(NamedTuple):
    """What an epoch's log line is made of; a checkpoint inside an epoch keeps it."""

    loss: float = 0.0
    correct: int = 0
    examples: int = 0
    steps: int = 0
    finite: bool = True
    classes: Any = None
    """The arrays of `ClassSums`; None for a method that is not told of them."""

    def plus(self, step_metrics: StepMetrics | None) -> EpochSums:
        """Returns the sums with those of some more steps, still on the devices."""
        if step_metrics is None:
            return self
        loss, correct, examples, norm, classes = jax.device_get(step_metrics)
        if classes is not None:
            classes = [np.sum(x, axis=0, dtype=np.float64) for x in classes]
            if self.classes is not None:
                classes = [np.asarray(a) + b for a, b in zip(self.classes, classes, strict=True)]
        return EpochSums(
            loss=self.loss + float(np.sum(loss, dtype=np.float64)),
            correct=self.correct + int(np.sum(correct)),
            examples=self.examples + int(np.sum(examples)),
            steps=self.steps + len(loss),
            finite=self.finite and bool(np.all(np.isfinite(loss)) and np.all(np.isfinite(norm))),
            classes=classes,
        )

    def by_class(self) -> ClassSums | None:
        """Returns the sums of each class; None for a method that is not told of them."""
        if self.classes is None:
            return None
        return ClassSums(*(np.asarray(x, np.float64) for x in self.classes))

    def means(self) -> dict[str, float]:
        """Returns the epoch's loss and accuracy, as they are logged."""
        return {
            "train/loss": self.loss / self.steps,
            "train/accuracy": self.correct / self.examples,
        }
