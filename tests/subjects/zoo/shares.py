"""What an application declares as shared, over HTTP: tests/subjects/test_zoo.py runs this with the zoo."""

from typing import Any

import pytest

from isola.subjects.permissions import Role
from isola.testing.served import Api, Client

SHARED = "order from group population price notes nicknames kin days fees visits ring"
CREATE = f"""mutation ($input: CreateAnimalInput!) {{
  createAnimal(input: $input) {{ animal {{ id name class createdAt {SHARED} }} }} }}"""
SHARE = """mutation ($input: ShareAnimalInput!) {
  shareAnimal(input: $input) { share { id animalId animal { name } diaryId fields } } }"""
RECEIVED = f"""{{ sharedWithMe {{ nodes {{ id owner {{ slug }} diary {{ text }} resource {{ name }}
  animal {{ grantedFields name class createdAt {SHARED} }} }} }} }}"""
CHANGE = "mutation ($input: ChangeShareInput!) { changeShare(input: $input) { share { fields } } }"
OWN = "query ($filter: ShareFilter) { myShares(filter: $filter) { totalCount nodes { id diary { text } } } }"
ALL = [
    *("NAME", "CLASS", "ORDER", "FROM", "GROUP", "POPULATION", "PRICE", "NOTES", "NICKNAMES", "KIN", "DAYS", "FEES"),
    *("VISITS", "RING", "CREATED_AT"),
]
VALUES: dict[str, Any] = {
    "name": "Ada",
    "class": "FISH",
    "order": 3,
    "from": "here",
    "group": "2026-02-28",
    "population": 2**53 - 1,
    "price": "9.99",
    "notes": {"a": [1, None]},
    "nicknames": ["a", "b"],
    "kin": ["FISH", "BIRD"],
    "days": ["2026-01-31"],
    "fees": ["1.5"],
    "visits": ["2026-01-01T00:00:00Z"],
}


async def made(client: Client) -> dict[str, Any]:
    animal: dict[str, Any] = (await client.ask(CREATE, {"input": VALUES})).data["createAnimal"]["animal"]
    return animal


async def received(client: Client) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = (await client.ask(RECEIVED)).data["sharedWithMe"]["nodes"]
    return nodes


async def test_values_of_every_type_are_shared_or_null(alice: Client, bob: Client) -> None:
    animal = await made(alice)
    answer = await alice.ask(SHARE, {"input": {"animalId": animal["id"], "grantee": bob.tenant}})
    share = answer.data["shareAnimal"]["share"]
    assert share == {
        "id": share["id"],
        "animalId": animal["id"],
        "animal": {"name": "Ada"},
        "diaryId": None,
        "fields": ALL,
    }
    values = {name: value for name, value in animal.items() if name != "id"}
    [node] = await received(bob)
    assert node == {
        "id": share["id"],
        "owner": {"slug": alice.tenant},
        "diary": None,
        "resource": None,
        "animal": {"grantedFields": ALL, **values},
    }
    for fields in (["KIN", "CLASS"], ["VISITS"], ["FROM", "NOTES", "DAYS"]):
        changed = await alice.ask(CHANGE, {"input": {"shareId": share["id"], "fields": fields}})
        granted = [each for each in ALL if each in fields]
        assert changed.data["changeShare"]["share"]["fields"] == granted
        [node] = await received(bob)
        shown = {name: value if name.upper() in granted else None for name, value in values.items()}
        assert node["animal"] == {"grantedFields": granted, **shown}


FOUND = "query ($filter: SharedAnimalFilter) { sharedAnimals(filter: $filter) { nodes { id } } }"


