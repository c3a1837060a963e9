from functools import partial

import strawberry
from sqlalchemy import ARRAY, BigInteger, Boolean, Column, DateTime as Timestamp, Integer, Text, Uuid

from isola.api.access import PUBLIC, mutation, requires
from isola.api.connections import Connection
from isola.api.enums import described_enum
from isola.api.fields import many, mapped, one, typed_id
from isola.api.request import Info, fields_of, outcome_field, payload, with_outcome
from isola.api.scalars import BigInt, DateTime
from isola.errors import Forbidden
from isola.query.identifiers import decode
from isola.query.mapping import Function, Parameters
from isola.subjects import webhooks
from isola.subjects.permissions import Permission
from isola.subjects.users import User
from isola.subjects.webhooks import kinds, templates
from isola.subjects.webhooks.kinds import Seal, Sealed, WebhookKind
from isola.webhooks.delivery import Delivery

PREFIX, LETTER_PREFIX, ENTRY_PREFIX, EVENT_PREFIX = "whk", "dlt", "aud", "cev"
EVENTS = "Actions such as resource:create, patterns such as resource:*, or * for all."
KEY = "The key of the project, which begins with phc_. Nobody can read it afterwards."
SLACK_URL = "The secret URL of an incoming webhook. Nobody can read it afterwards but for its host."
TEMPLATE = f"The text about an event, with any of these fields in braces: {', '.join(templates.FIELDS)}."
URL = "Where events are sent: https, with port 443 or one from 1024 on, a public address, and no user name."
described_enum(WebhookKind)
READ, MANAGE = requires(Permission.WEBHOOK_READ), requires(Permission.WEBHOOK_MANAGE)

every_webhook = Function(
    "isola.webhooks",
    (
        Column("id", Uuid, nullable=False),
        Column("kind", Text, nullable=False),
        Column("url", Text, nullable=False),
        Column("template", Text, nullable=False),
        Column("description", Text, nullable=False),
        Column("events", ARRAY(Text), nullable=False),
        Column("enabled", Boolean, nullable=False),
        Column("created_by", Uuid),
        Column("created_at", Timestamp(timezone=True), nullable=False),
        Column("updated_at", Timestamp(timezone=True), nullable=False),
        Column("secret_changed_at", Timestamp(timezone=True), nullable=False),
        Column("delivered", BigInteger, nullable=False),
        Column("succeeded_at", Timestamp(timezone=True)),
        Column("failures", Integer, nullable=False),
        Column("failure", Text),
        Column("next_attempt_at", Timestamp(timezone=True)),
        Column("lag", BigInteger, nullable=False),
    ),
)

connector_events = Function(
    "isola.connector_events",
    (
        Column("id", Uuid, nullable=False),
        Column("number", BigInteger, nullable=False),
        Column("at", Timestamp(timezone=True), nullable=False),
        Column("first_entry", BigInteger, nullable=False),
        Column("last_entry", BigInteger, nullable=False),
        Column("entries", Integer, nullable=False),
        Column("attempt", Integer, nullable=False),
        Column("failure", Text),
        Column("bytes", Integer, nullable=False),
    ),
    arguments=("id",),
)

