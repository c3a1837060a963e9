-- The function that the watchdog of each server calls: see app/isola/platform/watchdog.py. It runs as isola_watchdog,
-- which has no login and is a member of the login of tenant traffic, so it may end that login's sessions and no others.

-- Terminates the sessions of a login in this database that have been in one transaction for longer than ``older_than``,
-- and those that connected after ``connected_since``. SQL in a transaction can catch a cancellation, but not a
-- termination. The query is a loop because pg_terminate_backend as one of its conditions could be evaluated before the
-- others.
CREATE FUNCTION control.end_sessions(login text, older_than interval, connected_since timestamptz)
RETURNS TABLE (pid int, in_transaction interval) LANGUAGE plpgsql VOLATILE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    FOR pid, in_transaction IN
        SELECT a.pid, clock_timestamp() - a.xact_start FROM pg_stat_activity a
        WHERE a.datname = current_database() AND a.usename = login AND a.pid <> pg_backend_pid()
          AND (a.xact_start < clock_timestamp() - older_than OR a.backend_start >= connected_since)
    LOOP
        IF pg_terminate_backend(pid) THEN
            RETURN NEXT;
        END IF;
    END LOOP;
END $$;
