from enum import Enum

import strawberry

from isola.admin.access import STAFF, answered
from isola.admin.administration import Info, moment, paged, written
from isola.api.enums import described_enum
from isola.api.scalars import DateTime
from isola.errors import NotFound
from isola.identity.resolution import identifier_of
from isola.platform import orders


@described_enum
class OrderKind(Enum):
    """What an order is for.

    CREATE: The creation of a tenant and its home.
    MOVE: The move of a tenant to another strategy.
    """

    CREATE = "create"
    MOVE = "move"


@described_enum
class OrderState(Enum):
    """How far an order is.

    WAITING: It waits for an operator's process.
    RUNNING: An operator's process executes it.
    DONE: It was executed.
    FAILED: It could not be executed: see its message.
    CANCELLED: It was cancelled while it waited.
    """

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@strawberry.type(description="An order for an operator's process: see `isola operate`.", directives=[STAFF])
class Order:
    id: strawberry.ID
    kind: OrderKind = strawberry.field(description="What was ordered.")
    state: OrderState = strawberry.field(description="How far it is.")
    tenant_id: strawberry.ID = strawberry.field(description="For a creation, the id of the new tenant.")
    slug: str = strawberry.field(description="The slug of the tenant.")
    strategy: str = strawberry.field(description="The strategy that the tenant gets.")
    name: str | None = strawberry.field(description="For a creation, the name of the tenant.")
    parent: str | None = strawberry.field(description="For a creation, the slug of the parent.")
    plan: str | None = strawberry.field(description="For a creation, the plan of the tenant.")
    ordered_by: str = strawberry.field(description="The staff member who placed it: the subject of their tokens.")
    ordered_at: DateTime
    request: str | None = strawberry.field(description="The X-Request-ID of the request that placed the order.")
    message: str | None = strawberry.field(description="The error of a failed order.")
    finished_at: DateTime | None


@strawberry.type
class OrderQueries:
    @answered("The order with this id; null if there is none.")
    async def order(self, info: Info, id: strawberry.ID) -> Order | None:  # noqa: A002  as the contract calls it
        key = identifier_of(id)
        order = None if key is None else await orders.find(info.context.control, key)
        return None if order is None else _order(order)

    @answered("Newest first, at most 100.")
    async def orders(
        self, info: Info, state: OrderState | None = None, after: strawberry.ID | None = None, first: int = 20
    ) -> list[Order]:
        key = paged(first, after)
        only = None if state is None else orders.State(state.value)
        return [_order(each) for each in await orders.page(info.context.control, state=only, after=key, first=first)]


@strawberry.type
class OrderMutations:
    @answered("Order the creation of a tenant and its home. An invalid order is refused at once.")
    async def create_tenant(
        self, info: Info, slug: str, name: str, strategy: str, parent: str | None = None, plan: str | None = None
    ) -> Order:
        context = info.context
        order = await orders.create(
            context.control,
            context.strategies,
            context.author,
            slug=slug,
            name=name,
            strategy=strategy,
            parent=parent,
            plan=plan,
        )
        return _order(order)

    @answered("Order the move of a tenant to another strategy. The tenant is unavailable during the move.")
    async def move_tenant(self, info: Info, slug: str, strategy: str) -> Order:
        context = info.context
        return _order(
            await orders.move(context.control, context.strategies, context.author, slug=slug, strategy=strategy)
        )

    @answered("Cancel a waiting order.")
    async def cancel_order(self, info: Info, id: strawberry.ID) -> Order:  # noqa: A002  as above
        key = identifier_of(id)
        if key is None:
            raise NotFound("there is no such order")
        return _order(await orders.cancel(info.context.control, key))


def _order(order: orders.Order) -> Order:
    return Order(
        id=written(order.id),
        kind=OrderKind(order.kind.value),
        state=OrderState(order.state.value),
        tenant_id=written(order.tenant_id),
        slug=order.slug,
        strategy=order.strategy,
        name=order.name,
        parent=order.parent,
        plan=order.plan,
        ordered_by=order.ordered_by,
        ordered_at=DateTime(order.ordered_at),
        request=order.request,
        message=order.message,
        finished_at=moment(order.finished_at),
    )