dead_letters = Function(
    "isola.dead_letters",
    (
        Column("id", Uuid, nullable=False),
        Column("number", BigInteger, nullable=False),
        Column("entry_id", Uuid, nullable=False),
        Column("action", Text, nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("failure", Text, nullable=False),
        Column("died_at", Timestamp(timezone=True), nullable=False),
    ),
    arguments=("id",),
)


@mapped(dead_letters)
@strawberry.type(description="An event that a webhook did not accept in time.", directives=[READ])
class DeadLetter:
    id: strawberry.ID = typed_id(LETTER_PREFIX)
    number: BigInt = strawberry.field(description="Its number in the log.")
    entry_id: strawberry.ID = typed_id(ENTRY_PREFIX, "entry_id", description="The id of the entry, and of the event.")
    action: str = strawberry.field(description="What happened, such as resource:create.")
    attempts: int = strawberry.field(description="How often it was tried.")
    failure: str = strawberry.field(
        description="Why the last attempt failed: HTTP_500 for a status, or a kind of error."
    )
    died_at: DateTime = strawberry.field(description="When it was given up.")


@mapped(connector_events, order=(("number", True),))
@strawberry.type(description="A request that was made to an endpoint.", directives=[READ])
class ConnectorEvent:
    id: strawberry.ID = typed_id(EVENT_PREFIX)
    number: BigInt = strawberry.field(description="Its number among the requests of the webhook, from 1 on.")
    at: DateTime = strawberry.field(description="When it had ended.")
    first_entry: BigInt = strawberry.field(description="The number in the log of its first event.")
    last_entry: BigInt = strawberry.field(description="The number in the log of its last event.")
    entries: int = strawberry.field(description="How many events it had.")
    attempt: int = strawberry.field(description="1 for the first attempt to send the first event.")
    failure: str | None = strawberry.field(
        description="Why it was not accepted: HTTP_500 for a status, or a kind of error. Null if it was."
    )
    bytes: int = strawberry.field(description="The size of its body. 0 if no request could be made.")


@mapped(every_webhook)
@strawberry.type(description="An endpoint that gets events of the tenant.", directives=[READ])
class Webhook:
    id: strawberry.ID = typed_id(PREFIX)
    kind: WebhookKind = strawberry.field(description="What is sent, and how.")
    url: str = strawberry.field(description="Where events are sent.")
    template: str = strawberry.field(
        description="The text about an event, of messages to Slack; empty for other kinds."
    )
    description: str = strawberry.field(description="What it is for.")
    events: list[str] = strawberry.field(
        description="Which events it gets: actions, patterns such as resource:*, or *."
    )
    enabled: bool = strawberry.field(description="Whether events are sent. An endpoint that answers 410 is disabled.")
    created_by: User | None = one("created_by", description="The user who created it.")
    created_at: DateTime
    updated_at: DateTime
    secret_changed_at: DateTime = strawberry.field(
        description="When it got its secret. For 24 hours after that, a former one signs as well."
    )
    delivered: BigInt = strawberry.field(description="The number of the last entry of the log that it is done with.")
    succeeded_at: DateTime | None = strawberry.field(description="When it last accepted an event.")
    failures: int = strawberry.field(description="How often the next event was tried without success.")
    failure: str | None = strawberry.field(
        description="Why the last attempt failed: HTTP_500 for a status, or a kind of error. Null after a success."
    )
    next_attempt_at: DateTime | None = strawberry.field(description="When a failed event is tried again.")
    lag: BigInt = strawberry.field(description="How many entries of the log it has not been done with, of all kinds.")
    dead_letters: Connection[DeadLetter] = many(
        source=dead_letters, description="The events that were given up, oldest first."
    )
    connector_events: Connection[ConnectorEvent] = many(
        source=connector_events, description="The last 1,000 requests, newest first."
    )


@strawberry.type
class WebhookQueries:
    webhooks: Connection[Webhook] | None = many(
        source=every_webhook, description="In the order of creation.", access=READ
    )


@strawberry.input
class CreateWebhookInput:
    url: str = strawberry.field(description=URL)
    events: list[str] = strawberry.field(description=EVENTS)
    description: str = strawberry.field(default="", description="What it is for.")


@strawberry.input
class CreatePosthogConnectorInput:
    url: str = strawberry.field(description="The address of PostHog, such as https://eu.i.posthog.com.")
    key: str = strawberry.field(description=KEY)
    events: list[str] = strawberry.field(description=EVENTS)
    description: str = strawberry.field(default="", description="What it is for.")


@strawberry.input
class CreateSlackConnectorInput:
    url: str = strawberry.field(description=SLACK_URL)
    events: list[str] = strawberry.field(description=EVENTS)
    template: str = strawberry.field(default=templates.DEFAULT, description=TEMPLATE)
    description: str = strawberry.field(default="", description="What it is for.")


@strawberry.input
class UpdateWebhookInput:
    webhook_id: strawberry.ID
    url: str | None = strawberry.field(default=strawberry.UNSET, description=URL)
    key: str | None = strawberry.field(default=strawberry.UNSET, description=f"{KEY} For PostHog.")
    template: str | None = strawberry.field(default=strawberry.UNSET, description=f"{TEMPLATE} For Slack.")
    events: list[str] | None = strawberry.field(default=strawberry.UNSET, description=EVENTS)
    description: str | None = strawberry.field(default=strawberry.UNSET, description="What it is for.")
    enabled: bool | None = strawberry.field(
        default=strawberry.UNSET, description="Whether events are sent. What happens meanwhile is sent later."
    )


@strawberry.input
class RotateWebhookSecretInput:
    webhook_id: strawberry.ID


@strawberry.input
class DeleteWebhookInput:
    webhook_id: strawberry.ID


@strawberry.input
class ReplayWebhookInput:
    webhook_id: strawberry.ID
    number: BigInt | None = strawberry.field(default=None, description="The number in the log of the first event.")
    dead_letter_id: strawberry.ID | None = strawberry.field(default=None, description="The first event, instead.")


@strawberry.input
class TestWebhookInput:
    webhook_id: strawberry.ID


_OF_WEBHOOK = Parameters({"webhook_id": Uuid()})


@mapped(_OF_WEBHOOK)
@strawberry.type(directives=[PUBLIC])
class CreateWebhookPayload:
    webhook: Webhook = one("webhook_id", source=every_webhook)
    secret: str = outcome_field(
        "The secret that signs its events. It is returned only once and cannot be retrieved later."
    )


@mapped(_OF_WEBHOOK)
@strawberry.type(directives=[PUBLIC])
class CreatePosthogConnectorPayload:
    webhook: Webhook = one("webhook_id", source=every_webhook)


@mapped(_OF_WEBHOOK)
@strawberry.type(directives=[PUBLIC])
class CreateSlackConnectorPayload:
    webhook: Webhook = one("webhook_id", source=every_webhook)


@mapped(_OF_WEBHOOK)
@strawberry.type(directives=[PUBLIC])
class UpdateWebhookPayload:
    webhook: Webhook = one("webhook_id", source=every_webhook)


@mapped(_OF_WEBHOOK)
@strawberry.type(directives=[PUBLIC])
class RotateWebhookSecretPayload:
    webhook: Webhook = one("webhook_id", source=every_webhook)
    secret: str = outcome_field("The new secret. It is returned only once and cannot be retrieved later.")


@mapped(_OF_WEBHOOK)
@strawberry.type(directives=[PUBLIC])
class DeleteWebhookPayload:
    deleted_id: strawberry.ID = typed_id(PREFIX, "webhook_id")


@mapped(_OF_WEBHOOK)
@strawberry.type(directives=[PUBLIC])
class ReplayWebhookPayload:
    webhook: Webhook = one("webhook_id", source=every_webhook)


@mapped(_OF_WEBHOOK)
@strawberry.type(directives=[PUBLIC])
class TestWebhookPayload:
    webhook: Webhook = one("webhook_id", source=every_webhook)
    failure: str | None = outcome_field(
        "Why it was not accepted: HTTP_500 for a status, or a kind of error. Null if it was."
    )


def _delivery(info: Info) -> Delivery:
    if info.context.services.delivery is None:
        raise Forbidden("there are no webhooks here")
    return info.context.services.delivery


def _seal(info: Info) -> Seal:
    return partial(_delivery(info).seal, info.context.context.principal.tenant)


@strawberry.type
class WebhookMutations:
    @mutation(MANAGE, "Send the tenant's events to an endpoint from now on. Needs audit:read as well.")
    async def create_webhook(self, info: Info, input: CreateWebhookInput) -> CreateWebhookPayload:
        delivery = _delivery(info)
        url = delivery.url(input.url)
        async with info.context.transaction() as work:
            key, secret_id = await webhooks.create(
                work, info.context.actor, Sealed(url), description=input.description, events=input.events
            )
            made = await payload(CreateWebhookPayload, info, work, webhook_id=key)
            return with_outcome(made, delivery.secret(key, secret_id))

    @mutation(MANAGE, "Send the tenant's events to PostHog from now on. Needs audit:read as well.")
    async def create_posthog_connector(
        self, info: Info, input: CreatePosthogConnectorInput
    ) -> CreatePosthogConnectorPayload:
        sealed = kinds.posthog(_delivery(info).url(input.url), input.key, _seal(info))
        async with info.context.transaction() as work:
            key, _ = await webhooks.create(
                work,
                info.context.actor,
                sealed,
                kind=WebhookKind.POSTHOG,
                description=input.description,
                events=input.events,
            )
            return await payload(CreatePosthogConnectorPayload, info, work, webhook_id=key)

    @mutation(MANAGE, "Send messages about the tenant's events to Slack from now on. Needs audit:read as well.")
    async def create_slack_connector(self, info: Info, input: CreateSlackConnectorInput) -> CreateSlackConnectorPayload:
        sealed = kinds.slack(_delivery(info).url(input.url), input.template, _seal(info))
        async with info.context.transaction() as work:
            key, _ = await webhooks.create(
                work,
                info.context.actor,
                sealed,
                kind=WebhookKind.SLACK,
                description=input.description,
                events=input.events,
            )
            return await payload(CreateSlackConnectorPayload, info, work, webhook_id=key)

    @mutation(MANAGE, "Change a webhook. A failed event is tried again at once. Needs audit:read as well.")
    async def update_webhook(self, info: Info, input: UpdateWebhookInput) -> UpdateWebhookPayload:
        values = fields_of(input)
        key = decode(values.pop("webhook_id"), PREFIX, "webhookId")
        if values.get("url") is not None:
            values["url"] = _delivery(info).url(values["url"])
        secret = None
        if "template" in values:
            secret = await _delivery(info).given_secret(info.context.context.principal.tenant, key)
        async with info.context.transaction() as work:
            await webhooks.update(work, info.context.actor, key, values, _seal(info), secret)
            return await payload(UpdateWebhookPayload, info, work, webhook_id=key)

    @mutation(
        MANAGE, "Give a webhook another secret. For 24 hours, the former one signs as well. Needs audit:read as well."
    )
    async def rotate_webhook_secret(self, info: Info, input: RotateWebhookSecretInput) -> RotateWebhookSecretPayload:
        delivery = _delivery(info)
        key = decode(input.webhook_id, PREFIX, "webhookId")
        async with info.context.transaction() as work:
            secret_id = await webhooks.rotate_secret(work, info.context.actor, key)
            rotated = await payload(RotateWebhookSecretPayload, info, work, webhook_id=key)
            return with_outcome(rotated, delivery.secret(key, secret_id))

    @mutation(MANAGE, "Delete a webhook and its dead letters.")
    async def delete_webhook(self, info: Info, input: DeleteWebhookInput) -> DeleteWebhookPayload:
        key = decode(input.webhook_id, PREFIX, "webhookId")
        async with info.context.transaction() as work:
            await webhooks.delete(work, info.context.actor, key)
            return await payload(DeleteWebhookPayload, info, work, webhook_id=key)

    @mutation(MANAGE, "Send all events from a number or a dead letter on again, in order. Needs audit:read as well.")
    async def replay_webhook(self, info: Info, input: ReplayWebhookInput) -> ReplayWebhookPayload:
        key = decode(input.webhook_id, PREFIX, "webhookId")
        letter = None if input.dead_letter_id is None else decode(input.dead_letter_id, LETTER_PREFIX, "deadLetterId")
        async with info.context.transaction() as work:
            await webhooks.replay(work, info.context.actor, key, number=input.number, dead_letter=letter)
            return await payload(ReplayWebhookPayload, info, work, webhook_id=key)

    @mutation(MANAGE, "Send one ping to a webhook, and wait for the answer. Nothing is repeated or noted.")
    async def test_webhook(self, info: Info, input: TestWebhookInput) -> TestWebhookPayload:
        delivery = _delivery(info)
        key = decode(input.webhook_id, PREFIX, "webhookId")
        async with info.context.context.transaction(read_only=True) as work:
            await webhooks.expect(work, info.context.actor, key)
        # The endpoint may take seconds, so no transaction is open meanwhile.
        tenant = info.context.context.principal.tenant
        failure = await delivery.test(tenant, key)
        async with info.context.transaction() as work:
            return with_outcome(await payload(TestWebhookPayload, info, work, webhook_id=key), failure)
