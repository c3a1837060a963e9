from typing import Generic, TypeVar

import strawberry

from isola.api.access import PUBLIC
from isola.api.fields import by_id, by_ids

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
