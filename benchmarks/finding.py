"""What each operator of filters and orderings costs in a tenant of 100,000 rows among 200: PostgreSQL's CPU of a page.

``python -m benchmarks.finding`` from the checkout. Under each strategy, 199 tenants have 100 resources each, and
one has 100,000 resources of 1,000 users, 100,000 spans, organizations, and cases of examples/cases. Each read asks for
the first 20 rows that satisfy a filter, which few rows, many rows or no rows do. Some also count all rows, as a whole
or in groups: that takes longer the more there are, and has no bar. The reads run on one connection, as the server reads
them. Exit status 1 if a bar is missed.
"""

import asyncio
import json
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.figures import Figure, show
from benchmarks.large import STRATEGIES, analyze, grow, shape
from benchmarks.many import place_of, populated
from benchmarks.reading import microseconds
from isola.lab.backend import Backend
from isola.lab.operations import Declared
from isola.lab.population import Resident
from isola.lab.statements import Statements
from isola.platform.collation import sorts_by_code_point

RESOURCES, SPANS, USERS = 100, 100, 1_000
WARMING, REPEATED, ROUNDS = 6, 10, 7
BAR = 5.0
"""Milliseconds."""
MORE = """
INSERT INTO {home}.users ({column}id, subject, name, email)
SELECT {value}md5('{tenant}.' || n)::uuid, '{tenant}.' || n, 'user ' || n, 'user-' || n || '@example.com'
FROM generate_series(1, {users}) n;
UPDATE {home}.resources SET owner_id = md5('{tenant}.' || 1 + abs(hashtext(id::text)) % {users})::uuid
WHERE id IN (SELECT md5('{tenant}/' || n)::uuid FROM generate_series(1, {rows}) n);
INSERT INTO {home}.organizations ({column}id, name, name_key)
SELECT {value}md5('{tenant}-' || n)::uuid, 'Office ' || n, 'office ' || n FROM generate_series(1, {rows}) n;
INSERT INTO {home}.memberships ({column}organization_id, user_id)
SELECT {value}md5('{tenant}-' || n)::uuid, md5('{tenant}.' || 1 + n % {users})::uuid FROM generate_series(1, {rows}) n;
INSERT INTO {home}.cases ({column}id, title, description, reporter_id)
SELECT {value}md5('{tenant}_' || n)::uuid, 'Printer ' || n || CASE WHEN n % 2 = 0 THEN ' jams' ELSE ' is loud' END,
    CASE WHEN n % 10000 = 0 THEN 'There is smoke.' WHEN n % 3 = 0 THEN 'On Monday.' ELSE '' END,
    md5('{tenant}.' || 1 + n % {users})::uuid
FROM generate_series(1, {rows}) n;
INSERT INTO {home}.cases_words ({column}case_id, word)
SELECT {value}id, unnest(isola.words('pg_catalog.english', concat_ws(chr(10), title, description))) FROM {home}.cases
WHERE id IN (SELECT md5('{tenant}_' || n)::uuid FROM generate_series(1, {rows}) n)
"""
FILTERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "text: eq": ("resources", {"name": {"eq": "amber 77777"}}),
    "text: startsWith": ("resources", {"name": {"startsWith": "amber 777"}}),
    "text: startsWith, many": ("resources", {"name": {"startsWith": "amber"}}),
    "text: gt, few": ("resources", {"name": {"gt": "amber 99990"}}),
    "text: gt, many": ("resources", {"name": {"gt": "amber"}}),
    "text: gt and lt, many": ("resources", {"name": {"gt": "amber", "lt": "b"}}),
    "text: in, few": ("resources", {"name": {"in": ["amber 77777", "amber 777"]}}),
    "text: in, no rows": ("resources", {"kind": {"in": ["person", "place"]}}),
    "text: startsWithInsensitive, many": ("organizations", {"name": {"startsWithInsensitive": "office"}}),
    "text: eqInsensitive": ("organizations", {"name": {"eqInsensitive": "OFFICE 77777"}}),
    "text: startsWithInsensitive": ("organizations", {"name": {"startsWithInsensitive": "OFFICE 777"}}),
    "text: eqInsensitive, accents": ("organizations", {"name": {"eqInsensitive": "Öffice 77777"}}),
    "text: containsInsensitive of few": (
        "organizations",
        {"name": {"startsWithInsensitive": "Öffice 777", "containsInsensitive": "ICÉ 7777"}},
    ),
    "times: newerThan, all": ("resources", {"createdAt": {"newerThan": "P1D"}}),
    "times: olderThan, none": ("resources", {"createdAt": {"olderThan": "P1D"}}),
    "one: few": ("resources", {"owner": {"name": {"eq": "user 77"}}}),
    # About the number from which on rows are read in order.
    "one: 1,100 rows": ("resources", {"owner": {"name": {"in": [f"user {n + 1}" for n in range(11)]}}}),
    "one: 1,300 rows": ("resources", {"owner": {"name": {"in": [f"user {n + 1}" for n in range(13)]}}}),
    "one: many": ("resources", {"owner": {"name": {"startsWith": "user"}}}),
    "one: no rows": ("resources", {"owner": {"name": {"eq": "nobody"}}}),
    "not one: many": ("resources", {"not": {"owner": {"name": {"eq": "user 77"}}}}),
    "one and one: few": ("spans", {"resource": {"owner": {"name": {"eq": "user 77"}}}}),
    "some: few": ("resources", {"spans": {"some": {"title": {"eq": "reviewed 77777"}}}}),
    "some: 1,111 rows": ("resources", {"spans": {"some": {"title": {"startsWith": "reviewed 77"}}}}),
    "some: 11,111 rows": ("resources", {"spans": {"some": {"title": {"startsWith": "reviewed 7"}}}}),
    "some: 1,111 rows, and a column": (
        "resources",
        {"spans": {"some": {"title": {"startsWith": "reviewed 77"}}}, "name": {"startsWith": "amber"}},
    ),
    "some: many": ("resources", {"spans": {"some": {"title": {"startsWith": "reviewed"}}}}),
    "some: no rows": ("resources", {"spans": {"some": {"title": {"eq": "nothing"}}}}),
    "none: many": ("resources", {"spans": {"none": {"title": {"eq": "reviewed 77777"}}}}),
    "some of pairs: few": ("organizations", {"members": {"some": {"name": {"eq": "user 77"}}}}),
    "some of pairs: many": ("organizations", {"members": {"some": {"name": {"startsWith": "user"}}}}),
    "some of pairs: no rows": ("organizations", {"members": {"some": {"name": {"eq": "nobody"}}}}),
    "none of pairs: many": ("organizations", {"members": {"none": {"name": {"eq": "user 77"}}}}),
    "search: a rare word": ("cases", {"search": {"text": "smoke"}}),
    "search: a frequent word": ("cases", {"search": {"text": "printers"}}),
    "search: no word": ("cases", {"search": {"text": "nothing"}}),
    "search: a rare and a frequent word": ("cases", {"search": {"text": "smoking printer"}}),
    "search: two frequent words": ("cases", {"search": {"text": "monday jam"}}),
    "search: a frequent beginning": ("cases", {"search": {"text": "print", "prefix": True}}),
    "search: a rare beginning": ("cases", {"search": {"text": "7777", "prefix": True}}),
    "some and some: few": ("users", {"organizations": {"some": {"name": {"eq": "Office 77"}}}}),
}
BY_TIME = (
    "text: startsWith",
    "text: startsWith, many",
    "text: gt, few",
    "text: gt, many",
    "text: in, few",
    "some: few",
)
"""Filters of resources that are measured in the order of their creation as well."""
ORDERS: Mapping[str, tuple[str, Sequence[Mapping[str, str]]]] = {
    "order: nulls first": ("resources", [{"field": "KIND", "direction": "ASC", "nulls": "FIRST"}]),
    "order: nulls last": ("resources", [{"field": "KIND", "direction": "DESC", "nulls": "LAST"}]),
}
GROUPS: Mapping[str, str] = {
    "groups: five kinds": "{ resources(first: 20) { groups { kind { value count } } nodes { id } } }",
    "groups: 1,000 owners": "{ resources(first: 20) { groups { ownerId { value count } } nodes { id } } }",
    "groups of one row": "{ resources(first: 20) { nodes { spans(first: 0) { groups { visibility { count } } } } } }",
    "totalCount": "{ resources(first: 20) { totalCount nodes { id } } }",
}
COUNTING = frozenset(GROUPS) - {"groups of one row"}
"""They read the index of all rows, so that they take longer the more rows there are: they have no bar."""
TYPES = {"resources": "Resource", "organizations": "Organization", "users": "User", "spans": "Span", "cases": "Case"}
LISTED = {"spans": "timeline"}


