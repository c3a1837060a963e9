"""Undoes what SQL inside a tenant can leave behind for all tenants; PostgreSQL lets every role do some of it.

- A transaction can turn off its timeouts and catch its own cancellation: another session terminates it.
- The login can change its own settings (``ALTER ROLE … SET``), which later sessions start with: they are reset, and
  sessions that started with them are terminated. The connections of ``Database`` also reset them when they open; the
  watchdog does it for sessions that a pooler opens.
- ``PREPARE TRANSACTION``, where the cluster allows it, outlives its session with all its locks: it is rolled back.

Each is logged as an error. ``isola doctor`` finds the same.
"""

from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta

import structlog
from sqlalchemy import DateTime, Interval, bindparam, text

from isola.database.transactions import Database
from isola.platform.background import repeating

log = structlog.get_logger()

INTERVAL = 5.0
"""Seconds between two checks."""

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
        ) AS prepared
""")
_END = text("SELECT pid, in_transaction FROM control.end_sessions(:login, :older_than, :connected_since)").bindparams(
    bindparam("older_than", type_=Interval), bindparam("connected_since", type_=DateTime(timezone=True))
)


class Watchdog:
    """Finds what was left behind, and undoes it.

    ``limit`` is the maximum duration of a tenant's transaction in seconds, whatever it does.
    """

    def __init__(self, control: Database, tenants: Database, login: str, *, limit: float) -> None:
        self._control = control
        self._tenants = tenants
        self._login = login
        self._limit = timedelta(seconds=limit)
        self._clean_at: datetime | None = None
        """When the login was last seen without settings of its own, by the database's clock."""

    async def check(self) -> None:
        """Find and undo what was left behind. Raises Unavailable."""
        async with self._control.unbound() as control:
            [state] = await control.rows(_CHECK, {"login": self._login})
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
        async with self._control.unbound() as control:
            ended = await control.rows(
                _END, {"login": self._login, "older_than": self._limit, "connected_since": began_with_settings}
            )
        for session in ended:
            log.error(
                "a session of tenant traffic was ended",
                pid=session["pid"],
                in_transaction=str(session["in_transaction"]),
            )


def watching(control: Database, tenants: Database, login: str, limit: float) -> AbstractAsyncContextManager[None]:
    """Run a watchdog every ``INTERVAL`` seconds, as long as the context is open: see ``Watchdog``."""
    watchdog = Watchdog(control, tenants, login, limit=limit)
    return repeating(watchdog.check, INTERVAL, "sessions of tenant traffic cannot be watched")
