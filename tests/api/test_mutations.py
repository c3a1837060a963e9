"""Mutations: one transaction each, which also reads the selected payload."""

from typing import Any

import pytest
from sqlalchemy import insert

from isola.api.execute import Executor
from isola.database.transactions import Database
from isola.platform import provisioning
from isola.subjects.users import users
from isola_strategies.base import Strategy
from tests.api.conftest import OPERATIONS, START, Answer, Caller, Principal, ids, uuid


@pytest.fixture
async def writer(database: Database, control: Database, strategy: Strategy, executor: Executor) -> Caller:
    """User 0 of an empty tenant under each strategy, in a separate database for the test."""
    tenant = await provisioning.named(control, f"{strategy.name}-a")
    async with database.transaction(tenant) as work:
        rows = [{"id": uuid(0, i), "subject": f"s{i}", "name": f"user {i}", "created_at": START} for i in range(2)]
        await work.execute(insert(users).values(rows))
    return Caller(database, Principal(tenant, uuid(0, 0)), executor)


async def run(caller: Caller, operation: str, /, **input_: Any) -> Answer:
    return await caller.ask((OPERATIONS / f"{operation}.graphql").read_text(), {"input": input_})


async def made(caller: Caller, **input_: Any) -> str:
    answer = await run(caller, "CreateResource", **{"name": "made", **input_})
    key: str = answer.data["createResource"]["resource"]["id"]
    return key


async def test_a_resource_from_its_making_to_its_end(writer: Caller) -> None:
    data = {"x": [1, 1.5, None, {"y": "z"}], "big": 12345678901234567890}
    answer = await run(writer, "CreateResource", name="first", data=data, sizeBytes="77", kind="image")
    assert answer.transactions == 1
    resource = answer.data["createResource"]["resource"]
    assert resource["data"] == data
    assert (resource["name"], resource["sizeBytes"], resource["kind"]) == ("first", 77, "image")
    assert resource["owner"] == {"id": ids("usr", 0), "name": "user 0"}
    query = "query ($id: ID!) { resource(id: $id) { name data kind sizeBytes createdAt updatedAt } }"
    before = (await writer.ask(query, {"id": resource["id"]})).data["resource"]
    assert before["data"] == data
    answer = await run(writer, "UpdateResource", id=resource["id"], name="second", kind=None)
    changed = answer.data["updateResource"]["resource"]
    assert (changed["name"], changed["kind"], changed["sizeBytes"], changed["data"]) == ("second", None, 77, data)
    assert changed["updatedAt"] > before["updatedAt"]
    answer = await run(writer, "DeleteResource", id=resource["id"])
    assert answer.data == {"deleteResource": {"deletedId": resource["id"]}}
    assert (await writer.ask(query, {"id": resource["id"]})).data == {"resource": None}


async def test_defaults_of_a_resource(writer: Caller) -> None:
    answer = await run(writer, "CreateResource", name="bare")
    resource = answer.data["createResource"]["resource"]
    assert (resource["data"], resource["sizeBytes"], resource["kind"]) == ({}, 0, None)


async def test_several_mutations_with_aliases_and_fragments(writer: Caller) -> None:
    answer = await writer.ask(
        """mutation ($a: CreateResourceInput!, $with: Boolean!) {
          b: createResource(input: {name: "b", data: {n: [1, {m: true}]}}) { ...P __typename }
          a: createResource(input: $a) { it: resource { ...R @skip(if: $with) kind } ...P }
          __typename
        }
        fragment P on CreateResourcePayload { resource { ...R spans { totalCount } } }
        fragment R on Resource { name data }""",
        {"a": {"name": "a"}, "with": True},
    )
    assert answer.text == (
        '{"data":{"b":{"resource":{"name":"b","data":{"n":[1,{"m":true}]},"spans":{"totalCount":0}},'
        '"__typename":"CreateResourcePayload"},'
        '"a":{"it":{"kind":null},"resource":{"name":"a","data":{},"spans":{"totalCount":0}}},'
        '"__typename":"Mutation"}}'
    )
    assert answer.transactions == 2


