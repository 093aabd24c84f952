"""When to stop drawing before the last draw: rules on what has been seen."""

from __future__ import annotations

import dataclasses

import numpy as np

from rbjax import checks


@dataclasses.dataclass(frozen=True)
class Flattening:
    """Stops where the survival curve has become flat, P4's early stop.

    After every `window` draws: S(t - window) - S(t) <= tolerance.

    Source:
        Ilie, Popescu and Stefanescu 2020, section 2.3 (P4): "discovering images which are not
        robust eventually flattens". The paper gives no rule; window and tolerance are ours.
    """

    window: int = 25
    """Draws between two looks."""
    tolerance: float = 0.005
    """The largest share of all images that may fail within a window of a flat curve."""

    def __post_init__(self) -> None:
        checks.integer("window", self.window, low=1)
        checks.real("tolerance", self.tolerance, high=1.0)

    def is_flat(self, survival: np.ndarray) -> bool:
        """Returns whether to stop at the last point of a survival curve.

        Args:
            survival: (t + 1,) the share of images that withstood 0 to t draws.

        Returns:
            Whether its last `window` draws took no more than `tolerance` away; False for shorter
            curves.
        """
        if len(survival) <= self.window:
            return False
        return bool(survival[-1 - self.window] - survival[-1] <= self.tolerance)
