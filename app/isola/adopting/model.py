"""The drafted application: its subjects, the expressions for their rows, and what could not be mapped."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from typing import Any

from isola.adopting import carrying, names
from isola.adopting.carrying import Carried
from isola.adopting.catalogue import Catalogue, Check, Column, ForeignKey, Other, Table, Type
from isola.adopting.identifiers import identifier, of_row, rows
from isola.database.transactions import DIALECT
from isola.subjects.checks import MAX_TABLE
from isola.subjects.declaration import MAX_NAME

quote = DIALECT.identifier_preparer.quote

ON_DELETE = {"a": "restrict", "r": "restrict", "c": "cascade", "n": "set null", "d": "restrict"}
TIMES = ("created_at", "updated_at")
MOMENTS = {"timestamp", "timestamptz"}


@dataclass(frozen=True, slots=True)
class Note:
    """How an object was mapped, or why it was not."""

    of: str
    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Enum:
    """``members`` maps values to names in Python."""

    name: str
    members: Mapping[str, str]


@dataclass(slots=True)
class Field:
    """A column of a subject. ``name`` has no trailing underscore."""

    name: str
    source: Column
    carried: Carried
    optional: bool
    options: dict[str, str]

    @property
    def is_text(self) -> bool:
        return self.carried.annotation == "str"


@dataclass(slots=True)
class Reference:
    name: str
    key: ForeignKey
    target: "Model"
    optional: bool
    on_delete: str
    unique: bool = False

    @property
    def column(self) -> str:
        return f"{self.name}_id"


@dataclass(frozen=True, slots=True)
class Many:
    name: str
    target: "Model"
    by: str | None


# Models form reference cycles, so a generated repr would recurse forever; asyncio takes the repr of task results.
@dataclass(slots=True, eq=False, repr=False)
class Model:
    """A subject. ``moments`` are expressions for its standard timestamps, ``samples`` are sample column values."""

    table: Table
    name: str
    plural: str
    class_name: str
    prefix: str
    fields: list[Field] = field(default_factory=list)
    references: list[Reference] = field(default_factory=list)
    many: list[Many] = field(default_factory=list)
    moments: dict[str, str] = field(default_factory=dict)
    unique_together: list[tuple[str, ...]] = field(default_factory=list)
    indexes: list[tuple[str, ...]] = field(default_factory=list)
    checks: dict[str, str] = field(default_factory=dict)
    samples: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def taken(self) -> set[str]:
        """The names of its attributes and columns."""
        found = {each.name for each in self.fields} | {each.name for each in self.references}
        return found | {each.name for each in self.many} | {each.column for each in self.references} | {"id", *TIMES}


@dataclass(frozen=True, slots=True)
class Pairs:
    """A join table of a many-to-many relation: the attribute ``name`` of ``near``."""

    table: Table
    name: str
    near: Model
    near_key: ForeignKey
    far: Model
    far_key: ForeignKey


@dataclass(frozen=True, slots=True)
class Taken:
    """Names that subjects cannot use: class names, field names, and id prefixes."""

    classes: frozenset[str]
    fields: frozenset[str]
    prefixes: frozenset[str]


@dataclass(slots=True)
class Draft:
    """The state of an application while it is drafted."""

    application: str
    catalogue: Catalogue
    taken: Taken
    models: dict[int, Model] = field(default_factory=dict)
    pairs: list[Pairs] = field(default_factory=list)
    enums: dict[str, Enum] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    changes: list[Note] = field(default_factory=list)

    def leave_out(self, of: str, what: str, why: str) -> None:
        self.notes.append(Note(of, what, why))

    def change(self, of: str, what: str, how: str) -> None:
        self.changes.append(Note(of, what, how))


def draft(application: str, catalogue: Catalogue, taken: Taken) -> Draft:
    """The draft of an application for a database."""
    made = Draft(application, catalogue, taken)
    pairs = [table for table in catalogue.tables if _is_pairs(table, catalogue)]
    for table in catalogue.tables:
        if table not in pairs:
            _add_subject(made, table)
    for table in [each for each in pairs if not all(key.target in made.models for key in each.foreign_keys)]:
        pairs.remove(table)
        _add_subject(made, table)
    for model in made.models.values():
        _add_columns(made, model)
    _open_cycles(made)
    for model in made.models.values():
        _add_keys(made, model)
        _add_indexes(made, model)
        _add_checks(made, model)
    for model in made.models.values():
        for reference in model.references:
            _add_many(model, reference)
    for table in pairs:
        _add_pairs(made, table)
    for other in catalogue.others:
        made.leave_out(other.kind, other.name, _reason(other))
    return made


_RULES = "rules are written in Python: before_create, before_update, actions"
_ONE_TABLE = "the rows of all partitions are in one table"
_UNUSED = "no column of a table has this type"
_WHY = {
    "composite type": _UNUSED,
    "default of one partition": _ONE_TABLE,
    "domain": _UNUSED,
    "enum": _UNUSED,
    "exclusion constraint": "between rows, only unique keys are constraints",
    "function": _RULES,
    "index of one partition": _ONE_TABLE,
    "materialized view": "it can be read from its tables: write a query",
    "procedure": "rules are written in Python: actions",
    "range type": _UNUSED,
    "row-level security": "tenants are isolated anyway; for users of one tenant, write visible",
    "rule of one partition": _ONE_TABLE,
    "sequence": "ids are UUIDs",
    "trigger": _RULES,
    "view": "it can be read from its tables: write a query, or a computed field",
}


def _reason(other: Other) -> str:
    why = _WHY.get(other.kind, "" if other.written else "it has no counterpart")
    return ": ".join(filter(None, (why, other.written)))


def _is_pairs(table: Table, catalogue: Catalogue) -> bool:
    """Whether a table has only two foreign keys, which together are its primary key."""
    if len(table.foreign_keys) != 2 or table.key is None or not table.key.primary:  # noqa: PLR2004  a pair
        return False
    columns = {name for key in table.foreign_keys for name in key.columns}
    inside = {each.oid for each in catalogue.tables}
    referred = any(key.target == table.oid for each in catalogue.tables for key in each.foreign_keys)
    return (
        {each.name for each in table.columns} == columns == set(table.key.columns)
        and not set(table.foreign_keys[0].columns) & set(table.foreign_keys[1].columns)
        and all(key.target in inside for key in table.foreign_keys)
        and not (referred or table.checks or len(table.keys) > 1 or (table.has_children and table.kind != "p"))
    )


def _add_subject(made: Draft, table: Table) -> None:
    carried = [each for each in table.columns if carrying.refusal(each.type) is None]
    if not carried:
        made.leave_out(table.name, "the table", "none of its columns can be carried")
        return
    plain = names.plain(table.name, "table")
    one = names.singular(plain)
    many = plain if one != plain else names.plural(one)
    fields = made.taken.fields | {name for each in made.models.values() for name in (each.name, each.plural)}
    classes = made.taken.classes.union(*(_types(each.class_name, each.plural) for each in made.models.values()))
    for before in ("", f"{made.application}_", *(f"{made.application}{n}_" for n in range(2, 1000))):
        name, plural = f"{before}{one}", f"{before}{many}"
        if max(len(name), len(plural)) > MAX_NAME:
            name = name[: MAX_NAME - 3].rstrip("_")
            plural = names.plural(name)
        class_name = names.class_name(name)
        is_plain = quote(plural) == plural and name != plural
        if is_plain and not {name, plural} & fields and not _types(class_name, plural) & classes:
            break
    if before:
        made.change(table.name, "its name", f"it is called {name}, since there is a {one} already")
    prefix = names.prefix(name, made.taken.prefixes | {each.prefix for each in made.models.values()})
    made.models[table.oid] = Model(table, name, plural, class_name, prefix)
    if table.kind == "p":
        made.change(table.name, "its partitions", "their rows are all in one table")
    elif table.has_children:
        made.change(table.name, "what inherits from it", "each is a subject of its own, with its own rows only")
    if table.key is None:
        made.change(table.name, "no key", "what tells its rows apart is all that they are made of, and a number")


def _types(class_name: str, plural: str) -> set[str]:
    """The names of a subject's GraphQL types."""
    ends = ("", "Connection", "Edge", "Filter", "Order", "OrderField", "UniqueKey")
    changes = [
        f"{verb}{each}" for verb in ("Create", "Update", "Delete") for each in (class_name, names.class_name(plural))
    ]
    changes.append(f"Upsert{class_name}")
    return {f"{class_name}{end}" for end in ends} | {f"{each}{end}" for each in changes for end in ("Input", "Payload")}


