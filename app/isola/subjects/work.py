from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from sqlalchemy import ClauseElement


class Work(Protocol):
    """One open transaction, as rules of subjects see it. Rules cannot open, bind or commit transactions.

    A module-level statement that gets its ``values`` here (of parameters, and of the columns that an insert or update
    sets) is compiled once. A statement that contains its values is compiled each time.
    """

    async def rows(
        self, statement: ClauseElement, values: Mapping[str, Any] | None = None
    ) -> Sequence[Mapping[str, Any]]:
        """Run a statement; the rows that it returns, by column name."""
        ...

    async def scalar(self, statement: ClauseElement, values: Mapping[str, Any] | None = None) -> Any:
        """Run a statement; the first column of its first row, None if there is no row."""
        ...

    async def execute(self, statement: ClauseElement, values: Mapping[str, Any] | None = None) -> int:
        """Run a statement that returns no rows; the number of affected rows."""
        ...

    def savepoint(self) -> AbstractAsyncContextManager[None]:
        """Undo what is done inside, and only that, if the database refuses it.

        Then raises a Refusal; the transaction can continue.
        """
        ...
