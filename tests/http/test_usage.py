"""Use over HTTP: clients record it, ask whether more is admitted, and read it by period, meter and customer."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from isola.database.transactions import Database
from isola.platform import overrides, provisioning
from isola.platform.overrides import Kind
from isola.platform.platform_log import Author
from isola.testing.served import Answer, Client

RECORD = "mutation ($input: RecordUsageInput!) { recordUsage(input: $input) { counted } }"
BATCH = "mutation ($input: RecordUsageBatchInput!) { recordUsageBatch(input: $input) { counted } }"
USAGE = """query ($filter: UsageFilter) { usage(filter: $filter, orderBy: [{field: QUANTITY}]) {
  nodes { meter customer quantity events lateEvents startsAt endsAt forecast } } }"""
CHECK = """query ($meter: String!, $amount: BigInt, $customer: String) {
  checkUsage(meter: $meter, amount: $amount, customer: $customer) {
    allowed used limit remaining usedByCustomer resetsAt
  }
}"""
LIMITS = "{ viewer { plan { limits { nodes { meter kind period limit used until } } } } }"
EVENT = {"meter": "executions", "quantity": 2, "idempotencyKey": "k1", "customer": "Ada"}


async def limited(control: Database, client: Client, limit: int) -> None:
    tenant = await provisioning.named(control, client.tenant)
    await overrides.put(
        control, Author("staff:sam", None), tenant, Kind.METER, "executions", value=limit, reason="a trial"
    )


def refusal(answer: Answer) -> tuple[str | None, Any]:
    return answer.code, answer.error["extensions"].get("field")


async def test_use_is_recorded_once_and_shown_by_meter_customer_and_period(alice: Client, bob: Client) -> None:
    assert (await alice.ask(RECORD, {"input": EVENT})).data == {"recordUsage": {"counted": True}}
    assert (await alice.ask(RECORD, {"input": EVENT})).data == {"recordUsage": {"counted": False}}
    late = (datetime.now(UTC) - timedelta(days=34)).isoformat()
    more = [{"meter": "executions"}, {"meter": "executions", "quantity": 7, "at": late}, EVENT]
    assert (await alice.ask(BATCH, {"input": {"events": more}})).data == {"recordUsageBatch": {"counted": 2}}

    seen = (await alice.ask(USAGE)).data["usage"]["nodes"]
    assert [(each["customer"], each["quantity"], each["lateEvents"]) for each in seen] == [
        ("Ada", 2, 0),
        (None, 3, 0),
        (None, 7, 1),
    ]
    assert seen[2]["endsAt"] <= seen[1]["startsAt"]
    by_customer = {"filter": {"customer": {"eq": "Ada"}, "startsAt": {"newerThan": "P32D"}}}
    assert (await alice.ask(USAGE, by_customer)).data["usage"]["nodes"] == seen[:1]
    assert (await bob.ask(USAGE)).data["usage"]["nodes"] == []


async def test_a_limit_is_shown_checked_and_kept(alice: Client, control: Database) -> None:
    await limited(control, alice, 5)
    await alice.ask(RECORD, {"input": EVENT})
    check = (await alice.ask(CHECK, {"meter": "executions", "amount": 3, "customer": "Ada"})).data["checkUsage"]
    assert (check["allowed"], check["used"], check["limit"], check["remaining"]) == (True, 2, 5, 3)
    assert check["usedByCustomer"] == 2
    assert not (await alice.ask(CHECK, {"meter": "executions", "amount": 4})).data["checkUsage"]["allowed"]

    within = {"meter": "executions", "quantity": 4, "withinLimit": True}
    refused = await alice.ask(RECORD, {"input": within})
    assert (refused.code, refused.error["message"]) == ("QUOTA_EXCEEDED", "executions: the limit is 5")
    assert (await alice.ask(RECORD, {"input": {**within, "withinLimit": False}})).data["recordUsage"]["counted"]
    [limit] = [
        each
        for each in (await alice.ask(LIMITS)).data["viewer"]["plan"]["limits"]["nodes"]
        if each["meter"] == "executions"
    ]
    assert limit == {"meter": "executions", "kind": "SUM", "period": "MONTH", "limit": 5, "used": 6, "until": None}


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({"meter": "nothing"}, "meter"),
        ({"quantity": 0}, "quantity"),
        ({"quantity": -1}, "quantity"),
        ({"properties": [1]}, "properties"),
        ({"properties": {"model": "\0"}}, "properties"),
        ({"at": "2001-01-01T00:00:00Z"}, "at"),
        ({"at": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}, "at"),
    ],
)
async def test_a_wrong_event_is_named_by_its_place(alice: Client, event: dict[str, Any], field: str) -> None:
    wrong = {"meter": "executions", **event}
    answer = await alice.ask(BATCH, {"input": {"events": [EVENT, wrong]}})
    assert refusal(answer) == ("BAD_USER_INPUT", f"input.events.1.{field}")
    assert refusal(await alice.ask(RECORD, {"input": wrong})) == ("BAD_USER_INPUT", f"input.{field}")
    assert (await alice.ask(USAGE)).data["usage"]["nodes"] == []


async def test_what_is_no_quantity_or_too_much_at_once_is_refused(alice: Client) -> None:
    for quantity in (2**53, "NaN", 1.5):
        answer = await alice.ask(RECORD, {"input": {"meter": "executions", "quantity": quantity}})
        assert answer.code == "BAD_USER_INPUT"
    for events in ([], [{"meter": "executions"}] * 1001):
        answer = await alice.ask(BATCH, {"input": {"events": events}})
        assert refusal(answer) == ("BAD_USER_INPUT", "input.events")
    assert (await alice.ask(CHECK, {"meter": "nothing"})).code == "NOT_FOUND"
    assert (await alice.ask(CHECK, {"meter": "executions", "amount": 0})).code == "BAD_USER_INPUT"
    assert refusal(await alice.ask(CHECK, {"meter": "executions", "customer": "\0"})) == ("BAD_USER_INPUT", "customer")
    assert (await alice.ask(BATCH, {"input": {"events": [{"meter": "executions"}] * 1000}})).data == {
        "recordUsageBatch": {"counted": 1000}
    }


async def test_another_event_under_a_key_is_a_conflict_at_its_place(alice: Client) -> None:
    await alice.ask(RECORD, {"input": EVENT})
    answer = await alice.ask(BATCH, {"input": {"events": [{"meter": "executions"}, {**EVENT, "quantity": 3}]}})
    assert refusal(answer) == ("CONFLICT", "input.events.1.idempotencyKey")
