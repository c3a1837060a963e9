"""Database errors as safe client messages: none quotes a row, a statement or a name of the server.

``CLASSES`` has an entry for every class of SQLSTATE, and ``STATES`` the exceptions from them. Where the answer is None
the error is a bug of this program: it is passed on unchanged, and clients see ``INTERNAL``.
"""

import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import asyncpg
import structlog

from isola.database.claims import Answered
from isola.errors import (
    AnswerTooLarge,
    BadUserInput,
    Conflict,
    Forbidden,
    IsolaError,
    QuotaExceeded,
    Refusal,
    Unavailable,
    Unconfirmed,
)

log = structlog.get_logger()

REFUSED: tuple[type[Exception], ...] = (asyncpg.PostgresError, IsolaError)
"""The database errors to expect from a statement that may be refused."""

# The SQLSTATE of isola.proved_tenant_id() for a binding without a valid proof.
NOT_PROVED = "IS002"
# The SQLSTATE of isola.bound_tenant() for a transaction without an active tenant.
NOT_ACTIVE = "IS001"
# The SQLSTATE of isola.quota_keep() for an exceeded quota: the names of quota and limit are part of the error.
NO_PLACE = "IS003"
# The SQLSTATE for a transaction in a home that the tenant is leaving or has left.
MOVED = "IS004"
# The SQLSTATE of isola.shared_rows() if an owner of shared rows leaves its home while they are read.
OWNER_MOVED = "IS006"

# The SQLSTATE of isola.measured() for an answer that is too large: the field and the limit are part of the error.
TOO_LARGE = "IS005"

# The SQLSTATEs of isola.claim_answer(), for an idempotency key of another request, and of this one.
REUSED, ANSWERED = "IS007", "IS008"
# The SQLSTATE of isola.keep_answer() for an answer that is too large to be kept.
NOT_KEPT = "IS009"
# The SQLSTATEs of isola.record_usage(), for an event that cannot be counted, and for a key of another one: the field
# and the index of the event are part of the error.
UNFIT_EVENT, REUSED_KEY = "IS010", "IS011"
# And for a customer's limit, as NO_PLACE is for the tenant's.
NO_PLACE_FOR_CUSTOMER = "IS012"

# The SQLSTATEs that keep a transaction in its tenant: an invalid proof, or a missing right, which is also the error for
# a row that a policy does not admit.
REACHING = {NOT_PROVED, asyncpg.InsufficientPrivilegeError.sqlstate}

LOST = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server's last message came between two statements
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.DatabaseDroppedError,
    asyncpg.IdleSessionTimeoutError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)


class Answer(NamedTuple):
    """The message for a client. ``ours``: the operator of the server must act, so it is logged as well."""

    kind: type[Refusal]
    message: str
    ours: bool = False


_LOST = Answer(Unavailable, "the connection to the database was lost")
_AGAIN = Answer(Unavailable, "conflict with a concurrent change: try again")
_SLOW = Answer(Unavailable, "the statement took too long")
# A home that is being dropped, or that is not migrated yet. A wrong statement looks the same.
_HOME = Answer(Unavailable, "the tables of this tenant do not match this server", ours=True)
_FULL = Answer(Unavailable, "the database is out of resources", ours=True)
_BROKEN = Answer(Unavailable, "the database failed", ours=True)
_VALUE = Answer(BadUserInput, "a value cannot be stored in the database")
_TOO_MUCH = Answer(BadUserInput, "the statement exceeds a limit of the database")
# Raised when a cluster must be vacuumed before anything can be written again: no caller's fault.
_STOPPED = Answer(Unavailable, "the database accepts no changes at present", ours=True)

