"""Measurements with their bars, and the table that shows them."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """A measurement and its bar: a maximum, or a minimum with ``at_least``. None: no bar."""

    name: str
    value: float
    unit: str
    bar: float | None = None
    at_least: bool = False

    @property
    def passed(self) -> bool:
        return self.bar is None or (self.value >= self.bar if self.at_least else self.value < self.bar)


def show(figures: Sequence[Figure], title: str) -> None:
    """Print a table of them, with which bars were missed."""
    table = Table("", "measured", "bar", "", title=title, box=None)
    for column in table.columns[1:3]:
        column.justify = "right"
    for figure in figures:
        bar = "" if figure.bar is None else f"{'≥' if figure.at_least else '<'} {figure.bar:,g} {figure.unit}"
        verdict = "" if figure.bar is None else "ok" if figure.passed else "MISSED"
        digits = 0 if figure.at_least else 2 if figure.unit in {"s", ""} else 1
        table.add_row(figure.name, f"{figure.value:,.{digits}f} {figure.unit}", bar, verdict)
    Console().print(table)
