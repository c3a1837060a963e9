"""What a database is made of, as pg_dump sees it, in a form in which two schemas can be compared."""

import re
import subprocess
from collections.abc import Mapping

from isola.database.embedded import tool

HEADER = re.compile(r"^-- Name: (.+?); Type: (.+?); Schema: (.+?); Owner: .*$", re.MULTILINE)
# pg_dump guards each script with a key of its own.
GUARD = re.compile(r"^\\(?:un)?restrict .*$", re.MULTILINE)
# What keeps all but one tenant out of a home of its own names that tenant.
OWN_ID = re.compile(r"(?<=current_tenant_id\(\) = )'[0-9a-f-]{36}'")

Made = Mapping[str, tuple[str, ...]]
"""The objects of a schema by kind and name. Each is its statement's lines, sorted: columns come in any order."""


def dumped(url: str) -> dict[str, dict[str, tuple[str, ...]]]:
    """Every schema of a database with the objects in it; the schema's own name is left out of what they say."""
    said = subprocess.run([tool("pg_dump"), "--schema-only", url], check=True, capture_output=True, text=True).stdout
    _, *parts = HEADER.split(GUARD.sub("", said))
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for name, kind, schema, text in zip(*(parts[start::4] for start in range(4)), strict=True):
        # A schema is itself in none.
        within = name if kind == "SCHEMA" else name.removeprefix("SCHEMA ") if schema == "-" else schema
        lines = OWN_ID.sub("", re.sub(rf"\b{re.escape(within)}\b", "HOME", text)).splitlines()
        kept = sorted(line.strip().rstrip(",") for line in lines if line.strip() and not line.startswith("--"))
        found.setdefault(within, {})[f"{kind} {name.replace(within, 'HOME')}"] = tuple(kept)
    return found
