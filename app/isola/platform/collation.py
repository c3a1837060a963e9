"""How the database sorts texts, where a column does not say."""

from isola.database.transactions import Transaction

# The builtin provider sorts by code points in all its locales, libc's in these.
_BY_CODE_POINT = """
SELECT pg_encoding_to_char(encoding) = 'UTF8'
    AND (datlocprovider = 'b' OR datlocprovider = 'c' AND datcollate ~* '^(c|posix|c[.]utf-?8)$')
FROM pg_database WHERE datname = current_database()
"""


async def sorts_by_code_point(work: Transaction) -> bool:
    """Whether texts are sorted by their code points, so that those with the same beginning follow each other."""
    return bool(await work.value(_BY_CODE_POINT))
