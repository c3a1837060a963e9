from collections.abc import Mapping, Set as AbstractSet
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

from isola.errors import Forbidden
from isola.subjects import visibility


@dataclass(frozen=True, slots=True)
class Allowed:
    def enforce(self) -> None:
        """Allowed: does nothing."""


@dataclass(frozen=True, slots=True)
class Denied:
    """``reason`` is the message for the client."""

    reason: str

    def enforce(self) -> None:
        """Raise Forbidden with the reason."""
        raise Forbidden(self.reason)


Decision: TypeAlias = Allowed | Denied
ALLOWED = Allowed()


@dataclass(frozen=True, slots=True)
class Actor:
    """The acting user, with the names (``subject:action``) of their permissions."""

    user_id: UUID
    permissions: AbstractSet[str]

    @property
    def reader(self) -> Mapping[str, str]:
        """What a transaction proves to see the rows that the actor may see: see ``Database.transaction``."""
        return {"user": str(self.user_id), "permissions": visibility.proved(self.permissions)}

    def may(self, permission: str) -> Decision:
        """Whether the actor has a permission."""
        return ALLOWED if permission in self.permissions else Denied(f"this needs the permission {permission}")

    def may_all(self, permissions: AbstractSet[str]) -> Decision:
        """Whether the actor has all of these permissions: actors grant and revoke only what they have themselves."""
        missing = permissions - self.permissions
        return Denied(f"this needs the permission {min(missing)} as well") if missing else ALLOWED

    def require(self, permission: str) -> None:
        """Raise Forbidden, naming the permission, unless the actor has it."""
        self.may(permission).enforce()
