"""The readings of "altering a pixel count of at most the square root of the number of pixels"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from rbjax import perturbations
from rbjax.perturbations.pixels import VALUES, Values
from rbjax.typing import Perturbation


class Reading(NamedTuple):
    """One way to read P4's scheme."""

    exactly: bool
    """k pixels, or a uniform number from 1 to k."""
    replace: bool
    """Whether a pixel may be drawn twice."""
    values: Values
    """The law of a new value."""

    @property
    def name(self) -> str:
        """A name for files and tables, such as exactly-distinct-uniform."""
        count = "exactly" if self.exactly else "at_most"
        return f"{count}-{'repeated' if self.replace else 'distinct'}-{self.values}"

    @property
    def title(self) -> str:
        """A name for people."""
        count = "exactly" if self.exactly else "at most"
        drawn = "drawn with replacement" if self.replace else "distinct"
        return f"{count} k pixels, {drawn}, {self.values} values"

    def perturbation(self) -> Perturbation:
        """Returns the scheme itself; k is the floor of the square root of the pixel count."""
        return perturbations.random_pixels(
            exactly=self.exactly, replace=self.replace, values=self.values
        )


READINGS = {
    reading.name: reading
    for reading in (
        Reading(exactly, replace, values)
        for exactly in (False, True)
        for replace in (False, True)
        for values in VALUES
    )
}
"""Every reading by name."""


def nearest(ratios: Mapping[str, float], target: float) -> list[str]:
    """Returns the names of ratios, the one nearest to a target first.

    Args:
        ratios: name -> ratio in [0, 1].
        target: the ratio to be near to.

    Returns:
        All names; of equally near ones the first stays first.
    """
    return sorted(ratios, key=lambda name: abs(ratios[name] - target))
