"""The ids of adopted rows: UUIDv7 derived from the tenant, the table and the old key.

References can therefore be computed without a lookup, and copying again gives the same ids. The timestamp in an id is
the creation time of the tenant. After it comes the old key if that is an integer, so that rows keep their order;
otherwise 72 bits of a hash. The source evaluates the expressions, with ``@stamp@`` for the timestamp and ``@seed@``
for the tenant.
"""

from collections.abc import Sequence
from hashlib import sha256

from isola.adopting.catalogue import Table, Type

_INTEGERS = {"int2", "int4", "int8"}
_CUTTING = {"bit": "bit varying", "character": "bpchar"}


def keeps_order(table: Table) -> bool:
    """Whether the ids sort in the same order as the keys."""
    types = [table.column(name).type for name in table.key.columns] if table.key else []
    return len(types) == 1 and types[0].base in _INTEGERS and types[0].of_system and not types[0].listed


def identifier(table: Table, columns: Sequence[str]) -> str:
    """The id of the row whose key has the values of these columns."""
    key = table.key
    if key is None:
        raise ValueError(f"{table.name} has no key")
    types = [table.column(name).type for name in key.columns]
    if keeps_order(table):
        mark = sha256(table.sql.encode()).hexdigest()[:2]
        # With the sign bit flipped, negative keys sort before positive ones.
        return _uuid(f"lpad(to_hex({columns[0]}::bigint # (1::bigint << 63)), 16, '0') || '{mark}'")
    texts = [f"quote_literal({column}::{_whole(type_)}::text)" for column, type_ in zip(columns, types, strict=True)]
    return _hashed(table, f"concat_ws(',', {', '.join(texts)})")


def _whole(type_: Type) -> str:
    """A type to cast to without truncation: in SQL, plain ``character`` and ``bit`` have length one."""
    return _CUTTING.get(type_.written, type_.written)


def of_row(table: Table, alias: str) -> str:
    """The id of a row of a table without a key; needs the columns that ``rows`` adds."""
    return _hashed(table, f"{alias}.isola__row || ' ' || {alias}.isola__number")


def rows(table: Table, alias: str) -> str:
    """The FROM item for the rows of a table. Without a key, a row number distinguishes identical rows."""
    if table.key is not None:
        return f"{table.rows} {alias}"
    row = "SELECT s.*, ROW(s.*)::text AS isola__row, row_number() OVER (PARTITION BY ROW(s.*)::text) AS isola__number"
    return f"({row} FROM {table.rows} s) {alias}"


def _hashed(table: Table, text: str) -> str:
    name = table.sql.replace("'", "''")
    return _uuid(f"substr(encode(sha256(convert_to('@seed@ {name} ' || {text}, 'UTF8')), 'hex'), 1, 18)")


def _uuid(digits: str) -> str:
    """A UUIDv7 made of the timestamp and 72 bits in hexadecimal digits."""
    return f"overlay(overlay('@stamp@' || {digits} PLACING '7' FROM 13 FOR 0) PLACING '8' FROM 17 FOR 0)::uuid"
