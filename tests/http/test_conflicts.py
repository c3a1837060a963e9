"""Unique conflicts: the error names the input that has to change, and repeats no value."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from isola.settings import Settings
from isola.testing.fixtures import Copy
from isola.testing.served import Api, Client, serving
from tests.http.staff import StaffClient, admitting, token

VALUE = "Canary of a conflict"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return admitting(settings)


@pytest.fixture
async def api(copy: Copy, settings: Settings) -> AsyncIterator[Api]:
    async with serving(copy, settings) as api:
        yield api


async def made(client: Client, field: str, values: Mapping[str, Any], selection: str) -> str:
    """Run a mutation and return the id of the created object."""
    document = f"mutation ($input: {field[0].upper()}{field[1:]}Input!) {{ {field}(input: $input) {{ {selection} }} }}"
    answer = await client.ask(document, {"input": values})
    return str(next(iter(answer.data[field].values()))["id"])


async def refused(client: Client, field: str, values: Mapping[str, Any]) -> str:
    """Run a mutation that conflicts and return the input that the error names."""
    document = f"mutation ($input: {field[0].upper()}{field[1:]}Input!) {{ {field}(input: $input) {{ __typename }} }}"
    before = await client.ask("{ auditLog(first: 0) { totalCount } }")
    answer = await client.ask(document, {"input": values})
    assert answer.code == "CONFLICT"
    assert answer.body["data"] == {field: None}
    assert not any(str(value) in answer.response.text for value in values.values())
    assert (await client.ask("{ auditLog(first: 0) { totalCount } }")).data == before.data
    return str(answer.error["extensions"]["field"])


async def test_a_name_in_use_is_named(alice: Client) -> None:
    await made(alice, "createOrganization", {"name": VALUE}, "organization { id }")
    role = {"name": VALUE, "permissions": ["resource:read"]}
    await made(alice, "createRole", role, "role { id }")
    other = await made(alice, "createRole", {**role, "name": "other"}, "role { id }")

    assert await refused(alice, "createOrganization", {"name": VALUE}) == "input.name"
    assert await refused(alice, "createRole", role) == "input.name"
    assert await refused(alice, "updateRole", {"id": other, "name": VALUE}) == "input.name"


async def test_a_duplicate_pair_is_reported_at_its_second_id(alice: Client) -> None:
    user = (await alice.run("Viewer")).data["viewer"]["user"]["id"]
    organization = await made(alice, "createOrganization", {"name": VALUE}, "organization { id }")
    role = await made(alice, "createRole", {"name": VALUE, "permissions": ["resource:read"]}, "role { id }")
    member, holder = {"organizationId": organization, "userId": user}, {"userId": user, "roleId": role}
    await made(alice, "addMember", member, "organization { id }")
    await made(alice, "assignRole", holder, "role { id }")

    assert await refused(alice, "addMember", member) == "input.userId"
    assert await refused(alice, "assignRole", holder) == "input.roleId"


async def test_administration_names_its_arguments(api: Api, alice: Client) -> None:
    sam = StaffClient(api.http, token())
    create = """mutation ($slug: String!) {
      createTenant(slug: $slug, name: "Other", strategy: "rls") { id } }"""
    plan = 'mutation { createPlan(name: "small", title: "Small", quotas: []) { name } }'
    suspend = "mutation ($slug: String!) { resumeTenant(slug: $slug) { slug } }"
    assert (await sam.ask(plan)).data
    ordered = {"slug": "ordered-already"}
    assert (await sam.ask(create, **ordered)).data

    for document, values, field in (
        (create, {"slug": alice.tenant}, "slug"),
        (create, ordered, "slug"),
        (plan, {}, "name"),
        (suspend, {"slug": alice.tenant}, "slug"),
    ):
        answer = await sam.ask(document, **values)
        assert answer.code == "CONFLICT"
        assert answer.error["extensions"]["field"] == field
        assert not any(value in answer.response.text for value in values.values())
