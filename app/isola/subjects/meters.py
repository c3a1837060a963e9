"""Meters: what tenants use in a period, such as executions in a month. A plan has a limit for a meter, or none.

They are declared by applications (``Application.meters``); that of the plans that are there to begin with is declared
here. See docs/metering.md.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from sqlalchemy import Table

MAX_NAME = 63
_FORM = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", re.ASCII)


class MeterKind(StrEnum):
    """How a meter adds up the events of a period.

    SUM: The quantities are added.
    COUNT: The events are counted.
    MAXIMUM: The largest quantity.
    UNIQUE: The number of different values of a property.
    """

    SUM = "sum"
    COUNT = "count"
    MAXIMUM = "maximum"
    UNIQUE = "unique"


class MeterPeriod(StrEnum):
    """A period of a meter, in UTC.

    HOUR: One hour.
    DAY: One day.
    MONTH: One month.
    """

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Meter:
    """What is measured. ``of`` is the property whose different values a meter of the kind ``UNIQUE`` counts.

    A meter that has been used keeps its kind, period and property: others are for a meter of another name.
    """

    name: str
    kind: MeterKind = MeterKind.SUM
    period: MeterPeriod = MeterPeriod.MONTH
    description: str = ""
    of: str | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for a meter that cannot be declared."""
        if not _FORM.fullmatch(self.name) or len(self.name) > MAX_NAME:
            raise ValueError(f"meter {self.name!r}: expected words of a-z and 0-9, with underscores between them")
        if (self.kind is MeterKind.UNIQUE) != (self.of is not None):
            raise ValueError(f"meter {self.name!r}: expected of=<property> for the kind unique, and for no other")
        if self.of is not None and not 1 <= len(self.of) <= MAX_NAME:
            raise ValueError(f"meter {self.name!r}: of: expected 1 to {MAX_NAME} characters")


EXECUTIONS = Meter("executions", description="Executions of agents.")
_known: dict[str, Meter] = {EXECUTIONS.name: EXECUTIONS}


def declare(meters: Iterable[Meter]) -> None:
    """Add meters, before the server starts. Raises ValueError for one that another declaration has otherwise."""
    for meter in meters:
        other = _known.setdefault(meter.name, meter)
        if (other.kind, other.period, other.of) != (meter.kind, meter.period, meter.of):
            raise ValueError(f"meter {meter.name!r}: expected the kind and period of the other declaration")


def known() -> Mapping[str, Meter]:
    """All meters by name."""
    return MappingProxyType(_known)


def triggers(table: Table) -> Sequence[str]:
    """The statement that creates the trigger of a table whose rows consume a meter."""
    if "consumes" not in table.info:
        return []
    arguments = ", ".join(f"'{table.info[each]}'" for each in ("consumes", "consumed_by") if each in table.info)
    inserted = f"AFTER INSERT ON {table.name} REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT"
    return [f"CREATE TRIGGER usage_insert {inserted} EXECUTE FUNCTION isola.consume_rows({arguments})"]
