"""A sentence that compares two strategies in one respect."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from isola.lab.report import units
from isola.lab.report.statistics import Crossover, Ratio, crossovers


@dataclass(frozen=True)
class Finding:
    """The comparison of two strategies along a dimension: ``by_size`` has the factor by which the first is better."""

    label: str
    dimension: str
    first: str
    second: str
    by_size: Mapping[float, Ratio]

    @cached_property
    def crossovers(self) -> Sequence[Crossover]:
        return crossovers(self.by_size)

    def ahead(self, size: float) -> str | None:
        """The strategy that is better at a size, by more than noise."""
        ratio = self.by_size.get(size)
        if ratio is None or not ratio.differs:
            return None
        return self.first if ratio.value > 1 else self.second

    def by(self, size: float) -> str:
        """The factor by which the better strategy is ahead."""
        value = self.by_size[size].value
        return units.factor(max(value, 1 / value))

    @property
    def largest(self) -> float:
        return max(self.by_size)

    def brief(self) -> str:
        """The result at the largest size, for a chart's edge: ``rls 3.20 at 1,000``. Sizes are tenants by default."""
        winner = self.ahead(self.largest)
        of = "" if self.dimension == "tenants" else f" {self.dimension}"
        at = f"at {self.largest:,.0f}{of}" if self.dimension else ""
        return f"{winner} {self.by(self.largest)} {at}".rstrip() if winner else f"no difference {at}".rstrip()

    def sentence(self, why: str = "") -> str:
        """Which strategy is ahead at which sizes, by which factor, without the label; ``why`` is the explanation."""
        sizes = sorted(self.by_size)
        sure = [size for size in sizes if self.ahead(size)]
        if not sure:
            return f"no significant difference{self._range(sizes)}"
        if self.crossovers:
            return self._crossing(sure, why)
        winner = self.ahead(sure[0])
        if not self.dimension:
            return f"`{winner}` is ahead by {self.by(sure[0])}{why}"
        lead = self._each(sure)
        if len(sizes) == 1:
            return f"`{winner}` is ahead by {lead} {self.dimension}{why}"
        if sure == sizes:
            return (
                f"`{winner}` is ahead at every size measured, by {lead} {self.dimension}{why}; no crossover in between"
            )
        rest = _listed([f"{size:,.0f}" for size in sizes if size not in sure])
        return f"`{winner}` is ahead by {lead} {self.dimension}{why}; at {rest} the difference is noise"

    def _crossing(self, sure: Sequence[float], why: str) -> str:
        parts = []
        for index, crossing in enumerate(self.crossovers):
            where = "under" if index == 0 else "up to"
            reach = [
                size
                for size in sure
                if size <= crossing.low and (index == 0 or size >= self.crossovers[index - 1].high)
            ]
            best = max(reach, key=lambda size: abs(self.by_size[size].value - 1))
            parts.append(
                f"{where} about {units.rounded(crossing.at)} {self.dimension} `{self.ahead(crossing.low)}` is ahead "
                f"({self.by(best)} at {best:,.0f})"
            )
        last = self.crossovers[-1]
        parts.append(f"above, `{self.ahead(last.high)}` ({self.by(sure[-1])} at {sure[-1]:,.0f})")
        return f"{'; '.join(parts)}{why}; the crossing lies between {last.low:,.0f} and {last.high:,.0f}"

    def _each(self, sizes: Sequence[float]) -> str:
        return _listed([f"{self.by(size)} at {size:,.0f}" for size in sizes])

    def _range(self, sizes: Sequence[float]) -> str:
        if not self.dimension:
            return ""
        if len(sizes) == 1:
            return f" at {sizes[0]:,.0f} {self.dimension}"
        return f" from {sizes[0]:,.0f} to {sizes[-1]:,.0f} {self.dimension}"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
