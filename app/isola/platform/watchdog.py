"""Undoes what SQL inside a tenant can leave behind for all tenants; PostgreSQL lets every role do some of it.

- A transaction can turn off its timeouts and catch its own cancellation: another session terminates it. So it does with
  transactions of logins that use tickets, once no ticket can be valid in them: their locks would keep others waiting.
- An advisory lock of a session outlasts its transactions: sessions that keep one between transactions are terminated,
  and sessions of logins that use tickets also when a server, the control plane or the owner waits for theirs.
- The login can change its own settings (``ALTER ROLE … SET``), which later sessions start with: they are reset, and
  sessions that started with them are terminated. The connections of ``Database`` also reset them when they open; the
  watchdog does it for sessions that a pooler opens.
- ``PREPARE TRANSACTION``, where the cluster allows it, outlives its session with all its locks: it is rolled back.

Each is logged as an error. ``isola doctor`` finds the same.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta

import structlog
from sqlalchemy import ARRAY, DateTime, Interval, Text, bindparam, text

from isola.database.transactions import Database
from isola.platform.background import repeating
from isola.platform.roles import Roles

log = structlog.get_logger()

INTERVAL = 5.0
"""Seconds between two checks."""
SQL_LIMIT = 61 * 60.0
"""Seconds. A ticket is valid for at most an hour."""

_CHECK = text("""
    SELECT statement_timestamp() AS at,
        ARRAY(
            SELECT split_part(setting, '=', 1)
            FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole, unnest(setconfig) setting
            WHERE r.rolname = CAST(:login AS name) AND split_part(setting, '=', 1) IN (
                SELECT name FROM pg_settings WHERE context = 'user'
                UNION ALL SELECT 'role'
            )
        ) AS settings,
        ARRAY(
            SELECT p.gid FROM pg_prepared_xacts p JOIN pg_roles r ON r.rolname = p.owner
            WHERE p.database = current_database() AND pg_has_role(CAST(:login AS name), r.oid, 'MEMBER')
        ) AS prepared,
        ARRAY(
            SELECT l.rolname::text FROM pg_auth_members g JOIN pg_roles s ON s.oid = g.roleid AND s.rolname = :sql
            JOIN pg_roles l ON l.oid = g.member AND l.rolcanlogin
            JOIN pg_auth_members w ON w.roleid = l.oid JOIN pg_roles d ON d.oid = w.member AND d.rolname = :watchdog
        ) AS logins,
        ARRAY[CAST(:login AS text), session_user::text] || ARRAY(
            SELECT pg_get_userbyid(nspowner)::text FROM pg_namespace WHERE nspname = 'control'
        ) AS waiters
""")
_END = text("""
    SELECT pid, in_transaction, held_lock
    FROM control.end_sessions(:login, :older_than, :connected_since, :waiters)
""").bindparams(
    bindparam("older_than", type_=Interval),
    bindparam("connected_since", type_=DateTime(timezone=True)),
    bindparam("waiters", type_=ARRAY(Text())),
)


class Watchdog:
    """Finds what was left behind, and undoes it.

    ``limit`` is the maximum duration of a tenant's transaction in seconds, whatever it does; ``sql_limit`` that of a
    transaction of a login in the role for tickets, if the watchdog's role is a member of that login.
    """

    def __init__(
        self,
        control: Database,
        tenants: Database,
        login: str,
        roles: Roles,
        *,
        limit: float,
        sql_limit: float = SQL_LIMIT,
    ) -> None:
        self._control = control
        self._tenants = tenants
        self._login = login
        self._roles = roles
        self._sql_limit = timedelta(seconds=sql_limit)
        self._limit = timedelta(seconds=limit)
        self._clean_at: datetime | None = None
        """When the login was last seen without settings of its own, by the database's clock."""

    async def check(self) -> None:
        """Find and undo what was left behind. Raises Unavailable."""
        async with self._control.unbound() as control:
            [state] = await control.rows(
                _CHECK, {"login": self._login, "sql": self._roles.sql, "watchdog": self._roles.watchdog}
            )
        began_with_settings = None
        if state["settings"]:
            log.error("the login of tenant traffic had settings of its own", settings=sorted(state["settings"]))
            await self._tenants.reset_login()
            began_with_settings = self._clean_at
        else:
            self._clean_at = state["at"]
        if state["prepared"]:
            log.error("transactions were left prepared", count=len(state["prepared"]))
            await self._tenants.roll_back_prepared()
        # Requests with the same idempotency key wait for each other.
        await self._end("a session of tenant traffic was ended", self._login, self._limit, began_with_settings, [])
        for login in state["logins"]:
            message = "a session whose ticket had expired was ended"
            await self._end(message, login, self._sql_limit, None, state["waiters"])

    async def _end(
        self, message: str, login: str, older_than: timedelta, connected_since: datetime | None, waiters: Sequence[str]
    ) -> None:
        """End sessions of a login, and log each with the ``message``, or that it kept a lock."""
        values = {"login": login, "older_than": older_than, "connected_since": connected_since, "waiters": waiters}
        async with self._control.unbound() as control:
            ended = await control.rows(_END, values)
        for session in ended:
            event = "a session that kept an advisory lock was ended" if session["held_lock"] else message
            log.error(event, login=login, pid=session["pid"], in_transaction=str(session["in_transaction"]))


def watching(
    control: Database, tenants: Database, login: str, roles: Roles, limit: float
) -> AbstractAsyncContextManager[None]:
    """Run a watchdog every ``INTERVAL`` seconds, as long as the context is open: see ``Watchdog``."""
    watchdog = Watchdog(control, tenants, login, roles, limit=limit)
    return repeating(watchdog.check, INTERVAL, "sessions of tenant traffic cannot be watched")
