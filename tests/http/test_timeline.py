"""The timeline over HTTP: replays, signatures and statistics, and that nobody sees more than the spans they may see."""

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import literal_column, select, table

from isola.database.transactions import Database
from isola.platform import provisioning, span_verification
from isola.subjects.actor import Actor
from isola.subjects.permissions import Role
from isola.subjects.spans import SpanType, Visibility
from isola.testing.served import Api, Client
from isola_strategies.base import Strategy

SPAN = "mutation ($input: CreateSpanInput!) { createSpan(input: $input) { span { id } } }"
REPLAY = """mutation ($id: ID!) { replaySpan(input: {id: $id}) { span {
    id type title payload metadata visibility deltaS author { id } replayFrom { id } } } }"""
SIGN = "mutation ($input: SignSpanInput!) { signSpan(input: $input) { span { verification signature } } }"
VERIFY = "mutation ($id: ID!) { verifySpan(input: {id: $id}) { span { verification } } }"
STATS = """{ tenantStats(from: "2020-01-01T00:00:00Z", to: "2021-01-01T00:00:00Z") {
    spans byType { type spans } byVisibility { visibility spans } byDay { day spans }
    activeUsers replays storageBytes } }"""


@pytest.fixture
def bob(api: Api, strategy: Strategy) -> Client:
    return api.client(f"{strategy.name}-a", "bob", Role.EDITOR)


@pytest.fixture
def admin(api: Api, strategy: Strategy) -> Client:
    return api.client(f"{strategy.name}-a", "olga", Role.ADMIN)


@pytest.fixture
def viewer(api: Api, strategy: Strategy) -> Client:
    return api.client(f"{strategy.name}-a", "vera", Role.VIEWER)


async def write(client: Client, visibility: str = "PUBLIC", **more: Any) -> str:
    made = await client.ask(SPAN, {"input": {"title": "t", "visibility": visibility, **more}})
    return str(made.data["createSpan"]["span"]["id"])


async def replay(client: Client, span: str) -> str:
    made = await client.ask(REPLAY, {"id": span})
    return str(made.data["replaySpan"]["span"]["id"])


async def replays(client: Client, span: str) -> tuple[int, int]:
    """The number of replays as two fields have it."""
    document = "query ($id: ID!) { span(id: $id) { replayCount replays { totalCount } } }"
    found = (await client.ask(document, {"id": span})).data["span"]
    return found["replayCount"], found["replays"]["totalCount"]


async def me(client: Client) -> str:
    """The id of the client's user."""
    return str((await client.ask("{ viewer { user { id } } }")).data["viewer"]["user"]["id"])


async def run(api: Api, client: Client, sql: str, *values: object) -> None:
    """Run SQL in the client's tenant, on rows that the client's user may see."""
    tenant = await provisioning.named(api.control, client.tenant)
    async with api.tenants.transaction(tenant, about={"user": (await me(client))[4:]}) as work:
        await work.value(sql, *values)


async def test_replays_are_counted_exactly_however_many_are_made_at_once(ada: Client, bob: Client) -> None:
    origin = await write(ada, payload={"a": 1.5}, metadata={"m": [None]}, deltaS=-2.5)
    made = await asyncio.gather(*(replay([ada, bob][number % 2], origin) for number in range(50)))
    assert len(set(made)) == 50
    assert await replays(ada, origin) == await replays(bob, origin) == (50, 50)
    found = (await bob.ask(REPLAY, {"id": origin})).data["replaySpan"]["span"]
    assert {**found, "id": None} == {
        "id": None, "type": "USER", "title": "t", "payload": {"a": 1.5}, "metadata": {"m": [None]},
        "visibility": "PUBLIC", "deltaS": -2.5, "author": {"id": await me(bob)}, "replayFrom": {"id": origin},
    }  # fmt: skip


