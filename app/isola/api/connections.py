from typing import Generic, TypeVar

import strawberry

from isola.api.access import PUBLIC
from isola.api.fields import by_id, by_ids

NodeType = TypeVar("NodeType")


@strawberry.interface(description="Whatever has an id of its own.")
class Node:
    id: strawberry.ID


@strawberry.type
class NodeQueries:
    node: Node | None = by_id(
        "Null when there is none with this id, it is malformed, or it cannot be seen.", access=PUBLIC
    )
    nodes: list[Node | None] | None = by_ids(
        "In the order of the ids, with null for each that finds none. At most 100.", access=PUBLIC
    )


@strawberry.type(directives=[PUBLIC])
class PageInfo:
    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None


@strawberry.type(directives=[PUBLIC])
class Edge(Generic[NodeType]):
    cursor: str = strawberry.field(description="Opaque. Good for the same field, ordering and filter only.")
    node: NodeType


@strawberry.type(directives=[PUBLIC])
class Connection(Generic[NodeType]):
    edges: list[Edge[NodeType]]
    nodes: list[NodeType]
    page_info: PageInfo
    total_count: int = strawberry.field(description="How many there are on all pages.")
