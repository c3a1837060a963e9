"""The text of statements: the condition of every scan, differences by placement, and what it never contains."""

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from graphql.execution.values import VariableValues

from isola.api.schema import model
from isola.installed import SUBJECTS, metadata
from isola.query.caller import Placement
from isola.query.compiler import Compiler, Reading
from isola.query.documents import Documents
from isola.query.limits import Limits
from isola.query.read_plan import ReadPlan
from isola.subjects import features, visibility
from isola.subjects.applications import BUILT_IN
from isola.subjects.audit import audit_entries, audit_log
from isola.subjects.declaration import field_of
from isola.subjects.permissions import Role, of_role
from isola_strategies import registry
from tests.api.conftest import OPERATIONS, READ

LIMITS = Limits()
STRATEGIES = registry.load("isola_tenant")
PRINCIPAL: Any = SimpleNamespace(
    tenant=SimpleNamespace(id=UUID(int=1), slug="the slug", name="the name"),
    user_id=UUID(int=2),
    roles=("editor",),
    permissions=of_role(Role.OWNER) | {"some:permission"},
    features=frozenset(features.known()),
)
# The log is read through its view.
READABLE = (metadata.tables.keys() - {audit_entries.name}) | {audit_log.name}
SCAN = re.compile(rf"\b(?:FROM|JOIN) ({'|'.join(sorted(READABLE))}) AS (\w+)")


class Without:
    def predicate(self, table: str) -> None:
        pass


class With:
    def predicate(self, table: str) -> str:
        return f"{table}.its_tenant = the_bound_one()"


def reading(document: str, **variables: Any) -> tuple[Compiler, Reading]:
    compiler = Compiler(model, LIMITS, b"secret")
    operation = Documents(model.schema, LIMITS).find(document).operation(None)
    plans = compiler.plans(operation, variables)
    plan = plans if isinstance(plans, ReadPlan) else next(iter(plans.values()))
    return compiler, compiler.read(plan, VariableValues({}, variables), PRINCIPAL)


def sql(document: str, placement: Placement | None = None, **variables: Any) -> str:
    compiler, read = reading(document, **variables)
    return compiler.statement(read, placement or Without()).sql


OF_APPLICATIONS = [subject.declaration for subject in SUBJECTS if subject.application != BUILT_IN]
PAIRS = {
    each.listed_as: " ".join(f"{field_of(pair.name)} {{ totalCount }}" for pair in each.pairs)
    for each in OF_APPLICATIONS
}
SEARCHED = [each.listed_as for each in OF_APPLICATIONS if each.subject.searched]
EVERYTHING = (
    """{
  roles { nodes { members { totalCount } } } auditLog { totalCount }
  viewer { user { organizations { nodes { members(last: 2) { totalCount edges { cursor } } } } } }
  node(id: "res_00000000-0000-7000-8000-000000000000") { id ... on Resource { owner { id } } }
  nodes(ids: ["spn_00000000-0000-7000-8000-000000000000", "org_00000000-0000-7000-8000-000000000000"]) {
    ... on Span { author { name } } ... on Organization { members { totalCount } } }
  resources(orderBy: [{field: KIND}], filter: {not: {name: {contains: "x"}}}) {
    totalCount nodes { shares { nodes { grantedBy { name } resource { name } } } spans(last: 3) { nodes { resource {
      spans { pageInfo { hasNextPage } } } } } } }
  tiers { nodes { customers { totalCount } } } tierCustomers { totalCount } flags { totalCount }
  brandingHistory { totalCount } timeline { nodes { id replayCount replayFrom { id } signingKey { id } } }
"""
    + " ".join(f"{field_of(name)} {{ nodes {{ id {pairs} }} }}" for name, pairs in PAIRS.items())
    + " ".join(
        f'found{n}: {field_of(name)}(filter: {{search: {{text: "a b", prefix: true}}}}) {{ nodes {{ id }} totalCount }}'
        for n, name in enumerate(SEARCHED)
    )
    + "}"
)


