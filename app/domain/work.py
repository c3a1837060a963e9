from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import ClauseElement


class Work(Protocol):
    """One open transaction, as the rules see it. They can neither open, bind nor commit one."""

    async def rows(self, statement: ClauseElement) -> Sequence[Mapping[str, Any]]:
        """Run a statement; the rows that it returns, by column name."""
        ...

    async def scalar(self, statement: ClauseElement) -> Any:
        """Run a statement; the first column of its first row, None where there is no row."""
        ...

    async def execute(self, statement: ClauseElement) -> int:
        """Run a statement that returns nothing; how many rows it touched."""
        ...
