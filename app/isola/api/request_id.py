"""What a request is called in logs, in the log of what was done, and in its response."""

import re
from secrets import token_hex

HEADER = "x-request-id"
_WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{1,128}")


def request_id(given: str | None) -> str:
    """What the client calls its request, if that can stand in a log as it is; else an id made now."""
    return given if given is not None and _WELL_FORMED.fullmatch(given) else token_hex(16)