def _add_columns(made: Draft, model: Model) -> None:
    table = model.table
    carried_keys = []
    for key in table.foreign_keys:
        if key.target in made.models:
            carried_keys.append(key)
        else:
            where = f"{key.schema}.{key.target_name}"
            made.leave_out(
                table.name, f"the foreign key {key.name}", f"{where} is not adopted; the column keeps its values"
            )
    folded = set(_folded(table, carried_keys))
    for column in table.columns:
        if column.name not in folded:
            _add_column(made, model, column)
    for key in carried_keys:
        _add_reference(made, model, key)
        kept = [name for name in key.columns if name not in folded]
        if kept:
            made.change(table.name, ", ".join(kept), "kept beside the reference, which alone would not say as much")


def _folded(table: Table, keys: Sequence[ForeignKey]) -> Iterator[str]:
    """The columns that are redundant because a reference has the same information."""
    for key in keys:
        partly = len(key.columns) > 1 and any(not table.column(name).required for name in key.columns)
        for name in key.columns:
            needed = any(name in each.columns and not set(key.columns) <= set(each.columns) for each in table.keys)
            if not partly and not needed:
                yield name


def _add_column(made: Draft, model: Model, column: Column) -> None:
    table = model.table
    reason = carrying.refusal(column.type)
    if reason is not None:
        made.leave_out(table.name, f"the column {column.name}, {column.type.written}", reason)
        return
    plain = names.plain(column.name, "column")
    if plain in TIMES and column.type.base in MOMENTS and not column.type.listed and plain not in model.moments:
        value = carrying.carried(column.type, None, 0).sql.format(f"t.{column.sql}")
        model.moments[plain] = f"coalesce({value}, '@moment@'::timestamptz)"
        made.change(table.name, column.name, f"it is {plain}, which every row has")
        return
    special = names.is_special(plain)
    name = names.free([*([] if special else [plain]), f"old_{plain}"], model.taken)
    if name != column.name:
        made.change(table.name, column.name, f"it is called {name}")
    enum = _enum(made, column.type) if column.type.kind == "e" and not column.type.listed else None
    carried = carrying.carried(column.type, enum.name if enum else None, column.dimensions)
    options = dict(carried.options)
    made_by_source = carrying.is_made(column)
    optional = not column.required or made_by_source or column.generated is not None
    if column.default is not None and not made_by_source and not column.default.startswith("NULL::"):
        members = {value: f"{enum.name}.{member}" for value, member in enum.members.items()} if enum else {}
        default = carrying.default(carried.annotation, column.default, members)
        if default is None:
            why = f"expected a constant of the column's type: {column.default}"
            made.leave_out(table.name, f"the default of {column.name}", why)
        else:
            options["default"] = default
    if made_by_source:
        may = "it may be empty: " if column.required else ""
        how = f"{may}the source generates its values, and nothing does here: new rows have one only if it is given"
        made.change(table.name, column.name, how)
    if column.generated is not None:
        how = f"{column.generated}: rows keep their values; for new rows write a computed field, or give a value"
        made.change(table.name, f"the generated column {column.name}", how)
    if carried.note:
        made.change(table.name, column.name, carried.note)
    if column.comment:
        options["description"] = carrying.literal(column.comment)
    model.fields.append(Field(name, column, carried, optional, options))


