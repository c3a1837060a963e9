"""Upserts over HTTP under each strategy: tests/subjects/test_zoo.py runs this with the zoo."""

import asyncio
from itertools import permutations
from random import Random
from typing import Any
from uuid import UUID

from sqlalchemy import update

from isola.api.schema import model, schema
from isola.platform import provisioning
from isola.subjects.permissions import Role
from isola.testing.served import Answer, Api, Client
from tests.subjects.nouns.quotas import allow
from tests.subjects.zoo.subjects import Cage

ANIMAL = "id name order price tame chip nicknames ring keeper { name } cage { number } updatedAt"
MANY = "mutation ($input: UpsertAnimalsInput!) { upsertAnimals(input: $input) { upsertedIds createdIds } }"
CAGES = "mutation ($input: UpsertCagesInput!) { upsertCages(input: $input) { upsertedIds createdIds } }"
UPSERT = f"""mutation ($input: UpsertAnimalInput!) {{
  upsertAnimal(input: $input) {{ created animal {{ {ANIMAL} }} }} }}"""
DIARY = "mutation ($input: UpsertDiaryInput!) { upsertDiary(input: $input) { created diary { id text place } } }"
CREATE_DIARY = "mutation ($input: CreateDiaryInput!) { createDiary(input: $input) { diary { id } } }"
CAGE = "mutation ($number: Int!) { upsertCage(input: {number: $number}) { created cage { id } } }"
LOG = "{ auditLog(first: 100) { nodes { action } } }"
CHIP = str(UUID(int=7))
AT_ONCE = 20
STALE = "2026-01-01T00:00:00.000000+00:00"


async def upserted(client: Client, **values: Any) -> dict[str, Any]:
    answer = await client.ask(UPSERT, {"input": {"by": "CHIP", "chip": CHIP, **values}})
    return dict(answer.data["upsertAnimal"])


async def logged(client: Client, subject: str) -> list[str]:
    """The entries about a subject, oldest first."""
    entries = [each["action"] for each in (await client.ask(LOG)).data["auditLog"]["nodes"]]
    return [each for each in reversed(entries) if each.startswith(f"{subject}:")]


def refusal(answer: Answer) -> tuple[str, str, str | None]:
    return answer.code, answer.error["message"], answer.error["extensions"].get("field")


async def test_a_row_is_made_with_defaults_and_then_changed_where_values_are_given(
    alice: Client, bob: Client, api: Api
) -> None:
    await upserted(bob, name="bobs")
    of_bob = await api.content(bob.tenant)
    await allow(api.control, await provisioning.named(api.control, alice.tenant), animals=1)
    body = {
        "query": UPSERT,
        "variables": {"input": {"by": "CHIP", "chip": CHIP, "name": "one", "tame": True, "nicknames": ["a"]}},
    }
    # A repetition with the same idempotency key gets the first answer.
    answers = [await alice.request("POST", json=body, headers={"idempotency-key": "one"}) for _ in range(2)]
    assert answers[0].response.content == answers[1].response.content
    first = answers[0].data["upsertAnimal"]
    second = await upserted(alice, name="two", order=3)
    assert (first["created"], second["created"]) == (True, False)
    assert (first["animal"]["order"], first["animal"]["price"], first["animal"]["ring"]) == (0, "1.5", "none")
    # What is omitted is kept; the rules of changes apply.
    changed = {"name": "two", "order": 3, "ring": "r3", "updatedAt": second["animal"]["updatedAt"]}
    assert second["animal"] == {**first["animal"], **changed}
    assert second["animal"]["updatedAt"] > first["animal"]["updatedAt"]
    assert await logged(alice, "animal") == ["animal:create", "animal:update"]
    # The quota counts only what is created.
    other = {"by": "CHIP", "chip": str(UUID(int=8)), "name": "more", "tame": True}
    assert (await alice.ask(UPSERT, {"input": other})).code == "QUOTA_EXCEEDED"
    assert await logged(alice, "animal") == ["animal:create", "animal:update"]
    assert await api.content(bob.tenant) == of_bob


