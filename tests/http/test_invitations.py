"""Invitations by e-mail, from the message in a real mail server to the new user."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session as Conversation
from pydantic import SecretStr
from sqlalchemy import LargeBinary, func, literal, select

from isola.database.transactions import Database
from isola.identity import invitations, passwords
from isola.identity.passwords import Person, hashed
from isola.platform import moves, plans, provisioning, sign_in_log
from isola.platform.invitations import digest_of
from isola.platform.platform_log import operator
from isola.platform.tenants import Tenant
from isola.settings import Settings
from isola.subjects.permissions import Role
from isola.testing.fixtures import DEFAULTS, STRATEGIES, Copy
from isola.testing.patience import PATIENCE
from isola.testing.served import OPERATIONS, Answer, Api, Client, make_tenant, serving
from isola_strategies.base import Strategy
from tests.http.people import ask, client, entries, run, session, sign_in, until

PASSWORD = "correct horse battery staple"
INVALID = "the invitation is invalid or no longer valid"
ADDRESS = "grace@example.org"
GONE = "doomed"


@dataclass
class Mailbox:
    """A mail server that keeps what it accepts, and refuses as it is told."""

    messages: list[EmailMessage] = field(default_factory=list)
    attempts: int = 0
    port: int = 0
    reply: str = "250 OK"

    async def handle_DATA(self, server: SMTP, session: Conversation, envelope: Envelope) -> str:  # noqa: N802, ARG002  aiosmtpd's name
        self.attempts += 1
        if self.reply.startswith("250"):
            message = message_from_bytes(envelope.original_content or b"", policy=default)
            assert isinstance(message, EmailMessage)
            assert envelope.rcpt_tos == [message["To"]]
            self.messages.append(message)
        return self.reply

    async def received(self, count: int = 1) -> EmailMessage:
        """The last of so many messages, once they are there."""
        async with asyncio.timeout(PATIENCE):
            while len(self.messages) < count:  # noqa: ASYNC110  only looking tells
                await asyncio.sleep(0.02)
        return self.messages[count - 1]


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    mailbox = Mailbox()
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(mailbox), "127.0.0.1", 0)
    mailbox.port = server.sockets[0].getsockname()[1]
    yield mailbox
    server.close()


@pytest.fixture(scope="session")
def people() -> dict[str, Person]:
    names = ["grace", "heidi", *(f"many{number}" for number in range(4))]
    password = hashed(PASSWORD)
    return {name: Person(password=password, name=name.title(), role=Role.OWNER) for name in names}


@pytest.fixture
def settings(tmp_path: Path, people: dict[str, Person], mailbox: Mailbox) -> Settings:
    """The same people in every tenant. Their role in the file is higher than any that is given here."""
    file = tmp_path / "people.json"
    tenants = [f"{strategy}-{letter}" for strategy in STRATEGIES for letter in "ab"]
    passwords.write(file, dict.fromkeys([*tenants, GONE], people))
    return DEFAULTS.model_copy(
        update={
            "data_dir": tmp_path,
            "development_passwords": file,
            "smtp_url": SecretStr(f"smtp://127.0.0.1:{mailbox.port}"),
            "mail_from": "Isola <no-reply@isola.example>",
            "invitation_url": "https://app.example/join?tenant={tenant}#{token}",
        }
    )


@pytest.fixture
async def api(copy: Copy, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    monkeypatch.setattr(sign_in_log, "INTERVAL", 0.02)
    monkeypatch.setattr(invitations, "INTERVAL", 0.02)
    async with serving(copy, settings) as api:
        yield api


async def role(inviting: Client, name: str = "viewer") -> str:
    nodes = (await inviting.ask("{ roles(first: 100) { nodes { id name } } }")).data["roles"]["nodes"]
    return next(str(each["id"]) for each in nodes if each["name"] == name)


async def invite(inviting: Client, email: str = ADDRESS, *, roles: list[str] | None = None, **more: Any) -> Answer:
    given = [await role(inviting)] if roles is None else roles
    return await inviting.run("InviteUser", input={"email": email, "roleIds": given, **more})


def token_of(message: EmailMessage) -> str:
    body = message.get_body()
    assert body
    found = re.search(r"#(isi_\S+)", body.get_content())
    assert found
    return found[1]


async def accept(api: Api, token: str, login: str = "grace", password: str = PASSWORD, **headers: str) -> Answer:
    variables = {"input": {"token": token, "login": login, "password": password}}
    return await ask(api, OPERATIONS["AcceptInvitation"], variables, **headers)


async def invited(inviting: Client, mailbox: Mailbox, **more: Any) -> str:
    """The token of a new invitation."""
    count = len(mailbox.messages)
    assert (await invite(inviting, **more)).data
    return token_of(await mailbox.received(count + 1))


async def user_names(api: Api, tenant: str) -> set[str]:
    return {user["subject"] for user in (await api.content(tenant))["users"]}


async def expect_invalid(api: Api, token: str, **more: Any) -> None:
    refused = await accept(api, token, **more)
    assert (refused.code, refused.error["message"]) == ("UNAUTHENTICATED", INVALID)
    assert refused.body["data"] == {"acceptInvitation": None}


async def test_an_invited_person_becomes_a_user(api: Api, tenant: str, mailbox: Mailbox) -> None:
    ada = api.client(tenant)
    organization = (await ada.ask('mutation { createOrganization(input: {name: "o"}) { organization { id } } }')).data[
        "createOrganization"
    ]["organization"]["id"]
    made = (await invite(ada, "Grace@Example.org", organizationId=organization)).data["inviteUser"]["invitation"]
    assert made["email"] == ADDRESS

    message = await mailbox.received()
    assert (message["From"], message["To"]) == ("Isola <no-reply@isola.example>", ADDRESS)
    assert str((await provisioning.named(api.control, tenant)).id) in message.get_content()
    begun = session((await accept(api, token_of(message))).data)

    viewer = (
        await client(api, tenant, begun).ask(
            "{ viewer { user { name email organizations { nodes { name } } } roles } }"
        )
    ).data["viewer"]
    # Not the role in the file: an invitation decides.
    assert viewer == {
        "user": {"name": "Grace", "email": ADDRESS, "organizations": {"nodes": [{"name": "o"}]}},
        "roles": ["viewer"],
    }
    assert await sign_in(api, tenant, "grace", PASSWORD)
    [listed] = (await ada.run("Invitations")).data["invitations"]["nodes"]
    assert listed["sentAt"]
    assert listed["acceptedAt"]
    assert not listed["revokedAt"]
    assert (listed["acceptedBy"], listed["id"]) == ({"name": "Grace"}, made["id"])
    noted = [entry for entry in await entries(api, tenant) if entry["object"] == made["id"]]
    assert [entry["action"] for entry in noted] == ["invitation:create", "invitation:update"]
    assert noted[1]["new"].keys() == {"accepted_at", "accepted_by"}
    assert ADDRESS not in str(noted)


async def test_tokens_are_stored_as_hashes_alone(api: Api, owner: Database, tenant: str, mailbox: Mailbox) -> None:
    token = await invited(api.client(tenant), mailbox)
    async with owner.unbound() as work:
        stored = await work.texts("SELECT to_jsonb(i)::text FROM control.invitations i")
    assert len(stored) == 1
    assert token[4:20] not in stored[0]


async def test_an_invitation_is_accepted_once(api: Api, tenant: str, mailbox: Mailbox) -> None:
    token = await invited(api.client(tenant), mailbox)
    assert session((await accept(api, token)).data)

    await expect_invalid(api, token, login="heidi")
    assert not {"heidi"} & await user_names(api, tenant)


async def test_of_many_who_accept_at_once_one_becomes_a_user(api: Api, tenant: str, mailbox: Mailbox) -> None:
    token = await invited(api.client(tenant), mailbox)

    answers = await asyncio.gather(*(accept(api, token, f"many{number % 4}") for number in range(20)))

    assert len([each for each in answers if each.body["data"]["acceptInvitation"]]) == 1
    others = {each.code for each in answers if not each.body["data"]["acceptInvitation"]}
    assert others <= {"UNAUTHENTICATED", "CONFLICT", "RATE_LIMITED"}
    assert len({name for name in await user_names(api, tenant) if name.startswith("many")}) == 1


async def test_a_person_who_is_a_user_is_not_invited_again(api: Api, tenant: str, mailbox: Mailbox) -> None:
    ada = api.client(tenant)
    token = await invited(ada, mailbox)
    assert session((await accept(api, token)).data)
    assert (await invite(ada)).code == "CONFLICT"

    second = await invited(ada, mailbox, email="other@example.org")
    refused = await accept(api, second)

    assert (refused.code, len(mailbox.messages)) == ("CONFLICT", 2)
    assert session((await accept(api, second, "heidi")).data)


async def test_wrong_passwords_do_not_use_an_invitation_up(api: Api, tenant: str, mailbox: Mailbox) -> None:
    token = await invited(api.client(tenant), mailbox)
    refused = await accept(api, token, password="wrong")
    assert refused.error["message"] == "the tenant, the login or the password is wrong"
    for wrong in ({"login": "grace"}, {"password": PASSWORD}, {"login": "grace", "password": "x", "nonce": "x"}, {}):
        assert (await run(api, "AcceptInvitation", token=token, **wrong)).code == "BAD_USER_INPUT"

    assert session((await accept(api, token)).data)


async def test_a_revoked_and_a_replaced_invitation_are_refused(api: Api, tenant: str, mailbox: Mailbox) -> None:
    ada = api.client(tenant)
    first = await invited(ada, mailbox)
    second = await invited(ada, mailbox)
    await expect_invalid(api, first)
    nodes = (await ada.run("Invitations")).data["invitations"]["nodes"]
    revoked = await ada.run("RevokeInvitation", input={"invitationId": nodes[1]["id"]})
    assert revoked.data["revokeInvitation"]["invitation"]["revokedAt"]
    await expect_invalid(api, second)

    third = await invited(ada, mailbox)
    assert session((await accept(api, third)).data)
    last = (await ada.run("Invitations")).data["invitations"]["nodes"][2]
    assert (await ada.run("RevokeInvitation", input={"invitationId": last["id"]})).code == "NOT_FOUND"


async def test_an_expired_invitation_is_refused(api: Api, owner: Database, tenant: str, mailbox: Mailbox) -> None:
    token = await invited(api.client(tenant), mailbox)
    async with owner.unbound() as work:
        await work.script("UPDATE control.invitations SET expires_at = now() - interval '1 second'")
    await expect_invalid(api, token)


async def test_the_database_accepts_an_invitation_for_its_tenant_and_token_alone_and_once(
    api: Api, owner: Database, tenant: str, mailbox: Mailbox
) -> None:
    """Whoever can run SQL inside a tenant, without the API."""
    token = (await invited(api.client(tenant), mailbox))[4:-16]
    a, b = [await provisioning.named(api.control, slug) for slug in (tenant, tenant.replace("-a", "-b"))]
    async with owner.unbound() as work:
        key = UUID(await work.value("SELECT id::text FROM control.invitations"))

    async def granted(of: Tenant, digest: bytes = digest_of(token)) -> int:
        async with api.tenants.transaction(of) as work:
            accepted = func.isola.accept_invitation(key, literal(digest, LargeBinary()), key)
            return len(await work.rows(select(accepted.table_valued("role_ids"))))

    assert await granted(b) == 0
    async with api.tenants.transaction(b) as work:
        assert not await work.scalar(select(func.isola.revoke_invitation(key)))
        await work.scalar(select(func.isola.fail_invitation(key)))
        assert await work.rows(select(func.isola.invitations().table_valued("id"))) == []
    assert await granted(a, digest_of("another")) == 0
    async with owner.unbound() as work:
        await work.script("UPDATE control.invitations SET expires_at = now() - interval '1 second'")
    assert await granted(a) == 0
    async with owner.unbound() as work:
        await work.script("UPDATE control.invitations SET expires_at = now() + interval '1 hour'")
    assert [await granted(a) for _ in range(2)] == [1, 0]


FORGERIES = ["", "isi_", "isi_" + "a" * 60, "isr_" + "a" * 60, "\ud800", "a" * 4000]


async def test_an_invented_token_is_refused(api: Api, tenant: str, mailbox: Mailbox) -> None:
    token = await invited(api.client(tenant), mailbox)
    for forged in (*FORGERIES, token[:-1] + ("0" if token[-1] != "0" else "1"), token.replace("isi_", "isr_")):
        await expect_invalid(api, forged)


async def test_a_token_is_for_its_tenant_alone(api: Api, tenant: str, mailbox: Mailbox) -> None:
    other = tenant.replace("-a", "-b")
    token = await invited(api.client(tenant), mailbox)

    await expect_invalid(api, token, **{"x-tenant-id": other})

    before = await api.content(other)
    assert session((await accept(api, token, **{"x-tenant-id": tenant})).data)
    assert await api.content(other) == before


async def test_users_invite_only_with_roles_that_they_may_assign(api: Api, tenant: str, mailbox: Mailbox) -> None:
    admin = api.client(tenant)
    assert (await invite(admin, roles=[await role(admin, "owner")])).code == "FORBIDDEN"
    assert (await invite(api.client(tenant, "eve", Role.EDITOR), roles=[])).code == "FORBIDDEN"
    assert (await invite(admin, roles=["rol_01980000-0000-7000-8000-000000000000"])).code == "NOT_FOUND"
    assert (await invite(admin, organizationId="org_01980000-0000-7000-8000-000000000000")).code == "NOT_FOUND"
    assert mailbox.messages == []


async def test_an_invitation_grants_nothing_that_its_inviter_may_no_longer_give(
    api: Api, tenant: str, mailbox: Mailbox
) -> None:
    owner = api.client(tenant, "olga", Role.OWNER)
    inviting = api.client(tenant, "ivan", Role.ADMIN)
    token = await invited(inviting, mailbox, roles=[await role(inviting, "admin")])
    people_ = (await owner.ask("{ users { nodes { id name } } }")).data["users"]["nodes"]
    ivan = next(each["id"] for each in people_ if each["name"] == "ivan")
    admin = await role(owner, "admin")
    unassign = "mutation ($i: UnassignRoleInput!) { unassignRole(input: $i) { user { id } } }"
    assign = "mutation ($i: AssignRoleInput!) { assignRole(input: $i) { user { id } } }"
    assert (await owner.ask(unassign, {"i": {"userId": ivan, "roleId": admin}})).data
    made = await owner.ask(
        'mutation { createRole(input: {name: "hr", permissions: ["user:manage", "user:read"]}) { role { id } } }'
    )

    await expect_invalid(api, token)
    # A right to invite alone is not enough for the role that was promised.
    hr = made.data["createRole"]["role"]["id"]
    assert (await owner.ask(assign, {"i": {"userId": ivan, "roleId": hr}})).data
    await expect_invalid(api, token)
    assert "grace" not in await user_names(api, tenant)

    assert (await owner.ask(assign, {"i": {"userId": ivan, "roleId": admin}})).data
    assert session((await accept(api, token)).data)


async def test_an_invitation_of_a_disabled_user_is_refused(api: Api, tenant: str, mailbox: Mailbox) -> None:
    owner = api.client(tenant, "olga", Role.OWNER)
    token = await invited(api.client(tenant, "ivan", Role.ADMIN), mailbox)
    people_ = (await owner.ask("{ users { nodes { id name } } }")).data["users"]["nodes"]
    ivan = next(each["id"] for each in people_ if each["name"] == "ivan")
    assert (
        await owner.ask(
            "mutation ($i: DisableUserInput!) { disableUser(input: $i) { user { id } } }", {"i": {"id": ivan}}
        )
    ).data
    await expect_invalid(api, token)


async def test_roles_that_were_deleted_since_are_left_out(api: Api, tenant: str, mailbox: Mailbox) -> None:
    ada = api.client(tenant)
    made = await ada.ask('mutation { createRole(input: {name: "gone", permissions: ["user:read"]}) { role { id } } }')
    gone = made.data["createRole"]["role"]["id"]
    token = await invited(ada, mailbox, roles=[gone, await role(ada)])
    assert (
        await ada.ask("mutation ($i: DeleteRoleInput!) { deleteRole(input: $i) { deletedId } }", {"i": {"id": gone}})
    ).data

    begun = session((await accept(api, token)).data)

    assert (await client(api, tenant, begun).ask("{ viewer { roles } }")).data == {"viewer": {"roles": ["viewer"]}}


async def test_a_suspended_tenant_refuses_and_goes_on_after(api: Api, tenant: str, mailbox: Mailbox) -> None:
    ada = api.client(tenant)
    token = await invited(ada, mailbox)
    await provisioning.suspend(api.control, tenant)
    await until_status(ada, 403)

    assert (await accept(api, token)).code == "TENANT_SUSPENDED"

    await provisioning.resume(api.control, tenant)
    await until_status(ada, 200)
    assert session((await accept(api, token)).data)


async def until_status(user: Client, status: int) -> None:
    """Wait until a change of the tenant has reached the server."""
    async with asyncio.timeout(PATIENCE):
        while (await user.run("Viewer")).status != status:  # noqa: ASYNC110  only asking tells
            await asyncio.sleep(0.05)


async def test_the_invitations_of_a_deleted_tenant_are_gone(
    copy: Copy, owner: Database, api: Api, strategy: Strategy, mailbox: Mailbox
) -> None:
    await make_tenant(copy, GONE, strategy.name)
    token = await invited(api.client(GONE), mailbox)
    await provisioning.drop(owner, copy.strategies, GONE, notice=0)
    await expect_invalid(api, token)
    await provisioning.create(owner, copy.strategies, slug=GONE, name="Heir", strategy=strategy.name, reuse_slug=True)
    await expect_invalid(api, token)


async def test_an_invitation_moves_with_its_tenant(
    copy: Copy, owner: Database, api: Api, strategy: Strategy, mailbox: Mailbox
) -> None:
    await make_tenant(copy, GONE, strategy.name)
    token = await invited(api.client(GONE), mailbox)
    other = next(name for name in STRATEGIES if name != strategy.name)
    await moves.move(owner, copy.strategies, GONE, to=other)
    async with asyncio.timeout(PATIENCE):
        while not (answer := await accept(api, token)).body["data"]["acceptInvitation"]:
            assert answer.code in {"UNAVAILABLE", "UNAUTHENTICATED"}
            await asyncio.sleep(0.5)
    viewer = (await client(api, GONE, session(answer.data)).ask("{ viewer { roles } }")).data
    assert viewer == {"viewer": {"roles": ["viewer"]}}


async def test_a_quota_of_users_applies_when_an_invitation_is_accepted(
    owner: Database, api: Api, tenant: str, mailbox: Mailbox
) -> None:
    token = await invited(api.client(tenant), mailbox)
    by = operator()
    await plans.create(owner, by, name="one", title="One", quotas={"users": 1})
    await plans.give(owner, by, await provisioning.named(owner, tenant), "one")

    assert (await accept(api, token)).code == "QUOTA_EXCEEDED"

    assert "grace" not in await user_names(api, tenant)
    await plans.give(owner, by, await provisioning.named(owner, tenant), "unlimited")
    assert session((await accept(api, token)).data)


INVALID_ADDRESSES = [
    "",
    "ada",
    "a@b",
    "a@b.c\n",
    "a@b.c\r\nBcc: x@y.z",
    "a@b.c, x@y.z",
    "<a@b.c>",
    "Ada <a@b.c>",
    '"a b"@c.de',
    "a b@c.de",
    "ädä@example.org",
    "a@exämple.org",
    "a..b@example.org",
    "a@-b.org",
    f"{'a' * 65}@b.cd",
    f"a@{'b.' * 130}cd",
]


async def test_addresses_that_could_do_more_than_name_a_mailbox_are_refused(
    api: Api, tenant: str, mailbox: Mailbox
) -> None:
    ada = api.client(tenant)
    for address in INVALID_ADDRESSES:
        refused = await invite(ada, address, roles=[])
        assert refused.code == "BAD_USER_INPUT", address
        assert refused.error["extensions"]["field"] == "input.email", address
    assert mailbox.messages == []


async def test_names_of_tenants_add_no_header(
    copy: Copy, owner: Database, api: Api, strategy: Strategy, mailbox: Mailbox
) -> None:
    await provisioning.create(owner, copy.strategies, slug=GONE, name="Größe 漢字", strategy=strategy.name)
    async with owner.unbound() as work:
        await work.script(
            "UPDATE control.tenants SET name = E'Größe 漢字\\r\\nBcc: x@example.org\\u202e' WHERE slug = 'doomed'"
        )
    assert (await invite(api.client(GONE))).data
    message = await mailbox.received()
    assert message["Bcc"] is None
    assert message["Subject"].startswith("Invitation to Größe 漢字 Bcc")


async def test_a_tenant_invites_only_so_often(api: Api, owner: Database, tenant: str) -> None:
    ada = api.client(tenant)
    for _ in range(3):
        assert (await invite(ada, roles=[])).data
    limited = await invite(ada, roles=[])
    assert limited.code == "RATE_LIMITED"
    async with owner.unbound() as work:
        await work.script(
            "INSERT INTO control.invitations (tenant_id, email, role_ids, invited_by, expires_at) "
            "SELECT tenant_id, n || '@example.org', '{}', invited_by, now() + interval '1 day' "
            "FROM (SELECT tenant_id, invited_by FROM control.invitations LIMIT 1) i, generate_series(1, 97) n"
        )
    assert (await invite(ada, "another@example.org", roles=[])).code == "RATE_LIMITED"
    assert (await invite(api.client(tenant.replace("-a", "-b")), roles=[])).data


async def test_a_message_is_sent_again_until_the_mail_server_accepts_it(
    api: Api, owner: Database, tenant: str, mailbox: Mailbox
) -> None:
    mailbox.reply = "451 try again later"
    assert (await invite(api.client(tenant))).data
    await until_tried(mailbox, 1)
    mailbox.reply = "250 OK"
    await due_now(owner)

    assert session((await accept(api, token_of(await mailbox.received()))).data)
    assert mailbox.attempts == 2


@pytest.mark.parametrize("reply", ["451 try again later", "550 never"])
async def test_the_log_has_what_could_not_be_sent(
    api: Api, owner: Database, tenant: str, mailbox: Mailbox, reply: str
) -> None:
    mailbox.reply = reply
    assert (await invite(api.client(tenant))).data
    if reply.startswith("4"):
        for attempt in range(1, 7):
            await until_tried(mailbox, attempt)
            await due_now(owner)
    await until(api, tenant, lambda log: any((one["new"] or {}).get("failed_at") for one in log))
    await due_now(owner)
    await asyncio.sleep(0.2)
    assert mailbox.attempts == (6 if reply.startswith("4") else 1)
    [listed] = (await api.client(tenant).run("Invitations")).data["invitations"]["nodes"]
    assert listed["failedAt"]
    assert not listed["sentAt"]


async def until_tried(mailbox: Mailbox, attempts: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while mailbox.attempts < attempts:  # noqa: ASYNC110  only looking tells
            await asyncio.sleep(0.02)


async def due_now(owner: Database) -> None:
    async with owner.unbound() as work:
        await work.script("UPDATE control.invitations SET next_attempt_at = now() WHERE next_attempt_at IS NOT NULL")


async def test_what_was_not_sent_before_a_crash_is_sent_after_it(
    copy: Copy, settings: Settings, tenant: str, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invitations, "INTERVAL", 600.0)
    async with serving(copy, settings) as api:
        assert (await invite(api.client(tenant))).data
    assert mailbox.attempts == 0
    monkeypatch.setattr(invitations, "INTERVAL", 0.02)
    async with serving(copy, settings) as api:
        assert session((await accept(api, token_of(await mailbox.received()))).data)


async def test_without_a_mail_server_nobody_is_invited(copy: Copy, settings: Settings, tenant: str) -> None:
    async with serving(copy, settings.model_copy(update={"smtp_url": None})) as api:
        refused = await invite(api.client(tenant), roles=[])
    assert refused.code == "FORBIDDEN"
    assert "ISOLA_SMTP_URL" in refused.error["message"]
