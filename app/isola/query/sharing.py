"""Whether the result of a plan is the same for all users of a tenant who may read it."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, FromClause, Table
from sqlalchemy.sql.visitors import iterate

from isola.query import caller
from isola.query.arguments import RELATIVE, Condition, Page, Shape
from isola.query.mapping import Function, Join, Model, One, Related, Row, Searched, Source, View, columns_of
from isola.query.read_plan import Connection, ConnectionPart, Found, Grouped, Leaf, Object, ReadPlan, Selection

_OF_CALLER = frozenset(parameter.key for parameter in caller.PARAMETERS.values())


def is_same_for_all(model: Model, plan: ReadPlan, shapes: Sequence[Shape]) -> bool:
    """Whether neither a visibility rule nor the caller can make a difference. In doubt it is False."""
    if not plan.complete or not all(_compares_columns(model, *each) for each in _conditions(plan.root, shapes)):
        # Python's resolvers know the caller; a filter can compare rows that not everybody may see.
        return False
    if plan.called is None and any(isinstance(field, Leaf | Object) for field in plan.root.fields):
        # The row of a query is its caller.
        return False
    return all(_is_public(each) for each in _sources(model, plan.root)) and not any(
        _asks(of, columns_of(model.entities[type_].source)) for type_, of in _expressions(model, plan.root)
    )


def is_logged(model: Model, plan: ReadPlan, shapes: Sequence[Shape]) -> bool:
    """Whether the log of the tenant has all changes to the result of a plan. In doubt it is False."""
    if any(_is_relative(condition) for _, condition in _conditions(plan.root, shapes)):
        # Time passes without an entry.
        return False
    return plan.complete and not any(isinstance(each, Function | View) for each in _sources(model, plan.root))


def _conditions(selection: Selection, shapes: Sequence[Shape]) -> Iterator[tuple[str, Condition]]:
    """The filters in a selection, each with the type of the rows that it compares."""
    for field in selection.fields:
        match field:
            case Object(selection=inner):
                yield from _conditions(inner, shapes)
            case Connection():
                shape = shapes[field.site]
                if isinstance(shape, Page) and shape.condition is not None:
                    yield field.node, shape.condition
                for inner in _below(field.parts):
                    yield from _conditions(inner, shapes)
            case Found():
                for inner in field.choices.values():
                    yield from _conditions(inner, shapes)


def _is_relative(condition: Condition) -> bool:
    """Whether a filter compares with the present time."""
    match condition:
        case (("and" | "or"), parts):
            return any(map(_is_relative, parts))
        case ("not", part) | (("some" | "none"), _, _, part):
            return _is_relative(part)
        case (_, _, comparison):
            return comparison in RELATIVE
    return True


def _compares_columns(model: Model, type_: str, condition: Condition) -> bool:
    """Whether a filter compares nothing but columns of rows that everybody may read."""
    match condition:
        case (("and" | "or"), parts):
            return all(_compares_columns(model, type_, each) for each in parts)
        case ("not", part):
            return _compares_columns(model, type_, part)
        case (("some" | "none"), of, name, inner):
            related = model.filters[of][name]
            return (
                isinstance(related, Related)
                and all(_is_public(each) for each in (model.entities[related.type].source, *_joined(related.join)))
                and _compares_columns(model, related.type, inner)
            )
        case ("search", of, name):
            searched = model.filters[of][name]
            return isinstance(searched, Searched) and _is_public(searched.words)
        case ("test", column, _):
            return (type_, column) not in model.comparisons
    return False


def _is_public(source: Source) -> bool:
    """Whether everybody in a tenant may read all rows. What a function or a view has is not known."""
    if isinstance(source, Table):
        references = [key.column.table for column in source.primary_key.columns for key in column.foreign_keys]
        return not any("visible" in each.info for each in (source, *references))
    return not isinstance(source, Function | View)


def _asks(of: Callable[[Row], ColumnElement[Any]], columns: Row) -> bool:
    """Whether an expression reads other rows, or the caller."""
    return any(
        (isinstance(element, FromClause) and not isinstance(element, Table))
        or (isinstance(element, BindParameter) and element.key in _OF_CALLER)
        for element in iterate(of(columns))
    )


def _joined(join: Join | None) -> Iterator[Source]:
    if join is not None and join.through is not None:
        yield join.through


def _sources(model: Model, selection: Selection) -> Iterator[Source]:
    for field in selection.fields:
        match field:
            case Object(selection=inner):
                if isinstance(field.field, One):
                    yield model.source(field.field, inner.type)
                    yield from _joined(field.field.join)
                yield from _sources(model, inner)
            case Connection():
                yield model.source(field.field, field.node)
                yield from _joined(field.field.join)
                for inner in _below(field.parts):
                    yield from _sources(model, inner)
            case Found():
                for type_, inner in field.choices.items():
                    yield model.entities[type_].source
                    yield from _sources(model, inner)


def _expressions(model: Model, selection: Selection) -> Iterator[tuple[str, Callable[[Row], ColumnElement[Any]]]]:
    """Expressions in a selection, each with the type of whose row it is."""
    for field in selection.fields:
        match field:
            case Leaf(value=value) if not isinstance(value.of, str):
                yield selection.type, value.of
            case Object(selection=inner):
                yield from _expressions(model, inner)
            case Connection():
                if field.field.when is not None:
                    yield selection.type, field.field.when
                for of in _grouped(field.parts):
                    yield field.node, of
                for inner in _below(field.parts):
                    yield from _expressions(model, inner)
            case Found():
                for inner in field.choices.values():
                    yield from _expressions(model, inner)


def _grouped(parts: Sequence[ConnectionPart]) -> Iterator[Callable[[Row], ColumnElement[Any]]]:
    """The expressions by which a connection counts its rows."""
    for part in parts:
        for each in part.groups:
            if isinstance(each, Grouped) and not isinstance(each.value.value.of, str):
                yield each.value.value.of


def _below(parts: Sequence[ConnectionPart]) -> Iterator[Selection]:
    for part in parts:
        if part.selection is not None:
            yield part.selection
        yield from _below(part.parts)
