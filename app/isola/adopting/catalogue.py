"""The structure of a database from its catalogue: tables with columns, keys and checks, and all other objects.

SQL reads it from pg_catalog only. PostgreSQL itself quotes the identifiers.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Any

from isola.adopting.others import OF_PERIODS, OF_TABLES, OTHERS, OWN
from isola.database.transactions import Transaction
from isola.errors import OperatorError

MINIMUM_VERSION = 140000


@dataclass(frozen=True, slots=True)
class Type:
    """A type, with domains resolved. ``base`` is its name in pg_type; for an array, the name of the item type.

    ``labels`` are those of an enum; ``default`` and ``dimensions`` are those of a domain. ``exact``: equal values have
    the same text form.
    """

    written: str
    base: str
    modifier: int
    kind: str
    category: str
    listed: bool
    of_system: bool
    labels: Sequence[str] = ()
    domain: str | None = None
    rules: Sequence[str] = ()
    required: bool = False
    default: str | None = None
    dimensions: int = 0
    exact: bool = True


@dataclass(frozen=True, slots=True)
class Column:
    """``sql`` is the quoted name, ``generated`` the generation expression, ``dimensions`` those of an array."""

    name: str
    sql: str
    type: Type
    required: bool
    default: str | None
    generated: str | None
    identity: bool
    dimensions: int
    comment: str | None


@dataclass(frozen=True, slots=True)
class Key:
    """A primary key, or another unique key of a table. ``written`` is its index in SQL."""

    name: str
    columns: Sequence[str]
    primary: bool
    nulls_distinct: bool
    deferrable: bool
    written: str


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """``target`` is the oid of the referenced table, ``schema`` and ``target_name`` are its name."""

    name: str
    columns: Sequence[str]
    target: int
    schema: str
    target_name: str
    remote: Sequence[str]
    on_delete: str
    on_update: str
    deferred: bool
    full: bool


@dataclass(frozen=True, slots=True)
class Check:
    """``foreign``: it depends on functions, operators or types that are not built into PostgreSQL."""

    name: str
    condition: str
    columns: Sequence[str]
    foreign: bool


@dataclass(frozen=True, slots=True)
class Index:
    """An index that does not back a key. ``unlike`` says why it is no plain index over columns; None if it is one."""

    name: str
    columns: Sequence[str]
    unlike: str | None
    written: str


@dataclass(frozen=True)
class Table:
    oid: int
    name: str
    sql: str
    kind: str
    comment: str | None
    columns: Sequence[Column]
    keys: Sequence[Key]
    foreign_keys: Sequence[ForeignKey]
    checks: Sequence[Check]
    indexes: Sequence[Index]
    has_children: bool

    def column(self, name: str) -> Column:
        return next(each for each in self.columns if each.name == name)

    @property
    def rows(self) -> str:
        """The FROM item: without the rows of inheritance children, but with those of partitions."""
        return f"{'' if self.kind == 'p' else 'ONLY '}{self.sql}"

    @cached_property
    def key(self) -> Key | None:
        """The key that identifies its rows: the primary key, else the first unique key without nullable columns."""
        for each in sorted(self.keys, key=lambda key: not key.primary):
            if each.primary or all(self.column(name).required for name in each.columns):
                return each
        return None

    @property
    def shape(self) -> str:
        """A digest of the properties that matter for copying its rows."""
        columns = [(each.name, each.type.written, each.required) for each in self.columns]
        key = self.key.columns if self.key else None
        keys = [(each.columns, each.target_name, each.remote) for each in self.foreign_keys]
        return sha256(json.dumps([columns, key, keys]).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Other:
    """An object other than a table: its kind, its name, and a note or location."""

    kind: str
    name: str
    written: str = ""


@dataclass(frozen=True)
class Catalogue:
    database: str
    schema: str
    tables: Sequence[Table]
    others: Sequence[Other] = field(default_factory=list)


WRITTEN = (
    "SET LOCAL DateStyle TO 'ISO, MDY'; SET LOCAL IntervalStyle TO postgres; SET LOCAL TimeZone TO 'UTC'; "
    "SET LOCAL bytea_output TO hex; SET LOCAL extra_float_digits TO 1"
)
"""Settings with which values are written the same way everywhere."""


async def isolate(source: Transaction) -> None:
    """Make a transaction a read-only snapshot of the source, with fixed output formats for values.

    Call it first. Row-level security in the source would silently hide rows, so it raises an error instead.
    """
    await source.script(
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL row_security TO off; "
        f"SET LOCAL search_path TO pg_catalog; SET LOCAL lock_timeout TO '5s'; {WRITTEN}"
    )


async def read(source: Transaction, schema: str) -> Catalogue:
    """Read the objects of a schema. Raises OperatorError if the schema does not exist or cannot be read."""
    version = int(await source.value("SELECT current_setting('server_version_num')"))
    if version < MINIMUM_VERSION:
        raise OperatorError(
            f"the source is PostgreSQL {version // 10000}: expected {MINIMUM_VERSION // 10000} or later"
        )
    if not await source.value("SELECT count(*) FROM pg_namespace WHERE nspname = $1", schema):
        raise OperatorError(f"the source has no schema {schema!r}: expected the name of one, as --schema")
    types = await _types(source)
    parts: dict[str, dict[int, list[Any]]] = {}
    for part, query in _PARTS.items():
        parts[part] = {}
        for row in await source.value(_gathered(query), schema):
            parts[part].setdefault(row.pop("oid"), []).append(row)
    others = [Other(**row) for row in await source.value(_gathered(OTHERS), schema)]
    tables = []
    for row in await source.value(_gathered(_TABLES), schema):
        oid = row["oid"]
        if not row.pop("readable"):
            raise OperatorError(f"the login may not read {row['name']}: expected SELECT on every table of {schema}")
        columns = [_column(types, each) for each in parts["columns"].get(oid, [])]
        tables.append(
            Table(
                **row,
                columns=columns,
                keys=[Key(**each) for each in parts["keys"].get(oid, [])],
                foreign_keys=[
                    *(ForeignKey(**each) for each in parts["foreign_keys"].get(oid, [])),
                    *_common(parts["of_partitions"].get(oid, []), others),
                ],
                checks=[Check(**each) for each in parts["checks"].get(oid, [])],
                indexes=[Index(**each) for each in parts["indexes"].get(oid, [])],
            )
        )
    database = str(await source.value("SELECT current_database()"))
    return Catalogue(database, schema, tables, others)


def _column(types: Mapping[int, Mapping[str, Any]], row: dict[str, Any]) -> Column:
    type_ = _typed(types, row.pop("type"), row.pop("modifier"), exact=row.pop("exact"))
    # A domain has what its column has not: NOT NULL, a default, dimensions.
    of_domain = {
        "required": row["required"] or type_.required,
        "default": row["default"] or (None if row["generated"] or row["identity"] else type_.default),
        "dimensions": row["dimensions"] or type_.dimensions,
    }
    return Column(**row | {"type": type_} | of_domain)


def _common(rows: Sequence[Mapping[str, Any]], others: list[Other]) -> Iterator[ForeignKey]:
    """The foreign keys that all partitions of a table share; those of only some partitions go to ``others``."""
    alike: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        alike.setdefault(json.dumps([row["columns"], row["target"], row["remote"], row["on_delete"]]), []).append(row)
    for group in alike.values():
        if len(group) == group[0]["parts"]:
            yield ForeignKey(**{name: group[0][name] for name in ForeignKey.__slots__})
        else:
            why = "not all of the table's partitions have this foreign key"
            others.extend(Other("foreign key", f"{each['name']} on {each['partition']}", why) for each in group)


async def _types(source: Transaction) -> Mapping[int, Mapping[str, Any]]:
    return {row["oid"]: row for row in await source.value(_gathered(_TYPES))}


def _typed(types: Mapping[int, Mapping[str, Any]], oid: int, modifier: int, *, exact: bool) -> Type:
    found = types[oid]
    written, domain, rules, required, default, dimensions = found["written"], None, [], False, None, 0
    while found["kind"] == "d":
        domain = domain or found["name"]
        rules += found["rules"]
        required = required or found["required"]
        default = default or found["default"]
        dimensions = dimensions or found["dimensions"]
        modifier = found["modifier"]
        found = types[found["base"]]
    listed = bool(found["item"])
    if listed:
        found = types[found["item"]]
        while found["kind"] == "d":
            domain = domain or found["name"]
            rules += found["rules"]
            found = types[found["base"]]
    return Type(
        written=written,
        base=found["name"],
        modifier=modifier,
        kind=found["kind"],
        category=found["category"],
        listed=listed,
        of_system=found["of_system"],
        labels=found["labels"],
        domain=domain,
        rules=rules,
        required=required,
        default=default,
        dimensions=dimensions,
        exact=exact,
    )


def _gathered(query: str) -> str:
    return f"SELECT coalesce(jsonb_agg(to_jsonb(found)), '[]') FROM ({query}) found"


_TABLES = f"""
SELECT c.oid::bigint AS oid, c.relname AS name, format('%I.%I', n.nspname, c.relname) AS sql, c.relkind AS kind,
    obj_description(c.oid, 'pg_class') AS comment,
    EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid) AS has_children,
    has_table_privilege(c.oid, 'SELECT') AS readable
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND {OWN.format("c", "pg_class")}
ORDER BY c.relname COLLATE "C"
"""

_TYPES = """
SELECT t.oid::bigint AS oid, t.typname AS name, t.typtype AS kind, t.typcategory AS category,
    t.typnamespace = 'pg_catalog'::regnamespace AS of_system, format_type(t.oid, NULL) AS written,
    t.typbasetype::bigint AS base, t.typtypmod AS modifier, t.typnotnull AS required,
    t.typdefault AS default, t.typndims AS dimensions,
    CASE WHEN t.typcategory = 'A' AND t.typelem <> 0 THEN t.typelem::bigint ELSE 0 END AS item,
    coalesce((SELECT jsonb_agg(enumlabel ORDER BY enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid), '[]')
        AS labels,
    coalesce((
        SELECT jsonb_agg(pg_get_expr(conbin, 0) ORDER BY conname) FROM pg_constraint k
        WHERE k.contypid = t.oid AND k.contype = 'c'
    ), '[]') AS rules
FROM pg_type t
"""

_NAMES = """
(SELECT coalesce(jsonb_agg(a.attname ORDER BY place), '[]') FROM unnest({1}) WITH ORDINALITY u (number, place)
 JOIN pg_attribute a ON a.attrelid = {0} AND a.attnum = u.number)
"""

_PARTS: Mapping[str, str] = {
    "columns": f"""
        SELECT c.oid::bigint AS oid, a.attname AS name, quote_ident(a.attname) AS sql, a.atttypid::bigint AS type,
            a.atttypmod AS modifier, a.attnotnull AS required,
            CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END AS default,
            CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) END AS generated,
            a.attidentity <> '' AS identity, a.attndims AS dimensions, col_description(c.oid, a.attnum) AS comment,
            coalesce((SELECT collisdeterministic FROM pg_collation l WHERE l.oid = a.attcollation), true) AS exact
        FROM pg_attribute a {OF_TABLES.format("a.attrelid")}
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attnum > 0 AND NOT a.attisdropped ORDER BY c.oid, a.attnum
    """,
    "keys": f"""
        SELECT c.oid::bigint AS oid, i.relname AS name, x.indisprimary AS primary,
            {_NAMES.format("c.oid", "(x.indkey::int2[])[0:x.indnkeyatts - 1]")} AS columns,
            pg_get_indexdef(i.oid) NOT LIKE '%NULLS NOT DISTINCT%' AS nulls_distinct, NOT x.indimmediate AS deferrable,
            pg_get_indexdef(i.oid) AS written
        FROM pg_index x {OF_TABLES.format("x.indrelid")} JOIN pg_class i ON i.oid = x.indexrelid
        WHERE x.indisunique AND x.indpred IS NULL AND x.indexprs IS NULL AND x.indisvalid ORDER BY c.oid, i.relname
    """,
    "foreign_keys": f"""
        SELECT c.oid::bigint AS oid, k.conname AS name, {_NAMES.format("k.conrelid", "k.conkey")} AS columns,
            k.confrelid::bigint AS target, tn.nspname AS schema, t.relname AS target_name,
            {_NAMES.format("k.confrelid", "k.confkey")} AS remote,
            k.confdeltype AS on_delete, k.confupdtype AS on_update, k.condeferred AS deferred,
            k.confmatchtype = 'f' AS full
        FROM pg_constraint k {OF_TABLES.format("k.conrelid")}
        JOIN pg_class t ON t.oid = k.confrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
        WHERE k.contype = 'f' AND k.conparentid = 0 AND NOT {OF_PERIODS} ORDER BY c.oid, k.conname
    """,
    # Foreign keys defined on the partitions themselves, with the number of partitions of the table.
    "of_partitions": f"""
        SELECT pg_partition_root(k.conrelid)::oid::bigint AS oid, k.conname AS name, c.relname AS partition,
            {_NAMES.format("k.conrelid", "k.conkey")} AS columns,
            k.confrelid::bigint AS target, tn.nspname AS schema, t.relname AS target_name,
            {_NAMES.format("k.confrelid", "k.confkey")} AS remote,
            k.confdeltype AS on_delete, k.confupdtype AS on_update, k.condeferred AS deferred,
            k.confmatchtype = 'f' AS full,
            (SELECT count(*) FROM pg_partition_tree(pg_partition_root(k.conrelid)) WHERE isleaf) AS parts
        FROM pg_constraint k {OF_TABLES.format("k.conrelid")}
        JOIN pg_class t ON t.oid = k.confrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
        WHERE k.contype = 'f' AND k.conparentid = 0 AND c.relispartition AND c.relkind = 'r' AND NOT {OF_PERIODS}
        ORDER BY c.oid, k.conname
    """,
    "checks": f"""
        SELECT c.oid::bigint AS oid, k.conname AS name, pg_get_expr(k.conbin, k.conrelid) AS condition,
            {_NAMES.format("k.conrelid", "k.conkey")} AS columns,
            EXISTS (
                SELECT FROM pg_depend p WHERE p.classid = 'pg_constraint'::regclass AND p.objid = k.oid
                AND p.refclassid IN ('pg_proc'::regclass, 'pg_type'::regclass, 'pg_operator'::regclass)
            ) AS foreign
        FROM pg_constraint k {OF_TABLES.format("k.conrelid")} WHERE k.contype = 'c' ORDER BY c.oid, k.conname
    """,
    "indexes": f"""
        SELECT c.oid::bigint AS oid, i.relname AS name,
            {_NAMES.format("c.oid", "(x.indkey::int2[])[0:x.indnkeyatts - 1]")} AS columns,
            CASE WHEN NOT x.indisvalid THEN 'it is not valid' WHEN x.indpred IS NOT NULL THEN 'it is partial'
                WHEN x.indexprs IS NOT NULL THEN 'it is of an expression'
                WHEN m.amname <> 'btree' THEN 'only B-tree indexes are carried' END AS unlike,
            pg_get_indexdef(i.oid) AS written
        FROM pg_index x {OF_TABLES.format("x.indrelid")} JOIN pg_class i ON i.oid = x.indexrelid
        JOIN pg_am m ON m.oid = i.relam
        WHERE (NOT x.indisunique OR x.indpred IS NOT NULL OR x.indexprs IS NOT NULL OR NOT x.indisvalid)
          AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.oid AND k.contype = 'x')
        ORDER BY c.oid, i.relname
    """,
}
