"""The plan of a read: an operation's selection with everything decided that does not depend on values.

Fields with arguments are *sites*: isola.query.arguments reads a request's arguments at each.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set as AbstractSet
from dataclasses import dataclass, field as default, replace
from functools import cached_property, partial
from itertools import count
from typing import Any, NamedTuple, TypeAlias

from graphql import (
    FieldNode,
    GraphQLEnumType,
    GraphQLError,
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

from isola.errors import FeatureRequired, Forbidden, Refusal
from isola.query import arguments, mapping, messages
from isola.query.arguments import Read
from isola.query.caller import Principal
from isola.query.mapping import Many, One, Part, Value
from isola.subjects.permissions import Permission


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
    """``longest`` is the maximum length of a text in characters, if there is one."""

    value: Value
    type: GraphQLNamedType
    listed: bool
    longest: int | None = None


@dataclass(frozen=True, slots=True)
class Object(Selected):
    """A related row, or, with a Part, another view of the same row."""

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
    """Objects looked up by id: a selection for each type that they can have."""

    site: int
    many: bool
    choices: Mapping[str, "Selection"]
    abstract: bool


@dataclass(frozen=True, slots=True)
class Selection:
    type: str
    fields: tuple["Constant | Leaf | Object | Connection | Found", ...]


@dataclass(frozen=True, slots=True)
class Grouped:
    """The numbers of the rows of a connection by ``value``.

    ``parts`` are the fields selected of each group, of the type ``group``: their keys and names.
    """

    key: str
    value: Leaf
    group: str
    parts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ConnectionPart:
    """A field of a connection, of its edges or of its pageInfo, by its name there."""

    key: str
    name: str
    parts: tuple["ConnectionPart", ...] = ()
    selection: Selection | None = None
    type: str = ""
    """The value of ``__typename``."""
    groups: tuple[Grouped | Constant, ...] = ()


Path: TypeAlias = tuple[str, ...]
"""Response keys from the root, without list indexes: plans are made before rows are read."""


class Place(NamedTuple):
    """The first place where something is selected."""

    path: Path
    node: FieldNode


Required: TypeAlias = Mapping[str, Place]
"""Permissions and features, each with the first place that needs it. Only the names of permissions have a colon."""


class Refused(NamedTuple):
    """Why a root field is refused, and the place in its selection that causes it."""

    refusal: Refusal
    place: Place

    def error(self) -> GraphQLError:
        """The error as it appears in a response."""
        path, node = self.place
        return GraphQLError(self.refusal.message, node, path=list(path), original_error=self.refusal)


@dataclass(eq=False)
class Site:
    """A field with arguments.

    For estimates: ``parent`` is the index of the enclosing connection, ``scan`` the cost of scanning all of its rows,
    in rows, and ``counts`` how often all of them are counted, as a whole or in groups.
    """

    node: FieldNode
    definition: GraphQLField
    reader: arguments.Connection | arguments.Identified
    parent: int | None
    path: Path
    scan: int = 0
    counts: int = 0

    @property
    def root(self) -> str:
        """The response key of its root field."""
        return self.path[0]

    def cost(self, shape: arguments.Shape, tenants: int = 1) -> int:
        """The cost of reading it once, in rows. An empty page costs one row as well.

        ``tenants`` is the number of descendants, if it reads theirs.
        """
        scans, scan = self.counts, self.scan
        if isinstance(self.reader, arguments.Connection) and isinstance(shape, arguments.Page):
            # A filter or another order may require a scan of all rows.
            order = shape.order
            if shape.descendants:
                order, scan = order[:-1], self.reader.limits.descendant_scan * tenants
            scans += shape.condition is not None or order != self.reader.order
            scans += len(shape.types)
        return max(shape.size, 1) + scans * scan

    def read(self, variables: VariableValues, cursor_key: Callable[[object], bytes]) -> Read:
        """Raises BadUserInput, naming the argument."""
        if self._constant is not None:
            return self._constant
        arguments = self._constant_arguments
        if arguments is None:
            arguments = self._by_name(variables)
        if arguments is None:
            arguments = coerced(self.definition, self.node, variables)
        return self.reader.read(arguments, cursor_key)

    def _by_name(self, variables: VariableValues) -> dict[str, Any] | None:
        """The arguments if each is just a variable, which is already coerced; None otherwise."""
        if self._names is None:
            return None
        arguments = {}
        for argument, variable, required in self._names:
            value = variables.coerced.get(variable, Undefined)
            if value is Undefined or value is None:
                if required:
                    return None  # graphql-core makes the error
                if value is Undefined:
                    continue
            arguments[argument] = value
        return arguments

    @cached_property
    def _names(self) -> list[tuple[str, str, bool]] | None:
        """Each argument's name, its variable, and whether null is refused."""
        defined = self.definition.args
        arguments = self.node.arguments or ()
        if any(each.default is not None for each in defined.values()):
            return None
        if any(not isinstance(each.value, VariableNode) for each in arguments):
            return None
        return [
            (defined[name].out_name or name, each.value.name.value, isinstance(defined[name].type, GraphQLNonNull))
            for each in arguments
            for name in [each.name.value]
            if isinstance(each.value, VariableNode)
        ]

    @cached_property
    def _constant_arguments(self) -> dict[str, Any] | None:
        """The arguments if they are constant; None if they contain variables."""
        return None if variables_in(self.node, deep=False) else coerced(self.definition, self.node, None)

    def prepare(self) -> None:
        """Read constant arguments. Raises BadUserInput."""
        self._constant  # noqa: B018  cached

    @cached_property
    def _constant(self) -> Read | None:
        if self._constant_arguments is None or self.reader.depends_on_caller(self._constant_arguments):
            return None
        return self.reader.read(self._constant_arguments, lambda _: b"")


