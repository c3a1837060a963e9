"""Full-text search over HTTP under each strategy: tests/subjects/test_zoo.py runs this with the zoo."""

import asyncio
import json
import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import pytest
from graphql.execution.values import VariableValues

from isola.api.execute import Executor
from isola.api.schema import model
from isola.database.transactions import Database
from isola.platform import importing, migrations, moves, provisioning
from isola.platform.tenants import Tenant
from isola.query.limits import Limits
from isola.query.read_plan import ReadPlan
from isola.testing.fixtures import Copy
from isola.testing.isolation.test_order_of_conditions import EXPLAIN, steps
from isola.testing.oracles.canary import INSUFFICIENT_PRIVILEGE, tried
from isola.testing.served import Api, Client, make_tenant
from isola_strategies.base import Capability, Strategy
from tests.api.conftest import Caller, Principal, uuid
from tests.api.test_plans import nodes
from tests.subjects.zoo.subjects import Diary, Food
from tests.subjects.zoo.suite import silent

FOODS = """query ($filter: FoodFilter, $first: Int, $after: String) {
  foods(filter: $filter, first: $first, after: $after) {
    totalCount nodes { name } pageInfo { hasNextPage endCursor } } }"""
DIARIES = "query ($filter: DiaryFilter) { diaries(filter: $filter) { totalCount nodes { text } } }"
WRITE = "mutation ($items: [CreateDiaryInput!]!) { createDiaries(input: {items: $items}) { createdIds } }"
COOK = "mutation ($items: [CreateFoodInput!]!) { createFoods(input: {items: $items}) { createdIds } }"
# The words that are kept in a home, and those that PostgreSQL's search makes of each row, both with row and tenant.
RECOUNT = """
SELECT
    (SELECT coalesce(string_agg(concat_ws(' ', to_jsonb(w) ->> 'tenant_id', {key}, word), ',' ORDER BY {key}, word), '')
     FROM {words} w),
    (SELECT coalesce(string_agg(concat_ws(' ', tenant, id, word), ',' ORDER BY id, word COLLATE "C"), '')
     FROM (SELECT to_jsonb(r) ->> 'tenant_id' AS tenant, id, (unnest(to_tsvector(
         '{language}', concat_ws(' ', {columns})
     ))).lexeme AS word FROM {table} r) made)
"""


async def cooked(client: Client, *names: str) -> dict[str, str]:
    """Make foods; their ids by name."""
    made = await client.ask(COOK, {"items": [{"name": name} for name in names]})
    return dict(zip(names, made.data["createFoods"]["createdIds"], strict=True))


async def noted(client: Client, *texts: str, **more: str) -> None:
    """Write diaries."""
    answer = await client.ask(WRITE, {"items": [{"text": text, **more} for text in texts]})
    assert len(answer.data["createDiaries"]["createdIds"]) == len(texts)


async def found(client: Client, text: str, **more: Any) -> list[str]:
    """The names of the foods that a search finds."""
    answer = (await client.ask(FOODS, {"filter": {"search": {"text": text, **more}}})).data["foods"]
    names = [each["name"] for each in answer["nodes"]]
    assert answer["totalCount"] == len(names)
    return names


async def read(client: Client, text: str, **more: Any) -> list[str]:
    """The texts of the diaries that a search finds."""
    answer = (await client.ask(DIARIES, {"filter": {"search": {"text": text, **more}}})).data["diaries"]
    assert answer["totalCount"] == len(answer["nodes"])
    return [each["text"] for each in answer["nodes"]]


@pytest.fixture
async def tenant(api: Api, alice: Client) -> Tenant:
    return await provisioning.named(api.control, alice.tenant)


async def assert_exact(owner: Database, strategy: Strategy, tenant: Tenant) -> None:
    """The words kept are those of the rows, in the home of the tenant."""
    async with owner.unbound() as work:
        await work.script(f"SET LOCAL search_path TO {strategy.home(tenant.id).schema}")
        for subject in (Food, Diary):
            words = subject.table.info["words"]
            [[kept, made]] = await work._connection.fetch(
                RECOUNT.format(
                    key=words.key,
                    words=words.table.name,
                    language=words.configuration,
                    columns=", ".join(words.columns),
                    table=subject.table.name,
                )
            )
            assert kept == made, subject.__name__


