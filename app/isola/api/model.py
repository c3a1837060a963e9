"""The model of a Strawberry schema, built from the isola.api.fields declarations of its types."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import strawberry
from graphql import (
    GraphQLAbstractType,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLResolveInfo,
    get_named_type,
)
from sqlalchemy import Column
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types.field import StrawberryField

from isola.api.access import Public, Requires, RequiresFeature
from isola.api.fields import FIELD, TYPE
from isola.query import json_text
from isola.query.mapping import (
    Comparison,
    Entity,
    Field,
    Filter,
    Grouping,
    MappingError,
    Model,
    Needs,
    Related,
    Searched,
    Value,
    columns_of,
    hidden,
)
from isola.query.statement import TYPE_MARK

_DEFINITION = GraphQLCoreConverter.DEFINITION_BACKREF
_LOGIC = {"and", "or", "not"}


def model_of(schema: strawberry.Schema) -> Model:
    """The model that a schema's types declare. Raises MappingError naming the field with an invalid declaration.

    Also replaces resolvers: graphql-core then reads mapped fields by response key from a statement's result.
    """
    core = schema._schema  # noqa: SLF001  Strawberry has no public access to the schema that it makes
    entities: dict[str, Entity] = {}
    filters: dict[str, Filter] = {}
    left: dict[str, Needs] = {}
    requires: dict[str, Sequence[str]] = {}
    groupings: dict[str, Mapping[str, Grouping]] = {}
    for name, type_ in core.type_map.items():
        if _DEFINITION not in type_.extensions:
            continue
        match type_:
            case GraphQLInputObjectType() if type_.fields.keys() >= _LOGIC:
                filters[name] = _filter(type_)
            case GraphQLInterfaceType():
                type_.resolve_type = _type_of
            case GraphQLObjectType():
                # Rows from a statement are plain dicts, not instances of a class.
                type_.is_type_of = None
                fields = _fields(type_)
                requires |= _requires(type_)
                if grouped := _groupings(type_):
                    groupings[name] = grouped
                if declared := getattr(type_.extensions[_DEFINITION].origin, TYPE, None):
                    source, prefix, order = declared
                    entities[name] = Entity(source, fields, prefix, order)
                    for each in type_.fields.keys() - fields.keys():
                        left[f"{name}.{each}"] = _hand_over(type_.fields[each], columns_of(source))
    return Model(core, entities, filters, left, requires, groupings)


def _groupings(type_: GraphQLObjectType) -> dict[str, Grouping]:
    declared = {name: _declaration(field).metadata.get(FIELD) for name, field in type_.fields.items()}
    return {name: each for name, each in declared.items() if isinstance(each, Grouping)}


def _fields(type_: GraphQLObjectType) -> dict[str, Field]:
    """The mappings of a type's fields, except fields with a custom resolver."""
    fields: dict[str, Field] = {}
    for name, field in type_.fields.items():
        declaration = _declaration(field)
        if declaration.base_resolver is None:
            fields[name] = declaration.metadata.get(FIELD) or Value(declaration.python_name)
            target = get_named_type(field.type)
            read = _reader(declaration.python_name)
            field.resolve = _read_enum(read, target) if isinstance(target, GraphQLEnumType) else read
    return fields


def _hand_over(field: GraphQLField, columns: Mapping[str, Column[Any]]) -> Needs:
    """The columns that a field's resolver needs; from now on the resolver receives them, if it needs any."""
    needs: Needs = _declaration(field).metadata.get(FIELD, Needs(()))
    resolve = field.resolve
    if not needs.columns or resolve is None:
        return needs

    def resolve_row(source: Any, info: GraphQLResolveInfo[Any], **arguments: Any) -> Any:
        row = {
            name: json_text.read(source[hidden(name)], columns[name].type)
            if isinstance(source, dict)
            else getattr(source, name)
            for name in needs.columns
        }
        return resolve(row, info, **arguments)

    field.resolve = resolve_row
    return needs


def _requires(type_: GraphQLObjectType) -> dict[str, Sequence[str]]:
    """The permissions and features that a type and each of its fields need.

    Raises MappingError for a field without a rule: that it requires a feature is none.
    """
    declared = {type_.name: list(type_.extensions[_DEFINITION].directives or ())}
    declared |= {f"{type_.name}.{name}": list(_declaration(each).directives) for name, each in type_.fields.items()}
    for path, directives in declared.items():
        if not _has_rule(directives) and not _has_rule(declared[type_.name]) and path != type_.name:
            raise MappingError(f"{path}: neither it nor {type_} declares an access rule: see isola.api.access")
    return {path: [*_needs(directives)] for path, directives in declared.items()}


def _has_rule(directives: Iterable[object]) -> bool:
    return any(isinstance(each, Requires | Public) for each in directives)


def _needs(directives: Sequence[object]) -> Iterator[str]:
    yield from (each.permission for each in directives if isinstance(each, Requires))
    yield from (each.name for each in directives if isinstance(each, RequiresFeature))


def _filter(type_: GraphQLInputObjectType) -> Filter:
    comparisons: dict[str, Comparison | Related | Searched] = {}
    for name in type_.fields.keys() - _LOGIC:
        declaration = _declaration(type_.fields[name])
        declared = declaration.metadata.get(FIELD)
        if not isinstance(declared, Comparison | Related | Searched):
            declared = Comparison(declaration.python_name, declared)
        comparisons[name] = declared
    return comparisons


def _declaration(field: Any) -> StrawberryField:
    declaration: StrawberryField = field.extensions[_DEFINITION]
    return declaration


def _reader(name: str) -> Callable[..., Any]:
    """Reads a field by its response key from a statement's result, and by its name from a resolver's result."""

    def read(source: Any, info: GraphQLResolveInfo[Any], **_: Any) -> Any:
        return source[info.path.key] if isinstance(source, dict) else getattr(source, name)

    return read


def _read_enum(read: Callable[..., Any], type_: GraphQLEnumType) -> Callable[..., Any]:
    """Converts the enum names that a statement returns to the enum values that graphql-core expects."""

    def value(names: Any) -> Any:
        if names is None:
            return None
        return [value(each) for each in names] if isinstance(names, list) else type_.values[names].value

    def read_value(source: Any, info: GraphQLResolveInfo[Any]) -> Any:
        return value(read(source, info))

    return read_value


def _type_of(value: Any, _info: GraphQLResolveInfo[Any], _type: GraphQLAbstractType) -> str:
    return str(value[TYPE_MARK])
