"""Results as tables, plots and files: those of calls, and those of run directories."""

import contextlib
import os
import sys

from rbjax.analysis.evaluation import read_report
from rbjax.analysis.report import rehearse, report
from rbjax.analysis.results import columns, plot, table, to_pandas
from rbjax.analysis.saving import load, save
from rbjax.analysis.tables import format_classwise, write_csv
from rbjax.analysis.views import gallery, plot_epsilons, plot_heat_map, plot_passes, plot_severities

__all__ = [
    "columns",
    "format_classwise",
    "gallery",
    "load",
    "plot",
    "plot_epsilons",
    "plot_heat_map",
    "plot_passes",
    "plot_severities",
    "read_report",
    "rehearse",
    "report",
    "save",
    "table",
    "to_pandas",
    "write_csv",
]

if (backend := os.environ.get("MPLBACKEND")) and "matplotlib" not in sys.modules:
    # Jupyter and Colab hand theirs down to what they start. Where it is not installed there,
    # `import matplotlib` fails by it; nothing here needs a backend.
    del os.environ["MPLBACKEND"]
    with contextlib.suppress(ImportError):
        import matplotlib

        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = backend
    os.environ["MPLBACKEND"] = backend