async def test_a_span_that_cannot_be_seen_is_not_replayed_nor_counted(
    api: Api, ada: Client, bob: Client, admin: Client
) -> None:
    private = await write(ada, "PRIVATE")
    public = await write(ada)
    hidden, unknown = [
        await bob.ask(REPLAY, {"id": each}) for each in (private, f"spn_{'0' * 8}-{'0' * 4}-7000-8000-{'0' * 12}")
    ]
    assert hidden.error["message"] == unknown.error["message"]
    assert hidden.code == "NOT_FOUND"
    assert await replays(ada, private) == (0, 0)
    secret = await replay(ada, public)
    await run(api, ada, "UPDATE spans SET visibility = 'private' WHERE id::text = $1", secret[4:])
    # Only who may see the replay learns that there is one, also by a filter or in the statistics.
    assert (await replays(ada, public), await replays(bob, public), await replays(admin, public)) == (
        (1, 1),
        (0, 0),
        (0, 0),
    )
    await run(api, ada, "UPDATE spans SET visibility = 'public' WHERE id::text = $1", secret[4:])
    await run(api, ada, "UPDATE spans SET visibility = 'private' WHERE id::text = $1", public[4:])
    document = "query ($id: ID!) { span(id: $id) { replayFrom { id } } }"
    assert (await ada.ask(document, {"id": secret})).data["span"]["replayFrom"] == {"id": public}
    assert (await bob.ask(document, {"id": secret})).data["span"]["replayFrom"] is None
    # Not even its id is to be had from the bytes to sign, or from the log.
    assert public in await canonical(ada, secret)
    assert await canonical(bob, secret) == "None"
    log = "query ($id: String!) { auditLog(filter: {object: {eq: $id}}) { nodes { old new withheld } } }"
    entries = (await admin.ask(log, {"id": secret})).response.text
    assert "title" in entries
    assert public[4:] not in entries


async def test_who_manages_spans_may_hide_anothers_span_from_themselves(
    api: Api, ada: Client, bob: Client, admin: Client
) -> None:
    """One by one and several at once: the change succeeds, and is in the log, but is not shown to who made it."""
    make = 'mutation { createOrganization(input: {name: "red"}) { organization { id } } }'
    red = (await admin.ask(make)).data["createOrganization"]["organization"]["id"]
    join = "mutation ($input: AddMemberInput!) { addMember(input: $input) { user { id } } }"
    for client in (ada, bob, admin):
        await admin.ask(join, {"input": {"organizationId": red, "userId": await me(client)}})
    one, *others = [await write(ada, "ORGANIZATION", organizationId=red, title=f"t{number}") for number in range(4)]
    update = """mutation ($input: UpdateSpanInput!) { updateSpan(input: $input) { span { id visibility } } }"""
    refused = await bob.ask(update, {"input": {"id": one, "visibility": "PRIVATE"}})
    assert refused.code == "FORBIDDEN"

    changed = await admin.ask(update, {"input": {"id": one, "visibility": "PRIVATE", "title": "hidden"}})
    assert changed.data == {"updateSpan": {"span": None}}
    several = "mutation ($input: UpdateSpansInput!) { updateSpans(input: $input) { updatedIds } }"
    items = [
        {"id": others[0], "visibility": "PRIVATE"},
        {"id": others[1], "title": "renamed"},
        {"id": others[2], "visibility": "PUBLIC"},
    ]
    assert (await admin.ask(several, {"input": {"items": items}})).data == {"updateSpans": {"updatedIds": others}}

    listed = "{ timeline(orderBy: [{field: TITLE}]) { totalCount nodes { id title visibility } } }"
    hidden = [
        {"id": one, "title": "hidden", "visibility": "PRIVATE"},
        {"id": others[1], "title": "renamed", "visibility": "ORGANIZATION"},
        {"id": others[0], "title": "t1", "visibility": "PRIVATE"},
        {"id": others[2], "title": "t3", "visibility": "PUBLIC"},
    ]
    shown = [each for each in hidden if each["visibility"] != "PRIVATE"]
    assert (await ada.ask(listed)).data["timeline"] == {"totalCount": 4, "nodes": hidden}
    for client in (bob, admin):
        assert (await client.ask(listed)).data["timeline"] == {"totalCount": 2, "nodes": shown}
    # None of several is changed if one of them cannot be seen.
    for document, given in ((update, items[0]), (several, {"items": [{"id": others[1], "title": "again"}, items[0]]})):
        assert (await admin.ask(document, {"input": given})).code == "NOT_FOUND"
    assert (await ada.ask(listed)).data["timeline"] == {"totalCount": 4, "nodes": hidden}
    actor = await me(admin)
    entries = [each for each in (await api.content(ada.tenant))["audit_entries"] if each["action"] == "span:update"]
    assert [(each["object"], each["actor"], each["new"]["visibility"]) for each in entries] == [
        (one, actor, "private"),
        (others[0], actor, "private"),
        (others[1], actor, "organization"),
        (others[2], actor, "public"),
    ]
    log = """query ($id: String!) { auditLog(first: 1, filter: {object: {eq: $id}}) {
        nodes { action old new withheld } } }"""
    entry = {"action": "span:update", "old": None, "new": None, "withheld": True}
    assert (await admin.ask(log, {"id": one})).data["auditLog"]["nodes"] == [entry]


