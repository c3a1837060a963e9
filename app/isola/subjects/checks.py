"""What a declaration has to keep to. Each error names the class, the attribute, and what was expected."""

from collections.abc import Iterator
from typing import NoReturn

from isola.errors import BadUserInput
from isola.subjects import values
from isola.subjects.declaration import (
    MAX_NAME,
    PLAIN,
    UNSET,
    Attribute,
    Column,
    Computed,
    Declaration,
    DeclarationError,
    Member,
    Reference,
    Registry,
    Relation,
    caller,
    field_of,
)
from isola.subjects.types import EXPECTED, TEXT, Annotation, Kind

RANGED = frozenset({"Int", "BigInt", "Float", "Decimal", "Date", "DateTime"})
MAX_DIGITS = 1000
MAX_TABLE = 60
"""Characters in the name of a table."""


def check(declaration: Declaration) -> None:
    """Raise DeclarationError for the first thing in a declaration that does not fit."""
    fields: dict[str, str] = {}
    for member in declaration.members.values():
        _check_name(member)
        field = field_of(member.column)
        if field in fields:
            _refuse(member.where, f"{fields[field]} is the field {field} already: expected another name")
        fields[field] = member.attribute
        match member.declared:
            case Column() | Computed() if member.annotation.kind is None:
                _refuse(member.where, f"expected an annotation that is one of {EXPECTED}")
            case Column() as declared:
                _check_column(member, declared)
            case Reference() as declared:
                _check_reference(member.where, declared, member.annotation)
            case Relation() as declared:
                _check_relation(member, declared)
    _check_names(declaration)


def _check_names(declaration: Declaration) -> None:
    """Whether what is said of attributes by their names is said of some that there are."""
    for name, _ in declaration.order:
        if name not in declaration.ordered_by:
            expected = ", ".join(declaration.ordered_by)
            _refuse(declaration.where, f"order: no index serves {name!r}: expected some of {expected}")
    subject = declaration.subject
    for name in (*subject.shared, *(each for names in (*subject.unique_together, *subject.indexes) for each in names)):
        if declaration.by_column(declaration.column_of(name)) is None and name not in declaration.times:
            _refuse(declaration.where, f"there is no attribute {name!r}")
    for name in subject.samples:
        if all(name != each.attribute for each in declaration.columns):
            _refuse(declaration.where, f"samples: there is no column {name!r}")


def _check_name(member: Member) -> None:
    if not PLAIN.fullmatch(member.name) or len(member.name) > MAX_NAME:
        _refuse(member.where, f"expected a name in lower case with underscores, of at most {MAX_NAME} characters")
    if member.name in {"id", *member.declaration.TIMES}:
        _refuse(member.where, "every subject has this column already")
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
    if declared.default is caller and annotation.type.declaration.name != "user":
        _refuse(where, "default=caller: expected a reference to User")


def _check_relation(member: Member, declared: Relation) -> None:
    annotation, where = member.annotation, member.where
    if not _is_subject(annotation) or not annotation.listed:
        _refuse(where, 'expected the annotation to be Many["…"] of a subject')
    other = annotation.type.declaration.own
    if declared.by is not None and not (declared.by in other and _leads(other[declared.by])):
        expected = ", ".join(name for name, each in other.items() if _leads(each)) or "none, as it has no references"
        _refuse(where, f"many({declared.by!r}): expected a reference of {annotation.type.__name__}: {expected}")
    if declared.by is None and len(f"{member.declaration.plural}_{member.name}") > MAX_TABLE:
        _refuse(where, f"expected a name that makes at most {MAX_TABLE} characters with {member.declaration.plural}_")


def _check_column(member: Member, declared: Column) -> None:
    kind = member.annotation.kind
    if kind is None:
        raise TypeError("checked before")
    for broken in (*_in_index(declared, kind), *_of_texts(declared, kind), *_of_numbers(declared, member.annotation)):
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
        if not kind.ordered:
            yield f"a column of {kind.graphql} has no index that could serve an ordering"
        if kind is TEXT and declared.max_length is None:
            yield "expected max_length, since it is in an index"


def _of_texts(declared: Column, kind: Kind) -> Iterator[str]:
    least, most = declared.min_length, declared.max_length
    if (most is not None or least) and kind is not TEXT:
        yield "max_length and min_length are for texts"
    if not 0 <= least <= (least if most is None else most):
        yield "expected 0 <= min_length <= max_length"


def _of_numbers(declared: Column, annotation: Annotation) -> Iterator[str]:
    digits, scale, least, most = declared.digits, declared.scale, declared.minimum, declared.maximum
    graphql = annotation.kind.graphql if annotation.kind else ""
    if (digits is not None or scale is not None) and graphql != "Decimal":
        yield "digits and scale are for decimals"
    if scale is not None and digits is None:
        yield "scale: expected digits as well"
    if digits is not None and not 0 <= (scale or 0) <= digits <= MAX_DIGITS:
        yield f"expected 0 <= scale <= digits <= {MAX_DIGITS}"
    bounds = [each for each in (least, most) if each is not None]
    if bounds and (graphql not in RANGED or annotation.listed):
        yield "minimum and maximum are for numbers, dates and moments"
    elif not all(annotation.takes(each) for each in bounds):
        yield "minimum and maximum: expected values of the column's type"
    elif bounds and bounds[0] > bounds[-1]:
        yield "expected minimum <= maximum"


def _refuse(where: str, what: str) -> NoReturn:
    raise DeclarationError(f"{where}: {what}")
