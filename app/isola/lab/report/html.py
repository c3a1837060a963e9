"""The report as one self-contained HTML file."""

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from isola.lab.report import charts
from isola.lab.report.document import Block, Bullets, Code, Gallery, Heading, Report, Section, Table
from isola.lab.report.elements import Child, element

PAGE = (Path(__file__).with_name("page.css")).read_text(encoding="utf-8")
# The page loads no external resources, whatever the results contain.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
CODE = re.compile(r"`([^`]+)`")


def written(report: Report) -> str:
    """The report as a page: readable on paper, on a phone, in light and dark, and by a screen reader."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", report.title),
        element("style", charts.STYLE + PAGE),
    )
    links = [element("li", element("a", section.title, href=f"#{section.anchor}")) for section in report.sections]
    body = element(
        "body",
        element("header", element("h1", report.title), element("p", *_inline(report.subtitle), class_="soft")),
        element("nav", element("ol", *links), aria_label="Contents"),
        element("main", *(_section(section) for section in report.sections)),
    )
    page = element("html", head, body, lang="en")
    return "<!doctype html>\n" + ET.tostring(page, encoding="unicode", method="html") + "\n"


def _section(section: Section) -> ET.Element:
    blocks = [_block(block) for block in section.blocks]
    return element("section", element("h2", section.title), *blocks, id=section.anchor)


def _block(block: Block) -> ET.Element:
    match block:
        case str():
            return element("p", *_inline(block))
        case Heading(text):
            return element("h3", *_inline(text))
        case Bullets(items):
            return element("ul", *(element("li", *_inline(item)) for item in items))
        case Gallery(shown):
            return element("div", *(element("figure", chart.picture) for chart in shown), class_="gallery")
        case Code(text):
            return element("pre", element("code", text))
        case Table():
            return _folded(block) if block.folded else _table(block)


def _folded(table: Table) -> ET.Element:
    summary = element("summary", *_inline(table.caption))
    return element("details", summary, element("p", *_inline(table.note), class_="soft"), _table(table))


def _table(table: Table) -> ET.Element:
    def row(cells: Sequence[str], tag: str) -> ET.Element:
        return element(
            "tr",
            *(
                element(
                    tag,
                    *_inline(cell),
                    class_="figure" if index >= table.figures_from else None,
                    scope="col" if tag == "th" else None,
                )
                for index, cell in enumerate(cells)
            ),
        )

    caption = None if table.folded else element("caption", *_inline(table.caption))
    body = element("tbody", *(row(cells, "td") for cells in table.rows))
    made = element("table", caption, element("thead", row(table.header, "th")), body)
    return element("div", made, class_="wide", tabindex="0", role="region", aria_label=table.caption.replace("`", ""))


def _inline(text: str) -> Sequence[Child]:
    return [element("code", part) if index % 2 else part for index, part in enumerate(CODE.split(text))]