async def test_chains_are_followed_and_end_before_a_replay_of_ones_own(ada: Client, bob: Client, admin: Client) -> None:
    origin = await write(ada)
    of_bob = await replay(bob, origin)
    of_ada = await replay(ada, of_bob)
    of_admin = await replay(admin, of_ada)
    before = (await ada.ask("{ timeline { totalCount } }")).data
    for client, span in ((bob, of_ada), (bob, of_admin), (ada, of_admin)):
        refused = await client.ask(REPLAY, {"id": span})
        assert refused.code == "CONFLICT"
        assert refused.error["message"] == "a descendant of one's own replay cannot be replayed"
    assert (await ada.ask("{ timeline { totalCount } }")).data == before
    assert await replays(ada, of_ada) == (1, 1)


async def test_the_replay_of_a_ghost_is_private(ada: Client, admin: Client) -> None:
    made = await admin.ask(SPAN, {"input": {"title": "t", "type": "GHOST", "visibility": "PUBLIC"}})
    ghost = made.data["createSpan"]["span"]["id"]
    assert (await ada.ask(REPLAY, {"id": ghost})).code == "NOT_FOUND"
    found = (await admin.ask(REPLAY, {"id": ghost})).data["replaySpan"]["span"]
    assert (found["type"], found["visibility"]) == ("USER", "PRIVATE")
    assert (await ada.ask("{ timeline { totalCount } }")).data["timeline"]["totalCount"] == 0


def sign(private: Ed25519PrivateKey, text: str) -> str:
    return base64.b64encode(private.sign(text.encode())).decode()


async def register(client: Client, private: Ed25519PrivateKey) -> str:
    encoded = base64.b64encode(private.public_key().public_bytes_raw()).decode()
    document = "mutation ($input: CreateSigningKeyInput!) { createSigningKey(input: $input) { signingKey { id } } }"
    made = await client.ask(document, {"input": {"publicKey": encoded, "node": "urn:node:1"}})
    return str(made.data["createSigningKey"]["signingKey"]["id"])


async def canonical(client: Client, span: str) -> str:
    found = await client.ask("query ($id: ID!) { span(id: $id) { canonicalJson } }", {"id": span})
    return str(found.data["span"]["canonicalJson"])


async def state(client: Client, span: str) -> str:
    found = await client.ask("query ($id: ID!) { span(id: $id) { verification } }", {"id": span})
    return str(found.data["span"]["verification"])


async def signed(client: Client, private: Ed25519PrivateKey, key: str, **more: Any) -> str:
    span = await write(client, **more)
    given = {"id": span, "keyId": key, "signature": sign(private, await canonical(client, span))}
    answer = await client.ask(SIGN, {"input": given})
    assert answer.data["signSpan"]["span"] == {"verification": "VERIFIED", "signature": given["signature"]}
    return span


async def test_the_canonical_json_is_what_the_api_says_of_a_span(ada: Client) -> None:
    span = await write(ada, payload={"b": 1.0, "a": ["\u20ac", 1e21]}, node="urn:node:1", deltaS=0.1)
    document = """query ($id: ID!) { span(id: $id) { canonicalJson id type title payload metadata visibility node deltaS
        createdAt author { id } organization { id } resource { id } replayFrom { id } } }"""
    found = (await ada.ask(document, {"id": span})).data["span"]
    text = found.pop("canonicalJson")
    found["author"] = found["author"]["id"]
    assert rfc8785.dumps({**found, "payload": {"b": 1, "a": ["\u20ac", 1e21]}}).decode() == text
    assert json.loads(text)["payload"] == {"a": ["\u20ac", 1e21], "b": 1}
    inexact = await write(ada, payload={"n": 1})
    await run_of_digits(ada, inexact)


async def run_of_digits(ada: Client, span: str) -> None:
    change = (
        'mutation { updateSpan(input: {id: "%s", payload: {n: 1.00000000000000000001}}) { span { canonicalJson } } }'
    )
    assert (await ada.ask(change % span)).data["updateSpan"]["span"] == {"canonicalJson": None}