@pytest.mark.parametrize(
    ("input_", "code", "named"),
    [
        ({"name": ""}, "BAD_USER_INPUT", "name"),
        ({"name": "x" * 201}, "BAD_USER_INPUT", "name"),
        ({"name": "a\0b"}, "BAD_USER_INPUT", "name"),
        ({"name": "\ud800"}, "BAD_USER_INPUT", "name"),
        ({"name": "x", "sizeBytes": -1}, "BAD_USER_INPUT", "sizeBytes"),
        ({"name": "x", "sizeBytes": 2**53}, "BAD_USER_INPUT", "sizeBytes"),
        ({"name": "x", "data": {"k": "a\0b"}}, "BAD_USER_INPUT", "data"),
        ({"name": None}, "BAD_USER_INPUT", "name"),
        ({}, "BAD_USER_INPUT", "name"),
        ({"name": "x", "nonsense": 1}, "BAD_USER_INPUT", ""),
    ],
)
async def test_refusals_leave_nothing_behind(writer: Caller, input_: dict[str, Any], code: str, named: str) -> None:
    answer = await run(writer, "CreateResource", **input_)
    assert answer.code == code
    assert answer.error["extensions"]["field"] == ".".join(["input", *([named] if named else [])])
    assert answer.body.get("data") in (None, {"createResource": None})
    assert (await writer.ask("{ resources { totalCount } }")).data == {"resources": {"totalCount": 0}}


async def test_a_mutation_whose_selection_is_refused_changes_nothing(writer: Caller) -> None:
    document = """mutation { createResource(input: {name: "x"}) { resource { spans(first: 1000) { totalCount } } } }"""
    answer = await writer.ask(document)
    assert (answer.code, answer.transactions) == ("BAD_USER_INPUT", 0)
    assert (await writer.ask("{ resources { totalCount } }")).data == {"resources": {"totalCount": 0}}


@pytest.mark.parametrize("key", ["nonsense", ids("usr", 0), ids("res", 1).upper(), ""])
async def test_malformed_ids_are_named(writer: Caller, key: str) -> None:
    for name, field in {"UpdateResource": "id", "DeleteResource": "id"}.items():
        answer = await run(writer, name, id=key)
        assert answer.code == "BAD_USER_INPUT"
        assert answer.error["extensions"]["field"] == f"input.{field}"
    answer = await run(writer, "ShareResource", resourceId=key, grantee="x")
    assert answer.error["extensions"]["field"] == "input.resourceId"
    answer = await run(writer, "CreateSpan", title="x", organizationId=key)
    assert answer.error["extensions"]["field"] == "input.organizationId"


async def test_missing_rows_are_not_found(writer: Caller) -> None:
    missing: dict[str, dict[str, Any]] = {
        "UpdateResource": {"id": ids("res", 99), "name": "x"},
        "DeleteResource": {"id": ids("res", 99)},
        "ShareResource": {"resourceId": ids("res", 99), "grantee": "rls-b"},
        "RevokeShare": {"shareId": ids("res", 99).replace("res", "shr")},
        "ChangeShare": {"shareId": ids("res", 99).replace("res", "shr"), "fields": ["NAME"]},
        "CreateSpan": {"title": "x", "resourceId": ids("res", 99)},
    }
    for name, input_ in missing.items():
        answer = await run(writer, name, **input_)
        key = name[0].lower() + name[1:]
        assert (answer.code, answer.body["data"], answer.error["path"]) == ("NOT_FOUND", {key: None}, [key]), name
        [field] = [each for each in input_ if each.lower().endswith("id")]
        assert answer.error["extensions"]["field"] == f"input.{field}"


