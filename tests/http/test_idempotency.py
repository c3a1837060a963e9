"""A mutation with an idempotency key is executed once for all requests with the key, which get the first answer."""

import asyncio
from collections.abc import Mapping
from itertools import product
from typing import Any
from uuid import uuid4

import pytest

from isola.api.idempotency import Allowance, Digests, unrepeatable_in
from isola.api.schema import model
from isola.database.transactions import Database
from isola.platform.idempotency import LIFETIME, forget
from isola.settings import Settings
from isola.subjects.permissions import Role
from isola.testing.fixtures import Copy
from isola.testing.served import Answer, Api, Client, serving
from isola_strategies.base import Strategy
from tests.http.listening import Ended, listening

CREATE = "mutation ($input: CreateResourceInput!) { createResource(input: $input) { resource { id name updatedAt } } }"
ORGANIZE = "mutation ($name: String!) { createOrganization(input: {name: $name}) { organization { id name } } }"
COUNT = "{ resources(first: 0) { totalCount } auditLog(first: 0) { totalCount } }"
KEY = "6a2f3d1e, the key of one request"
AT_ONCE = 40
REPLAYED = "idempotency-replayed"


@pytest.fixture
def ada(api: Api, strategy: Strategy) -> Client:
    return api.client(f"{strategy.name}-a", "ada", Role.ADMIN)


async def ask(
    client: Client, document: str, variables: Mapping[str, Any] | None = None, key: str = KEY, **more: Any
) -> Answer:
    body = {"query": document, "variables": variables or {}, **more}
    return await client.request("POST", json=body, headers={"idempotency-key": key})


async def create(client: Client, name: str = "once", key: str = KEY) -> Answer:
    return await ask(client, CREATE, {"input": {"name": name, "data": {"of": name}}}, key)


def is_first(answer: Answer) -> bool:
    return REPLAYED not in answer.response.headers and "errors" not in answer.body


def is_replay(answer: Answer, first: Answer) -> bool:
    same = (answer.status, answer.response.content) == (first.status, first.response.content)
    return same and answer.response.headers.get(REPLAYED) == "true"


async def age(owner: Database) -> None:
    """Make all answers as old as answers become."""
    async with owner.unbound() as work:
        await work.script("UPDATE control.first_answers SET kept_at = kept_at - interval '24 hours'")


async def test_a_request_that_is_repeated_gets_its_first_answer_and_changes_nothing(ada: Client) -> None:
    first = await create(ada)
    before = (await ada.ask(COUNT)).data
    assert is_first(first)
    assert is_replay(await create(ada), first)
    # The order of members has no meaning in JSON.
    assert is_replay(await ask(ada, CREATE, {"input": {"data": {"of": "once"}, "name": "once"}}), first)
    # It is the answer of then, also if the object is another one by now.
    key = first.data["createResource"]["resource"]["id"]
    changed = await ada.ask(f'mutation {{ updateResource(input: {{id: "{key}", name: "new"}}) {{ __typename }} }}')
    assert changed.data
    assert is_replay(await create(ada), first)
    assert (await ada.ask(COUNT)).data["resources"] == before["resources"]


async def test_another_request_with_the_key_is_a_conflict(ada: Client) -> None:
    assert is_first(await create(ada))
    before = (await ada.ask(COUNT)).data
    values = {"input": {"name": "once", "data": {"of": "once"}}}
    others = [
        await create(ada, "another"),
        await ask(ada, CREATE.replace(" updatedAt", ""), values),
        await ask(ada, CREATE.replace("mutation", "mutation Named"), values, operationName="Named"),
        await ask(ada, "mutation { signOutEverywhere { user { id } } }"),
    ]
    assert {(answer.status, answer.code) for answer in others} == {(200, "CONFLICT")}
    assert (await ada.ask(COUNT)).data == before


async def test_a_key_is_one_users(api: Api, ada: Client, strategy: Strategy) -> None:
    first = await create(ada)
    colleague, stranger = api.client(ada.tenant, "bob", Role.ADMIN), api.client(f"{strategy.name}-b", "ada", Role.ADMIN)
    for other in (colleague, stranger):
        answer = await create(other)
        assert is_first(answer)
        assert answer.data != first.data
    assert is_replay(await create(ada), first)


