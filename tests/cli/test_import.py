"""``isola import``: resources from JSON Lines."""

import json
from pathlib import Path

import asyncpg
import pytest

from isola.database import embedded
from tests.cli.processes import Place, finished

GOOD = [{"name": f"row {number}", "kind": "k", "data": {"n": number}, "sizeBytes": number} for number in range(2500)]
BAD = ["{", '{"kind": "x"}', '{"name": 3}', '{"name": "x", "colour": "red"}', '{"name": "x", "sizeBytes": -1}', "[]"]


def written(place: Place, *lines: object) -> Path:
    file = place.directory / "rows.jsonl"
    file.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return file


@pytest.mark.parametrize("tenant", ["acme", "globex"], ids=["rls", "schema"])
def test_valid_lines_are_loaded_and_invalid_ones_reported_with_number_and_reason(furnished: Place, tenant: str) -> None:
    file = written(furnished, *GOOD, "", *BAD)

    printed, said, status = finished(furnished.begin("import", str(file), "--tenant", tenant))

    assert status == 1, said
    assert printed == "2500 rows loaded, 6 invalid lines\n"
    reasons = dict(line.split(": ", 1) for line in said.splitlines() if line.startswith("line "))
    first = len(GOOD) + 2
    assert list(reasons) == [f"line {first + index}" for index in range(len(BAD))]
    for line, named in enumerate(("JSON", "name", "name", "colour", "sizeBytes", "object"), first):
        assert named in reasons[f"line {line}"]
    assert "2500 rows" in said  # the last output of the progress bar


def test_strict_loads_nothing_if_any_line_is_bad(furnished: Place) -> None:
    bad, good = written(furnished, *GOOD[:10], BAD[0]), furnished.directory / "good.jsonl"
    good.write_text(json.dumps(GOOD[0]))

    printed, said, status = finished(furnished.begin("import", str(bad), "--tenant", "acme", "--strict"))

    assert (status, printed) == (1, "0 rows loaded, 1 invalid line\n")
    assert "line 11: expected JSON" in said
    assert furnished.run("import", str(good), "--tenant", "acme", "--strict") == "1 row loaded, 0 invalid lines\n"


def test_an_interrupted_import_continues_at_a_line(furnished: Place) -> None:
    file = written(furnished, *GOOD)

    printed = furnished.run("import", str(file), "--tenant", "acme", "--from-line", "2499")

    assert printed == "2 rows loaded, 0 invalid lines\n"


def test_an_impossible_import_fails_with_one_line(furnished: Place) -> None:
    file = written(furnished, GOOD[0])

    assert "no such tenant: 'nobody'" in furnished.fail("import", str(file), "--tenant", "nobody")
    _, said, status = finished(furnished.begin("import", "nowhere.jsonl", "--tenant", "acme"))
    assert status == 2
    assert "file 'nowhere.jsonl' does not exist" in said


async def test_commands_about_tenants_tables_say_that_the_database_has_to_be_migrated(awake: Place) -> None:
    rows, document = written(awake, GOOD[0]), awake.directory / "operation.graphql"
    document.write_text("{ resources(first: 1) { nodes { name } } }")
    owner = await asyncpg.connect(embedded.address(awake.data_dir))
    await owner.execute("UPDATE control.applications SET revision = '0001' WHERE name = 'isola'")
    await owner.close()

    for command in ("import", str(rows)), ("explain", str(document)):
        said = awake.fail(*command, "--tenant", "acme")
        assert "the application isola is installed, but the database has revision 0001 of it" in said
        assert said.endswith(": isola migrate")