CLASSES: Mapping[str, Answer | None] = MappingProxyType(
    {
        "00": None,
        "01": None,
        "02": None,
        "03": None,
        "08": _LOST,
        "09": None,
        "0A": None,
        "0B": None,
        "0F": None,
        "0L": None,
        "0P": _HOME,
        "0Z": None,
        "10": None,
        "20": None,
        "21": None,
        "22": _VALUE,
        "23": None,
        "24": None,
        "25": None,
        "26": _AGAIN,
        "27": _AGAIN,
        "28": Answer(Unavailable, "the database refuses the login", ours=True),
        "2B": None,
        "2D": None,
        "2F": None,
        "34": None,
        "38": None,
        "39": None,
        "3B": None,
        "3D": Answer(Unavailable, "the database does not exist", ours=True),
        "3F": _HOME,
        "40": _AGAIN,
        "42": None,
        "44": None,
        "53": _FULL,
        "54": _TOO_MUCH,
        "55": None,
        "57": _LOST,
        "58": _BROKEN,
        "72": _AGAIN,
        "F0": _BROKEN,
        "HV": _BROKEN,
        "IS": None,
        "P0": None,
        "XX": _BROKEN,
    }
)
STATES: Mapping[str, Answer | None] = MappingProxyType(
    {
        NOT_ACTIVE: Answer(Forbidden, "the tenant is not active"),
        NOT_PROVED: Answer(Unavailable, "the home of this tenant cannot be accessed"),
        NO_PLACE: Answer(QuotaExceeded, "{table}: the limit is {constraint}"),
        NO_PLACE_FOR_CUSTOMER: Answer(QuotaExceeded, "{table}: the limit of the customer is {constraint}"),
        REUSED: Answer(Conflict, "Idempotency-Key: the key was used for another request"),
        NOT_KEPT: Answer(
            BadUserInput, "Idempotency-Key: an answer of more than 65536 bytes is not kept: select fewer fields"
        ),
        MOVED: Answer(Unavailable, "the tenant is being moved: try again in some seconds"),
        OWNER_MOVED: Answer(Unavailable, "a tenant that shares rows is being moved or deleted: try again"),
        "23001": Answer(Conflict, "{table}: a referenced object does not exist, or this object is still referenced"),
        "23503": Answer(Conflict, "{table}: a referenced object does not exist, or this object is still referenced"),
        "23505": Answer(Conflict, "{table}: there is one with the same {rule} already"),
        "23514": Answer(BadUserInput, "{table}: the value violates the rule {rule}"),
        "23P01": Answer(Conflict, "{table}: there is one with the same {rule} already"),
        # In a transaction that was begun as read-only, see ``translate``, it is a bug.
        "25006": _STOPPED,
        "25P03": _SLOW,
        "25P04": _SLOW,
        # Not to be retried: the change may have been committed.
        "40003": Answer(Unconfirmed, "the outcome of the transaction is unknown: the change may have been made or not"),
        "42P01": _HOME,
        "42703": _HOME,
        "42704": _HOME,
        "42883": _HOME,
        # Limited by settings of the server, for this statement or for similar ones.
        "53400": Answer(
            Unavailable,
            "the request needs more resources of the database than the server allows: request less data",
            ours=True,
        ),
        "55006": _AGAIN,
        "55P03": Answer(Unavailable, "another session did not release a lock in time: try again"),
        "57014": _SLOW,
    }
)
# Some share their SQLSTATE with errors of another meaning; the PostgreSQL function that raises them tells them apart.
FUNCTIONS: Mapping[tuple[str, str], Answer] = MappingProxyType(
    {
        ("0A000", "RevalidateCachedQuery"): _AGAIN,
        ("54000", "GetNewTransactionId"): _STOPPED,
        ("54000", "GetNewMultiXactId"): _STOPPED,
    }
)


def translate(error: Exception, *, lost: bool, read_only: bool = False) -> Exception:
    """Translate a database error into a safe message for clients.

    ``lost``: the connection was closed when it occurred, or is unusable since. ``read_only``: the transaction was
    begun as read-only.
    """
    match error:
        case asyncpg.PostgresError(sqlstate=str(sqlstate)):
            # It quotes rows, and would be in every traceback of the error.
            error.detail = None
            if read_only and sqlstate == asyncpg.ReadOnlySQLTransactionError.sqlstate:
                return error  # type: ignore[no-any-return]  # asyncpg has no annotations
            if sqlstate in _OURS:
                return _OURS[sqlstate](error)
            answer = _answer(sqlstate, error.server_source_function)
            if answer is None:
                return Answered() if sqlstate == ANSWERED else error
            if answer.ours:
                log.error("the database could not execute a statement", sqlstate=sqlstate, exc_info=error)
            refusal = answer.kind(answer.message.format(**_names(error)))
            refusal.rule = _rule(error) or None
            return refusal
        case _ if isinstance(error, LOST) and (lost or not isinstance(error, OSError)):
            return Unavailable(_LOST.message)
        case _:
            return error


