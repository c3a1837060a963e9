"""What callers are told of what the database says: nothing that quotes a row, a statement or a name of the server."""

import asyncpg
import structlog

from app.errors import AnswerTooLarge, BadUserInput, Conflict, Forbidden, QuotaExceeded, Unavailable

log = structlog.get_logger()

# The SQLSTATE of isola.proved_tenant_id() for a binding without a good proof.
NOT_PROVED = "IS002"
# The SQLSTATE of isola.bound_tenant() for a transaction of no active tenant.
NOT_ACTIVE = "IS001"
# The SQLSTATE of isola.quota_keep() for what takes more than a quota has: the names of quota and limit come with it.
NO_PLACE = "IS003"
# The SQLSTATE for a transaction in a home that the tenant is leaving or has left.
MOVED = "IS004"

# The SQLSTATE of isola.measured() for an answer that is too large: the field and the limit come with it.
TOO_LARGE = "IS005"

# The SQLSTATEs with which the database keeps a transaction in its tenant: not proved to be where it says, or without
# the right, which is also what a row that a policy does not admit is refused with.
REACHING = {NOT_PROVED, asyncpg.InsufficientPrivilegeError.sqlstate}

LOST = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server's last words came between two statements
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
)


def told(error: Exception, *, lost: bool) -> Exception:  # noqa: C901, PLR0911, PLR0912  a table, one line an error
    """What a caller is told of an error. ``lost``: the connection was closed when it came up."""
    if isinstance(error, asyncpg.PostgresError):
        # It quotes rows, and would be in every trace of the error.
        error.detail = None
    match error:
        case asyncpg.UniqueViolationError():
            table, columns = _named(error.constraint_name, error.table_name)
            return Conflict(f"{table}: there is one with the same {columns} already")
        case asyncpg.ForeignKeyViolationError() | asyncpg.RestrictViolationError():
            return Conflict(f"{error.table_name}: what this refers to is not there, or is still referred to")
        case asyncpg.CheckViolationError():
            table, rule = _named(error.constraint_name, error.table_name)
            return BadUserInput(f"{table}: the value breaks the rule {rule}")
        case asyncpg.DataError():
            return BadUserInput("a value cannot be stored in the database")
        case asyncpg.QueryCanceledError():
            return Unavailable("this took longer than a statement may take")
        case (
            asyncpg.DeadlockDetectedError()
            | asyncpg.SerializationError()
            | asyncpg.InvalidCachedStatementError()
            | asyncpg.InvalidSQLStatementNameError()
            | asyncpg.LockNotAvailableError()
        ):
            return Unavailable("this got into the way of another change: try again")
        case asyncpg.PostgresError(sqlstate=sqlstate) if sqlstate == NOT_ACTIVE:
            return Forbidden("the tenant is not active")
        case asyncpg.PostgresError(sqlstate=sqlstate) if sqlstate == MOVED:
            return Unavailable("the tenant is being moved: try again in some seconds")
        case asyncpg.PostgresError(sqlstate=sqlstate) if sqlstate == NO_PLACE:
            return QuotaExceeded(f"{error.table_name}: the plan allows {error.constraint_name}")
        case asyncpg.PostgresError(sqlstate=sqlstate) if sqlstate == TOO_LARGE:
            return AnswerTooLarge(int(error.constraint_name), error.column_name)
        case asyncpg.PostgresError(sqlstate=sqlstate) if sqlstate == NOT_PROVED:
            return Unavailable("the home of this tenant cannot be entered")
        case asyncpg.UndefinedTableError() | asyncpg.UndefinedColumnError() | asyncpg.InvalidSchemaNameError():
            # A home that is being dropped, or that waits to be migrated. A statement that is wrong looks the same.
            log.error("something is missing in the database", exc_info=error)
            return Unavailable("the home of this tenant is not as this server needs it")
        case _ if isinstance(error, LOST) and (lost or not isinstance(error, OSError)):
            return Unavailable("the connection to the database was lost")
        case _:
            return error


def _named(constraint: str | None, table: str | None) -> tuple[str, str]:
    """The table and what comes behind it in a name made by the naming convention: ``uq_users_email``."""
    return str(table), str(constraint).partition(f"_{table}_")[2].replace("_", " ") or str(constraint)
