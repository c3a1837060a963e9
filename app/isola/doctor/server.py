"""Vulnerabilities of PostgreSQL, as published at https://www.postgresql.org/support/security/.

``KNOWN_ON`` is the date of this list; a vulnerability is one line in it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from isola.doctor.check import Check, Severity
from isola.doctor.vocabulary import literal

KNOWN_ON = "2026-11-20"

# The end of support of each major version.
SUPPORTED_UNTIL = {15: "2027-11-11", 16: "2028-11-09", 17: "2029-11-08", 18: "2030-11-14"}


@dataclass(frozen=True, slots=True)
class Hole:
    """``fixed`` has the first fixed minor version, by major version; a major version not in it was never affected."""

    cve: str
    fixed: Mapping[int, int]
    what: str


NOVEMBER_2026 = {15: 20, 16: 16, 17: 12, 18: 7}

IN_POLICIES = (
    Hole("CVE-2023-2455", {15: 3}, "policies of the wrong role are applied after a function was inlined"),
    Hole("CVE-2023-39418", {15: 4}, "MERGE ignores policies for UPDATE and SELECT"),
    Hole("CVE-2024-10976", {15: 9, 16: 5, 17: 1}, "policies of the wrong role are applied in sub-queries"),
    Hole(
        "CVE-2025-8713",
        {15: 14, 16: 10, 17: 6},
        "statistics reveal values that a policy hides, in partitions and child tables",
    ),
    Hole(
        "CVE-2026-120154",
        NOVEMBER_2026,
        "INSERT … ON CONFLICT DO UPDATE, repeated, reads every row (CVE-2026-16237 writes)",
    ),
)
FOR_ANY_SQL = (
    Hole("CVE-2024-4317", {15: 7, 16: 3}, "pg_stats_ext shows others' values; fixed only for statistics created since"),
    Hole("CVE-2024-10978", {15: 9, 16: 5, 17: 1}, "SET ROLE inside a function leaves the wrong role active"),
    Hole("CVE-2026-2003", {15: 16, 16: 12, 17: 8, 18: 2}, "oidvector discloses memory of the server"),
    Hole("CVE-2026-2006", {15: 16, 16: 12, 17: 8, 18: 2}, "a broken multibyte character runs code on the server"),
    Hole("CVE-2026-6473", {15: 18, 16: 14, 17: 10, 18: 4}, "a wrapped integer runs code on the server"),
    Hole("CVE-2026-120141", NOVEMBER_2026, "rows of differing types from one function run code on the server"),
)


def _open(holes: Iterable[Hole]) -> str:
    values = ", ".join(
        f"({literal(hole.cve)}, {major}, {minor}, {literal(hole.what)})"
        for hole in holes
        for major, minor in hole.fixed.items()
    )
    return f"""
        SELECT h.cve AS object, format('%s; fixed in %s.%s', h.what, h.major, h.minor) AS detail, NULL AS fix
        FROM parameters g JOIN (VALUES {values}) h (cve, major, minor, what)
            ON h.major = g.version / 10000 AND h.minor > g.version % 10000
    """


CHECKS = (
    Check(
        "SRV001",
        Severity.DANGER,
        "this version of PostgreSQL has a hole in row-level security",
        "Even correct policies can be bypassed.",
        f"{_open(IN_POLICIES)} WHERE EXISTS (SELECT FROM tenant_tables)",
    ),
    Check(
        "SRV002",
        Severity.WARNING,
        "this version of PostgreSQL has a hole that any SQL can use",
        "SQL injected into a tenant's transaction can bypass grants and roles.",
        _open(FOR_ANY_SQL),
    ),
    Check(
        "SRV003",
        Severity.WARNING,
        "this version of PostgreSQL gets no more fixes",
        "Holes found since then remain open.",
        f"""
        SELECT 'PostgreSQL ' || v.major AS object, 'since ' || v.until AS detail, NULL AS fix
        FROM parameters g
        JOIN (VALUES {", ".join(f"({major}, date '{until}')" for major, until in SUPPORTED_UNTIL.items())})
            v (major, until) ON v.major = g.version / 10000 AND v.until < g.today
        """,
    ),
    Check(
        "SRV004",
        Severity.NOTE,
        "this version of PostgreSQL is newer than the list of known holes",
        f"Its holes are not checked: the list is of {KNOWN_ON}.",
        f"""
        SELECT 'PostgreSQL ' || version / 10000 AS object, NULL AS detail, NULL AS fix
        FROM parameters WHERE version / 10000 > {max(SUPPORTED_UNTIL)}
        """,
    ),
)
