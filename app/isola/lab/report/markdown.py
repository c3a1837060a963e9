"""The report as Markdown, with its charts as files beside it."""

import re
from collections.abc import Sequence

from isola.lab.report.document import Block, Bullets, Code, Gallery, Heading, Report, Table


def written(report: Report, charts: str) -> str:
    """The report; ``charts`` is the folder with the charts as SVG, as seen from the file."""
    parts = [f"# {report.title}", report.subtitle]
    for section in report.sections:
        parts += [f"## {section.title}", *(_block(block, charts) for block in section.blocks)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _block(block: Block, charts: str) -> str:
    match block:
        case str():
            return _escaped(block)
        case Heading(text):
            return f"### {text}"
        case Bullets(items):
            return "\n".join(f"- {_escaped(item)}" for item in items)
        case Gallery(shown):
            return "\n".join(f"![{_escaped(chart.title)}]({charts}/{chart.name}.svg)" for chart in shown)
        case Code(text):
            return f"```sh\n{text}\n```"
        case Table():
            return _folded(block) if block.folded else f"{_escaped(block.caption)}\n\n{_table(block)}"


def _folded(table: Table) -> str:
    summary = table.caption.replace("`", "")
    return f"<details><summary>{summary}</summary>\n\n{_escaped(table.note)}\n\n{_table(table)}\n\n</details>"


def _table(table: Table) -> str:
    marks = ["---:" if index >= table.figures_from else "---" for index in range(len(table.header))]
    return "\n".join(_row(cells) for cells in (table.header, marks, *table.rows))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_escaped(cell).replace('|', chr(92) + '|').replace(chr(10), ' ') for cell in cells)} |"


_CODE = re.compile("(`[^`]*`)")
# Inside a word they are text anyway.
_EMPHASIS = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def _escaped(text: str) -> str:
    """Escape text from the results, so that it becomes neither an HTML tag nor, outside of code, an emphasis."""
    parts = _CODE.split(text.replace("<", "&lt;"))
    return "".join(part if index % 2 else _EMPHASIS.sub(r"\_", part) for index, part in enumerate(parts))
