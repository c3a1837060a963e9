"""The objects of a database, from pg_dump, in a form that lets two schemas be compared."""

import re
import subprocess
from collections.abc import Mapping

from isola.database.embedded import tool

HEADER = re.compile(r"^-- Name: (.+?); Type: (.+?); Schema: (.+?); Owner: .*$", re.MULTILINE)
# pg_dump puts a random key into each script.
GUARD = re.compile(r"^\\(?:un)?restrict .*$", re.MULTILINE)
# The check that restricts a single-tenant home to its tenant contains that tenant's id.
OWN_ID = re.compile(r"(?<=current_tenant_id\(\) = )'[0-9a-f-]{36}'")

# The mark of a home's protection depends on the versions of rows in the catalogue.
MARK = re.compile(r"(?<=^COMMENT ON VIEW HOME\.audit_log IS )'[0-9a-f]+'", re.MULTILINE)

Made = Mapping[str, tuple[str, ...]]
"""The objects of a schema by kind and name. Each is its statement's lines, sorted: columns come in any order."""


def dumped(url: str) -> dict[str, dict[str, tuple[str, ...]]]:
    """Every schema of a database with the definitions of its objects, without the schema's own name."""
    said = subprocess.run([tool("pg_dump"), "--schema-only", url], check=True, capture_output=True, text=True).stdout
    _, *parts = HEADER.split(GUARD.sub("", said))
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for name, kind, schema, text in zip(*(parts[start::4] for start in range(4)), strict=True):
        # A schema is not itself in a schema.
        within = name if kind == "SCHEMA" else name.removeprefix("SCHEMA ") if schema == "-" else schema
        lines = MARK.sub("", OWN_ID.sub("", re.sub(rf"\b{re.escape(within)}\b", "HOME", text))).splitlines()
        kept = sorted(line.strip().rstrip(",") for line in lines if line.strip() and not line.startswith("--"))
        found.setdefault(within, {})[f"{kind} {name.replace(within, 'HOME')}"] = tuple(kept)
    return found
