from typing import Annotated

import strawberry

from isola.api.access import requires
from isola.api.request import Info
from isola.subjects import document, tiers
from isola.subjects.tiers import TierCustomer


async def _entitlement(
    info: Info,
    customer: Annotated[str, strawberry.argument(description="The customer, as in recordUsage.")],
    feature: Annotated[str, strawberry.argument(description="The name of a feature.")],
) -> bool:
    for name, given in (("customer", customer), ("feature", feature)):
        document.check(name, given)
    async with info.context.context.transaction(read_only=True) as work:
        return await tiers.is_entitled(work, customer, feature)


@strawberry.type
class TierQueries:
    customer_entitlement: bool | None = strawberry.field(
        resolver=_entitlement,
        directives=[requires(TierCustomer.declaration.permissions["read"])],
        description="Whether the tier of a customer has a feature. A customer without a tier has none.",
    )
