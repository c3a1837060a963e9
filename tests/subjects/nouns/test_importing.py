"""Importing resources from JSON Lines files: invalid lines are reported, and no valid line is lost."""

import asyncio
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from isola.database.transactions import Database
from isola.errors import OperatorError
from isola.platform import importing
from isola.platform.importing import Outcome
from isola.platform.tenants import Tenant
from isola.subjects.resources import Resource
from isola_strategies.base import Strategy
from tests.subjects.nouns.conftest import state

GOOD = b'{"name": "good"}'
DEEP = b'{"name": "deep", "data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
NESTED = b'{"name": "nested", "data": ' + b"[" * 900 + b"]" * 900 + b"}"

BAD: dict[bytes, str] = {
    b"{": "expected JSON: Expecting property name enclosed in double quotes at column 2",
    b"nonsense": "expected JSON: Expecting value at column 1",
    b'{"name": "a"} {}': "expected JSON: Extra data at column 15",
    b'{"name": "a\x00b"}': "expected JSON: Invalid control character at",
    b'{"name": "\xff"}': "expected UTF-8",
    b'\xed\xa0\x80{"name": "a"}': "expected UTF-8",
    b"[]": "expected an object",
    b'"name"': "expected an object",
    b"null": "expected an object",
    b"{}": "name: expected a string",
    b'{"name": null}': "name: expected a string",
    b'{"name": 1}': "name: expected a string",
    b'{"name": ""}': "name: expected 1 to 200 characters",
    b'{"name": "' + b"n" * 201 + b'"}': "name: expected 1 to 200 characters",
    b'{"name": "a\\u0000b"}': "name: expected no NUL character",
    b'{"name": "a\\ud800b"}': "name: expected a value that JSON in UTF-8 can represent",
    b'{"name": "a", "nmae": "b"}': "unknown field 'nmae': expected name, kind, data, sizeBytes",
    b'{"name": "a", "\\ud800": 1}': "unknown field '\\ud800': expected",
    b'{"name": "a", "id": 1}': "unknown field 'id': expected",
    b'{"name": "a", "tenant_id": 1}': "unknown field 'tenant_id': expected",
    b'{"name": "a", "kind": 1}': "kind: expected a string or null",
    b'{"name": "a", "kind": "\\u0000"}': "kind: expected no NUL character",
    b'{"name": "a", "sizeBytes": "1"}': "sizeBytes: expected an integer",
    b'{"name": "a", "sizeBytes": 1.0}': "sizeBytes: expected an integer",
    b'{"name": "a", "sizeBytes": true}': "sizeBytes: expected an integer",
    b'{"name": "a", "sizeBytes": null}': "sizeBytes: expected an integer",
    b'{"name": "a", "sizeBytes": -1}': "sizeBytes: expected 0 to 9007199254740991",
    b'{"name": "a", "sizeBytes": 9007199254740992}': "sizeBytes: expected 0 to 9007199254740991",
    b'{"name": "a", "sizeBytes": 99999999999999999999}': "sizeBytes: expected 0 to 9007199254740991",
    b'{"name": "a", "sizeBytes": ' + b"9" * 5000 + b"}": "sizeBytes: expected an integer",
    b'{"name": "a", "data": null}': "data: expected a value other than null",
    b'{"name": "a", "data": NaN}': "expected JSON, which has neither NaN nor Infinity",
    b'{"name": "a", "data": [-Infinity]}': "expected JSON, which has neither NaN nor Infinity",
    b'{"name": "a", "data": 1e999}': "data: expected numbers of at most 100 digits",
    b'{"name": "a", "data": [1e-400]}': "data: expected numbers of at most 100 digits",
    b'{"name": "a", "data": -0.0}': "data: expected no negative zero",
    b'{"name": "a", "data": 1e9999999999999999999}': "expected JSON",
    b'{"name": "a", "kind": "' + b"k" * 201 + b'"}': "kind: expected at most 200 characters",
    b'{"name": "a", "data": {"\\u0000": 1}}': "data: expected no NUL character",
    b'{"name": "a", "data": ["\\udfff"]}': "data: expected a value that JSON in UTF-8 can represent",
    DEEP: "expected JSON that is less deeply nested",
    NESTED: "data: expected at most 100 levels of nesting",
}  # fmt: skip


