from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Generic, TypeVar

import strawberry
from strawberry.annotation import StrawberryAnnotation
from strawberry.types import get_object_definition
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.field import StrawberryField

from isola.api.access import PUBLIC
from isola.api.enums import MARK
from isola.api.fields import by_id, by_ids
from isola.api.tenants import Tenant

NodeType = TypeVar("NodeType")


@strawberry.interface(description="An object with a global id.")
class Node:
    id: strawberry.ID


@strawberry.type
class NodeQueries:
    node: Node | None = by_id(
        "Null if the id is malformed, no object has it, or the caller may not read the object.", access=PUBLIC
    )
    nodes: list[Node | None] | None = by_ids(
        "In the order of the ids, with null as in node. At most 100 ids.", access=PUBLIC
    )


@strawberry.type(description="Where a page is in its list.", directives=[PUBLIC])
class PageInfo:
    has_next_page: bool = strawberry.field(description="Whether there are items after the page.")
    has_previous_page: bool = strawberry.field(description="Whether there are items before the page.")
    start_cursor: str | None = strawberry.field(description="The cursor of the first item; null if there is none.")
    end_cursor: str | None = strawberry.field(description="The cursor of the last item; null if there is none.")


@strawberry.type(directives=[PUBLIC])
class Edge(Generic[NodeType]):
    cursor: str = strawberry.field(description="Opaque. Valid only for the same field, ordering and filter.")
    node: NodeType


@strawberry.type(directives=[PUBLIC])
class Connection(Generic[NodeType]):
    edges: list[Edge[NodeType]]
    nodes: list[NodeType]
    page_info: PageInfo
    total_count: int = strawberry.field(description="The number of all items on all pages.")


_further: dict[tuple[str, object], list[StrawberryField]] = {}
"""The fields that a generic type has besides its own, by its name, for a type of nodes."""
_made: dict[tuple[str, object], list[StrawberryObjectDefinition]] = {}
"""The types made so far. Fields of applications make some before the further fields are declared."""


class _Extensible(StrawberryObjectDefinition):
    """A generic type that has further fields for some types of nodes."""

    def copy_with(self, type_var_map: Mapping[str, Any]) -> Any:
        made = super().copy_with(type_var_map)
        definition, key = get_object_definition(made, strict=True), (self.name, type_var_map[NodeType.__name__])
        _made.setdefault(key, []).append(definition)
        definition.fields.extend(_further.get(key, ()))
        return made


for _generic in (Edge, Connection):
    _plain = get_object_definition(_generic, strict=True)
    setattr(_generic, MARK, _Extensible(**{each.name: getattr(_plain, each.name) for each in fields(_plain)}))


def _declare(generic: type, node: type, name: str, type_: type, description: str) -> None:
    field = StrawberryField(name, type_annotation=StrawberryAnnotation(type_), description=description)
    key = (get_object_definition(generic, strict=True).name, node)
    _further.setdefault(key, []).append(field)
    for definition in _made.get(key, ()):
        definition.fields.append(field)


def declare_scoped(node: type) -> None:
    """Give the field ``tenant`` to the edges of a type of nodes, whose lists can have the rows of descendants."""
    described = "The tenant of the item: a descendant with the scope DESCENDANTS, else that of the request."
    _declare(Edge, node, "tenant", Tenant, described)


def declare_groups_of(node: type, groups: type) -> None:
    """Give the field ``groups`` to the connections of a type of nodes, whose rows are counted in groups."""
    described = (
        "How many of all items on all pages have the same value: the 100 largest groups, the largest first. If their"
        " sum is less than totalCount, the other items are in smaller groups."
    )
    _declare(Connection, node, "groups", groups, described)