async def test_a_row_is_found_by_a_unique_combination(alice: Client) -> None:
    one, two = [(await alice.ask(CAGE, {"number": number})).data["upsertCage"]["cage"]["id"] for number in (1, 2)]
    about = {"by": "NAME_AND_CAGE_ID", "name": "same"}
    for cage, order, created in ((one, 1, True), (two, 2, True), (one, 3, False)):
        answer = await alice.ask(UPSERT, {"input": {**about, "cageId": cage, "order": order}})
        assert answer.data["upsertAnimal"]["created"] == created
    found = await alice.ask("{ animals(orderBy: [{field: ORDER}]) { nodes { order cage { number } } } }")
    assert found.data["animals"]["nodes"] == [
        {"order": 2, "cage": {"number": 2}},
        {"order": 3, "cage": {"number": 1}},
    ]


async def test_what_is_wrong_is_named_and_nothing_is_changed(alice: Client, api: Api) -> None:
    cage = (await alice.ask(CAGE, {"number": 1})).data["upsertCage"]["cage"]["id"]
    await upserted(alice, name="one", cageId=cage)
    await upserted(alice, name="other", chip=str(UUID(int=8)), cageId=cage)
    before = await api.content(alice.tenant)
    by_chip, by_both = {"by": "CHIP", "name": "new"}, {"by": "NAME_AND_CAGE_ID", "name": "new"}
    for sent, code, field in (
        (by_chip, "BAD_USER_INPUT", "chip"),
        ({**by_chip, "chip": None}, "BAD_USER_INPUT", "chip"),
        (by_both, "BAD_USER_INPUT", "cageId"),
        ({**by_chip, "chip": CHIP, "order": 6}, "BAD_USER_INPUT", "order"),
        ({**by_chip, "chip": CHIP, "order": None}, "BAD_USER_INPUT", "order"),
        ({**by_chip, "chip": CHIP, "motherId": f"anm_{UUID(int=1)}"}, "NOT_FOUND", "motherId"),
        # What belongs to another one than that which is changed, or than the new one.
        ({**by_chip, "chip": CHIP, "name": "other"}, "CONFLICT", "name"),
        ({**by_both, "chip": CHIP, "cageId": cage}, "CONFLICT", "chip"),
        # A rule of changes.
        ({**by_chip, "chip": CHIP, "class": "FISH"}, "CONFLICT", "class"),
    ):
        answer = await alice.ask(UPSERT, {"input": sent})
        assert (answer.code, answer.error["extensions"]["field"]) == (code, f"input.{field}")
        assert CHIP not in answer.response.text
    assert await api.content(alice.tenant) == before


async def test_who_may_not_create_or_change_a_row_does_neither(alice: Client, api: Api) -> None:
    viewer, editor = api.client(alice.tenant, "vera", Role.VIEWER), api.client(alice.tenant, "ed", Role.EDITOR)
    sent = {"input": {"by": "CHIP", "chip": CHIP, "name": "hers"}}
    for each in (viewer, editor):
        await each.ask("{ animals { totalCount } }")
    before = await api.content(alice.tenant)
    assert refusal(await viewer.ask(UPSERT, sent)) == ("FORBIDDEN", "this needs the permission animal:write", None)
    assert await api.content(alice.tenant) == before

    await upserted(alice, name="adas")
    before = await api.content(alice.tenant)
    for each in (viewer, editor):
        assert (await each.ask(UPSERT, sent)).code == "FORBIDDEN"
    assert await api.content(alice.tenant) == before

    other = {"chip": str(UUID(int=8))}
    assert (await upserted(editor, name="eds", **other))["created"]
    assert not (await upserted(editor, name="still eds", **other))["created"]
    # Those who may manage all change rows of others, and do not become their owners.
    changed = await upserted(alice, name="managed", **other)
    assert (changed["created"], changed["animal"]["name"]) == (False, "managed")
    assert changed["animal"]["keeper"] == {"name": "ed"}


