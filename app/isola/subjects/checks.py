"""Validates declarations. Each error names the class, the attribute, and what was expected."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any, NoReturn

from sqlalchemy import ARRAY, BinaryExpression, Column as SqlColumn, ColumnElement, Table, select
from sqlalchemy.sql.visitors import iterate

from isola.errors import BadUserInput
from isola.subjects import values
from isola.subjects.declaration import (
    MAX_NAME,
    PLAIN,
    UNSET,
    Attribute,
    Column,
    Computed,
    Count,
    Declaration,
    DeclarationError,
    Member,
    Reference,
    Registry,
    Relation,
    caller,
    field_of,
    folded,
    now,
    today,
)
from isola.subjects.metadata import MAX_DOCUMENT_BYTES, Visible
from isola.subjects.search import LANGUAGES, MAX_SEARCHED
from isola.subjects.settings import CHANGED_BY, EXPECTED_NUMBER, NUMBER, PREVIOUS
from isola.subjects.table import visible_to
from isola.subjects.types import EXPECTED, INTEGER, TEXT, Annotation, Kind
from isola.subjects.visibility import VIEWER, deciding, in_sql, refuse_circle

RANGED = frozenset({"Int", "BigInt", "Float", "Decimal", "Date", "DateTime"})
GROUPED = frozenset({"String", "Boolean", "Int", "BigInt", "Date", "UUID"})
"""The types of columns, besides enums, by whose values rows are counted."""
MAX_DIGITS = 1000
MAX_TABLE = 60
"""The most characters of a table name."""
GRANTED_FIELDS = "grantedFields"
"""The field of a shared row that says which of its fields are granted."""
OF_SHARES = frozenset({"share", "shared_at", "shared_by", "shared_until"})
"""What shared rows, their filters and orders have of a share: columns of these names get longer ones."""
VERSION = "expected_updated_at"
"""The input field of updates and deletions with the version that a client expects."""
KEY = "by"
"""The input field of upserts with the unique key that finds a row, of subjects with several."""
RESERVED = frozenset({"tenant_id", "tableoid", "ctid", "xmin", "xmax", "cmin", "cmax"})
"""Reserved column names: the strategy's column, and PostgreSQL's system columns."""
ENUM_MEMBER = re.compile("(?!__)[_A-Za-z][_0-9A-Za-z]*")
NAMED = re.compile(f"(?=.{{1,{MAX_NAME}}}$)[a-z][a-z0-9]*(_[a-z0-9]+)*")
LANGUAGE = re.compile("[a-z]{2,3}(-[A-Z][a-z]{3})?(-[A-Z]{2})?")


def check(declaration: Declaration) -> None:
    """Raise DeclarationError for the first error in a declaration."""
    fields: dict[str, str] = {}
    for member in declaration.members.values():
        _check_name(member)
        field = field_of(member.column)
        if field in fields:
            _refuse(member.where, f"{fields[field]} is the field {field} already: expected another name")
        fields[field] = member.attribute
        _check_enum(member.where, member.annotation)
        match member.declared:
            case Column() | Computed() if member.annotation.kind is None:
                _refuse(member.where, f"expected an annotation that is one of {EXPECTED}")
            case Column() as declared:
                _check_column(member, declared)
            case Reference() as declared:
                _check_reference(member.where, declared, member.annotation)
            case Relation() as declared:
                _check_relation(member, declared)
            case Count() as declared:
                _check_count(member, declared)
    _check_names(declaration)
    _check_grouped(declaration)
    _check_shared(declaration)
    _check_searched(declaration)
    _check_settings(declaration)
    _check_conditions(declaration)
    if declaration.subject.visible is not None and not callable(declaration.subject.visible):
        _refuse(declaration.where, "visible: expected a function of a row and a user")


def check_expressions(declaration: Declaration) -> None:
    """Raise DeclarationError for the first function of a declaration that returns no SQL for a row's columns."""
    row, visible = declaration.subject.table.c, declaration.subject.visible
    if visible is not None:
        table, where = declaration.subject.table, f"{declaration.where}: visible"
        _check_expression(where, lambda: _in_policy(visible_to(visible)(row, VIEWER)))
        _check_expression(where, lambda: _of_row(visible_to(visible), table))
        refuse_circle(declaration.subject.table, partial(_refuse, f"{declaration.where}: visible"))
    for member in declaration.members.values():
        if isinstance(member.declared, Computed):
            _check_expression(f"{member.where}: computed", partial(member.declared.of, row))


