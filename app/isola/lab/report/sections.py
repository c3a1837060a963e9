"""A section for each scenario: its question, charts, findings, and figures."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from isola.lab.report import units
from isola.lab.report.aspects import charted, regardless, titled
from isola.lab.report.charts import Chart, dots, lines
from isola.lab.report.document import Block, Bullets, Gallery, Heading, Section, Table
from isola.lab.report.findings import Finding
from isola.lab.report.results import BASELINES, Point, Results, strategies
from isola.lab.report.slices import Slice, along, better, described, dimensions, label, main_cut, varied
from isola.lab.report.statistics import Ratio, Summary, paired

PANELS = 8
"""Beyond these a reader is helped by a table more than by further charts."""

RATIOS = (
    "How many times better the first is than the second, with the 95 % confidence interval. Below 1 the second is "
    "better; “none” means no significant difference."
)
FIGURES = "Medians of the rounds on this machine, with their ranges."


@dataclass(frozen=True, slots=True)
class Asked:
    """The description of a scenario: heading, values, and effects of our design.

    ``about`` is as in docstrings: paragraphs apart by empty lines, items begin with ``- ``, code is between `` `` ``.
    """

    question: str
    about: str = ""
    notes: Sequence[str] = ()


def section(results: Results, scenario: str, asked: Asked) -> Section:
    blocks: list[Block] = [*_charts(results, scenario), *_statements(results, scenario)]
    blocks += [_ratios(results, scenario), _figures(results, scenario)]
    failures = results.failures(scenario)
    if failures:
        blocks += [
            Heading("What could not be measured"),
            Bullets(
                [f"`{subject}` {label(results, scenario, point)}: {why}" for (subject, point), why in failures.items()]
            ),
        ]
    if asked.about:
        blocks += [Heading("Definitions"), *_paragraphs(asked.about)]
    if asked.notes:
        blocks += [Heading("Notes: what is inherent, and what follows from our design"), Bullets(asked.notes)]
    return Section(f"scenario-{scenario}", asked.question, [block for block in blocks if block])


def _paragraphs(about: str) -> Iterator[Block]:
    for paragraph in about.replace("``", "`").split("\n\n"):
        items = [" ".join(item.split()) for item in re.split(r"^- ", paragraph, flags=re.MULTILINE) if item.strip()]
        yield Bullets(items) if paragraph.lstrip().startswith("- ") else " ".join(paragraph.split())


def _charts(results: Results, scenario: str) -> list[Block]:
    """A chart for each value and combination, along the number of tenants; of the first value, along the rest, too."""
    further = varied(results, scenario)[1:]
    values = charted(results, scenario)
    galleries = [_of_value(results, scenario, value, further if value == values[0] else ()) for value in values]
    # Values of one chart each stand side by side; of several, each value has a row of its own.
    if all(len(charts) == 1 for charts in galleries):
        galleries = [[chart for charts in galleries for chart in charts]]
    blocks: list[Block] = [Gallery(charts) for charts in galleries if charts]
    left = sum(len(cut.points) > 1 for cut in main_cut(results, scenario)) - PANELS
    if left > 0:
        blocks.append(f"{left} further combinations are in the tables.")
    return blocks


def _of_value(results: Results, scenario: str, value: str, further: Sequence[str]) -> list[Chart]:
    cuts = main_cut(results, scenario, regardless(scenario, value))
    others = [cut for dimension in further for cut in _joined(along(results, scenario, dimension))[:2]]
    drawn = [*_joined(cuts)[:PANELS], *others]
    there = {point for cut in drawn for point in cut.points.values()}
    alone = [cut for cut in cuts if len(cut.points) == 1 and not there.intersection(cut.points.values())]
    names = _distinct([_chart_name(results, cut, value) for cut in drawn])
    made = [_line_chart(results, cut, value, name) for cut, name in zip(drawn, names, strict=True)]
    return [chart for chart in (*made, *_dot_charts(results, scenario, value, alone)) if chart is not None]


def _chart_name(results: Results, cut: Slice, value: str) -> str:
    return _slug(cut.scenario, value, cut.dimension, label(results, cut.scenario, cut.rest))


def _distinct(names: Sequence[str]) -> Sequence[str]:
    """The names, those that are there already with a number: operations can differ in nothing but capitals."""
    earlier = [names[:index].count(name) for index, name in enumerate(names)]
    return [f"{name}--{count + 1}" if count else name for name, count in zip(names, earlier, strict=True)]


def _joined(cuts: Sequence[Slice]) -> Sequence[Slice]:
    return [cut for cut in cuts if len(cut.points) > 1]


def _line_chart(results: Results, cut: Slice, value: str, name: str) -> Chart | None:
    found = {name: cut.summaries(results, name, value) for name in results.subjects(cut.scenario)}
    found = {name: by_size for name, by_size in found.items() if by_size}
    if not found:
        return None
    where = label(results, cut.scenario, cut.rest)
    title = where or titled(cut.scenario, value)
    return lines(name, title, value, units.dimension(cut.dimension), results.subjects(), found)


def _dot_charts(results: Results, scenario: str, value: str, cuts: Sequence[Slice]) -> list[Chart | None]:
    rows: dict[str, Mapping[str, Summary]] = {}
    for cut in cuts:
        ((size, point),) = cut.points.items()
        row = {
            name: found[size] for name in results.subjects(scenario) if (found := cut.summaries(results, name, value))
        }
        if row:
            rows[label(results, scenario, point) or scenario] = row
    names = list(rows)
    return [
        dots(
            _slug(scenario, value, str(start)),
            titled(scenario, value),
            value,
            results.subjects(),
            {name: rows[name] for name in chunk},
        )
        for start in range(0, min(len(names), 2 * PANELS), PANELS)
        if (chunk := names[start : start + PANELS])
    ]


def _statements(results: Results, scenario: str) -> list[Block]:
    sentences = [*_own_ratios(results, scenario)]
    for first, second in combinations(strategies(results, scenario), 2):
        for value in charted(results, scenario):
            if units.ending(value) == "_ratio":
                continue
            for cut in main_cut(results, scenario, regardless(scenario, value))[:PANELS]:
                by_size = better(results, [cut], value, first, second)
                if by_size:
                    one = Finding("", units.dimension(cut.dimension), first, second, by_size)
                    where = label(results, scenario, cut.rest)
                    words = units.words(value)
                    sentences.append(f"{words[0].upper()}{words[1:]}{f', {where}' if where else ''}: {one.sentence()}.")
    return [Bullets(sentences)] if sentences else []


def _own_ratios(results: Results, scenario: str) -> Iterator[str]:
    """For values that are ratios: the distance of each subject's value from 1."""
    for value in charted(results, scenario):
        if units.ending(value) != "_ratio":
            continue
        for subject in results.subjects(scenario):
            parts = []
            for point in results.points(scenario):
                rounds = results.rounds(scenario, subject, point, value)
                ratio = paired(rounds, dict.fromkeys(rounds, 1.0))
                if ratio is not None:
                    where = label(results, scenario, point)
                    parts.append(interval(ratio) + (f" at {where}" if where else ""))
            if parts:
                words = units.words(value)
                yield f"{words[0].upper()}{words[1:]}, `{subject}`: {'; '.join(parts)}."


