"""The whole contract: every noun's queries and mutations in one schema, and the model that its types declare."""

import secrets
from pathlib import Path

import strawberry
from strawberry.schema.config import StrawberryConfig

from app.api.connections import NodeQueries
from app.api.execute import Executor
from app.api.fields import mapped
from app.api.model import model_of
from app.api.organizations import OrganizationMutations, OrganizationQueries
from app.api.resources import ResourceMutations, ResourceQueries
from app.api.scalars import SCALARS
from app.api.shares import ShareMutations, ShareQueries
from app.api.spans import SpanMutations, SpanQueries
from app.api.users import UserQueries
from app.api.viewer import ViewerQueries
from app.query import caller
from app.query.mapping import Parameters
from app.settings import Settings

OPERATIONS = Path(__file__).parents[2] / "graphql" / "operations"


@mapped(Parameters(caller.COLUMNS))
@strawberry.type
class Query(
    # Fields come in the reverse order of the bases.
    SpanQueries,
    ShareQueries,
    OrganizationQueries,
    UserQueries,
    ResourceQueries,
    NodeQueries,
    ViewerQueries,
):
    pass


@strawberry.type
class Mutation(OrganizationMutations, SpanMutations, ShareMutations, ResourceMutations):
    pass


schema = strawberry.Schema(Query, Mutation, config=StrawberryConfig(scalar_map=SCALARS))
model = model_of(schema)


def executor(settings: Settings, cursor_key: bytes | None = None) -> Executor:
    """The executor of a server with these settings.

    Cursors are good wherever ``cursor_key`` is the same; without one, for this process only.
    """
    return Executor(
        model,
        secret=cursor_key or secrets.token_bytes(32),
        production=settings.production,
        trusted=[path.read_text() for path in sorted(OPERATIONS.glob("*.graphql"))],
    )