@pytest.mark.parametrize(
    "change",
    [
        "title = 'u'", "payload = '{\"n\": 2}'", "metadata = '[]'", "visibility = 'private'", "delta_s = 1",
        "node = 'urn:node:2'", "created_at = created_at + interval '1 microsecond'", "type = 'system'",
        "signature = CASE left(signature, 1) WHEN 'A' THEN 'B' ELSE 'A' END || substr(signature, 2)",
        "author_id = (SELECT id FROM users WHERE subject = 'bob')",
    ],
)  # fmt: skip
async def test_one_byte_that_the_owner_of_the_database_changes_makes_a_span_fail(
    api: Api, ada: Client, bob: Client, owner: Database, strategy: Strategy, change: str
) -> None:
    private = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
    await bob.ask("{ viewer { roles } }")
    key = await register(ada, private)
    span, other = await signed(ada, private, key), await signed(ada, private, key)
    tenant = await provisioning.named(api.control, ada.tenant)
    home = strategy.home(tenant.id)
    async with owner.unbound() as work:
        await work.value(f"SET LOCAL search_path TO {home.schema}")
        await work.value(f"UPDATE spans SET {change} WHERE id::text = $1", span[4:])
    found = await span_verification.verify(api.tenants, tenant)
    assert (found.verified, [f"spn_{each}" for each in found.failed], found.changed) == (1, [span], 1)
    async with owner.unbound() as work:
        states = await work.pairs(f"SELECT 'spn_' || id, verification FROM {home.schema}.spans")
    assert states == {span: "failed", other: "verified"}
    # A second pass finds the same, and changes nothing.
    again = await span_verification.verify(api.tenants, tenant)
    assert (again.failed, again.changed) == (found.failed, 0)


async def test_a_change_by_its_author_needs_a_new_signature(ada: Client, viewer: Client) -> None:
    private = Ed25519PrivateKey.generate()
    key = await register(ada, private)
    span = await signed(ada, private, key)
    old = await canonical(ada, span)
    change = 'mutation { updateSpan(input: {id: "%s", title: "%s"}) { span { verification } } }'
    assert (await ada.ask(change % (span, "u"))).data["updateSpan"]["span"] == {"verification": "PENDING"}
    # Anybody who sees it can have it verified.
    assert (await viewer.ask(VERIFY, {"id": span})).data["verifySpan"]["span"] == {"verification": "FAILED"}
    assert (
        await ada.ask(SIGN, {"input": {"id": span, "keyId": key, "signature": sign(private, old)}})
    ).code == "BAD_USER_INPUT"
    new = {"id": span, "keyId": key, "signature": sign(private, await canonical(ada, span))}
    assert (await ada.ask(SIGN, {"input": new})).data["signSpan"]["span"]["verification"] == "VERIFIED"
    assert (await viewer.ask(VERIFY, {"id": span})).data["verifySpan"]["span"] == {"verification": "VERIFIED"}


async def test_other_bytes_and_keys_of_others_revoked_and_unknown_are_refused(
    ada: Client, bob: Client, admin: Client
) -> None:
    private, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    key, of_bob, revoked = await register(ada, private), await register(bob, other), await register(ada, other_key())
    await ada.ask(f'mutation {{ revokeSigningKey(input: {{id: "{revoked}"}}) {{ signingKey {{ revokedAt }} }} }}')
    span = await write(ada)
    text = await canonical(ada, span)
    good = sign(private, text)
    unknown = f"{key[:-4]}{'0000' if key[-4:] != '0000' else '0001'}"
    refusals: list[tuple[Client, Mapping[str, str], str, str | None]] = [
        (ada, {"keyId": key, "signature": sign(private, text + " ")}, "BAD_USER_INPUT", "input.signature"),
        (ada, {"keyId": key, "signature": sign(other, text)}, "BAD_USER_INPUT", "input.signature"),
        (ada, {"keyId": key, "signature": good[:-4]}, "BAD_USER_INPUT", "input.signature"),
        (ada, {"keyId": key, "signature": "\u20ac"}, "BAD_USER_INPUT", "input.signature"),
        (ada, {"keyId": of_bob, "signature": sign(other, text)}, "FORBIDDEN", "input.keyId"),
        (ada, {"keyId": revoked, "signature": sign(other_key(), text)}, "CONFLICT", "input.keyId"),
        (ada, {"keyId": unknown, "signature": good}, "NOT_FOUND", "input.keyId"),
        (bob, {"keyId": of_bob, "signature": sign(other, text)}, "FORBIDDEN", None),
        (admin, {"keyId": of_bob, "signature": sign(other, text)}, "FORBIDDEN", None),
    ]
    for client, given, code, field in refusals:
        answer = await client.ask(SIGN, {"input": {"id": span, **given}})
        assert (answer.code, answer.error["extensions"].get("field")) == (code, field), given
    assert await state(ada, span) == "PENDING"
    register_ = "mutation ($input: CreateSigningKeyInput!) { createSigningKey(input: $input) { signingKey { id } } }"
    for text_ in ("", "AAAA", "\u20ac" * 44, base64.b64encode(b"k" * 33).decode()):
        refused = await ada.ask(register_, {"input": {"publicKey": text_}})
        assert (refused.code, refused.error["extensions"]["field"]) == ("BAD_USER_INPUT", "input.publicKey")


