from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

from isola.errors import Forbidden


@dataclass(frozen=True, slots=True)
class Allowed:
    def enforce(self) -> None:
        """Nothing stands against it."""


@dataclass(frozen=True, slots=True)
class Denied:
    """``reason`` is told to whoever asked."""

    reason: str

    def enforce(self) -> None:
        """Raise Forbidden with the reason."""
        raise Forbidden(self.reason)


Decision: TypeAlias = Allowed | Denied
ALLOWED = Allowed()


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a user and the names (``subject:action``) of what they are permitted."""

    user_id: UUID
    permissions: AbstractSet[str]

    def may(self, permission: str) -> Decision:
        """Whether the actor has a permission."""
        return ALLOWED if permission in self.permissions else Denied(f"this needs the permission {permission}")

    def may_all(self, permissions: AbstractSet[str]) -> Decision:
        """Whether the actor has all that somebody else has or is to have: nobody gives or takes more than that."""
        missing = permissions - self.permissions
        return Denied(f"this needs the permission {min(missing)} as well") if missing else ALLOWED

    def require(self, permission: str) -> None:
        """Raise Forbidden, naming the permission, unless it is given."""
        self.may(permission).enforce()