async def test_a_row_is_found_by_all_words_in_any_order_and_case(alice: Client) -> None:
    await cooked(alice, "Red apple pie", "red Apple", "green apple", "pie")
    assert await found(alice, "apple RED") == ["Red apple pie", "red Apple"]
    assert await found(alice, "pie") == ["Red apple pie", "pie"]
    assert await found(alice, "red green") == []
    assert await found(alice, "app") == []
    assert await found(alice, "apples") == []


async def test_the_last_word_can_be_the_beginning_of_one(alice: Client) -> None:
    await cooked(alice, "Red apple pie", "red apricot", "green apple", "well-done beef")
    assert await found(alice, "red ap", prefix=True) == ["Red apple pie", "red apricot"]
    assert await found(alice, "ap", prefix=True) == ["Red apple pie", "red apricot", "green apple"]
    assert await found(alice, "apple", prefix=True) == ["Red apple pie", "green apple"]
    assert await found(alice, "re apple", prefix=True) == []
    assert await found(alice, "well-do", prefix=True) == ["well-done beef"]
    assert await found(alice, "well-done") == ["well-done beef"]
    assert await found(alice, "zz", prefix=True) == []


async def test_accents_make_no_difference(alice: Client) -> None:
    await cooked(alice, "Crème brûlée", "creme", "Bánh mì", "김치")
    assert await found(alice, "creme") == ["Crème brûlée", "creme"]
    assert await found(alice, "CRÈME brulee") == ["Crème brûlée"]
    # Composed or not.
    assert await found(alice, "ba\u0301nh") == ["Bánh mì"]
    assert await found(alice, "김치") == ["김치"]
    assert await found(alice, "brû", prefix=True) == ["Crème brûlée"]
    assert await found(alice, "\uff42ru", prefix=True) == ["Crème brûlée"]


async def test_a_language_knows_forms_of_words_and_leaves_out_common_ones(alice: Client) -> None:
    await noted(alice, "The lions were running", "A lion runs", "the cat", place="den")
    assert await read(alice, "lion run") == ["The lions were running", "A lion runs"]
    assert await read(alice, "the lions") == ["The lions were running", "A lion runs"]
    # Both columns count.
    assert await read(alice, "cats den") == ["the cat"]
    assert await read(alice, "li", prefix=True) == ["The lions were running", "A lion runs"]


async def test_a_text_without_words_finds_nothing(alice: Client) -> None:
    await noted(alice, "the lion", "-- of !?")
    for text in ("", "  \n", "the", "the of and", "!?", "--"):
        assert await read(alice, text) == await read(alice, text, prefix=True) == []


async def test_a_search_that_is_too_long_is_refused(alice: Client) -> None:
    for text, said in (
        (" ".join("abcdefghijklmnopq"), "filter.search.text: expected at most 16 words"),
        ("x" * 201, "filter.search.text: expected at most 200 characters"),
        ("a\0b", "filter.search.text contains characters that cannot be stored"),
    ):
        answer = await alice.ask(FOODS, {"filter": {"search": {"text": text}}})
        assert (answer.code, answer.error["message"]) == ("BAD_USER_INPUT", said)
    assert await found(alice, " ".join("abcdefghijklmnop"), prefix=True) == []
    assert await found(alice, "x" * 200) == []


async def test_null_is_refused(alice: Client) -> None:
    answer = await alice.ask("{ foods(filter: {search: null}) { totalCount } }")
    assert answer.code == "BAD_USER_INPUT"
    assert answer.error["extensions"]["field"] == "filter.search"


