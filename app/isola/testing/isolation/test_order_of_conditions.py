"""Conditions that PostgreSQL evaluates before a policy reveal nothing about another tenant's rows.

It evaluates a condition with leakproof operators before a policy that costs more. If the policy had a visible effect,
an error or a step in a plan, only for rows that satisfy the condition, values could be found by comparisons.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Table

from isola.platform.tenants import Tenant
from isola.testing.fixtures import Copy
from isola.testing.oracles.canary import TABLES, Canary, tried
from isola_strategies.base import Strategy

EXPLAIN = "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF, FORMAT JSON)"
# Steps of a plan that show which parts of it were evaluated.
STEPS = ("Node Type", "Subplan Name", "Actual Rows", "Actual Loops", "Rows Removed by Filter")


def conditions(table: Table, row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Pairs of cheap conditions of which the row satisfies one."""
    for column in table.columns:
        if column.nullable:
            yield f"{column.name} IS NULL", f"{column.name} IS NOT NULL"
        if isinstance(row.get(column.name), str):
            value = row[column.name].replace("'", "''")
            yield f"{column.name} = ANY (ARRAY['{value}'])", f"{column.name} = ANY (ARRAY['{value}.'])"
            yield f"{column.name} >= ANY (ARRAY['{value}'])", f"{column.name} >= ANY (ARRAY['{value}.'])"


def steps(plan: object) -> object:
    if isinstance(plan, list):
        return [steps(each) for each in plan]
    if isinstance(plan, dict):
        return [*(plan.get(name) for name in STEPS), steps(plan.get("Plan") or plan.get("Plans") or [])]
    return plan


@pytest.mark.parametrize("table", TABLES, ids=str)
async def test_a_condition_does_not_reveal_whether_another_tenants_row_satisfies_it(
    table: Table, strategy: Strategy, copy: Copy, login: asyncpg.Connection, a: Tenant, canary_b: Canary
) -> None:
    await _with_json(login)
    name = f"{strategy.home(canary_b.tenant.id).schema}.{table.name}"

    async def observed(condition: str) -> list[object]:
        found: list[object] = []
        # Where the rows of the canary are.
        for place in ("(0,1)", "(0,2)"):
            scan = f"SELECT FROM {name} WHERE ctid = '{place}' AND {condition}"
            async with login.transaction():
                await copy.enter(login, a)
                plan = await tried(login, f"{EXPLAIN} {scan}")
                found.append(plan if isinstance(plan, str) else steps(plan[0]["QUERY PLAN"]))
                await login.execute("SET LOCAL isola.proof TO ''")
                found.append(await tried(login, scan))
        return found

    for one, other in conditions(table, canary_b.rows[table.name]):
        assert await observed(one) == await observed(other), (one, other)


async def test_comparisons_find_values_that_a_rule_hides_from_injected_sql(
    copy: Copy, login: asyncpg.Connection, canary_a: Canary
) -> None:
    """What remains: within a tenant, comparisons precede rules, which cost more."""
    title = canary_a.rows["spans"]["title"]

    async def found(condition: str) -> tuple[object, object]:
        scan = f"FROM spans WHERE ctid = '(0,1)' AND title = ANY (ARRAY['{condition}'])"
        async with login.transaction():
            await copy.enter(login, canary_a.tenant)
            [plan] = await login.fetch(f"{EXPLAIN} SELECT {scan}")
            return await tried(login, f"SELECT {scan}"), steps(plan["QUERY PLAN"])

    await _with_json(login)
    (rows, satisfied), (others, not_satisfied) = await found(title), await found("another")
    assert rows == others == []
    assert satisfied != not_satisfied


async def _with_json(login: asyncpg.Connection) -> None:
    await login.set_type_codec("json", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