async def test_many_at_once_are_executed_once(ada: Client) -> None:
    before = (await ada.ask(COUNT)).data["resources"]["totalCount"]
    answers = await asyncio.gather(*(create(ada) for _ in range(AT_ONCE)))
    [first] = [answer for answer in answers if is_first(answer)]
    assert all(is_replay(answer, first) for answer in answers if answer is not first)
    assert (await ada.ask(COUNT)).data["resources"]["totalCount"] == before + 1


async def test_an_error_is_an_answer(ada: Client) -> None:
    made = await ask(ada, ORGANIZE, {"name": "taken"}, "one")
    first = await ask(ada, ORGANIZE, {"name": "taken"}, "two")
    assert first.code == "CONFLICT"
    assert is_replay(await ask(ada, ORGANIZE, {"name": "taken"}, "two"), first)
    assert is_replay(await ask(ada, ORGANIZE, {"name": "taken"}, "one"), made)


async def test_each_field_of_a_mutation_is_executed_once(ada: Client) -> None:
    document = """
    mutation ($name: String!) {
      one: createOrganization(input: {name: $name}) { __typename organization { id } }
      __typename
      two: createOrganization(input: {name: $name}) { organization { id } }
      three: deleteResource(input: {id: "res_none"}) { deletedId }
      ... { four: createResource(input: {name: $name}) { resource { id owner { name } } } }
    }
    """
    first = await ask(ada, document, {"name": "once"})
    before = (await ada.ask(COUNT)).data
    assert [(each["path"], each["extensions"]["code"]) for each in first.body["errors"]] == [
        (["two"], "CONFLICT"),
        (["three"], "BAD_USER_INPUT"),
    ]
    assert is_replay(await ask(ada, document, {"name": "once"}), first)
    assert (await ada.ask(COUNT)).data == before


async def test_with_fewer_permissions_an_answer_is_not_repeated(api: Api, ada: Client) -> None:
    first = await create(ada)
    for role in (Role.EDITOR, Role.VIEWER):
        answer = await create(api.client(ada.tenant, "ada", role))
        assert answer.code == "FORBIDDEN"
        assert answer.body["data"] == {"createResource": None}
    assert is_replay(await create(api.client(ada.tenant, "ada", Role.OWNER)), first)


async def test_answers_with_credentials_are_not_kept(ada: Client, api: Api) -> None:
    assert unrepeatable_in(model) == {
        "acceptInvitation",
        "createApiKey",
        "createRemoteToken",
        "createTicket",
        "createWebhook",
        "refreshSession",
        "rotateWebhookSecret",
        "signIn",
        "signInWithCode",
        "signOut",
        "testWebhook",
    }
    assert (await ada.ask(COUNT)).data
    before = await api.content(ada.tenant)
    for document in (
        'mutation { createApiKey(input: {name: "a", permissions: []}) { apiKey { id } } }',
        'mutation { createResource(input: {name: "a"}) { __typename } createTicket(input: {}) { ticket } }',
        'mutation { signOut(input: {refreshToken: "a"}) { signedOut } }',
    ):
        answer = await ask(ada, document)
        assert (answer.status, answer.code) == (400, "BAD_USER_INPUT")
        assert "takes none" in answer.error["message"]
    assert await api.content(ada.tenant) == before


async def test_a_bad_key_is_refused_and_that_of_a_query_is_ignored(ada: Client) -> None:
    before = (await ada.ask(COUNT)).data
    sent = [(name.encode(), value.encode()) for name, value in ada.headers.items()]
    for bad in ("", "x" * 256, "\xe9", "\x7f"):
        body = {"query": CREATE, "variables": {"input": {"name": "never"}}}
        headers = [*sent, (b"idempotency-key", bad.encode("latin-1"))]
        answer = Answer(await ada.http.post("/graphql", json=body, headers=headers))
        assert (answer.status, answer.code) == (400, "BAD_USER_INPUT"), bad
        assert (await ask(ada, COUNT, key="x" * 256)).data == before
    twice = [*sent, (b"idempotency-key", b"one"), (b"idempotency-key", b"two")]
    assert Answer(await ada.http.post("/graphql", json=body, headers=twice)).code == "BAD_USER_INPUT"
    assert is_first(await create(ada, key="x" * 255))


