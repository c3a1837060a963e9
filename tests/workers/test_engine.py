"""The spans that an engine writes: of whom, for whom, and how long it took."""

import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import pytest

import isola
from isola.database.transactions import Database
from isola.errors import BadUserInput, Forbidden
from isola.platform.tenants import Tenant
from isola.subjects.organizations import memberships
from isola.subjects.spans import SpanType, Visibility
from isola.testing.oracles.canary import content
from isola.workers import Engine, Worker

NODE = "urn:host:worker-1"


async def written(database: Database, tenant: Tenant) -> list[Mapping[str, Any]]:
    """All spans of a tenant, as the owner of the tables would see them, oldest first."""
    return sorted((await content(database, tenant))["spans"], key=lambda span: span["created_at"])


async def test_a_span_is_of_the_user_in_whose_name_it_runs(
    worker: Worker, database: Database, a: Tenant, ada: UUID
) -> None:
    before = len(await written(database, a))
    with isola.run_with_tenant(a.slug, user="ada"):
        made = await Engine(worker, node=NODE).record("read the meter", {"kwh": 5})

    [*_, span] = found = await written(database, a)
    assert len(found) == before + 1
    assert (span["id"], span["type"], span["author_id"]) == (made, SpanType.USER, ada)
    assert (span["title"], span["payload"], span["node"]) == ("read the meter", {"kwh": 5}, NODE)
    assert (span["visibility"], span["organization_id"], span["delta_s"]) == (Visibility.PRIVATE, None, None)


async def test_without_a_user_it_is_the_systems(worker: Worker, database: Database, a: Tenant) -> None:
    with isola.run_with_tenant(a.slug):
        await Engine(worker).record("cleaned up", visibility=Visibility.PUBLIC)

    [*_, span] = await written(database, a)
    assert (span["type"], span["author_id"], span["visibility"]) == (SpanType.SYSTEM, None, Visibility.PUBLIC)


async def test_only_members_write_for_an_organization(
    worker: Worker, database: Database, a: Tenant, sales: UUID
) -> None:
    before = await written(database, a)
    with isola.run_with_tenant(a.slug, organization="Sales"):
        with pytest.raises(Forbidden):
            await Engine(worker).record("sold")
        assert await written(database, a) == before
        async with worker.transaction() as inside:
            await inside.work.execute(memberships.insert().values(organization_id=sales, user_id=inside.actor.user_id))
        await Engine(worker).record("sold")

    [*_, span] = await written(database, a)
    assert (span["type"], span["organization_id"]) == (SpanType.ORGANIZATION, sales)
    assert (span["author_id"], span["visibility"]) == (None, Visibility.ORGANIZATION)


async def test_a_step_is_written_with_its_duration_when_it_has_ended(
    worker: Worker, database: Database, a: Tenant
) -> None:
    before = await written(database, a)
    with isola.run_with_tenant(a.slug):
        async with Engine(worker).span("export", format="csv") as step:
            assert await written(database, a) == before
            await asyncio.sleep(0.05)
            step.payload["rows"] = 3

    [*_, span] = await written(database, a)
    assert span["payload"] == {"format": "csv", "rows": 3}
    assert span["delta_s"] >= 0.05


async def test_a_step_that_fails_is_written_and_raises(worker: Worker, database: Database, a: Tenant) -> None:
    with isola.run_with_tenant(a.slug), pytest.raises(KeyError):
        async with Engine(worker).span("export", format="csv"):
            raise KeyError("a value of a client")

    [*_, span] = await written(database, a)
    assert span["payload"] == {"format": "csv", "error": "KeyError"}


async def test_invalid_fields_are_refused(worker: Worker, database: Database, a: Tenant) -> None:
    before = await written(database, a)
    engine = Engine(worker)
    with isola.run_with_tenant(a.slug):
        bad: list[dict[str, Any]] = [{"title": ""}, {"delta_s": float("inf")}, {"metadata": "x" * 70_000}]
        for values in bad:
            with pytest.raises(BadUserInput):
                await engine.record(**{"title": "entry", **values})
    with pytest.raises(RuntimeError, match="run_with_tenant"):
        await engine.record("nowhere")
    assert await written(database, a) == before


async def test_a_step_that_is_cancelled_says_so(worker: Worker, database: Database, a: Tenant) -> None:
    begun = asyncio.Event()

    async def export() -> None:
        async with Engine(worker).span("export"):
            begun.set()
            await asyncio.Event().wait()

    with isola.run_with_tenant(a.slug):
        task = asyncio.create_task(export())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    [*_, span] = await written(database, a)
    assert (span["title"], span["payload"]) == ("export", {"error": "CancelledError"})


@pytest.mark.parametrize(("title", "payload"), [("", {}), ("export", 5), ("export", {"rows": object()})])
async def test_a_span_that_cannot_be_written_does_not_hide_the_error_of_its_step(
    title: str, payload: Any, worker: Worker, database: Database, a: Tenant
) -> None:
    before = await written(database, a)
    with isola.run_with_tenant(a.slug), pytest.raises(KeyError):
        async with Engine(worker).span(title) as step:
            step.payload = payload
            raise KeyError
    assert await written(database, a) == before
