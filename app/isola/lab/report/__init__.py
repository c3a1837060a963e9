"""Evaluation of the lab's results: a report, a comparison of two runs, and advice."""

from isola.lab.report.comparison import compare
from isola.lab.report.writing import write

__all__ = ["compare", "write"]