def _of_row(rule: Visible, table: Table) -> ColumnElement[bool]:
    """The condition of a rule, which has to read the row that it receives: the log applies it to rows as they were."""
    deciding(table)
    made = rule(table.alias().c, VIEWER)
    for element in iterate(made):
        if isinstance(element, SqlColumn) and element.table is table:
            raise TypeError(f'expected row["{element.name}"], not a column of the table {table.name}')
    return made


def _in_policy(condition: Any) -> Any:
    """The condition of a policy, which contains its constants as text. Raises an error if one has no such form."""
    if isinstance(condition, ColumnElement):
        in_sql(select(condition))
    return condition


@contextmanager
def _without_truth() -> Iterator[None]:
    """Refuse ``and``, ``or`` and ``not`` of Python between conditions: SQLAlchemy lets them leave conditions out."""

    def refuse(_: object) -> bool:
        raise TypeError("expected and_(), or_() and not_() of SQLAlchemy: `and`, `or` and `not` leave out conditions")

    original = BinaryExpression.__bool__
    BinaryExpression.__bool__ = refuse  # type: ignore[method-assign]  # only while a declaration is checked
    try:
        yield
    finally:
        BinaryExpression.__bool__ = original  # type: ignore[method-assign]  # as above


def _check_expression(where: str, make: Callable[[], Any]) -> None:
    try:
        with _without_truth():
            made = make()
    except KeyError as error:
        _refuse(where, f"there is no column {error}")
    except Exception as error:
        # Third-party code can raise anything.
        raise DeclarationError(f"{where}: {type(error).__name__}: {error}") from error
    if not isinstance(made, ColumnElement):
        _refuse(where, 'expected SQL of the row\'s columns, such as row["name"] == "…"')


def _check_names(declaration: Declaration) -> None:
    """Check that all attributes referred to by name exist."""
    for name, _ in declaration.order:
        if name not in declaration.ordered_by:
            expected = ", ".join(declaration.ordered_by)
            _refuse(
                declaration.where,
                f"order: no index serves {name!r}: expected index=True or unique=True on it, or some of {expected}",
            )
    subject = declaration.subject
    for what, listed in (("unique_together", subject.unique_together), ("indexes", subject.indexes)):
        _check_indexed(declaration, what, listed)
    for name in (*subject.shared, *(each for names in (*subject.unique_together, *subject.indexes) for each in names)):
        if declaration.by_column(declaration.column_of(name)) is None and name not in declaration.times:
            _refuse(declaration.where, f"there is no attribute {name!r}")
    for name in subject.samples:
        if all(name != each.attribute for each in declaration.columns):
            _refuse(declaration.where, f"samples: there is no column {name!r}")


def _check_shared(declaration: Declaration) -> None:
    for name in declaration.subject.shared:
        member = declaration.by_column(declaration.column_of(name))
        if member is None:
            continue
        if member.is_private:
            _refuse(member.where, "shared: expected a column that is not private")
        if isinstance(member.declared, Reference):
            _refuse(member.where, "shared: expected a column that is no reference: partners learn no internal ids")
        if field_of(member.name) == GRANTED_FIELDS:
            _refuse(member.where, f"shared: {GRANTED_FIELDS} is a field of each shared row: expected another name")
        plain = member.name.removesuffix("_value")
        if plain != member.name and plain in OF_SHARES and plain in declaration.shared:
            _refuse(member.where, f"shared: {plain} is {field_of(member.name)} in shared rows: expected another name")


def _check_settings(declaration: Declaration) -> None:
    """Check that every setting has a value before anybody has changed it, and that none can be in conflict."""
    for member in declaration.members.values() if declaration.settings else ():
        if member.name in {NUMBER, PREVIOUS, CHANGED_BY}:
            continue
        declared = member.declared
        if not isinstance(declared, Column) or not member.is_settable or declared.unique or declared.fixed:
            _refuse(member.where, "settings: expected a column that clients can change, and that is not unique")
        if member.annotation.optional is (declared.default is not UNSET):
            _refuse(member.where, "settings: expected a default, or `| None`: the value until somebody changes it")
        if callable(declared.default) and declared.default in {now, today}:
            _refuse(member.where, "settings: expected a default that is the same at any time")


def _check_searched(declaration: Declaration) -> None:
    subject = declaration.subject
    if subject.searched_as not in LANGUAGES:
        _refuse(f"{declaration.where}: searched_as", f"expected one of {', '.join(sorted(LANGUAGES))}")
    for broken in _of_searched(declaration) if subject.searched else ():
        _refuse(f"{declaration.where}: searched", broken)