async def test_an_answer_expires_after_a_day(ada: Client, owner: Database, api: Api) -> None:
    first = await create(ada)
    await age(owner)
    second = await create(ada)
    assert is_first(second)
    assert second.data != first.data
    assert is_replay(await create(ada), second)
    # What has expired is deleted, and nothing else.
    await create(ada, key="of yesterday")
    await age(owner)
    third = await create(ada)
    assert [await forget(api.control, 1), await forget(api.control, 1)] == [1, 0]
    assert is_replay(await create(ada), third)


def large(aliases: int) -> str:
    selected = " ".join(f"f{number}: data" for number in range(aliases))
    return (
        f"mutation ($input: CreateResourceInput!) {{ createResource(input: $input) {{ resource {{ {selected} }} }} }}"
    )


async def test_a_large_answer_is_not_kept_and_its_change_is_rolled_back(ada: Client, owner: Database, api: Api) -> None:
    values = {"input": {"name": "large", "data": {"of": "x" * 1000}}}
    assert (await ada.ask(COUNT)).data
    before = await api.content(ada.tenant)
    first = await ask(ada, large(70), values)
    assert (first.code, first.body["data"]) == ("BAD_USER_INPUT", {"createResource": None})
    assert "more than 65536 bytes is not kept: select fewer fields" in first.error["message"]
    assert is_replay(await ask(ada, large(70), values), first)
    assert await api.content(ada.tenant) == before
    async with owner.unbound() as work:
        assert await work.value("SELECT max(octet_length(answer)) FROM control.first_answers") < 1000
    assert is_first(await ask(ada, large(60), values, "another key"))


async def test_the_answers_of_a_tenant_take_a_bounded_size(copy: Copy, settings: Settings, strategy: Strategy) -> None:
    async with serving(copy, settings.model_copy(update={"kept_answer_bytes": 4})) as api:
        ada, bob = [api.client(f"{strategy.name}-a", user, Role.ADMIN) for user in ("ada", "bob")]
        first = await create(ada)
        before = (await bob.ask(COUNT)).data
        for client in (ada, bob):
            refused = await create(client, key="another key")
            assert (refused.status, refused.code) == (429, "RATE_LIMITED")
            assert int(refused.response.headers["retry-after"]) > 1
        assert (await ada.ask(COUNT)).data == before
        # What keeps nothing goes on, and other tenants are not concerned.
        assert is_replay(await create(ada), first)
        assert (await ada.ask(CREATE, {"input": {"name": "without a key"}})).data
        assert is_first(await create(api.client(f"{strategy.name}-b", "ada", Role.ADMIN)))


def test_the_digest_of_a_key_is_one_users_in_one_installation() -> None:
    one, other = uuid4(), uuid4()
    every = product((b"secret", b"another"), (one, other), (one, other), ("a", "b"))
    assert len({Digests(secret).of(tenant, user, key) for secret, tenant, user, key in every}) == 16


def test_an_allowance_is_one_tenants_and_comes_back_within_a_day() -> None:
    now = 1000.0
    allowance = Allowance(200_000, clock=lambda: now)
    busy, other = uuid4(), uuid4()
    kept = 0
    while allowance.wait(busy) <= 0:
        allowance.charge(busy, "\u00fc" * 2000, "permissions")
        kept += 4000 + len("permissions")
    assert 80_000 < kept < 105_000
    assert allowance.wait(other) <= 0
    now += LIFETIME / 2
    assert allowance.wait(busy) <= 0
    while allowance.wait(busy) <= 0:
        allowance.charge(busy, "x" * 4000)
        kept += 4000
    assert 120_000 < kept < 200_000
    assert allowance.wait(busy) < 60 * 60


async def test_an_operation_on_a_websocket_has_its_key_in_its_extensions(ada: Client) -> None:
    values = {"input": {"name": "once"}}
    async with listening(ada) as listener:
        first, second = [
            await (await listener.subscribe(CREATE, values, extensions={"idempotencyKey": KEY})).next()
            for _ in range(2)
        ]
        assert first == second
        for invalid in (1, "", None):
            bad = await listener.subscribe(CREATE, values, extensions={"idempotencyKey": invalid})
            with pytest.raises(Ended) as ended:
                await bad.next()
            assert ended.value.code == "BAD_USER_INPUT"
