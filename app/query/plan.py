"""What a plan is: an operation's selection with everything decided that does not depend on values.

Places with arguments are *sites*: app.query.arguments reads what a request gives at each.
"""

from collections.abc import Callable, Mapping, Sequence, Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn, TypeAlias

from graphql import (
    FieldNode,
    GraphQLEnumType,
    GraphQLField,
    GraphQLNamedType,
    GraphQLNonNull,
    Undefined,
    VariableNode,
    Visitor,
    get_argument_values,
    visit,
)
from graphql.execution.values import VariableValues

from app.errors import Forbidden
from app.query import arguments, mapping
from app.query.arguments import Read
from app.query.mapping import Many, One, Part, Value


@dataclass(frozen=True, slots=True)
class Selected:
    """``place`` is the field, as ``Type.field``."""

    key: str
    nullable: bool
    place: str


@dataclass(frozen=True, slots=True)
class Constant(Selected):
    """Known without reading: ``__typename``."""

    text: str


@dataclass(frozen=True, slots=True)
class Leaf(Selected):
    """``longest`` is the number of characters that a text has at most, where there is a limit."""

    value: Value
    type: GraphQLNamedType
    listed: bool
    longest: int | None = None


@dataclass(frozen=True, slots=True)
class Object(Selected):
    """A related row, or with a Part another view of the same row."""

    field: One | Part
    selection: "Selection"


@dataclass(frozen=True, slots=True)
class Connection(Selected):
    field: Many
    site: int
    node: str
    parts: tuple["ConnectionPart", ...]


@dataclass(frozen=True, slots=True)
class Found(Selected):
    """What ids lead to: a selection for each type that it can be."""

    site: int
    many: bool
    choices: Mapping[str, "Selection"]
    abstract: bool


@dataclass(frozen=True, slots=True)
class Selection:
    type: str
    fields: tuple["Constant | Leaf | Object | Connection | Found", ...]


@dataclass(frozen=True, slots=True)
class ConnectionPart:
    """A field of a connection, of its edges or of its pageInfo, by its name there."""

    key: str
    name: str
    parts: tuple["ConnectionPart", ...] = ()
    selection: Selection | None = None
    type: str = ""
    """What ``__typename`` says."""


@dataclass(eq=False)
class Site:
    """A field with arguments.

    For estimates: ``parent`` is the index of the connection that it lies in, ``scan`` what it costs to go through all
    that it can lead to, in rows, and ``counts`` how often its ``totalCount`` is selected.
    """

    node: FieldNode
    definition: GraphQLField
    reader: arguments.Connection | arguments.Identified
    parent: int | None
    scan: int = 0
    counts: int = 0

    def cost(self, shape: arguments.Shape) -> int:
        """What it costs to read it once, in rows. A page of none is read as well."""
        scans = self.counts
        if isinstance(self.reader, arguments.Connection) and isinstance(shape, arguments.Page):
            # What is filtered, or has another order, may be found at the end only.
            scans += shape.condition is not None or shape.order != self.reader.order
        return max(shape.size, 1) + scans * self.scan

    def read(self, variables: VariableValues, cursor_key: Callable[[object], bytes]) -> Read:
        if self._constant is not None:
            return self._constant
        given = self._given
        if given is None:
            given = self._by_name(variables)
        if given is None:
            given = get_argument_values(self.definition, self.node, variables)
        return self.reader.read(given, cursor_key)

    def _by_name(self, variables: VariableValues) -> dict[str, Any] | None:
        """The arguments where each is a variable by itself, which is coerced already; None for all other cases."""
        if self._names is None:
            return None
        given = {}
        for argument, variable, required in self._names:
            value = variables.coerced.get(variable, Undefined)
            if value is Undefined or value is None:
                if required:
                    return None  # graphql-core words the error
                if value is Undefined:
                    continue
            given[argument] = value
        return given

    @cached_property
    def _names(self) -> list[tuple[str, str, bool]] | None:
        """Each argument's name, its variable, and whether null is refused."""
        defined = self.definition.args
        given = self.node.arguments or ()
        if any(each.default is not None for each in defined.values()):
            return None
        if any(not isinstance(each.value, VariableNode) for each in given):
            return None
        return [
            (defined[name].out_name or name, each.value.name.value, isinstance(defined[name].type, GraphQLNonNull))
            for each in given
            for name in [each.name.value]
            if isinstance(each.value, VariableNode)
        ]

    @cached_property
    def _given(self) -> dict[str, Any] | None:
        """The arguments, where they are the same in every request."""
        return None if variables_in(self.node, deep=False) else get_argument_values(self.definition, self.node)

    @cached_property
    def _constant(self) -> Read | None:
        if self._given is None or self.reader.depends_on_caller(self._given):
            return None
        return self.reader.read(self._given, lambda _: b"")


Path: TypeAlias = tuple[str, ...]
Required: TypeAlias = Mapping[str, Path]
"""Permissions, each with the first place that needs it."""


@dataclass(eq=False)
class Plan:
    """What one statement reads. ``complete``: nothing of the selection is left for Python.

    ``required`` is what it needs whatever is found. ``found`` has the sites where ids decide what is found, with what
    each type that they can be of needs.
    """

    root: Selection
    row: mapping.Parameters
    sites: tuple[Site, ...]
    complete: bool
    required: Required
    found: Sequence[tuple[int, Mapping[str, Required]]]

    @property
    def reads(self) -> bool:
        """Whether there is anything to ask the database for."""
        return any(not isinstance(field, Constant) for field in self.root.fields)

    @cached_property
    def permissions(self) -> frozenset[str]:
        return frozenset(self.required)

    def check(self, permissions: AbstractSet[str], shapes: Sequence[arguments.Shape]) -> None:
        """Raise Forbidden, naming the path and the permission, unless all that this request needs is given."""
        if not self.permissions <= permissions:
            _refuse(self.required, permissions)
        for site, choices in self.found:
            shape = shapes[site]
            for type_ in shape.types if isinstance(shape, arguments.Ids) else ():
                if not choices[type_].keys() <= permissions:
                    _refuse(choices[type_], permissions)


def _refuse(required: Required, permissions: AbstractSet[str]) -> NoReturn:
    permission, path = next(each for each in required.items() if each[0] not in permissions)
    raise Forbidden(f"{'.'.join(path)}: this needs the permission {permission}")


Plans: TypeAlias = Plan | Mapping[str, Plan]
"""A query's plan; a mutation has one for the payload of each of its fields, by response key."""


def variables_in(node: Any, *, deep: bool = True) -> frozenset[str]:
    """The variables used in a node of a document; without ``deep``, only those in a field's own arguments."""
    found: set[str] = set()

    class Collect(Visitor):
        def enter_variable(self, variable: VariableNode, *_: Any) -> None:
            found.add(variable.name.value)

    for part in (node,) if deep else node.arguments or ():
        visit(part, Collect())
    return frozenset(found)


def enum_names(type_: GraphQLNamedType) -> dict[str, str]:
    """The names of an enum's values, by the value that a column holds."""
    if not isinstance(type_, GraphQLEnumType):
        return {}
    return {value.value: name for name, value in type_.values.items()}
