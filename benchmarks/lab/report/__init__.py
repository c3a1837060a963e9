"""What the results of the lab say: a report, a comparison of two runs, and advice."""

from benchmarks.lab.report.comparison import compare
from benchmarks.lab.report.writing import write

__all__ = ["compare", "write"]
