"""The command that recommends a strategy, for needs given as options or counted in a live database."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isola.commands.bench import address
from isola.commands.common import JsonOption, out
from isola.doctor.vocabulary import HOMES, TENANT_COLUMN
from isola.errors import OperatorError

if TYPE_CHECKING:
    from isola.database.transactions import Database
    from isola.lab.report.advisor import Advice
    from isola.lab.report.results import Results

# One statement, so that all counts come from one snapshot. Row counts are PostgreSQL's estimates: no table is read
# except the directory of tenants.
COUNTS = """
WITH tables AS (
    SELECT c.oid, c.relname AS name, n.nspname AS schema, greatest(c.reltuples, 0)::float8 AS rows,
           a.attname IS NOT NULL AS shared
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = $1 AND NOT a.attisdropped
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
        AND (n.nspname <> 'control' OR to_regclass('control.tenants') IS NULL)
), distinguished AS (
    SELECT greatest(max(CASE WHEN s.n_distinct < 0 THEN -s.n_distinct * t.rows ELSE s.n_distinct END), 0) AS tenants
    FROM tables t JOIN pg_stats s ON s.schemaname = t.schema AND s.tablename = t.name AND s.attname = $1
    WHERE t.shared
), of_homes AS (
    SELECT name, sum(rows) AS rows FROM tables WHERE schema ~ $2 OR shared GROUP BY name
)
SELECT jsonb_build_object(
    'homes', (SELECT count(DISTINCT schema) FROM tables WHERE schema ~ $2),
    'tenants', (SELECT count(DISTINCT schema) FROM tables WHERE schema ~ $2)
        + round(coalesce((SELECT tenants FROM distinguished), 0)),
    'tables', (SELECT count(*) FROM of_homes),
    'rows', coalesce((SELECT max(rows) FROM of_homes), 0),
    'relations', (SELECT count(*) FROM pg_class),
    'connections', current_setting('max_connections')::int,
    'directory', to_regclass('control.tenants') IS NOT NULL
)::text
"""


@dataclass(frozen=True, slots=True)
class Counted:
    """Counts in a database. ``rows`` is the average number of a tenant's rows in its largest table.

    ``connections`` is the server's limit.
    """

    tenants: int
    rows: int
    tables: int
    relations: int
    connections: int


async def counted(database: "Database", tenant_column: str, homes: str) -> Counted:
    """Count tenants, rows, tables and relations with read-only queries that read no tenant's rows.

    Tables with ``tenant_column`` are shared by tenants; each schema whose name matches ``homes`` belongs to one tenant.
    Unknown counts are 0. Raises Unavailable when the database cannot be reached.
    """
    from isola.doctor.examination import READ_ONLY

    async with database.unbound() as transaction:
        await transaction.script(READ_ONLY)
        counts = json.loads(await transaction.value(COUNTS, tenant_column, homes))
        tenants = round(counts["tenants"])
        if counts["directory"]:
            tenants = int(await transaction.value("SELECT count(*) FROM control.tenants"))
    rows = round(counts["rows"] / tenants) if tenants else 0
    return Counted(tenants, rows, counts["tables"], counts["relations"], counts["connections"])


def advise(
    *,
    tenants: Annotated[int | None, typer.Option(min=1, help="the expected number of tenants")] = None,
    rows_per_tenant: Annotated[int | None, typer.Option(min=1, help="rows of a tenant in its largest table")] = None,
    tables: Annotated[int | None, typer.Option(min=1, help="tables of a tenant")] = None,
    qps: Annotated[float | None, typer.Option(min=0, help="requests per second of all tenants together")] = None,
    connections: Annotated[int | None, typer.Option(min=1, help="connections from the servers to PostgreSQL")] = None,
    memory_gb: Annotated[float | None, typer.Option(min=0, help="memory of PostgreSQL in GB")] = None,
    migration_minutes: Annotated[
        float, typer.Option(min=0, help="the time in which all tenants have to be migrated")
    ] = 60,
    database_url: Annotated[
        str | None, typer.Option(help="count what no option gives in this database, with read-only queries")
    ] = None,
    tenant_column: Annotated[
        str, typer.Option(help="in that database: the column of shared tables with the tenant's id")
    ] = TENANT_COLUMN,
    homes: Annotated[
        str, typer.Option(help="in that database: a regular expression for the schemas of tenants")
    ] = HOMES,
    results: Annotated[
        Path | None,
        typer.Option(
            help="results of isola bench; by default the newest that are part of the package",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Recommend an isolation strategy, with the measured figures behind it."""
    if tenants is None and database_url is None:
        raise typer.BadParameter("expected --tenants, or --database-url to count them there")
    from isola.lab.report import advisor
    from isola.lab.report.results import newest, read

    chosen = results or newest()
    measured = read(chosen)
    counts = _counted_at(address(database_url), tenant_column, homes) if database_url is not None else None
    tenant_count = tenants or (counts.tenants if counts else 0)
    if tenant_count == 0:
        raise OperatorError(
            f"found no tenants: neither a column {tenant_column} with statistics nor schemas that match {homes}; "
            "expected --tenant-column or --homes to identify tenants, or their number (--tenants)"
        )
    memory = memory_gb * 1e9 if memory_gb is not None else measured.run.get("machine", {}).get("memory_bytes")
    needs = advisor.Needs(
        tenants=tenant_count,
        rows=rows_per_tenant or (counts.rows if counts else None) or None,
        tables=tables or (counts.tables if counts else None) or None,
        qps=qps,
        connections=connections or (counts.connections if counts else None),
        memory_bytes=memory,
        bearable_s=migration_minutes * 60,
    )
    advice = advisor.advise(measured, needs)
    if as_json:
        typer.echo(json.dumps(_as_data(advice, counts, chosen, measured), indent=2))
    else:
        _print(advice, counts, chosen, measured)


