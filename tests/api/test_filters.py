"""Each comparison against the result of Python for the same rows."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, insert

from isola.api.execute import Executor
from isola.api.schema import model
from isola.errors import BadUserInput
from isola.query.effort import Effort
from isola.query.limits import Limits
from isola.subjects.organizations import organizations
from isola.subjects.resources import resources
from isola.testing.fixtures import STRATEGIES
from tests.api.conftest import NAMES as PEOPLE, SECRET, Caller, Principal, World, ids, uuid
from tests.api.reference import folded

QUERY = """query ($filter: ResourceFilter) { resources(first: 100, filter: $filter) {
  totalCount nodes { id name kind sizeBytes createdAt owner { id } } } }"""
Node = dict[str, Any]
BIG = 2**53 - 1

CASES: list[tuple[dict[str, Any], Callable[[Node], bool]]] = [
    ({}, lambda _: True),
    ({"name": {"eq": "Ada"}}, lambda n: n["name"] == "Ada"),
    ({"name": {"in": ["Ada", "ada", "漢字", "O'Neil"]}}, lambda n: n["name"] in {"Ada", "ada", "漢字", "O'Neil"}),
    ({"name": {"in": []}}, lambda _: False),
    ({"name": {"contains": "_%"}}, lambda n: "_%" in n["name"]),
    ({"name": {"contains": "\\"}}, lambda n: "\\" in n["name"]),
    ({"name": {"contains": "'"}}, lambda n: "'" in n["name"]),
    ({"name": {"startsWith": "A"}}, lambda n: n["name"].startswith("A")),
    ({"name": {"startsWith": "_"}}, lambda n: n["name"].startswith("_")),
    ({"name": {"startsWith": ""}}, lambda _: True),
    ({"name": {"startsWith": "漢"}}, lambda n: n["name"].startswith("漢")),
    ({"name": {"startsWith": "%"}}, lambda n: n["name"].startswith("%")),
    ({"name": {"startsWith": "\U0010ffff"}}, lambda n: n["name"].startswith("\U0010ffff")),
    ({"not": {"name": {"startsWith": "A"}}}, lambda n: not n["name"].startswith("A")),
    ({"kind": {"startsWith": "im"}}, lambda n: (n["kind"] or "").startswith("im")),
    ({"kind": {"isNull": True}}, lambda n: n["kind"] is None),
    ({"kind": {"isNull": False}}, lambda n: n["kind"] is not None),
    ({"not": {"kind": {"eq": "image"}}}, lambda n: n["kind"] != "image"),
    ({"not": {"not": {"kind": {"eq": "image"}}}}, lambda n: n["kind"] == "image"),
    ({"not": {}}, lambda _: False),
    ({"or": []}, lambda _: False),
    ({"and": []}, lambda _: True),
    ({"and": [{}, {"or": [{}]}]}, lambda _: True),
    ({"sizeBytes": {"gt": 1}}, lambda n: n["sizeBytes"] > 1),
    ({"sizeBytes": {"gte": 1, "lt": BIG}}, lambda n: 1 <= n["sizeBytes"] < BIG),
    ({"sizeBytes": {"lte": "77"}}, lambda n: n["sizeBytes"] <= 77),
    ({"sizeBytes": {"eq": BIG}}, lambda n: n["sizeBytes"] == BIG),
    ({"sizeBytes": {"in": [0, 77]}}, lambda n: n["sizeBytes"] in {0, 77}),
    (
        {"createdAt": {"gte": "2026-01-01T00:10:00+00:00"}},
        lambda n: n["createdAt"] >= "2026-01-01T00:10:00",
    ),
    (
        {"createdAt": {"lt": "2026-01-01T05:40:00+05:30"}},
        lambda n: n["createdAt"] < "2026-01-01T00:10:00",
    ),
    ({"ownerId": {"eq": ids("usr", 2)}}, lambda n: n["owner"]["id"] == ids("usr", 2)),
    ({"id": {"in": [ids("res", 3), ids("res", 99)]}}, lambda n: n["id"] == ids("res", 3)),
    (
        {"or": [{"kind": {"eq": "text"}}, {"name": {"eq": "Ada"}}], "sizeBytes": {"lt": 77}},
        lambda n: (n["kind"] == "text" or n["name"] == "Ada") and n["sizeBytes"] < 77,
    ),
    (
        {"and": [{"not": {"kind": {"in": ["text", "image"]}}}, {"or": [{"sizeBytes": {"eq": 0}}, {"not": {}}]}]},
        lambda n: n["kind"] not in {"text", "image"} and n["sizeBytes"] == 0,
    ),
]


@pytest.fixture(scope="module")
def executors() -> dict[bool, Executor]:
    """By whether the database is known to sort by code points, as that of the tests does."""
    return {
        known: Executor(model, secret=SECRET, effort=Effort(rate=1), by_code_point=known) for known in (False, True)
    }


@pytest.mark.parametrize("by_code_point", [False, True])
@pytest.mark.parametrize(("filter_", "holds"), CASES)
async def test_comparisons(
    a: Caller,
    filter_: dict[str, Any],
    holds: Callable[[Node], bool],
    executors: dict[bool, Executor],
    by_code_point: bool,  # noqa: FBT001  pytest passes it by name
) -> None:
    a = a.using(executors[by_code_point])
    every = (await a.ask(QUERY)).data["resources"]["nodes"]
    found = (await a.ask(QUERY, {"filter": filter_})).data["resources"]
    assert found["nodes"] == [node for node in every if holds(node)]
    assert found["totalCount"] == len(found["nodes"])


WITH_RELATED = """query ($filter: ResourceFilter, $after: String, $order: [ResourceOrder!]) {
  resources(first: 100, after: $after, filter: $filter, orderBy: $order) {
    nodes { id kind owner { name roles { nodes { name } } } spans(first: 100) { nodes { title visibility } } }
    totalCount } }"""
RELATED: list[tuple[dict[str, Any], Callable[[Node], bool]]] = [
    ({"owner": {"name": {"eq": PEOPLE[1]}}}, lambda n: n["owner"]["name"] == PEOPLE[1]),
    ({"owner": {}}, lambda _: True),
    ({"not": {"owner": {"name": {"eq": PEOPLE[1]}}}}, lambda n: n["owner"]["name"] != PEOPLE[1]),
    ({"spans": {"some": {}}}, lambda n: n["spans"]["nodes"]),
    ({"spans": {"none": {}}}, lambda n: not n["spans"]["nodes"]),
    (
        {"spans": {"some": {"visibility": {"eq": "PRIVATE"}}, "none": {"visibility": {"eq": "PUBLIC"}}}},
        lambda n: {"PRIVATE"} <= {each["visibility"] for each in n["spans"]["nodes"]} <= {"PRIVATE", "ORGANIZATION"},
    ),
    (
        {"owner": {"roles": {"some": {"name": {"eq": "reviewer"}}}}, "kind": {"eq": "text"}},
        lambda n: n["kind"] == "text" and {"name": "reviewer"} in n["owner"]["roles"]["nodes"],
    ),
    (
        {"or": [{"owner": {"name": {"eq": PEOPLE[0]}}}, {"spans": {"some": {}}}], "owner": {"roles": {"none": {}}}},
        lambda n: (n["owner"]["name"] == PEOPLE[0] or n["spans"]["nodes"]) and not n["owner"]["roles"]["nodes"],
    ),
]


async def test_times_are_compared_with_the_present_one(a: Caller, world: World) -> None:
    query = """query ($filter: ResourceFilter) { resources(first: 100, filter: $filter) {
      nodes { name } pageInfo { endCursor } } }"""
    now = datetime.now(UTC)
    times = {"an hour ago": now - timedelta(hours=1), "in an hour": now + timedelta(hours=1)}
    async with world.database.transaction(a.principal.tenant) as work:
        new = [{"name": name, "owner_id": uuid(0, 0), "kind": "moment", "created_at": at} for name, at in times.items()]
        await work.execute(insert(resources).values(new))
    found = {}
    for name, operator in {
        "recent": {"newerThan": "PT2H"}, "old": {"olderThan": "PT2H"}, "past": {"olderThan": "PT0S"},
        "soon": {"newerThan": "PT0S", "olderThan": "-PT2H"},
    }.items():  # fmt: skip
        page = (await a.ask(query, {"filter": {"createdAt": operator, "kind": {"eq": "moment"}}})).data["resources"]
        found[name] = {node["name"] for node in page["nodes"]}
    async with world.database.transaction(a.principal.tenant) as work:
        await work.execute(delete(resources).where(resources.c.kind == "moment"))
    assert found == {"recent": set(times), "old": set(), "past": {"an hour ago"}, "soon": {"in an hour"}}


@pytest.mark.parametrize("few", [0, 1_200])
@pytest.mark.parametrize(("filter_", "holds"), RELATED)
async def test_rows_are_found_by_related_rows(
    a: Caller, filter_: dict[str, Any], holds: Callable[[Node], bool], few: int
) -> None:
    a = a.using(Executor(model, secret=SECRET, limits=Limits(few=few), effort=Effort(rate=1)))
    every = (await a.ask(WITH_RELATED)).data["resources"]["nodes"]
    expected = [node for node in every if holds(node)]
    assert 0 < len(expected) < len(every) or filter_ == {"owner": {}}
    found = (await a.ask(WITH_RELATED, {"filter": filter_})).data["resources"]
    assert (found["nodes"], found["totalCount"]) == (expected, len(expected))


PAGED: list[tuple[dict[str, Any], Callable[[Node], bool]]] = [
    ({"spans": {"some": {}}}, lambda n: n["spans"]["nodes"]),
    ({"kind": {"in": ["image", "text"]}}, lambda n: n["kind"] in {"image", "text"}),
    ({"createdAt": {"gte": "2020-01-01T00:00:00Z"}, "spans": {"some": {}}}, lambda n: n["spans"]["nodes"]),
    (
        {"kind": {"startsWith": "text"}, "spans": {"none": {}}},
        lambda n: n["kind"] == "text" and not n["spans"]["nodes"],
    ),
    (
        {"kind": {"gt": "d", "lt": "u"}, "not": {"name": {"eq": ""}}},
        lambda n: "d" < (n["kind"] or "") < "u" and n["name"],
    ),
]


@pytest.mark.parametrize("few", [0, 3, 1_200])
@pytest.mark.parametrize(("filter_", "holds"), PAGED)
async def test_pages_of_rows_that_related_rows_or_an_index_lead_to(
    a: Caller, filter_: dict[str, Any], holds: Callable[[Node], bool], few: int
) -> None:
    a = a.using(Executor(model, secret=SECRET, limits=Limits(few=few), effort=Effort(rate=1)))
    query = """query ($after: String, $before: String, $first: Int, $last: Int, $filter: ResourceFilter) {
      resources(first: $first, last: $last, after: $after, before: $before, filter: $filter,
        orderBy: [{field: NAME, direction: DESC}]) { nodes { id name kind spans(first: 1) { nodes { id } } }
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"""
    every = (await a.ask(query, {"first": 100})).data["resources"]["nodes"]
    whole = [node for node in every if holds(node)]
    for size, begin, end, more in (("first", "after", "endCursor", "hasNextPage"),
                                   ("last", "before", "startCursor", "hasPreviousPage")):  # fmt: skip
        pages: list[Any] = []
        cursor = None
        while not pages or pages[-1]["pageInfo"][more]:
            pages.append((await a.ask(query, {size: 3, begin: cursor, "filter": filter_})).data["resources"])
            cursor = pages[-1]["pageInfo"][end]
        in_order = pages if size == "first" else pages[::-1]
        assert [node for page in in_order for node in page["nodes"]] == whole
        assert [page["pageInfo"]["hasPreviousPage"] for page in in_order] == [False] + [True] * (len(pages) - 1)
    assert len(whole) > 3


async def test_a_filter_by_related_rows_needs_the_permission_to_read_them(a: Caller) -> None:
    query = "query ($filter: ResourceFilter) { resources(filter: $filter) { totalCount } organizations { totalCount } }"
    lacking = replace(a, principal=replace(a.principal, permissions=a.principal.permissions - {"role:read"}))
    refused: list[dict[str, Any]] = [
        {"owner": {"roles": {"some": {"name": {"startsWith": "o"}}}}},
        {"not": {"or": [{"kind": {"eq": "text"}}, {"owner": {"roles": {"none": {}}}}]}},
    ]
    for filter_ in refused:
        answer = await lacking.ask(query, {"filter": filter_})
        assert (answer.error["message"], answer.error["path"]) == ("this needs the permission role:read", ["resources"])
        assert answer.body["data"] == {"resources": None, "organizations": {"totalCount": 3}}
    accepted: list[dict[str, Any]] = [{}, {"owner": {"name": {"startsWith": "o"}}}, {"owner": {"roles": {}}}]
    for filter_ in accepted:
        assert (await lacking.ask(query, {"filter": filter_})).data["resources"] is not None


async def test_literals_are_as_good_as_variables(a: Caller) -> None:
    answer = await a.ask(
        """query ($kinds: [String!], $name: String!) { resources(first: 100, filter: {
             kind: {in: $kinds}, or: [{name: {startsWith: $name}}, {sizeBytes: {eq: "0"}}]}) { totalCount } }""",
        {"kinds": ["image", "text"], "name": "A"},
    )
    given = {"kind": {"in": ["image", "text"]}, "or": [{"name": {"startsWith": "A"}}, {"sizeBytes": {"eq": 0}}]}
    assert (
        answer.data["resources"]["totalCount"]
        == (await a.ask(QUERY, {"filter": given})).data["resources"]["totalCount"]
    )


async def test_enums_are_compared_by_their_names(a: Caller) -> None:
    query = "query ($f: SpanFilter) { timeline(first: 100, filter: $f) { nodes { visibility } } }"
    answer = await a.ask(query, {"f": {"visibility": {"in": ["PUBLIC", "ORGANIZATION"]}}})
    assert {node["visibility"] for node in answer.data["timeline"]["nodes"]} == {"PUBLIC", "ORGANIZATION"}
    assert (await a.ask(query, {"f": {"visibility": {"eq": "public"}}})).code == "BAD_USER_INPUT"


FIVE_DEEP: dict[str, Any] = {
    "owner": {"roles": {"some": {"members": {"some": {"organizations": {"some": {"members": {"none": {}}}}}}}}}
}


@pytest.mark.parametrize(
    ("filter_", "named"),
    [
        ({"name": None}, "filter.name"),
        ({"name": {"eq": None}}, "filter.name.eq"),
        ({"kind": {"in": None}}, "filter.kind.in"),
        ({"not": None}, "filter.not"),
        ({"and": [{"or": [{"name": {"lt": None}}]}]}, "filter.and.0.or.0.name.lt"),
        ({"id": {"eq": "nonsense"}}, "filter.id.eq"),
        ({"id": {"eq": ids("usr", 0)}}, "filter.id.eq"),
        ({"ownerId": {"in": [ids("usr", 0), ids("usr", 0).upper()]}}, "filter.ownerId.in.1"),
        ({"name": {"eq": "a\0b"}}, "filter.name.eq"),
        ({"name": {"contains": "\ud800"}}, "filter.name.contains"),
        ({"name": {"in": ["x"] * 1001}}, "filter.name.in"),
        ({"and": [{"name": {"eq": "x"}}] * 101}, "a filter"),
        ({"and": [{"kind": {"isNull": True}}] * 101}, "a filter"),
        ({"and": [{"spans": {"some": {}, "none": {}}}] * 51}, "a filter"),
        ({"owner": None}, "filter.owner must not be null; omit it for no condition, or use ownerId: {isNull: true}"),
        ({"spans": None}, "filter.spans must not be null; omit it for no condition, or use none"),
        ({"spans": {"some": None}}, "filter.spans.some must not be null; omit it for no condition, or use {}"),
        ({"owner": {"name": {"eq": None}}}, "filter.owner.name.eq"),
        ({"owner": {"id": {"eq": ids("res", 0)}}}, "filter.owner.id.eq"),
        (FIVE_DEEP, "filter.owner.roles.some.members.some.organizations: expected at most 3 nested relations"),
    ],
)
async def test_conditions_that_make_no_sense(a: Caller, filter_: dict[str, Any], named: str) -> None:
    answer = await a.ask(QUERY, {"filter": filter_})
    assert answer.code == "BAD_USER_INPUT"
    assert answer.error["message"].startswith(named)
    assert answer.transactions == 0


@pytest.mark.parametrize(
    "filter_",
    [
        {"nonsense": 1},
        {"name": "x"},
        {"sizeBytes": {"eq": "1.5"}},
        {"sizeBytes": {"eq": 2**53}},
        {"sizeBytes": {"eq": True}},
        {"createdAt": {"eq": "2026-01-01"}},
        {"createdAt": {"eq": "2026-01-01T00:00:00"}},
        {"createdAt": {"eq": "0001-01-01T00:00:00+14:00"}},
        {"createdAt": {"eq": 5}},
        *({"createdAt": {"newerThan": wrong}} for wrong in ("P", "PT", "P1M", "P1Y", "P1.5D", "1 day", "P1W1D", 5)),
        *({"createdAt": {"olderThan": wrong}} for wrong in ("P36501D", "PT9999999999S", "--P1D", "P\u0661D", "P1DT")),
        "x",
        [[]],
    ],
)
async def test_values_of_the_wrong_type(a: Caller, filter_: object) -> None:
    answer = await a.ask(QUERY, {"filter": filter_})
    assert answer.code == "BAD_USER_INPUT"
    assert "$filter" in answer.error["message"]
    assert answer.transactions == 0


NAMES = (
    "Ada",
    "ADAM",
    "äther",
    "ÄTHER",
    "İzmir",
    "izmir",
    "ΣΊΣΥΦΟΣ",
    "a\U0010ffff\U0010ffffb",
    "a%",
    "straße",
    "STRASSE",
    "Müller",
    "MULLER",
    "Mu\u0308ller",
    "\uff2dü\uff4c\uff4cer",
    "\ufb01nance 100\uff05",
    "Łódź",
    "Nguyễn",
)
INSENSITIVE = "query ($f: OrganizationFilter) { organizations(first: 100, filter: $f) { nodes { name } totalCount } }"


@pytest.fixture(scope="module", params=STRATEGIES)
async def named(request: pytest.FixtureRequest, world: World) -> AsyncIterator[Caller]:
    """A tenant with organizations of these names, which are gone afterwards."""
    a = world.tenants[f"{request.param}-a"]
    async with world.database.transaction(a) as work:
        new = [{"name": name, "name_key": f"key of {name}"} for name in NAMES]
        await work.execute(insert(organizations).values(new))
    yield Caller(world.database, Principal(a, uuid(0, 0)), Executor(model, secret=SECRET, effort=Effort(rate=1)))
    async with world.database.transaction(a) as work:
        await work.execute(delete(organizations).where(organizations.c.name_key.in_([f"key of {n}" for n in NAMES])))


@pytest.mark.parametrize(
    "given",
    [
        *("", "ad", "ADA", "Ä", "iZ", "σίσυφοσ", "A\U0010ffff", "a%", "STRASSE", "_", "straße", "ÄTHER", "muller"),
        *("MÜLL", "mu\u0308ller", "\ufb01", "fi", "100%", "\uff05", "lodz", "łodz", "NGUYEN", "\u0301"),
        *("n\u0303guye", "\U0010ffff"),
    ],
)
async def test_comparisons_without_regard_to_case_and_accents(named: Caller, given: str) -> None:
    every = [node["name"] for node in (await named.ask(INSENSITIVE)).data["organizations"]["nodes"]]
    assert set(NAMES) <= set(every)
    always = {"createdAt": {"gt": "1999-01-01T00:00:00Z", "lt": "2999-01-01T00:00:00Z"}}
    for comparison, holds in (
        ("eqInsensitive", str.__eq__),
        ("startsWithInsensitive", str.startswith),
        ("containsInsensitive", str.__contains__),
    ):
        condition = {"name": {comparison: given}}
        found = (await named.ask(INSENSITIVE, {"f": {**condition, **always}})).data["organizations"]
        expected = [name for name in every if holds(folded(name), folded(given))]
        assert [node["name"] for node in found["nodes"]] == expected, comparison
        assert found["totalCount"] == len(found["nodes"])
        others = (await named.ask(INSENSITIVE, {"f": {"not": condition, **always}})).data["organizations"]
        assert found["totalCount"] + others["totalCount"] == len(every)


@pytest.mark.parametrize("given", ["Müller", "MULLER", "muller", "mu\u0308ller", "\uff2dÜ\uff2c\uff2cer"])
async def test_one_name_is_found_however_it_is_written(named: Caller, given: str) -> None:
    found = (await named.ask(INSENSITIVE, {"f": {"name": {"eqInsensitive": given}}})).data["organizations"]
    assert {node["name"] for node in found["nodes"]} == {"Müller", "MULLER", "Mu\u0308ller", "\uff2dü\uff4c\uff4cer"}


SLOW = {"name": {"containsInsensitive": "ull"}}


@pytest.mark.parametrize(
    "filter_",
    [
        SLOW,
        {"not": SLOW},
        {"or": [SLOW, {"name": {"eq": "x"}}]},
        {**SLOW, "createdAt": {"gt": "1999-01-01T00:00:00Z"}},
        {"members": {"some": {"organizations": {"some": SLOW}}}},
    ],
)
async def test_what_no_index_serves_is_refused_alone(named: Caller, filter_: dict[str, Any]) -> None:
    answer = await named.ask(INSENSITIVE, {"f": filter_})
    assert answer.code == "BAD_USER_INPUT"
    assert answer.error["extensions"]["field"].endswith("name.containsInsensitive")
    assert answer.error["message"].endswith(
        "expected together with a condition that uses an index: eq, eqInsensitive, in, startsWith, "
        "startsWithInsensitive or both ends of a range, of one of createdAt, id, name"
    )
    assert answer.transactions == 0


@pytest.mark.parametrize("beside", [{"startsWith": "M"}, {"startsWithInsensitive": "m"}, {"eqInsensitive": "müller"}])
async def test_what_no_index_serves_is_accepted_beside_what_one_serves(named: Caller, beside: dict[str, Any]) -> None:
    found = await named.ask(INSENSITIVE, {"f": {"name": {"containsInsensitive": "ULL", **beside}}})
    assert "Müller" in {node["name"] for node in found.data["organizations"]["nodes"]}


@pytest.mark.parametrize("operator", ["eqInsensitive", "startsWithInsensitive", "containsInsensitive"])
async def test_a_text_to_compare_in_any_form_has_a_maximum_length(named: Caller, operator: str) -> None:
    answer = await named.ask(INSENSITIVE, {"f": {"name": {"eq": "Müller", operator: "\ufdfa" * 2601}}})
    assert (answer.code, answer.error["extensions"]["field"]) == ("BAD_USER_INPUT", f"filter.name.{operator}")
    assert answer.transactions == 0


async def test_a_name_whose_form_to_compare_does_not_fit_into_the_index_is_refused(named: Caller, world: World) -> None:
    # One character that becomes 18. As many as a name may have would not fit into an entry of an index.
    new = insert(organizations).values(name="\ufdfa" * 200, name_key="long")
    with pytest.raises(BadUserInput, match="name folded size"):
        async with world.database.transaction(named.principal.tenant) as work:
            await work.execute(new)
