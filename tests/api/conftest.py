"""Test data: the same rows in a tenant of each strategy, a second tenant with other rows, and shares.

It is created once; tests that write use callers in separate tenants: see ``writer``.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import func, insert, select

from isola.api.execute import Executor
from isola.api.schema import model
from isola.database.claims import Claim
from isola.database.transactions import Database, Transaction
from isola.installed import SUBJECTS
from isola.platform.tenants import Tenant
from isola.query.effort import Effort
from isola.subjects import features, names
from isola.subjects.actor import Actor
from isola.subjects.applications import BUILT_IN
from isola.subjects.organizations import memberships, organizations
from isola.subjects.permissions import all_permissions
from isola.subjects.resources import resources
from isola.subjects.roles import Standing, roles, user_roles
from isola.subjects.rows import generate
from isola.subjects.spans import SpanType, spans
from isola.subjects.table import pair_columns, pairs_table
from isola.subjects.users import users
from isola.testing.fixtures import TRIED, Cluster, copied

OPERATIONS = Path(__file__).parents[2] / "graphql" / "operations"
# Operations without a credential run no read statement, and the others need a server: see
# isola.subjects.sessions.fields.
OPEN = {"SignInChoices", "SignIn", "SignInWithCode", "RefreshSession", "SignOut", "EndSession", "EndOtherSessions"}
OPEN |= {"AddPartnerDomain", "RemovePartnerDomain"}
OPEN |= {"InviteUser", "AcceptInvitation", "RevokeInvitation", "Invitations"}
READ = sorted(path.stem for path in OPERATIONS.glob("*.graphql") if path.stem not in OPEN)
SECRET = b"32 bytes that only these tests know"
NAMES = ["Ada", "Brün", 'c "quoted"', "d\\el", "Ève", "f_%o", "漢字", "line\nfeed", "O'Neil", "z\u2028", "Ada", "ada"]
KINDS = ["image", "Video", None, "text", None]
START = datetime(2026, 1, 1, tzinfo=UTC)
READING = frozenset(permission for permission in all_permissions() if permission.endswith(":read"))
EVERYTHING = READING | {"resource:write", "share:write", "span:write", "organization:manage"}


def uuid(kind: int, index: int) -> UUID:
    """The key of a row of the test data: the same under every strategy."""
    return UUID(int=0x01980000_0000_7000_8000_000000000000 + (kind << 32) + index)


# The rows of these are written below, those of the others are generated.
WRITTEN = ["usr", "org", "res", "spn", "rol"]
FURTHER = [each for each in SUBJECTS if each.application != BUILT_IN]
FURTHER += [each for each in SUBJECTS if each.declaration.prefix not in WRITTEN and each not in FURTHER]
PREFIXES = [*WRITTEN, *(each.declaration.prefix for each in FURTHER)]
ROWS = 12
"""How many rows there are of each of these."""


def ids(prefix: str, index: int) -> str:
    return f"{prefix}_{uuid(PREFIXES.index(prefix), index)}"


@dataclass(frozen=True)
class Principal:
    tenant: Tenant
    user_id: UUID
    roles: tuple[str, ...] = ("editor",)
    permissions: frozenset[str] = EVERYTHING
    features: frozenset[str] = frozenset(features.known())


@dataclass(frozen=True)
class Answer:
    status: int
    body: dict[str, Any]
    text: str
    transactions: int

    @property
    def data(self) -> Any:
        assert "errors" not in self.body, self.body
        return self.body["data"]

    @property
    def error(self) -> dict[str, Any]:
        first: dict[str, Any] = self.body["errors"][0]
        return first

    @property
    def code(self) -> str:
        return str(self.error["extensions"]["code"])


@dataclass
class Caller:
    """One caller: the context of its requests, and how many transactions they used."""

    database: Database
    principal: Principal
    executor: Executor
    transactions: int = 0

    def transaction(
        self, *, read_only: bool = False, claim: Claim | None = None
    ) -> AbstractAsyncContextManager[Transaction]:
        self.transactions += 1
        about = Actor(self.principal.user_id, self.principal.permissions).reader
        return self.database.transaction(self.principal.tenant, read_only=read_only, claim=claim, about=about)

    async def memberships(self) -> Sequence[tuple[Tenant, Standing]]:
        standing = Standing(self.principal.user_id, "s", self.principal.roles, frozenset(), disabled=False)
        return [(self.principal.tenant, standing)]

    def being(self, user: int, *more: str) -> "Caller":
        """Another user of the same tenant, with further permissions."""
        principal = replace(self.principal, user_id=uuid(0, user), permissions=EVERYTHING | set(more))
        return replace(self, principal=principal)

    def using(self, executor: Executor) -> "Caller":
        return replace(self, executor=executor)

    async def ask(
        self,
        document: str | None,
        variables: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        extensions: Mapping[str, Any] | None = None,
    ) -> Answer:
        before = self.transactions
        response = await self.executor.execute(document, name, variables, extensions, self)
        text = response.body.decode()
        return Answer(response.status, json.loads(text), text, self.transactions - before)


@dataclass(frozen=True)
class World:
    database: Database
    owner: Database
    tenants: Mapping[str, Tenant]


@pytest.fixture(scope="session")
async def world(cluster: Cluster, server: asyncpg.Connection) -> AsyncIterator[World]:
    async with (
        copied(cluster, server) as copy,
        await Database.open(copy.where.tenant, copy.strategies, copy.binding_key, size=2) as database,
        await Database.open(str(copy.where.owner), copy.strategies, copy.binding_key) as owner,
    ):
        tenants = cluster.tenants
        for slug, tenant in tenants.items():
            await settle(database, tenant, 40 if slug.endswith("a") else 3)
        await share(database, tenants)
        yield World(database, owner, tenants)


async def settle(database: Database, tenant: Tenant, size: int) -> None:
    random, further = Random(7), Random(8)  # noqa: S311  the same world each time
    async with database.transaction(tenant) as work:
        await work.execute(
            insert(users).values(
                [
                    {
                        "id": uuid(0, i),
                        "subject": f"s{i}",
                        "name": NAMES[i],
                        "email": f"u{i}@{tenant.slug}" if i % 3 else None,
                        "created_at": START + timedelta(hours=i),
                    }
                    for i in range(8)
                ]
            )
        )
        await work.execute(
            insert(organizations).values(
                [{"id": uuid(1, i), "name": f"org {i}", "name_key": f"org {i}", "created_at": START} for i in range(3)]
            )
        )
        pairs = [(0, 0), (0, 1), (1, 1), (1, 2), (1, 3), (2, 0)]
        await work.execute(
            insert(memberships).values([{"organization_id": uuid(1, o), "user_id": uuid(0, u)} for o, u in pairs])
        )
        named = {"owner": [], "reviewer": ["resource:read", "span:read"], "Ärzte": ["audit:read"]}
        await work.execute(
            insert(roles).values(
                [
                    {
                        "id": uuid(4, i),
                        "name": name,
                        "name_key": names.key(name),
                        "permissions": permissions,
                        "created_at": START,
                    }
                    for i, (name, permissions) in enumerate(named.items())
                ]
            )
        )
        await work.execute(
            insert(user_roles).values([{"role_id": uuid(4, r), "user_id": uuid(0, u)} for r, u in pairs])
        )
        await work.execute(
            insert(resources).values(
                [
                    {
                        "id": uuid(2, i),
                        "owner_id": uuid(0, random.randrange(6)),
                        "name": random.choice(NAMES) + (f" {i}" if i % 2 else ""),
                        "kind": random.choice(KINDS),
                        "data": random.choice([{}, [], 1.5, {"a": {"b": [1, "x\u0001", None]}}, "text"]),
                        "size_bytes": random.choice([0, 1, 1, 2**53 - 1, 77]),
                        "created_at": START + timedelta(minutes=random.randrange(20), microseconds=i),
                        "updated_at": START + timedelta(days=1, minutes=random.randrange(3)),
                    }
                    for i in range(size)
                ]
            )
        )
        await work.execute(
            insert(spans).values(
                [
                    {
                        "id": uuid(3, i),
                        "type": (type_ := further.choice(list(SpanType))).value,
                        "author_id": None if type_ is SpanType.GHOST else uuid(0, random.randrange(6)),
                        "title": f"{tenant.slug} {i}",
                        "payload": {"n": i},
                        "metadata": further.choice([{}, {"tags": ["a", {"b": 1.50}]}, [None]]),
                        "node": further.choice([None, f"urn:node:{i % 3}"]),
                        "delta_s": further.choice([None, -1.5, 0.5, 2.25]),
                        "replay_from_id": uuid(3, further.randrange(i)) if i > 9 and i % 3 == 0 else None,
                        "resource_id": random.choice([None, uuid(2, random.randrange(min(size, 10)))]),
                        "organization_id": uuid(1, random.randrange(3)),
                        "visibility": random.choice(["private", "organization", "public"]),
                        "created_at": START + timedelta(minutes=random.randrange(10)),
                        "updated_at": START + timedelta(days=1),
                    }
                    for i in range(3 * size)
                ]
            )
        )
        await fill(work)


async def fill(work: Transaction) -> None:
    """Insert rows of all further subjects, according to their declarations."""
    random = Random(11)  # noqa: S311  as above
    counts = {"user": 6, "resource": 3, **{each.declaration.name: ROWS for each in FURTHER}}
    for made in generate(FURTHER, counts, seed=11).values():
        declaration = made.subject.declaration
        kinds = {each.column: PREFIXES.index(each.target.declaration.prefix) for each in declaration.references}
        values = [
            {
                **{
                    name: uuid(kinds[name], value - 1) if name in kinds and value else value
                    for name, value in row.items()
                },
                **{name: START + timedelta(minutes=random.randrange(20)) for name in declaration.times},
                "id": uuid(PREFIXES.index(declaration.prefix), number),
            }
            for number, row in enumerate(made.rows)
        ]
        await work.execute(insert(made.subject.table).values(values))
    for made in generate(FURTHER, counts, seed=11).values():
        declaration = made.subject.declaration
        for member in declaration.pairs:
            near, far = pair_columns(declaration, member)
            here, there = (PREFIXES.index(each.prefix) for each in (declaration, member.target.declaration))
            pairs = [
                {near: uuid(here, one - 1), far: uuid(there, other - 1), "created_at": START}
                for one, other in made.pairs[member.name]
            ]
            await work.execute(insert(pairs_table(declaration, member)).values(pairs))


async def share(database: Database, tenants: Mapping[str, Tenant]) -> None:
    """Each tenant shares its first resources with each other one."""
    commented: dict[UUID, tuple[str, str]] = {}
    for slug, tenant in tenants.items():
        async with database.transaction(tenant, about={"user": str(uuid(0, 0))}) as work:
            for index, partner in enumerate(sorted(tenants.keys() - {slug})):
                shared = uuid(2, index % 3)
                fields, note = [(None, None), (["name"], "for you"), (["kind", "data"], None)][index]
                until = START + timedelta(days=36_500) if index else None
                access = "read" if index else "comment"
                call = func.isola.share("resource", shared, partner, fields, until, note, access).table_valued("share")
                made = await work.scalar(select(call.c.share))
                assert made
                if not index:
                    commented[made] = (slug, partner)
    # Both sides comment on what is shared with the first of them.
    for number, of_share in enumerate(2 * list(commented)):
        commenter = commented[of_share][number // len(commented)]
        async with database.transaction(tenants[commenter], about={"user": str(uuid(0, 1))}) as work:
            call = func.isola.comment_on_share(of_share, f"by {commenter}").table_valued("refused")
            assert await work.scalar(select(call.c.refused)) is None


@pytest.fixture(scope="session")
def executor() -> Executor:
    # All tests together send more documents than the rate limit of a tenant.
    return Executor(model, secret=SECRET, effort=Effort(rate=1))


@pytest.fixture(params=TRIED)
def a(request: pytest.FixtureRequest, world: World, executor: Executor) -> Caller:
    """User 0 of a tenant with 40 resources and 120 spans, under each strategy in turn."""
    tenant = world.tenants[f"{request.param}-a"]
    return Caller(world.database, Principal(tenant, uuid(0, 0)), executor)


@pytest.fixture
def b(a: Caller, world: World) -> Caller:
    """The same user of another tenant under the same strategy, which has 3 resources with the same ids."""
    tenant = world.tenants[a.principal.tenant.slug.replace("-a", "-b")]
    return replace(a, principal=replace(a.principal, tenant=tenant))
