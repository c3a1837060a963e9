"""The charts, as SVG. Colours come from the page, or from the reader's preference in a separate file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from isola.lab.report import units
from isola.lab.report.elements import append, element
from isola.lab.report.results import BASELINES
from isola.lab.report.scale import Scale, of_ratios, of_sizes, of_values
from isola.lab.report.statistics import Ratio, Summary

STYLE = (Path(__file__).with_name("style.css")).read_text(encoding="utf-8")

WIDTH, HEIGHT = 480, 300
TOP, BOTTOM, LEFT = 52, 46, 12
CORNERS = {
    "diamond": ((0, -6), (6, 0), (0, 6), (-6, 0)),
    "triangle": ((0, -5.5), (5.5, 4.5), (-5.5, 4.5)),
    "wedge": ((0, 5.5), (5.5, -4.5), (-5.5, -4.5)),
}
LETTER = 7.2
"""About what a letter of a label takes."""
WIDE_LETTER = 8.4
"""About what a letter of a title takes, at most."""
SHAPES = ("circle", "square", "diamond", "triangle", "bar", "wedge", "ring")
"""By the number of the colour: no subject is distinguished from another by its colour alone."""
LINE_HEIGHT = 16
ROW = 46
FOOT = 34


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart, with a text alternative."""

    name: str
    title: str
    description: str
    picture: ET.Element

    def alone(self) -> str:
        """The chart as a separate file."""
        *_, width, height = self.picture.attrib["viewBox"].split()
        whole = {"xmlns": "http://www.w3.org/2000/svg", "width": width, "height": height}
        picture = ET.Element(self.picture.tag, {**whole, **self.picture.attrib})
        picture.append(element("style", STYLE))
        picture.append(element("rect", width="100%", height="100%", style="fill: var(--paper)"))
        picture.extend(self.picture)
        return ET.tostring(picture, encoding="unicode") + "\n"


def lines(
    name: str,
    title: str,
    value: str,
    dimension: str,
    subjects: Sequence[str],
    found: Mapping[str, Mapping[float, Summary]],
) -> Chart:
    """A value along a dimension: one line per subject, with the spread of its rounds.

    ``subjects`` are all of the report, so that each has the same colour and shape in every chart.
    """
    shown = [subject for subject in subjects if found.get(subject)]
    summaries = [summary for subject in shown for summary in found[subject].values()]
    sizes = sorted({size for subject in shown for size in found[subject]})
    right = WIDTH - max(len(subject) for subject in shown) * LETTER - 20
    y, ticks = of_values([each for summary in summaries for each in (summary.low, summary.high)], HEIGHT - BOTTOM, TOP)
    left = LEFT + max(len(units.figure(value, tick)) for tick in ticks) * LETTER
    x = of_sizes(sizes, left + 14, right - 10)
    picture = _canvas(HEIGHT)
    append(picture, _heading(title, 20, "title"))
    scale = " (logarithmic)" if y.logarithmic else ""
    better = "more is better" if units.more_is_better(value) else "less is better"
    append(picture, element("text", f"{units.words(value)}{scale}, {better}", x=LEFT, y=38, class_="small"))
    for tick in ticks:
        append(picture, element("line", x1=left + 4, x2=right, y1=y.at(tick), y2=y.at(tick), class_="grid"))
        label = units.figure(value, tick) if tick else "0"
        append(picture, element("text", label, x=left, y=y.at(tick) + 4, text_anchor="end", class_="small"))
    for size in _apart(sizes, x):
        append(picture, element("text", f"{size:,.0f}", x=x.at(size), y=HEIGHT - BOTTOM + 18, text_anchor="middle"))
    append(
        picture, element("text", dimension, x=(left + right) / 2, y=HEIGHT - 10, text_anchor="middle", class_="small")
    )
    ends = []
    for subject in shown:
        style = _style(subjects, subject)
        points = sorted(found[subject].items())
        path = " ".join(f"{x.at(size):.1f},{y.at(each.median):.1f}" for size, each in points)
        dashed = " baseline" if subject in BASELINES else ""
        append(picture, element("polyline", points=path, class_=f"line c{style}{dashed}"))
        for size, each in points:
            _spread(picture, style, (x.at(size), y.at(each.low)), (x.at(size), y.at(each.high)))
            append(picture, _mark(style, x.at(size), y.at(each.median)))
        ends.append((y.at(points[-1][1].median), style, subject))
    for at, style, subject in _pushed_apart(ends, TOP, HEIGHT - BOTTOM):
        append(picture, element("text", subject, x=right + 8, y=at + 4, style=f"fill: var(--c{style})"))
    described = "; ".join(f"{subject}: {_tooltip(value, found[subject])}" for subject in shown)
    return _described(name, f"{title}: {units.words(value)} by {dimension}", described, picture)