def _of_searched(declaration: Declaration) -> Iterator[str]:
    names = declaration.subject.searched
    if isinstance(names, str):
        yield f"expected a tuple of attributes, such as ({names!r},)"
    members = [declaration.by_column(declaration.column_of(name)) for name in names]
    yield from (f"there is no attribute {name!r}" for name, member in zip(names, members, strict=True) if not member)
    if len(set(members)) < len(members):
        yield "expected each attribute once"
    if sum(_length_of_searched(member) for member in members if member) > MAX_SEARCHED:
        yield f"expected texts of at most {MAX_SEARCHED} characters together"
    if "search" in declaration.members:
        yield "the filter gets a field search: expected another name for this attribute"
    if any(each.name == "words" for each in declaration.pairs):
        yield f"its words are in a table {declaration.table_of_words!r}: expected another name for the relation words"
    if len(declaration.table_of_words) > MAX_TABLE:
        yield f"expected a plural that makes at most {MAX_TABLE} characters with _words"


def _length_of_searched(member: Member) -> int:
    """The most characters of a searched column."""
    declared, annotation = member.declared, member.annotation
    if not isinstance(declared, Column) or annotation.kind is not TEXT or annotation.enum or annotation.listed:
        _refuse(member.where, "searched: expected a text")
    if declared.private:
        _refuse(member.where, "searched: expected a column that is not private, since clients search it")
    if declared.max_length is None:
        _refuse(member.where, "searched: expected max_length, since its words are in an index")
    return declared.max_length


def _check_conditions(declaration: Declaration) -> None:
    for name in declaration.subject.checks:
        if not PLAIN.fullmatch(name) or len(name) > MAX_NAME:
            _refuse(
                declaration.where,
                f"checks: expected names in lower case with underscores, at most {MAX_NAME} characters",
            )


def _check_indexed(declaration: Declaration, what: str, listed: Sequence[Sequence[str]]) -> None:
    for names in listed:
        if isinstance(names, str):
            _refuse(declaration.where, f"{what}: expected tuples of attributes, such as (({names!r},),)")
        for name in names:
            member = declaration.by_column(declaration.column_of(name))
            if member is not None and isinstance(member.declared, Column) and member.annotation.kind:
                for broken in _of_index(member.declared, member.annotation.kind):
                    _refuse(member.where, f"{what}: {broken}")


def _check_enum(where: str, annotation: Annotation) -> None:
    enum = annotation.enum
    if enum is None:
        return
    if not list(enum):
        _refuse(where, f"expected {enum.__name__} to have members")
    for name in enum.__members__:
        if not ENUM_MEMBER.fullmatch(name) or name in {"true", "false", "null"}:
            _refuse(where, f"{enum.__name__}.{name}: expected another name, since GraphQL reserves this one")


def _check_name(member: Member) -> None:
    if not PLAIN.fullmatch(member.name) or len(member.name) > MAX_NAME:
        _refuse(member.where, f"expected a name in lower case with underscores, of at most {MAX_NAME} characters")
    if member.name in {"id", *member.declaration.TIMES} or member.column in RESERVED:
        _refuse(member.where, f"every table has a column {member.column} already: expected another name")
    if member.column == VERSION:
        _refuse(member.where, "the inputs of updates and deletions have this field already: expected another name")
    if member.column == EXPECTED_NUMBER and member.declaration.settings:
        _refuse(member.where, "the inputs of changes of settings have this field already: expected another name")
    if member.column == KEY and len(member.declaration.upserted_by) > 1:
        expected = "expected another name, or mutations without upsert"
        _refuse(member.where, f"the input of upserts by several keys has this field already: {expected}")
    if member.name in {"and", "or", "not"}:
        _refuse(member.where, "every filter has this field already")


def _leads(declared: Attribute) -> bool:
    return isinstance(declared, Reference) or (isinstance(declared, Relation) and declared.by is None)


def _is_subject(annotation: Annotation) -> bool:
    return isinstance(annotation.type, type) and annotation.type in Registry.by_class.values()


