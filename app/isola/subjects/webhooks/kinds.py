"""What each kind of webhook is given, and how its secret is kept apart from what can be read."""

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from isola.errors import BadUserInput
from isola.subjects.webhooks import templates

MAX_KEY = 200
_KEY = re.compile(r"[!-~]{1,200}")
# PostHog's personal keys read and change data; the key of a project only adds events.
_PERSONAL = "phx_"


class WebhookKind(StrEnum):
    """What a webhook sends.

    WEBHOOK: Single signed events.
    POSTHOG: Batches of events for PostHog.
    SLACK: Messages for Slack.
    """

    WEBHOOK = "webhook"
    POSTHOG = "posthog"
    SLACK = "slack"


Seal: TypeAlias = Callable[[str, str, str], bytes]
"""Encrypts a secret for the kind and the URL of a webhook: the arguments are the kind, the URL and the secret."""


class Sealed(NamedTuple):
    """What is stored of what a client gave.

    ``secret`` is encrypted. If it or ``template`` is empty, there is none, or it remains as it is.
    """

    url: str
    secret: bytes = b""
    template: str = ""


def posthog(url: str, key: str, seal: Seal) -> Sealed:
    """A connector to PostHog at a URL that has been checked. Raises BadUserInput naming the invalid argument."""
    if "?" in url:
        raise BadUserInput("url: expected a URL without a query", "url")
    if not _KEY.fullmatch(key) or key.startswith(_PERSONAL):
        raise BadUserInput(
            f"key: expected the key of a project (phc_…), 1 to {MAX_KEY} printable ASCII characters", "key"
        )
    return Sealed(url, seal(WebhookKind.POSTHOG, url, key))


def slack(url: str, template: str, seal: Seal) -> Sealed:
    """A connector to Slack at a secret URL that has been checked. Raises BadUserInput if the template is invalid."""
    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc}"
    return Sealed(origin, seal(WebhookKind.SLACK, origin, url), templates.checked(template, secret=url))


def changed(stored: Mapping[str, Any], values: Mapping[str, Any], seal: Seal, secret: str | None) -> Sealed:
    """What a webhook becomes with another ``url``, ``key`` or ``template``. ``secret`` is the one that it has.

    Raises BadUserInput for one that its kind has not, and for a URL of PostHog without a key: whoever may change where
    a key is sent could read it otherwise.
    """
    kind = WebhookKind(stored["kind"])
    for name, of in (("key", WebhookKind.POSTHOG), ("template", WebhookKind.SLACK)):
        if name in values and kind is not of:
            raise BadUserInput(f"{name}: expected none, since the webhook is not of the kind {of.name}", name)
    url, template = values.get("url", stored["url"]), values.get("template", stored["template"])
    if kind is WebhookKind.POSTHOG and "key" in values:
        return posthog(url, values["key"], seal)
    if kind is WebhookKind.POSTHOG and "url" in values:
        raise BadUserInput("key: expected the key again, since the URL changes", "key")
    if kind is WebhookKind.SLACK and "url" in values:
        return slack(url, template, seal)
    if kind is WebhookKind.SLACK:
        return Sealed(url, template=templates.checked(template, secret=secret))
    return Sealed(url)
