"""Whether the protection of each home is as ``isola migrate`` made it.

A migration ends with a mark, in the comment of a view of the home: a hash of which policies and views there are, in
which version, and of what row-level security says of each table. Every change of a policy or view, also one that is
undone, makes another version of its row in the catalogue. So comparing does not read expressions, and 10,000 homes are
compared in one statement. Rights in homes are compared by ``isola.platform.rights``.

A restored database has other versions than the mark says: it is to be migrated, as it lacks roles as well.
"""

from collections.abc import Mapping, Sequence

from isola.database.transactions import Transaction
from isola.subjects.audit import audit_log
from isola_strategies.base import Home

# The relations are found by their dependency on the schema: the catalogue has no index of the relations in a schema.
FOUND = """
WITH homes AS (SELECT oid, nspname FROM pg_namespace WHERE nspname = ANY ({homes})),
relations AS MATERIALIZED (
    SELECT h.oid AS home, c.oid, c.relkind, c.relowner, c.relrowsecurity, c.relforcerowsecurity, c.reloptions
    FROM homes h
    JOIN pg_depend d ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = h.oid
        AND d.classid = 'pg_class'::regclass
    JOIN pg_class c ON c.oid = d.objid AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
),
facts AS (
    SELECT home, hashtextextended(concat_ws(
        ' ', relowner, relrowsecurity, relforcerowsecurity, CASE relkind WHEN 'v' THEN reloptions::text END
    ), oid::int8) AS fact FROM relations
    UNION ALL
    SELECT home, hashint8extended(p.oid::int8, p.xmin::text::int8)
    FROM relations r JOIN pg_policy p ON p.polrelid = r.oid
    UNION ALL
    SELECT home, hashint8extended(w.oid::int8, w.xmin::text::int8)
    FROM relations r JOIN pg_rewrite w ON w.ev_class = r.oid
)
SELECT nspname, to_hex(mark) AS mark
FROM (SELECT home, bit_xor(fact) AS mark FROM facts GROUP BY home) marks JOIN homes ON homes.oid = home
"""
MARKED = f"""
SELECT h.nspname, v.description AS mark
FROM pg_namespace h
JOIN pg_class c ON c.relname = '{audit_log.name}' AND c.relnamespace = h.oid
LEFT JOIN pg_description v ON v.objoid = c.oid AND v.classoid = 'pg_class'::regclass AND v.objsubid = 0
WHERE h.nspname = ANY ({{homes}})
"""
_CHANGED = f"""
SELECT h.name, CASE WHEN marked.mark IS NULL THEN 'its policies and views are not of this version'
    ELSE 'a policy, a view, an owner or row-level security was changed' END
FROM unnest($1::text[]) h (name)
LEFT JOIN ({FOUND.format(homes="$1")}) found ON found.nspname = h.name
LEFT JOIN ({MARKED.format(homes="$1")}) marked ON marked.nspname = h.name
WHERE found.mark IS DISTINCT FROM marked.mark OR marked.mark IS NULL
"""


MARKED_HOMES = f"""
SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = '{audit_log.name}' AND c.relkind = 'v'
"""
"""The schemas of homes."""


def mark(home: Home) -> str:
    """A statement that marks the protection of a home as it is now, at the end of its migration."""
    found = FOUND.format(homes=f"'{{{home.schema}}}'")
    return (
        f"DO $isola_mark$ BEGIN EXECUTE format('COMMENT ON VIEW {home.schema}.{audit_log.name} IS %L', "
        f"(SELECT mark FROM ({found}) found)); END $isola_mark$"
    )


async def changed(transaction: Transaction, schemas: Sequence[str]) -> Mapping[str, str]:
    """The homes whose protection is not as it was marked, with what is wrong."""
    return await transaction.pairs(_CHANGED, schemas)
