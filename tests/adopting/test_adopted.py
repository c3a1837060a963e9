"""Databases of one customer become applications, and their rows become rows of a tenant."""

import ast
import json
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from isola.testing.fixtures import STRATEGIES
from isola.testing.patience import PATIENCE
from tests.adopting.conftest import NONE_INSTALLED, Client, Home

both_strategies = pytest.mark.parametrize("tenant", STRATEGIES)

CHINOOK = {
    "albums": 347,
    "artists": 275,
    "customers": 59,
    "employees": 8,
    "genres": 25,
    "invoices": 412,
    "invoiceLines": 2240,
    "mediaTypes": 5,
    "playlists": 18,
    "tracks": 3503,
}


@both_strategies
def test_chinook_is_served_with_all_its_rows(client: Client, tenant: str) -> None:
    counts = client.ask(tenant, "{" + " ".join(f"{name}(first: 1) {{ totalCount }}" for name in CHINOOK) + "}")
    assert {name: count["totalCount"] for name, count in counts.items()} == CHINOOK


@both_strategies
def test_relations_filters_orders_and_connections_lead_through_chinook(client: Client, tenant: str) -> None:
    found = client.ask(
        tenant,
        """{ tracks(first: 1, filter: { name: { eq: "Restless and Wild" } }) { nodes {
            trackId unitPrice milliseconds genre { name } mediaType { name }
            album { title artist { name albums(first: 9, orderBy: [{ field: ALBUM_ID }]) { nodes { albumId } } } }
            playlists(first: 9, orderBy: [{ field: PLAYLIST_ID }]) {
                nodes { playlistId tracks(first: 1) { totalCount } } }
        } }
        employees(filter: { lastName: { eq: "Peacock" } }) { nodes {
            birthDate reportsTo { lastName reportsTo { lastName } } customers(first: 1) { totalCount } } } }""",
    )
    assert found["tracks"]["nodes"] == [
        {
            "trackId": 4,
            "unitPrice": "0.99",
            "milliseconds": 252051,
            "genre": {"name": "Rock"},
            "mediaType": {"name": "Protected AAC audio file"},
            "album": {
                "title": "Restless and Wild",
                "artist": {"name": "Accept", "albums": {"nodes": [{"albumId": 2}, {"albumId": 3}]}},
            },
            "playlists": {
                "nodes": [
                    {"playlistId": 1, "tracks": {"totalCount": 3290}},
                    {"playlistId": 5, "tracks": {"totalCount": 1477}},
                    {"playlistId": 8, "tracks": {"totalCount": 3290}},
                    {"playlistId": 17, "tracks": {"totalCount": 26}},
                ]
            },
        }
    ]
    [employee] = found["employees"]["nodes"]
    assert employee["birthDate"] == "1973-08-29T00:00:00.000000+00:00"
    assert employee["reportsTo"] == {"lastName": "Edwards", "reportsTo": {"lastName": "Adams"}}
    assert employee["customers"] == {"totalCount": 21}


@both_strategies
def test_rows_have_ids_of_version_7_in_the_order_of_the_old_keys_and_new_rows_come_behind(
    client: Client, tenant: str
) -> None:
    rows = client.ask(tenant, "{ genres(first: 100) { nodes { id genreId } } }")["genres"]["nodes"]
    old = [row for row in rows if row["genreId"] is not None]
    assert [row["genreId"] for row in old] == list(range(1, 26))
    assert {UUID(row["id"].removeprefix("gen_")).version for row in old} == {7}
    made = client.ask(tenant, 'mutation { createGenre(input: { name: "Test" }) { genre { id genreId } } }')
    new = made["createGenre"]["genre"]
    try:
        rows = client.ask(tenant, "{ genres(first: 100) { nodes { id genreId } } }")["genres"]["nodes"]
        assert (new["genreId"], rows[-1]) == (None, new)
    finally:
        client.ask(tenant, f'mutation {{ deleteGenre(input: {{ id: "{new["id"]}" }}) {{ __typename }} }}')