@pytest.mark.parametrize(
    "encoded",
    [
        "00" * 32,
        "01" + "00" * 31,
        "01" + "00" * 30 + "80",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 31,
    ],
)
async def test_a_key_that_verifies_one_signature_over_many_texts_is_refused(encoded: str, ada: Client) -> None:
    document = "mutation ($input: CreateSigningKeyInput!) { createSigningKey(input: $input) { signingKey { id } } }"
    public = base64.b64encode(bytes.fromhex(encoded)).decode()
    refused = await ada.ask(document, {"input": {"publicKey": public}})
    assert (refused.code, refused.error["extensions"]["field"]) == ("BAD_USER_INPUT", "input.publicKey")


def other_key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(b"r" * 32)


async def test_what_a_revoked_key_signed_fails(ada: Client, bob: Client, admin: Client) -> None:
    private = Ed25519PrivateKey.generate()
    key = await register(ada, private)
    span = await signed(ada, private, key)
    revoke = f'mutation {{ revokeSigningKey(input: {{id: "{key}"}}) {{ signingKey {{ revokedAt }} }} }}'
    assert (await bob.ask(revoke)).code == "FORBIDDEN"
    assert (await admin.ask(revoke)).data["revokeSigningKey"]["signingKey"]["revokedAt"]
    assert (await ada.ask(revoke)).code == "CONFLICT"
    assert (await ada.ask(VERIFY, {"id": span})).data["verifySpan"]["span"] == {"verification": "FAILED"}


async def test_nothing_but_a_signature_makes_a_span_verified(api: Api, ada: Client) -> None:
    span = await write(ada)
    assert (await ada.ask(VERIFY, {"id": span})).data["verifySpan"]["span"] == {"verification": "PENDING"}
    await run(api, ada, "UPDATE spans SET verification = 'verified' WHERE id::text = $1", span[4:])
    assert (await ada.ask(VERIFY, {"id": span})).data["verifySpan"]["span"] == {"verification": "FAILED"}


async def test_statistics_are_what_a_recount_of_what_the_caller_sees_gives(
    api: Api, owner: Database, strategy: Strategy, ada: Client, bob: Client, admin: Client
) -> None:
    clients = (ada, bob, admin)
    for number, client in enumerate(clients * 4):
        for visibility in ("PRIVATE", "PUBLIC"):
            type_ = ("USER", "SYSTEM", "GHOST", "ORGANIZATION")[number % 4]
            given = {"title": f"t\u20ac{number}", "visibility": visibility, "type": type_, "payload": {"n": number}}
            await client.ask(SPAN, {"input": given})
    public = await write(ada)
    await replay(bob, public)
    hidden = await replay(ada, public)
    await run(api, ada, "UPDATE spans SET visibility = 'private' WHERE id::text = $1", hidden[4:])
    origin = await write(ada)
    await replay(bob, origin)
    await run(api, ada, "UPDATE spans SET visibility = 'private' WHERE id::text = $1", origin[4:])
    moment = "'2020-01-01 00:00:00+00'::timestamptz + (n * interval '9 hours')"
    tenant = await provisioning.named(api.control, ada.tenant)
    home = strategy.home(tenant.id).schema
    async with owner.unbound() as work:
        await work.script(
            f"UPDATE {home}.spans s SET created_at = {moment} "
            f"FROM (SELECT id, row_number() OVER (ORDER BY id) - 1 AS n FROM {home}.spans) o WHERE s.id = o.id"
        )
    every = """{ timeline(first: 100) { nodes { type visibility createdAt author { id } replayFrom { id } id } } }"""
    size = "octet_length(title) + octet_length(payload::text) + octet_length(metadata::text)"
    sizes = f"SELECT {size} FROM {home}.spans WHERE id::text = $1"
    totals = []
    for client in clients:
        nodes = (await client.ask(every)).data["timeline"]["nodes"]
        found = (await client.ask(STATS)).data["tenantStats"]
        async with owner.unbound() as work:
            stored = [await work.value(sizes, node["id"][4:]) for node in nodes]
        assert {each["type"]: each["spans"] for each in found["byType"]} == Counter(node["type"] for node in nodes)
        assert {each["visibility"]: each["spans"] for each in found["byVisibility"]} == Counter(
            node["visibility"] for node in nodes
        )
        days = Counter(node["createdAt"][:10] for node in nodes)
        assert found["byDay"] == [{"day": day, "spans": count} for day, count in sorted(days.items())]
        assert found["spans"] == len(nodes)
        assert found["activeUsers"] == len({node["author"]["id"] for node in nodes if node["author"]})
        assert found["replays"] == sum(node["replayFrom"] is not None for node in nodes)
        assert found["storageBytes"] == sum(stored)
        assert await stored_statistics(api, client) == found
        totals.append((found["spans"], found["replays"]))
    assert len(set(totals)) == 3


