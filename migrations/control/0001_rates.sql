-- Leases units of a rate of ``most`` in a number of seconds: at least ``needed`` and at most ``wanted``, or none if there
-- is no room for ``needed``; then ``wait`` is the number of nanoseconds until there is. ``owed`` were used before, and are
-- added whether there is room or not. ``room`` is what is left, negative if too many were used. See isola.gcra: a unit has
-- as many parts as the period has nanoseconds. All servers use this clock; if it goes back, nothing leaks meanwhile.
CREATE FUNCTION control.lease_rate(
    tenant uuid, rate text, seconds integer, of_user uuid, most bigint, owed bigint, needed bigint, wanted bigint,
    OUT granted bigint, OUT room bigint, OUT wait numeric
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    bucket control.rate_levels;
    now_ timestamptz;
    parts numeric := lease_rate.seconds * 1000000000::numeric;
BEGIN
    LOOP
        SELECT * INTO bucket FROM control.rate_levels b
        WHERE b.tenant_id = lease_rate.tenant AND b.rate = lease_rate.rate AND b.seconds = lease_rate.seconds
          AND b.user_id = lease_rate.of_user
        FOR UPDATE;
        EXIT WHEN FOUND;
        now_ := clock_timestamp();
        INSERT INTO control.rate_levels (tenant_id, rate, seconds, user_id, level, at, empty_at)
        VALUES (lease_rate.tenant, lease_rate.rate, lease_rate.seconds, lease_rate.of_user, 0, now_, now_)
        ON CONFLICT DO NOTHING;
    END LOOP;
    now_ := clock_timestamp();
    bucket.level := greatest(
        bucket.level - most * greatest(extract(epoch FROM now_ - bucket.at), 0) * 1000000000, 0
    ) + owed * parts;
    room := floor((most * parts - bucket.level) / parts);
    granted := CASE WHEN room >= needed THEN least(room, wanted) ELSE 0 END;
    wait := CASE WHEN room >= needed THEN 0 ELSE ceil((bucket.level + (needed - most) * parts) / most) END;
    room := room - granted;
    bucket.level := bucket.level + granted * parts;
    UPDATE control.rate_levels b
    SET level = bucket.level, at = now_, empty_at = now_ + make_interval(secs => least(ceil(bucket.level / most / 1000000000), 100000000)::float8)
    WHERE b.tenant_id = lease_rate.tenant AND b.rate = lease_rate.rate AND b.seconds = lease_rate.seconds
      AND b.user_id = lease_rate.of_user;
END $$;
