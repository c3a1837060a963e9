"""A connection's prepared statements: a cache per home, limited in bytes.

PostgreSQL analyses and plans a prepared statement again when the search path differs from its last execution. So the
same text is prepared once for each home that the connection serves. See docs/decisions/0018.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any

# The limit for a connection's prepared statements, in bytes of PostgreSQL's memory.
STATEMENTS_BYTES = 32 * 1024 * 1024
# *Measured*: a statement with its plan takes 65 bytes for each character of its text where tenants have schemas, and up
# to 90 where policies add to it.
BYTES, CHARACTER_BYTES = 8 * 1024, 64
# Up to this share, a home's statements evict those of other homes; beyond it, only its own.
SHARE_BYTES = STATEMENTS_BYTES // 4
# A longer text is not cached.
STATEMENT_LENGTH = (SHARE_BYTES - BYTES) // CHARACTER_BYTES
# *Measured*: PostgreSQL's catalogue caches for the tables of one home that were read and written. They never shrink.
HOME_BYTES = 256 * 1024


def size_of(text: str) -> int:
    """The approximate size in bytes of a prepared statement at the server."""
    return BYTES + CHARACTER_BYTES * len(text)


class Statements:
    """Replaces asyncpg's cache, which counts statements and has no homes.

    Look-ups and new statements belong to the home that was entered last. ``remove`` is called with each evicted
    statement. When the cache is full, the least recently used home loses its oldest statement; a home that exceeds its
    share loses its own first.
    """

    def __init__(self, remove: Callable[[Any], None]) -> None:
        self._home: Hashable = None
        self.homes: OrderedDict[Hashable, OrderedDict[Any, Any]] = OrderedDict()
        """The statements of each home that has any, least recently used first."""
        self._remove = remove
        self._sizes: dict[Hashable, int] = {}
        self._kept = 0
        self._met: set[Hashable] = set()

    @property
    def bytes(self) -> int:
        """The session's approximate growth in bytes: statements, and catalogue caches of the homes it entered."""
        return self._kept + HOME_BYTES * len(self._met)

    def enter(self, home: Hashable, *, is_lent: bool = False) -> None:
        """Switch to a home. A lent connection uses statements without a home, planned again for each one."""
        self._met.add(home)
        self._home = None if is_lent else home

    def get(self, key: Any, *, promote: bool = True) -> Any:
        kept = self.homes.get(self._home)
        statement = None if kept is None else kept.get(key)
        if kept is None or statement is None:
            return None
        if statement.closed:
            self._drop(self._home, key)
            return None
        if promote:
            kept.move_to_end(key)
            self.homes.move_to_end(self._home)
        return statement

    def keeps(self, statement: Any) -> bool:
        """Whether it is cached, for any home."""
        return any(each is statement for each in self.iter_statements())

    def put(self, key: Any, statement: Any) -> None:
        size = size_of(key[0])
        self.homes.setdefault(self._home, OrderedDict())[key] = statement
        self.homes.move_to_end(self._home)
        self._sizes[self._home] = self._sizes.get(self._home, 0) + size
        self._kept += size
        while self._kept > STATEMENTS_BYTES:
            has_much = self._sizes[self._home] > SHARE_BYTES
            home = self._home if has_much else next(iter(self.homes))
            self._remove(self._drop(home, next(iter(self.homes[home]))))

    def iter_statements(self) -> Iterator[Any]:
        return (statement for kept in self.homes.values() for statement in kept.values())

    def clear(self) -> None:
        removed = [*self.iter_statements()]
        self.homes.clear()
        self._sizes.clear()
        self._kept = 0
        for statement in removed:
            self._remove(statement)

    def _drop(self, home: Hashable, key: Any) -> Any:
        kept = self.homes[home]
        size = size_of(key[0])
        self._kept -= size
        self._sizes[home] -= size
        statement = kept.pop(key)
        if not kept:
            del self.homes[home], self._sizes[home]
        return statement
