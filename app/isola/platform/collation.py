"""How the database sorts texts, and whether it can sort them by the rules of languages."""

from collections.abc import Iterable

from sqlalchemy import Table

from isola.database.transactions import Transaction
from isola.errors import OperatorError
from isola.subjects.table import collation_of

# The builtin provider sorts by code points in all its locales, libc's in these.
_BY_CODE_POINT = """
SELECT pg_encoding_to_char(encoding) = 'UTF8'
    AND (datlocprovider = 'b' OR datlocprovider = 'c' AND datcollate ~* '^(c|posix|c[.]utf-?8)$')
FROM pg_database WHERE datname = current_database()
"""

_COLLATIONS = """
SELECT collname FROM pg_collation
WHERE collname = ANY ($1) AND collprovider = 'i' AND collnamespace = 'pg_catalog'::regnamespace
"""


async def sorts_by_code_point(work: Transaction) -> bool:
    """Whether texts are sorted by their code points, so that those with the same beginning follow each other."""
    return bool(await work.value(_BY_CODE_POINT))


async def refuse_unsorted(work: Transaction, tables: Iterable[Table]) -> None:
    """Raise OperatorError for a column that is ordered by the rules of a language that the database does not have."""
    wanted = {
        collation_of(language): f"{column} is ordered by the rules of {language}"
        for table in tables
        for column in table.columns
        for language in column.info.get("languages", ())
    }
    if not wanted:
        return
    there = await work.texts(_COLLATIONS, sorted(wanted))
    missing = sorted(wanted.keys() - set(there))
    if missing:
        raise OperatorError(
            f"the column {wanted[missing[0]]}, but this PostgreSQL has no collation {missing[0]}: expected one that is "
            "built with ICU"
        )
