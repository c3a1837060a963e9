"""Changes to the program or its database that break isolation."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

BOTH = "both"


class OutdatedError(Exception):
    """A sabotage no longer applies to the program. It has to be rewritten; until then it gives no result."""


@dataclass(frozen=True, slots=True)
class Sql:
    """Statements that the owner runs in the template database, so that each test's copy has their effects.

    ``{login}``, ``{owner}`` and ``{database}`` are filled in, ``{a}`` and ``{b}`` with the homes of two tenants under
    ``schema``. With ``each_copy`` they run in each test's own copy: rights on a database are not copied with it.

    ``expect`` are the tests that should notice; they are run first. All others run if none of them fails.
    """

    name: str
    breaks: str
    strategy: str
    sql: str
    expect: tuple[str, ...]
    each_copy: bool = False


@dataclass(frozen=True, slots=True)
class Patch:
    """A change of the source: ``old``, which stands in ``file`` exactly once, becomes ``new``."""

    name: str
    breaks: str
    strategy: str
    file: str
    old: str
    new: str
    expect: tuple[str, ...]

    def applied(self, source: str) -> str:
        """The patched source. Raises OutdatedError."""
        found = source.count(self.old)
        if found != 1:
            raise OutdatedError(f"{self.name}: expected its text once in {self.file}, found it {found} times")
        return source.replace(self.old, self.new)

    def check(self, root: Path) -> None:
        """Raise OutdatedError if it does not fit the program under ``root``, SyntaxError if the result is no Python."""
        path = root / self.file
        if not path.exists():
            raise OutdatedError(f"{self.name}: there is no {self.file}")
        patched = self.applied(path.read_text(encoding="utf-8"))
        if path.suffix == ".py":
            compile(patched, str(path), "exec")


Sabotage: TypeAlias = Sql | Patch
