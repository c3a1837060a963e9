"""The client of the current request, for the log: its address, and what it calls itself."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import NamedTuple

MAX_ADDRESS = 64
MAX_USER_AGENT = 200


class Client(NamedTuple):
    """``address`` is what the front door resolves, behind trusted proxies; both are empty if they are not known."""

    address: str = ""
    user_agent: str = ""


UNKNOWN = Client()
_CURRENT: ContextVar[Callable[[], Client] | None] = ContextVar("client", default=None)


def enter(client: Callable[[], Client]) -> None:
    """Set the client of the request that the current task serves. It is only called if the log needs it."""
    _CURRENT.set(client)


def current() -> Client:
    client = _CURRENT.get()
    return UNKNOWN if client is None else client()
