"""What times its parts of a request, in place of what does not. A server without traces has none of these."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple

from isola.api.execute import Executor, Response
from isola.api.stages import stage
from isola.database.transactions import Database, Transaction
from isola.identity.authentication import Authenticator, Principal


class TracedAuthenticator(Authenticator):
    async def principal(self, scope: Mapping[str, Any]) -> Principal:
        with stage("authentication"):
            return await super().principal(scope)


class TracedExecutor(Executor):
    async def _document(self, *given: Any) -> Any:
        with stage("document"):
            return await super()._document(*given)

    def _plan(self, *given: Any) -> Any:
        with stage("planning"):
            return super()._plan(*given)

    async def _mutate(self, *given: Any) -> Response:
        with stage("mutation"):
            return await super()._mutate(*given)


class TracedDatabase(Database):
    def transaction(self, *given: Any, **named: Any) -> AbstractAsyncContextManager[Transaction]:
        return _timed("transaction", super().transaction(*given, **named))

    def unbound(self) -> AbstractAsyncContextManager[Transaction]:
        return _timed("control transaction", super().unbound())


@asynccontextmanager
async def _timed(name: str, running: AbstractAsyncContextManager[Transaction]) -> AsyncIterator[Transaction]:
    with stage(name, database=True):
        async with running as transaction:
            yield transaction


class Kinds(NamedTuple):
    """The classes that serve requests."""

    authenticator: type[Authenticator]
    executor: type[Executor]
    database: type[Database]


UNTRACED = Kinds(Authenticator, Executor, Database)
TRACED = Kinds(TracedAuthenticator, TracedExecutor, TracedDatabase)