@both_strategies
def test_all_kinds_of_tables_and_columns_are_carried(client: Client, tenant: str) -> None:
    found = client.ask(
        tenant,
        """{
        people(orderBy: [{ field: OLD_ID }]) { nodes {
            oldId name mood boss { name } team { title lead { name } } address
            friends(first: 9) { nodes { name } } teamsByPeopleTeams(first: 9) { nodes { title } } } }
        shelves { nodes { shelf load warehouse { country number name } } }
        orderItems { nodes { oldId select class update groe oldAnd order column user tags prices amount price
            doublePrice data at lasts host during moods big } }
        noKeys { nodes { a b } }
        events { nodes { oldId at what actor { name } } }  bases { nodes { x } }  deriveds { nodes { x y } }
        uses { nodes { code { code } amount } }  profiles { nodes { bio user { name } } }
        nastyNodes { nodes { oldId friend { oldId } } } }""",
    )
    nodes = {name: connection["nodes"] for name, connection in found.items()}
    ada, bob, cy = nodes["people"]
    assert (ada["mood"], bob["mood"], cy["mood"]) == ("HAPPY", "X_Y", "VALUE_4_50")
    assert (bob["boss"], bob["team"]) == ({"name": "Ada"}, {"title": "Analysts", "lead": {"name": "Ada"}})
    assert [each["name"] for each in ada["friends"]["nodes"]] == ["Bob"]
    assert [each["teamsByPeopleTeams"]["nodes"] for each in (ada, bob)] == [[{"title": "Analysts"}], []]
    assert sorted((each["warehouse"]["name"], each["shelf"], each["load"]) for each in nodes["shelves"]) == [
        ("", 1, "99.99"),
        ("Köln", 1, "50"),
        ("Köln", 2, "0"),
    ]
    full = next(each for each in nodes["orderItems"] if each["select"])
    assert full == {
        "oldId": "00000000-0000-0000-0000-000000000001",
        "select": "s",
        "class": 1,
        "update": 2,
        "groe": 0.1,
        "oldAnd": True,
        "order": "2020-01-31",
        "column": "it's",
        "user": None,
        "tags": ["a", "b c"],
        "prices": ["1.5", "2"],
        "amount": "12.345",
        "price": "1.5",
        "doublePrice": "3",
        "data": {"a": 2},
        "at": "12:34:00",
        "lasts": "1 day 02:00:00",
        "host": "10.0.0.1/32",
        "during": "[1,3)",
        "moods": ["happy", "x:y"],
        "big": 9007199254740991,
    }
    assert sorted((each["a"] or 0, each["b"]) for each in nodes["noKeys"]) == [(0, None), (1, "x"), (1, "x"), (2, "y")]
    assert sorted((each["what"], each["actor"]["name"]) for each in nodes["events"]) == [("new", "Bob"), ("old", "Ada")]
    assert (nodes["bases"], nodes["deriveds"]) == ([{"x": 10}], [{"x": 11, "y": 12}])
    assert [each["code"] for each in nodes["uses"]] == [{"code": "one"}, None, {"code": "one"}]
    assert nodes["profiles"] == [{"bio": "Was born.", "user": {"name": "plus"}}]
    assert [each["friend"]["oldId"] for each in nodes["nastyNodes"]] == [2, 1]


@both_strategies
def test_names_that_mean_something_else_or_are_too_long_are_carried(client: Client, tenant: str) -> None:
    found = client.ask(
        tenant,
        """{
        nastyClasses { nodes { oldTenantId declaration table none mro n o } }
        purchases { nodes { nastyPurchaseOrders { totalCount } } }
        nastyPurchaseOrders { nodes { purchase { oldId } } }
        nastyDecimals(orderBy: [{ field: OLD_ID }]) { nodes { decimal date kind } }
        nastyReferences { totalCount }
        nastyPurchaseFilters { nodes { grid } }
        theLongestNameThatATableCanHavs { nodes { oldTheLongestNameThatAColumnCanH } }
        tables(orderBy: [{ field: COLUMN }]) { nodes { column aBS flags } }
        table2s(orderBy: [{ field: OLD_ID }]) { nodes { row { column } flags { column } } } }""",
    )
    nodes = {name: connection.get("nodes") for name, connection in found.items()}
    uuid = "00000000-0000-0000-0000-000000000001"
    assert nodes["nastyClasses"] == [
        {"oldTenantId": uuid, "declaration": "d", "table": "t", "none": 2, "mro": 3, "n": 4, "o": 5}
    ]
    assert nodes["nastyPurchaseFilters"] == [{"grid": [[1, 2], [3, 4]]}]
    assert nodes["purchases"] == [{"nastyPurchaseOrders": {"totalCount": 1}}]
    assert nodes["nastyPurchaseOrders"] == [{"purchase": {"oldId": 1}}]
    assert nodes["nastyDecimals"] == [
        {"decimal": "1.5", "date": "2020-02-29", "kind": "TRUE"},
        {"decimal": None, "date": None, "kind": "VALUE_2"},
    ]
    assert nodes["theLongestNameThatATableCanHavs"] == [{"oldTheLongestNameThatAColumnCanH": 2}]
    assert nodes["tables"] == [
        {"column": "a", "aBS": 3, "flags": "111"},
        {"column": "abc", "aBS": 1, "flags": "101"},
        {"column": "abd", "aBS": 2, "flags": "110"},
    ]
    assert nodes["table2s"] == [
        {"row": {"column": "abd"}, "flags": {"column": "abd"}},
        {"row": {"column": "a"}, "flags": None},
    ]