def _enum(made: Draft, type_: Type) -> Enum:
    known = made.enums.get(type_.written)
    if known is None:
        plain = names.plain(type_.written.rpartition(".")[2].strip('"'), "enum")
        classes = made.taken.classes.union(*(_types(each.class_name, each.plural) for each in made.models.values()))
        classes |= {type_ for each in made.enums.values() for type_ in (each.name, f"{each.name}Filter")}
        own = names.class_name(f"{made.application}_{plain}")
        wanted = chain((names.class_name(plain), own), (f"{own}{number}" for number in count(2)))
        name = next(each for each in wanted if not {each, f"{each}Filter"} & classes)
        members: dict[str, str] = {}
        for number, label in enumerate(type_.labels, 1):
            members[label] = names.free([names.member(label, number), f"VALUE_{number}"], members.values())
        known = made.enums[type_.written] = Enum(name, members)
    return known


def _add_reference(made: Draft, model: Model, key: ForeignKey) -> None:
    target = made.models[key.target]
    wanted = names.reference([names.plain(name, "row") for name in key.columns], target.name)
    candidates = [
        each
        for each in (wanted, target.name, f"{wanted}_ref", f"{wanted}_{target.name}")
        if names.attribute(each) == each and not names.is_special(each) and f"{each}_id" not in model.taken
    ]
    name = names.free(candidates or [f"{wanted}_reference"], model.taken)
    optional = any(not model.table.column(each).required for each in key.columns)
    on_delete = ON_DELETE[key.on_delete]
    if on_delete == "set null" and not optional:
        on_delete = "restrict"
        made.leave_out(model.table.name, f"ON DELETE SET NULL of {key.name}", "the reference cannot be empty")
    if key.on_delete == "d":
        made.leave_out(model.table.name, f"ON DELETE SET DEFAULT of {key.name}", "what is referred to is kept instead")
    if key.full and optional and len(key.columns) > 1:
        made.leave_out(model.table.name, f"MATCH FULL of {key.name}", "some of its columns can be empty and others not")
    _note_key(made, model.table, key)
    model.references.append(Reference(name, key, target, optional, on_delete))


