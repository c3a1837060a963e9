"""Writes the report of a file of results."""

import inspect
from collections.abc import Mapping
from pathlib import Path

from isola.lab import scenarios
from isola.lab.report import about, sections, verdict
from isola.lab.report.document import Report
from isola.lab.report.html import written as as_html
from isola.lab.report.markdown import written as as_markdown
from isola.lab.report.results import Results, read
from isola.lab.report.sections import Asked


def write(results: Path, *, html: Path, markdown: Path) -> None:
    """Write the report of a file of results as one page, and as Markdown.

    The Markdown's charts go to a folder beside it that is called like it, without its ending. Raises OperatorError when
    ``results`` is no file of results.
    """
    report = made(read(results), asked())
    charts = markdown.with_suffix("")
    for directory in (charts, html.parent):
        directory.mkdir(parents=True, exist_ok=True)
    for chart in report.charts:
        (charts / f"{chart.name}.svg").write_text(chart.alone(), encoding="utf-8")
    markdown.write_text(as_markdown(report, charts.name), encoding="utf-8")
    html.write_text(as_html(report), encoding="utf-8")


def asked() -> Mapping[str, Asked]:
    """The descriptions of all scenarios."""
    return {
        name: Asked(
            scenario.question,
            inspect.cleandoc(vars(type(scenario)).get("__doc__") or ""),
            tuple(getattr(scenario, "notes", ())),
        )
        for name, scenario in scenarios.load().items()
    }


def made(results: Results, asked: Mapping[str, Asked]) -> Report:
    """The report, not yet written in any language. A scenario that is not ``asked`` is headed by its name."""
    run = results.run
    machine, versions = run.get("machine", {}), run.get("versions", {})
    about_what = f", of the application `{results.application}`" if results.application else ""
    subtitle = (
        f"Measured by the profile `{run.get('profile', '?')}` on {str(run.get('started', '?'))[:10]}, with PostgreSQL "
        f"{versions.get('postgresql', '?')} on {machine.get('cores', '?')} cores{about_what}."
    )
    return Report(
        "Choosing an isolation strategy: what was measured",
        subtitle,
        [
            verdict.section(results),
            *([about.application(results)] if results.application else []),
            *(
                sections.section(results, name, asked.get(name) or Asked(name.capitalize()))
                for name in results.scenarios
            ),
            about.confidence(results),
            about.elsewhere(),
            about.left_out(results),
            about.machine(results),
            about.again(results),
        ],
    )