async def stored_statistics(api: Api, client: Client) -> dict[str, Any]:
    """The statistics of the view in the client's home, as the client's user reads it, in the form of STATS."""
    viewer = (await client.ask("{ viewer { user { id } permissions } }")).data["viewer"]
    reader = Actor(UUID(viewer["user"]["id"][4:]), frozenset(viewer["permissions"])).reader
    tenant = await provisioning.named(api.control, client.tenant)
    async with api.tenants.transaction(tenant, read_only=True, about=reader) as work:
        rows = await work.rows(select(literal_column("*")).select_from(table("tenant_stats")))
        authors = await work.value("SELECT count(DISTINCT author_id) FROM spans")
        cells = "SELECT concat(day, type, visibility), active_users::text FROM tenant_stats"
        recounted = """SELECT concat((created_at AT TIME ZONE 'UTC')::date, type, visibility),
            count(DISTINCT author_id)::text FROM spans GROUP BY 1"""
        assert await work.pairs(cells) == await work.pairs(recounted)
    sums: dict[str, Counter[str]] = {"type": Counter(), "visibility": Counter(), "day": Counter()}
    for row in rows:
        for name, counted in sums.items():
            counted[str(row[name])] += row["spans"]
    return {
        "spans": sum(row["spans"] for row in rows),
        "byType": [{"type": each.name, "spans": sums["type"][each]} for each in SpanType if sums["type"][each]],
        "byVisibility": [
            {"visibility": each.name, "spans": sums["visibility"][each]}
            for each in Visibility
            if sums["visibility"][each]
        ],
        "byDay": [{"day": day, "spans": spans} for day, spans in sorted(sums["day"].items())],
        "activeUsers": authors,
        "replays": sum(row["replays"] for row in rows),
        "storageBytes": sum(row["bytes"] for row in rows),
    }


async def test_the_time_of_statistics_is_bounded_and_half_open(ada: Client) -> None:
    await write(ada)
    at = (await ada.ask("{ timeline { nodes { createdAt } } }")).data["timeline"]["nodes"][0]["createdAt"]
    ask = "query ($from: DateTime!, $to: DateTime!) { tenantStats(from: $from, to: $to) { spans } }"
    year = str(int(at[:4]) + 1)
    assert (await ada.ask(ask, {"from": at, "to": year + at[4:]})).data["tenantStats"] == {"spans": 1}
    assert (await ada.ask(ask, {"from": at.replace(at[:4], str(int(at[:4]) - 1)), "to": at})).data["tenantStats"] == {
        "spans": 0
    }
    for start, end in ((at, at), (year + at[4:], at), ("2000-01-01T00:00:00Z", "2002-01-01T00:00:00Z")):
        refused = await ada.ask(ask, {"from": start, "to": end})
        assert (refused.code, refused.error["extensions"]["field"]) == ("BAD_USER_INPUT", "to")


