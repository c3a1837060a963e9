"""Each shared operation of clients with its SQL and its result, as a page for reviews.

``make snapshots`` rewrites the pages.
"""

import difflib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlglot
from graphql import get_variable_values

from isola.api.execute import Executor
from isola.api.schema import model
from isola.database.transactions import Database
from isola.platform import provisioning
from isola.platform.tenants import Tenant
from isola.query.read_plan import ReadPlan
from isola.subjects import partnerships
from isola.subjects.actor import Actor
from isola.subjects.permissions import Role, of_role
from isola.testing.consent import end_partnerships
from isola.testing.fixtures import Copy
from tests.api.conftest import OPERATIONS, READ, Caller, Principal, ids, settle, share, uuid

PAGES = Path(__file__).parent / "snapshots"
VARIABLES: dict[str, dict[str, Any]] = {
    "AuditLog": {"first": 2, "filter": {"object": {"eq": f"{ids('org', 1)}/{ids('usr', 2)}"}}},
    "BlockTenant": {"input": {"slug": "nobody"}},
    "ChangeShare": {"input": {"fields": ["KIND"], "note": "less"}},
    "ChangeShareRule": {"input": {"fields": ["KIND"], "note": "less"}},
    "CommentOnShare": {"input": {"text": "And the third?"}},
    "CreateResource": {"input": {"name": "new", "data": {"a": 1}, "sizeBytes": 7}},
    "CreateSpan": {"input": {"title": "seen", "resourceId": ids("res", 1), "visibility": "PUBLIC"}},
    "DeleteResource": {"input": {"id": ids("res", 1)}},
    "MyShares": {"first": 2, "filter": {"grantee": {"gt": "s"}}, "orderBy": [{"field": "EXPIRES_AT"}]},
    "Node": {"id": ids("org", 1)},
    "Nodes": {"ids": [ids("res", 1), ids("usr", 1), "?"]},
    "Resource": {"id": ids("res", 1)},
    "OfferPartnership": {"input": {"slug": "schema-a"}},
    "ResourceShares": {"id": ids("res", 0)},
    "Resources": {"first": 2},
    "ResourcesWithSpans": {"first": 2},
    "RevokeSessions": {"input": {"userId": ids("usr", 2)}},
    "SearchResources": {"first": 2, "filter": {"name": {"gt": "A"}}, "orderBy": [{"field": "NAME"}]},
    "ShareResources": {"input": {"filter": {"kind": {"eq": "report"}}, "grantee": "schema-b", "fields": ["NAME"]}},
    "ShareResource": {"input": {"resourceId": ids("res", 5), "grantee": "schema-b", "fields": ["NAME"]}},
    "SharedWithMe": {"first": 2},
    "Timeline": {"first": 2},
    "UnblockTenant": {"input": {"slug": "nobody"}},
    "UpdateResource": {"input": {"id": ids("res", 1), "name": "renamed"}},
}
# Values that are generated during the test differ each time.
MADE = (
    (re.compile(r"\b(aud|cmt|res|spn|shr|srl|org|prt)_(?!01980000)[0-9a-f-]{36}"), r"\1_…"),
    (re.compile(r'"20(?!26-01)\d\d-[^"]*"'), '"…"'),
    (re.compile(r'("(?:cursor|startCursor|endCursor)": )"[^"]*"'), r'\1"…"'),
)


