"""Renders revisions as SQL; nothing here connects. ``app/isola/platform/migrations.py`` runs what is rendered.

A revision is a function of ``op``, Alembic's operations. The tenant history is written as if there were one customer
only: there ``op`` passes each operation through the strategy, so one revision gives every physical form.
"""

from typing import Any

from alembic import context
from alembic.operations import MigrateOperation, Operations
from alembic.runtime.migration import MigrationContext

from isola_strategies.base import Strategy


class ShapedOperations(Operations):
    """Alembic's operations, each turned by the strategy into what it means for the physical tables."""

    def __init__(self, migration_context: MigrationContext, strategy: Strategy) -> None:
        super().__init__(migration_context)
        self.strategy = strategy

    def invoke(self, operation: MigrateOperation) -> Any:
        result = None
        for shaped in self.strategy.revise(operation, self.migration_context):
            result = super().invoke(shaped)
        return result


attributes = context.config.attributes
context.configure(
    dialect_name="postgresql",
    # Any style but the default's, which would double each percent sign.
    dialect_opts={"paramstyle": "named"},
    target_metadata=attributes["metadata"],
    version_table=attributes["version_table"],
    version_table_schema=attributes["schema"],
    # Whoever runs the SQL begins and commits.
    transactional_ddl=False,
)
strategy: Strategy | None = attributes["strategy"]
running = context.get_context()
context.run_migrations(op=ShapedOperations(running, strategy) if strategy else Operations(running))
