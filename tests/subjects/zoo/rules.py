"""Rules that share what matches a filter, over HTTP: tests/subjects/test_zoo.py runs this with the zoo."""

from random import Random
from typing import Any

import pytest

from isola.testing.served import Client

CREATE = "mutation ($items: [CreateAnimalInput!]!) { createAnimals(input: {items: $items}) { createdIds } }"
DELETE = "mutation ($ids: [ID!]!) { deleteAnimals(input: {ids: $ids}) { deletedIds } }"
SHARE = "mutation ($input: ShareAnimalsInput!) { shareAnimals(input: $input) { rule { id filter sharedCount } } }"
FILTERS = 20
# Values that are easily confused, for a column of each type; null is one of each.
VALUES: dict[str, list[Any]] = {
    "name": ["a", "A", "ab", "a%", "a_b", "a\\", "\u00e4", "B", "\U0001f400", "null"],
    "class": ["BIRD", "FISH"],
    "order": [-5, -1, 0, 2, 5],
    "from": ["", "a", "A b", "%", None],
    "group": ["2026-02-28", "0001-01-01", "9999-12-31", None],
    "population": [0, -(2**53 - 1), 2**53 - 1, 10, 9, None],
    "weight": [0.1, 1e22, 1e-7, 9.0, 10.0, 5e-324, None],
    "price": ["9.99", "10", "1.5", "0"],
    "tame": [False],
    "born": ["2000-01-01", "2026-02-28", None],
    "seen": ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000001Z", "2026-01-01T02:00:00+02:00", None],
    "chip": ["00000000-0000-4000-8000-00000000000a", "a0000000-0000-4000-8000-000000000000", None],
}
ORDERED = VALUES.keys() - {"class", "tame", "chip"}


def row(random: Random, number: int) -> dict[str, Any]:
    values = {name: random.choice(those) for name, those in VALUES.items()}
    # Of unique columns.
    values["name"] = f"{values['name']}{number % 3 or ''}"
    return {**values, "chip": None if number else values["chip"]}


def leaf(random: Random) -> dict[str, Any]:
    name = random.choice(list(VALUES))
    those = [value for value in VALUES[name] if value is not None]
    operators = ["eq", "isNull", *([] if name == "tame" else ["in"])]
    operators += ["gt", "gte", "lt", "lte"] if name in ORDERED else []
    operators += ["startsWith", "contains"] if name in {"name", "from"} else []
    operator = random.choice(operators)
    match operator:
        case "isNull":
            return {name: {operator: random.random() < 0.5}}
        case "in":
            return {name: {operator: random.sample(those, random.randrange(len(those)))}}
        case "startsWith" | "contains":
            return {name: {operator: random.choice(["", "a", "A", "%", "_", "\\", "b", "\u00e4"])}}
    return {name: {operator: random.choice(those)}}


def tree(random: Random, depth: int = 2) -> dict[str, Any]:
    if depth == 0 or random.random() < 0.4:
        return leaf(random)
    match random.choice(["and", "or", "not", "fields"]):
        case "not":
            return {"not": tree(random, depth - 1)}
        case "fields":
            return {**leaf(random), **leaf(random)}
        case logic:
            return {logic: [tree(random, depth - 1) for _ in range(2)]}


async def ask(client: Client, kind: str, variables: dict[str, Any], field: str, type_: str) -> list[Any]:
    """Ask for a field once for each variable, in one document."""
    declared = ", ".join(f"${name}: {type_}" for name in variables)
    fields = " ".join(f"{name}: {field.replace('$', f'${name}')}" for name in variables)
    answer = await client.ask(f"{kind} ({declared}) {{ {fields} }}", variables)
    return [answer.data[name] for name in variables]


@pytest.mark.parametrize("seed", range(2))
async def test_a_rule_shares_what_a_list_with_the_same_filter_has(alice: Client, bob: Client, seed: int) -> None:
    random = Random(seed)  # noqa: S311  a test's choices
    filters = {f"f{number}": tree(random) for number in range(FILTERS)}
    inputs = {name: {"filter": each, "grantee": bob.tenant} for name, each in filters.items()}
    make = "shareAnimals(input: $) { rule { id filter sharedCount } }"

    async def made() -> list[dict[str, Any]]:
        return [each["rule"] for each in await ask(alice, "mutation", inputs, make, "ShareAnimalsInput!")]

    async def shared(rules: list[dict[str, Any]]) -> list[set[str]]:
        own = {name: {"ruleId": {"eq": each["id"]}} for name, each in zip(filters, rules, strict=True)}
        field = "myShares(filter: $, first: 50) { nodes { animalId } }"
        pages = await ask(alice, "query", own, field, "ShareFilter")
        return [{each["animalId"] for each in page["nodes"]} for page in pages]

    before = await made()
    assert [each["filter"].keys() for each in before] == [each.keys() for each in filters.values()]
    items = [row(random, number) for number in range(15)]
    assert len((await alice.ask(CREATE, {"items": items})).data["createAnimals"]["createdIds"]) == len(items)
    lists = await ask(alice, "query", filters, "animals(filter: $, first: 50) { nodes { id } }", "AnimalFilter")
    expected = [{each["id"] for each in page["nodes"]} for page in lists]
    assert await shared(before) == expected
    assert 0 < sum(map(len, expected)) < len(items) * FILTERS
    # A subject has no more rules than these.
    ends = {name: {"ruleId": each["id"]} for name, each in zip(filters, before, strict=True)}
    await ask(alice, "mutation", ends, "endShareRule(input: $) { endedId }", "EndShareRuleInput!")
    after = await made()
    assert [each["sharedCount"] for each in after] == [len(each) for each in expected]
    assert await shared(after) == expected
    received = await bob.ask("{ sharedAnimals(first: 50) { totalCount nodes { id } } }")
    assert received.data["sharedAnimals"]["totalCount"] == len(set().union(*expected))


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({}, "filter", "{id: {isNull: false}}"),
    ({"and": []}, "filter.and", "at least one condition"),
    ({"or": [{"order": {"eq": 1}}, {}]}, "filter.or.1", "expected a comparison"),
    ({"not": {"order": {}}}, "filter.not.order", "expected a comparison"),
    ({"cage": {"number": {"eq": 1}}}, "filter.cage", "cage cannot be compared"),
    ({"friends": {"some": {"order": {"eq": 1}}}}, "filter.friends", "friends cannot be compared"),
    ({"notes": {"eq": 1}}, "filter.notes", "notes cannot be compared"),
    ({"seen": {"newerThan": "P1D"}}, "filter.seen.newerThan", "newerThan cannot be used"),
    ({"order": {"eq": None}}, "filter.order.eq", "must not be null"),
    ({"cageId": {"eq": "anm_x"}}, "filter.cageId.eq", "must be an id"),
    ({"name": {"eq": "\0"}}, "filter.name.eq", "cannot be stored"),
]


async def test_what_a_rule_cannot_compare_is_refused_by_name(alice: Client, bob: Client) -> None:
    for filter_, field, told in REFUSED:
        refused = await alice.ask(SHARE, {"input": {"filter": filter_, "grantee": bob.tenant}})
        assert (refused.code, refused.error["extensions"]["field"]) == ("BAD_USER_INPUT", f"input.{field}")
        assert told in refused.error["message"]
