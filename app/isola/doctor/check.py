"""What a check is, and what it finds."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad a finding is, worst first."""

    DANGER = "danger"
    """A tenant can reach what is another's."""
    WARNING = "warning"
    """A safeguard is missing: one more mistake, and a tenant can reach what is another's."""
    NOTE = "note"
    """Worth knowing; nothing that has to be changed."""


@dataclass(frozen=True, slots=True)
class Check:
    """One question to the catalogue of a database.

    ``query`` returns a row for every offender: ``object``, ``detail`` and ``fix``, texts of which the last two can be
    NULL. It is written in the words of ``isola.doctor.vocabulary``. A ``fix`` is one that loses no data.
    """

    code: str
    severity: Severity
    title: str
    consequence: str
    query: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One offender: what is wrong with ``object``, what could happen, and the command that mends it if there is one."""

    code: str
    severity: Severity
    object: str
    title: str
    consequence: str
    detail: str | None
    fix: str | None
