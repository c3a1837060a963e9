"""Triggers that note which users are disabled: what they shared is hidden from its recipients."""

from alembic.operations import Operations

revision = "0007"
down_revision = "0006"


def upgrade(op: Operations) -> None:
    op.execute(
        "CREATE TRIGGER disabled_insert AFTER INSERT ON users FOR EACH ROW WHEN (NEW.disabled_at IS NOT NULL) "
        "EXECUTE FUNCTION isola.note_disabled()"
    )
    op.execute(
        "CREATE TRIGGER disabled_update AFTER UPDATE OF id, disabled_at ON users FOR EACH ROW "
        "WHEN (OLD.disabled_at IS DISTINCT FROM NEW.disabled_at OR OLD.id <> NEW.id) "
        "EXECUTE FUNCTION isola.note_disabled()"
    )
    op.execute(
        "CREATE TRIGGER disabled_delete AFTER DELETE ON users FOR EACH ROW EXECUTE FUNCTION isola.note_disabled()"
    )