@both_strategies
def test_columns_that_are_called_as_something_in_the_log_are_changed_and_logged(client: Client, tenant: str) -> None:
    made = client.ask(
        tenant, "mutation { createNastyClass(input: { oldId: 9, n: 1, o: 2 }) { nastyClass { id n o } } }"
    )["createNastyClass"]["nastyClass"]
    client.ask(tenant, f'mutation {{ updateNastyClass(input: {{ id: "{made["id"]}", n: 3 }}) {{ __typename }} }}')
    client.ask(tenant, f'mutation {{ deleteNastyClass(input: {{ id: "{made["id"]}" }}) {{ __typename }} }}')
    about = (
        f'{{ auditLog(first: 100, filter: {{ object: {{ eq: "{made["id"]}" }} }}) {{ nodes {{ action old new }} }} }}'
    )
    deadline = time.monotonic() + PATIENCE
    # The log is sealed a moment later.
    while len(log := client.ask(tenant, about)["auditLog"]["nodes"]) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    noted = {each["action"]: (each["old"] and each["old"]["n"], each["new"] and each["new"]["n"]) for each in log}
    assert noted == {
        "nasty_class:create": (None, 1),
        "nasty_class:update": (1, 3),
        "nasty_class:delete": (3, None),
    }


@both_strategies
def test_rows_that_were_loaded_are_found_by_their_words(client: Client, tenant: str) -> None:
    for text, titles in {
        "printer": ["The Printers"],
        "prints": ["printing"],
        "jam press": ["The Printers"],
        "elan": ["Élan vital"],
        "presse": ["The Printers", "printing"],
        "the": [],
    }.items():
        found = client.ask(tenant, f'{{ books(filter: {{search: {{text: "{text}"}}}}) {{ nodes {{ title }} }} }}')
        assert sorted(node["title"] for node in found["books"]["nodes"]) == titles, text


@both_strategies
def test_what_was_the_moment_of_a_row_is_it_again(client: Client, tenant: str) -> None:
    given = 'oldId: 7, share: "1", starts: "2020-01-01", ends: "2020-01-02", address: "x@y", code: "ABC", a: 1'
    before = datetime.now(UTC)
    made = client.ask(tenant, f"mutation {{ createBounded(input: {{ {given} }}) {{ bounded {{ id made day }} }} }}")
    row = made["createBounded"]["bounded"]
    client.ask(tenant, f'mutation {{ deleteBounded(input: {{ id: "{row["id"]}" }}) {{ __typename }} }}')
    assert before - timedelta(seconds=1) <= datetime.fromisoformat(row["made"]) <= datetime.now(UTC)
    assert row["day"] in {before.date().isoformat(), datetime.now(UTC).date().isoformat()}


