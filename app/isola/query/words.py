"""The SQL of a search: the rows that have all words of one text, and a word for each prefix in another."""

from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ARRAY,
    CTE,
    BindParameter,
    ColumnElement,
    FromClause,
    Integer,
    Select,
    TableValuedAlias,
    Text,
    and_,
    column,
    func,
    literal_column,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import REGCONFIG

from isola.query.mapping import Searched
from isola.subjects import folding

if TYPE_CHECKING:
    from isola.query.statement import Writer

_ONE: ColumnElement[Any] = literal_column("1")


class Words:
    """A search for ``whole`` words and for ``beginnings`` of words, which are parameters of a statement.

    Each of them is a term: a range of words, from ``first`` to ``last``. No two have the same ``last``.
    """

    def __init__(
        self, writer: "Writer", searched: Searched, whole: BindParameter[str], beginnings: BindParameter[str]
    ) -> None:
        self._writer = writer
        self._searched = searched
        self._name = whole.key
        self._ends = writer.evaluated_once(f"terms_{whole.key}", lambda: self._ends_of(whole, beginnings))

    def of(self, rows: FromClause) -> ColumnElement[bool]:
        """Whether a row has a word of each term, and there is a term."""
        has_any = select(self._ends.c.firsts).correlate(None).scalar_subquery() != literal_column("'{}'")
        return and_(has_any, self._none_missing(rows.c.id, self._terms()))

    def among(self, rows: FromClause) -> ColumnElement[bool]:
        """The same, for rows that nothing else leads to: they are read by their ids."""
        ids = func.array(self.keys().scalar_subquery(), type_=ARRAY(rows.c.id.type))
        return or_(rows.c.id == ids.any_())

    def keys(self) -> Select[tuple[Any]]:
        """The ``key`` of each row that has them, once for each of its entries of the rarest term."""
        rarest = self._rarest.alias(self._writer.name_of_scan("rarest"))
        entries, conditions = self._entries(rarest)
        key, others = entries.c[self._searched.key], self._terms()
        has_others = self._none_missing(key, others, others.c.last != rarest.c.last)
        found = select(key.label("key")).where(*conditions, has_others).correlate_except(entries)
        row = found.offset(literal_column("0")).lateral(f"found_{entries.description}")
        return select(row.c.key).select_from(rarest.join(row, true()))

    @property
    def is_few(self) -> ColumnElement[bool]:
        """Whether the rarest term has few entries. NULL if there is no term."""
        few = literal_column(str(self._writer.few), Integer)
        return select(self._rarest.c.number <= few).correlate(None).scalar_subquery()

    @property
    def _rarest(self) -> CTE:
        """The term with the fewest entries, and their ``number``."""
        return self._writer.evaluated_once(f"rarest_{self._name}", self._rarest_of_all)

    def _rarest_of_all(self) -> Select[*tuple[Any, ...]]:
        terms = self._terms()
        counted, conditions = self._entries(terms)
        # Counting goes on until it is clear that there are more than few.
        some = select(_ONE).select_from(counted).where(*conditions).limit(literal_column(str(self._writer.few + 1)))
        limited = some.correlate(terms).subquery(f"entries_{counted.description}")
        number = select(func.count()).select_from(limited).correlate(terms).scalar_subquery()
        return select(terms, number.label("number")).order_by(literal_column("number")).limit(_ONE)

    def _entries(self, terms: FromClause) -> tuple[FromClause, list[ColumnElement[bool]]]:
        """The entries of terms, of all rows."""
        entries, conditions = self._writer.scan(self._searched.words, None)
        return entries, [*conditions, entries.c.word >= terms.c.first, entries.c.word <= terms.c.last]

    def _none_missing(
        self, key: ColumnElement[Any], terms: FromClause, *conditions: ColumnElement[bool]
    ) -> ColumnElement[bool]:
        """Whether the row with a key has an entry of each term that satisfies conditions. Each is read by its key.

        The planner could instead read all entries of a term, for each row.
        """
        entries, in_range = self._entries(terms)
        of_row = entries.c[self._searched.key] == key
        found = select(_ONE).select_from(entries).where(of_row, *in_range).limit(_ONE).correlate_except(entries)
        missing = select(_ONE).select_from(terms).where(*conditions, found.scalar_subquery().is_(None)).limit(_ONE)
        return missing.correlate_except(terms).scalar_subquery().is_(None)

    def _terms(self) -> TableValuedAlias:
        """A new scan of the terms."""
        firsts, lasts = (select(each).correlate(None).scalar_subquery() for each in self._ends.c)
        terms = func.unnest(firsts, lasts).table_valued(column("first", Text), column("last", Text))
        return terms.render_derived(name=self._writer.name_of_scan("terms"))

    def _ends_of(self, whole: ColumnElement[str], beginnings: ColumnElement[str]) -> Select[*tuple[Any, ...]]:
        """All ``firsts`` and all ``lasts`` of the terms."""
        made = select(self._made(whole).label("whole"), self._made(beginnings).label("beginnings"))
        words = made.offset(literal_column("0")).subquery("words")
        each = func.unnest(words.c.beginnings).table_valued(column("word", Text), name="beginning").render_derived()
        ends = func.array(select(folding.end(each.c.word)).scalar_subquery(), type_=ARRAY(Text))
        firsts, lasts = (words.c.whole.concat(other) for other in (words.c.beginnings, ends))
        return select(firsts.label("firsts"), lasts.label("lasts"))

    def _made(self, text: ColumnElement[str]) -> ColumnElement[Any]:
        configuration = literal_column(f"'{self._searched.configuration}'", REGCONFIG)
        return func.isola.words(configuration, text, type_=ARRAY(Text))
