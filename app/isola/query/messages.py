"""Safe client messages for invalid documents, variables and arguments.

graphql-core's messages repeat client input, and a value may be a password. So every message is made here: about values
it gives the path and the expected type; from a document it repeats only names of the schema, and the names of
variables that the document declares. ``ClientError`` marks messages made here; clients get no others.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from graphql import (
    ArgumentNode,
    DirectiveNode,
    DocumentNode,
    FieldNode,
    GraphQLDirective,
    GraphQLEnumType,
    GraphQLError,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLInterfaceType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLSyntaxError,
    ListValueNode,
    Node,
    NullValueNode,
    ObjectValueNode,
    TokenKind,
    TypeInfo,
    TypeInfoVisitor,
    Undefined,
    ValidationRule,
    ValueNode,
    ValuesOfCorrectTypeRule,
    VariableDefinitionNode,
    VariableNode,
    Visitor,
    get_named_type,
    is_required_argument,
    is_required_input_field,
    specified_rules,
    validate_input_literal,
    validate_input_value,
    visit,
)
from graphql.execution.values import VariableValues
from graphql.pyutils import did_you_mean, suggestion_list

from isola.errors import BadUserInput

Path: TypeAlias = tuple[str | int, ...]

_QUOTED = re.compile(r"'([^']*)'")
_UNSAID = "'…'"
_TOKENS = "|".join(re.escape(kind.value) for kind in TokenKind)
# The safe part of a syntax error: the kind of the expected or unexpected token, or the exceeded limit.
_SYNTAX = re.compile(
    rf"Syntax Error: (?:(?:Expected|Unexpected) '?(?:{_TOKENS})'?|Unterminated string\."
    r"|Document contains more than \d+ tokens\. Parsing aborted\.)"
)


class ClientError(GraphQLError):
    """An error that repeats no client input."""

    def __init__(self, message: str, nodes: Node | list[Node] | None = None, field: str | None = None) -> None:
        super().__init__(message, nodes, extensions={} if field is None else {"field": field})


class UnfitValueError(ValueError):
    """Raised by a scalar for an invalid value. The message says what was expected and omits the value."""


def syntax(error: GraphQLSyntaxError) -> GraphQLError:
    """The error of a document that cannot be parsed."""
    matched = _SYNTAX.match(error.message)
    safe = ClientError(matched[0] if matched else "Syntax Error")
    # The location only; the text around it is not quoted.
    safe.source, safe.positions, safe.locations = error.source, error.positions, error.locations
    return safe


class Names:
    """The names of a schema, as graphql-core's messages quote them."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self._names = frozenset(_names(schema))

    def sayable(self, error: GraphQLError, document: DocumentNode) -> ClientError:
        """The error of a validation rule about names, with all names removed that may not be repeated."""
        if isinstance(error, ClientError):
            return error
        declared = {
            f"${variable.variable.name.value}"
            for definition in document.definitions
            for variable in getattr(definition, "variable_definitions", None) or ()
        }

        def reworded(quoted: re.Match[str]) -> str:
            return quoted[0] if quoted[1].strip("[]!") in self._names or quoted[1] in declared else _UNSAID

        return ClientError(_QUOTED.sub(reworded, error.message), list(error.nodes or ()))


def _names(schema: GraphQLSchema) -> Iterator[str]:
    for directive in schema.directives:
        yield f"@{directive.name}"
        for argument in directive.args:
            yield from (argument, f"@{directive.name}({argument}:)")
    for type_name, type_ in schema.type_map.items():
        yield type_name
        match type_:
            case GraphQLObjectType() | GraphQLInterfaceType():
                for name, definition in type_.fields.items():
                    yield from (name, f"{type_name}.{name}")
                    for argument in definition.args:
                        yield from (argument, f"{type_name}.{name}({argument}:)")
            case GraphQLInputObjectType():
                for name in type_.fields:
                    yield from (name, f"{type_name}.{name}")
            case GraphQLEnumType():
                yield from type_.values


