"""Random operations get the same answer from PostgreSQL's text, from graphql-core over it, and from the reference.

``TEST_DIFFERENTIAL`` is their number for each strategy, rounded up to whole batches of 50, ``TEST_DIFFERENTIAL_SEED``
the first seed. A failure names its seed.
"""

import json
import os
import re
from dataclasses import replace
from typing import Any

import pytest

from isola.api.execute import Executor
from isola.api.schema import model
from isola.database.transactions import Database
from isola.query.effort import Effort
from isola.query.limits import Limits
from isola.testing.fixtures import TRIED
from tests.api import reference
from tests.api.conftest import READING, SECRET, Caller, World
from tests.api.needs import needs
from tests.api.operations import TEXTS, operation
from tests.api.reference import CURSOR, Data

EXAMPLES = int(os.environ.get("TEST_DIFFERENTIAL", "100"))
FIRST = int(os.environ.get("TEST_DIFFERENTIAL_SEED", "0"))
AT_ONCE = 100
# A few exceed a limit or merge fields of different types: they are rejected correctly.
REFUSED = ("the limit of", "Fields ")
# The opening brace of the operation, after its variables.
INTROSPECTED = re.compile(r"^(query Q(?:\(.*?\))? \{)")
known: dict[str, Data] = {}


async def data_of(a: Caller, owner: Database) -> Data:
    tenant = a.principal.tenant
    if tenant.slug not in known:
        async with owner.transaction(tenant, read_only=True) as whole, a.transaction(read_only=True) as work:
            await whole.script("SET LOCAL ROLE NONE")  # the owner's own rights, also where tenants have roles
            known[tenant.slug] = await reference.read(whole, work, a.principal, TEXTS)
    return known[tenant.slug]


def normal(actual: Any, expected: Any) -> Any:
    """The answer with a placeholder for each cursor where one is expected."""
    if expected == CURSOR and isinstance(actual, str) and re.fullmatch(r"[\w-]{20,}", actual):
        return CURSOR
    if isinstance(actual, dict) and isinstance(expected, dict):
        return {key: normal(value, expected.get(key)) for key, value in actual.items()}
    if isinstance(actual, list) and isinstance(expected, list) and len(actual) == len(expected):
        return [normal(one, other) for one, other in zip(actual, expected, strict=True)]
    return actual


@pytest.fixture(scope="module", params=range(FIRST, FIRST + EXAMPLES, AT_ONCE))
def first(request: pytest.FixtureRequest) -> int:
    """The first seed of a batch, which runs in sequence while its documents are cached."""
    seed: int = request.param
    return seed


@pytest.fixture(scope="module")
def in_order() -> Executor:
    """It reads rows in order where related rows lead to more than two, so that this is compared as well."""
    return Executor(model, secret=SECRET, limits=Limits(few=2), effort=Effort(rate=1))


async def test_all_answer_alike(first: int, a: Caller, world: World, in_order: Executor) -> None:
    data = await data_of(a, world.owner)
    answered = 0
    for seed in range(first, first + AT_ONCE):
        made = operation(seed)
        told = f"TEST_DIFFERENTIAL_SEED={seed}\n{made.document}\n{json.dumps(made.variables)}"
        caller = a.using(in_order) if seed % 2 else a
        answer = await caller.ask(made.document, made.variables)
        if "errors" in answer.body and answer.error["message"].startswith(REFUSED):
            continue
        assert "errors" not in answer.body, f"{told}\n{answer.text}"
        expected = data.answer(made.document, made.variables)
        assert json.dumps(normal(answer.data, expected)) == json.dumps(expected), told
        answered += 1
        # Compiling documents takes most of the time, so not every one is compiled a second time.
        if seed % 4 == 0:
            mixed = await caller.ask(
                INTROSPECTED.sub(r"\1 introspected: __schema { __typename }", made.document, 1), made.variables
            )
            assert mixed.data.pop("introspected") == {"__typename": "__Schema"}
            assert json.dumps(mixed.data) == json.dumps(answer.data), told
    assert answered > AT_ONCE * 0.8


async def test_fields_without_permission_leave_the_others_unaffected(first: int, a: Caller, world: World) -> None:
    everything = await data_of(a, world.owner)
    refused = 0
    # Permissions are checked before the strategy is used, so each operation runs under only one strategy.
    number = TRIED.index(a.principal.tenant.strategy)
    for seed in range(first, first + AT_ONCE):
        if seed // len(READING) % len(TRIED) != number:
            continue
        made = operation(seed)
        told = f"TEST_DIFFERENTIAL_SEED={seed}\n{made.document}\n{json.dumps(made.variables)}"
        missing = sorted(READING)[seed % len(READING)]
        principal = replace(a.principal, permissions=a.principal.permissions - {missing})
        answer = await replace(a, principal=principal).ask(made.document, made.variables)
        if "data" not in answer.body and answer.error["message"].startswith(REFUSED):
            continue
        lacking = {key for key, needed in needs(made.document, made.variables).items() if missing in needed}
        errors = answer.body.get("errors", [])
        assert {error["path"][0] for error in errors} == lacking, f"{told}\n{missing}\n{answer.text}"
        assert len(errors) == len(lacking)
        assert {error["message"] for error in errors} <= {f"this needs the permission {missing}"}
        assert not lacking or (answer.status, answer.error["extensions"]) == (200, {"code": "FORBIDDEN"})
        expected = replace(everything, principal=principal).answer(made.document, made.variables)
        expected |= dict.fromkeys(lacking)
        assert json.dumps(normal(answer.body["data"], expected)) == json.dumps(expected), told
        assert answer.transactions <= 1, told
        refused += bool(lacking)
    assert refused
