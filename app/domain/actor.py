from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from uuid import UUID

from app.errors import Forbidden


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a user and the names (``subject:action``) of what they are permitted."""

    user_id: UUID
    permissions: AbstractSet[str]

    def require(self, permission: str) -> None:
        """Raise Forbidden, naming the permission, unless it is given."""
        if permission not in self.permissions:
            raise Forbidden(f"this needs the permission {permission}")
