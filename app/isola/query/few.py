"""Rows that are found by other rows or by an index of a column, if there are few; the planner cannot know whether."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import ColumnElement, FromClause, Integer, Select, func, literal_column, select, true

from isola.query.conditions import Lead, Source, by_key

if TYPE_CHECKING:
    from isola.query.statement import Writer

_ONE: ColumnElement[int] = literal_column("1", Integer)


class Few(NamedTuple):
    """The ``rows`` that were found, if they ``are_few``; otherwise none."""

    rows: Source
    are_few: ColumnElement[bool]


class Related(NamedTuple):
    """The same, of rows whose ``column`` has one of the ``keys``.

    The keys are all that there are if ``has_few_keys``: few keys can lead to many rows.
    """

    rows: Source
    are_few: ColumnElement[bool]
    column: str
    keys: Select[tuple[Any]]
    has_few_keys: ColumnElement[bool]


def related(writer: "Writer", site: int, every: Source, lead: Lead, names: Sequence[str]) -> Related:
    """The rows to which related rows lead. ``names``: of the id, and of the columns that order the page."""
    keys = lead.keys.cte(f"keys_{site}")
    # Counting ids needs no row. Otherwise rows are read once, with what orders the page.
    has_ids = lead.column == "id"
    if has_ids:
        led = select(keys.c.key.label("id"))
    else:
        row = by_key(every.where(*lead.others), keys.c.key, f"row_{site}", lead.column)
        led = select(*(row.c[name] for name in names)).select_from(keys.join(row, true()))
    found, are_few = _counted(writer, led, f"led_{site}")
    # A row can have several related rows that lead to it.
    ids = found.distinct().subquery(f"few_ids_{site}")
    rows = _whole(every.where(*lead.others), ids, str(site)) if has_ids else Source(ids, ids, [], is_of_keys=True)
    # The limit lets the planner put the keys into a hash table, whatever number of rows it expects.
    most: ColumnElement[int] = literal_column(str(writer.few), Integer)
    some = select(keys.c.key).limit(most).subquery(f"some_keys_{site}")
    more = select(_ONE).select_from(keys.alias(f"more_keys_{site}")).limit(_ONE).offset(most)
    return Related(rows, are_few, lead.column, select(some.c.key), more.scalar_subquery().is_(None))


def ranged(
    writer: "Writer", site: int, every: Source, column: str, others: Sequence[ColumnElement[bool]], names: Sequence[str]
) -> Few:
    """The rows whose ``column``, which has an index, satisfies the conditions of ``every``, and the ``others``."""
    # In the order of the index: the planner would rather read rows in another one, expecting to find enough soon.
    led = select(*(every.scan.c[name] for name in names)).where(*every.conditions)
    led = led.order_by(every.scan.c[column], every.scan.c.id).correlate_except(every.scan)
    found, are_few = _counted(writer, led, f"ranged_{site}")
    ids = found.subquery(f"few_of_range_{site}")
    rows = Source(ids, ids, [], is_of_keys=True)
    return Few(_whole(every.where(*others), ids, f"of_range_{site}") if others else rows, are_few)


def _counted(writer: "Writer", rows: Select[Any], name: str) -> tuple[Select[Any], ColumnElement[bool]]:
    """The rows if there are few, and whether there are. One more row than few is read at most."""
    most: ColumnElement[int] = literal_column(str(writer.few + 1), Integer)
    read = rows.limit(most).cte(name)
    number = select((func.count() < most).label("are_few")).select_from(read).cte(f"few_{name}")
    are_few = select(number.c.are_few).scalar_subquery()
    return select(read.alias(f"each_{name}")).where(are_few), are_few


def _whole(every: Source, ids: FromClause, name: str) -> Source:
    """The rows with these ids. In the order of ids, they are read only until the page is complete."""
    row = by_key(every, ids.c.id, f"row_{name}_of_id")
    columns = [ids.c.id if column.key == "id" else column for column in row.c]
    whole = select(*columns).select_from(ids.join(row, true())).subquery(f"few_rows_{name}")
    return Source(whole, whole, [])
