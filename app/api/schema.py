"""The whole contract: every noun's queries and mutations in one schema, and the model that its types declare."""

import strawberry
from strawberry.schema.config import StrawberryConfig

from app.api.api_keys import ApiKeyMutations, ApiKeyQueries
from app.api.audit import AuditQueries
from app.api.connections import NodeQueries
from app.api.domains import DomainMutations, DomainQueries
from app.api.fields import mapped
from app.api.inputs import guard
from app.api.model import model_of
from app.api.organizations import OrganizationMutations, OrganizationQueries
from app.api.resources import ResourceMutations, ResourceQueries
from app.api.roles import RoleMutations, RoleQueries
from app.api.scalars import SCALARS
from app.api.sessions import OPEN, SessionMutations, SignInMutations
from app.api.shares import ShareMutations, ShareQueries
from app.api.spans import SpanMutations, SpanQueries
from app.api.users import UserMutations, UserQueries
from app.api.viewer import ViewerQueries
from app.query import caller
from app.query.mapping import Parameters


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