async def test_a_row_that_is_hidden_is_refused_as_when_it_is_created(alice: Client, api: Api) -> None:
    eve = api.client(alice.tenant, "eve")
    hers = await eve.ask(DIARY, {"input": {"code": "taken", "text": "secret of eve", "place": "here"}})
    key = hers.data["upsertDiary"]["diary"]["id"]
    await alice.ask("{ diaries { totalCount } }")
    before = await api.content(alice.tenant)
    sent = {"code": "taken", "text": "mine"}
    as_created = await alice.ask(CREATE_DIARY, {"input": sent})
    for more in ({}, {"place": "here"}, {"place": "there"}):
        answer = await alice.ask(DIARY, {"input": {**sent, **more}})
        assert refusal(answer) == refusal(as_created)
        assert refusal(answer) == ("CONFLICT", "diaries: there is one with the same code already", "input.code")
        assert answer.body["data"] == {"upsertDiary": None}
        assert key not in answer.response.text
        assert "secret" not in answer.response.text
    stale = {"input": {**sent, "expectedUpdatedAt": STALE}}
    free = {"input": {**sent, "code": "free", "expectedUpdatedAt": STALE}}
    assert refusal(await alice.ask(DIARY, stale)) == refusal(await alice.ask(DIARY, free))
    assert await api.content(alice.tenant) == before
    # Also one that its own change hides.
    assert (await alice.ask(DIARY, {"input": {**sent, "code": "mine"}})).data["upsertDiary"]["created"]
    seal = {"input": {**sent, "code": "mine", "sealed": True}}
    assert (await alice.ask(DIARY, seal)).data["upsertDiary"] == {"created": False, "diary": None}
    assert (await alice.ask(DIARY, seal)).code == "CONFLICT"


async def test_fixed_columns_keep_their_values(alice: Client, api: Api) -> None:
    about = {"code": "mine", "text": "first"}
    await alice.ask(DIARY, {"input": {**about, "place": "here"}})
    before = await api.content(alice.tenant)
    for other in ("there", None):
        refused = await alice.ask(DIARY, {"input": {**about, "place": other}})
        assert (refused.code, refused.error["extensions"]["field"]) == ("BAD_USER_INPUT", "input.place")
    assert await api.content(alice.tenant) == before
    for more in ({"text": "second", "place": "here"}, {"text": "third"}):
        changed = (await alice.ask(DIARY, {"input": {**about, **more}})).data["upsertDiary"]["diary"]
        assert (changed["text"], changed["place"]) == (more["text"], "here")


async def test_a_version_that_is_not_current_changes_and_makes_nothing(alice: Client, api: Api) -> None:
    await alice.ask("{ animals { totalCount } }")
    sent = {"by": "CHIP", "chip": CHIP, "name": "one", "expectedUpdatedAt": STALE}
    for current in (None, "one"):
        if current:
            await upserted(alice, name=current)
        before = await api.content(alice.tenant)
        answer = await alice.ask(UPSERT, {"input": sent})
        assert (answer.code, answer.error["extensions"]["field"]) == ("CONFLICT", "input.expectedUpdatedAt")
        assert await api.content(alice.tenant) == before
    version = (await upserted(alice, name="two"))["animal"]["updatedAt"]
    assert (await upserted(alice, name="three", expectedUpdatedAt=version))["animal"]["name"] == "three"


async def test_of_many_at_once_one_creates_and_the_others_change(alice: Client) -> None:
    answers = await asyncio.gather(*(upserted(alice, name=f"n{number}") for number in range(AT_ONCE)))
    assert sorted(each["created"] for each in answers) == [False] * (AT_ONCE - 1) + [True]
    assert len({each["animal"]["id"] for each in answers}) == 1
    found = (await alice.ask("{ animals { totalCount nodes { id } } }")).data["animals"]
    assert (found["totalCount"], found["nodes"]) == (1, [{"id": answers[0]["animal"]["id"]}])
    assert await logged(alice, "animal") == ["animal:create"] + ["animal:update"] * (AT_ONCE - 1)


def animal(number: int, **values: Any) -> dict[str, Any]:
    return {"by": "CHIP", "chip": str(UUID(int=number)), "name": f"n{number}", **values}


