-- The function that the watchdog of each server calls: see app/isola/platform/watchdog.py. It runs as isola_watchdog,
-- which has no login and is a member of the login of tenant traffic, so it may end that login's sessions and no others.

-- Terminates the sessions of a login in this database that have been in one transaction for longer than ``older_than``,
-- and those that connected after ``connected_since``. SQL in a transaction can catch a cancellation, but not a
-- termination. The query is a loop because pg_terminate_backend as one of its conditions could be evaluated before the
-- others.
--
-- Advisory locks are one namespace, and of a session they outlast its transactions. So it also terminates sessions that
-- have one between transactions, for longer than a connection takes to give it back, or while a session of one of the
-- logins ``waiters`` waits for it: these have ``held_lock``. Locks by which isola.enter() reserves tickets do not count,
-- unless there are so many that all sessions could run out of locks.
CREATE FUNCTION control.end_sessions(
    login text, older_than interval, connected_since timestamptz, waiters text[]
)
RETURNS TABLE (pid int, in_transaction interval, held_lock boolean) LANGUAGE plpgsql VOLATILE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    FOR pid, in_transaction, held_lock IN
        WITH locks AS (
            SELECT l.pid, l.granted, l.classid, l.objid, l.objsubid,
                l.objsubid = 2 AND l.classid = hashtext('isola.ticket')::oid AS of_ticket
            FROM pg_locks l JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
            WHERE l.locktype = 'advisory'
        ), waited AS (
            SELECT l.classid, l.objid, l.objsubid FROM locks l JOIN pg_stat_activity w ON w.pid = l.pid
            WHERE NOT l.granted AND w.usename = ANY (waiters)
        ), held AS (
            SELECT l.pid, count(*) FILTER (WHERE l.of_ticket) > 1000 OR NOT bool_and(l.of_ticket) AS kept,
                bool_or((l.classid, l.objid, l.objsubid) IN (SELECT w.classid, w.objid, w.objsubid FROM waited w))
                AS waited_for
            FROM locks l WHERE l.granted GROUP BY l.pid
        )
        SELECT a.pid, clock_timestamp() - a.xact_start, coalesce(h.waited_for OR h.kept AND a.state = 'idle', false)
        FROM pg_stat_activity a LEFT JOIN held h ON h.pid = a.pid
        WHERE a.datname = current_database() AND a.usename = login AND a.pid <> pg_backend_pid() AND (
            a.xact_start < clock_timestamp() - older_than OR a.backend_start >= connected_since OR h.waited_for
            OR h.kept AND a.state = 'idle' AND a.state_change < clock_timestamp() - interval '1 second'
        )
    LOOP
        IF pg_terminate_backend(pid) THEN
            RETURN NEXT;
        END IF;
    END LOOP;
END $$;
