"""Query plans of the hot operations over 100,000 rows: by index, tenant column first where tenants share tables."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from graphql.execution.values import VariableValues

from isola.api.execute import Executor
from isola.api.schema import model
from isola.database.transactions import Database
from isola.platform import provisioning
from isola.query.read_plan import ReadPlan
from isola.subjects.metadata import metadata
from isola.testing.fixtures import Copy
from isola_strategies.base import Capability, Strategy
from tests.api.conftest import OPERATIONS, Principal, ids, uuid

ROWS = f"""
INSERT INTO users (id, subject, name) SELECT '{uuid(0, 0)}', 's', 'first';
INSERT INTO users (subject, name) SELECT 's' || i, 'user ' || i FROM generate_series(1, 2000) i;
INSERT INTO organizations (name, name_key) SELECT 'org ' || i, 'org ' || i FROM generate_series(1, 100000) i;
INSERT INTO memberships (organization_id, user_id)
  SELECT o.id, u.id FROM (SELECT id FROM organizations LIMIT 200) o, (SELECT id FROM users LIMIT 100) u;
INSERT INTO resources (id, owner_id, name) VALUES ('{uuid(2, 0)}', '{uuid(0, 0)}', 'first');
INSERT INTO resources (owner_id, name, kind, created_at)
  SELECT o.id, 'resource ' || i, 'kind ' || i % 7, now() - i * interval '1 minute'
  FROM generate_series(1, 100000) i JOIN (SELECT id, row_number() OVER () n FROM users) o ON o.n = 1 + i % 2000;
INSERT INTO spans (author_id, title, resource_id, visibility, created_at)
  SELECT r.owner_id, r.name, r.id, CASE WHEN length(r.name) % 2 = 0 THEN 'public' ELSE 'private' END, r.created_at
  FROM resources r;
"""
LOG = """
INSERT INTO audit_entries (at, actor, action, object, hash)
  SELECT now() - i * interval '1 second', 'usr_' || i % 500, 'span:' || i % 50, 'spn_' || i % 20000, ''
  FROM generate_series(1, 50000) i;
"""
# Where tenants share tables: rows of very many small tenants, so that the planner expects every tenant to be small.
SMALL = """
SET session_replication_role TO replica;
INSERT INTO rls.users (tenant_id, subject, name)
  SELECT tenant, 's' || i, 'user ' || i
  FROM (SELECT gen_random_uuid() AS tenant FROM generate_series(1, 3000)) tenants, generate_series(1, 3) i;
INSERT INTO rls.resources (tenant_id, owner_id, name)
  SELECT tenant_id, id, 'resource ' || i FROM rls.users, generate_series(1, 3) i;
