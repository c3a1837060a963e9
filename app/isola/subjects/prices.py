"""The price of a plan or a tier: data of the offer, which is stored and shown. Nothing here charges anybody."""

import re
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Self

from isola.errors import BadUserInput

FORM = "expected an amount of at most 12 digits and 3 decimals, a currency such as USD, and a period: 99.5 USD/month"
_WRITTEN = re.compile(r"(?P<amount>[0-9]{1,12}(\.[0-9]{1,3})?) (?P<currency>[A-Z]{3})/(?P<period>month|year)", re.ASCII)


class PlanPeriod(StrEnum):
    """What a price is for.

    MONTH: One month.
    YEAR: One year.
    """

    MONTH = "month"
    YEAR = "year"


@dataclass(frozen=True, slots=True)
class Price:
    """What a tenant pays for a period. ``currency`` is a code of ISO 4217; ``amount`` has no zeros at its end."""

    amount: Decimal
    currency: str
    period: PlanPeriod

    @classmethod
    def parse(cls, text: str) -> Self:
        """A price as ``str`` writes it. Raises BadUserInput."""
        found = _WRITTEN.fullmatch(text)
        if found is None:
            raise BadUserInput(f"price: {FORM}", "price", value=text)
        return cls(Decimal(found["amount"]).normalize(), found["currency"], PlanPeriod(found["period"]))

    @classmethod
    def of(cls, amount: Decimal, currency: str, period: PlanPeriod) -> Self:
        """A price of its parts. Raises BadUserInput if one is invalid."""
        return cls.parse(f"{amount:f} {currency}/{period}")

    def __str__(self) -> str:
        return f"{self.amount:f} {self.currency}/{self.period}"