def _check_reference(where: str, declared: Reference, annotation: Annotation) -> None:
    if not _is_subject(annotation) or annotation.listed:
        _refuse(where, "expected the annotation to be a subject")
    if declared.on_delete not in {"restrict", "cascade", "set null"}:
        _refuse(where, "on_delete: expected restrict, cascade or set null")
    if declared.on_delete == "set null" and not annotation.optional:
        _refuse(where, "on_delete: set null needs a reference that can be None")
    if declared.default not in {UNSET, caller}:
        _refuse(where, "default: expected caller")
    if declared.owner and annotation.type.declaration.name != "user":
        option = "default=caller" if declared.default is caller else "owner"
        _refuse(where, f"{option}: expected a reference to User")


def _check_relation(member: Member, declared: Relation) -> None:
    annotation, where = member.annotation, member.where
    if not _is_subject(annotation) or not annotation.listed:
        _refuse(where, 'expected the annotation to be Many["…"] of a subject')
    other = annotation.type.declaration.own
    if declared.by is not None and not (declared.by in other and _leads(other[declared.by])):
        expected = ", ".join(name for name, each in other.items() if _leads(each)) or "none, as it has no references"
        paired = declared.by in other and isinstance(other[declared.by], Relation)
        hint = "; one side of a many-to-many relation is many() without a name" if paired else ""
        _refuse(where, f"many({declared.by!r}): expected a reference of {annotation.type.__name__}: {expected}{hint}")
    if declared.by is None and len(f"{member.declaration.plural}_{member.name}") > MAX_TABLE:
        _refuse(where, f"expected a name that makes at most {MAX_TABLE} characters with {member.declaration.plural}_")


def _check_count(member: Member, declared: Count) -> None:
    if member.annotation.kind is not INTEGER or member.annotation.optional:
        _refuse(member.where, "count: expected the annotation to be int")
    relation = member.declaration.members.get(declared.of)
    if relation is None or not isinstance(relation.declared, Relation) or relation.declared.by is None:
        _refuse(member.where, f"count({declared.of!r}): expected the name of a relation, many('…'), of this class")
    if not isinstance(relation.target.declaration.own[relation.declared.by], Reference):
        _refuse(member.where, f"count({declared.of!r}): expected a relation by a reference, not by a table of pairs")


def _check_column(member: Member, declared: Column) -> None:
    kind = member.annotation.kind
    if kind is None:
        raise TypeError("checked before")
    for broken in (
        *_in_index(declared, kind),
        *_of_insensitive(member, declared, kind),
        *_of_languages(member, declared, kind),
        *_of_texts(declared, kind),
        *_of_documents(declared, kind),
        *_of_numbers(declared, member.annotation),
    ):
        _refuse(member.where, broken)
    if declared.default is UNSET:
        return
    if not member.annotation.takes_all(declared.initial):
        _refuse(member.where, "default: expected a value of the column's type")
    try:
        values.check_columns(member.declaration, {member.column: declared.initial})
    except BadUserInput as error:
        _refuse(member.where, f"default: {error.message}")


def _in_index(declared: Column, kind: Kind) -> Iterator[str]:
    if declared.index or declared.unique:
        yield from _of_index(declared, kind)
    if isinstance(declared.unique, str) and not NAMED.fullmatch(declared.unique):
        yield 'unique: expected True, or a name for errors in lower case with underscores, such as "serial_number"'


def _of_index(declared: Column, kind: Kind) -> Iterator[str]:
    if not kind.ordered:
        what = "a list" if kind.sql is ARRAY else f"a column of {kind.graphql}"
        yield f"{what} has no index that could serve an ordering, and cannot be unique"
    if kind is TEXT and declared.max_length is None:
        yield "expected max_length, since it is in an index"


def _of_insensitive(member: Member, declared: Column, kind: Kind) -> Iterator[str]:
    if not declared.insensitive:
        return
    if kind is not TEXT or member.annotation.enum or member.annotation.listed:
        yield "insensitive: expected a text, as no index serves a comparison of other values without regard to case"
    elif declared.max_length is None:
        yield "expected max_length, since it is in an index"
    if declared.private:
        yield "insensitive: expected a column that is not private, since clients compare it"
    if len(folded(member.column)) > MAX_NAME:
        yield f"insensitive: expected a name of at most {MAX_NAME - len(folded(''))} characters"
    if folded(member.column) in {each.column for each in member.declaration.columns}:
        yield f"insensitive: expected no column {folded(member.column)}, which holds the texts in the form to compare"


def _check_grouped(declaration: Declaration) -> None:
    for member in declaration.grouped:
        for broken in _of_grouped(member):
            _refuse(member.where, f"grouped: {broken}")


