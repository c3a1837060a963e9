"""The client of an open connection, who is authenticated again and again while it is open."""

import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from isola.api.context import Context
from isola.database.transactions import Database
from isola.errors import Forbidden, Refusal, Unavailable
from isola.identity.authentication import Principal
from isola.identity.members import Members
from isola.platform.changes import Changes

TRUSTED_FOR = 0.5
"""Seconds for which a check holds in any case, so that many events at once need only one."""
UNCHANGED_FOR = (2.0, 3.0)
"""Seconds for which a check holds if nothing that is cached has changed since: tokens expire without a change.

Each check draws its own, so that the checks of many callers do not happen at the same moment.
"""


class Principals(Protocol):
    """Authenticates the caller: see ``Authenticator``."""

    @property
    def members(self) -> Members: ...
    async def principal(self, scope: Mapping[str, Any]) -> Principal: ...


class Caller:
    """The user of a connection. ``end`` is called once, with the reason, when the user may no longer use it."""

    __slots__ = (
        "_changes",
        "_checked_at",
        "_epoch",
        "_principals",
        "_scope",
        "_unchanged_for",
        "context",
        "end",
        "ended",
    )

    def __init__(
        self, principals: Principals, changes: Changes, scope: Mapping[str, Any], context: Context, epoch: int
    ) -> None:
        self._principals = principals
        self._changes = changes
        self._scope = scope
        self._holds_from(time.monotonic(), epoch)
        self.context = context
        self.ended = False
        self.end: Callable[[Refusal], None] = lambda _: None

    @classmethod
    async def authenticated(
        cls, principals: Principals, changes: Changes, database: Database, scope: Mapping[str, Any], request_id: str
    ) -> "Caller":
        """The caller of an ASGI scope. Raises what ``Authenticator.principal`` raises."""
        epoch = changes.epoch
        context = Context(await principals.principal(scope), database, principals.members, request_id)
        if context.principal.remote:
            raise Forbidden("a partner on another installation reads once: expected no subscription and no live query")
        return cls(principals, changes, scope, context, epoch)

    @property
    def is_current(self) -> bool:
        """Whether the last check still holds."""
        age = time.monotonic() - self._checked_at
        is_unchanged = self._epoch == self._changes.epoch and self._changes.fresh
        return age < (self._unchanged_for if is_unchanged else TRUSTED_FOR)

    async def check(self) -> bool:
        """Authenticate again, unless the last check still holds; whether the caller may continue.

        Raises Unavailable if that cannot be determined at the moment: then nothing may be sent.
        """
        if self.ended:
            return False
        if self.is_current:
            return True
        started, epoch, before = time.monotonic(), self._changes.epoch, self.context
        try:
            principal = await self._principals.principal(self._scope)
            if (principal.tenant.id, principal.user_id) != (before.principal.tenant.id, before.principal.user_id):
                raise Forbidden("the credential is now of another user")
        except Unavailable:
            raise
        except Refusal as refusal:
            if not self.ended:
                self.ended = True
                self.end(refusal)
            return False
        if principal != before.principal:
            self.context = Context(principal, before.database, before.members, before.request_id)
        self._holds_from(started, epoch)
        return True

    def _holds_from(self, checked_at: float, epoch: int) -> None:
        self._checked_at = checked_at
        self._epoch = epoch
        self._unchanged_for = random.uniform(*UNCHANGED_FOR)  # noqa: S311  not a secret