def test_every_scan_of_a_table_carries_the_predicate() -> None:
    written = sql(EVERYTHING, With())
    scans = SCAN.findall(written)
    assert {table for table, _ in scans} == READABLE
    for _, alias in scans:
        assert f"{alias}.its_tenant = the_bound_one()" in written
    assert written.count("the_bound_one()") == len(scans)


def test_no_statement_repeats_what_policies_enforce() -> None:
    written = sql(EVERYTHING)
    assert "spans" in {table for table, _ in SCAN.findall(written)}
    assert "ghost" in str(visibility.condition_in_sql(metadata.tables["spans"]))
    for part in ("ghost", "public", "current_user_id", "current_permissions"):
        assert part not in written


@pytest.mark.parametrize("name", READ)
def test_placements_differ_in_the_predicate_only(name: str) -> None:
    variables = {"id": "res_00000000-0000-7000-8000-000000000000", "ids": [], "first": 5, "spans": 5}
    document = (OPERATIONS / f"{name}.graphql").read_text()
    used = {key: value for key, value in variables.items() if f"${key}:" in document}
    compiler, read = reading(document, **used)
    with_, without = compiler.statement(read, With()).sql, compiler.statement(read, Without()).sql
    predicate = r"\w+\.its_tenant = the_bound_one\(\)"
    bare = re.sub(rf" \nWHERE {predicate}(?= |\)|$)(?! AND)|{predicate} AND | AND {predicate}", "", with_)
    assert re.sub(r"\s+|WHERE|true|\(|\)", "", bare) == re.sub(r"\s+|WHERE|true|\(|\)", "", without)


def test_nothing_of_a_request_is_in_the_text() -> None:
    document = """query ($f: ResourceFilter, $id: ID!, $o: [ResourceOrder!]) {
      resources(filter: $f, orderBy: $o) { edges { cursor node { name } } }
      node(id: $id) { id } viewer { roles permissions tenant { slug name } } }"""
    given = {"f": {"name": {"eq": "name' in it", "contains": "%part"}}, "id": f"res_{UUID(int=77)}"}
    written = sql(document, With(), **given)
    for text in ("in it", "part", str(UUID(int=77)), "the slug", "the name", "some:permission", str(UUID(int=2))):
        assert text not in written


def test_a_statement_is_written_once_for_a_shape() -> None:
    document = "query ($f: ResourceFilter, $n: Int) { resources(filter: $f, first: $n) { nodes { id } } }"
    compiler, one = reading(document, f={"name": {"eq": "x"}}, n=5)
    operation_plan = one.plan
    placement = STRATEGIES["rls"]

    def statement(**variables: Any) -> object:
        again = compiler.read(operation_plan, VariableValues({}, variables), PRINCIPAL)
        return compiler.statement(again, placement)

    first = statement(f={"name": {"eq": "x"}}, n=5)
    assert statement(f={"name": {"eq": "y"}}, n=5) is first
    assert statement(f={"name": {"gt": "y"}}, n=5) is not first
    assert statement(f={"kind": {"eq": "y"}}, n=5) is not first
    assert statement(f={"name": {"eq": "x"}}, n=6) is not first


def test_only_what_was_asked_for_is_computed() -> None:
    assert "count(*)" not in sql("{ resources { nodes { id } } }")
    assert "sha256" not in sql("{ resources { nodes { id } } }")
    assert "LIMIT 20" in sql("{ resources { nodes { id } } }")
    assert "LIMIT 21" in sql("{ resources { nodes { id } pageInfo { hasNextPage } } }")
    assert "LIMIT 20" in sql("{ resources { nodes { id } pageInfo { hasPreviousPage endCursor } } }")
    assert "LIMIT" not in sql("{ resources { totalCount } }")


def test_pages_are_read_by_row_comparisons() -> None:
    compiler, read = reading("{ resources(first: 1, orderBy: [{field: NAME}]) { edges { cursor } } }")
    shape = read.shapes[0]._replace(after=(False, False))  # type: ignore[call-arg]  # it is a Page
    written = compiler.statement(replace(read, shapes=(shape,)), Without()).sql
    assert re.search(r"\(resources_1\.name, resources_1\.id\) > \(\$\d::VARCHAR, \$\d::UUID\)", written)
