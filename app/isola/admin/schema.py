"""The schema of platform administration. All its callers are authenticated staff: see isola.admin.staff."""

import strawberry
from strawberry.schema.config import StrawberryConfig

from isola.admin.access import STAFF, undeclared
from isola.admin.api_keys import ApiKeyMutations, ApiKeyQueries
from isola.admin.grants import GrantMutations, GrantQueries
from isola.admin.incidents import IncidentMutations, IncidentQueries
from isola.admin.orders import OrderMutations, OrderQueries
from isola.admin.overrides import OverrideMutations, OverrideQueries
from isola.admin.plans import PlanMutations, PlanQueries
from isola.admin.platform_log import PlatformLogQueries
from isola.admin.tenants import TenantMutations, TenantQueries
from isola.api.descriptions import complete
from isola.api.inputs import guard
from isola.api.scalars import SCALARS

_ARGUMENTS = {
    "action": "Only entries with this action.",
    "actor": "Only entries of this actor.",
    "after": "Only items after the one with this id.",
    "days": "The days after which it is deleted; null for never.",
    "feature": "The name of a feature.",
    "features": "The names of all features that it has; null for all there are.",
    "first": "How many items, at most 100.",
    "given": "Whether the tenant has it.",
    "grant": "The id of the access.",
    "incident": "The id of the incident.",
    "limit": "The limit; null for none.",
    "limits": "The limits of meters.",
    "listed": "Whether tenants that lack a feature are told that this plan has it.",
    "meter": "The name of a meter.",
    "minutes": "How long the access lasts.",
    "name": "The name.",
    "object": "Only entries about this object.",
    "parent": "The slug of the parent; null for none.",
    "period": "The period of the limit.",
    "plan": "The name of a plan.",
    "price": "What it costs; null for no price.",
    "prefix": "The prefix of the key.",
    "quota": "The name of a quota.",
    "quotas": "The quotas.",
    "rate": "What is counted; with `user.` before it, of each user and each key.",
    "rates": "The rates.",
    "reason": "The reason, for the tenant's log.",
    "retention": "For how long something is kept.",
    "severity": "How severe it is.",
    "since": "Only entries from then on.",
    "slug": "The slug of the tenant.",
    "state": "Only orders in this state.",
    "status": "Only tenants with this status.",
    "strategy": "The name of a strategy.",
    "subject": "What is kept: `log`, or a subject in the plural, such as `spans`.",
    "tenant": "The slug of the tenant.",
    "title": "The name to show.",
    "until": "Only entries before then.",
}


@strawberry.type(directives=[STAFF])
class Query(
    TenantQueries,
    OrderQueries,
    PlanQueries,
    OverrideQueries,
    ApiKeyQueries,
    GrantQueries,
    IncidentQueries,
    PlatformLogQueries,
):
    pass


@strawberry.type(directives=[STAFF])
class Mutation(
    TenantMutations,
    OrderMutations,
    PlanMutations,
    OverrideMutations,
    ApiKeyMutations,
    GrantMutations,
    IncidentMutations,
):
    pass


schema = strawberry.Schema(Query, Mutation, config=StrawberryConfig(scalar_map=SCALARS))
guard(schema._schema.query_type)  # noqa: SLF001  as below
guard(schema._schema.mutation_type)  # noqa: SLF001  as below
if missing := sorted(undeclared(schema._schema)):  # noqa: SLF001  Strawberry has no public way to the schema that it makes
    raise TypeError(f"these types declare no access rule: {', '.join(missing)}")
complete(schema._schema, {}, arguments=_ARGUMENTS)  # noqa: SLF001  as above
