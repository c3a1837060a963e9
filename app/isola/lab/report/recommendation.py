"""The first sentences of the report: the better strategy for each need, and how it depends on the number of tenants."""

from collections.abc import Iterator, Sequence

from isola.lab.report import units
from isola.lab.report.aspects import ONE, Aspect, because
from isola.lab.report.document import Block, Bullets
from isola.lab.report.findings import Finding
from isola.lab.report.results import Results
from isola.lab.report.slices import TENANTS

SLIGHT = 1.05
"""A difference that is sure, but smaller than this, is not worth choosing by."""
BOTH = (
    "The strategy is chosen for each tenant, and a tenant can be moved to the other one later, so this is not one "
    "decision for all."
)
STEADY = 1.25
"""A difference that changes by less than this factor, from the smallest size to the largest, stays about the same."""
NONE = (
    "There is no crossover: in no respect is one strategy clearly ahead at the smallest size that was measured, and "
    "the other at the largest. The next lines say why: how the differences change with size."
)
CHANGES = (
    "The difference grows with size",
    "The difference shrinks with size, and is not gone at the largest,",
    "The difference stays about the same",
)
Found = Sequence[tuple[Aspect, Finding]]


def recommendation(results: Results, found: Found) -> list[Block]:
    """The recommended strategy for each need; empty if no measured respect is a need."""
    needs = [(aspect, one) for aspect, one in found if aspect.need]
    if not needs:
        return []
    first, second = needs[0][1].first, needs[0][1].second
    return [
        " ".join(_leads(needs, (first, second))),
        Bullets([*_for_whom(needs, (first, second)), *_crossovers(results, needs)]),
        BOTH,
    ]


def strength(one: Finding, size: float) -> float:
    """The factor by which the better strategy is ahead at a size."""
    return max(one.by_size[size].value, 1 / one.by_size[size].value)


def _ahead(one: Finding) -> str | None:
    """The strategy that is clearly better at the largest size."""
    size = one.largest
    return one.ahead(size) if strength(one, size) >= SLIGHT else None


def _leads(needs: Found, names: tuple[str, str]) -> list[str]:
    """One sentence about needs of all tenants, and one about those of single tenants."""
    most = max((one.largest for _, one in needs if one.dimension == TENANTS), default=None)
    sides = {
        f"for many tenants ({most:,.0f} were the most that were measured)" if most else "for all tenants together": [
            one for aspect, one in needs if aspect.group != ONE
        ],
        "for a tenant that has to be treated by itself (restored, exported, dropped, indexed, vacuumed)": [
            one for aspect, one in needs if aspect.group == ONE
        ],
    }
    return [_lead(words, ones, names) for words, ones in sides.items() if ones]


def _lead(words: str, ones: Sequence[Finding], names: tuple[str, str]) -> str:
    counts = {name: sum(_ahead(one) == name for one in ones) for name in names}
    low, high = sorted(names, key=lambda name: counts[name])
    if counts[high] == counts[low]:
        each = f"each is ahead in {counts[high]}" if counts[high] else "neither is ahead in any"
        return f"Neither strategy is the obvious choice {words}: {each} of {_respects(len(ones))}."
    behind = f", `{low}` in {counts[low]}" if counts[low] else ""
    return f"Choose `{high}` {words}: it is ahead in {counts[high]} of {_respects(len(ones))}{behind}."


def _respects(count: int) -> str:
    return "the one respect that was measured" if count == 1 else f"{count} respects"


def _for_whom(needs: Found, names: tuple[str, str]) -> list[str]:
    lines = []
    for name in names:
        led = [(aspect, one) for aspect, one in needs if _ahead(one) == name]
        led.sort(key=lambda each: -strength(each[1], each[1].largest))
        if led:
            stated = [f"{aspect.need} ({one.by(one.largest)}{_at(one)})" for aspect, one in led]
            lines.append(f"`{name}` is the better choice if you need {'; '.join(stated)}.")
    even = [aspect.need for aspect, one in needs if _ahead(one) is None]
    if even:
        lines.append(
            f"Either will do for {'; '.join(even)}: the difference is not significant, or under {SLIGHT - 1:.0%}."
        )
    return lines


def _at(one: Finding) -> str:
    return f" with {one.largest:,.0f} {one.dimension}" if one.dimension else ""


def _crossovers(results: Results, needs: Found) -> list[str]:
    crossing = [(aspect, one) for aspect, one in needs if one.crossovers]
    if crossing:
        return [
            f"The number decides for {aspect.need}: {_crossing(one)}{because(results, aspect, one)}."
            for aspect, one in crossing
        ]
    several = [(aspect, one) for aspect, one in needs if _ahead(one) and len(one.by_size) > 1]
    if not several:
        return [
            (
                "Whether the choice changes with the number of tenants cannot be said: no respect in which a strategy "
                "is ahead was measured at several sizes."
            )
        ]
    return [NONE, *_changes(results, several)]


def _changes(results: Results, several: Found) -> Iterator[str]:
    """How the differences change with size: why there is no crossover."""
    kinds: dict[str, list[str]] = {words: [] for words in CHANGES}
    for aspect, one in several:
        change = _growth(one)
        grows, shrinks, stays = CHANGES
        kind = grows if change >= STEADY else shrinks if change <= 1 / STEADY else stays
        kinds[kind].append(f"{aspect.need} ({_span(one)}{because(results, aspect, one)})")
    yield from (f"{words} for {'; '.join(stated)}." for words, stated in kinds.items() if stated)


def _growth(one: Finding) -> float:
    """How the lead of the better strategy changes from the smallest size to the largest."""
    small, large = one.by_size[min(one.by_size)].value, one.by_size[one.largest].value
    return large / small if large > 1 else small / large


def _span(one: Finding) -> str:
    size = min(one.by_size)
    value = one.by_size[size].value
    at_first = value if one.by_size[one.largest].value > 1 else 1 / value
    return (
        f"`{one.ahead(one.largest)}` {units.factor(at_first)} at {size:,.0f}, {one.by(one.largest)} at "
        f"{one.largest:,.0f} {one.dimension}"
    )


def _crossing(one: Finding) -> str:
    parts = []
    for crossing in one.crossovers:
        before, after = one.ahead(crossing.low), one.ahead(crossing.high)
        parts.append(
            f"`{before}` up to about {units.rounded(crossing.at)} {one.dimension} ({one.by(crossing.low)} at "
            f"{crossing.low:,.0f}), `{after}` above ({one.by(crossing.high)} at {crossing.high:,.0f})"
        )
    return ", then ".join(parts)
