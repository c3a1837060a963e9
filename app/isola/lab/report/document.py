"""The report independent of its output format: sections of paragraphs, lists, charts and tables.

In texts, `…` marks code, as in Markdown; there is no other markup.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from isola.lab.report.charts import Chart


@dataclass(frozen=True, slots=True)
class Heading:
    text: str


@dataclass(frozen=True, slots=True)
class Bullets:
    items: Sequence[str]


@dataclass(frozen=True, slots=True)
class Gallery:
    """Charts side by side if there is room."""

    charts: Sequence[Chart]


@dataclass(frozen=True, slots=True)
class Table:
    """``folded`` tables are collapsed at first; their ``note`` explains how to read them.

    Columns from ``figures_from`` on hold figures.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: bool = False
    figures_from: int = 1
    note: str = ""


@dataclass(frozen=True, slots=True)
class Code:
    text: str


Block = str | Heading | Bullets | Gallery | Table | Code


@dataclass(frozen=True, slots=True)
class Section:
    anchor: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Report:
    title: str
    subtitle: str
    sections: Sequence[Section]

    @property
    def charts(self) -> Sequence[Chart]:
        return [
            chart
            for section in self.sections
            for block in section.blocks
            if isinstance(block, Gallery)
            for chart in block.charts
        ]