async def test_a_search_is_a_condition_like_others(alice: Client) -> None:
    ids = await cooked(alice, "red apple", "green apple", "red pepper", "salt")

    async def names(filter_: Any) -> list[str]:
        answer = (await alice.ask(FOODS, {"filter": filter_})).data["foods"]
        assert answer["totalCount"] == len(answer["nodes"])
        return [each["name"] for each in answer["nodes"]]

    red, apple = {"search": {"text": "red"}}, {"search": {"text": "apple"}}
    assert await names({"and": [red, apple]}) == ["red apple"]
    assert await names({"or": [red, apple]}) == ["red apple", "green apple", "red pepper"]
    assert await names({"not": red}) == ["green apple", "salt"]
    assert await names({"not": {"search": {"text": ""}}}) == ["red apple", "green apple", "red pepper", "salt"]
    assert await names({**red, "name": {"contains": "pep"}}) == ["red pepper"]
    assert await names({**red, "name": {"eq": "red apple"}}) == ["red apple"]
    assert await names({**red, "id": {"in": [ids["salt"], ids["red pepper"]]}}) == ["red pepper"]
    bird = (await alice.ask('mutation { createAnimal(input: {name: "owl"}) { animal { id } } }')).data["createAnimal"]
    pair = "mutation ($a: ID!, $f: ID!) { addAnimalFoods(input: {animalId: $a, foodId: $f}) { animal { name } } }"
    answer = await alice.ask(pair, {"a": bird["animal"]["id"], "f": ids["red apple"]})
    assert "errors" not in answer.body, answer.body
    eaten = "query ($f: AnimalFilter) { animals(filter: $f) { totalCount nodes { name } } }"
    for text, number in (("apple", 1), ("salt", 0)):
        filter_ = {"foods": {"some": {"search": {"text": text}}}}
        assert (await alice.ask(eaten, {"f": filter_})).data["animals"]["totalCount"] == number
    of_animal = "query ($f: FoodFilter) { animals { nodes { foods(filter: $f) { totalCount nodes { name } } } } }"
    [owl] = (await alice.ask(of_animal, {"f": red})).data["animals"]["nodes"]
    assert owl == {"foods": {"totalCount": 1, "nodes": [{"name": "red apple"}]}}


async def test_pages_of_a_search_continue_at_their_cursors(alice: Client) -> None:
    names = [f"fig {number}" for number in range(7)]
    await cooked(alice, *names, "date")
    seen: list[str] = []
    variables: dict[str, Any] = {"filter": {"search": {"text": "fig"}}, "first": 3}
    while True:
        page = (await alice.ask(FOODS, variables)).data["foods"]
        seen += [each["name"] for each in page["nodes"]]
        assert page["totalCount"] == 7
        if not page["pageInfo"]["hasNextPage"]:
            break
        variables["after"] = page["pageInfo"]["endCursor"]
    assert seen == names
    # A cursor is valid for the same search alone.
    assert (await alice.ask(FOODS, {**variables, "filter": {"search": {"text": "date"}}})).code == "BAD_USER_INPUT"


PAGES = """query ($text: String!, $order: [FoodOrder!], $first: Int, $last: Int, $after: String, $before: String) {
  foods(filter: {search: {text: $text, prefix: true}}, orderBy: $order, first: $first, last: $last, after: $after,
        before: $before) { nodes { name } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"""


@pytest.mark.parametrize("few", [0, 5, 1_200])
async def test_pages_of_a_search_are_the_same_however_its_rows_are_found(
    alice: Client, api: Api, tenant: Tenant, few: int
) -> None:
    """By their words, or by reading rows in order; with ``few`` a page can be complete after those that are read."""
    names = [f"{'fig' if n % 3 else 'date'} {'big' if n % 2 else 'small'} {n:02}" for n in range(24)]
    await cooked(alice, *names[::2], *names[1::2])
    caller = Caller(api.tenants, Principal(tenant, uuid(0, 0)), Executor(model, secret=b"x", limits=Limits(few=few)))
    descending = [{"field": "NAME", "direction": "DESC"}]
    # With a cursor, rows in these directions are several ranges of an index.
    mixed = [{"field": "NAME", "direction": "ASC"}, {"field": "CREATED_AT", "direction": "DESC"}]
    for text, order in product(("fig", "big fig", "da", "big fig 1", "fig date", "date 06", ""), (descending, mixed)):
        words = text.split()
        expected = [
            name
            for name in sorted(names, reverse=order is descending)
            if words and {*words[:-1]} <= {*name.split()} and any(each.startswith(words[-1]) for each in name.split())
        ]
        asked = {"text": text, "order": order}
        for size, begin, end, more, less in (
            ("first", "after", "endCursor", "hasNextPage", "hasPreviousPage"),
            ("last", "before", "startCursor", "hasPreviousPage", "hasNextPage"),
        ):
            pages: list[Any] = []
            cursor = None
            while not pages or pages[-1]["pageInfo"][more]:
                pages.append((await caller.ask(PAGES, {**asked, size: 2, begin: cursor})).data["foods"])
                assert pages[-1]["pageInfo"][less] is (cursor is not None)
                cursor = pages[-1]["pageInfo"][end]
            in_order = pages if size == "first" else pages[::-1]
            assert [node["name"] for page in in_order for node in page["nodes"]] == expected, (text, size)


