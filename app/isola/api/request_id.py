"""The id of a request in the server's log, in the audit log, and in its response."""

import re
from secrets import token_hex

HEADER = "x-request-id"
_WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{1,128}")


def request_id(sent: str | None) -> str:
    """The request id that the client sent, if it is safe to log; otherwise a new random id."""
    return sent if sent is not None and _WELL_FORMED.fullmatch(sent) else token_hex(16)
