"""The features of declarations over HTTP under each strategy: tests/subjects/test_zoo.py runs this with the zoo."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from isola import exact_json
from isola.api.schema import model, schema
from isola.api.undescribed import parts, undescribed
from isola.database.transactions import Database
from isola.platform import importing, provisioning
from isola.subjects.permissions import Role
from isola.testing.fixtures import Copy
from isola.testing.served import Api, Client
from tests.subjects.zoo.subjects import Animal

ANIMAL = """id name class order from group population weight price tame born seen chip notes nicknames sizes kin days
  herds weights fees flags visits chips holidays words ring double cage { number } mother { name } keeper { name }"""
CREATE = f"mutation ($input: CreateAnimalInput!) {{ createAnimal(input: $input) {{ animal {{ {ANIMAL} }} }} }}"
UPDATE = f"mutation ($input: UpdateAnimalInput!) {{ updateAnimal(input: $input) {{ animal {{ {ANIMAL} }} }} }}"
FOUND = """query ($filter: AnimalFilter, $by: [AnimalOrder!]) {
  animals(filter: $filter, orderBy: $by) { nodes { name } } }"""
LISTS = ("herds", "weights", "fees", "flags", "visits", "chips", "holidays")
DEFAULTS: dict[str, Any] = {
    "class": "BIRD",
    "order": 0,
    "from": None,
    "group": None,
    "population": None,
    "weight": None,
    "price": "1.5",
    "tame": False,
    "born": None,
    "seen": None,
    "chip": None,
    "notes": {},
    "nicknames": [],
    "sizes": None,
    "kin": [],
    "days": ["2026-01-31"],
    **dict.fromkeys(LISTS),
    "words": ['a"b', "c\\d", "it's, {e}"],
    "ring": "none",
    "double": 0,
    "cage": None,
    "mother": None,
    "keeper": {"name": "ada"},
}
# By field: the input, the output, a filter that matches, and refused values.
VALUES: dict[str, tuple[Any, Any, Any, Any]] = {
    "class": ("FISH", "FISH", {"eq": "FISH"}, "BEAST"),
    "order": (-5, -5, {"lt": 0}, 6),
    "from": ("here", "here", {"startsWith": "he"}, "x" * 11),
    "group": ("2026-02-28", "2026-02-28", {"gte": "2026-02-28"}, "2026-02-29"),
    "population": (2**53 - 1, 2**53 - 1, {"gt": 2**31}, 2**53),
    "weight": (1.5, 1.5, {"lte": 1.5}, -0.5),
    "price": ("9999.99", "9999.99", {"in": ["9999.990"]}, "0.001"),
    "tame": (True, True, {"eq": True}, "yes"),
    "born": ("2000-01-01", "2000-01-01", {"eq": "2000-01-01"}, "1999-12-31"),
    "seen": (
        "2026-01-01T01:00:00+01:00",
        "2026-01-01T00:00:00.000000+00:00",
        {"lt": "2026-01-01T00:00:01Z"},
        "yesterday",
    ),
    "chip": (str(UUID(int=7)), "00000000-0000-0000-0000-000000000007", {"isNull": False}, "7"),
    "notes": ({"a": [1.10, None]}, {"a": [1.1, None]}, None, None),
    "nicknames": (["b", "a", "b"], ["b", "a", "b"], None, [None]),
    "sizes": ([3, -1], [3, -1], None, ["3"]),
    "kin": (["FISH", "BIRD", "FISH"], ["FISH", "BIRD", "FISH"], None, ["a fish"]),
    "herds": ([2**53 - 1, -1], [2**53 - 1, -1], None, [2**53]),
    "weights": ([0.1, 1e308, 0], [0.1, 1e308, 0], None, ["1"]),
    "fees": (["9999.99", "-1.50"], ["9999.99", "-1.5"], None, ["1.001"]),
    "flags": ([True, False], [True, False], None, [1]),
    # The minimum and maximum; PostgreSQL also has infinity beyond them.
    "visits": (
        ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"],
        ["0001-01-01T00:00:00.000000+00:00", "9999-12-31T23:59:59.999999+00:00"],
        None,
        ["yesterday"],
    ),
    "chips": ([str(UUID(int=7))] * 2, [str(UUID(int=7))] * 2, None, ["7"]),
    "holidays": (["0001-01-01", "9999-12-31"], ["0001-01-01", "9999-12-31"], None, ["2026-02-29"]),
}


async def made(client: Client, name: str, **more: Any) -> dict[str, Any]:
    animal: dict[str, Any] = (await client.ask(CREATE, {"input": {"name": name, **more}})).data["createAnimal"][
        "animal"
    ]
    return animal


async def caged(client: Client, number: int) -> str:
    answer = await client.ask(f"mutation {{ createCage(input: {{number: {number}}}) {{ cage {{ id }} }} }}")
    return str(answer.data["createCage"]["cage"]["id"])


async def names(client: Client, filter_: Any = None, *by: Any) -> list[str]:
    answer = await client.ask(FOUND, {"filter": filter_, "by": list(by)} if filter_ is not None else {"by": list(by)})
    return [each["name"] for each in answer.data["animals"]["nodes"]]


def test_all_of_the_schema_is_described() -> None:
    assert undescribed(model.schema) == []
    described = dict(parts(model.schema))
    assert described["Class"] == "What an animal is."
    assert (described["Class.BIRD"], described["Class.FISH"]) == ("It flies.", "The value fish.")
    assert described["MoveAnimalInput.toId"] == "The id of a cage."
    assert (
        described["Animal.price"]
        == "The price: a decimal, at least 0, of 6 digits, 2 after the point, by default 1.50."
    )


async def test_what_is_deprecated_says_so_to_clients(alice: Client) -> None:
    asked = """{ __type(name: "Animal") { fields(includeDeprecated: true) { name deprecationReason } } }"""
    fields = (await alice.ask(asked)).data["__type"]["fields"]
    deprecated = {each["name"]: each["deprecationReason"] for each in fields if each["deprecationReason"]}
    assert deprecated == {"from": "Use cage.", "likedBy": "Use friends."}
    asked = """{ __type(name: "Class") { enumValues(includeDeprecated: true) { name deprecationReason } } }"""
    values = (await alice.ask(asked)).data["__type"]["enumValues"]
    assert {each["name"]: each["deprecationReason"] for each in values} == {
        "BIRD": None,
        "FISH": "Fish are kept elsewhere.",
    }
    asked = """{ __type(name: "Mutation") { fields(includeDeprecated: true) { name deprecationReason } } }"""
    mutations = (await alice.ask(asked)).data["__type"]["fields"]
    deprecated = {each["name"]: each["deprecationReason"] for each in mutations if each["deprecationReason"]}
    assert deprecated == {"moveAnimal": "Use updateAnimal."}
    printed = schema.as_str()
    assert 'FISH @deprecated(reason: "Fish are kept elsewhere.")' in printed
    # As a field, also of what was shared, and in the inputs to make, change, upsert and filter.
    assert printed.count('@deprecated(reason: "Use cage.")') == 6
    # As a field, and in the filter.
    assert printed.count('@deprecated(reason: "Use friends.")') == 2


async def test_omitted_values_get_their_defaults(alice: Client) -> None:
    animal = await made(alice, "plain")
    assert animal == {"id": animal["id"], "name": "plain", **DEFAULTS}


@pytest.mark.parametrize("field", VALUES)
async def test_a_column_is_created_read_filtered_and_updated(alice: Client, field: str) -> None:
    value, answered, filter_, wrong = VALUES[field]
    plain = await made(alice, "plain")
    made_so = await made(alice, "made", **{field: value})
    changed = (await alice.ask(UPDATE, {"input": {"id": plain["id"], field: value} | _free(field)})).data
    assert made_so[field] == answered
    assert changed["updateAnimal"]["animal"][field] == _free(field).get(field, answered)
    if filter_ is not None:
        assert await names(alice, {field: filter_}) == ["made", "plain"]
    if wrong is not None:
        for document, about in ((CREATE, {"name": "wrong"}), (UPDATE, {"id": made_so["id"]})):
            refused = await alice.ask(document, {"input": {**about, field: wrong}})
            assert refused.code == "BAD_USER_INPUT"
    assert await names(alice) == ["made", "plain"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("group", "0001-01-01"),
        ("group", "9999-12-31"),
        ("seen", "0001-01-01T00:00:00.000000+00:00"),
        ("seen", "9999-12-31T23:59:59.999999+00:00"),
    ],
)
async def test_the_first_and_the_last_of_all_days_and_moments_are_like_others(
    alice: Client, field: str, value: str
) -> None:
    assert (await made(alice, "made", **{field: value}))[field] == value
    await made(alice, "other", **{field: "2026-01-01" if field == "group" else "2026-01-01T00:00:00Z"})
    assert await names(alice, {field: {"eq": value}}) == ["made"]
    assert await names(alice, {"not": {field: {"eq": value}}}) == ["other"]
    several = await alice.ask(
        "mutation ($items: [CreateAnimalInput!]!) { createAnimals(input: {items: $items}) { createdIds } }",
        {"items": [{"name": "third", field: value}, {"name": "fourth", field: value}]},
    )
    assert len(several.data["createAnimals"]["createdIds"]) == 2
    assert await names(alice, {field: {"in": [value]}}) == ["fourth", "made", "third"]


def _free(field: str) -> dict[str, Any]:
    """A chip belongs to one animal: assigning it to another removes it from the first."""
    return {field: str(UUID(int=8))} if field == "chip" else {}


@pytest.mark.parametrize("field", ["population", "weight", "born", "cageId", "sizes", "from", *LISTS])
async def test_nullable_columns_accept_null_and_others_keep_their_values(alice: Client, field: str) -> None:
    value = await caged(alice, 1) if field == "cageId" else VALUES[field][0]
    animal = await made(alice, "one", **{field: value})
    emptied = (await alice.ask(UPDATE, {"input": {"id": animal["id"], field: None}})).data["updateAnimal"]["animal"]
    assert emptied[field.removesuffix("Id")] is None
    refused = await alice.ask(UPDATE, {"input": {"id": animal["id"], "name": None}})
    assert refused.code == "BAD_USER_INPUT"
    assert "null" in refused.error["message"]


async def test_clients_cannot_set_read_only_private_and_owner_columns(alice: Client) -> None:
    for field in ("ring", "secret", "keeperId"):
        answer = await alice.ask(CREATE, {"input": {"name": "one", field: "x"}})
        assert answer.code == "BAD_USER_INPUT"
    assert await names(alice) == []
    assert (await alice.ask("{ animals { nodes { secret } } }")).code == "BAD_USER_INPUT"


async def test_rows_are_ordered_by_indexed_columns(alice: Client) -> None:
    for name, order, seen in (("b", 1, None), ("a", 2, "2026-01-02T00:00:00Z"), ("c", 1, "2026-01-01T00:00:00Z")):
        await made(alice, name, order=order, seen=seen)
    assert await names(alice) == ["a", "b", "c"]
    by_order, by_name = {"field": "ORDER", "direction": "DESC"}, {"field": "NAME"}
    assert await names(alice, None, by_order, by_name) == ["a", "b", "c"]
    assert await names(alice, None, {"field": "SEEN"}) == ["c", "a", "b"]
    assert (await alice.ask(FOUND, {"by": [{"field": "WEIGHT"}]})).code == "BAD_USER_INPUT"


async def test_unique_is_unique_in_a_tenant(alice: Client, bob: Client) -> None:
    await caged(alice, 1)
    answer = await alice.ask("mutation { createCage(input: {number: 1}) { cage { id } } }")
    assert (answer.code, answer.error["extensions"]["field"]) == ("CONFLICT", "input.number")
    assert await caged(bob, 1)


async def test_a_unique_combination_is_refused_only_as_a_whole(alice: Client) -> None:
    one, two = await caged(alice, 1), await caged(alice, 2)
    for cage in (one, two):
        await made(alice, "same", cageId=cage)
    await made(alice, "other", cageId=one)
    assert (await alice.ask(CREATE, {"input": {"name": "same", "cageId": one}})).code == "CONFLICT"
    assert await names(alice) == ["other", "same", "same"]


async def test_a_violated_check_is_named(alice: Client) -> None:
    answer = await alice.ask(CREATE, {"input": {"name": "one", "class": "FISH", "tame": True}})
    assert (answer.code, answer.error["message"]) == (
        "BAD_USER_INPUT",
        "animals: the value violates the rule tame fish",
    )
    assert await names(alice) == []


async def test_on_delete_restricts_sets_null_or_cascades(alice: Client) -> None:
    cage = await caged(alice, 1)
    mother = await made(alice, "mother", cageId=cage)
    child = await made(alice, "child", motherId=mother["id"])
    delete = "mutation ($id: ID!) { deleteAnimal(input: {id: $id}) { deletedId } }"
    assert (await alice.ask(delete, {"id": mother["id"]})).code == "CONFLICT"
    await alice.ask("mutation ($id: ID!) { deleteCage(input: {id: $id}) { deletedId } }", {"id": cage})
    assert await names(alice, {"cageId": {"isNull": True}}) == ["child", "mother"]
    write = 'mutation ($id: ID) { createDiary(input: {text: "t", animalId: $id}) { diary { animal { name } } } }'
    assert (await alice.ask(write, {"id": child["id"]})).data["createDiary"]["diary"]["animal"] == {"name": "child"}
    assert (await alice.ask(delete, {"id": child["id"]})).data
    assert (await alice.ask("{ diaries { totalCount } }")).data["diaries"]["totalCount"] == 0


@pytest.mark.parametrize("key", ["anm_00000000-0000-7000-8000-000000000001", "cag_1", "usr", ""])
async def test_a_reference_to_a_missing_row_is_refused(alice: Client, key: str) -> None:
    answer = await alice.ask(CREATE, {"input": {"name": "one", "motherId": key}})
    assert answer.code == ("NOT_FOUND" if key.startswith("anm_") else "BAD_USER_INPUT")
    assert answer.error["extensions"]["field"] == "input.motherId"
    assert await names(alice) == []


async def test_a_reference_to_another_tenants_row_has_the_same_error_as_a_missing_one(
    alice: Client, bob: Client
) -> None:
    foreign = await made(bob, "foreign")
    answer = await alice.ask(CREATE, {"input": {"name": "one", "motherId": foreign["id"]}})
    assert (answer.code, answer.error["message"]) == ("NOT_FOUND", "there is no such animal")


async def test_relations_lead_both_ways_also_to_the_same_subject(alice: Client) -> None:
    cage = await caged(alice, 1)
    mother = await made(alice, "mother", cageId=cage)
    for name in ("a", "b"):
        await made(alice, name, motherId=mother["id"])
    found = (
        await alice.ask("{ cages { nodes { animals { nodes { children { nodes { name mother { name } } } } } } } }")
    ).data
    [kept] = found["cages"]["nodes"]
    [parent] = kept["animals"]["nodes"]
    assert parent["children"]["nodes"] == [{"name": name, "mother": {"name": "mother"}} for name in "ab"]


async def test_many_to_many_is_read_from_both_sides(alice: Client) -> None:
    one, two = await made(alice, "one"), await made(alice, "two")
    food = await alice.ask('mutation { createFood(input: {name: "hay"}) { food { id } } }')
    hay = food.data["createFood"]["food"]["id"]
    befriend = """mutation ($input: AddAnimalFriendsInput!) { addAnimalFriends(input: $input) {
      animal { friends { nodes { name likedBy { nodes { name } } } } } } }"""
    friends = {"animalId": one["id"], "otherAnimalId": two["id"]}
    answer = await alice.ask(befriend, {"input": friends})
    both = {"nodes": [{"name": "two", "likedBy": {"nodes": [{"name": "one"}]}}]}
    assert answer.data["addAnimalFriends"]["animal"]["friends"] == both
    missing = {**friends, "otherAnimalId": "anm_00000000-0000-7000-8000-000000000001"}
    refused = await alice.ask(befriend, {"input": missing})
    assert (refused.code, refused.error["extensions"]["field"]) == ("NOT_FOUND", "input.otherAnimalId")
    feed = "mutation ($input: AddAnimalFoodsInput!) { addAnimalFoods(input: $input) { animal { name } } }"
    for animal in (one, two):
        assert (await alice.ask(feed, {"input": {"animalId": animal["id"], "foodId": hay}})).data
    eaten = (await alice.ask("{ foods { nodes { animals(first: 1) { totalCount nodes { name } } } } }")).data["foods"]
    assert eaten["nodes"] == [{"animals": {"totalCount": 2, "nodes": [{"name": "one"}]}}]


async def test_a_rule_sees_values_as_the_row_has_them(alice: Client) -> None:
    cage = await caged(alice, 1)
    animal = await made(alice, "one", cageId=cage)
    refused = await alice.ask(UPDATE, {"input": {"id": animal["id"], "class": "FISH"}})
    assert (refused.code, refused.error["extensions"]["field"]) == ("CONFLICT", "input.class")
    free = (await alice.ask(UPDATE, {"input": {"id": animal["id"], "class": "FISH", "cageId": None, "order": 2}})).data
    assert (free["updateAnimal"]["animal"]["class"], free["updateAnimal"]["animal"]["ring"]) == ("FISH", "r2")


async def test_actions_take_values_and_rows(alice: Client, api: Api) -> None:
    cage = await caged(alice, 7)
    animal, other = await made(alice, "one"), await made(alice, "two")
    move = "mutation ($input: MoveAnimalInput!) { moveAnimal(input: $input) { animal { order cage { number } } } }"
    moved = await alice.ask(move, {"input": {"id": animal["id"], "toId": cage, "afterId": other["id"], "times": 3}})
    assert moved.data["moveAnimal"]["animal"] == {"order": -3, "cage": {"number": 7}}
    breed = (
        "mutation ($input: BreedAnimalInput!) { breedAnimal(input: $input) { animal { name class mother { name } } } }"
    )
    child = await alice.ask(breed, {"input": {"id": animal["id"], "name": "child", "class": "FISH"}})
    assert child.data["breedAnimal"]["animal"] == {"name": "child", "class": "FISH", "mother": {"name": "one"}}
    absent = await alice.ask(move, {"input": {"id": animal["id"], "toId": f"cag_{UUID(int=1)}"}})
    assert (absent.code, absent.error["extensions"]["field"]) == ("NOT_FOUND", "input.toId")
    empty = await alice.ask(move, {"input": {"id": animal["id"], "toId": cage, "times": None}})
    assert (empty.code, empty.error["extensions"]["field"]) == ("BAD_USER_INPUT", "input.times")
    # ``changes``: rows of others can be changed only with the permission.
    editor = api.client(alice.tenant, "ed", Role.EDITOR)
    assert (await editor.ask(move, {"input": {"id": animal["id"], "toId": cage}})).code == "FORBIDDEN"
    assert (await editor.ask(breed, {"input": {"id": animal["id"], "name": "x", "class": "FISH"}})).data


async def test_rows_that_a_user_may_not_see_are_not_there(alice: Client, api: Api) -> None:
    write = 'mutation { createDiary(input: {text: "mine"}) { diary { id } } }'
    mine = (await alice.ask(write)).data["createDiary"]["diary"]["id"]
    eve = api.client(alice.tenant, "eve")
    read = "query ($id: ID!) { diary(id: $id) { text } diaries { totalCount } }"
    assert (await eve.ask(read, {"id": mine})).data == {"diary": None, "diaries": {"totalCount": 0}}
    change = 'mutation ($id: ID!) { updateDiary(input: {id: $id, text: "hers"}) { diary { text } } }'
    assert (await eve.ask(change, {"id": mine})).code == "NOT_FOUND"
    several = "mutation ($items: [UpdateDiaryInput!]!) { updateDiaries(input: {items: $items}) { updatedIds } }"
    hers = (await eve.ask('mutation { createDiary(input: {text: "own"}) { diary { id } } }')).data["createDiary"][
        "diary"
    ]["id"]
    both = [{"id": hers, "text": "changed"}, {"id": mine, "text": "changed"}]
    assert (await eve.ask(several, {"items": both})).code == "NOT_FOUND"
    gone = "mutation ($ids: [ID!]!) { deleteDiaries(input: {ids: $ids}) { deletedIds } }"
    assert (await eve.ask(gone, {"ids": [hers, mine]})).code == "NOT_FOUND"
    node = "query ($ids: [ID!]!) { nodes(ids: $ids) { id } diaries { nodes { text } } }"
    assert (await eve.ask(node, {"ids": [hers, mine]})).data == {
        "nodes": [{"id": hers}, None],
        "diaries": {"nodes": [{"text": "own"}]},
    }
    assert (await alice.ask(read, {"id": mine})).data == {"diary": {"text": "mine"}, "diaries": {"totalCount": 1}}


async def test_a_row_that_its_change_hides_is_changed_and_not_shown(alice: Client) -> None:
    write = 'mutation { createDiary(input: {text: "mine"}) { diary { id } } }'
    mine = (await alice.ask(write)).data["createDiary"]["diary"]["id"]
    seal = "mutation ($id: ID!) { updateDiary(input: {id: $id, sealed: true}) { diary { text } } }"
    assert (await alice.ask(seal, {"id": mine})).data == {"updateDiary": {"diary": None}}
    assert (await alice.ask(seal, {"id": mine})).code == "NOT_FOUND"


async def test_up_to_a_thousand_rows_are_made_changed_and_deleted_all_or_none(alice: Client) -> None:
    create = "mutation ($input: CreateAnimalsInput!) { createAnimals(input: $input) { createdIds } }"
    many = [{"name": f"n{number}", "order": number % 5, "nicknames": ["x"]} for number in range(1000)]
    for wrong in ([*many[:-1], {"name": "", "order": 0}], [*many, {"name": "too many"}], []):
        assert (await alice.ask(create, {"input": {"items": wrong}})).code == "BAD_USER_INPUT"
        assert await names(alice) == []
    ids = (await alice.ask(create, {"input": {"items": many}})).data["createAnimals"]["createdIds"]
    assert len(set(ids)) == 1000
    first = await alice.ask("query ($id: ID!) { animal(id: $id) { name nicknames } }", {"id": ids[0]})
    assert first.data["animal"] == {"name": "n0", "nicknames": ["x"]}

    update = "mutation ($input: UpdateAnimalsInput!) { updateAnimals(input: $input) { updatedIds } }"
    changes = [{"id": each, "order": -1} for each in ids]
    gone = {"id": "anm_00000000-0000-7000-8000-000000000001", "order": -1}
    assert (await alice.ask(update, {"input": {"items": [*changes[:-1], gone]}})).code == "NOT_FOUND"
    count = "{ animals(filter: {order: {lt: 0}}) { totalCount } }"
    assert (await alice.ask(count)).data["animals"]["totalCount"] == 0
    assert (await alice.ask(update, {"input": {"items": changes}})).data["updateAnimals"]["updatedIds"] == ids
    assert (await alice.ask(count)).data["animals"]["totalCount"] == 1000

    delete = "mutation ($input: DeleteAnimalsInput!) { deleteAnimals(input: $input) { deletedIds } }"
    assert (await alice.ask(delete, {"input": {"ids": [*ids[:-1], gone["id"]]}})).code == "NOT_FOUND"
    assert (await alice.ask(count)).data["animals"]["totalCount"] == 1000
    assert (await alice.ask(delete, {"input": {"ids": ids}})).data["deleteAnimals"]["deletedIds"] == ids
    assert (await alice.ask(count)).data["animals"]["totalCount"] == 0


def silent(*_: object) -> None:
    """Nobody watches."""


async def test_rows_are_imported_with_the_fields_of_the_input(alice: Client, copy: Copy, tmp_path: Path) -> None:
    file = tmp_path / "animals.jsonl"
    given = {name: value for name, (value, *_) in VALUES.items() if name not in {"class", "tame"}}
    lines = [
        {"name": "whole", **given},
        {"name": "wrong", "order": 6},
        {"name": "kept", "ring": "x"},
        {"name": "lost", "cageId": "cag_00000000-0000-7000-8000-000000000001"},
        {"name": "plain"},
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    async with await Database.open(copy.where.control) as control:
        tenant = await provisioning.named(control, alice.tenant)
    async with await Database.open(copy.where.tenant, copy.strategies, copy.binding_key) as database:
        outcome = await importing.load(
            database, tenant, Animal, file, owner="ada", strict=False, from_line=1, progress=silent
        )
    assert outcome.loaded == 2
    assert [number for number, _ in outcome.bad] == [2, 3, 4]
    assert outcome.bad[2] == (4, "cageId: there is no such cage")
    assert await names(alice) == ["plain", "whole"]
    found = (await alice.ask(f'{{ animals(filter: {{name: {{eq: "whole"}}}}) {{ nodes {{ {ANIMAL} }} }} }}')).data
    [whole] = found["animals"]["nodes"]
    answered = {name: shown for name, (_, shown, *_) in VALUES.items() if name in given}
    assert {name: whole[name] for name in answered} == answered


async def test_the_quota_counts_the_rows_of_its_condition(alice: Client) -> None:
    for name, tame in (("a", True), ("b", False), ("c", True)):
        await made(alice, name, tame=tame)
    quotas = (await alice.ask("{ viewer { plan { quotas { nodes { name used } } } } }")).data["viewer"]["plan"][
        "quotas"
    ]
    assert {"name": "ANIMALS", "used": 2} in quotas["nodes"]


@pytest.mark.parametrize(
    ("wrong", "code", "field"),
    [
        ({"name": ""}, "BAD_USER_INPUT", "input.items.1.name"),
        ({"name": "b", "order": 6}, "BAD_USER_INPUT", "input.items.1.order"),
        ({"name": "b", "cageId": "cag_1"}, "BAD_USER_INPUT", "input.items.1.cageId"),
        ({"name": "b", "cageId": "cag_00000000-0000-7000-8000-000000000001"}, "NOT_FOUND", "input.items.1.cageId"),
        ({"name": "b", "nicknames": ["a", "\0"]}, "BAD_USER_INPUT", "input.items.1.nicknames.1"),
        ({"name": "c", "chip": str(UUID(int=1))}, "CONFLICT", "input.items.2.chip"),
        ({"name": "b", "chip": str(UUID(int=9))}, "CONFLICT", "input.items.1.chip"),
        # In a statement for all rows, the database does not report which row violates a check.
        ({"name": "b", "class": "FISH", "tame": True}, "BAD_USER_INPUT", "input.items"),
    ],
)
async def test_an_invalid_item_of_several_is_named_by_its_index(
    alice: Client, wrong: dict[str, Any], code: str, field: str
) -> None:
    create = "mutation ($items: [CreateAnimalInput!]!) { createAnimals(input: {items: $items}) { createdIds } }"
    await made(alice, "first", chip=str(UUID(int=9)))
    items = [{"name": "a"}, wrong, {"name": "c", "chip": str(UUID(int=1))}]
    answer = await alice.ask(create, {"items": items})
    assert (answer.code, answer.error["extensions"]["field"]) == (code, field)
    assert await names(alice) == ["first"]


async def test_an_item_that_violates_a_unique_pair_is_named_by_its_index(alice: Client, bob: Client) -> None:
    create = "mutation ($items: [CreateAnimalInput!]!) { createAnimals(input: {items: $items}) { createdIds } }"
    cage, others = await caged(alice, 1), await caged(bob, 1)
    await made(bob, "a", cageId=others)
    several = [{"name": "a"}, {"name": "a"}, {"name": "a", "cageId": cage}, {"name": "b", "cageId": cage}]
    assert len((await alice.ask(create, {"items": several})).data["createAnimals"]["createdIds"]) == 4
    for items, place in (
        ([{"name": "c"}, {"name": "a"}, {"name": "b", "cageId": cage}], 2),
        ([{"name": "c", "cageId": cage}, {"name": "a"}, {"name": "d"}, {"name": "c", "cageId": cage}], 3),
    ):
        refused = await alice.ask(create, {"items": items})
        assert (refused.code, refused.error["extensions"]["field"]) == ("CONFLICT", f"input.items.{place}.cageId")
    assert await names(alice) == ["a", "a", "a", "b"]


async def test_an_invalid_change_of_several_is_named_by_its_index(alice: Client, api: Api) -> None:
    one, two = await made(alice, "one"), await made(alice, "two", cageId=await caged(alice, 1))
    gone = "anm_00000000-0000-7000-8000-000000000001"
    update = "mutation ($items: [UpdateAnimalInput!]!) { updateAnimals(input: {items: $items}) { updatedIds } }"
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"id": gone}, "NOT_FOUND", "input.items.1"),
        ({"id": "anm"}, "BAD_USER_INPUT", "input.items.1.id"),
        ({"id": two["id"], "class": "FISH"}, "CONFLICT", "input.items.1.class"),
        ({"id": two["id"], "motherId": gone}, "NOT_FOUND", "input.items.1.motherId"),
    ]
    for wrong, code, field in cases:
        answer = await alice.ask(update, {"items": [{"id": one["id"], "name": "other"}, wrong]})
        assert (answer.code, answer.error["extensions"]["field"]) == (code, field)
    delete = "mutation ($ids: [ID!]!) { deleteAnimals(input: {ids: $ids}) { deletedIds } }"
    for wrong_id, code in ((gone, "NOT_FOUND"), ("anm", "BAD_USER_INPUT")):
        answer = await alice.ask(delete, {"ids": [two["id"], one["id"], wrong_id]})
        assert (answer.code, answer.error["extensions"]["field"]) == (code, "input.ids.2")
    eve = api.client(alice.tenant, "eve", Role.EDITOR)
    hers = await made(eve, "hers")
    answer = await eve.ask(delete, {"ids": [hers["id"], two["id"]]})
    assert (answer.code, answer.error["extensions"]["field"]) == ("FORBIDDEN", "input.ids.1")
    assert await names(alice) == ["hers", "one", "two"]


async def test_the_missing_one_of_two_rows_is_named(alice: Client) -> None:
    animal, gone = (await made(alice, "one"))["id"], "00000000-0000-7000-8000-000000000001"
    food = (await alice.ask('mutation { createFood(input: {name: "hay"}) { food { id } } }')).data["createFood"]["food"]
    pair = "mutation ($a: ID!, $f: ID!) { %sAnimalFoods(input: {animalId: $a, foodId: $f}) { animal { id } } }"
    for verb, one, other, field in (
        ("add", f"anm_{gone}", food["id"], "animalId"),
        ("add", animal, f"fod_{gone}", "foodId"),
        ("remove", f"anm_{gone}", food["id"], "animalId"),
        ("remove", animal, food["id"], "foodId"),
    ):
        answer = await alice.ask(pair % verb, {"a": one, "f": other})
        assert (answer.code, answer.error["extensions"]["field"]) == ("NOT_FOUND", f"input.{field}")


async def test_a_decimal_is_compared_with_all_its_digits(alice: Client) -> None:
    await made(alice, "one", price="77.50")
    for filter_, found in (
        ({"eq": "77.499"}, []),
        ({"in": ["77.499"]}, []),
        ({"gt": "77.495"}, ["one"]),
        ({"lt": "77.504"}, ["one"]),
        ({"lt": "1E+200"}, ["one"]),
        ({"eq": "77.5"}, ["one"]),
    ):
        assert await names(alice, {"price": filter_}) == found
    answer = await alice.ask(FOUND, {"filter": {"price": {"eq": "1E+2000"}}})
    assert (answer.code, answer.error["extensions"]["field"]) == ("BAD_USER_INPUT", "filter.price.eq")


async def test_a_decimal_that_is_sent_as_a_number_keeps_its_digits(alice: Client) -> None:
    # As a float, this one is 1.0000000000000000.
    exact = "1.00000000000000001"
    literal = await alice.ask(
        f'mutation {{ createAnimal(input: {{name: "one", price: {exact}}}) {{ animal {{ id }} }} }}'
    )
    assert (literal.code, literal.error["extensions"]["field"]) == ("BAD_USER_INPUT", "input.price")
    body = exact_json.dumps({"query": CREATE, "variables": {"input": {"name": "one", "price": Decimal(exact)}}})
    sent = await alice.send(body)
    assert (sent.code, sent.error["extensions"]["field"]) == ("BAD_USER_INPUT", "input.price")
    assert await names(alice) == []


LOG = "query ($of: AuditFilter) { auditLog(filter: $of) { nodes { action object old new withheld } } }"


async def test_the_log_has_no_private_values(alice: Client) -> None:
    await made(alice, "one")
    [entry] = (await alice.ask(LOG, {"of": {"action": {"eq": "animal:create"}}})).data["auditLog"]["nodes"]
    assert "secret" not in entry["new"]
    assert entry["new"]["ring"] == "none"


async def test_pairs_and_references_of_a_hidden_row_are_hidden(alice: Client, api: Api) -> None:
    food = (await alice.ask('mutation { createFood(input: {name: "hay"}) { food { id } } }')).data["createFood"]["food"]
    write = 'mutation { createDiary(input: {text: "mine"}) { diary { id } } }'
    mine = (await alice.ask(write)).data["createDiary"]["diary"]["id"]
    pair = "mutation ($d: ID!, $f: ID!) { %sDiaryFoods(input: {diaryId: $d, foodId: $f}) { diary { id } } }"
    for verb in ("add", "remove", "add"):
        assert (await alice.ask(pair % verb, {"d": mine, "f": food["id"]})).data
    read = "query ($f: ID!) { food(id: $f) { diaries { totalCount nodes { text } } } }"
    of = {"of": {"action": {"startsWith": "diary_foods"}}}
    both = {"diary_id": mine.removeprefix("dia_"), "food_id": food["id"].removeprefix("fod_")}
    assert (await alice.ask(read, {"f": food["id"]})).data["food"]["diaries"]["totalCount"] == 1
    for entry in (await alice.ask(LOG, of)).data["auditLog"]["nodes"]:
        values = entry["new"] or entry["old"]
        assert {name: values[name] for name in both} == both

    eve = api.client(alice.tenant, "eve")
    assert (await eve.ask(read, {"f": food["id"]})).data == {"food": {"diaries": {"totalCount": 0, "nodes": []}}}
    hidden = {"object": mine, "old": None, "new": None, "withheld": True}
    assert (await eve.ask(LOG, of)).data["auditLog"]["nodes"] == [
        {"action": f"diary_foods:{what}", **hidden} for what in ("create", "delete", "create")
    ]
    for verb in ("add", "remove"):
        answer = await eve.ask(pair % verb, {"d": mine, "f": food["id"]})
        assert (answer.code, answer.error["extensions"]["field"]) == ("NOT_FOUND", "input.diaryId")
