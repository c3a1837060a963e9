"""The SQL of a search: the rows that have all words of one text, and a word for each prefix in another."""

from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    FromClause,
    Select,
    Subquery,
    TableValuedAlias,
    Text,
    and_,
    column,
    func,
    literal_column,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import REGCONFIG

from isola.query.mapping import Searched
from isola.subjects import folding

if TYPE_CHECKING:
    from isola.query.statement import Writer

_ONE: ColumnElement[Any] = literal_column("1")


class Words:
    """A search for ``whole`` words and for ``beginnings`` of words, which are parameters of a statement."""

    def __init__(
        self, writer: "Writer", searched: Searched, whole: ColumnElement[str], beginnings: ColumnElement[str]
    ) -> None:
        self._writer = writer
        self._searched = searched
        # Sub-selects, which are evaluated once.
        self._whole = self._made(whole)
        self._beginnings = self._made(beginnings)

    def of(self, rows: FromClause) -> ColumnElement[bool]:
        """Whether a row has them. Each of its words is read by its key.

        The planner could instead read all rows with a word, for each row.
        """
        has_any = or_(*(each != literal_column("'{}'") for each in (self._whole, self._beginnings)))
        return and_(
            has_any,
            self._none_missing(rows, self._whole, prefix=False),
            self._none_missing(rows, self._beginnings, prefix=True),
        )

    def among(self, rows: FromClause) -> ColumnElement[bool]:
        """The same, for rows that nothing else leads to: those with the rarest word are read by their ids."""
        ids = func.array(self.keys().scalar_subquery(), type_=ARRAY(rows.c.id.type))
        return and_(rows.c.id == ids.any_(), self.of(rows))

    def keys(self) -> Select[tuple[Any]]:
        """The ``key`` of each row with the word of which there are fewest entries, once for each of its entries."""
        terms = self._terms()
        counted, conditions = self._entries(terms)
        # Counting goes on until it is clear that there are more than few.
        some = select(_ONE).select_from(counted).where(*conditions).limit(literal_column(str(self._writer.few + 1)))
        limited = some.correlate(terms).subquery(f"entries_{counted.description}")
        number = select(func.count()).select_from(limited).correlate(terms).scalar_subquery()
        rarest = select(terms).order_by(number).limit(_ONE).subquery(f"rarest_{counted.description}")
        entries, conditions = self._entries(rarest)
        found = select(entries.c[self._searched.key].label("key")).where(*conditions).correlate_except(entries)
        row = found.offset(literal_column("0")).lateral(f"found_{counted.description}")
        return select(row.c.key).select_from(rarest.join(row, true()))

    def _terms(self) -> Subquery:
        """The first and the last word of the range of each term."""
        whole, beginnings = _unnested(self._whole, "whole"), _unnested(self._beginnings, "beginnings")
        terms = union_all(
            select(whole.c.word.label("first"), whole.c.word.label("last")),
            select(beginnings.c.word.label("first"), folding.end(beginnings.c.word).label("last")),
        )
        return terms.subquery(f"terms_{self._searched.words.name}")

    def _entries(self, terms: Subquery) -> tuple[FromClause, list[ColumnElement[bool]]]:
        entries, conditions = self._writer.scan(self._searched.words, None)
        return entries, [*conditions, entries.c.word >= terms.c.first, entries.c.word <= terms.c.last]

    def _none_missing(self, rows: FromClause, words: ColumnElement[Any], *, prefix: bool) -> ColumnElement[bool]:
        entries, conditions = self._writer.scan(self._searched.words, None)
        given = _unnested(words, f"of_{entries.description}")
        word = given.c.word
        is_it = [entries.c.word >= word, entries.c.word <= folding.end(word)] if prefix else [entries.c.word == word]
        conditions += [entries.c[self._searched.key] == rows.c.id, *is_it]
        found = select(_ONE).select_from(entries).where(*conditions).limit(_ONE).correlate_except(entries)
        missing = select(_ONE).select_from(given).where(found.scalar_subquery().is_(None)).limit(_ONE)
        return missing.correlate_except(given).scalar_subquery().is_(None)

    def _made(self, text: ColumnElement[str]) -> ColumnElement[Any]:
        configuration = literal_column(f"'{self._searched.configuration}'", REGCONFIG)
        made = func.isola.words(configuration, text, type_=ARRAY(Text))
        return select(made).scalar_subquery()


def _unnested(words: ColumnElement[Any], name: str) -> TableValuedAlias:
    return func.unnest(words).table_valued(column("word", Text), name=name).render_derived()
