"""The tenant of code outside of requests, in a context variable.

asyncio copies context variables into tasks, task groups and ``asyncio.to_thread``; ``run_coroutine_threadsafe`` takes
those of the thread that calls it. A plain ``threading.Thread`` begins without any before Python 3.14: there,
``current`` raises. See docs/workers.md.
"""

from contextvars import ContextVar, Token
from types import TracebackType
from typing import NamedTuple
from uuid import UUID


class Scope(NamedTuple):
    """A tenant by its slug or id; a user by the subject of their tokens or by id; an organization by name or id."""

    tenant: str | UUID
    user: str | UUID | None = None
    organization: str | UUID | None = None


_NAMES = (str, UUID)

_current: ContextVar[Scope | None] = ContextVar("isola_scope", default=None)


class _Running:
    """A class, because a generator-based context manager is several times slower."""

    __slots__ = ("_scope", "_token")

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._token: Token[Scope | None] | None = None

    def __enter__(self) -> Scope:
        if self._token is not None:
            raise RuntimeError("this context has been entered already: call run_with_tenant again")
        self._token = _current.set(self._scope)
        return self._scope

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        token, self._token = self._token, None
        if token is None:
            raise RuntimeError("this context was not entered")
        _current.reset(token)


def run_with_tenant(
    tenant: str | UUID, *, user: str | UUID | None = None, organization: str | UUID | None = None
) -> _Running:
    """A context manager inside which transactions of a ``Worker`` are in this tenant.

    A text is the tenant's slug, the subject of the user's tokens, or the organization's name; a UUID is the id. Nothing
    is looked up before the first transaction. An inner context replaces the outer one as a whole, and inherits neither
    user nor organization; its end restores the outer one. Raises TypeError for values of other types.
    """
    if not isinstance(tenant, _NAMES):
        raise TypeError("tenant: expected a text or a UUID")
    if not (user is None or isinstance(user, _NAMES)):
        raise TypeError("user: expected a text, a UUID or None")
    if not (organization is None or isinstance(organization, _NAMES)):
        raise TypeError("organization: expected a text, a UUID or None")
    return _Running(Scope(tenant, user, organization))


def current() -> Scope:
    """The scope of the innermost ``run_with_tenant``. Raises RuntimeError outside of any: there is no default."""
    scope = _current.get()
    if scope is None:
        raise RuntimeError("no tenant: expected to be inside isola.run_with_tenant(…)")
    return scope
