"""What each kind of webhook sends: how events become one request. All else is the same for all kinds."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Protocol
from uuid import uuid4

from isola.errors import BadUserInput
from isola.platform.webhooks import Entry, Target
from isola.query.caller import Tenant
from isola.subjects.webhooks import templates
from isola.subjects.webhooks.kinds import WebhookKind
from isola.webhooks import events
from isola.webhooks.sealing import Sealer
from isola.webhooks.sending import GONE, Failure
from isola.webhooks.signing import Signer


@dataclass(frozen=True, slots=True, repr=False)  # without repr: it contains secrets
class Request:
    """A POST of a JSON document."""

    url: str
    headers: Mapping[str, str]
    body: bytes


class Kind(Protocol):
    """How events become a request. ``most``: how many a request has at most."""

    @property
    def most(self) -> int: ...

    @property
    def gone(self) -> frozenset[str]:
        """The failures after which the endpoint will never accept anything again."""
        ...

    def request(self, target: Target, tenant: Tenant, batch: Sequence[Entry]) -> Request:
        """The request for these events, 1 to ``most``. Raises Failure if it cannot be made."""
        ...

    def ping(self, target: Target, tenant: Tenant) -> Request:
        """The request of a test. Raises Failure if it cannot be made."""
        ...


class Signed:
    """One event, signed as in the Standard Webhooks specification."""

    most = 1
    gone = frozenset({GONE})

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def request(self, target: Target, tenant: Tenant, batch: Sequence[Entry]) -> Request:
        [entry] = batch
        return self._request(target, events.message_id(entry), events.payload(tenant.slug, entry))

    def ping(self, target: Target, tenant: Tenant) -> Request:
        return self._request(target, f"ping_{uuid4()}", events.ping(tenant.slug))

    def _request(self, target: Target, message: str, payload: Mapping[str, object]) -> Request:
        body = _json(payload)
        return Request(target.url, self._signer.headers(target, message, int(time.time()), body), body)


class PostHog:
    """Up to 500 events, as PostHog's batch API expects them.

    See https://posthog.com/docs/api/capture. An event takes less than 1,500 bytes, so a request is far below 20 MB,
    which is the limit.
    """

    most = 500
    gone = frozenset({GONE})

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def request(self, target: Target, tenant: Tenant, batch: Sequence[Entry]) -> Request:
        return self._request(target, [_captured(tenant, entry) for entry in batch])

    def ping(self, target: Target, tenant: Tenant) -> Request:
        return self._request(target, [_event(tenant, "ping", {})])

    def _request(self, target: Target, batch: Sequence[Mapping[str, object]]) -> Request:
        body = _json({"api_key": self._sealer.open(target), "batch": batch})
        return Request(f"{target.url.rstrip('/')}/batch/", {}, body)


def _captured(tenant: Tenant, entry: Entry) -> Mapping[str, object]:
    """PostHog removes duplicates by the event, the distinct id, the day and the UUID: all of them are the entry's."""
    at = entry.at.astimezone(UTC).isoformat()
    about = {name: value for name, value in events.data(tenant.slug, entry).items() if name != "tenant"}
    return {**_event(tenant, entry.action, about), "uuid": str(entry.id), "timestamp": at}


def _event(tenant: Tenant, name: str, about: Mapping[str, object]) -> Mapping[str, object]:
    """An event of the tenant, not of a person: nobody gets a profile, and the place of the server is nobody's."""
    key = f"ten_{tenant.id}"
    properties = {
        "tenant_id": key,
        "tenant": tenant.slug,
        **about,
        "$groups": {"tenant": key},
        "$process_person_profile": False,
        "$geoip_disable": True,
        "$lib": "isola",
    }
    return {"event": name, "distinct_id": key, "properties": properties}


class Slack:
    """A message with a line for each of up to 10 events, by a template.

    404 is Slack's answer if the app, its URL or the channel was removed; 410 if the channel was archived.
    """

    most = 10
    gone = frozenset({"HTTP_404", GONE})

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def request(self, target: Target, tenant: Tenant, batch: Sequence[Entry]) -> Request:
        url = self._sealer.open(target)
        try:
            # Again: SQL inside a tenant can have stored any text.
            template = templates.checked(target.template, secret=url)
        except BadUserInput:
            raise Failure("INVALID_TEMPLATE") from None
        return _message(url, "\n".join(templates.render(template, _values(tenant, entry)) for entry in batch))

    def ping(self, target: Target, tenant: Tenant) -> Request:
        return _message(self._sealer.open(target), f"A test: events of {tenant.slug} will be sent here.")


def _message(url: str, text: str) -> Request:
    return Request(url, {}, _json({"text": text}))


def _values(tenant: Tenant, entry: Entry) -> Mapping[str, str]:
    data = events.data(tenant.slug, entry)
    at = entry.at.astimezone(UTC).isoformat(timespec="seconds")
    return {**dict.fromkeys(templates.FIELDS, ""), **{name: str(value) for name, value in data.items()}, "time": at}


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def kinds(signer: Signer, sealer: Sealer) -> Mapping[str, Kind]:
    """All kinds by their names."""
    return {
        WebhookKind.WEBHOOK: Signed(signer),
        WebhookKind.POSTHOG: PostHog(sealer),
        WebhookKind.SLACK: Slack(sealer),
    }
