"""Runs one sequence of operations on every mix of placements: the responses must be the same.

A *mix* is three tenants, A, B and C, with their placements: all under one strategy, or under different ones. All mixes
are in one database and served by one server, so each is also among the other tenants of the rest. Values that must
differ between mixes (ids, slugs, moments, cursors) are replaced by names that are the same in all of them.
"""

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from isola.database.transactions import Database
from isola.errors import Unavailable
from isola.identity.tokens import mint
from isola.installed import metadata
from isola.platform import provisioning
from isola.server.application import application
from isola.server.installation import Installation
from isola.settings import Settings
from isola.subjects.permissions import Role
from isola.testing.fixtures import STRATEGIES, Cluster, connected, copied
from isola.testing.oracles.canary import BETWEEN_TENANTS

LETTERS = "abc"
_ATTEMPTS = 10
_ID = re.compile(r"\b[a-z]{2,8}_[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00")
_SLUG = re.compile(r"\bm\d+-([abc])\b")
_CURSOR = re.compile(r'(?<=ursor":")[\w-]{20,}(?=")')


def mixes() -> list[tuple[str, ...]]:
    """Each strategy for all three tenants, and all strategies in turn, starting with each of them."""
    alike = [(name,) * len(LETTERS) for name in STRATEGIES]
    turns = [
        tuple(STRATEGIES[(first + place) % len(STRATEGIES)] for place in range(len(LETTERS)))
        for first in range(len(STRATEGIES))
    ]
    return [*alike, *turns]


@dataclass(frozen=True, slots=True)
class User:
    """``tenant`` is a letter: the user exists in every mix."""

    tenant: str
    role: Role


@dataclass(frozen=True, slots=True)
class Named:
    """An object made in every mix, by the name that replaces its ids."""

    name: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The response of all mixes, with names instead of ids."""

    status: int
    body: Mapping[str, Any]

    @property
    def code(self) -> str | None:
        errors = self.body.get("errors")
        return str(errors[0]["extensions"]["code"]) if errors else None


@dataclass
class Laboratory:
    """All mixes and their server. ``names`` maps each mix's ids to the names common to all mixes."""

    http: httpx.AsyncClient
    settings: Settings
    owner: Database
    emptied: Sequence[str]
    mixes: Sequence[tuple[str, ...]]
    names: list[dict[str, str]] = field(default_factory=list)
    ids: list[dict[str, str]] = field(default_factory=list)
    tokens: dict[tuple[int, User], str] = field(default_factory=dict)
    run: int = 0
    asked: int = 0

    async def restart(self) -> None:
        """Empty all tenants. Users get new subjects, so that no cached user of the server matches."""
        self.run += 1
        self.names = [{} for _ in self.mixes]
        self.ids = [{} for _ in self.mixes]
        self.tokens = {}
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with self.owner.unbound() as work:
                    await work.script(f"TRUNCATE {', '.join(self.emptied)} CASCADE")
            except Unavailable:
                # The tasks of the server write to several of these tables in their own order: PostgreSQL may cancel
                # either side of a deadlock.
                if attempt == _ATTEMPTS:
                    raise
            else:
                return

    def token(self, mix: int, user: User) -> str:
        key = mix, user
        if key not in self.tokens:
            subject = f"{user.role}{self.run}"
            self.tokens[key] = mint(self.settings, f"m{mix}-{user.tenant}", subject, user.role, 3600, name=user.role)
        return self.tokens[key]

    async def ask(self, user: User, document: str, variables: Mapping[str, Any], *made: tuple[str, str]) -> Answer:
        """Send a request in every mix. Raises AssertionError if the responses differ.

        ``made`` are pairs of a new name and a response key: the name replaces the first ``id`` under that key.
        """
        responses = [await self._response(mix, user, document, variables, made) for mix in range(len(self.mixes))]
        self.asked += len(responses)
        for mix, each in zip(self.mixes, responses, strict=True):
            assert each == responses[0], f"{document}\n{variables}\n{self.mixes[0]}: {responses[0]}\n{mix}: {each}"
        return responses[0]

    async def _response(
        self, mix: int, user: User, document: str, variables: Mapping[str, Any], made: Sequence[tuple[str, str]]
    ) -> Answer:
        response = await self.http.post(
            "/graphql",
            json={"query": document, "variables": self._in_mix(mix, variables)},
            headers={
                "authorization": f"Bearer {self.token(mix, user)}",
                "accept": "application/graphql-response+json",
            },
        )
        text = response.text
        for name, key in made:
            found = re.search(rf'"{key}":{{"id":"([^"]+)"', text)
            if found and found[1] not in self.names[mix]:
                self.names[mix][found[1]] = name
                self.ids[mix][name] = found[1]
        text = _ID.sub(lambda found: self.names[mix].get(found[0], "an id that was never returned"), text)
        for pattern, name in ((_MOMENT, "<moment>"), (_CURSOR, "<cursor>")):
            text = pattern.sub(name, text)
        return Answer(response.status_code, json.loads(_SLUG.sub(r"\1", _titles(text))))

    def _in_mix(self, mix: int, value: Any) -> Any:
        match value:
            case Named():
                return self.ids[mix].get(value.name, "res_00000000-0000-7000-8000-000000000000")
            case dict():
                return {key: self._in_mix(mix, each) for key, each in value.items()}
            case list():
                return [self._in_mix(mix, each) for each in value]
            case str() if value in LETTERS and len(value) == 1:
                return f"m{mix}-{value}"
        return value


def _titles(text: str) -> str:
    """The names of the tenants, derived from their slugs."""
    return re.sub(r"\bM\d+-([ABC])\b", r"\1", text)


@asynccontextmanager
async def laboratory(cluster: Cluster, settings: Settings) -> AsyncIterator[Laboratory]:
    placed = mixes()
    async with connected(cluster) as server, copied(cluster, server) as copy:
        assert copy.where.owner
        async with await Database.open(copy.where.owner, statement_timeout=60) as owner:
            for number, mix in enumerate(placed):
                for letter, strategy in zip(LETTERS, mix, strict=True):
                    slug = f"m{number}-{letter}"
                    await provisioning.create(owner, copy.strategies, slug=slug, name=slug.title(), strategy=strategy)
            async with (
                application(Installation(settings, copy.where, copy.strategies)) as served,
                httpx.AsyncClient(transport=httpx.ASGITransport(served), base_url="http://127.0.0.1") as http,
            ):
                yield Laboratory(http, settings, owner, await _empty(owner), placed)


async def _empty(owner: Database) -> list[str]:
    """The tables to truncate: those in all homes that are empty at the start, and those about two tenants."""
    async with owner.unbound() as work:
        homes = await work.texts("SELECT DISTINCT home FROM control.tenants WHERE home IS NOT NULL")
        tables = [f"{home}.{table.name}" for home in homes for table in metadata.sorted_tables]
        held = [table for table in tables if await work.value(f"SELECT EXISTS (SELECT FROM {table})")]
    between = sorted(BETWEEN_TENANTS - {"tenants"})
    return [*(table for table in tables if table not in held), *(f"control.{table}" for table in between)]
