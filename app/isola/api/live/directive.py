"""The directive that makes a query a live query."""

from typing import Annotated, Any

import strawberry
from strawberry.directive import DirectiveLocation, DirectiveValue

from isola.api.execute import LIVE

_If = Annotated[bool, strawberry.argument(name="if", description="Without it, the query is answered once.")]


@strawberry.directive(
    locations=[DirectiveLocation.QUERY],
    name=LIVE,
    description="The response is sent again whenever it has changed, over a WebSocket or as server-sent events.",
)
def live(value: DirectiveValue[Any], if_: _If = True) -> Any:  # noqa: ARG001, FBT002  Strawberry reads the signature
    """Isola's executor reads the argument; graphql-core does not execute directives of operations."""
    return value
