"""A server as its clients see it: real HTTP on a port of its own, real tokens, a real database."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import uvicorn

from isola.api.observation import Observer
from isola.database.transactions import Database
from isola.identity.tokens import mint
from isola.platform import provisioning
from isola.server.application import application
from isola.server.installation import Installation
from isola.server.listener import configured
from isola.settings import Settings
from isola.shipped import shipped
from isola.subjects.audit import audit_entries
from isola.subjects.permissions import Role
from isola.telemetry.exposition import Metrics
from isola.testing import modes
from isola.testing.fixtures import Copy
from isola.testing.oracles import canary
from isola.testing.patience import PATIENCE

# No request uses TLS. Without an explicit context, a client first loads all CA certificates.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
GRAPHQL_JSON = "application/graphql-response+json"
OPERATIONS = {
    file.stem: file.read_text(encoding="utf-8") for file in (shipped("graphql") / "operations").glob("*.graphql")
}


@dataclass(frozen=True, slots=True)
class Answer:
    response: httpx.Response

    @property
    def status(self) -> int:
        return self.response.status_code

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = self.response.json()
        return body

    @property
    def data(self) -> Any:
        assert self.status == 200, self.response.text
        assert "errors" not in self.body, self.response.text
        return self.body["data"]

    @property
    def error(self) -> Mapping[str, Any]:
        """The only error. Checks the structure that all clients may rely on."""
        [error] = self.body["errors"]
        assert error.keys() <= {"message", "locations", "path", "extensions"}
        assert isinstance(error["message"], str)
        known = {"code", "correlationId", "feature", "field", "plans", "rate", "reason", "retryAfter"}
        assert error["extensions"].keys() <= known
        return dict(error)

    @property
    def code(self) -> str:
        return str(self.error["extensions"]["code"])

    @property
    def reason(self) -> str | None:
        reason: str | None = self.error["extensions"].get("reason")
        return reason


@dataclass(frozen=True, slots=True)
class Client:
    """A user of one tenant."""

    http: httpx.AsyncClient
    tenant: str
    headers: Mapping[str, str] = field(repr=False)

    async def ask(self, document: str, variables: Mapping[str, Any] | None = None, **more: Any) -> Answer:
        return await self.send(json.dumps({"query": document, "variables": variables, **more}))

    async def run(self, operation: str, **variables: Any) -> Answer:
        """Run one of the documents in graphql/operations."""
        return await self.ask(OPERATIONS[operation], variables)

    async def send(self, content: str | bytes, **headers: str) -> Answer:
        return await self.request("POST", content=content, headers=headers)

    async def request(self, method: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> Answer:
        named = {name.replace("_", "-"): value for name, value in (headers or {}).items()}
        return Answer(await self.http.request(method, "/graphql", headers={**self.headers, **named}, **more))

    def saying(self, authorization: str) -> "Client":
        """The same client with another credential."""
        return replace(self, headers={**self.headers, "authorization": authorization})

    async def create(self, name: str, **values: Any) -> str:
        """Make a resource and return its id."""
        made = await self.run("CreateResource", input={"name": name, **values})
        return str(made.data["createResource"]["resource"]["id"])


@dataclass(frozen=True, slots=True)
class Api:
    """A running server, and the test's own connections to its database."""

    http: httpx.AsyncClient
    settings: Settings
    control: Database
    tenants: Database

    def client(
        self, tenant: str, user: str = "ada", role: Role = Role.ADMIN, *, ttl: float = 3600, email: str | None = None
    ) -> Client:
        token = mint(self.settings, tenant, user, role, ttl, email=email)
        headers = {
            "authorization": f"Bearer {token}",
            "accept": GRAPHQL_JSON,
            "content-type": "application/json",
        }
        return Client(self.http, tenant, headers)

    async def content(self, slug: str) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """All rows of a tenant, read directly from the database."""
        tenant = await provisioning.named(self.control, slug)
        rows = await canary.content(self.tenants, tenant)
        return {**rows, audit_entries.name: await canary.log(self.tenants, tenant)}


class _Server(uvicorn.Server):
    """uvicorn's server, but it stops as soon as all requests are answered, instead of polling ten times a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ended = asyncio.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.ended.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110  uvicorn has no event for it
            await asyncio.sleep(0.002)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals are for the process that runs the tests.
        yield


@asynccontextmanager
async def serving(
    copy: Copy, settings: Settings, metrics: Metrics | None = None, traces: Observer | None = None
) -> AsyncIterator[Api]:
    """Serve a database with these settings. ``metrics`` and ``traces`` are those of the application."""
    with modes.between(copy.where.tenant) as address:
        cached = settings.statement_cache and modes.STATEMENT_CACHE
        installed = Installation(
            settings.model_copy(update={"statement_cache": cached}),
            replace(copy.where, tenant=address),
            copy.strategies,
        )
        async with _served(installed, metrics, traces) as api:
            yield api


@asynccontextmanager
async def _served(installed: Installation, metrics: Metrics | None, traces: Observer | None) -> AsyncIterator[Api]:
    async with application(installed, metrics=metrics, traces=traces) as served:
        # asyncio sets TCP_NODELAY only if the socket's protocol is given.
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
            listener.bind(("127.0.0.1", 0))
            # On a busy machine, a client's next request may arrive at the moment when the server closes its idle
            # connection.
            settings = installed.settings.model_copy(update={"keep_alive": 600})
            server = _Server(configured(served, settings))
            task = asyncio.create_task(server.serve([listener]))
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
            async with (
                await installed.control() as control,
                await installed.tenants() as tenants,
                httpx.AsyncClient(
                    base_url=url, timeout=PATIENCE, limits=limits, trust_env=False, verify=NO_TLS
                ) as http,
            ):
                yield Api(http, installed.settings, control, tenants)
            server.ended.set()
            await task


async def make_tenant(copy: Copy, slug: str, strategy: str) -> None:
    assert copy.where.owner
    async with await Database.open(copy.where.owner, statement_timeout=60) as owner:
        await provisioning.create(owner, copy.strategies, slug=slug, name=slug.title(), strategy=strategy)
