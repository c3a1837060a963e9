"""Limits of indexed texts, and of times to the range of ISO 8601: in the declaration and in the database."""

import re
from collections.abc import Iterator
from random import Random

import pytest
from sqlalchemy import CheckConstraint, Column, DateTime, Table, Text, insert
from sqlalchemy.schema import ColumnCollectionConstraint

from isola.database.transactions import Database
from isola.platform import tenants as control_tables
from isola.platform.tenants import Tenant
from isola.subjects import resources
from isola.subjects.metadata import metadata
from isola.subjects.search import words_of
from isola.testing.oracles.canary import tried
from tests.subjects.nouns.conftest import People

# An entry of a B-tree may take a third of a page.
MOST_BYTES = 2700
BYTES_A_CHARACTER = 4
# Of PostgreSQL's text search: it leaves out longer ones.
MOST_BYTES_OF_A_WORD = 2046
CHECK_VIOLATION = "23514"
TABLES = [*metadata.tables.values(), *control_tables.metadata.tables.values()]
# This time is never shown, and may be infinite.
ENDLESS = {"revocations.until"}


def keys(table: Table) -> Iterator[list[Column[object]]]:
    """The columns of each index and of each key."""
    for index in table.indexes:
        yield list(index.columns)
    for constraint in (table.primary_key, *table.constraints):
        if isinstance(constraint, ColumnCollectionConstraint) and not isinstance(constraint, CheckConstraint):
            yield list(constraint.columns)


def checks(table: Table) -> str:
    return "\n".join(str(each.sqltext) for each in table.constraints if isinstance(each, CheckConstraint))


def most_bytes(column: Column[object]) -> int:
    """The maximum number of bytes of a column in an index, according to its checks."""
    if not isinstance(column.type, Text):
        return 16
    rules = checks(column.table)
    if found := re.search(rf"\blength\({column.name}\) BETWEEN \d+ AND (\d+)", rules):
        return int(found[1]) * BYTES_A_CHARACTER
    if found := re.search(rf"\boctet_length\({column.name}\) <= (\d+)", rules):
        return int(found[1])
    if any(words.table is column.table for words in map(words_of, TABLES) if words):
        return MOST_BYTES_OF_A_WORD
    if re.search(rf"\b{column.name} IN \(", rules) or re.search(rf"\b{column.name} ~ '\^.*\{{\d+,\d+\}}.*\$'", rules):
        return 256
    return MOST_BYTES


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.fullname)
def test_every_text_in_an_index_fits_into_it(table: Table) -> None:
    too_long = [[column.name for column in key] for key in keys(table) if sum(map(most_bytes, key)) >= MOST_BYTES]
    # A foreign key refers to a column that has a limit.
    references = [[column.name for column in key] for key in keys(table) if all(column.foreign_keys for column in key)]
    assert [key for key in too_long if key not in references] == []


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.fullname)
def test_every_time_is_one_that_can_be_written(table: Table) -> None:
    rules = checks(table)
    unchecked = {
        f"{table.name}.{column.name}"
        for column in table.columns
        if isinstance(column.type, DateTime) and f"{column.name} < '10000-01-01 00:00:00+00'" not in rules
    }
    assert unchecked - ENDLESS == set()


@pytest.mark.parametrize("column", ["kind", "name"])
async def test_the_longest_text_is_stored_and_a_longer_one_is_refused(
    column: str, database: Database, a: Tenant, people: People
) -> None:
    # Compressible texts would fit at any length.
    random = Random(7)  # noqa: S311  a test's own text
    longest = "".join(chr(0x20000 + random.randrange(40_000)) for _ in range(resources.MAX_KIND))
    values = {"owner_id": people.ada.user_id, "name": "x", column: longest}
    async with database.transaction(a) as work:
        await work.execute(insert(resources.resources).values(values))
        longer = f"UPDATE resources SET {column} = {column} || 'x' RETURNING id"
        assert await tried(work, longer) == CHECK_VIOLATION


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "10000-01-01", "0001-12-31 BC"])
async def test_no_time_is_stored_that_cannot_be_written(
    moment: str, database: Database, a: Tenant, people: People
) -> None:
    async with database.transaction(a) as work:
        made = insert(resources.resources).values(owner_id=people.ada.user_id, name="x")
        await work.execute(made)
        assert await tried(work, f"UPDATE resources SET created_at = '{moment}' RETURNING id") == CHECK_VIOLATION
