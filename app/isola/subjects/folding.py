"""The form in which insensitive texts are compared: in lower case, without accents, and without other ways of writing.

The database computes it, of a column when a row is written and of a filter's text when rows are read. So an index on
the column serves comparisons, which would not be so if a condition called functions of the column: these are not
leakproof.

Compatibility decomposition (NFKD) splits a letter from its accents, and replaces ligatures, full-width letters and the
like. What it does not split stays a letter of its own: ``ø``, ``ł``, ``đ``, ``ß``.
"""

import re
import sys
import unicodedata

from sqlalchemy import CheckConstraint, Column, ColumnElement, Computed, Text, column, func, literal_column

from isola.subjects.metadata import DIALECT, quoted

MAX_BYTES = 2600
"""The most bytes of the form: an entry of an index takes at most a third of a page."""
_GROWTH = 33
"""The most bytes that one character becomes."""

# Accents, and the last code point: it is no character, so that it sorts after all texts with the same beginning.
_IGNORED = r"'[\u0300-\u036F\U0010FFFF]'"
_ACCENTS = re.compile("[\u0300-\u036f]")
_LAST = literal_column(f"chr({sys.maxunicode})", Text)


def fold(text: ColumnElement[str]) -> ColumnElement[str]:
    """SQL: the form in which a text is compared. The database has to be in UTF-8."""
    split = func.normalize(text, literal_column("NFKD"), type_=Text)
    bare = func.regexp_replace(split, literal_column(_IGNORED), literal_column("''"), literal_column("'g'"), type_=Text)
    return func.lower(bare, type_=Text)


def fits(text: str) -> bool:
    """Whether the form of a text can be stored, as far as that does not depend on the database's locale."""
    if len(text) * _GROWTH <= MAX_BYTES:
        return True
    return len(_ACCENTS.sub("", unicodedata.normalize("NFKD", text)).encode()) <= MAX_BYTES


def end(prefix: ColumnElement[str]) -> ColumnElement[str]:
    """SQL: what sorts, by code points, after all folded texts that start with a folded one, and before all others."""
    return prefix.concat(_LAST)


def folded_column(name: str, source: str, *, nullable: bool) -> Column[str]:
    """The generated column with the form of ``source``; sorted by code points in any database."""
    form = str(fold(column(source)).compile(dialect=DIALECT))
    return Column(name, Text(collation="C"), Computed(form, persisted=True), nullable=nullable)


def folded_check(name: str) -> CheckConstraint:
    """The limit of a folded column, without which a text of few characters would not fit into the index."""
    return CheckConstraint(f"octet_length({quoted(name)}) <= {MAX_BYTES}", name=f"{name}_size")