def dots(
    name: str, title: str, value: str, subjects: Sequence[str], rows: Mapping[str, Mapping[str, Summary]]
) -> Chart:
    """A value of several things: one row each, with one mark per subject and the spread of its rounds."""
    summaries = [summary for row in rows.values() for summary in row.values()]
    shown = [subject for subject in subjects if any(subject in row for row in rows.values())]
    x, ticks = of_values([each for one in summaries for each in (one.low, one.high)], LEFT + 16, WIDTH - 40)
    height = TOP + 26 + 40 * len(rows) + FOOT
    picture = _canvas(height)
    append(picture, _heading(title, 20, "title"))
    scale = " (logarithmic)" if x.logarithmic else ""
    better = "more is better" if units.more_is_better(value) else "less is better"
    append(picture, element("text", f"{units.words(value)}{scale}, {better}", x=LEFT, y=38, class_="small"))
    _legend(picture, subjects, shown, 58)
    for tick in ticks:
        append(picture, element("line", x1=x.at(tick), x2=x.at(tick), y1=TOP + 18, y2=height - FOOT, class_="grid"))
        label = units.figure(value, tick)
        append(
            picture, element("text", label, x=x.at(tick), y=height - FOOT + 18, text_anchor="middle", class_="small")
        )
    for index, (label, row) in enumerate(rows.items()):
        y = TOP + 36 + 40 * index
        append(picture, _heading(label, y, "row"))
        for place, (subject, summary) in enumerate(row.items()):
            style = _style(subjects, subject)
            # Offset the marks, so that equal values do not hide each other.
            height_of = y + 14 + 5 * (place - (len(row) - 1) / 2)
            _spread(picture, style, (x.at(summary.low), height_of), (x.at(summary.high), height_of))
            append(picture, _mark(style, x.at(summary.median), height_of))
    described = "; ".join(
        f"{label}: " + ", ".join(f"{subject} {units.figure(value, one.median)}" for subject, one in row.items())
        for label, row in rows.items()
    )
    return _described(name, f"{title}: {units.words(value)}", described, picture)


@dataclass(frozen=True, slots=True)
class Balance:
    """Two strategies in one respect: ``by_size`` has the factor by which the first is better, by tenants."""

    label: str
    verdict: str
    by_size: Mapping[float, Ratio]


def balances(name: str, title: str, first: str, second: str, subjects: Sequence[str], rows: Sequence[Balance]) -> Chart:
    """Which strategy is better in each respect, and by which factor: the first to the left, the second to the right."""
    x, ticks = of_ratios([ratio.value for row in rows for ratio in row.by_size.values()], LEFT + 14, WIDTH - LEFT - 14)
    height = TOP + 22 + ROW * len(rows) + FOOT
    picture = _canvas(height)
    one, two = _style(subjects, first), _style(subjects, second)
    append(picture, _heading(title, 20, "title"))
    append(picture, element("text", f"◀ {first} better", x=LEFT, y=42, style=f"fill: var(--c{one})"))
    append(
        picture,
        element("text", f"{second} better ▶", x=WIDTH - LEFT, y=42, text_anchor="end", style=f"fill: var(--c{two})"),
    )
    for tick in ticks:
        where = x.at(tick)
        kind = "even" if tick == 1 else "grid"
        append(picture, element("line", x1=where, x2=where, y1=TOP + 4, y2=height - FOOT, class_=kind))
        label = "even" if tick == 1 else f"{units.number(max(tick, 1 / tick))}{units.TIMES}"
        append(picture, element("text", label, x=where, y=height - FOOT + 16, text_anchor="middle", class_="small"))
    for index, row in enumerate(rows):
        y = TOP + 24 + ROW * index
        append(picture, element("text", row.label, x=LEFT, y=y, class_="row"))
        append(picture, element("text", row.verdict, x=WIDTH - LEFT, y=y, text_anchor="end", class_="small"))
        _balance(picture, x, y + 15, row, (one, two))
    described = "; ".join(f"{row.label}: {row.verdict}" for row in rows)
    return _described(name, title, described, picture)


