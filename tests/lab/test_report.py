"""The report: what it says follows from the results, and the page needs nothing but itself."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from isola.errors import OperatorError
from isola.lab import scenarios
from isola.lab.report import write
from isola.lab.report.results import newest, read
from tests.lab.recorded import RUN, line, record

VOID = {"meta", "br", "hr", "img", "input", "link"}
FETCHES = {"src", "srcset", "data", "action", "poster", "background", "xlink:href"}


class Page(HTMLParser):
    """Every element with its attributes, and whether each is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.balanced = True
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.balanced = self.balanced and bool(self.open) and self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


class Written:
    def __init__(self, directory: Path, results: Path) -> None:
        self.html, self.markdown = directory / "report.html", directory / "report.md"
        write(results, html=self.html, markdown=self.markdown)
        self.text = self.html.read_text(encoding="utf-8")
        self.page = Page(self.text)
        self.plain = self.markdown.read_text(encoding="utf-8")
        self.charts = sorted((directory / "report").glob("*.svg"))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return record(tmp_path / "results.jsonl")


@pytest.fixture
def written(tmp_path: Path, results: Path) -> Written:
    return Written(tmp_path / "there", results)


def picture(file: Path) -> ET.Element:
    return ET.parse(file).getroot()  # noqa: S314  it has just been written


def lines_about(written: Written, label: str) -> list[str]:
    return [line.removeprefix("- ") for line in written.plain.splitlines() if line.startswith(f"- {label}: ")]


def test_the_page_is_well_formed_and_fetches_nothing(written: Written) -> None:
    assert written.page.balanced
    assert written.page.open == []
    for tag, attributes in written.page.elements:
        assert tag not in {"script", "link", "iframe", "object", "embed", "img", "base"}
        assert not FETCHES & attributes.keys()
        assert not any(name.startswith("on") for name in attributes)
        assert (attributes.get("href") or "#").startswith("#")
    assert not re.search(r"url\(|@import|https?://", written.text)