@pytest.mark.parametrize("name", READ)
async def test_an_operation_becomes_this_statement_and_this_result(
    name: str, copy: Copy, control: Database, owner: Database, database: Database, executor: Executor
) -> None:
    text = (OPERATIONS / f"{name}.graphql").read_text()
    variables = VARIABLES.get(name, {})
    tenants = {tenant.slug: tenant for tenant in await provisioning.every(control)}
    for tenant in tenants.values():
        await settle(database, tenant, 6)
    await share(database, tenants)
    caller = Caller(database, Principal(tenants["rls-a"], uuid(0, 0), permissions=ADMIN), executor)
    if name in {"ChangeShare", "CommentOnShare", "DeleteShareComment", "RevokeShare"}:
        made = await caller.ask((OPERATIONS / "ResourceShares.graphql").read_text(), VARIABLES["ResourceShares"])
        found = made.data["resource"]["shares"]["nodes"][0]
        given = {"shareId": found["id"]}
        if name == "DeleteShareComment":
            given = {"commentId": found["comments"]["nodes"][0]["id"]}
        variables = {"input": {**variables.get("input", {}), **given}}
    if name == "ReceivedComments":
        made = await caller.ask((OPERATIONS / "SharedWithMe.graphql").read_text(), {})
        nodes = made.data["sharedWithMe"]["nodes"]
        variables = {"id": next(each["id"] for each in nodes if each["access"] == "COMMENT")}
    if "ShareRule" in name:
        made = await caller.ask((OPERATIONS / "ShareResources.graphql").read_text(), VARIABLES["ShareResources"])
        rule_id = made.data["shareResources"]["rule"]["id"]
        variables = {"input": {**variables.get("input", {}), "ruleId": rule_id}} if "input" in text else variables
    if "Partnership" in name:
        offers = await offer(database, owner, tenants)
        key = offers["own" if name == "EndPartnership" else "other"]
        variables = {"input": {"partnershipId": f"prt_{key}"}} if "input" in text and not variables else variables
    if name == "UnblockTenant":
        await caller.ask((OPERATIONS / "BlockTenant.graphql").read_text(), variables)
    result = fixed((await caller.ask(text, variables)).data)
    page = written(name, text, variables, statements(executor, text, variables, copy, caller), result)

    kept = PAGES / f"{name}.md"
    if "TEST_WRITE_SNAPSHOTS" in os.environ:
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(page)
    assert page == kept.read_text()


ADMIN = of_role(Role.ADMIN)


async def offer(database: Database, owner: Database, tenants: Mapping[str, Tenant]) -> Mapping[str, UUID]:
    """Instead of all partnerships, an offer of the tenant, and another tenant's offer to it: their ids."""
    await end_partnerships(owner, *(tenant.id for tenant in tenants.values()))
    offers = {}
    for of, one, other in (("own", "rls-a", "nobody"), ("other", "schema-b", "rls-a")):
        async with database.transaction(tenants[one]) as work:
            offers[of] = await partnerships.offer(work, Actor(uuid(0, 0), ADMIN), other)
    return offers


def fixed(data: Any) -> str:
    text = json.dumps(data, indent=2, ensure_ascii=False)
    for pattern, instead in MADE:
        text = pattern.sub(instead, text)
    return text


def statements(
    executor: Executor, text: str, variables: dict[str, Any], copy: Copy, caller: Caller
) -> dict[str, list[str]]:
    """The SQL of an operation, or of its payload, under each strategy, formatted for reading."""
    operation = executor.documents.find(text).operation(None)
    values = get_variable_values(model.schema, operation.node.variable_definitions or (), variables)
    assert not isinstance(values, list)
    plans = executor.compiler.plans(operation, values.coerced)
    (plan,) = [plans] if isinstance(plans, ReadPlan) else plans.values()
    reading = executor.compiler.read(plan, values, caller.principal)
    return {
        name: sqlglot.transpile(
            executor.compiler.statement(reading, strategy).sql,
            read="postgres",
            write="postgres",
            pretty=True,
            max_text_width=110,
        )[0].splitlines()
        for name, strategy in copy.strategies.items()
    }


def written(name: str, text: str, variables: dict[str, Any], sql: dict[str, list[str]], result: str) -> str:
    first, *others = sql
    sections = [f"# {name}", block("graphql", text.strip())]
    if variables:
        sections += ["## Variables", block("json", fixed(variables))]
    sections += [f"## SQL under {first}", block("sql", "\n".join(sql[first]))]
    for other in others:
        difference = list(difflib.unified_diff(sql[first], sql[other], first, other, lineterm="", n=0))
        sections += [f"## SQL under {other}", block("diff", "\n".join(difference)) if difference else "The same."]
    sections += ["## Result", block("json", result)]
    return "\n\n".join(sections) + "\n"


def block(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"