async def test_a_share_from_its_granting_to_its_end(writer: Caller) -> None:
    key = await made(writer)
    answer = await run(
        writer, "ShareResource", resourceId=key, grantee="schema-b", expiresAt="2100-01-01T00:00:00+01:00"
    )
    share = answer.data["shareResource"]["share"]
    assert share["grantee"]["slug"] == "schema-b"
    assert share["resource"] == {"id": key, "name": "made"}
    assert share["expiresAt"] == "2099-12-31T23:00:00.000000+00:00"
    shares = "query ($id: ID!) { resource(id: $id) { shares { nodes { id } } } }"
    assert (await writer.ask(shares, {"id": key})).data["resource"]["shares"]["nodes"] == [{"id": share["id"]}]
    answer = await run(writer, "ChangeShare", shareId=share["id"], fields=["DATA", "NAME"], note="changed")
    assert answer.data["changeShare"]["share"] == {
        "id": share["id"],
        "fields": ["NAME", "DATA"],
        "note": "changed",
        "access": "READ",
        "expiresAt": share["expiresAt"],
    }
    answer = await run(writer, "RevokeShare", shareId=share["id"])
    assert answer.data == {"revokeShare": {"revokedId": share["id"]}}
    assert (await writer.ask(shares, {"id": key})).data["resource"]["shares"]["nodes"] == []
    assert (await run(writer, "ShareResource", resourceId=key, grantee="No-body")).code == "BAD_USER_INPUT"


async def test_organizations_and_spans(writer: Caller) -> None:
    answer = await writer.ask('mutation { createOrganization(input: {name: "o"}) { organization { id name } } }')
    organization = answer.data["createOrganization"]["organization"]["id"]
    pair = {"organizationId": organization, "userId": ids("usr", 0)}
    answer = await writer.ask(
        """mutation ($input: AddMemberInput!) { addMember(input: $input) {
             organization { members { nodes { id } } } user { organizations { nodes { name } } } } }""",
        {"input": pair},
    )
    assert answer.data["addMember"] == {
        "organization": {"members": {"nodes": [{"id": ids("usr", 0)}]}},
        "user": {"organizations": {"nodes": [{"name": "o"}]}},
    }
    resource = await made(writer)
    answer = await run(
        writer,
        "CreateSpan",
        title="t",
        payload=[1],
        resourceId=resource,
        organizationId=organization,
        visibility="ORGANIZATION",
    )
    span = answer.data["createSpan"]["span"]
    assert span["resource"]["id"] == resource
    assert span["visibility"] == "ORGANIZATION"
    timeline = "{ timeline { nodes { id } } }"
    assert (await writer.ask(timeline)).data["timeline"]["nodes"] == [{"id": span["id"]}]
    assert (await writer.being(1).ask(timeline)).data["timeline"]["nodes"] == []
    answer = await writer.ask(
        "mutation ($input: RemoveMemberInput!) { removeMember(input: $input) { user { id } organization { id } } }",
        {"input": pair},
    )
    assert answer.data["removeMember"] == {"user": {"id": ids("usr", 0)}, "organization": {"id": organization}}
    answer = await writer.ask('mutation { createOrganization(input: {name: "o"}) { organization { id } } }')
    assert answer.code == "CONFLICT"


async def test_numbers_that_python_would_change(writer: Caller) -> None:
    document = """mutation { createResource(input: {name: "n", data: [1.10, 1e3, 100000000000000000000000000.5]})
      { resource { id data } } }"""
    answer = await writer.ask(document)
    resource = answer.data["createResource"]["resource"]
    plain = await writer.ask("query ($id: ID!) { resource(id: $id) { data } }", {"id": resource["id"]})
    assert resource["data"] == plain.data["resource"]["data"]


async def test_mutations_can_be_refused_by_the_way_they_come(writer: Caller) -> None:
    response = await writer.executor.execute("mutation { __typename }", None, None, None, writer, mutations=False)
    assert response.status == 405
    assert (await writer.ask("mutation { __typename }")).data == {"__typename": "Mutation"}