def sql_message(error: BaseException) -> str | None:
    """PostgreSQL's message about a wrong statement or a violated rule, in one line; None for any other error.

    Only for the owner of the database: it names tables, columns and constraints.
    """
    for each in (error, error.__cause__):
        if isinstance(each, asyncpg.PostgresError) and str(each.sqlstate)[:2] in {"0A", "23", "2B", "42"}:
            return str(each.args[0]).splitlines()[0]
    return None


def _answer(sqlstate: str, function: str | None) -> Answer | None:
    if function and (sqlstate, function) in FUNCTIONS:
        return FUNCTIONS[sqlstate, function]
    return STATES[sqlstate] if sqlstate in STATES else CLASSES.get(sqlstate[:2])


def _of_answer(error: asyncpg.PostgresError) -> Refusal:
    return AnswerTooLarge(int(error.constraint_name), error.column_name)


def _of_event(error: asyncpg.PostgresError) -> Refusal:
    field = str(error.column_name)
    kind = Conflict if error.sqlstate == REUSED_KEY else BadUserInput
    refusal = kind(f"{field}: {error.args[0]}", field)
    refusal.index = None if error.table_name is None else int(error.table_name)
    return refusal


# Errors that have more parts than a message.
_OURS: Mapping[str, Callable[[asyncpg.PostgresError], Refusal]] = MappingProxyType(
    {TOO_LARGE: _of_answer, UNFIT_EVENT: _of_event, REUSED_KEY: _of_event}
)


def _names(error: asyncpg.PostgresError) -> Mapping[str, str]:
    table, constraint = str(error.table_name), str(error.constraint_name)
    return {"table": table, "constraint": constraint, "rule": _rule(error).replace("_", " ") or constraint}


def _rule(error: asyncpg.PostgresError) -> str:
    """The part after the table in a constraint's name, by our convention: ``uq_users_email``."""
    return str(error.constraint_name).partition(f"_{error.table_name}_")[2]


# Why a connection failed, specific errors before general ones. Shown to clients, so without hosts and logins.
CAUSES: Sequence[tuple[type[BaseException], str]] = (
    (TimeoutError, "it does not answer in time"),
    (socket.gaierror, "there is no host of that name"),
    (ConnectionRefusedError, "nothing listens at this host and port"),
    (FileNotFoundError, "there is no such socket, or a file that the address names is missing"),
    (PermissionError, "its socket or a file that the address names cannot be opened"),
    (ssl.SSLCertVerificationError, "its TLS certificate is not trusted"),
    (ssl.SSLError, "the TLS handshake fails"),
    (ConnectionResetError, "it closes the connection"),
    # asyncpg's error for a server without TLS when sslmode requires it.
    (ConnectionError, "it does not support TLS, which sslmode requires"),
    (asyncpg.TargetServerAttributeNotMatched, "no host matches target_session_attrs"),
    (asyncpg.ClientConfigurationError, "the parameters of the address are invalid"),
    (asyncpg.InvalidPasswordError, "it refuses the password of the login; has isola migrate been run?"),
    (asyncpg.InvalidAuthorizationSpecificationError, "it refuses the login; has isola migrate been run?"),
    (asyncpg.InvalidCatalogNameError, "there is no such database at this server"),
    (asyncpg.InsufficientPrivilegeError, "the login may not connect to this database; has isola migrate been run?"),
    (asyncpg.TooManyConnectionsError, "it has no connection left"),
    (asyncpg.CannotConnectNowError, "it is starting or stopping"),
    (asyncpg.InterfaceError, "it requires an authentication for which the address has no credentials"),
)


def cause(error: BaseException) -> str:
    """Why a connection failed."""
    return next((message for kind, message in CAUSES if isinstance(error, kind)), "the connection fails")