async def test_bad_input_is_one_clear_error_each(ada: Client) -> None:
    before = (await ada.ask("{ timeline { totalCount } }")).data
    for given, field in (
        ({"type": "GHOST", "authorId": await me(ada)}, "authorId"),
        ({"metadata": {"m": "x" * 2**16}}, "metadata"),
        ({"metadata": [1e99] * 900}, "metadata"),
        ({"node": "no uri"}, "node"),
        ({"title": ""}, "title"),
        ({"visibility": "ORGANIZATION"}, "organizationId"),
    ):
        refused = await ada.ask(SPAN, {"input": {"title": "t", **given}})
        assert (refused.code, refused.error["extensions"]["field"]) == ("BAD_USER_INPUT", f"input.{field}"), given
    for text in ("1e999", '"1"', "true"):
        refused = await ada.ask(f'mutation {{ createSpan(input: {{title: "t", deltaS: {text}}}) {{ span {{ id }} }} }}')
        assert "errors" in refused.body
    assert (await ada.ask("{ timeline { totalCount } }")).data == before
    # Of what fits exactly, the database does not think otherwise.
    brim = {"m": "x" * (2**16 - len('{"m": ""}'))}
    assert await write(ada, metadata=brim)


LIST = "query ($filter: SpanFilter) { timeline(first: 100, filter: $filter) { totalCount nodes { title } } }"
FOREVER = {"createdAt": {"gte": "2020-01-01T00:00:00Z", "lt": "9000-01-01T00:00:00Z"}}


async def titles(client: Client, conditions: Mapping[str, Any]) -> list[str]:
    found = (await client.ask(LIST, {"filter": {**FOREVER, **conditions}})).data["timeline"]
    assert found["totalCount"] == len(found["nodes"])
    return sorted(node["title"] for node in found["nodes"])


async def test_documents_are_filtered_by_the_value_at_a_path(ada: Client, bob: Client) -> None:
    documents: Mapping[str, Any] = {
        "a": {"n": 1, "tags": ["x", {"y": None}]}, "b": {"n": 1.0, "tags": ["z"]}, "c": {"n": "1"}, "d": [5, {"n": 2}],
        "e": "text", "f": {},
    }  # fmt: skip
    for title, document in documents.items():
        await write(ada, title=title, payload=document, metadata={"of": document})
    await write(bob, "PRIVATE", title="private", payload={"n": 1}, metadata={"of": {"n": 1}})
    for condition, expected in (
        ({"path": ["n"], "eq": 1}, ["a", "b"]),
        ({"path": ["n"], "eq": "1"}, ["c"]),
        ({"path": ["tags", "0"], "eq": "x"}, ["a"]),
        ({"path": ["tags"], "contains": ["z"]}, ["b"]),
        ({"path": ["tags", "1", "y"], "isNull": False}, ["a"]),
        ({"path": ["1", "n"], "eq": 2}, ["d"]),
        ({"contains": {"n": 1}}, ["a", "b"]),
        ({"eq": {}}, ["f"]),
        ({"eq": "text"}, ["e"]),
        ({"path": ["n"], "isNull": True}, ["d", "e", "f"]),
        ({"path": ["n"], "isNull": False, "contains": 1}, ["a", "b"]),
        ({}, list("abcdef")),
    ):
        assert await titles(ada, {"payload": condition}) == expected, condition
        keys: Any = condition.get("path", [])
        below = {**condition, "path": ["of", *keys]} if condition else {}
        assert await titles(ada, {"metadata": below}) == expected, below
    assert await titles(ada, {"not": {"payload": {"path": ["n"], "eq": 1}}}) == list("cdef")
    assert await titles(bob, {"payload": {"path": ["n"], "eq": 1}}) == ["a", "b", "private"]
    # The rows of another row are few, whatever is asked of them.
    resource = await ada.ask('mutation { createResource(input: {name: "r", data: {k: [1]}}) { resource { id } } }')
    key = resource.data["createResource"]["resource"]["id"]
    await write(ada, title="about", resourceId=key, payload={"n": 3})
    of = 'query ($id: ID!) { resource(id: $id) { spans(filter: {payload: {path: ["n"], eq: 3}}) { totalCount } } }'
    assert (await bob.ask(of, {"id": key})).data == {"resource": {"spans": {"totalCount": 1}}}
    all_ = '{ resources(filter: {name: {eq: "r"}, data: {contains: {k: [1]}}}) { totalCount } }'
    assert (await bob.ask(all_)).data == {"resources": {"totalCount": 1}}