async def test_words_follow_every_change(alice: Client, owner: Database, strategy: Strategy, tenant: Tenant) -> None:
    ids = await cooked(alice, "red apple", "green apple")
    change = "mutation ($i: UpdateFoodInput!) { updateFood(input: $i) { food { name } } }"
    assert (await alice.ask(change, {"i": {"id": ids["red apple"], "name": "yellow apple"}})).data
    assert (await found(alice, "red"), await found(alice, "yellow")) == ([], ["yellow apple"])
    assert await found(alice, "apple") == ["yellow apple", "green apple"]
    await assert_exact(owner, strategy, tenant)
    gone = "mutation ($ids: [ID!]!) { deleteFoods(input: {ids: $ids}) { deletedIds } }"
    assert (await alice.ask(gone, {"ids": [ids["red apple"]]})).data
    assert await found(alice, "apple") == ["green apple"]
    await assert_exact(owner, strategy, tenant)
    # All or none: the second name is taken.
    answer = await alice.ask(COOK, {"items": [{"name": "blue apple"}, {"name": "green apple"}]})
    assert answer.code == "CONFLICT"
    assert await found(alice, "blue") == []
    await assert_exact(owner, strategy, tenant)


WORDS = ("a", "lion", "lions", "running", "ran", "x-ray", "the", "42", "Zoo", "zoos", "of")

CHANGES = (
    """INSERT INTO diaries (author_id, text, place)
    SELECT '{user}', '{text} ' || n % 3, '{other}' FROM generate_series(1, 5) n""",
    "UPDATE diaries SET text = '{text}' WHERE {chosen}",
    "UPDATE diaries SET text = coalesce(place, ''), place = left(text, 20) WHERE {chosen}",
    "UPDATE diaries SET place = NULL WHERE {chosen}",
    "UPDATE diaries SET created_at = now() WHERE {chosen}",
    "DELETE FROM diaries WHERE {chosen}",
)


@pytest.mark.parametrize("seed", range(3))
async def test_after_random_changes_words_and_searches_are_those_of_the_rows(
    alice: Client, api: Api, owner: Database, strategy: Strategy, tenant: Tenant, seed: int
) -> None:
    """Changes by SQL in the tenant, of many rows at once as well; PostgreSQL's own search tells what is to be found."""
    random = Random(seed)  # noqa: S311  not for a secret

    def text() -> str:
        return " ".join(random.choices(WORDS, k=random.randrange(5)))

    await noted(alice, "first")
    user = await _user(api, tenant, "ada")
    about = {"user": user}
    for _ in range(12):
        chosen = f"hashtext(id::text || '{random.random()}') % 3 = 0"
        statement = random.choice(CHANGES).format(user=user, text=text(), other=text()[:20], chosen=chosen)
        async with api.tenants.transaction(tenant, about=about) as work:
            await work.script(statement)
    await assert_exact(owner, strategy, tenant)
    expected = """
        SELECT count(*) FROM diaries
        WHERE to_tsvector('english', concat_ws(' ', text, place)) @@ plainto_tsquery('english', $1)
    """
    for asked in [*WORDS, *(text() for _ in range(10))]:
        async with api.tenants.transaction(tenant, read_only=True, about=about) as work:
            number = await work.value(expected, asked)
        answer = (await alice.ask(DIARIES, {"filter": {"search": {"text": asked}}})).data["diaries"]
        assert answer["totalCount"] == number, asked