def operations() -> Iterator[tuple[str, Declared]]:
    for name, (listed, filter_) in FILTERS.items():
        field = LISTED.get(listed, listed)
        document = f"query Q($f: {TYPES[listed]}Filter) {{ {field}(first: 20, filter: $f) {{ nodes {{ id }} }} }}"
        yield name, Declared("Q", document, lambda *_, filter_=filter_: {"f": filter_})
    by_time = [{"field": "CREATED_AT", "direction": "DESC"}]
    document = (
        "query Q($f: ResourceFilter, $o: [ResourceOrder!]) "
        "{ resources(first: 20, filter: $f, orderBy: $o) { nodes { id } } }"
    )
    for name in BY_TIME:
        filter_ = FILTERS[name][1]
        yield f"{name}, by time", Declared("Q", document, lambda *_, filter_=filter_: {"f": filter_, "o": by_time})
    for name, (listed, order) in ORDERS.items():
        document = f"query Q($o: [{TYPES[listed]}Order!]) {{ {listed}(first: 20, orderBy: $o) {{ nodes {{ id }} }} }}"
        yield name, Declared("Q", document, lambda *_, order=order: {"o": order})
    for name, selection in GROUPS.items():
        yield name, Declared("Q", f"query Q {selection}", lambda *_: {})