class _ValuesRule(ValidationRule):
    """graphql-core's ValuesOfCorrectTypeRule with our messages."""

    def enter_argument(self, node: ArgumentNode, *_: Any) -> None:
        self._check(node.value, (node.name.value,) if self.context.get_argument() else ())

    def enter_variable_definition(self, node: VariableDefinitionNode, *_: Any) -> None:
        if node.default_value:
            self._check(node.default_value, (f"${node.variable.name.value}",), used_as="")

    def _check(self, value: ValueNode, place: Path, used_as: str | None = None) -> None:
        type_ = self.context.get_input_type()
        if type_ is not None:
            for wrong in mistakes(value, type_, suggest=not self.context.hide_suggestions):
                self.report_error(wrong.located(place, used_as=used_as))


RULES = tuple(_ValuesRule if rule is ValuesOfCorrectTypeRule else rule for rule in specified_rules)
"""The rules of the specification; errors of graphql-core's own rules pass through ``Names.sayable``."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """An error in a value: its path, and what was expected."""

    path: Path
    expected: str
    node: Node | None

    def located(self, place: Path, node: Node | None = None, used_as: str | None = None) -> ClientError:
        """The client error for a value at ``place``.

        ``used_as`` is the path of the input that a variable is used for, and empty if it is not used.
        """
        path = _dotted((*place, *self.path))
        if used_as is not None:
            path_used = _dotted((used_as, *self.path)) if used_as else None
            return ClientError(f"{path}: {self.expected}", node or self.node, path_used)
        return ClientError(f"{path}: {self.expected}", self.node, path)


def mistakes(
    received: Any,
    type_: GraphQLInputType,
    *,
    suggest: bool = False,
    most: int = 20,
    variables: VariableValues | None = None,
) -> list[Mistake]:
    """The errors in a literal or in a JSON value, at most ``most``.

    graphql-core finds the paths of the errors; the messages are made here.
    """
    places: dict[Path, Exception | None] = {}

    def note(error: GraphQLError, path: list[str | int]) -> None:
        places.setdefault(tuple(path), error.original_error)
        if len(places) >= most:
            raise _EnoughError

    # A value nested too deeply for this check has already been rejected.
    with suppress(_EnoughError, RecursionError):
        if isinstance(received, ValueNode):
            validate_input_literal(received, type_, note, variables)
        else:
            validate_input_value(received, type_, note)
    examination = _Examination(variables, suggest=suggest)
    return [wrong for path, cause in places.items() for wrong in examination.at(path, received, type_, cause)][:most]


class _EnoughError(Exception):
    pass


@dataclass(frozen=True, slots=True)
class _Examination:
    variables: VariableValues | None
    suggest: bool

    def at(self, path: Path, received: Any, type_: GraphQLInputType, cause: Exception | None) -> Iterator[Mistake]:
        """The errors at a path, without the value itself."""
        for step in path:
            received = _item(self._plain(received), step)
            type_ = _type_at(type_, step)
        node = received if isinstance(received, Node) else None
        plain = self._plain(received)
        named = get_named_type(type_)
        if plain is None or plain is Undefined:
            yield Mistake(path, f"expected a value of the type {type_}", node)
        elif isinstance(named, GraphQLInputObjectType):
            yield from self._object(path, plain, named, node)
        elif isinstance(cause, UnfitValueError):
            yield Mistake(path, str(cause), node)
        else:
            written = getattr(received, "value", plain)
            hint = self._hint(written, named.values) if isinstance(named, GraphQLEnumType) else ""
            yield Mistake(path, f"expected a value of the type {named}{hint}", node)

    def _object(self, path: Path, plain: Any, type_: GraphQLInputObjectType, node: Node | None) -> Iterator[Mistake]:
        if not isinstance(plain, dict):
            yield Mistake(path, f"expected an object of the type {type_}", node)
            return
        for name, definition in type_.fields.items():
            if name not in plain and is_required_input_field(definition):
                yield Mistake((*path, name), f"expected a value of the type {definition.type}", node)
        for name in plain.keys() - type_.fields.keys():
            hint = self._hint(name, type_.fields)
            yield Mistake(path, f"expected only fields of the type {type_}{hint}", node)
        if type_.is_one_of:
            yield Mistake(path, f"expected exactly one field of the type {type_}", node)

    def _hint(self, written: Any, names: Iterable[str]) -> str:
        likely = suggestion_list(written, list(names)) if self.suggest and isinstance(written, str) else []
        return f".{did_you_mean(likely)}" if likely else ""

    def _plain(self, literal: Any) -> Any:
        """A literal converted one level deep: its items or fields stay literals."""
        match literal:
            case NullValueNode():
                return None
            case ListValueNode():
                return list(literal.values)
            case ObjectValueNode():
                return {each.name.value: each.value for each in literal.fields}
            case VariableNode():
                values: Mapping[str, Any] = self.variables.coerced if self.variables else {}
                return values.get(literal.name.value, Undefined)
        return literal


def _item(plain: Any, step: str | int) -> Any:
    if isinstance(step, int):
        return plain[step] if isinstance(plain, list) and step < len(plain) else Undefined
    return plain.get(step, Undefined) if isinstance(plain, dict) else Undefined


def _type_at(type_: GraphQLInputType, step: str | int) -> GraphQLInputType:
    if isinstance(step, int):
        listed = type_.of_type if isinstance(type_, GraphQLNonNull) else type_
        item: GraphQLInputType = listed.of_type  # type: ignore[union-attr]  # only lists have items
        return item
    # Where a list is expected, GraphQL accepts a single value as a list of one.
    named = get_named_type(type_)
    return named.fields[step].type if isinstance(named, GraphQLInputObjectType) else type_


def argument(
    definition: GraphQLField | GraphQLDirective, node: FieldNode | DirectiveNode, variables: VariableValues | None
) -> BadUserInput:
    """The error in the arguments of a field that graphql-core could not coerce."""
    given = {each.name.value: each.value for each in node.arguments or ()}
    for name, expected in definition.args.items():
        if name not in given:
            if is_required_argument(expected):
                return BadUserInput(f"{name}: expected a value of the type {expected.type}", name)
            continue
        for wrong in mistakes(given[name], expected.type, variables=variables):
            path = _dotted((name, *wrong.path))
            return BadUserInput(f"{path}: {wrong.expected}", path)
    return BadUserInput("an argument has an invalid value")


class _Uses(Visitor):
    """Finds where variables are used: the path of the first input that uses each of them."""

    def __init__(self, types: TypeInfo) -> None:
        super().__init__()
        self.places: dict[str, str] = {}
        self._types = types

    def enter_argument(self, node: ArgumentNode, *_: Any) -> None:
        self._note((node.name.value,), node.value, self._types.get_input_type())

    def _note(self, path: Path, value: ValueNode, type_: GraphQLInputType | None) -> None:
        named = None if type_ is None else cast("GraphQLInputType", get_named_type(type_))
        match value:
            case VariableNode():
                self.places.setdefault(value.name.value, _dotted(path))
            case ListValueNode():
                for index, each in enumerate(value.values):
                    self._note((*path, index), each, named)
            case ObjectValueNode():
                # The keys within a scalar are client input, not names of the schema.
                fields = named.fields if isinstance(named, GraphQLInputObjectType) else {}
                for each_field in value.fields:
                    name = each_field.name.value
                    if name in fields:
                        self._note((*path, name), each_field.value, fields[name].type)
                    else:
                        self._note(path, each_field.value, None)


def uses(schema: GraphQLSchema, nodes: Iterable[Node]) -> Mapping[str, str]:
    """By variable: the path of the first argument or field of an input in which it is used."""
    types = TypeInfo(schema)
    found = _Uses(types)
    for node in nodes:
        visit(node, TypeInfoVisitor(types, found))
    return found.places


def _dotted(path: Path) -> str:
    return ".".join(map(str, path))