async def test_many_are_made_or_changed_in_the_order_of_the_items(alice: Client, bob: Client, api: Api) -> None:
    await bob.ask(MANY, {"input": {"items": [animal(3), animal(1)]}})
    of_bob = await api.content(bob.tenant)
    one = (await upserted(alice, name="one", tame=True))["animal"]["id"]
    await allow(api.control, await provisioning.named(api.control, alice.tenant), animals=2)
    items = [animal(9, tame=True), animal(7, order=2), animal(1)]
    body = {"query": MANY, "variables": {"input": {"items": items}}}
    answers = [await alice.request("POST", json=body, headers={"idempotency-key": "one"}) for _ in range(2)]
    assert answers[0].response.content == answers[1].response.content
    ids = answers[0].data["upsertAnimals"]["upsertedIds"]
    assert ids[1] == one
    assert answers[0].data["upsertAnimals"]["createdIds"] == [ids[0], ids[2]]
    found = (await alice.ask("{ animals(orderBy: [{field: NAME}]) { nodes { id name tame ring } } }")).data["animals"]
    assert found["nodes"] == [
        {"id": ids[2], "name": "n1", "tame": False, "ring": "none"},
        {"id": one, "name": "n7", "tame": True, "ring": "r2"},
        {"id": ids[0], "name": "n9", "tame": True, "ring": "none"},
    ]
    assert sorted(await logged(alice, "animal")) == ["animal:create"] * 3 + ["animal:update"]
    # The quota counts only what is created; it refuses all.
    before = await api.content(alice.tenant)
    more = [animal(9), animal(10), animal(11, tame=True)]
    assert (await alice.ask(MANY, {"input": {"items": more}})).code == "QUOTA_EXCEEDED"
    assert await api.content(alice.tenant) == before
    assert await api.content(bob.tenant) == of_bob


async def test_what_is_wrong_in_one_of_many_is_named_and_nothing_is_changed(alice: Client, api: Api) -> None:
    cage = (await alice.ask(CAGE, {"number": 1})).data["upsertCage"]["cage"]["id"]
    assert (await alice.ask(MANY, {"input": {"items": [animal(1, cageId=cage), animal(2, cageId=cage)]}})).data
    before = await api.content(alice.tenant)
    by_both = {"by": "NAME_AND_CAGE_ID", "cageId": cage}
    for items, code, field in (
        ([animal(3), {"by": "CHIP", "name": "new"}], "BAD_USER_INPUT", ".1.chip"),
        ([animal(3), animal(4, order=6)], "BAD_USER_INPUT", ".1.order"),
        ([animal(1), animal(2, order=6)], "BAD_USER_INPUT", ".1.order"),
        ([animal(3), animal(4), animal(3)], "BAD_USER_INPUT", ".2"),
        ([animal(1), animal(2), animal(1)], "BAD_USER_INPUT", ".2"),
        # Two keys of one row, of one that exists and of a new one.
        ([animal(3), animal(1), {**by_both, "name": "n1"}], "BAD_USER_INPUT", ".2"),
        ([animal(3, cageId=cage), {**by_both, "name": "n3"}], "CONFLICT", ".0.cageId"),
        ([animal(3), animal(4, motherId=f"anm_{UUID(int=1)}")], "NOT_FOUND", ".1.motherId"),
        # Of a change, the database does not tell which item it was.
        ([animal(3), animal(1, name="n2")], "CONFLICT", ""),
        ([animal(3), {**by_both, "name": "new", "chip": CHIP[:-1] + "1"}], "CONFLICT", ".1.chip"),
        ([animal(3), animal(2, **{"class": "FISH"})], "CONFLICT", ".1.class"),
        ([animal(3, expectedUpdatedAt=STALE), animal(1)], "CONFLICT", ".0.expectedUpdatedAt"),
        ([animal(3), animal(1, expectedUpdatedAt=STALE)], "CONFLICT", ".1.expectedUpdatedAt"),
        ([], "BAD_USER_INPUT", ""),
        ([animal(number) for number in range(1001)], "BAD_USER_INPUT", ""),
    ):
        answer = await alice.ask(MANY, {"input": {"items": items}})
        assert (answer.code, answer.error["extensions"]["field"]) == (code, f"input.items{field}"), answer.response.text
        assert CHIP not in answer.response.text
        assert await api.content(alice.tenant) == before
    repeated = await alice.ask(MANY, {"input": {"items": [animal(1), animal(1)]}})
    assert repeated.error["message"] == "expected one item for each object: this is that of an earlier item"


