"""The visibility rule of a row, applied to the values that the log has of it."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    ARRAY,
    Boolean,
    Column,
    ColumnElement,
    MetaData,
    Table,
    Text,
    Uuid,
    any_,
    literal_column,
    not_,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB

from isola.database.transactions import Database
from isola.platform.tenants import Tenant
from isola.subjects import visibility
from isola.subjects.audit import masked
from isola.subjects.metadata import Audited, Row, Viewer

LONG = {"sha256": "00", "size": 1001}


def blocked(row: Row, _: Viewer) -> ColumnElement[bool]:
    return not_(row["blocked"].op("?", return_type=Boolean())(literal_column("'me'", Text())))


def marked(row: Row, _: Viewer) -> ColumnElement[bool]:
    return not_(any_(row["marks"]) == "secret")


def unlisted(row: Row, _: Viewer) -> ColumnElement[bool]:
    return row["is_secret"].is_distinct_from(true())


@pytest.mark.parametrize(
    ("rule", "row", "is_shown"),
    [
        (blocked, {"blocked": ["me"]}, False),
        (blocked, {"blocked": ["you"]}, True),
        (blocked, {"blocked": LONG}, False),
        (blocked, {}, False),
        (marked, {"marks": ["secret"]}, False),
        (marked, {"marks": ["public", "plain"]}, True),
        (marked, {"marks": []}, True),
        (marked, {"marks": LONG}, False),
        (marked, {"marks": None}, False),
        (unlisted, {"is_secret": True}, False),
        (unlisted, {"is_secret": None}, True),
        (unlisted, {"was_secret": True}, False),
    ],
)
async def test_an_entry_is_shown_if_the_rule_admits_the_row_and_withheld_if_that_is_unknown(
    rule: Callable[[Row, Viewer], ColumnElement[bool]],
    row: dict[str, Any],
    is_shown: bool,  # noqa: FBT001  a parameter of the test
    database: Database,
    a: Tenant,
) -> None:
    table = Table(
        "organizations",
        MetaData(),
        Column("id", Uuid, primary_key=True),
        Column("blocked", JSONB),
        Column("marks", ARRAY(Text)),
        Column("is_secret", Boolean),
        info={"audited": Audited("note", {"id": "nte_"}), "visible": rule},
    )
    entry = (
        "WITH audit_entries (id, at, actor, on_behalf_of, request, action, object, old, new, hash) AS (SELECT "
        "gen_random_uuid(), now(), '', '', '', 'note:delete', concat('nte_', gen_random_uuid()), $1::jsonb, "
        "NULL::jsonb, ''::bytea)"
    )
    log = visibility.in_sql(masked(tables=[table]))
    async with database.transaction(a) as work:
        [found] = await work._connection.fetch(f"{entry} SELECT old, old_visible, withheld FROM ({log}) log", row)
    assert dict(found) == {"old": row if is_shown else None, "old_visible": is_shown, "withheld": not is_shown}
