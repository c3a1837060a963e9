"""sealed."""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0002"
down_revision = "0001"


def upgrade(op: Operations) -> None:
    op.add_column("diaries", sa.Column("sealed", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.execute("DROP TRIGGER audit_insert ON diaries")
    op.execute("DROP TRIGGER audit_update ON diaries")
    op.execute("DROP TRIGGER audit_delete ON diaries")
    op.execute(
        "CREATE TRIGGER audit_insert AFTER insert ON diaries REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('diary', '{}', 'dia_', 'id', '', '', '{author_id,sealed}')"
    )
    op.execute(
        "CREATE TRIGGER audit_update AFTER update ON diaries REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('diary', '{}', 'dia_', 'id', '', '', '{author_id,sealed}')"
    )
    op.execute(
        "CREATE TRIGGER audit_delete AFTER delete ON diaries REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('diary', '{}', 'dia_', 'id', '', '', '{author_id,sealed}')"
    )
