"""First tables."""

import sqlalchemy as sa
from alembic.operations import Operations
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None


def upgrade(op: Operations) -> None:
    op.create_table(
        "patterns",
        sa.Column("id", sa.Uuid(), server_default=sa.text("isola.uuid_v7()"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("instructions", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "created_at >= '0001-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'",
            name=op.f("ck_patterns_created_at_range"),
        ),
        sa.CheckConstraint(
            "updated_at >= '0001-01-01 00:00:00+00' AND updated_at < '10000-01-01 00:00:00+00'",
            name=op.f("ck_patterns_updated_at_range"),
        ),
        sa.CheckConstraint("length(instructions) BETWEEN 0 AND 20000", name=op.f("ck_patterns_instructions_length")),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 200", name=op.f("ck_patterns_name_length")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_patterns_id")),
        sa.UniqueConstraint("name", name=op.f("uq_patterns_name")),
    )
    op.create_index(op.f("ix_patterns_created_at_id"), "patterns", ["created_at", "id"], unique=False)
    op.create_table(
        "agents",
        sa.Column("id", sa.Uuid(), server_default=sa.text("isola.uuid_v7()"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), server_default=sa.text("'chat'"), nullable=False),
        sa.Column("config", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "created_at >= '0001-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'",
            name=op.f("ck_agents_created_at_range"),
        ),
        sa.CheckConstraint("kind IN ('chat', 'tool', 'workflow')", name=op.f("ck_agents_kind")),
        sa.CheckConstraint(
            "octet_length(config::text) <= least(4194304, 10 * pg_column_size(config #> '{}') + 100)",
            name=op.f("ck_agents_config_size"),
        ),
        sa.CheckConstraint(
            "updated_at >= '0001-01-01 00:00:00+00' AND updated_at < '10000-01-01 00:00:00+00'",
            name=op.f("ck_agents_updated_at_range"),
        ),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 200", name=op.f("ck_agents_name_length")),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_agents_owner_id"), deferrable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agents_id")),
        sa.UniqueConstraint("name", name=op.f("uq_agents_name")),
    )
    op.create_index(op.f("ix_agents_created_at_id"), "agents", ["created_at", "id"], unique=False)
    op.create_index(op.f("ix_agents_owner_id_id"), "agents", ["owner_id", "id"], unique=False)
    op.create_table(
        "agents_patterns",
        sa.Column("agent_id", sa.Uuid(), nullable=False),
        sa.Column("pattern_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "created_at >= '0001-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'",
            name=op.f("ck_agents_patterns_created_at_range"),
        ),
        sa.ForeignKeyConstraint(
            ["agent_id"], ["agents.id"], name=op.f("fk_agents_patterns_agent_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["pattern_id"], ["patterns.id"], name=op.f("fk_agents_patterns_pattern_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("agent_id", "pattern_id", name=op.f("pk_agents_patterns_agent_id_pattern_id")),
    )
    op.create_index(
        op.f("ix_agents_patterns_pattern_id_agent_id"), "agents_patterns", ["pattern_id", "agent_id"], unique=False
    )
    op.create_table(
        "executions",
        sa.Column("id", sa.Uuid(), server_default=sa.text("isola.uuid_v7()"), nullable=False),
        sa.Column("agent_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("'running'"), nullable=False),
        sa.Column("input", postgresql.JSONB(), nullable=False),
        sa.Column("output", postgresql.JSONB(), nullable=True),
        sa.Column("cost", sa.Numeric(precision=12, scale=4), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "created_at >= '0001-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'",
            name=op.f("ck_executions_created_at_range"),
        ),
        sa.CheckConstraint(
            "finished_at >= '0001-01-01 00:00:00+00' AND finished_at < '10000-01-01 00:00:00+00'",
            name=op.f("ck_executions_finished_at_range"),
        ),
        sa.CheckConstraint(
            "octet_length(input::text) <= least(4194304, 10 * pg_column_size(input #> '{}') + 100)",
            name=op.f("ck_executions_input_size"),
        ),
        sa.CheckConstraint(
            "octet_length(output::text) <= least(4194304, 10 * pg_column_size(output #> '{}') + 100)",
            name=op.f("ck_executions_output_size"),
        ),
        sa.CheckConstraint(
            "started_at >= '0001-01-01 00:00:00+00' AND started_at < '10000-01-01 00:00:00+00'",
            name=op.f("ck_executions_started_at_range"),
        ),
        sa.CheckConstraint("status IN ('running', 'succeeded', 'failed')", name=op.f("ck_executions_status")),
        sa.CheckConstraint("cost >= 0", name=op.f("ck_executions_cost_range")),
        sa.ForeignKeyConstraint(
            ["agent_id"], ["agents.id"], name=op.f("fk_executions_agent_id"), ondelete="CASCADE", deferrable=True
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_executions_id")),
    )
    op.create_index(
        op.f("ix_executions_agent_id_created_at_id"), "executions", ["agent_id", "created_at", "id"], unique=False
    )
    op.create_index(op.f("ix_executions_created_at_id"), "executions", ["created_at", "id"], unique=False)
    op.execute(
        "CREATE TRIGGER audit_insert AFTER insert ON patterns REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('pattern', '{}', 'pat_', 'id')"
    )
    op.execute(
        "CREATE TRIGGER audit_update AFTER update ON patterns REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('pattern', '{}', 'pat_', 'id')"
    )
    op.execute(
        "CREATE TRIGGER audit_delete AFTER delete ON patterns REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('pattern', '{}', 'pat_', 'id')"
    )
    op.execute(
        "CREATE TRIGGER audit_insert AFTER insert ON agents REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('agent', '{}', 'agt_', 'id', '', '', '{}', 'agents', '{}')"
    )
    op.execute(
        "CREATE TRIGGER audit_update AFTER update ON agents REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('agent', '{}', 'agt_', 'id', '', '', '{}', 'agents', '{}')"
    )
    op.execute(
        "CREATE TRIGGER audit_delete AFTER delete ON agents REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('agent', '{}', 'agt_', 'id', '', '', '{}', 'agents', '{}')"
    )
    op.execute(
        "CREATE TRIGGER audit_insert AFTER insert ON agents_patterns REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('agent_patterns', '{}', 'agt_', 'agent_id', '/pat_', 'pattern_id')"
    )
    op.execute(
        "CREATE TRIGGER audit_update AFTER update ON agents_patterns REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('agent_patterns', '{}', 'agt_', 'agent_id', '/pat_', 'pattern_id')"
    )
    op.execute(
        "CREATE TRIGGER audit_delete AFTER delete ON agents_patterns REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('agent_patterns', '{}', 'agt_', 'agent_id', '/pat_', 'pattern_id')"
    )
    op.execute(
        "CREATE TRIGGER audit_insert AFTER insert ON executions REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('execution', '{}', 'exe_', 'id')"
    )
    op.execute(
        "CREATE TRIGGER audit_update AFTER update ON executions REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('execution', '{}', 'exe_', 'id')"
    )
    op.execute(
        "CREATE TRIGGER audit_delete AFTER delete ON executions REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('execution', '{}', 'exe_', 'id')"
    )
