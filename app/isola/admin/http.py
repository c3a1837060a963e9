"""The endpoints of platform administration: ``/admin/graphql``, and read access at ``/admin/t/<tenant>/graphql``."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope

from isola.admin.administration import Administration
from isola.admin.execute import Execution
from isola.admin.looking import Looking
from isola.admin.staff import StaffVerifier
from isola.api.execute import Executor, Response
from isola.api.http import Endpoint, GraphQL
from isola.api.observation import observation_of
from isola.database.transactions import Database
from isola.settings import Settings


@dataclass(frozen=True, slots=True)
class AdminGraphQL(Endpoint):
    kind = "admin"
    verifier: StaffVerifier
    execution: Execution
    control: Database
    tenants: Database
    strategies: Collection[str]
    max_body_bytes: int
    compress_from: int | None
    by_get: bool

    async def answer(self, scope: Scope, headers: Headers, receive: Receive, request_id: str) -> Response:
        # Authenticate before reading the body.
        staff = await self.verifier.staff(scope)
        request = await self.read_request(scope, headers, receive, self.max_body_bytes)
        context = Administration(staff, self.control, self.tenants, self.strategies, request_id)
        mutations = scope["method"] == "POST"
        return await self.execution.execute(
            request.query,
            request.operation_name,
            request.variables,
            context,
            mutations=mutations,
            observation=observation_of(scope),
        )


def routes(
    settings: Settings,
    verifier: StaffVerifier,
    looking: Looking,
    executor: Executor,
    tenants: Database,
    control: Database,
    strategies: Collection[str],
) -> Sequence[BaseRoute]:
    """The routes to serve if there is an issuer of staff. ``executor`` is that of the tenants' own endpoint."""
    execution = Execution.made(production=settings.production)
    most, compress_from, by_get = settings.max_body_bytes, settings.compress_from, not settings.production
    administration = AdminGraphQL(verifier, execution, control, tenants, strategies, most, compress_from, by_get)
    return [
        Route("/admin/graphql", administration),
        Route("/admin/t/{tenant}/graphql", GraphQL(looking, executor, tenants, most, compress_from, by_get)),
    ]