async def _user(api: Api, tenant: Tenant, subject: str) -> str:
    async with api.tenants.transaction(tenant) as work:
        return str(await work.value("SELECT id FROM users WHERE subject = $1", subject))


async def test_the_words_of_a_row_that_a_user_may_not_see_are_not_there(
    alice: Client, api: Api, tenant: Tenant
) -> None:
    """Nor for SQL in the tenant, with or without a user."""
    await noted(alice, "secret lion")
    eve = api.client(alice.tenant, "eve")
    await noted(eve, "open lion")
    assert await read(eve, "lion") == ["open lion"]
    assert await read(eve, "secret") == []
    assert await read(alice, "lion") == ["secret lion"]
    for about, seen in (
        ({"user": await _user(api, tenant, "eve")}, {"open", "lion"}),
        ({"user": await _user(api, tenant, "ada")}, {"secret", "lion"}),
        ({}, set()),
    ):
        async with api.tenants.transaction(tenant, about=about) as work:
            assert set(await work.texts("SELECT word FROM diaries_words")) == seen
            assert await work.value("SELECT count(*) FROM diaries_words WHERE word >= 's'") == len(seen & {"secret"})


async def test_other_tenants_words_are_not_there(
    alice: Client, bob: Client, api: Api, owner: Database, strategy: Strategy, tenant: Tenant
) -> None:
    await cooked(alice, "red apple")
    await cooked(bob, "red herring")
    assert await found(alice, "red") == ["red apple"]
    assert await found(bob, "red") == ["red herring"]
    assert await found(alice, "herring") == []
    assert await found(alice, "h", prefix=True) == []
    async with api.tenants.transaction(tenant) as work:
        assert set(await work.texts("SELECT word FROM foods_words")) == {"red", "apple"}
    await assert_exact(owner, strategy, tenant)


async def test_a_condition_on_words_does_not_reveal_whether_another_tenants_words_satisfy_it(
    alice: Client,
    bob: Client,
    api: Api,
    owner: Database,
    copy: Copy,
    login: asyncpg.Connection,
    strategy: Strategy,
    tenant: Tenant,
) -> None:
    """PostgreSQL evaluates some conditions before a policy that costs more: that must not show."""
    await cooked(alice, "apple")
    await cooked(bob, "herring")
    await noted(bob, "herring")
    neighbour = await provisioning.named(api.control, bob.tenant)
    home = strategy.home(neighbour.id).schema
    await login.set_type_codec("json", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)

    async def observed(place: str, condition: str) -> list[object]:
        scan = f"SELECT FROM {place} AND {condition}"
        async with login.transaction():
            await copy.enter(login, tenant)
            plan = await tried(login, f"{EXPLAIN} {scan}")
            await login.execute("SET LOCAL isola.proof TO ''")
            return [plan if isinstance(plan, str) else steps(plan[0]["QUERY PLAN"]), await tried(login, scan)]

    for table in ("foods_words", "diaries_words"):
        async with owner.unbound() as work:
            place = await work.value(f"SELECT ctid::text FROM {home}.{table} WHERE word = 'herring'")
        at = f"{home}.{table} WHERE ctid = '{place}'"
        for operator in ("=", ">=", "<="):
            outcomes = [
                await observed(at, f"word {operator} ANY (ARRAY['{each}'])") for each in ("herring", "salt", "a")
            ]
            assert outcomes[0] == outcomes[1] == outcomes[2], (table, operator)