def _note_key(made: Draft, table: Table, key: ForeignKey) -> None:
    if key.on_update not in {"a", "r"}:
        made.leave_out(table.name, f"ON UPDATE of {key.name}", "ids never change")
    if key.deferred:
        made.change(table.name, key.name, "it is checked at once, not at the end of a transaction")


def _open_cycles(made: Draft) -> None:
    """Make one reference of each cycle nullable: otherwise no first row could be inserted."""
    done: set[Model] = set()

    def visit(model: Model, path: list[Model]) -> None:
        for reference in model.references:
            if reference.optional:
                continue
            if reference.target in [*path, model]:
                reference.optional = True
                made.change(
                    model.table.name, reference.name, "it may be empty: it closes a circle, and some row is the first"
                )
            elif reference.target not in done:
                visit(reference.target, [*path, model])
        done.add(model)

    for model in made.models.values():
        if model not in done:
            visit(model, [])


def _attributes(model: Model, columns: Sequence[str]) -> list[Field | Reference] | None:
    """The attributes for a list of columns: references replace foreign keys; None if a column is not mapped."""
    fields = {each.source.name: each for each in model.fields}
    left, found = list(columns), list[Field | Reference]()
    for name in columns:
        if name not in left:
            continue
        reference = next(
            (each for each in model.references if name in each.key.columns and set(each.key.columns) <= set(left)), None
        )
        if name in fields:
            found.append(fields[name])
            left.remove(name)
        elif reference:
            found.append(reference)
            left = [each for each in left if each not in reference.key.columns]
        else:
            return None
    return found


def _add_keys(made: Draft, model: Model) -> None:
    known: set[frozenset[str]] = set()
    for key in sorted(model.table.keys, key=lambda each: not each.primary):
        found = _attributes(model, key.columns)
        if found is None or not all(_can_be_indexed(each) for each in found):
            made.leave_out(
                model.table.name, f"the unique key {key.name}", "a column of it has no order, or is not carried"
            )
            continue
        if not key.nulls_distinct:
            made.leave_out(model.table.name, f"NULLS NOT DISTINCT of {key.name}", "several rows can have none")
        if key.deferrable:
            made.change(model.table.name, key.name, "it is checked at once, not at the end of a transaction")
        as_set = frozenset(each.name for each in found)
        if as_set in known:
            continue
        known.add(as_set)
        _limit(made, model, key.name, found)
        _note_differences(made, model, key.name, key.written)
        for each in found:
            if isinstance(each, Field) and _is_other_text(each):
                how = f"in {key.name}, values are equal only if all characters are the same"
                made.change(model.table.name, each.source.name, how)
        if len(found) > 1:
            model.unique_together.append(tuple(each.name for each in found))
        elif isinstance(found[0], Field):
            found[0].options["unique"] = "True"
        else:
            found[0].unique = True