async def load(
    database: Database, tenant: Tenant, file: Path, *, strict: bool = False, from_line: int = 1, owner: str = "import"
) -> Outcome:
    return await importing.load(
        database, tenant, Resource, file, owner=owner, strict=strict, from_line=from_line, progress=lambda *_: None
    )


async def names(database: Database, tenant: Tenant) -> list[str]:
    async with database.transaction(tenant) as work:
        return await work.texts("SELECT name FROM resources ORDER BY name")


def written(path: Path, *lines: bytes, end: bytes = b"\n") -> Path:
    file = path / "resources.jsonl"
    file.write_bytes(b"".join(line + end for line in lines))
    return file


async def test_every_field_arrives_as_it_was_written(database: Database, a: Tenant, tmp_path: Path) -> None:
    full: dict[str, Any] = {
        "name": "\u00e9\U0001f600 'quoted\" \\ %s", "kind": "report",
        "data": {"a": [1, -0.5, 1e15, None, True, "\\u0000", {"": []}]}, "sizeBytes": 2**53 - 1,
    }  # fmt: skip
    plain = {"name": "plain"}
    file = written(
        tmp_path, json.dumps(full).encode(), json.dumps(full, ensure_ascii=False).encode(), b'{"name": "plain"}'
    )
    outcome = await load(database, a, file, owner="ada")
    assert outcome == Outcome(loaded=3, last_line=3, bad=[])
    columns = "jsonb_build_object('name', r.name, 'kind', kind, 'data', data, 'sizeBytes', size_bytes)::text"
    async with database.transaction(a) as work:
        found = await work.texts(f"SELECT {columns} FROM resources r ORDER BY size_bytes")
        owners = await work.texts("SELECT DISTINCT subject FROM resources JOIN users u ON u.id = owner_id")
    assert [json.loads(row) for row in found] == [{**plain, "kind": None, "data": {}, "sizeBytes": 0}, full, full]
    assert owners == ["ada"]


async def test_another_tenant_is_unchanged(database: Database, a: Tenant, b: Tenant, tmp_path: Path) -> None:
    before = await state(database, b)
    await load(database, a, written(tmp_path, GOOD, b"nonsense", GOOD))
    assert await names(database, a) == ["good", "good"]
    assert await state(database, b) == before


async def test_an_invalid_line_is_skipped_and_reported_with_number_and_reason(
    database: Database, a: Tenant, tmp_path: Path
) -> None:
    lines = [line for bad in BAD for line in (bad, GOOD)]
    outcome = await load(database, a, written(tmp_path, *lines))
    assert [number for number, _ in outcome.bad] == list(range(1, 2 * len(BAD), 2))
    for (_, reason), (line, expected) in zip(outcome.bad, BAD.items(), strict=True):
        assert reason.startswith(expected), line[:80]
    assert (outcome.loaded, outcome.last_line) == (len(BAD), len(lines))
    assert await names(database, a) == ["good"] * len(BAD)