@pytest.mark.parametrize(
    "filter_",
    [
        {"class": {"eq": "FISH"}},
        {"from": {"startsWith": "he"}},
        {"group": {"lte": "2026-02-28"}},
        {"population": {"gte": 2**53 - 1}},
        {"price": {"eq": "9.99"}},
        {"createdAt": {"newerThan": "PT1H"}},
        {"sharedAt": {"newerThan": "PT1H"}, "sharedUntil": {"isNull": True}},
        {"not": {"or": [{"order": {"lt": 3}}, {"name": {"isNull": True}}]}},
    ],
    ids="-".join,
)
async def test_what_was_shared_is_found_by_its_values_as_far_as_they_are_granted(
    alice: Client, bob: Client, filter_: dict[str, Any]
) -> None:
    animal = await made(alice)
    answer = await alice.ask(SHARE, {"input": {"animalId": animal["id"], "grantee": bob.tenant}})
    share = answer.data["shareAnimal"]["share"]["id"]

    async def found(filter_: dict[str, Any]) -> list[str]:
        asked = await bob.ask(FOUND, {"filter": filter_})
        return [node["id"] for node in asked.data["sharedAnimals"]["nodes"]]

    assert await found(filter_) == [share]
    assert await found({"not": filter_}) == []
    assert await found({**filter_, "sharedBy": {"eq": bob.tenant}}) == []
    await alice.ask(CHANGE, {"input": {"shareId": share, "fields": ["NICKNAMES"]}})
    of_share = "sharedAt" in filter_
    assert await found(filter_) == ([share] if of_share else [])
    assert await found({"name": {"isNull": True}}) == [share]


@pytest.mark.parametrize("fields", [["TEXT"], ["SEALED", "NAME"], ["SIZE_BYTES"]])
async def test_fields_of_another_subject_cannot_be_granted(alice: Client, bob: Client, fields: list[str]) -> None:
    animal = await made(alice)
    answer = await alice.ask(SHARE, {"input": {"animalId": animal["id"], "grantee": bob.tenant, "fields": fields}})
    assert answer.status == 400
    made_share = await alice.ask(SHARE, {"input": {"animalId": animal["id"], "grantee": bob.tenant}})
    share = made_share.data["shareAnimal"]["share"]["id"]
    refused = await alice.ask(CHANGE, {"input": {"shareId": share, "fields": fields}})
    assert (refused.code, refused.error["extensions"]["field"]) == ("BAD_USER_INPUT", "input.fields")
    assert "NAME, CLASS, ORDER" in refused.error["message"]


async def test_shares_of_rows_that_a_rule_hides_are_hidden(alice: Client, bob: Client, api: Api) -> None:
    document = """mutation ($to: String!, $id: ID!) {
        shareDiary(input: {diaryId: $id, grantee: $to, fields: [TEXT]}) { share { id } } }"""
    written = await alice.ask('mutation { createDiary(input: {text: "mine"}) { diary { id } } }')
    diary = written.data["createDiary"]["diary"]["id"]
    share = (await alice.ask(document, {"id": diary, "to": bob.tenant})).data["shareDiary"]["share"]["id"]
    other = api.client(alice.tenant, "olga", Role.OWNER)

    assert (await alice.ask(OWN)).data["myShares"] == {
        "totalCount": 1,
        "nodes": [{"id": share, "diary": {"text": "mine"}}],
    }
    assert (await alice.ask(OWN, {"filter": {"type": {"eq": "DIARY"}}})).data["myShares"]["totalCount"] == 1
    assert (await alice.ask(OWN, {"filter": {"type": {"eq": "ANIMAL"}}})).data["myShares"]["totalCount"] == 0
    # Not even to those who manage shares.
    assert (await other.ask(OWN)).data["myShares"] == {"totalCount": 0, "nodes": []}
    for input_ in ({"shareId": share, "fields": ["SEALED"]}, {"shareId": share, "note": "x"}):
        assert (await other.ask(CHANGE, {"input": input_})).code == "NOT_FOUND"
    shared = "{ sharedWithMe { nodes { diary { grantedFields text sealed } animal { name } } } }"
    text = {"grantedFields": ["TEXT"], "text": "mine", "sealed": None}
    listed = "{ sharedDiaries { totalCount nodes { id text sealed } } sharedAnimals { totalCount } }"
    assert (await bob.ask(listed)).data == {
        "sharedDiaries": {"totalCount": 1, "nodes": [{"id": share, "text": "mine", "sealed": None}]},
        "sharedAnimals": {"totalCount": 0},
    }
    assert (await bob.ask(shared)).data["sharedWithMe"]["nodes"] == [{"diary": text, "animal": None}]


async def test_relations_and_ids_are_not_in_what_was_shared(bob: Client) -> None:
    for field in ("cageId", "cage { number }", "keeper { name }", "double", "secret", "updatedAt"):
        asked = await bob.ask("{ sharedWithMe { nodes { animal { name %s } } } }" % field)  # noqa: UP031
        assert asked.status == 400
