"""The figure: which models agree, and what the variance belongs to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from experiments.datapoints.inherent.findings import Findings
from rbjax.analysis.figures import save
from rbjax.analysis.plots import COLOURS

_SPOKEN = {
    "datapoint": "datapoint",
    "family": "family",
    "seed": "seed",
    "datapoint_family": "datapoint\nby family",
    "residual": "datapoint by seed,\nand noise",
}


def draw(path: Path, findings: Findings, families: tuple[str, ...], title: str) -> None:
    """Draws correlation matrix and variance shares side by side.

    Args:
        path: the picture, `.png`, `.pdf` or `.svg`.
        findings: of `findings.find`.
        families: their names.
        title: what stands above.
    """
    figure = Figure(figsize=(12.5, 5.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.1, 1))
    _draw_correlations(left, np.asarray(findings["correlations"]), families, findings["num_seeds"])
    _draw_shares(right, findings)
    figure.suptitle(title)
    save(figure, path)


def _draw_correlations(
    axes: Axes, matrix: np.ndarray, families: tuple[str, ...], num_seeds: int
) -> None:
    image = axes.imshow(matrix, vmin=0, vmax=1, cmap="viridis")
    for (row, column), value in np.ndenumerate(matrix):
        if row != column and np.isfinite(value):
            colour = "black" if value > 0.6 else "white"
            text = f"{value:.2f}".replace("0.", ".")
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    centres = np.arange(len(families)) * num_seeds + (num_seeds - 1) / 2
    axes.set_xticks(centres, families)
    axes.set_yticks(centres, families, rotation=90, va="center")
    axes.tick_params(length=0)
    for edge in np.arange(1, len(families)) * num_seeds - 0.5:
        axes.axhline(edge, color="white", linewidth=2)
        axes.axvline(edge, color="white", linewidth=2)
    axes.set_title("Rank correlation of failure probabilities")
    axes.figure.colorbar(image, ax=axes, shrink=0.85)


def _draw_shares(axes: Axes, findings: Findings) -> None:
    cells = findings["shares"]
    values, low, high = (
        np.array([cell[part] for cell in cells.values()]) for part in ("value", "low", "high")
    )
    reach = np.maximum([values - low, high - values], 0)
    colours = [COLOURS[0] if name == "datapoint" else "#999999" for name in cells]
    places = np.arange(len(values))
    axes.bar(places, values, color=colours)
    axes.errorbar(places, values, reach, fmt="none", ecolor="black", capsize=4)
    for place, value, top in zip(places, values, high, strict=True):
        axes.annotate(f"{value:.0%}", (place, top), (0, 4), textcoords="offset points", ha="center")
    axes.set_xticks(places, [_SPOKEN[name] for name in cells], fontsize=9)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_axisbelow(True)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title("Variance of log failure probability, 95 % bootstrap intervals")