async def test_what_no_index_serves_is_asked_of_rows_that_another_condition_narrows(ada: Client) -> None:
    slow = {"payload": {"path": ["n"], "eq": 1}}
    since = {"createdAt": {"gt": "2020-01-01T00:00:00Z"}}
    narrow = {"title": {"eq": "t"}}
    await write(ada, payload={"n": 1})
    for refused in (
        slow, {"and": [slow]}, {"not": slow}, {**slow, **since}, {**slow, "or": [narrow, {}]}, {**slow, "not": narrow},
        {**slow, "verification": {"eq": "PENDING"}}, {"metadata": {"isNull": True}}, {"replayCount": {"eq": 0}},
        {"or": [{**narrow, **slow}, slow]}, {"replayFrom": slow}, {"not": {"replays": {"some": {**slow, **since}}}},
    ):  # fmt: skip
        answer = await ada.ask(LIST, {"filter": refused})
        assert answer.code == "BAD_USER_INPUT", refused
        assert "a condition that uses an index" in answer.error["message"]
    nested = await ada.ask(LIST, {"filter": {"resource": {"data": {"isNull": True}}}})
    assert nested.error["message"].startswith("filter.resource.data: expected together with a condition that uses")
    assert nested.error["message"].endswith("of one of createdAt, id, kind, name, ownerId, sizeBytes")
    for accepted in (
        {**slow, **narrow}, {**slow, **FOREVER}, {"and": [slow, narrow]}, {**slow, "title": {"startsWith": "t"}},
        {"replayCount": {"eq": 0}, **narrow}, {"replayCount": {"in": [0, 1]}, **FOREVER},
        {"replays": {"none": {**slow, **narrow}}}, {**narrow, "replays": {"none": slow}},
    ):  # fmt: skip
        assert (await ada.ask(LIST, {"filter": accepted})).data["timeline"]["totalCount"] == 1, accepted
    for wrong, field in (
        ({"path": ["k"] * 9, "eq": 1}, "path"), ({"path": ["k" * 201], "eq": 1}, "path"), ({"path": None}, "path"),
        ({"eq": "v" * 4096}, "eq"), ({"eq": None}, "eq"), ({"contains": "\0"}, "contains"), ({"path": ["\0"]}, "path"),
    ):  # fmt: skip
        answer = await ada.ask(LIST, {"filter": {**narrow, "payload": wrong}})
        expected = ("BAD_USER_INPUT", f"filter.payload.{field}")
        assert (answer.code, answer.error["extensions"]["field"]) == expected, wrong


async def test_a_filter_by_the_origin_tells_nothing_of_one_that_cannot_be_seen(
    api: Api, ada: Client, bob: Client
) -> None:
    origin = await write(ada)
    await replay(ada, origin)
    await replay(ada, origin)
    by_origin = {"replayFromId": {"eq": origin}}
    assert len(await titles(bob, by_origin)) == 2
    assert await titles(bob, {"replayCount": {"eq": 2}}) == ["t"]
    await run(api, ada, "UPDATE spans SET visibility = 'private' WHERE id::text = $1", origin[4:])
    for condition, of_ada, of_bob in (
        (by_origin, 2, 0),
        ({"replayFromId": {"in": [origin]}}, 2, 0),
        ({"replayFromId": {"isNull": False}}, 2, 0),
        ({"replayFromId": {"isNull": True}}, 1, 2),
        ({"not": by_origin}, 1, 2),
        ({"replayCount": {"gte": 1}}, 1, 0),
    ):
        assert (len(await titles(ada, condition)), len(await titles(bob, condition))) == (of_ada, of_bob), condition


@pytest.mark.parametrize("written", ["1.50", "1e308", "15E-1", "1e-400"])
async def test_numbers_of_variables_are_accepted_in_any_notation_whatever_is_selected(
    written: str, ada: Client
) -> None:
    for selected in ("deltaS", "deltaS canonicalJson"):
        query = f"mutation ($input: CreateSpanInput!) {{ createSpan(input: $input) {{ span {{ {selected} }} }} }}"
        variables = f'{{"input": {{"title": "t", "deltaS": {written}}}}}'
        made = await ada.send(f'{{"query": {json.dumps(query)}, "variables": {variables}}}')
        assert made.data["createSpan"]["span"]["deltaS"] == float(written)


async def test_a_refused_argument_is_reported_whatever_the_notation_of_its_variable(ada: Client) -> None:
    query = json.dumps("query ($first: Int) { timeline(first: $first) { totalCount } }")
    plain, scientific = [
        await ada.send(f'{{"query": {query}, "variables": {{"first": {first}}}}}') for first in ("1000", "1E3")
    ]
    assert plain.code == scientific.code == "BAD_USER_INPUT"
    assert plain.error["message"] == scientific.error["message"]
