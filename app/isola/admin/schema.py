"""The schema of platform administration. All its callers are authenticated staff: see isola.admin.staff."""

import strawberry
from strawberry.schema.config import StrawberryConfig

from isola.admin.access import STAFF, undeclared
from isola.admin.api_keys import ApiKeyMutations, ApiKeyQueries
from isola.admin.grants import GrantMutations, GrantQueries
from isola.admin.orders import OrderMutations, OrderQueries
from isola.admin.plans import PlanMutations, PlanQueries
from isola.admin.platform_log import PlatformLogQueries
from isola.admin.tenants import TenantMutations, TenantQueries
from isola.api.inputs import guard
from isola.api.scalars import SCALARS


@strawberry.type(directives=[STAFF])
class Query(TenantQueries, OrderQueries, PlanQueries, ApiKeyQueries, GrantQueries, PlatformLogQueries):
    pass


@strawberry.type(directives=[STAFF])
class Mutation(TenantMutations, OrderMutations, PlanMutations, ApiKeyMutations, GrantMutations):
    pass


schema = strawberry.Schema(Query, Mutation, config=StrawberryConfig(scalar_map=SCALARS))
guard(schema._schema.query_type)  # noqa: SLF001  as below
guard(schema._schema.mutation_type)  # noqa: SLF001  as below
if missing := sorted(undeclared(schema._schema)):  # noqa: SLF001  Strawberry has no public way to the schema that it makes
    raise TypeError(f"these types declare no access rule: {', '.join(missing)}")