_DIFFERENCES = re.compile(r"\b(DESC|NULLS (?:FIRST|LAST)|COLLATE|INCLUDE|\w+_ops)\b")


def _note_differences(made: Draft, model: Model, name: str, written: str) -> None:
    if _DIFFERENCES.search(written.partition(" USING ")[2]):
        how = "an index of the columns alone: without directions, collations, operator classes and included columns"
        made.change(model.table.name, name, how)


def _is_other_text(field: Field) -> bool:
    """Whether a text comes from a type that can regard different texts as equal."""
    type_ = field.source.type
    return field.is_text and not (type_.exact and type_.of_system and type_.base in _EXACT)


def _can_be_indexed(member: Field | Reference) -> bool:
    return isinstance(member, Reference) or member.carried.ordered


def _limit(made: Draft, model: Model, name: str, members: Iterable[Field | Reference]) -> None:
    """Set a length limit for text columns in an index."""
    for each in members:
        if isinstance(each, Field) and each.is_text and "max_length" not in each.options:
            each.options["max_length"] = str(carrying.MAX_INDEXED)
            how = f"at most {carrying.MAX_INDEXED} characters, as it is in {name}"
            made.change(model.table.name, each.source.name, how)


def _add_indexes(made: Draft, model: Model) -> None:
    for index in model.table.indexes:
        found = None if index.unlike else _attributes(model, index.columns)
        if not found or not all(_can_be_indexed(each) for each in found):
            why = index.unlike or "a column of it has no order, or is not carried"
            made.leave_out(model.table.name, f"the index {index.name}", f"{why}: {index.written}")
            continue
        _note_differences(made, model, index.name, index.written)
        _limit(made, model, index.name, found)
        if len(found) > 1:
            if tuple(each.name for each in found) not in model.indexes:
                model.indexes.append(tuple(each.name for each in found))
        elif isinstance(found[0], Field) and "unique" not in found[0].options:
            found[0].options["index"] = "True"


def _add_checks(made: Draft, model: Model) -> None:
    fields = {each.source.name: each for each in model.fields}
    for check in model.table.checks:
        members = [fields[name] for name in check.columns if name in fields]
        why = _unlike(check, fields)
        if why:
            made.leave_out(model.table.name, f"the check {check.name}", f"{why}: {check.condition}")
            continue
        condition = carrying.renamed(check.condition, {each.source.name: quote(each.name) for each in members})
        _add_check(model, check.name, condition)
    for each in model.fields:
        for rule in each.source.type.rules:
            if each.source.type.listed or not each.carried.same:
                what = f"the rule of {each.source.type.domain} for {each.source.name}"
                made.leave_out(model.table.name, what, f"{each.source.name} has another type here: {rule}")
            else:
                _add_check(model, f"{each.name}_rule", carrying.renamed(rule, {"VALUE": quote(each.name)}))


def _unlike(check: Check, fields: Mapping[str, Field]) -> str | None:
    """The reason why a check cannot be carried; None if it can."""
    if check.foreign:
        return "it needs a function, an operator or a type of this database"
    gone = [name for name in check.columns if name not in fields]
    if gone:
        return f"there is no column {gone[0]} here, or it is a reference"
    changed = [name for name in check.columns if not _compares_alike(fields[name], check.condition)]
    return f"{changed[0]} has another type here" if changed else None


def _compares_alike(member: Field, condition: str) -> bool:
    return member.carried.same or (member.source.type.base == "timestamp" and "timestamp" not in condition)


