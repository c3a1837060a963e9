from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import ClauseElement


class Work(Protocol):
    """One open transaction, as the rules see it. They can neither open, bind nor commit one.

    A statement that stands in a module, and is given its ``values`` (of parameters, and of the columns that an insert
    or update sets) here, is compiled once. One that holds its values is compiled each time.
    """

    async def rows(
        self, statement: ClauseElement, values: Mapping[str, Any] | None = None
    ) -> Sequence[Mapping[str, Any]]:
        """Run a statement; the rows that it returns, by column name."""
        ...

    async def scalar(self, statement: ClauseElement, values: Mapping[str, Any] | None = None) -> Any:
        """Run a statement; the first column of its first row, None where there is no row."""
        ...

    async def execute(self, statement: ClauseElement, values: Mapping[str, Any] | None = None) -> int:
        """Run a statement that returns nothing; how many rows it touched."""
        ...