def _balance(picture: ET.Element, x: Scale, y: float, row: Balance, styles: tuple[int, int]) -> None:
    sizes = sorted(row.by_size)
    places = [x.at(1 / row.by_size[size].value) for size in sizes]
    append(picture, element("line", x1=min(places), x2=max(places), y1=y, y2=y, class_="even"))
    for rank, (size, place) in enumerate(zip(sizes, places, strict=True), start=1):
        ratio = row.by_size[size]
        radius = 3 + 5 * rank / len(sizes)
        style = styles[0] if ratio.value > 1 else styles[1]
        kind = f"f{style}" if ratio.differs else f"noise c{style}"
        append(picture, element("circle", cx=place, cy=y, r=radius, class_=kind))


def _heading(text: str, y: float, class_: str) -> ET.Element:
    """A line of text. One that is too long, as names of an application can be, is set narrower and not cut."""
    room = WIDTH - 2 * LEFT
    if len(text) * WIDE_LETTER <= room:
        return element("text", text, x=LEFT, y=y, class_=class_)
    return element("text", text, x=LEFT, y=y, class_=class_, textLength=room, lengthAdjust="spacingAndGlyphs")


def _canvas(height: float) -> ET.Element:
    return element("svg", class_="chart", viewBox=f"0 0 {WIDTH} {height:g}", role="img")


def _described(name: str, title: str, description: str, picture: ET.Element) -> Chart:
    picture.set("aria-labelledby", f"{name}-title {name}-desc")
    picture.insert(0, element("title", title, id=f"{name}-title"))
    picture.insert(1, element("desc", description, id=f"{name}-desc"))
    return Chart(name, title, description, picture)


def _style(subjects: Sequence[str], subject: str) -> int:
    """The colour and shape of a subject. Those of baselines do not depend on the strategies."""
    if subject in BASELINES:
        return 4 + BASELINES.index(subject)
    return subjects.index(subject) % 4


def _mark(style: int, x: float, y: float) -> ET.Element:
    shape = SHAPES[style % len(SHAPES)]
    kind = f"f{style}"
    if shape == "circle":
        return element("circle", cx=x, cy=y, r=4.5, class_=kind)
    if shape == "square":
        return element("rect", x=x - 4, y=y - 4, width=8, height=8, class_=kind)
    if shape == "bar":
        return element("rect", x=x - 6, y=y - 2, width=12, height=4, class_=kind)
    if shape == "ring":
        return element("circle", cx=x, cy=y, r=4, class_=f"noise c{style}")
    corners = CORNERS[shape]
    points = " ".join(f"{x + right:.1f},{y + down:.1f}" for right, down in corners)
    return element("polygon", points=points, class_=kind)


def _spread(picture: ET.Element, style: int, start: tuple[float, float], end: tuple[float, float]) -> None:
    (x1, y1), (x2, y2) = start, end
    append(picture, element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=f"spread c{style}"))


def _legend(picture: ET.Element, subjects: Sequence[str], shown: Sequence[str], y: float) -> None:
    x = LEFT + 6.0
    for subject in shown:
        append(picture, _mark(_style(subjects, subject), x, y - 4))
        append(picture, element("text", subject, x=x + 10, y=y, class_="small"))
        x += 28 + len(subject) * LETTER


def _pushed_apart(
    ends: Sequence[tuple[float, int, str]], top: float, bottom: float
) -> Sequence[tuple[float, int, str]]:
    """Labels, moved so that they do not overlap."""
    placed: list[tuple[float, int, str]] = []
    for at, style, subject in sorted(ends):
        lowest = placed[-1][0] + LINE_HEIGHT if placed else top
        placed.append((max(at, lowest), style, subject))
    over = max(0.0, placed[-1][0] - bottom) if placed else 0.0
    return [(at - over, style, subject) for at, style, subject in placed]


def _apart(sizes: Sequence[float], x: Scale) -> Sequence[float]:
    """The sizes whose labels do not overlap."""
    kept: list[float] = []
    for size in sizes:
        if not kept or x.at(size) - x.at(kept[-1]) > LETTER * (len(f"{size:,.0f}") + 1):
            kept.append(size)
    return kept


def _tooltip(value: str, by_size: Mapping[float, Summary]) -> str:
    return ", ".join(f"{units.figure(value, each.median)} at {size:,.0f}" for size, each in sorted(by_size.items()))
