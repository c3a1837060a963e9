"""URIs that name a process or a device."""

import re

from isola.errors import BadUserInput

MAX_URI = 500
# A scheme, a colon, and printable ASCII without blanks: see RFC 3986.
_FORM = re.compile("[A-Za-z][A-Za-z0-9+.-]*:[!-~]+")


def check(field: str, value: str | None) -> None:
    """Raise BadUserInput, naming the field, for a text that is no absolute URI."""
    if value is not None and not _FORM.fullmatch(value):
        raise BadUserInput(f"{field}: expected a URI with a scheme, such as urn:device:17 or https://host/path", field)