def coerced(definition: GraphQLField, node: FieldNode, variables: VariableValues | None) -> dict[str, Any]:
    """The arguments of a field. Raises BadUserInput if a required variable is null or missing."""
    try:
        return get_argument_values(definition, node, variables)
    except GraphQLError:
        raise messages.argument(definition, node, variables) from None


@dataclass(eq=False)
class ReadPlan:
    """What one statement reads. ``complete``: Python has nothing of the selection left to resolve.

    ``required`` has the permissions and features of each root field, by response key, that depend on no argument.
    ``found`` has the sites whose arguments can lead to several types, by ids or by a filter, with its needs by type.
    ``called`` is the field of a mutation whose payload this plan reads.
    """

    root: Selection
    row: mapping.Parameters
    sites: tuple[Site, ...]
    complete: bool
    required: Mapping[str, Required]
    found: Sequence[tuple[int, Mapping[str, Required]]]
    called: tuple[GraphQLField, Place] | None = None
    serial: int = default(default_factory=count().__next__, init=False)
    """Unique among the plans of this process."""

    @property
    def reads(self) -> bool:
        """Whether it needs the database."""
        return any(not isinstance(field, Constant) for field in self.root.fields)

    @cached_property
    def needed(self) -> frozenset[str]:
        return frozenset().union(*self.required.values())

    def forbidden(self, principal: Principal, shapes: Sequence[arguments.Shape]) -> Iterator[tuple[str, Refused]]:
        """The root fields for which this request lacks a permission, or its tenant a feature."""
        lacking = partial(_lacking, principal, principal.permissions | principal.features)
        if not self.needed <= principal.permissions | principal.features:
            for key, required in self.required.items():
                yield from lacking(key, required)
        for site, shape in zip(self.sites, shapes, strict=True):
            if isinstance(shape, arguments.Page) and shape.descendants:
                yield from lacking(site.root, {Permission.FAMILY_READ: Place(site.path, site.node)})
        for index, choices in self.found:
            for type_ in shapes[index].types:
                yield from lacking(self.sites[index].root, choices[type_])

    def without(self, keys: frozenset[str]) -> "ReadPlan":
        """The same plan without some of its root fields."""
        fields = tuple(each for each in self.root.fields if each.key not in keys)
        return replace(self, root=replace(self.root, fields=fields))


def _lacking(
    principal: Principal, held: AbstractSet[str], key: str, required: Required
) -> Iterator[tuple[str, Refused]]:
    for need, place in required.items():
        if need not in held:
            yield key, Refused(_refusal(need, principal), place)
            return


def _refusal(need: str, principal: Principal) -> Refusal:
    if ":" in need:
        return Forbidden(f"this needs the permission {need}")
    return FeatureRequired(need, principal.tenant.entitlements.offering(need))


ReadPlans: TypeAlias = ReadPlan | Mapping[str, ReadPlan]
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
    """The names of an enum's values, by the value stored in a column."""
    if not isinstance(type_, GraphQLEnumType):
        return {}
    return {value.value: name for name, value in type_.values.items()}