async def test_many_that_a_user_may_not_change_are_not_changed(alice: Client, api: Api) -> None:
    editor = api.client(alice.tenant, "ed", Role.EDITOR)
    viewer = api.client(alice.tenant, "vera", Role.VIEWER)
    await viewer.ask("{ animals { totalCount } }")
    await editor.ask(MANY, {"input": {"items": [animal(2)]}})
    await upserted(alice, name="adas")
    before = await api.content(alice.tenant)
    refused = await editor.ask(MANY, {"input": {"items": [animal(2), animal(1), animal(7)]}})
    assert (refused.code, refused.error["extensions"].get("field")) == ("FORBIDDEN", "input.items.2")
    assert (await viewer.ask(MANY, {"input": {"items": [animal(1)]}})).code == "FORBIDDEN"
    assert await api.content(alice.tenant) == before


async def test_many_requests_for_many_at_once_create_each_row_once(alice: Client) -> None:
    await alice.ask(CAGES, {"input": {"items": [{"number": number} for number in range(1, 40, 4)]}})
    random = Random(7)  # noqa: S311  no secret
    requests = [random.sample(range(1, 41), 40) for _ in range(AT_ONCE)]
    answers = await asyncio.gather(
        *(alice.ask(CAGES, {"input": {"items": [{"number": n} for n in numbers]}}) for numbers in requests)
    )
    made = [id_ for answer in answers for id_ in answer.data["upsertCages"]["createdIds"]]
    assert len(made) == len(set(made)) == 30
    found = (await alice.ask("{ cages(first: 100) { nodes { id number } } }")).data["cages"]["nodes"]
    ids = {each["number"]: each["id"] for each in found}
    assert len(found) == len(ids) == 40
    for numbers, answer in zip(requests, answers, strict=True):
        assert answer.data["upsertCages"]["upsertedIds"] == [ids[number] for number in numbers]


async def test_requests_with_different_keys_of_the_same_rows_do_not_wait_for_each_other_in_a_circle(
    alice: Client,
) -> None:
    cage = (await alice.ask(CAGE, {"number": 1})).data["upsertCage"]["cage"]["id"]
    chips = [str(UUID(int=number)) for number in range(1, 7)]
    made = [{"by": "CHIP", "chip": chip, "name": f"animal {chip[-1]}", "cageId": cage} for chip in chips]
    await alice.ask(MANY, {"input": {"items": made}})

    def by_name(chip: str) -> dict[str, Any]:
        return {"by": "NAME_AND_CAGE_ID", "name": f"animal {chip[-1]}", "cageId": cage}

    requests = [
        [{"by": "CHIP", "chip": one, "name": f"animal {one[-1]}"}, by_name(other)]
        for one, other in permutations(chips, 2)
    ]
    answers = await asyncio.gather(*(alice.ask(MANY, {"input": {"items": items}}) for items in requests[:AT_ONCE]))
    assert [answer.data["upsertAnimals"]["createdIds"] for answer in answers] == [[]] * AT_ONCE


async def test_a_row_that_gets_another_key_meanwhile_is_not_changed(alice: Client, api: Api) -> None:
    await alice.ask(CAGE, {"number": 1})
    tenant = await provisioning.named(api.control, alice.tenant)
    async with api.tenants.transaction(tenant) as first:
        await first.execute(update(Cage.table).values(number=2))
        second = asyncio.create_task(alice.ask(CAGE, {"number": 1}))
        await asyncio.sleep(0.2)
        assert not second.done()
    assert (await second).data["upsertCage"]["created"]
    found = (await alice.ask("{ cages { nodes { number } } }")).data["cages"]["nodes"]
    assert [each["number"] for each in found] == [2, 1]


def test_subjects_with_a_unique_key_have_it_unless_they_opt_out() -> None:
    mutations = model.schema.mutation_type
    assert mutations is not None
    made = {name for name in mutations.fields if name.startswith("upsert")}
    # The mutations of Food are listed; other subjects have no unique key that clients can set.
    assert made == {
        *("upsertAnimal", "upsertCage", "upsertDiary", "upsertFlag", "upsertTier", "upsertTierCustomer"),
        *("upsertAnimals", "upsertCages", "upsertDiaries", "upsertFlags", "upsertTiers", "upsertTierCustomers"),
    }
    assert "enum AnimalUniqueKey" in schema.as_str()
    assert "CageUniqueKey" not in schema.as_str()