def _of_grouped(member: Member) -> Iterator[str]:
    """An index has to have the values in order, and several rows have to have the same value."""
    declared, declaration = member.declared, member.declaration
    if getattr(declared, "unique", False):
        yield "expected a column that is not unique, since each of its groups would be one row"
    if member.is_private:
        yield "expected a column that is not private, since clients see its values"
    if isinstance(declared, Reference):
        return
    if not isinstance(declared, Column) or member.annotation.kind is None:
        raise TypeError("checked before")
    kind = member.annotation.kind
    if (member.annotation.enum is None and kind.graphql not in GROUPED) or not kind.ordered:
        yield f"expected an enum, a text, a boolean, an integer, a day or a UUID, not {_titled(kind)}"
    listed = [*declaration.subject.indexes, *declaration.subject.unique_together]
    if not declared.index and member.column not in {declaration.column_of(names[0]) for names in listed if names}:
        yield "expected index=True, or an index that begins with it, to count the rows by"


def _titled(kind: Kind) -> str:
    return "a list" if kind.sql is ARRAY else kind.graphql


def _of_languages(member: Member, declared: Column, kind: Kind) -> Iterator[str]:
    if not declared.languages:
        return
    if isinstance(declared.languages, str):
        yield f"languages: expected several, such as ({declared.languages!r},)"
    if kind is not TEXT or member.annotation.enum or member.annotation.listed:
        yield "languages: expected a text"
    if not (declared.index or declared.unique) or declared.private:
        yield "languages: expected index=True or unique=True on a column that is not private, as clients order by it"
    if not all(LANGUAGE.fullmatch(each) for each in declared.languages):
        yield 'languages: expected codes such as "de", "pt-BR" or "zh-Hant"'
    if len(set(member.sorted.values())) < len(declared.languages):
        yield "languages: expected each once"
    for name in member.sorted.values():
        if len(name) > MAX_NAME:
            yield f"languages: expected a name that makes at most {MAX_NAME} characters: {name}"
        if name in {each.column for each in member.declaration.columns}:
            yield f"languages: expected no column {name}, which is sorted by the rules of a language"


def _of_texts(declared: Column, kind: Kind) -> Iterator[str]:
    least, most = declared.min_length, declared.max_length
    if (most is not None or least) and kind is not TEXT:
        yield "max_length and min_length are for texts"
    if not 0 <= least <= (least if most is None else most):
        yield "expected 0 <= min_length <= max_length"


def _of_documents(declared: Column, kind: Kind) -> Iterator[str]:
    if declared.max_bytes is None:
        return
    if kind.graphql != "JSON":
        yield "max_bytes is for JSON"
    elif not 0 < declared.max_bytes <= MAX_DOCUMENT_BYTES:
        yield f"max_bytes: expected 1 to {MAX_DOCUMENT_BYTES}"


def _of_numbers(declared: Column, annotation: Annotation) -> Iterator[str]:
    digits, scale, least, most = declared.digits, declared.scale, declared.minimum, declared.maximum
    graphql = annotation.kind.graphql if annotation.kind else ""
    if (digits is not None or scale is not None) and graphql != "Decimal":
        yield "digits and scale are for decimals"
    if scale is not None and digits is None:
        yield "scale: expected digits as well"
    if digits is not None and not 0 <= (scale or 0) <= digits <= MAX_DIGITS:
        yield f"expected 0 <= scale <= digits <= {MAX_DIGITS}"
    if digits == 0:
        yield "digits: expected at least 1"
    yield from _of_bounds([each for each in (least, most) if each is not None], annotation, graphql)


def _of_bounds(bounds: Sequence[Any], annotation: Annotation, graphql: str) -> Iterator[str]:
    if bounds and (graphql not in RANGED or annotation.listed):
        yield "minimum and maximum are for numbers, dates and moments"
    elif not all(annotation.takes(each) for each in bounds):
        yield "minimum and maximum: expected values of the column's type"
    elif any(isinstance(each, float) and not math.isfinite(each) for each in bounds):
        yield "minimum and maximum: expected finite numbers"
    elif any(isinstance(each, datetime) and each.tzinfo is None for each in bounds):
        yield "minimum and maximum: expected times with an offset from UTC"
    elif bounds and bounds[0] > bounds[-1]:
        yield "expected minimum <= maximum"
    elif not all(values.fits(annotation.type, each) for each in bounds):
        yield f"minimum and maximum: expected values that {graphql} has"


def _refuse(where: str, what: str) -> NoReturn:
    raise DeclarationError(f"{where}: {what}")
