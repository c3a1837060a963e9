"""What can be kept for a time: rows of subjects that declare ``kept``, and the log. See docs/retention.md."""

from collections.abc import Sequence

from isola.subjects.metadata import metadata

LOG = "log"
MOST = 36_500
"""The most days."""


def names() -> Sequence[str]:
    """What is kept for a time, sorted."""
    return sorted([LOG, *(table.name for table in metadata.tables.values() if "kept" in table.info)])
