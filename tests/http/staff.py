"""The platform's staff as clients of the administration endpoint."""

import json
import time
from dataclasses import dataclass
from typing import Any

import httpx
import jwt
from pydantic import SecretStr

from isola.settings import AdminIssuerSettings, Settings
from isola.testing.served import Answer

ISSUER, AUDIENCE, KEY = "https://staff.test", "isola-admin", "the staff's key, which is nobody else's"
ADMIN = "/admin/graphql"
LOOK = "mutation ($t: String!, $r: String!, $m: Int!) { lookInto(tenant: $t, reason: $r, minutes: $m) { id } }"
REASON = "ticket 4711: totals are off"
READ = "{ viewer { tenant { slug } permissions user { name } } resources { totalCount nodes { name } } }"


@dataclass(frozen=True, slots=True)
class StaffClient:
    """A member of the staff."""

    http: httpx.AsyncClient
    token: str

    async def ask(self, document: str, path: str = ADMIN, **variables: Any) -> Answer:
        headers = {"authorization": f"Bearer {self.token}", "content-type": "application/json"}
        headers["accept"] = "application/graphql-response+json"
        content = json.dumps({"query": document, "variables": variables})
        return Answer(await self.http.post(path, content=content, headers=headers))

    async def look(self, tenant: str, document: str = READ) -> Answer:
        return await self.ask(document, f"/admin/t/{tenant}/graphql")

    async def leave(self, tenant: str) -> str:
        return str((await self.ask(LOOK, t=tenant, r=REASON, m=30)).data["lookInto"]["id"])


def token(subject: str = "sam", **claims: Any) -> str:
    now = int(time.time())
    payload = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + 600, **claims}
    return jwt.encode(payload, KEY, "HS256")


def admitting(settings: Settings) -> Settings:
    """Settings with an issuer for staff."""
    issuer = AdminIssuerSettings(token_issuer=ISSUER, token_audience=AUDIENCE, token_key=SecretStr(KEY))
    return settings.model_copy(update={"admin_issuer": issuer})
