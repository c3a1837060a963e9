"""Templates of messages: text with names of fields of an event in braces, and nothing else."""

import re
from collections.abc import Mapping
from html import escape
from urllib.parse import urlsplit

from isola.errors import BadUserInput

FIELDS = ("action", "actorKind", "id", "number", "owner", "tenant", "time")
"""What a template may name: what a webhook's document has about an event."""
DEFAULT = "{action} {id}"
MAX_TEMPLATE = 300
MAX_FIELDS = 10
_FIELD = re.compile(r"\{([A-Za-z]+)\}")
# Beginnings of keys and tokens: Slack's, of this API and its webhooks, PostHog's, JSON Web Tokens, HTTP's.
_SECRET = re.compile(
    r"xox[a-z]-|xapp-|hooks\.slack\.com/|isk_|whsec_|ph[a-z]_|eyJ[\w-]{8}|bearer\s|authorization\s*:", re.IGNORECASE
)
_PART = re.compile(r"[\w-]+")


def checked(template: str, *, secret: str | None = None) -> str:
    """A template, if it is valid. The longest part of a ``secret`` URL must not be in it. Raises BadUserInput."""
    if not 1 <= len(template) <= MAX_TEMPLATE or not template.isprintable():
        raise _refused(f"1 to {MAX_TEMPLATE} characters in one line")
    named = _FIELD.findall(template)
    if not set(named) <= set(FIELDS) or set("{}") & set(_FIELD.sub("", template)):
        raise _refused(f"in braces only names of fields: {', '.join(FIELDS)}")
    if len(named) > MAX_FIELDS:
        raise _refused(f"at most {MAX_FIELDS} fields")
    # The host of a URL is no secret.
    parts = _PART.findall(urlsplit(secret or "")._replace(scheme="", netloc="").geturl())
    if _SECRET.search(template) or (parts and max(parts, key=len) in template):
        raise _refused("a text without keys, tokens and secret URLs")
    return template


def render(template: str, values: Mapping[str, str]) -> str:
    """The text of a valid template. In values, ``&``, ``<`` and ``>`` are escaped, as Slack expects."""
    return _FIELD.sub(lambda field: escape(values[field[1]], quote=False), template)


def _refused(expected: str) -> BadUserInput:
    return BadUserInput(f"template: expected {expected}", "template")
