"""The declarations of the tables in homes, for the functions in the database. ``isola migrate`` fills it."""

from collections.abc import Mapping

from sqlalchemy import ARRAY, Boolean, CheckConstraint, Column, Table, Text, and_, delete, insert, select, text, true
from sqlalchemy.dialects.postgresql import insert as upsert

from isola.database.transactions import Transaction
from isola.errors import OperatorError
from isola.installed import metadata as domain
from isola.platform.shares import MAX_SUBJECT
from isola.platform.tenants import metadata
from isola.subjects import meters
from isola.subjects.metadata import Audited, Counted, indexed_text
from isola.subjects.meters import Meter

MAX_IDENTIFIER = 63

# Tables whose rows count towards quotas. Where ``tenant_column`` is null, the table is in every home; else it is the
# platform's own. ``counts`` is the condition for the rows that count; null where all do.
counted = Table(
    "counted",
    metadata,
    indexed_text("quota", 100, primary_key=True),
    indexed_text("relation", MAX_IDENTIFIER, primary_key=True),
    Column("tenant_column", Text),
    Column("counts", Text),
)

# Subjects whose single rows can be shared with partners, and what partners see of one.
subjects = Table(
    "subjects",
    metadata,
    indexed_text("name", MAX_SUBJECT, primary_key=True),
    Column("relation", Text, nullable=False),
    Column("shared", ARRAY(Text), nullable=False),
    # Whether a visibility rule restricts which users see which rows.
    Column("restricted", Boolean, nullable=False, server_default=text("true")),
)

# Subjects whose rows plans keep for a time, and the column with the moment from which on they do.
kept = Table(
    "kept",
    metadata,
    indexed_text("name", MAX_IDENTIFIER, primary_key=True),
    Column("relation", Text, nullable=False),
    Column("moment", Text, nullable=False),
    CheckConstraint("name <> 'log'", name="name"),
)

# What is measured, and how. ``property`` is that whose different values are counted.
meters_ = Table(
    "meters",
    metadata,
    indexed_text("name", meters.MAX_NAME, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("period", Text, nullable=False),
    Column("property", Text),
    CheckConstraint("kind IN ('sum', 'count', 'maximum', 'unique')", name="kind"),
    CheckConstraint("period IN ('hour', 'day', 'month')", name="period"),
    CheckConstraint("(kind = 'unique') = (property IS NOT NULL)", name="property"),
)

# The applications that tenants have tables of, and the newest revision of each.
applications_ = Table(
    "applications",
    metadata,
    indexed_text("name", MAX_IDENTIFIER, primary_key=True),
    Column("revision", Text, nullable=False),
)


async def applications(control: Transaction) -> Mapping[str, str]:
    """The applications that tenants have tables of, and the revision of each."""
    return {row["name"]: row["revision"] for row in await control.rows(select(applications_))}


async def fill(owner: Transaction, revisions: Mapping[str, str]) -> None:
    """Fill the registry from the current declarations, and the newest ``revisions`` by application.

    Raises OperatorError for a meter whose declaration has changed.
    """
    for name, revision in revisions.items():
        new = upsert(applications_).values(name=name, revision=revision)
        await owner.execute(new.on_conflict_do_update(index_elements=["name"], set_={"revision": revision}))
    # Keep the entries of applications that are not installed here: tenants have their tables.
    stays = (await applications(owner)).keys() - revisions.keys()
    for declaring, ours in ((counted, counted.c.tenant_column.is_(None)), (subjects, true()), (kept, true())):
        gone = and_(ours, declaring.c.relation.in_(list(domain.tables))) if stays else ours
        await owner.execute(delete(declaring).where(gone))
    for table in domain.sorted_tables:
        declared: Counted | None = table.info.get("counted")
        if declared is not None:
            row = {"quota": declared.quota, "relation": table.name, "counts": declared.where}
            await owner.execute(insert(counted), row)
        if "kept" in table.info:
            row = {"name": table.name, "relation": table.name, "moment": table.info["kept"]}
            await owner.execute(insert(kept), row)
        if "shared_columns" in table.info:
            subject: Audited = table.info["audited"]
            shared = insert(subjects).values(
                name=subject.subject,
                relation=table.name,
                shared=table.info["shared_columns"],
                restricted="visible" in table.info,
            )
            await owner.execute(shared)
    for meter in meters.known().values():
        await _keep(owner, meter)


async def _keep(owner: Transaction, meter: Meter) -> None:
    """Store a meter. It stays if no application declares it any more: tenants have used it."""
    values = {"name": meter.name, "kind": meter.kind.value, "period": meter.period.value, "property": meter.of}
    await owner.execute(upsert(meters_).values(values).on_conflict_do_nothing())
    [row] = await owner.rows(select(meters_).where(meters_.c.name == meter.name))
    if dict(row) != values:
        raise OperatorError(
            f"the meter {meter.name} has the kind {row['kind']} and the period {row['period']} already: expected "
            "another name for another meter"
        )