async def grown(address: str, strategy: str, rows: int) -> Resident:
    """Create the large tenant."""
    return await grow(address, strategy, rows, rows, MORE, {"rows": rows, "users": USERS})


async def run(address: str, strategy: str, rows: int) -> Sequence[Figure]:
    large = await grown(address, strategy, rows)
    await analyze(address)
    place = place_of(address, connections=1)
    figures = []
    async with await place.tenants() as database:
        async with database.unbound() as work:
            statements = Statements(by_code_point=await sorts_by_code_point(work))
            backend = Backend(await work.value("SELECT pg_backend_pid()"))
        for filtered, operation in operations():
            written = statements.of(operation, large, place.strategies[strategy])
            rounds = [
                await microseconds(database, [(large, written)], backend, warming=WARMING, repeated=REPEATED)
                for _ in range(ROUNDS)
            ]
            async with database.transaction(large.tenant, read_only=True, about=written.about) as work:
                [found] = json.loads(await work.value(written.sql, *written.arguments)).values()
                plan = await work.value(f"EXPLAIN (FORMAT JSON) {written.sql}", *written.arguments)
            name = f"{strategy}, {filtered}: {len(found['nodes'])} rows"
            bar = None if filtered in COUNTING else BAR
            figures.append(Figure(name, statistics.median(rounds) / 1000, "ms", bar))
            if not figures[-1].passed:
                nodes = "; ".join(shape(json.loads(plan)[0]["Plan"]))
                Console(stderr=True).print(f"{name}:\n  {nodes}", highlight=False)
    return figures


def main(
    *,
    tenants: Annotated[int, typer.Option(min=1, help="number of small tenants")] = 199,
    rows: Annotated[int, typer.Option(min=1_000, help="resources of the large tenant")] = 100_000,
) -> None:
    """Print what each filter costs."""
    figures: list[Figure] = []
    for strategy in STRATEGIES:
        with populated(strategy, tenants, RESOURCES, SPANS) as address:
            figures += asyncio.run(run(address, strategy, rows))
    show(figures, "PostgreSQL's CPU of a page of 20")
    sys.exit(not all(each.passed for each in figures))


if __name__ == "__main__":
    typer.run(main)
