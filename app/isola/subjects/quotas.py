"""The names of quotas. The database counts the rows and enforces the limits: see docs/plans.md."""

from collections.abc import Sequence

from isola.installed import metadata
from isola.subjects.metadata import Counted

STORAGE = "storage"
"""The quota of bytes, which are measured from time to time: see isola.platform.storage."""
OF_PLATFORM = ("api_keys", "domains", "shares", STORAGE)
"""The quotas counted in the platform's own tables, see migrations/control/0001_platform.py, and that of storage."""


def names() -> Sequence[str]:
    """The names of quotas, sorted: those that tables declare as ``counted``, and the platform's own."""
    declared: list[Counted] = [table.info["counted"] for table in metadata.tables.values() if "counted" in table.info]
    return sorted({*OF_PLATFORM, *(each.quota for each in declared)})
