"""A running server with some homes at the newest revision and others not: its answers to tenants of each kind."""

from collections.abc import AsyncIterator, Mapping, Sequence

import pytest
from structlog.testing import capture_logs

from isola.database.transactions import Database
from isola.platform import migrations
from isola.platform.tenants import Tenant
from isola.settings import Settings
from isola.testing.consent import make_partners
from isola.testing.fixtures import Copy
from isola.testing.served import Answer, Api, serving
from isola_strategies.base import Strategy
from tests.control.conftest import OLD
from tests.control.test_migrations import NEW, homes, revisions

SHARE = """
INSERT INTO control.shares (owner_id, subject, row_id, grantee_slug, grantee_id, partnership_id, granted_by, fields)
SELECT tenant_id, 'resource', $2, partner_slug, partner_id, id, $4, '{name}' FROM control.partners
WHERE tenant_id = $1 AND partner_id = $3 RETURNING id::text
"""
# Each operation runs for all tenants before the next, so that a connection is used in homes of both kinds.
ROUNDS = 3
ASKED: Mapping[str, Mapping[str, object]] = {
    "Viewer": {},
    "Resources": {},
    "CreateResource": {"input": {"name": "more"}},
}


def marker(slug: str) -> str:
    return f"canary-of-{slug}."


@pytest.fixture
async def resources(blank: Copy, old: Sequence[Tenant]) -> Mapping[str, tuple[str, str]]:
    """By tenant slug: a resource that was created before the migration, and the user that owns it."""
    made = {}
    async with await Database.open(blank.where.tenant, blank.strategies, blank.binding_key) as database:
        for tenant in old:
            async with database.transaction(tenant) as work:
                user = await work.value(
                    "INSERT INTO users (subject, name) VALUES ($1, $1) RETURNING id", marker(tenant.slug)
                )
                sql = "INSERT INTO resources (owner_id, name) VALUES ($1, $2) RETURNING id"
                made[tenant.slug] = (await work.value(sql, user, marker(tenant.slug)), user)
    return made


@pytest.fixture
async def waiting(
    strategy: Strategy,
    blank: Copy,
    blank_owner: Database,
    old: list[Tenant],
    resources: Mapping[str, object],  # noqa: ARG001  they are there before
    monkeypatch: pytest.MonkeyPatch,
) -> Sequence[Tenant]:
    """The tenants of a home that the migration could not lock, under each strategy in turn. All others are migrated."""
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT", "SET LOCAL lock_timeout TO '100ms'")
    schemas = homes(blank, old)
    left = next(home.schema for home in strategy.homes([each.id for each in old if each.strategy == strategy.name]))
    async with blank_owner.unbound() as holder:
        await holder.script(f"LOCK TABLE {left}.resources IN ACCESS SHARE MODE")
        await migrations.migrate(blank_owner, blank.strategies, blank.where, workers=1)
    assert await revisions(blank_owner, schemas) == {**dict.fromkeys(schemas, NEW), left: OLD}
    return [each for each in old if blank.strategies[each.strategy].home(each.id).schema == left]


@pytest.fixture
async def api(
    blank: Copy,
    settings: Settings,
    waiting: Sequence[Tenant],  # noqa: ARG001  so it is when the server begins
) -> AsyncIterator[Api]:
    """One server with two connections, shared by tenants of old and of new homes."""
    async with serving(blank, settings.model_copy(update={"pool_size": 2, "directory_ttl": 0.2})) as served:
        yield served


async def ask_all(api: Api, tenants: Sequence[Tenant], operation: str, **variables: object) -> Mapping[str, Answer]:
    return {tenant.slug: await api.client(tenant.slug).run(operation, **variables) for tenant in tenants}


async def rows(copy: Copy, tenants: Sequence[Tenant]) -> Mapping[str, object]:
    """The rows in homes of any revision."""
    async with await Database.open(copy.where.tenant, copy.strategies, copy.binding_key) as database:
        found = {}
        for tenant in tenants:
            async with database.transaction(tenant) as work:
                found[tenant.slug] = [
                    await work.texts(f"SELECT row_to_json(t)::text FROM {table} t") for table in ("users", "resources")
                ]
        return found


async def test_a_migrated_home_is_served_and_an_old_one_refused(
    blank: Copy, api: Api, old: Sequence[Tenant], waiting: Sequence[Tenant]
) -> None:
    served = [tenant for tenant in old if tenant not in waiting]
    assert served
    before = await rows(blank, waiting)

    with capture_logs() as logged:
        for _ in range(ROUNDS):
            for operation, variables in ASKED.items():
                for slug, answer in (await ask_all(api, old, operation, **variables)).items():
                    if slug in {tenant.slug for tenant in waiting}:
                        assert (answer.status, answer.code) == (503, "UNAVAILABLE")
                        assert "data" not in answer.body
                    else:
                        assert answer.data
                    assert not any(marker(each.slug) in answer.response.text for each in old if each.slug != slug)
    assert {entry["event"] for entry in logged} == {"a home is not protected and not served: isola migrate"}

    for slug, answer in (await ask_all(api, served, "Resources")).items():
        names = [node["name"] for node in answer.data["resources"]["nodes"]]
        assert sorted(names) == sorted([marker(slug), *["more"] * ROUNDS])
    assert await rows(blank, waiting) == before


async def test_shares_from_an_old_home_are_refused_and_from_a_migrated_one_readable(
    blank: Copy,
    blank_owner: Database,
    api: Api,
    old: Sequence[Tenant],
    waiting: Sequence[Tenant],
    resources: Mapping[str, tuple[str, str]],
) -> None:
    partner, sharing = [tenant for tenant in old if tenant not in waiting][:2]
    shares = []
    await make_partners(blank_owner)
    async with blank_owner.unbound() as work:
        for owner in (sharing, waiting[0]):
            resource, user = resources[owner.slug]
            shares.append(await work.value(SHARE, owner.id, resource, partner.id, user))
        # The rights as of the creation of that home.
        schema = blank.strategies[waiting[0].strategy].home(waiting[0].id).schema
        await work.script(
            f"GRANT USAGE ON SCHEMA {schema} TO isola_sharing; GRANT SELECT ON {schema}.resources TO isola_sharing"
        )
    client = api.client(partner.slug)

    answer = await client.run("SharedWithMe")
    assert (answer.status, answer.code) == (503, "UNAVAILABLE")
    assert marker(waiting[0].slug) not in answer.response.text
    assert [node["name"] for node in (await client.run("Resources")).data["resources"]["nodes"]] == [
        marker(partner.slug)
    ]
    async with blank_owner.unbound() as work:
        await work.value("UPDATE control.shares SET revoked_at = now() WHERE id::text = $1", shares[1])
    [read] = (await client.run("SharedWithMe")).data["sharedWithMe"]["nodes"]
    assert read["resource"]["name"] == marker(sharing.slug)


async def test_the_server_uses_a_home_as_soon_as_it_is_migrated(
    blank: Copy, blank_owner: Database, api: Api, old: Sequence[Tenant], waiting: Sequence[Tenant]
) -> None:
    refused = await ask_all(api, waiting, "Resources")
    assert {answer.code for answer in refused.values()} == {"UNAVAILABLE"}

    report = await migrations.migrate(blank_owner, blank.strategies, blank.where)
    assert (list(report.behind.values()), report.failed) == ([OLD], {})

    for slug, answer in (await ask_all(api, old, "Resources")).items():
        assert [node["name"] for node in answer.data["resources"]["nodes"]] == [marker(slug)]
