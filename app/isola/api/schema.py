"""The whole contract: every noun's queries and mutations in one schema, and the model that its types declare."""

import strawberry
from strawberry.schema.config import StrawberryConfig

from isola.api.api_keys import ApiKeyMutations, ApiKeyQueries
from isola.api.audit import AuditQueries
from isola.api.connections import NodeQueries
from isola.api.domains import DomainMutations, DomainQueries
from isola.api.fields import mapped
from isola.api.inputs import guard
from isola.api.model import model_of
from isola.api.organizations import OrganizationMutations, OrganizationQueries
from isola.api.resources import ResourceMutations, ResourceQueries
from isola.api.roles import RoleMutations, RoleQueries
from isola.api.scalars import SCALARS
from isola.api.sessions import OPEN, SessionMutations, SignInMutations
from isola.api.shares import ShareMutations, ShareQueries
from isola.api.spans import SpanMutations, SpanQueries
from isola.api.users import UserMutations, UserQueries
from isola.api.viewer import ViewerQueries
from isola.query import caller
from isola.query.mapping import Parameters


@mapped(Parameters(caller.COLUMNS))
@strawberry.type
class Query(
    # Fields come in the reverse order of the bases.
    AuditQueries,
    ApiKeyQueries,
    DomainQueries,
    SpanQueries,
    ShareQueries,
    OrganizationQueries,
    RoleQueries,
    UserQueries,
    ResourceQueries,
    NodeQueries,
    ViewerQueries,
):
    pass


@strawberry.type
class Mutation(
    SessionMutations,
    SignInMutations,
    ApiKeyMutations,
    DomainMutations,
    RoleMutations,
    UserMutations,
    OrganizationMutations,
    SpanMutations,
    ShareMutations,
    ResourceMutations,
):
    pass


schema = strawberry.Schema(Query, Mutation, config=StrawberryConfig(scalar_map=SCALARS))
model = model_of(schema)
guard(model.schema.mutation_type, unchecked=OPEN)
