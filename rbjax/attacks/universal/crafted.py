"""What crafting returns: plain data, which prints as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rbjax.attacks.outcome import Setting
from rbjax.sheet import Sheet, spoken
from rbjax.typing import Array


class UniversalResult(NamedTuple):
    """What crafting returns."""

    delta: Array
    """(H, W, C) float32, the perturbation."""
    loss: np.ndarray
    """(num_epochs,) the mean (clipped) loss that was climbed, over each epoch's steps."""
    forwards: int
    """Passes of one image forwards through the model."""
    backwards: int
    """And backwards."""
    setting: Setting
    """Norm, epsilon and epochs."""

    @property
    def sheet(self) -> Sheet:
        """An epoch a row."""
        return crafted_sheet("craft_universal", self, {"loss": self.loss.tolist()}, plain=("loss",))

    def __repr__(self) -> str:
        return repr(self.sheet)


class ClasswiseResult(NamedTuple):
    """What crafting for each class returns."""

    delta: Array
    """(K, H, W, C) float32, each class's perturbation; 0 for a class without images."""
    loss: np.ndarray
    """(K, num_epochs) as for one perturbation; NaN for a class without images."""
    forwards: int
    """Passes of one image forwards through the model, over all classes."""
    backwards: int
    """And backwards."""
    setting: Setting
    """Norm, epsilon and epochs."""

    @property
    def sheet(self) -> Sheet:
        """An epoch a row, a class a column."""
        columns = {f"loss of {label}": loss.tolist() for label, loss in enumerate(self.loss)}
        return crafted_sheet("craft_universal_classwise", self, columns, plain=[*columns])

    def __repr__(self) -> str:
        return repr(self.sheet)


class UniversalDeepFoolResult(NamedTuple):
    """What crafting returns."""

    delta: Array
    """(H, W, C) float32, the perturbation after the pass that fools most."""
    fooling_rate: np.ndarray
    """(P,) share of the images that are fooled after each of the passes that were made."""
    num_moves: np.ndarray
    """(P,) int64, images of each pass that moved the perturbation."""
    forwards: int
    """Passes of one image forwards through the model, those that measure among them."""
    backwards: int
    """And backwards."""
    setting: Setting
    """Norm, epsilon and passes over the images."""

    @property
    def sheet(self) -> Sheet:
        """A pass over the images a row."""
        rates = {"fooled": self.fooling_rate.tolist(), "moves": self.num_moves.tolist()}
        return crafted_sheet("craft_universal_deepfool", self, rates, plain=())

    def __repr__(self) -> str:
        return repr(self.sheet)


def crafted_sheet(
    call: str, result: Any, columns: Mapping[str, Sequence[float]], *, plain: Sequence[str]
) -> Sheet:
    """Returns the table of a crafting: an epoch, or a pass over the images, a row.

    Args:
        call: the function that crafted.
        result: what it returns: its setting, perturbation and passes.
        columns: a number an epoch, by heading.
        plain: those that are no ratios.
    """
    largest = float(np.max(np.abs(np.asarray(result.delta))))
    count = len(next(iter(columns.values())))
    return Sheet(
        f"{call}: {result.setting}; largest value {spoken(largest)}, {result.forwards:,} passes "
        f"forwards, {result.backwards:,} backwards",
        {"epoch": list(map(str, range(1, count + 1))), **columns},
        plain=plain,
    )
