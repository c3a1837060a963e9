"""Checks and their findings."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad a finding is, worst first."""

    DANGER = "danger"
    """A tenant can access another tenant's data."""
    WARNING = "warning"
    """A protection is missing: one further mistake would let a tenant access another tenant's data."""
    NOTE = "note"
    """For information; no change is needed."""


@dataclass(frozen=True, slots=True)
class Check:
    """One query of the catalogue of a database.

    ``query`` returns a row for every offender: ``object``, ``detail`` and ``fix``, texts of which the last two can be
    NULL. It uses the common table expressions of ``isola.doctor.vocabulary``. A ``fix`` never loses data.
    """

    code: str
    severity: Severity
    title: str
    consequence: str
    query: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One offender: the problem of ``object``, its possible consequence, and the command that fixes it, if any."""

    code: str
    severity: Severity
    object: str
    title: str
    consequence: str
    detail: str | None
    fix: str | None