async def test_a_line_that_the_database_refuses_is_named_and_costs_no_other(
    owner: Database, database: Database, strategy: Strategy, a: Tenant, b: Tenant, tmp_path: Path
) -> None:
    """Also if it conflicts with another line of the same batch."""
    async with owner.unbound() as work:
        home = strategy.home(a.id).schema
        await work.script(f"CREATE UNIQUE INDEX uq_resources_kind ON {home}.resources (kind) WHERE name LIKE 'once%'")
    before = await state(database, b)
    lines = [b'{"name": "%03d"}' % number for number in range(1, 301)]
    for number in (10, 11, 12, 250):
        lines[number - 1] = b'{"name": "once %03d", "kind": "the same"}' % number
    outcome = await load(database, a, written(tmp_path, *lines, b"nonsense"))
    assert [number for number, _ in outcome.bad] == [11, 12, 250, 301]
    assert {reason for number, reason in outcome.bad if number < 301} == {
        "resources: there is one with the same kind already"
    }
    assert (outcome.loaded, outcome.last_line) == (297, 301)
    stored = [line for line in lines if b"once" not in line or b"010" in line]
    assert await names(database, a) == sorted(json.loads(line)["name"] for line in stored)
    assert await state(database, b) == before


async def test_strict_loads_nothing_if_any_line_is_bad(database: Database, a: Tenant, tmp_path: Path) -> None:
    before = await state(database, a)
    file = written(tmp_path, *[GOOD] * 1500, b"nonsense", GOOD, b"[]")
    outcome = await load(database, a, file, strict=True)
    assert (outcome.loaded, [number for number, _ in outcome.bad]) == (0, [1501, 1503])
    # Not even the user that would own all of it is created.
    assert await state(database, a) == before


async def test_strict_loads_all_if_no_line_is_bad(database: Database, a: Tenant, tmp_path: Path) -> None:
    assert await load(database, a, written(tmp_path, GOOD, b"", GOOD), strict=True) == Outcome(2, 3, [])
    assert await names(database, a) == ["good"] * 2


async def test_strict_looks_only_at_lines_that_would_be_loaded(database: Database, a: Tenant, tmp_path: Path) -> None:
    outcome = await load(database, a, written(tmp_path, b"nonsense", GOOD), strict=True, from_line=2)
    assert outcome == Outcome(1, 2, [])


async def test_an_import_continues_from_a_line(database: Database, a: Tenant, tmp_path: Path) -> None:
    file = written(tmp_path, *(b'{"name": "%d"}' % number for number in range(1, 6)))
    assert await load(database, a, file, from_line=4) == Outcome(2, 5, [])
    assert await names(database, a) == ["4", "5"]
    assert await load(database, a, file, from_line=7) == Outcome(0, 6, [])
    assert await names(database, a) == ["4", "5"]