async def test_only_the_triggers_write_words(
    alice: Client, api: Api, owner: Database, strategy: Strategy, tenant: Tenant
) -> None:
    """Not SQL in the tenant, and not the function without a change."""
    ids = await cooked(alice, "red apple")
    key = ids["red apple"].removeprefix("fod_")
    async with api.tenants.transaction(tenant) as work:
        for statement in (
            f"INSERT INTO foods_words (food_id, word) VALUES ('{key}', 'blue')",
            "UPDATE foods_words SET word = 'blue'",
            "DELETE FROM foods_words",
            "DELETE FROM foods_words WHERE false",
            "TRUNCATE foods_words",
            "SELECT isola.fill_words('foods_words', 'foods', 'pg_catalog.simple', '{name}')",
            "CREATE TRIGGER mine AFTER INSERT ON foods EXECUTE FUNCTION isola.keep_words()",
            "SET LOCAL ROLE isola_words",
        ):
            assert await tried(work, statement) in {INSUFFICIENT_PRIVILEGE, "0A000"}, statement
    await assert_exact(owner, strategy, tenant)
    # The role of the triggers can do nothing else, and is bound by the policies.
    async with owner.unbound() as work:
        home = strategy.home(tenant.id).schema
        rights = """
            SELECT format('%s.%s %s', c.oid::regclass, attname, privilege)
            FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace JOIN pg_attribute a ON attrelid = c.oid,
            unnest(ARRAY['SELECT', 'INSERT', 'UPDATE']) privilege
            WHERE relkind IN ('r', 'v') AND nspname !~ '^(pg_|information_schema)' AND attnum > 0
              AND has_column_privilege('isola_words', c.oid, attnum, privilege) AND nspname = $1
        """
        held = {each.partition(".")[2] for each in await work.texts(rights, home)}
        tables = {each.partition(".")[0] for each in held}
        assert tables == {"diaries_words", "foods_words"}
        assert not {each for each in held if each.endswith(" UPDATE")}
        await work.script("SET LOCAL ROLE isola_words")
        assert await tried(work, f"SELECT word FROM {home}.foods_words") in (
            [],
            "IS002",
            "28000",
            INSUFFICIENT_PRIVILEGE,
        )


async def test_a_move_takes_the_words_along(
    bob: Client, api: Api, owner: Database, copy: Copy, strategy: Strategy, other: Strategy
) -> None:
    await make_tenant(copy, "mover", strategy.name)
    client = api.client("mover")
    ids = await cooked(client, "red apple", "green apple")
    await noted(client, "running lions")
    await cooked(bob, "red herring")
    change = "mutation ($i: UpdateFoodInput!) { updateFood(input: $i) { food { name } } }"
    for place, name in ((other, "blue apple"), (strategy, "grey apple")):
        moved = await moves.move(owner, copy.strategies, client.tenant, to=place.name)
        await assert_exact(owner, place, moved)
        await asyncio.sleep(api.settings.directory_ttl * 2)
        assert await found(client, "green") == ["green apple"]
        assert await read(client, "lion") == ["running lions"]
        answer = await client.ask(change, {"i": {"id": ids["red apple"], "name": name}})
        assert "errors" not in answer.body, answer.body
        assert await found(client, "apple") == [name, "green apple"]
        await assert_exact(owner, place, moved)
    assert await found(bob, "red") == ["red herring"]


async def test_a_revision_makes_the_words_of_rows_that_exist(
    alice: Client, bob: Client, owner: Database, copy: Copy, strategy: Strategy, tenant: Tenant
) -> None:
    """As where the declaration came later than the rows: of all tenants, each with its own."""
    await cooked(alice, "red apple")
    await noted(alice, "running lions")
    await cooked(bob, "red herring")
    neighbour = await provisioning.named(owner, bob.tenant)
    homes = {strategy.home(each.id).schema for each in (tenant, neighbour)}
    async with owner.unbound() as work:
        for home in homes:
            at = await work.value("SELECT obj_description($1::regnamespace)", home)
            for table in ("foods", "diaries"):
                await work.script(
                    f"DROP TRIGGER words_insert ON {home}.{table}; DROP TRIGGER words_update ON {home}.{table}; "
                    f"DROP TABLE {home}.{table}_words"
                )
            # What later revisions made goes as well.
            await work.script(f"DROP TABLE {home}.notices, {home}.house_versions CASCADE")
            await work.script(f"COMMENT ON SCHEMA {home} IS '{re.sub('zoo [0-9]+', 'zoo 0007', at)}'")
    report = await migrations.migrate(owner, copy.strategies, copy.where)
    assert (set(report.behind), report.failed) == (homes, {})
    for each in (tenant, neighbour):
        await assert_exact(owner, strategy, each)
    assert await found(alice, "red") == ["red apple"]
    assert await read(alice, "lion") == ["running lions"]
    assert await found(bob, "red") == ["red herring"]
    await cooked(alice, "red pepper")
    assert await found(alice, "red") == ["red apple", "red pepper"]


