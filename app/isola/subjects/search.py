"""Full-text search: what a subject declares as searched, and the tables of words that an index serves.

Under row-level security, an index serves only comparisons that cannot leak: a search by PostgreSQL's ``@@`` would read
all rows. So the words of each row are rows of a further table, found by equality or by a range. Triggers keep them: see
migrations/control/0001_words.sql.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Table

from isola.subjects.metadata import quoted

LANGUAGES = frozenset(
    {
        "arabic",
        "armenian",
        "basque",
        "catalan",
        "danish",
        "dutch",
        "english",
        "finnish",
        "french",
        "german",
        "greek",
        "hindi",
        "hungarian",
        "indonesian",
        "irish",
        "italian",
        "lithuanian",
        "nepali",
        "norwegian",
        "portuguese",
        "romanian",
        "russian",
        "serbian",
        "simple",
        "spanish",
        "swedish",
        "tamil",
        "turkish",
        "yiddish",
    }
)
"""The configurations of text search that come with every version of PostgreSQL from 15 on."""

MAX_SEARCHED = 50_000
"""The most characters of the searched columns of a row, together."""


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a table's rows. In the table's ``info`` as ``words``.

    ``table`` has a row for each word of a row, whose id is in the column ``key``. The words are those of ``columns``,
    as a ``language`` makes them: a configuration of PostgreSQL's text search.
    """

    table: Table
    key: str
    language: str
    columns: Sequence[str]

    @property
    def configuration(self) -> str:
        """The configuration in SQL, without quotation marks."""
        return f"pg_catalog.{self.language}"


def words_of(table: Table) -> Words | None:
    """The words of a table's rows; None if they are not searched."""
    words: Words | None = table.info.get("words")
    return words


def triggers(table: Table) -> Sequence[str]:
    """The statements that create the triggers that keep the words of a table."""
    words = words_of(table)
    if words is None:
        return []
    changed = " OR ".join(f"OLD.{each} IS DISTINCT FROM NEW.{each}" for each in map(quoted, words.columns))
    called = (
        f"EXECUTE FUNCTION isola.keep_words('{words.table.name}', '{words.key}', '{words.configuration}', "
        f"'{_array(words.columns)}')"
    )
    inserted = "REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT"
    return [
        f"CREATE TRIGGER words_insert AFTER INSERT ON {table.name} {inserted} {called}",
        f"CREATE TRIGGER words_update AFTER UPDATE ON {table.name} FOR EACH ROW WHEN ({changed}) {called}",
    ]


def fill(table: Table, home: str | None = None) -> str | None:
    """A statement of the owner that makes all words of a table anew; None if its rows are not searched.

    ``home`` is the schema; without it, the statement is for a revision.
    """
    words = words_of(table)
    if words is None:
        return None
    within = "" if home is None else f"{home}."
    return (
        f"SELECT isola.fill_words('{within}{words.table.name}', '{within}{table.name}', '{words.configuration}', "
        f"'{_array(words.columns)}')"
    )


def of_rows(table: Table, rows: str) -> str:
    """A query for the ids of rows and their words. ``rows`` follows FROM, with the alias ``r``."""
    words = table.info["words"]
    texts = ", ".join(f"r.{quoted(each)}" for each in words.columns)
    return f"SELECT r.id, unnest(isola.words('{words.configuration}', concat_ws(chr(10), {texts}))) FROM {rows}"


def _array(names: Sequence[str]) -> str:
    return f"{{{','.join(names)}}}"