ANALYZE rls.users, rls.resources
"""
GROWN = """
INSERT INTO users (subject, name) SELECT 's' || i, 'user ' || i FROM generate_series(1, 20000) i;
INSERT INTO resources (owner_id, name) SELECT id, 'resource of ' || name FROM users WHERE {own}
"""
JOINED = """{
  resources(first: 50) { nodes { id owner { name } spans(first: 5) { nodes { title author { name } } } } }
}"""
HOT: dict[str, dict[str, Any]] = {
    "Resource": {"id": ids("res", 0)},
    "Resources": {"first": 50},
    "ResourcesWithSpans": {"first": 20, "spans": 5},
    "Timeline": {"first": 20},
    "Node": {"id": ids("res", 0)},
    "Nodes": {"ids": [ids("res", 0), ids("usr", 0)]},
    "Viewer": {},
}


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


@pytest.fixture
async def filled(copy: Copy, owner: Database, control: Database, strategy: Strategy) -> Principal:
    tenant = await provisioning.named(control, f"{strategy.name}-a")
    async with owner.unbound() as work:
        # Changes by the owner are not logged; this test fills the log itself.
        await copy.enter(work._connection, tenant)
        await work.script(ROWS)
        await work.script(f"RESET ROLE; {LOG}")
    async with owner.unbound() as work:
        await work.script("ANALYZE")
    return Principal(tenant, uuid(0, 0))


async def test_every_scan_is_by_an_index_led_by_the_tenant(
    filled: Principal, database: Database, strategy: Strategy, executor: Executor
) -> None:
    pages = {
        f"page by {field}": (
            f"query ($after: String) {{ resources(first: 20, after: $after, orderBy: [{{field: {field}, direction:"
            f" {direction}}}]) {{ nodes {{ id }} pageInfo {{ hasNextPage hasPreviousPage endCursor }} }} }}"
        )
        for field in ("ID", "NAME", "KIND", "CREATED_AT")
        for direction in ("ASC", "DESC")
    }
    pages |= {
        f"log by {field}": (
            f"query ($after: String) {{ resources: auditLog(first: 20, after: $after, filter: {{{field}: {{{test}}}}}) "
            "{ nodes { id action } pageInfo { endCursor } } }"
        )
        for field, test in {
            "actor": 'eq: "usr_7"',
            "object": 'eq: "spn_7"',
            "action": 'eq: "span:7"',
            "at": 'lt: "2000-01-01T00:00:00Z"',
        }.items()
    }
    hot = {name: ((OPERATIONS / f"{name}.graphql").read_text(), variables) for name, variables in HOT.items()}
    async with database.transaction(filled.tenant, read_only=True) as work:

        async def run(document: str, variables: dict[str, Any], explain: str = "") -> Any:
            operation = executor.documents.find(document).operation(None)
            plan = executor.compiler.plans(operation, variables)
            assert isinstance(plan, ReadPlan)
            reading = executor.compiler.read(plan, VariableValues({}, variables), filled)
            written = executor.compiler.statement(reading, work.strategy)
            return await work.value(explain + written.sql, *written.arguments(reading.caller, (), reading.values))

        for name, (document, variables) in (hot | {name: (text, {}) for name, text in pages.items()}).items():
            given = [variables]
            if name in pages:
                first = json.loads(await run(document, {}))["resources"]["pageInfo"]
                given.append({"after": first["endCursor"]})
            for each in given:
                found = await run(document, each, "EXPLAIN (FORMAT JSON) ")
                plan = json.loads(found)[0]["Plan"] if isinstance(found, str) else found[0]["Plan"]
                scans = [node for node in nodes(plan) if node.get("Relation Name") in metadata.tables]
                assert scans, name
                for scan in scans:
                    assert scan["Node Type"] in {"Index Scan", "Index Only Scan", "Bitmap Heap Scan"}, (
                        name,
                        each,
                        scan,
                    )
                    if Capability.POLICIES in strategy.capabilities:
                        condition = scan.get("Index Cond") or scan.get("Recheck Cond")
                        assert condition, (name, each, scan)
                        assert "tenant_id = " in condition
                # Sorting is fine for a few rows: those without a kind, and those that a filter leaves of the log.
                big = [node for node in nodes(plan) if node["Node Type"] == "Sort" and node["Plan Rows"] > 100]
                sorts = [] if name.startswith("log by") else big
                assert not sorts, (name, each)


async def test_a_tenant_far_larger_than_the_others_is_read_row_by_row_by_index(
    copy: Copy, owner: Database, control: Database, database: Database, strategy: Strategy, executor: Executor
) -> None:
    """The planner does not know its size, and prefers other joins for small tenants."""
    a = await provisioning.named(control, f"{strategy.name}-a")
    async with owner.unbound() as work:
        await work.script(SMALL)
    async with owner.unbound() as work:
        await copy.enter(work._connection, a)
        await work.script(GROWN.format(own=strategy.predicate("users") or "true"))
    reader = Principal(a, uuid(0, 0))
    operation = executor.documents.find(JOINED).operation(None)
    plan = executor.compiler.plans(operation, {})
    assert isinstance(plan, ReadPlan)
    reading = executor.compiler.read(plan, VariableValues({}, {}), reader)
    async with database.transaction(a, read_only=True) as work:
        written = executor.compiler.statement(reading, work.strategy)
        values = written.arguments(reading.caller, (), reading.values)
        found = await work.value("EXPLAIN (ANALYZE, FORMAT JSON) " + written.sql, *values)
    [explained] = json.loads(found) if isinstance(found, str) else found
    read = [node for node in nodes(explained["Plan"]) if node.get("Relation Name") in metadata.tables]
    assert {node["Relation Name"] for node in read} >= {"resources", "users", "spans"}
    for node in read:
        assert (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] <= 51, node
    assert not {node["Node Type"] for node in nodes(explained["Plan"])} & {"Hash Join", "Merge Join", "Materialize"}


# The field of a search, its condition, the index that serves it, and how many rows it finds.
SEARCHES = [
    ("resources", 'startsWith: "resource 9999"', "ix_resources_name_id", 11),
    ("organizations", 'startsWithInsensitive: "ORG 9999"', "ix_organizations_name_folded_id", 11),
    ("organizations", 'eqInsensitive: "Org 99999"', "ix_organizations_name_folded_id", 1),
]


async def test_startswith_is_served_by_an_index(filled: Principal, database: Database) -> None:
    for field, condition, index, expected in SEARCHES:
        document = f"{{ {field}(first: 20, filter: {{name: {{{condition}}}}}) {{ nodes {{ name }} }} }}"
        executor = Executor(model, secret=b"x", by_code_point="nsensitive" not in condition)
        operation = executor.documents.find(document).operation(None)
        plan = executor.compiler.plans(operation, {})
        assert isinstance(plan, ReadPlan)
        reading = executor.compiler.read(plan, VariableValues({}, {}), filled)
        async with database.transaction(filled.tenant, read_only=True) as work:
            written = executor.compiler.statement(reading, work.strategy)
            values = written.arguments(reading.caller, (), reading.values)
            answer = json.loads(await work.value(written.sql, *values))
            found = await work.value("EXPLAIN (ANALYZE, FORMAT JSON) " + written.sql, *values)
        assert len(answer[field]["nodes"]) == expected, condition
        [explained] = json.loads(found) if isinstance(found, str) else found
        scans = [node for node in nodes(explained["Plan"]) if node.get("Relation Name") == field]
        # Of what the statement could do, it does one: rows that few satisfy are found by the index, and read by key.
        read = [node for node in scans if node["Actual Loops"]]
        assert read[0]["Index Name"] == index, condition
        assert all(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) <= 21 for node in read), condition
        assert sum(node["Actual Loops"] for node in read) <= 22, condition
