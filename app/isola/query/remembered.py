"""A cache shared by all tenants, limited in bytes, in which no tenant can evict the entries that others use."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

# The bytes that it takes to record one user of an entry.
_USE = 300


class _Entry(Generic[Value]):
    __slots__ = ("size", "users", "value")

    def __init__(self, value: Value, size: int) -> None:
        self.value = value
        self.size = size
        self.users: set[Hashable] = set()


class Remembered(Generic[Key, Value]):
    """A cache of at most ``most`` bytes, by the sizes that the caller states.

    Each user of an entry is charged for it. When the cache is full, the user charged the most loses their least
    recently used entry; an entry without users is evicted. So a user who always sends something new evicts their
    own entries, as soon as they are charged more than any other user.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: dict[Key, _Entry[Value]] = {}
        self._used: dict[Hashable, OrderedDict[Key, None]] = {}
        self._charged: dict[Hashable, int] = {}
        self.bytes = self.hits = self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key, user: Hashable) -> Value | None:
        entry = self._entries.get(key)
        if entry is None:
            self.misses += 1
            return None
        self.hits += 1
        if user in entry.users:
            self._used[user].move_to_end(key)
        else:
            self._use(key, entry, user)
            self._make_room()
        return entry.value

    def put(self, key: Key, value: Value, size: int, user: Hashable) -> Value:
        """Cache a value, replacing an existing one, unless it takes more than an eighth of the cache."""
        while (entry := self._entries.get(key)) is not None:
            self._leave(next(iter(entry.users)), key)
        if size <= self._most // 8:
            entry = self._entries[key] = _Entry(value, size)
            self.bytes += size
            self._use(key, entry, user)
            self._make_room()
        return value

    def _use(self, key: Key, entry: _Entry[Value], user: Hashable) -> None:
        entry.users.add(user)
        self._used.setdefault(user, OrderedDict())[key] = None
        self._charged[user] = self._charged.get(user, 0) + entry.size + _USE
        self.bytes += _USE

    def _make_room(self) -> None:
        while self.bytes > self._most:
            largest = max(self._charged, key=self._charged.__getitem__)
            self._leave(largest, next(iter(self._used[largest])))

    def _leave(self, user: Hashable, key: Key) -> None:
        entry = self._entries[key]
        entry.users.remove(user)
        self.bytes -= _USE
        del self._used[user][key]
        self._charged[user] -= entry.size + _USE
        if not self._used[user]:
            del self._used[user], self._charged[user]
        if not entry.users:
            del self._entries[key]
            self.bytes -= entry.size
