"""What clients are told of documents, variables and arguments that are wrong.

graphql-core's messages repeat what was sent, and a value may be a password. So every message is made here: of values it
says where they stand and what was expected there; of a document it repeats the names that the schema has, and those of
variables that the document declares. ``ClientError`` marks what was made here; nothing else is shown.
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
# Of a syntax error: what the parser wanted or met, by its kind; or which limit the document is over.
_SYNTAX = re.compile(
    rf"Syntax Error: (?:(?:Expected|Unexpected) '?(?:{_TOKENS})'?|Unterminated string\."
    r"|Document contains more than \d+ tokens\. Parsing aborted\.)"
)


class ClientError(GraphQLError):
    """An error in which nothing is repeated that a client sent."""

    def __init__(self, message: str, nodes: Node | list[Node] | None = None, field: str | None = None) -> None:
        super().__init__(message, nodes, extensions={} if field is None else {"field": field})


class UnfitValueError(ValueError):
    """Raised by a scalar for a value that it does not take. The message says what was expected, and no value."""


def syntax(error: GraphQLSyntaxError) -> GraphQLError:
    """The error of a document that cannot be parsed."""
    known = _SYNTAX.match(error.message)
    told = ClientError(known[0] if known else "Syntax Error")
    # Where it is; the text around it is not quoted.
    told.source, told.positions, told.locations = error.source, error.positions, error.locations
    return told


class Names:
    """The names that a schema has, as graphql-core's messages write them between quotes."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self._names = frozenset(_names(schema))

    def sayable(self, error: GraphQLError, document: DocumentNode) -> ClientError:
        """The error of a validation rule about names, with only those that may be said."""
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
    """graphql-core's ValuesOfCorrectTypeRule in our words."""

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
"""The rules of the specification; the errors of those that are graphql-core's go through ``Names.sayable``."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong with a value: where, and what was expected."""

    path: Path
    expected: str
    node: Node | None

    def located(self, place: Path, node: Node | None = None, used_as: str | None = None) -> ClientError:
        """The error of a value that stands at ``place``.

        ``used_as`` is the path of the input that a variable is used as, and empty where it is used as none.
        """
        path = _dotted((*place, *self.path))
        if used_as is not None:
            path_used = _dotted((used_as, *self.path)) if used_as else None
            return ClientError(f"{path}: {self.expected}", node or self.node, path_used)
        return ClientError(f"{path}: {self.expected}", self.node, path)


def mistakes(
    given: Any,
    type_: GraphQLInputType,
    *,
    suggest: bool = False,
    most: int = 20,
    variables: VariableValues | None = None,
) -> list[Mistake]:
    """All that is wrong with a literal or with a value of JSON, at most ``most``.

    graphql-core says where there is something wrong. What it is, is looked up there.
    """
    places: dict[Path, Exception | None] = {}

    def note(error: GraphQLError, path: list[str | int]) -> None:
        places.setdefault(tuple(path), error.original_error)
        if len(places) >= most:
            raise _EnoughError

    # What is nested too deeply for this has been found to be wrong before.
    with suppress(_EnoughError, RecursionError):
        if isinstance(given, ValueNode):
            validate_input_literal(given, type_, note, variables)
        else:
            validate_input_value(given, type_, note)
    examination = _Examination(variables, suggest=suggest)
    return [wrong for path, cause in places.items() for wrong in examination.at(path, given, type_, cause)][:most]


class _EnoughError(Exception):
    pass


@dataclass(frozen=True, slots=True)
class _Examination:
    variables: VariableValues | None
    suggest: bool

    def at(self, path: Path, given: Any, type_: GraphQLInputType, cause: Exception | None) -> Iterator[Mistake]:
        """What is wrong at a path, with nothing of the value itself."""
        for step in path:
            given = _item(self._plain(given), step)
            type_ = _type_at(type_, step)
        node = given if isinstance(given, Node) else None
        plain = self._plain(given)
        named = get_named_type(type_)
        if plain is None or plain is Undefined:
            yield Mistake(path, f"expected a value of the type {type_}", node)
        elif isinstance(named, GraphQLInputObjectType):
            yield from self._object(path, plain, named, node)
        elif isinstance(cause, UnfitValueError):
            yield Mistake(path, str(cause), node)
        else:
            written = getattr(given, "value", plain)
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
            yield Mistake(path, f"expected no field that the type {type_} does not have{hint}", node)
        if type_.is_one_of:
            yield Mistake(path, f"expected exactly one field of the type {type_}", node)

    def _hint(self, written: Any, known: Iterable[str]) -> str:
        likely = suggestion_list(written, list(known)) if self.suggest and isinstance(written, str) else []
        return f".{did_you_mean(likely)}" if likely else ""

    def _plain(self, given: Any) -> Any:
        """A literal as far as its nesting goes: what lies within it stays as it is."""
        match given:
            case NullValueNode():
                return None
            case ListValueNode():
                return list(given.values)
            case ObjectValueNode():
                return {each.name.value: each.value for each in given.fields}
            case VariableNode():
                known: Mapping[str, Any] = self.variables.coerced if self.variables else {}
                return known.get(given.name.value, Undefined)
        return given


def _item(plain: Any, step: str | int) -> Any:
    if isinstance(step, int):
        return plain[step] if isinstance(plain, list) and step < len(plain) else Undefined
    return plain.get(step, Undefined) if isinstance(plain, dict) else Undefined


def _type_at(type_: GraphQLInputType, step: str | int) -> GraphQLInputType:
    if isinstance(step, int):
        listed = type_.of_type if isinstance(type_, GraphQLNonNull) else type_
        item: GraphQLInputType = listed.of_type  # type: ignore[union-attr]  # only lists have items
        return item
    # Where a list is expected, one value stands for a list of one.
    named = get_named_type(type_)
    return named.fields[step].type if isinstance(named, GraphQLInputObjectType) else type_


def argument(
    definition: GraphQLField | GraphQLDirective, node: FieldNode | DirectiveNode, variables: VariableValues | None
) -> BadUserInput:
    """What is wrong with the arguments of a field, where graphql-core could not coerce them."""
    given = {each.name.value: each.value for each in node.arguments or ()}
    for name, expected in definition.args.items():
        if name not in given:
            if is_required_argument(expected):
                return BadUserInput(f"{name}: expected a value of the type {expected.type}", name)
            continue
        for wrong in mistakes(given[name], expected.type, variables=variables):
            path = _dotted((name, *wrong.path))
            return BadUserInput(f"{path}: {wrong.expected}", path)
    return BadUserInput("an argument has a value that it cannot have")


class _Uses(Visitor):
    """Finds where variables are used: the path of the first input that each stands for."""

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
                # The keys within a scalar are of the client's making.
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