@pytest.mark.parametrize(
    "text",
    [
        b'{"name": "a"}\r\n{"name": "b"}\r\n',
        b'{"name": "a"}\n{"name": "b"}',
        b'\n \n{"name": "a"}\n\t\r\n\r\n{"name": "b"}\n\n',
        b'\xef\xbb\xbf{"name": "a"}\n{"name": "b"}\n',
        b'  {"name": "a"}  \n\t{"name":\t"b"}\t\n',
    ],
    ids=["CRLF", "no newline at the end", "blank lines", "byte order mark", "white space"],
)
async def test_harmless_differences_between_files(database: Database, a: Tenant, tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "resources.jsonl"
    file.write_bytes(text)
    outcome = await load(database, a, file)
    assert (outcome.loaded, outcome.bad) == (2, [])
    assert await names(database, a) == ["a", "b"]


@pytest.mark.parametrize("text", [b"", b"\n\n", b"\xef\xbb\xbf"])
async def test_a_file_of_nothing_is_no_error(database: Database, a: Tenant, tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "resources.jsonl"
    file.write_bytes(text)
    outcome = await load(database, a, file)
    assert (outcome.loaded, outcome.bad) == (0, [])


async def test_a_line_that_is_too_long_is_bad_and_the_next_one_is_not(
    database: Database, a: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "MAX_LINE_BYTES", 100)
    longest = b'{"name": "longest"' + b" " * 81 + b"}"
    assert len(longest) == 100
    lines = [longest, longest + b" ", GOOD, b'{"name": "' + b"n" * 1000, GOOD, b" " * 101, b"x" * 201]
    outcome = await load(database, a, written(tmp_path, *lines))
    assert outcome.bad == [(number, "expected at most 100 bytes") for number in (2, 4, 6, 7)]
    assert await names(database, a) == ["good", "good", "longest"]


async def test_batches_are_of_so_many_rows_or_bytes(
    database: Database, a: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "BATCH", 4)
    monkeypatch.setattr(importing, "BATCH_BYTES", 10_000)
    large = b'{"name": "large", "data": "' + b"x" * 6000 + b'"}'
    file = written(tmp_path, *[GOOD] * 6, *[large] * 4, GOOD)
    told: list[tuple[int, int]] = []
    await importing.load(
        database, a, Resource, file, owner="import", strict=False, from_line=1,
        progress=lambda read, so_far: told.append((read, so_far.loaded)),
    )  # fmt: skip
    assert [loaded for _, loaded in told] == [4, 8, 10, 11]
    assert told[-1][0] == file.stat().st_size
    assert sorted(read for read, _ in told) == [read for read, _ in told]
    async with database.transaction(a) as work:
        # Rows of one batch are created in one transaction, with the same time.
        assert await work.texts("SELECT count(*)::text FROM resources GROUP BY created_at ORDER BY created_at") == [
            *"4421"
        ]


@pytest.mark.parametrize("interruption", [asyncio.CancelledError, OSError])
async def test_an_interruption_leaves_whole_batches_and_reports_the_next_line(
    database: Database,
    a: Tenant,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    interruption: type[BaseException],
) -> None:
    monkeypatch.setattr(importing, "BATCH", 10)
    rows = [b'{"name": "%02d"}' % number for number in range(50)]
    file = written(tmp_path, b"nonsense", *rows)
    so_far = Outcome()

    def progress(_: int, outcome: Outcome) -> None:
        nonlocal so_far
        so_far = outcome
        if outcome.loaded == 30:
            raise interruption

    with pytest.raises((asyncio.CancelledError, OperatorError)):
        await importing.load(database, a, Resource, file, owner="import", strict=False, from_line=1, progress=progress)
    assert (so_far.loaded, so_far.last_line) == (30, 31)
    assert await names(database, a) == [f"{number:02}" for number in range(30)]

    outcome = await load(database, a, file, from_line=so_far.last_line + 1)
    assert (outcome.loaded, outcome.last_line, outcome.bad) == (20, 51, [])
    assert await names(database, a) == [f"{number:02}" for number in range(50)]


async def test_cancelled_while_a_batch_is_under_way_leaves_whole_batches(
    database: Database, a: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "BATCH", 100)
    file = written(tmp_path, *[GOOD] * 2000)
    loading = asyncio.create_task(load(database, a, file))
    while not await names(database, a):
        assert not loading.done()
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    loaded = len(await names(database, a))
    assert loaded % 100 == 0
    assert 0 < loaded <= 2000


async def test_a_pipe_is_read_incrementally(database: Database, a: Tenant, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=[(GOOD + b"\n") * 2500])
    writer.start()
    outcome = await load(database, a, pipe)
    writer.join()
    assert outcome == Outcome(2500, 2500, [])
    assert len(await names(database, a)) == 2500


async def test_a_pipe_cannot_be_read_twice(database: Database, a: Tenant, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    both_ends = os.open(pipe, os.O_RDWR)
    with pytest.raises(OperatorError, match=r"pipe: expected a regular file, since --strict reads it twice"):
        await load(database, a, pipe, strict=True)
    os.close(both_ends)
    assert await names(database, a) == []


async def test_a_file_that_cannot_be_read_is_named(database: Database, a: Tenant, tmp_path: Path) -> None:
    before = await state(database, a)
    with pytest.raises(OperatorError, match=r"missing\.jsonl: No such file or directory"):
        await load(database, a, tmp_path / "missing.jsonl")
    with pytest.raises(OperatorError, match="Is a directory"):
        await load(database, a, tmp_path)
    assert await state(database, a) == before