def _add_check(model: Model, name: str, condition: str) -> None:
    for each in model.fields:
        bounds = carrying.bounds(condition, quote(each.name), each.carried.annotation, each.options)
        if bounds and not bounds.keys() & each.options.keys():
            each.options.update(bounds)
            return
    plain = names.plain(name, "check").removeprefix(f"{model.plural}_").removeprefix(f"{model.name}_")
    # Names of the checks that isola.subjects generates.
    own = {f"{each.name}{end}" for each in model.fields for end in ("", "_length", "_range", "_items", "_size")}
    name = names.free([plain, f"{plain}_rule"], own | model.checks.keys() | {"created_at_range", "updated_at_range"})
    model.checks[name] = condition


def _add_many(model: Model, reference: Reference) -> None:
    target = reference.target
    several = sum(each.target is target for each in model.references) > 1 or target is model
    wanted = [*([] if several else [model.plural]), f"{model.plural}_by_{reference.name}"]
    wanted = [each for each in wanted if names.attribute(each) == each]
    target.many.append(Many(names.free(wanted, target.taken), model, reference.name))


def _add_pairs(made: Draft, table: Table) -> None:
    near_key, far_key = table.foreign_keys
    if table.key and table.key.columns[0] in far_key.columns:
        near_key, far_key = far_key, near_key
    near, far = made.models[near_key.target], made.models[far_key.target]
    before = f"{near.plural}_"
    tables = {each.plural for each in made.models.values()} | {f"{each.near.plural}_{each.name}" for each in made.pairs}
    taken = near.taken | {each.removeprefix(before) for each in tables if each.startswith(before)}
    wanted = [names.plain(table.name, "pairs"), f"{far.plural}_of_{near.name}"]
    wanted = [far.plural, *wanted] if far is not near else wanted
    # Both together form the name of a table. Leave room for a numeric suffix.
    wanted = [each[: MAX_TABLE - len(before) - 1].rstrip("_") for each in wanted]
    name = names.free([each for each in wanted if names.attribute(each) == each] or wanted[-1:], taken)
    near.many.append(Many(name, far, None))
    back = [near.plural, f"{near.plural}_by_{name}"] if far is not near else [f"{near.plural}_by_{name}"]
    far.many.append(Many(names.free(back, far.taken), near, name))
    made.pairs.append(Pairs(table, name, near, near_key, far, far_key))
    made.change(table.name, "the table", f"it is the relation {name} of {near.class_name}")
    for key in (near_key, far_key):
        _note_key(made, table, key)
        if key.on_delete != "c":
            made.change(table.name, key.name, "pairs are deleted with their rows: they keep nothing from being deleted")


def id_of(model: Model, alias: str = "t") -> str:
    """The SQL expression for the id of a source row with this alias."""
    key = model.table.key
    if key is None:
        return of_row(model.table, alias)
    return identifier(model.table, [f"{alias}.{model.table.column(name).sql}" for name in key.columns])


def target_id(table: Table, key: ForeignKey, target: Model) -> str:
    """The SQL expression for the id of the row that row ``t`` references."""
    columns = [f"t.{table.column(name).sql}" for name in key.columns]
    own = target.table.key
    if own and set(own.columns) == set(key.remote) and all(_is_exact(target.table, name) for name in own.columns):
        by_name = dict(zip(key.remote, columns, strict=True))
        found = identifier(target.table, [by_name[name] for name in own.columns])
        missing = " OR ".join(f"{each} IS NULL" for each in columns)
        return f"CASE WHEN NOT ({missing}) THEN {found} END"
    equal = " AND ".join(
        f"r.{target.table.column(remote).sql} = {column}" for remote, column in zip(key.remote, columns, strict=True)
    )
    return f"(SELECT {id_of(target, 'r')} FROM {rows(target.table, 'r')} WHERE {equal})"


_EXACT = {"bool", "bpchar", "date", "int2", "int4", "int8", "text", "timestamp", "timestamptz", "uuid", "varchar"}


def _is_exact(table: Table, name: str) -> bool:
    """Whether equal values of a column have the same text form."""
    found = table.column(name).type
    return found.exact and found.of_system and found.base in _EXACT
