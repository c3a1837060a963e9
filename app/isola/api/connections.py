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


_scoped: set[object] = set()
"""The types of nodes whose lists can have those of descendants: their edges tell the tenant of each."""
_edges: dict[object, list[StrawberryObjectDefinition]] = {}
"""The edges so far, by their type of nodes."""


class _Edges(StrawberryObjectDefinition):
    """Adds the field ``tenant`` to the edges of these types."""

    def copy_with(self, type_var_map: Mapping[str, Any]) -> Any:
        made, node = super().copy_with(type_var_map), type_var_map[NodeType.__name__]
        definition = get_object_definition(made, strict=True)
        _edges.setdefault(node, []).append(definition)
        if node in _scoped:
            _add_tenant(definition)
        return made


def declare_scoped(node: type) -> None:
    """Give the field ``tenant`` to the edges of a type of nodes, also to those that are made already."""
    _scoped.add(node)
    for definition in _edges.get(node, ()):
        _add_tenant(definition)


def _add_tenant(definition: StrawberryObjectDefinition) -> None:
    described = "The tenant of the item: a descendant with the scope DESCENDANTS, else that of the request."
    annotation = StrawberryAnnotation(Tenant)
    definition.fields.append(StrawberryField("tenant", type_annotation=annotation, description=described))


_groups: dict[object, type] = {}
"""The type of the field ``groups`` of the connections of a type of nodes, if rows of it are counted in groups."""
_made: dict[object, list[StrawberryObjectDefinition]] = {}
"""The connections so far, by their type of nodes. Fields of applications make some before subjects have groups."""

_DESCRIBED = (
    "How many of all items on all pages have the same value: the 100 largest groups, the largest first. If their sum "
    "is less than totalCount, the other items are in smaller groups."
)


class _Connections(StrawberryObjectDefinition):
    """Adds the field ``groups`` to the connections whose nodes have some."""

    def copy_with(self, type_var_map: Mapping[str, Any]) -> Any:
        made, node = super().copy_with(type_var_map), type_var_map[NodeType.__name__]
        definition = get_object_definition(made, strict=True)
        _made.setdefault(node, []).append(definition)
        if node in _groups:
            _add_groups(definition, _groups[node])
        return made


def declare_groups_of(node: type, groups: type) -> None:
    """Give the field ``groups`` to the connections of a type of nodes, also to those that are made already."""
    _groups[node] = groups
    for definition in _made.get(node, ()):
        _add_groups(definition, groups)


def _add_groups(definition: StrawberryObjectDefinition, groups: type) -> None:
    annotation = StrawberryAnnotation(groups)
    definition.fields.append(StrawberryField("groups", type_annotation=annotation, description=_DESCRIBED))


for _generic, _adding in ((Connection, _Connections), (Edge, _Edges)):
    _plain = get_object_definition(_generic, strict=True)
    setattr(_generic, MARK, _adding(**{each.name: getattr(_plain, each.name) for each in fields(_plain)}))