def test_rows_can_be_made_up_for_what_has_rules(home: Home) -> None:
    """Bounds are declared, and other conditions come with values that fulfil them."""
    subjects = (home.place.directory / "nasty/nasty/subjects.py").read_text()
    bounded = subjects.partition("class Bounded(")[2].partition("\nclass ")[0]
    assert "year: int | None = column(minimum=1901, maximum=2155)" in bounded
    assert 'share: Decimal = column(minimum=Decimal("0.01"), digits=5, scale=2)' in bounded
    assert "ends: date = column(minimum=date(1990, 1, 2))" in bounded
    assert "made: datetime = column(default=now)" in bounded
    assert "day: date = column(default=today)" in bounded
    finished = subprocess.run(
        [sys.executable, "-c", _MADE_UP],
        cwd=home.place.directory / "nasty",
        env={**os.environ, "ISOLA_APPLICATIONS": "nasty:application"},
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [json.loads(line) for line in finished.stdout.splitlines()]
    assert rows
    for row in rows:
        assert row["ends"] > row["starts"]
        assert re.fullmatch("[A-Z]{3}", row["code"])
        assert re.fullmatch("[^@]+@[^@ ]+", row["address"])
        assert sum(row[name] is not None for name in "abn") == 1
        assert float(row["share"]) > 0


_MADE_UP = """
import json
from isola.installed import SUBJECTS
from isola.subjects.rows import generate
[bounded] = [each for each in SUBJECTS if each.declaration.name == "bounded"]
for row in generate([bounded], {"bounded": 5}, 1)["bounded"].rows:
    print(json.dumps(row, default=str))
"""


@both_strategies
def test_what_was_a_rule_is_one(client: Client, tenant: str) -> None:
    def refused(mutation: str) -> str:
        with pytest.raises(AssertionError) as caught:
            client.ask(tenant, f"mutation {{ {mutation} {{ __typename }} }}")
        return str(caught.value)

    assert "artist id" in refused('createArtist(input: { name: "x", artistId: 1 })')
    team = client.ask(tenant, "{ teams { nodes { id } } }")["teams"]["nodes"][0]["id"]
    assert "rule" in refused(f'createPerson(input: {{ name: "x", teamId: "{team}", mood: HAPPY }})')
    assert "rule" in refused(f'createPerson(input: {{ name: "a :b", teamId: "{team}", mood: HAPPY }})')
    assert "rule" in refused(f'createPerson(input: {{ name: "xy", address: "none", teamId: "{team}" }})')


def test_what_is_not_carried_is_listed_with_the_reason(home: Home) -> None:
    listed = (home.place.directory / "nasty/ADOPTED.md").read_text().partition("What is not carried")[2]
    for what, why in {
        "the column photo, bytea": "columns of bytes",
        "the column words, tsvector": "full-text search",
        "the column home, public.address": "row of its own",
        "the index people\\_lower\\_idx": "lower",
        "the check people\\_check": "no column boss here, or it is a reference",
        "the rule of few for few": "another type here",
        "the rule of small for smalls": "another type here",
        "the column bytes, bytea": "columns of bytes",
        "the column addresses, public.address": "row of its own",
        "the default of computed": "expected a constant",
        "the index lives\\_gin": "only B-tree indexes",
        "unused\\_type": "no column of a table has this type",
        "\\#\\#\\#(integer, integer)": "no counterpart",
        "what of events\\_old": "'once'",
        "events\\_old\\_what\\_check": "all partitions are in one table",
        "only\\_old on events\\_old": "all partitions are in one table",
        "touched\\_old on events\\_old": "CREATE TRIGGER",
        "one\\_life on lives": "WITHOUT OVERLAPS",
        "by\\_life on works": "compares periods",
        "only\\_bytes": "",
        "ON UPDATE of uses\\_code\\_fkey": "ids never change",
        "ON UPDATE of codes\\_people\\_code\\_fkey": "ids never change",
        "MATCH FULL of full\\_keys\\_country\\_number\\_fkey": "some of its columns can be empty and others not",
        "Order Items\\_during\\_excl": "EXCLUDE",
        "touch()": "rules are written in Python",
        "counted": "read from its tables",
        "happy": "read from its tables",
        "policy few": "code",
        "events\\_new\\_other\\_fkey on events\\_new": "not all",
        "spare": "ids are UUIDs",
        "touched on people": "CREATE TRIGGER",
    }.items():
        [line] = [line for line in listed.splitlines() if line.strip().startswith(f"- {what}") or f": {what}" in line][
            :1
        ]
        assert why in line


def test_what_is_otherwise_than_it_was_is_listed(home: Home) -> None:
    changes = (home.place.directory / "nasty/ADOPTED.md").read_text().partition("What is not carried")[0]
    for line in (
        "the generated column double\\_price: (price \\* (2)::numeric): rows keep their values",
        "grid: lists in lists, as JSON",
        "texts: the length of its items is not limited",
        "with\\_host: an index of the columns alone",
        "expected\\_updated\\_at: it is called old\\_expected\\_updated\\_at",
        "codes\\_people\\_code\\_fkey: pairs are deleted with their rows: they keep nothing from being deleted",
        "host: in works\\_host\\_key, values are equal only if all characters are the same",
    ):
        assert f"  - {line}" in changes
    assert "codes\\_people\\_person\\_fkey" not in changes
    # What PostgreSQL itself makes for a type is no object of the database.
    assert "multirange" not in changes


@both_strategies
def test_arrays_are_lists_with_all_their_items(client: Client, tenant: str) -> None:
    lists = """texts ints bigs bools numbers floats days times moments ids documents smalls few grid code computed"""
    given, full = client.ask(tenant, f"{{ lists(orderBy: [{{ field: OLD_ID }}]) {{ nodes {{ {lists} }} }} }}")["lists"][
        "nodes"
    ]
    assert {name: value for name, value in given.items() if value is not None} == {
        "texts": ["a", "b c"],
        "ints": [1, 2],
        "bools": [True, False],
        "code": "none",
        "computed": ["a", "b"],
    }
    assert full == {
        "texts": ["x", 'y "q",z', "", "NULL", "\\"],
        "ints": [],
        "bigs": [9007199254740991, -1],
        "bools": [False],
        "numbers": ["1.5", "-2"],
        "floats": [0.1, 1e30],
        "days": ["2020-02-29"],
        "times": ["2020-01-01T10:00:00.000000+00:00"],
        "moments": ["2020-01-01T08:00:00.000000+00:00"],
        "ids": ["00000000-0000-0000-0000-000000000001"],
        "documents": ['{"a": 1}'],
        "smalls": [5],
        "few": ["p", "q"],
        "grid": [[1, 2], [3, 4]],
        "code": "abc",
        "computed": ["c", "d"],
    }


@both_strategies
def test_defaults_of_arrays_and_of_domains_are_those_of_new_rows(client: Client, tenant: str) -> None:
    made = client.ask(
        tenant, "mutation { createList(input: { oldId: 3 }) { list { id texts ints bools code computed } } }"
    )["createList"]["list"]
    client.ask(tenant, f'mutation {{ deleteList(input: {{ id: "{made.pop("id")}" }}) {{ __typename }} }}')
    assert made == {
        "texts": ["a", "b c"],
        "ints": [1, 2],
        "bools": [True, False],
        "code": "none",
        "computed": None,
    }


def test_the_application_is_a_package_whose_history_makes_what_it_declares(home: Home) -> None:
    for name in ("chinook", "nasty", "large"):
        for file in (home.place.directory / name).rglob("*.py"):
            ast.parse(file.read_text())
        assert "nothing to write" in home.place.run("revision", "--application", name, "-m", "more")
    assert "0 migrated" in home.place.run("migrate")


def test_many_tables_that_refer_to_each_other_are_adopted(home: Home) -> None:
    """Whoever writes down what such a draft is made of does not come to an end."""
    tables = [f"CREATE TABLE mesh{n} (id int PRIMARY KEY)" for n in range(40)]
    keys = [f"ALTER TABLE mesh{n} ADD r{k} int REFERENCES mesh{(n + k) % 40}" for n in range(40) for k in (1, 7, 11)]
    home.make("mesh", ";".join(tables + keys))
    assert "mesh/ has 40 subjects" in home.place.run("adopt", home.address("mesh"), **NONE_INSTALLED)


def test_the_package_has_what_isola_new_writes(home: Home) -> None:
    home.place.run("new", "fresh")
    for file in ("Makefile", "pyproject.toml", "tests/conftest.py", "tests/test_isolation.py"):
        written = (home.place.directory / "chinook" / file).read_text()
        assert written == (home.place.directory / "fresh" / file).read_text().replace("fresh", "chinook")
    assert (home.place.directory / "fresh/fresh/py.typed").is_file()  # for mypy
    assert "make demo" in (home.place.directory / "chinook/README.md").read_text()
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/test_subjects.py"],
        cwd=home.place.directory / "chinook",
        env={**os.environ, "ISOLA_APPLICATIONS": "chinook:application"},
        check=False,
    )
    assert finished.returncode == 0


def test_tenants_with_circles_of_references_move_and_are_dropped(home: Home) -> None:
    home.tenant("circular", "rls")
    home.place.run("adopt", home.address("nasty"), "--load", "--tenant", "circular")
    for strategy in ("schema", "rls"):
        home.place.run("tenant", "move", "circular", "--to", strategy)
        assert (home.rows_of("circular", "people"), home.rows_of("circular", "teams")) == (3, 1)
    home.place.run("tenant", "drop", "circular", "--yes")
    assert home.stages() == []