async def test_imported_rows_are_found(
    alice: Client, owner: Database, copy: Copy, strategy: Strategy, tenant: Tenant, tmp_path: Path
) -> None:
    file = tmp_path / "foods.jsonl"
    file.write_text("\n".join(json.dumps({"name": f"import {number}"}) for number in range(5)))
    async with await Database.open(copy.where.tenant, copy.strategies, copy.binding_key) as database:
        await importing.load(database, tenant, Food, file, owner="ada", strict=True, from_line=1, progress=silent)
    assert len(await found(alice, "import")) == 5
    await assert_exact(owner, strategy, tenant)


SMALL = """
SET session_replication_role TO replica;
INSERT INTO rls.foods (tenant_id, name)
  SELECT tenant, 'fig ' || i FROM (SELECT gen_random_uuid() AS tenant FROM generate_series(1, 3000)) t,
  generate_series(1, 3) i;
INSERT INTO rls.foods_words (tenant_id, food_id, word)
  SELECT tenant_id, id, unnest(isola.words('pg_catalog.simple', name)) FROM rls.foods;
"""
LARGE = """
INSERT INTO foods (name) SELECT concat(
    'dish ', CASE WHEN i % 2 = 0 THEN 'even ' ELSE 'odd ' END, CASE WHEN i % 5000 = 0 THEN 'rare ' END, i
) FROM generate_series(1, 20000) i
"""


# What is searched, how many rows it finds, and how many each scan reads at most. Up to 1,200 rows with a word are found
# by it. If there are more, as many rows are read in order; only if these do not complete the page, all with the word.
SEARCHES: Sequence[tuple[dict[str, Any], int, int]] = (
    ({"text": "rare"}, 4, 10),
    ({"text": "nothing"}, 0, 10),
    ({"text": "even rare dish"}, 4, 2_500),
    ({"text": "dish"}, 20, 1_300),
    ({"text": "even dish"}, 20, 2_500),
    ({"text": "even odd"}, 0, 10_100),
    ({"text": "dish 1999", "prefix": True}, 11, 1_300),
    ({"text": "di", "prefix": True}, 20, 1_300),
)


async def test_an_index_serves_a_search_in_a_tenant_far_larger_than_the_others(
    api: Api, owner: Database, strategy: Strategy, tenant: Tenant
) -> None:
    async with owner.unbound() as work:
        await work.script(SMALL)
    async with api.tenants.transaction(tenant) as work:
        await work.script(LARGE)
    async with owner.unbound() as work:
        await work.script("ANALYZE")
    executor = Executor(model, secret=b"x")
    document = "query ($filter: FoodFilter) { foods(first: 20, filter: $filter) { nodes { name } } }"
    plan = executor.compiler.plans(executor.documents.find(document).operation(None), {})
    assert isinstance(plan, ReadPlan)
    for search, number, most in SEARCHES:
        variables = VariableValues({}, {"filter": {"search": {"prefix": False, **search}}})
        reading = executor.compiler.read(plan, variables, Principal(tenant, uuid(0, 0)))
        async with api.tenants.transaction(tenant, read_only=True) as work:
            written = executor.compiler.statement(reading, work.strategy)
            values = written.arguments(reading.caller, (), reading.values)
            answer = json.loads(await work.value(written.sql, *values))
            explained = json.loads(await work.value("EXPLAIN (ANALYZE, FORMAT JSON) " + written.sql, *values))
        assert len(answer["foods"]["nodes"]) == number
        scans = [node for node in nodes(explained[0]["Plan"]) if node.get("Relation Name", "").startswith("foods")]
        assert {node["Relation Name"] for node in scans} == {"foods", "foods_words"}
        for scan in scans:
            assert "Index" in scan["Node Type"] or scan["Node Type"] == "Bitmap Heap Scan", (search, scan)
            scanned = (scan["Actual Rows"] + scan.get("Rows Removed by Filter", 0)) * scan["Actual Loops"]
            assert scanned <= most, (search, scan)
            if Capability.POLICIES in strategy.capabilities:
                assert "tenant_id = " in (scan.get("Index Cond") or scan.get("Recheck Cond") or ""), (search, scan)