def _ratios(results: Results, scenario: str) -> Block:
    """The factor by which one subject is better than another at each point. Such ratios apply to other machines."""
    names = strategies(results, scenario)
    pairs = [*combinations(names, 2), *((name, base) for name in names for base in BASELINES)]
    values = [value for value in results.values(scenario) if units.ending(value) not in {"_count", "_ratio", ""}]
    rows = []
    for point in results.points(scenario):
        for first, second in pairs:
            cells = [_compared(results, scenario, point, value, (first, second)) for value in values]
            if any(cells):
                rows.append([*_cells(results, scenario, point), f"{first} to {second}", *cells])
    header = [*_varying(results, scenario), "compared", *(units.words(value) for value in values)]
    figures_from = len(header) - len(values)
    return Table("Table of ratios", header, rows, folded=True, figures_from=figures_from, note=RATIOS) if rows else ""


def _compared(results: Results, scenario: str, point: Point, value: str, pair: tuple[str, str]) -> str:
    ratio = paired(*(results.rounds(scenario, subject, point, value) for subject in pair))
    if ratio is None:
        return ""
    return interval(ratio if units.more_is_better(value) else ratio.inverse)


def interval(ratio: Ratio) -> str:
    """A ratio with its confidence interval, or the absence of a difference."""
    if ratio.rounds == 1:
        return f"{units.factor(ratio.value)} (one round)"
    reach = f"({units.number(ratio.low)}{units.TO}{units.number(ratio.high)})"
    return f"{units.factor(ratio.value)} {reach}" if ratio.differs else f"none {reach}"


def _figures(results: Results, scenario: str) -> Block:
    values = results.values(scenario)
    rows = []
    for point in results.points(scenario):
        for subject in results.subjects(scenario):
            cells = [_median(value, results.rounds(scenario, subject, point, value)) for value in values]
            if any(cells):
                rows.append([*_cells(results, scenario, point), subject, *cells])
    header = [*_varying(results, scenario), "subject", *(units.words(value) for value in values)]
    fixed = [described(name, found[0]) for name, found in dimensions(results, scenario).items() if len(found) == 1]
    note = FIGURES + (f" Everywhere: {', '.join(fixed)}." if fixed else "")
    figures_from = len(header) - len(values)
    return Table("Table of figures", header, rows, folded=True, figures_from=figures_from, note=note) if rows else ""


def _median(value: str, rounds: Mapping[int, float]) -> str:
    if not rounds:
        return ""
    summary = Summary.of(list(rounds.values()))
    median = units.figure(value, summary.median)
    if summary.low == summary.high:
        return median
    return f"{median} ({units.figure(value, summary.low)}{units.TO}{units.figure(value, summary.high)})"


def _varying(results: Results, scenario: str) -> list[str]:
    return [name for name, found in dimensions(results, scenario).items() if len(found) > 1]


def _cells(results: Results, scenario: str, point: Point) -> list[str]:
    found = dict(point)
    values = [found.get(name, "") for name in _varying(results, scenario)]
    return [value if isinstance(value, str) else f"{value:,}" for value in values]


def _slug(*parts: str) -> str:
    return "-".join(filter(None, (re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in parts)))
