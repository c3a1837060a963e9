"""Tests whether a tenant's responses depend on the data of others.

A tenant's requests are recorded twice, with and without the data of others, and compared byte for byte: bodies, status
codes and headers. If both runs made rows, values that must differ (identifiers, moments, cursors) are replaced by their
number in the order of appearance, so that repeated values are still recognized as equal.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import httpx

_MADE = re.compile(
    r"(?P<uuid>[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})"
    r"|(?P<moment>\d{4}-\d\d-\d\dT[\d:.]+(?:\+00:00|Z))"
    r'|(?P<cursor>(?<=[cC]ursor":")[\w-]{20,}(?="))'
    r'|(?P<request>(?<="request":")[0-9a-f]{32}(?="))'
)

# Headers that differ in every response.
CHANGING = frozenset({"date", "x-request-id"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One response. ``about`` describes the request, for the report of a difference."""

    about: str
    status: int
    headers: tuple[tuple[str, str], ...]
    body: str


def recorded(about: str, response: httpx.Response) -> Entry:
    headers = tuple((name, value) for name, value in response.headers.multi_items() if name not in CHANGING)
    return Entry(about, response.status_code, headers, response.text)


def normal(recording: Sequence[Entry]) -> list[Entry]:
    """The recording with identifiers, moments and cursors replaced by their numbers in the order of appearance."""
    places: dict[str, str] = {}

    def place(found: re.Match[str]) -> str:
        # The audit log has moments in JSON form, without trailing zeros in the fraction.
        made = datetime.fromisoformat(found[0]).isoformat() if found.lastgroup == "moment" else found[0]
        return places.setdefault(made, f"<{found.lastgroup} {len(places)}>")

    return [
        Entry(each.about, each.status, _without_length(each.headers), _MADE.sub(place, each.body)) for each in recording
    ]


def _without_length(headers: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Headers without the length: the same body can be longer by a digit of a moment's fraction."""
    return tuple((name, value) for name, value in headers if name != "content-length")


def differences(one: Sequence[Entry], other: Sequence[Entry]) -> list[tuple[Entry, Entry]]:
    return [(here, there) for here, there in zip(one, other, strict=True) if here != there]
