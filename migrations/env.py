"""Renders revisions as SQL; nothing here connects. ``app/isola/platform/migrations.py`` runs what is rendered.

A revision is a function of ``op``, Alembic's operations. The tenant history is written as if there were one customer
only: there ``op`` passes each operation through the strategy, so one revision serves all strategies.
"""

import re
from typing import Any, cast

from alembic import context
from alembic.operations import MigrateOperation, Operations, ops
from alembic.runtime.migration import MigrationContext
from sqlalchemy import ClauseElement

from isola_strategies.base import Strategy

ON_ROWS = re.compile(r"\s*(DELETE|DO|INSERT|MERGE|SELECT|UPDATE|WITH)\b", re.IGNORECASE)
# Policies apply to the owner as well, who is bound to no tenant: a statement would silently find no rows. So while it
# runs, the owner is exempt from row-level security in the tables that it names.
REACHING = """
DO $isola_revision$
DECLARE
    statement text := $isola_statement${statement}$isola_statement$;
    held regclass[] := ARRAY(
        SELECT oid::regclass FROM pg_catalog.pg_class
        WHERE relnamespace = current_schema()::regnamespace AND relforcerowsecurity
          AND relname = ANY (regexp_split_to_array(statement, '\\W+'))
    );
    one regclass;
BEGIN
    FOREACH one IN ARRAY held LOOP
        EXECUTE format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY', one);
    END LOOP;
    EXECUTE statement;
    FOREACH one IN ARRAY held LOOP
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', one);
    END LOOP;
END $isola_revision$
"""


class ShapedOperations(Operations):
    """Alembic's operations, each translated by the strategy into operations on the physical tables."""

    def __init__(self, migration_context: MigrationContext, strategy: Strategy) -> None:
        super().__init__(migration_context)
        self.strategy = strategy

    def invoke(self, operation: MigrateOperation) -> Any:
        result = None
        for shaped in self.strategy.revise(operation, self.migration_context):
            result = super().invoke(_reaching(shaped))
        return result


def _reaching(operation: MigrateOperation) -> MigrateOperation:
    """The operation, changed to reach all rows of a home if it is a statement on rows."""
    if not isinstance(operation, ops.ExecuteSQLOp):
        return operation
    statement = operation.sqltext
    if not isinstance(statement, str):
        compiled = cast("ClauseElement", statement).compile(
            dialect=context.get_context().dialect, compile_kwargs={"literal_binds": True}
        )
        statement = re.sub(r"(?<!:):(?=\w)", r"\\:", str(compiled))
    if ON_ROWS.match(statement) is None:
        return operation
    return ops.ExecuteSQLOp(REACHING.replace("{statement}", statement).replace(":=", "\\:="))


attributes = context.config.attributes
context.configure(
    dialect_name="postgresql",
    # Any style but the default's, which would double each percent sign.
    dialect_opts={"paramstyle": "named"},
    target_metadata=attributes["metadata"],
    version_table_schema=attributes["schema"],
    # The code that runs the SQL begins and commits the transaction.
    transactional_ddl=False,
)
strategy: Strategy | None = attributes["strategy"]
running = context.get_context()
if strategy is None:
    context.run_migrations(op=Operations(running))
else:
    # Without Alembic's table of revisions: a home's are the comment of its schema.
    operations = ShapedOperations(running, strategy)
    upper, lower = context.get_revision_argument(), context.get_starting_revision_argument()
    for revision in reversed([*context.script.iterate_revisions(upper, lower or "base")]):
        revision.module.upgrade(operations)