def test_every_link_leads_somewhere_and_no_id_is_there_twice(written: Written) -> None:
    ids = [attributes["id"] for _, attributes in written.page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {f"#{each}" for each in ids} >= {link["href"] for link in written.page.all("a")}
    for svg in written.page.all("svg"):
        assert set((svg["aria-labelledby"] or "").split()) <= set(ids)


def test_every_chart_has_a_title_and_its_figures_in_words(written: Written) -> None:
    assert written.charts
    for file in written.charts:
        drawn = picture(file)
        title, description = (drawn.findtext(f"{{http://www.w3.org/2000/svg}}{tag}") for tag in ("title", "desc"))
        assert title
        assert description
        assert re.search(r"\d|no difference", description)


def test_every_scenario_has_its_section_and_its_figures_both_ways(results: Path, written: Written) -> None:
    for name in read(results).scenarios:
        assert any(section.get("id") == f"scenario-{name}" for section in written.page.all("section"))
    for name, scenario in scenarios.load().items():
        if name in read(results).scenarios:
            assert f"## {scenario.question}" in written.plain
            assert all(note in written.plain for note in getattr(scenario, "notes", ()))
    assert "| Resource | 10 | rls |" in written.plain
    assert "| Resource | 10 | rls to schema |" in written.plain
    for chart in re.findall(r"!\[[^\]]*\]\(report/([^)]+)\)", written.plain):
        assert any(file.name == chart for file in written.charts)


def test_the_verdict_has_the_crossover_that_the_data_show(written: Written) -> None:
    (said,) = lines_about(written, "Reads a second")
    found = re.match(r"Reads a second: under about (\d+) tenants `schema` is ahead \(1\..* at 10\); above, `rls`", said)
    assert found
    assert 10 < int(found[1]) < 100


def test_other_results_give_another_verdict(tmp_path: Path) -> None:
    slow = Written(tmp_path, record(tmp_path / "slow.jsonl", slower={"schema": 3.0}))
    (said,) = lines_about(slow, "Reads a second")
    assert said.startswith("Reads a second: `rls` is ahead at every size measured")
    assert "no crossover" in said
    even = Written(tmp_path, record(tmp_path / "even.jsonl", noise=2.0))
    (said,) = lines_about(even, "Reads a second")
    assert said == "Reads a second: no significant difference from 10 to 1,000 tenants."


def first_sentences(written: Written) -> str:
    return written.plain.partition("## The verdict")[2].partition("### ")[0]


def test_the_first_sentences_recommend_a_strategy_with_the_crossover(written: Written) -> None:
    said = first_sentences(written).strip()
    assert said.startswith("Choose `rls` for many tenants (1,000 were the most that were measured)")
    assert re.search(
        r"`rls` is the better choice if you need .*little memory a connection \(5\.\d+. with 1,000 tenants\)", said
    )
    found = re.search(r"The number decides for many reads a second: `schema` up to about (\d+) tenants", said)
    assert found
    assert 10 < int(found[1]) < 100
    assert "no crossover" not in said


def test_without_a_crossover_the_first_sentences_say_why(tmp_path: Path) -> None:
    slow = Written(tmp_path, record(tmp_path / "slow.jsonl", slower={"schema": 3.0}))
    said = first_sentences(slow)
    assert "The number decides" not in said
    assert "There is no crossover: " in said
    assert re.search(
        r"The difference grows with size for many reads a second \(`rls` 2\.\d+. at 10, \d\.\d+. at 1,000", said
    )


def test_criteria_of_single_tenants_and_of_all_are_recommended_separately(tmp_path: Path, results: Path) -> None:
    lines = [
        line("restore", subject, {"tenants": tenants}, number, values={"restore_s": seconds * (1 + number / 100)})
        for tenants in (10, 1000)
        for subject, seconds in (("rls", 0.1 * tenants), ("schema", 1.0 + tenants / 1000))
        for number in range(3)
    ]
    results.write_text(results.read_text() + "".join(json.dumps(each) + "\n" for each in lines))
    said = first_sentences(Written(tmp_path, results))
    assert "Choose `schema` for a tenant that has to be treated by itself" in said
    assert re.search(r"`schema` is the better choice if you need restoring one tenant \(50. with 1,000 tenants\)", said)


def test_failed_omitted_and_disturbed_measurements_are_reported_as_plain_text(tmp_path: Path) -> None:
    results = record(tmp_path / "results.jsonl")
    results.write_text(results.read_text().replace('"busy_elsewhere": 0.02', '"busy_elsewhere": 0.5'))
    written = Written(tmp_path, results)
    assert "no &lt;disk&gt; for it" in written.text
    assert "no &lt;disk> for it" in written.plain
    assert "&lt;npm&gt; is not installed" in written.text
    assert "other work took 50% of it" in written.text


def test_the_report_names_the_measured_tables_with_their_rows(tmp_path: Path) -> None:
    about = {"name": "zoo", "subject": "keeper", "rows": {"100": {"keepers": 100, "animals": 1234}}}
    results = record(tmp_path / "zoo.jsonl", run={"application": about})
    write(results, html=tmp_path / "zoo.html", markdown=tmp_path / "zoo.md")
    text = (tmp_path / "zoo.md").read_text(encoding="utf-8")
    assert "of the application `zoo`" in text
    assert "| `animals` | 1,234 |" in text
    assert "isola bench run --application zoo --profile quick" in text
    assert "`animals`" not in (tmp_path / "zoo.html").read_text(encoding="utf-8")


def test_a_third_strategy_is_compared_with_each_other_one(tmp_path: Path, results: Path) -> None:
    more = [line.replace('"rls"', '"cells"') for line in results.read_text().splitlines() if '"rls"' in line]
    results.write_text(results.read_text() + "\n".join(more) + "\n")
    charts = {file.name for file in Written(tmp_path, results).charts}
    assert {"overview-rls-schema.svg", "overview-rls-cells.svg", "overview-schema-cells.svg"} <= charts


def test_one_strategy_alone_gets_a_report_without_a_verdict(tmp_path: Path, results: Path) -> None:
    results.write_text("\n".join(line for line in results.read_text().splitlines() if '"schema"' not in line) + "\n")
    assert "Nothing was measured for two strategies alike" in Written(tmp_path, results).plain


def test_the_newest_results_are_those_whose_run_began_last(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="isola bench"):
        newest(tmp_path)
    late = record(tmp_path / "a.jsonl", run={"started": "2026-12-01T00:00:00Z"})
    record(tmp_path / "b.jsonl", run={"started": "2026-11-01T00:00:00Z"})
    assert newest(tmp_path) == late


def test_measures_independent_of_rows_are_summarised_over_all_numbers_of_rows(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    points = [{"tenants": 10, "rows": 100}, {"tenants": 100, "rows": 100}, {"tenants": 5000, "rows": 10}]
    lines = [
        line("memory", subject, point, number, values={"backend_bytes": size * (1 + number / 100), "tables_bytes": 1.0})
        for point in points
        for subject, size in (("rls", 1e6), ("schema", 1e6 + 1e4 * int(point["tenants"])))
        for number in range(3)
    ]
    results.write_text("\n".join(json.dumps(each) for each in ({"run": RUN}, *lines)) + "\n")
    (said,) = lines_about(Written(tmp_path, results), "Memory of a connection")
    assert said.startswith("Memory of a connection: `rls` is ahead at every size measured, by 1.10")
    assert "5,000 tenants" in said


def test_names_of_an_application_stand_in_the_report_as_they_are(tmp_path: Path, results: Path) -> None:
    long, odd = f"Search{'Long' * 30}", "__Odd_Name__"
    results.write_text(results.read_text().replace('"Resources"', f'"{long}"').replace('"Resource"', f'"{odd}"'))
    written = Written(tmp_path / "own", results)

    pictures = [picture(chart) for chart in written.charts]
    titles = [each for one in pictures for each in one.findall(".//{*}text") if each.get("class") == "title"]
    assert {long, odd} <= {each.text for each in titles}
    width = float(pictures[0].get("viewBox", "").split()[2])
    for each in titles:
        squeezed = each.get("textLength")
        assert (squeezed is not None and float(squeezed) < width) == (each.text == long)
    # In Markdown, underscores around a word make it bold.
    assert r"\_\_Odd_Name\_\_: throughput" in written.plain
    assert odd not in written.plain.replace("`", "")
    assert odd in written.text


def test_operations_that_differ_only_in_capitals_have_charts_of_their_own(tmp_path: Path, results: Path) -> None:
    results.write_text(results.read_text().replace('"Resources"', '"RESOURCE"'))
    written = Written(tmp_path / "own", results)

    named = [chart for chart in written.charts if chart.name.startswith("read-throughput")]
    assert len(named) == 2
    assert sorted(str(picture(chart).findtext(".//{*}text")) for chart in named) == ["RESOURCE", "Resource"]
    assert len(re.findall(r'id="[^"]*"', written.text)) == len(set(re.findall(r'id="[^"]*"', written.text)))
