"""Sessions as clients have them: what is sent without a credential, and what comes back."""

import json
from dataclasses import dataclass
from typing import Any

from tests.http.served import OPERATIONS, Answer, Api, Client

HEADERS = {"accept": "application/graphql-response+json", "content-type": "application/json"}


@dataclass(frozen=True, slots=True)
class Session:
    """One step of a session."""

    access_token: str
    refresh_token: str


async def ask(api: Api, document: str, variables: dict[str, Any] | None = None, **headers: str) -> Answer:
    """Ask without a credential."""
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
