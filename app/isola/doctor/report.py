"""Formats reports for people and for programs."""

import json
from collections.abc import Iterator
from dataclasses import asdict

from rich.text import Text

from isola.doctor.check import Severity
from isola.doctor.checks import CHECKS
from isola.doctor.examination import Report

STYLES = {Severity.DANGER: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}


def as_json(report: Report) -> str:
    return json.dumps(
        {
            "database": report.database,
            "server": report.server,
            "login": report.login,
            "checks": len(CHECKS),
            "summary": {severity.value: report.count(severity) for severity in Severity},
            "findings": [asdict(finding) for finding in report.findings],
        },
        indent=2,
        ensure_ascii=False,
    )


def as_text(report: Report) -> Iterator[Text]:
    """A block for each finding, and a summary line."""
    for finding in report.findings:
        block = Text()
        block.append(f"{finding.severity:<8}", STYLES[finding.severity])
        block.append(f"{finding.code}  {_shown(finding.object)}\n", "bold")
        about = f"{finding.title}: {finding.detail}" if finding.detail else finding.title
        block.append(f"        {_shown(about)}.\n        {finding.consequence}\n")
        if finding.fix:
            block.append(f"        fix: {_shown(finding.fix)};\n", "green")
        yield block
    counts = ", ".join(f"{severity}s: {report.count(severity)}" for severity in Severity)
    yield Text(
        f"{len(CHECKS)} checks of the database {_shown(report.database)} on PostgreSQL {report.server}, "
        f"login {_shown(report.login)}. {counts}"
    )


def _shown(text: str) -> str:
    """Escapes control characters: names in a database may contain terminal control sequences."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
