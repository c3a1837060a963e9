"""The copy plan for each source table: SQL expressions that map its rows to rows of a subject.

The plan is stored in the generated application as ``adopted.json`` and read when rows are copied.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ValidationError

from isola.adopting.identifiers import keeps_order, rows
from isola.adopting.model import Draft, Model, Pairs, id_of, target_id
from isola.errors import OperatorError

FILE = "adopted.json"


class TablePlan(BaseModel):
    """How one table is copied into ``target``.

    ``columns`` are the expressions for each column, over a row ``t`` of ``source``. Rows are sorted by the columns
    ``order``, which is ``by`` in terms of ``t``. ``shape`` is the digest of the table's structure. ``wide`` are the
    staging types of columns that would round values, ``fits`` the conditions that staged columns have to satisfy.
    ``key`` identifies the row in the source.
    """

    table: str
    shape: str
    source: str
    target: str
    order: Sequence[str]
    by: str
    columns: Mapping[str, str]
    wide: Mapping[str, str] = {}
    fits: Mapping[str, str] = {}
    key: str

    @property
    def sql(self) -> str:
        """The query for all rows, without ORDER BY."""
        chosen = ", ".join(f'{expression} AS "{name}"' for name, expression in self.columns.items())
        return f"SELECT {chosen} FROM {self.source}"


class Plan(BaseModel):
    """How a source is copied. ``left_out`` are the tables that are not copied."""

    application: str
    schema_name: str
    tables: Sequence[TablePlan]
    left_out: Sequence[str] = ()


def plan(draft: Draft) -> Plan:
    tables = [*(_subject(model) for model in draft.models.values()), *(_pairs(pairs) for pairs in draft.pairs)]
    planned = {each.table for each in tables}
    return Plan(
        application=draft.application,
        schema_name=draft.catalogue.schema,
        tables=tables,
        left_out=[each.name for each in draft.catalogue.tables if each.name not in planned],
    )


def read(folder: Path) -> Plan:
    """The copy plan of an adopted application. Raises OperatorError."""
    try:
        return Plan.model_validate_json((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, UnicodeError, ValidationError) as error:
        raise OperatorError(
            f"{folder / FILE}: expected the file that isola adopt wrote, which maps tables to subjects"
        ) from error


def _subject(model: Model) -> TablePlan:
    table = model.table
    columns = {"id": id_of(model)}
    wide, fits = {}, {}
    for field in model.fields:
        columns[field.name] = field.carried.sql.format(f"t.{field.source.sql}")
        if field.carried.wide:
            wide[field.name] = field.carried.wide
        if field.carried.fits:
            fits[field.name] = field.carried.fits.replace("{}", f's."{field.name}"')
    columns |= {each.column: target_id(table, each.key, each.target) for each in model.references}
    columns |= model.moments
    return TablePlan(
        table=table.name,
        shape=table.shape,
        source=rows(table, "t"),
        target=model.plural,
        order=["id"],
        by=_by(model) or columns["id"],
        columns=columns,
        wide=wide,
        fits=fits,
        key=_key(model),
    )


def _by(model: Model) -> str | None:
    """The key if its order is also the order of the ids: an index may support that order."""
    if model.table.key is None or not keeps_order(model.table):
        return None
    return f"t.{model.table.column(model.table.key.columns[0]).sql}"


def _key(model: Model) -> str:
    key = model.table.key
    if key is None:
        return "'without a key'"
    return "concat_ws(', ', " + ", ".join(f"{_quoted(name)} || ' ' || {of}::text" for name, of in _parts(model)) + ")"


def _parts(model: Model) -> Iterator[tuple[str, str]]:
    for name in model.table.key.columns if model.table.key else ():
        yield name, f"t.{model.table.column(name).sql}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _pairs(pairs: Pairs) -> TablePlan:
    near, far = f"{pairs.near.name}_id", f"{pairs.far.name}_id"
    far = far if far != near else f"other_{far}"
    table = pairs.table
    columns = {
        near: target_id(table, pairs.near_key, pairs.near),
        far: target_id(table, pairs.far_key, pairs.far),
    }
    names = [name for key in (pairs.near_key, pairs.far_key) for name in key.columns]
    return TablePlan(
        table=table.name,
        shape=table.shape,
        source=rows(table, "t"),
        target=f"{pairs.near.plural}_{pairs.name}",
        order=[near, far],
        by=", ".join(columns.values()),
        columns=columns,
        key="concat_ws(', ', "
        + ", ".join(f"{_quoted(name)} || ' ' || t.{table.column(name).sql}::text" for name in names)
        + ")",
    )