def _counted_at(url: str, tenant_column: str, homes: str) -> Counted:
    import asyncio

    from isola.database.transactions import Database

    async def count() -> Counted:
        async with await Database.open(url, wait=10, statement_timeout=60) as database:
            return await counted(database, tenant_column, homes)

    return asyncio.run(count())


def _as_data(advice: "Advice", counts: Counted | None, results: Path, measured: "Results") -> dict[str, Any]:
    return {
        "strategy": advice.strategy,
        "reasons": list(advice.reasons),
        "needs": asdict(advice.needs),
        "counted": asdict(counts) if counts else None,
        "figures": [
            {
                "about": one.aspect.label,
                "scenario": one.aspect.scenario,
                "value": one.aspect.value,
                "estimates": {each.strategy: each.value for each in one.estimates},
                "beyond": max((dict(each.beyond) for each in one.estimates), key=len),
                "ahead": one.ahead,
                "by": one.by,
            }
            for one in advice.weighed
        ],
        "extrapolated": list(advice.extrapolated),
        "unmeasured": list(advice.unmeasured),
        "results": str(results),
        "application": measured.application,
    }


def _print(advice: "Advice", counts: Counted | None, results: Path, measured: "Results") -> None:
    from rich.table import Table

    from isola.lab.report import units

    if counts is not None:
        typer.echo(
            f"Counted: {counts.tenants:,} tenants with {counts.rows:,} rows each in the largest of {counts.tables:,} "
            f"tables; {counts.relations:,} relations; at most {counts.connections:,} connections.\n"
        )
    lists = {"extrapolated": advice.extrapolated, "not measured": advice.unmeasured}
    incomplete = " and ".join(name for name, lines in lists.items() if lines)
    reservation = f", with reservations: see what was {incomplete}" if incomplete else ""
    typer.echo(f"Recommended: {advice.strategy or 'no strategy over the other'}{reservation}")
    for reason in advice.reasons:
        typer.echo(f"- {reason}")
    names = [each.strategy for each in max((one.estimates for one in advice.weighed), key=len, default=[])]
    table = Table(f"At {advice.needs.tenants:,} tenants", *names, "ahead", box=None, pad_edge=False)
    for one in advice.weighed:
        figures = {each.strategy: units.figure(one.aspect.value, each.value) for each in one.estimates}
        ahead = f"{one.ahead} {units.factor(one.by)}" if one.ahead else "even" if one.is_close else "within noise"
        mark = "*" if any(each.beyond for each in one.estimates) else ""
        table.add_row(one.aspect.label + mark, *(figures.get(name, "") for name in names), ahead)
    typer.echo("")
    out.print(table, soft_wrap=True)
    if advice.extrapolated:
        typer.echo("\n* Extrapolated:")
        for line in advice.extrapolated:
            typer.echo(f"- {line}")
    if advice.unmeasured:
        typer.echo("\nNot measured, so it plays no part:")
        for line in advice.unmeasured:
            typer.echo(f"- {line}")
    machine = measured.run.get("machine", {})
    about = f" of the application {measured.application}" if measured.application else ""
    typer.echo(
        f"\nFrom {results}{about}, measured on {machine.get('cores', '?')} cores. Ratios apply to other machines; "
        "times and requests per second do not."
    )
