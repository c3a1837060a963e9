"""The first page: the findings in words."""

from collections.abc import Sequence
from itertools import combinations

from isola.lab.report import about
from isola.lab.report.aspects import Aspect, because, chosen, finding
from isola.lab.report.charts import Balance, Chart, balances
from isola.lab.report.document import Block, Bullets, Gallery, Heading, Section
from isola.lab.report.findings import Finding
from isola.lab.report.recommendation import SLIGHT, Found, recommendation, strength
from isola.lab.report.results import Point, Results, strategies
from isola.lab.report.slices import TENANTS, label

LEGEND = (
    "Each mark is one size; the larger the mark, the more tenants (or of whatever was varied). A mark that is not "
    "filled is not significant. The figure to the right is for the largest size."
)


def section(results: Results) -> Section:
    """The verdict on every pair of strategies that was measured."""
    blocks: list[Block] = []
    names = strategies(results)
    for first, second in combinations(names, 2):
        found = [
            (aspect, one) for aspect in chosen(results) if (one := finding(results, aspect, first, second)) is not None
        ]
        if found:
            if len(names) > 2:  # noqa: PLR2004  two make one pair, which needs no heading
                blocks.append(Heading(f"`{first}` and `{second}`"))
            blocks += _pair(results, found)
    if disturbed := about.disturbed(results):
        blocks.insert(0, disturbed)
    if not any(isinstance(block, Gallery) for block in blocks):
        blocks.append("Nothing was measured for two strategies alike, so nothing can be said of which is better.")
    failures = list(_failures(results))
    if failures:
        blocks += [Heading("What could not be measured"), Bullets(failures)]
    return Section("verdict", "The verdict", blocks)


def _pair(results: Results, found: Found) -> list[Block]:
    headlines = [each for each in found if each[0].headline] or found
    blocks: list[Block] = [*recommendation(results, found), Heading("In more detail")]
    blocks.append(Bullets([*(_line(results, *each) for each in _leading(found)), *_ends(headlines)]))
    blocks += [Gallery([_overview(results, headlines, "Which is better, and by how much", "overview")]), LEGEND]
    # The first of each group leads it, and stands above.
    leads = [one for _, one in _leading(found)]
    for group in dict.fromkeys(aspect.group for aspect, _ in found):
        members = [each for each in found if each[0].group == group]
        lines = [_line(results, aspect, one) for aspect, one in members if one not in leads]
        if lines:
            name = group.split(" ", maxsplit=1)[0].strip(",").lower()
            blocks += [Heading(group), Gallery([_overview(results, members, group, name)]), Bullets(lines)]
    return blocks


def _overview(results: Results, found: Found, title: str, name: str) -> Chart:
    first, second = found[0][1].first, found[0][1].second
    rows = [Balance(one.label, one.brief(), one.by_size) for _, one in found]
    return balances(f"{name}-{first}-{second}", title, first, second, results.subjects(), rows)


def _line(results: Results, aspect: Aspect, one: Finding) -> str:
    return f"{one.label}: {one.sentence(because(results, aspect, one))}."


def _leading(found: Found) -> Found:
    """The first respect of each group, which is the most important one."""
    return list({aspect.group: (aspect, one) for aspect, one in reversed(found)}.values())[::-1]


def _ends(found: Found) -> list[str]:
    """Which strategy is ahead in which respects, with few tenants and with many."""
    by_tenants = [one for _, one in found if one.dimension == TENANTS]
    sizes = sorted({size for one in by_tenants for size in one.by_size})
    if not sizes:
        return []
    # The largest size may be of one respect only: the largest that half of them have says more.
    common = [size for size in sizes if 2 * sum(size in one.by_size for one in by_tenants) >= len(by_tenants)]
    return [_at(size, by_tenants) for size in sorted({sizes[0], *common[-1:], sizes[-1]})]


def _at(size: float, found: Sequence[Finding]) -> str:
    parts = []
    there = [one for one in found if size in one.by_size]
    clear = [one for one in there if one.ahead(size) and strength(one, size) >= SLIGHT]
    for name in (found[0].first, found[0].second):
        led = sorted((one for one in clear if one.ahead(size) == name), key=lambda one: -strength(one, size))
        if led:
            said = ", ".join(f"{_lower(one.label)} ({one.by(size)})" for one in led)
            parts.append(f"`{name}` is ahead in {len(led)} of {len(there)} respects: {said}")
    even = [_lower(one.label) for one in there if one not in clear]
    if even:
        parts.append(f"no relevant difference (not significant, or under {SLIGHT - 1:.0%}): {', '.join(even)}")
    return f"With {size:,.0f} tenants: {'; '.join(parts)}."


def _lower(label: str) -> str:
    return label[0].lower() + label[1:]


def _failures(results: Results) -> Sequence[str]:
    """The failures with their reasons, and their point or the number of points."""
    found: dict[tuple[str, str, str], list[Point]] = {}
    for scenario in results.scenarios:
        for (subject, point), reason in results.failures(scenario).items():
            found.setdefault((scenario, subject, reason), []).append(point)
    return [
        f"`{scenario}`, `{subject}` at {_where(results, scenario, points)}: {reason}"
        for (scenario, subject, reason), points in found.items()
    ]


def _where(results: Results, scenario: str, points: Sequence[Point]) -> str:
    if len(points) > 1:
        return f"{len(points)} points"
    return label(results, scenario, points[0]) or "its only point"
