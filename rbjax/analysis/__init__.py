"""The results of runs as tables and plots."""

from rbjax.analysis.report import report
from rbjax.analysis.tables import format_classwise, write_csv

__all__ = ["format_classwise", "report", "write_csv"]
