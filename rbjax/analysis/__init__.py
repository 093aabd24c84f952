"""The results of runs as tables and plots."""

import contextlib
import os
import sys

from rbjax.analysis.evaluation import read_report
from rbjax.analysis.report import rehearse, report
from rbjax.analysis.tables import format_classwise, write_csv

__all__ = ["format_classwise", "read_report", "rehearse", "report", "write_csv"]

if (backend := os.environ.get("MPLBACKEND")) and "matplotlib" not in sys.modules:
    # Jupyter and Colab hand theirs down to what they start. Where it is not installed there,
    # `import matplotlib` fails by it; nothing here needs a backend.
    del os.environ["MPLBACKEND"]
    with contextlib.suppress(ImportError):
        import matplotlib

        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = backend
    os.environ["MPLBACKEND"] = backend
