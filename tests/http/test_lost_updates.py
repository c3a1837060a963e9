"""Updates and deletions that name the version that the client has read are refused if it is another one by now."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from isola.api.schema import model
from isola.database.transactions import Database
from isola.errors import Conflict
from isola.installed import SUBJECTS
from isola.platform.tenants import Tenant
from isola.subjects import operations
from isola.subjects.actor import Actor
from isola.subjects.permissions import all_permissions
from isola.subjects.subject import Subject
from isola.testing.oracles import canary
from isola.testing.served import Answer, Client

UPDATE = "mutation ($input: UpdateResourceInput!) { updateResource(input: $input) { resource { name updatedAt } } }"
UPDATE_ALL = "mutation ($input: UpdateResourcesInput!) { updateResources(input: $input) { updatedIds } }"
DELETE = "mutation ($input: DeleteResourceInput!) { deleteResource(input: $input) { deletedId } }"
READ = "query ($id: ID!) { resource(id: $id) { name updatedAt } }"
FIELD = "expectedUpdatedAt"


async def read(client: Client, key: str) -> Any:
    return (await client.ask(READ, {"id": key})).data["resource"]


def refused(answer: Answer, field: str = f"input.{FIELD}") -> bool:
    return answer.code == "CONFLICT" and answer.error["extensions"]["field"] == field


async def test_a_change_of_a_version_that_is_no_longer_current_is_refused_and_changes_nothing(ada: Client) -> None:
    key = await ada.create("first")
    seen = (await read(ada, key))["updatedAt"]
    changed = await ada.ask(UPDATE, {"input": {"id": key, FIELD: seen, "name": "second"}})
    now = changed.data["updateResource"]["resource"]
    assert now["name"] == "second"
    for document, values in ((UPDATE, {"name": "third"}), (DELETE, {})):
        assert refused(await ada.ask(document, {"input": {"id": key, FIELD: seen, **values}}))
        assert await read(ada, key) == now
    # Without an expectation, and with null, the last one wins.
    for more in ({}, {FIELD: None}):
        now = (await ada.ask(UPDATE, {"input": {"id": key, "name": "last", **more}})).data["updateResource"]["resource"]
    assert (await ada.ask(DELETE, {"input": {"id": key, FIELD: now["updatedAt"]}})).data["deleteResource"]


async def test_of_twenty_changes_of_the_same_version_one_is_made(ada: Client) -> None:
    key = await ada.create("first")
    seen = (await read(ada, key))["updatedAt"]
    answers = await asyncio.gather(
        *(ada.ask(UPDATE, {"input": {"id": key, FIELD: seen, "name": f"of {number}"}}) for number in range(20))
    )
    [made] = [number for number, answer in enumerate(answers) if "errors" not in answer.body]
    assert all(refused(answer) for number, answer in enumerate(answers) if number != made)
    assert (await read(ada, key))["name"] == f"of {made}"


async def test_one_version_that_is_not_current_refuses_all_and_is_named(ada: Client) -> None:
    keys = [await ada.create("first") for _ in range(3)]
    before = [await read(ada, key) for key in keys]
    items = [{"id": key, "name": "second", FIELD: row["updatedAt"]} for key, row in zip(keys, before, strict=True)]
    items[1][FIELD] = items[0][FIELD]
    answer = await ada.ask(UPDATE_ALL, {"input": {"items": items}})
    assert refused(answer, f"input.items.1.{FIELD}")
    assert [await read(ada, key) for key in keys] == before


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.__name__)
def test_the_inputs_of_every_subject_with_a_version_have_the_field(subject: type[Subject]) -> None:
    declaration = subject.declaration
    for verb in sorted({"update", "delete"} & set(declaration.mutations)):
        fields = model.schema.type_map[f"{verb.title()}{subject.__name__}Input"].fields  # type: ignore[attr-defined]  # an input type
        assert (FIELD in fields) == ("updated_at" in declaration.times)


@pytest.mark.parametrize(
    "subject", [each for each in SUBJECTS if "updated_at" in each.declaration.times], ids=lambda each: each.__name__
)
async def test_rows_of_every_subject_with_a_version_are_compared_under_their_lock(
    subject: type[Subject], database: Database, a: Tenant
) -> None:
    planted = await canary.plant(database, a)
    row, actor = planted.rows[subject.table.name], Actor(planted.rows["users"]["id"], all_permissions())
    before = await canary.content(database, a)
    stale = row["updated_at"] - timedelta(microseconds=1)
    with pytest.raises(Conflict, match="has been changed since"):
        async with database.transaction(a, about=planted.about) as work:
            await operations.update(work, actor, subject, row["id"], {}, stale)
    with pytest.raises(Conflict, match="has been changed since"):
        async with database.transaction(a, about=planted.about) as work:
            await operations.remove(work, actor, subject, row["id"], stale)
    assert await canary.content(database, a) == before
    async with database.transaction(a, about=planted.about) as work:
        await operations.changeable_all(work, actor, subject, [row["id"]], whole=False, expected=[row["updated_at"]])
