"""The context of resolvers of platform administration, and the common format of ids and times."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

import strawberry

from isola.admin.staff import Staff
from isola.api.scalars import DateTime
from isola.database.transactions import Database
from isola.errors import BadUserInput
from isola.identity.resolution import identifier_of
from isola.platform.platform_log import Author

MAX_PAGE = 100


@dataclass(frozen=True, slots=True)
class Administration:
    """The context of one request of staff."""

    staff: Staff
    control: Database
    tenants: Database
    strategies: Collection[str]
    request_id: str

    @property
    def author(self) -> Author:
        """The author of changes in this request, for the logs."""
        return Author(self.staff.subject, self.request_id)


Info: TypeAlias = strawberry.Info[Administration, None]


def paged(first: int, after: strawberry.ID | None) -> UUID | None:
    """The key after which a page begins. Raises BadUserInput."""
    if not 1 <= first <= MAX_PAGE:
        raise BadUserInput(f"first: expected 1 to {MAX_PAGE}", "first")
    key = None if after is None else identifier_of(after)
    if after is not None and key is None:
        raise BadUserInput("after: expected the id of the last item of the previous page", "after")
    return key


def moment(value: datetime | None) -> DateTime | None:
    return None if value is None else DateTime(value)


def written(key: UUID) -> strawberry.ID:
    return strawberry.ID(str(key))
