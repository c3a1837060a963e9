"""The features and rates of a tenant: its plan's, with its overrides. They come with its entry in the directory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from isola.platform.rates import Agreed
from isola.subjects import features


@dataclass(frozen=True, slots=True)
class FeatureOverride:
    """A feature that a tenant has, or has not, until ``ends_at``."""

    name: str
    given: bool
    ends_at: datetime | None


@dataclass(frozen=True, slots=True)
class Entitlements:
    """``plan`` are the features of the tenant's plan, None for all; ``offers`` those of the plans that are listed.

    ``rates`` is None if the tenant has none.
    """

    plan: frozenset[str] | None = frozenset()
    overrides: tuple[FeatureOverride, ...] = ()
    offers: tuple[tuple[str, frozenset[str] | None], ...] = ()
    rates: Agreed | None = None

    def at(self, moment: datetime) -> frozenset[str]:
        """The features that the tenant has at a moment."""
        held = frozenset(features.known()) if self.plan is None else self.plan
        for each in self.overrides:
            if each.ends_at is None or moment < each.ends_at:
                held = held | {each.name} if each.given else held - {each.name}
        return held

    def now(self) -> frozenset[str]:
        """The features that the tenant has now."""
        return self.at(datetime.now(UTC))

    def offering(self, feature: str) -> Sequence[str]:
        """The names of the listed plans that have a feature."""
        return [name for name, offered in self.offers if offered is None or feature in offered]


NOTHING = Entitlements()
"""No features."""


def read(value: Mapping[str, Any]) -> Entitlements:
    """From the result of control.entitlements()."""
    return Entitlements(
        _names(value["plan"]),
        tuple(
            FeatureOverride(name, given, None if ends_at is None else datetime.fromisoformat(ends_at))
            for name, given, ends_at in value["overrides"]
        ),
        tuple((name, _names(offered)) for name, offered in value["offers"]),
        Agreed.read(value["rates"], value["rate_overrides"]),
    )


def _names(listed: Sequence[str] | None) -> frozenset[str] | None:
    return None if listed is None else frozenset(listed)
