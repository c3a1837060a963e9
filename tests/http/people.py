"""Sessions of clients: requests without a credential, and their answers."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from isola.database.transactions import Database
from isola.platform import provisioning
from isola.testing.patience import PATIENCE
from isola.testing.served import OPERATIONS, Answer, Api, Client

HEADERS = {"accept": "application/graphql-response+json", "content-type": "application/json"}


@dataclass(frozen=True, slots=True)
class Session:
    """One step of a session."""

    access_token: str
    refresh_token: str


async def ask(api: Api, document: str, variables: dict[str, Any] | None = None, **headers: str) -> Answer:
    """Send a document without a credential."""
    body = {"query": document, "variables": variables}
    return Answer(await api.http.post("/graphql", content=json.dumps(body), headers={**HEADERS, **headers}))


async def run(api: Api, operation: str, **input_: Any) -> Answer:
    """Run one of the documents in graphql/operations without a credential."""
    return await ask(api, OPERATIONS[operation], {"input": input_})


async def sign_in(api: Api, tenant: str, login: str, password: str) -> Session:
    return session((await run(api, "SignIn", tenant=tenant, login=login, password=password)).data)


async def refresh(api: Api, refresh_token: str) -> Session:
    return session((await run(api, "RefreshSession", refreshToken=refresh_token)).data)


def session(data: Any) -> Session:
    [payload] = data.values()
    return Session(payload["session"]["accessToken"], payload["session"]["refreshToken"])


def client(api: Api, tenant: str, session: Session) -> Client:
    return Client(api.http, tenant, {**HEADERS, "authorization": f"Bearer {session.access_token}"})


async def entries(api: Api, tenant: str) -> Sequence[Mapping[str, Any]]:
    """A tenant's log from its first entry on, read without the API."""
    rows = (await api.content(tenant))["audit_entries"]
    return sorted(rows, key=lambda row: str(row["id"]))


async def until(api: Api, tenant: str, holds: Callable[[Sequence[Mapping[str, Any]]], bool]) -> None:
    """Wait until a tenant's log fulfils a condition."""
    async with asyncio.timeout(PATIENCE):
        while not holds(await entries(api, tenant)):  # noqa: ASYNC110  only asking tells
            await asyncio.sleep(0.02)


async def counted(api: Api, tenant: str, expected: Mapping[str, int]) -> None:
    """Wait until the platform has counted these refusals of a tenant, by reason."""
    tenant_id = (await provisioning.named(api.control, tenant)).id
    question = "SELECT reason, sum(count)::text FROM control.refusals WHERE tenant_id = $1 GROUP BY reason"
    found: dict[str, str] = {}
    async with asyncio.timeout(PATIENCE):
        while found != {reason: str(count) for reason, count in expected.items()}:
            await asyncio.sleep(0.02)
            async with api.control.unbound() as work:
                found = await work.pairs(question, tenant_id)


async def after_the_interval(api: Api) -> None:
    """Let the reuse interval of all used refresh tokens pass."""
    async with api.control.unbound() as work:
        seconds = api.settings.session_reuse_interval + 0.1
        await work.value("UPDATE control.refresh_tokens SET used_at = used_at - make_interval(secs => $1)", seconds)


async def after_a_minute(owner: Database) -> None:
    """End the minute in which refusals are counted."""
    async with owner.unbound() as work:
        await work.script("UPDATE control.refusals SET due_at = now()")


def refusals(log: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """The numbers of refusals in a log, by reason."""
    found: Counter[str] = Counter()
    for entry in log:
        if entry["action"] == "refusal:create":
            assert entry["object"] == f"refusal:{entry['new']['reason']}"
            assert entry["new"].keys() == {"reason", "count", "first_at", "last_at", "address", "user_agent"}
            assert (entry["actor"], entry["on_behalf_of"], entry["request"], entry["old"]) == (None, None, None, None)
            found[entry["new"]["reason"]] += entry["new"]["count"]
    return found
