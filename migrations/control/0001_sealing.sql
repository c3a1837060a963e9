-- The sealer: it numbers the entries of all logs in commit order and chains them, many under one hash, without blocking
-- any transaction. Sealed entries form a feed without gaps: see docs/audit.md.

-- Seals committed entries, at most about ``most``, and returns how many; NULL if another sealer runs at the moment, or
-- if a transaction takes more than a second to commit.
--
-- It reads which places have been drawn, waits until the transactions that drew them have ended, and only then reads
-- the entries. Entries of a tenant whose log has no head, or a head that is behind its seals, stay unsealed, so that
-- they keep no other log from being sealed: verification reports them.
CREATE FUNCTION control.seal(most bigint) RETURNS bigint LANGUAGE plpgsql VOLATILE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    decided bigint;
    committing text[];
    sealed bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM control.audit_pending) THEN
        RETURN 0;
    END IF;
    -- The head of the platform's log is also the turn of sealers.
    PERFORM FROM control.audit_heads WHERE tenant_id = '00000000-0000-0000-0000-000000000000' FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT last_value INTO decided FROM control.audit_places;
    SELECT array_agg(c.virtualtransaction) INTO committing FROM control.committing() c;
    FOR attempt IN 0..9 LOOP
        EXIT WHEN NOT EXISTS (SELECT FROM control.committing() c WHERE c.virtualtransaction = ANY (committing));
        IF attempt = 9 THEN
            RETURN NULL;
        END IF;
        PERFORM pg_sleep(0.002 * 2 ^ attempt);
    END LOOP;
    WITH waiting AS MATERIALIZED (
        SELECT p.id, p.tenant_id, p.ids, p.hashes, max(p.place) OVER (PARTITION BY p.transaction) AS place
        FROM control.audit_pending p JOIN control.audit_heads h ON h.tenant_id = p.tenant_id
        WHERE NOT EXISTS (SELECT FROM control.audit_seals s WHERE s.tenant_id = h.tenant_id AND s.first > h.entries)
    ), counted AS (
        SELECT *, sum(cardinality(ids)) OVER (ORDER BY place, id) - cardinality(ids) AS earlier
        FROM waiting WHERE place <= decided
    ), taken AS MATERIALIZED (
        SELECT * FROM counted WHERE earlier < most
    ), logs AS MATERIALIZED (
        SELECT t.tenant_id, array_agg(e.id ORDER BY t.place, t.id, e.n) AS ids,
            string_agg(e.hash, '' ORDER BY t.place, t.id, e.n) AS hashes
        FROM taken t CROSS JOIN unnest(t.ids, t.hashes) WITH ORDINALITY e (id, hash, n)
        GROUP BY t.tenant_id
    ), chained AS (
        UPDATE control.audit_heads h SET
            entries = h.entries + cardinality(l.ids), hash = sha256(h.hash || int8send(h.entries + 1) || l.hashes)
        FROM logs l WHERE h.tenant_id = l.tenant_id
        RETURNING h.tenant_id, h.entries - cardinality(l.ids) + 1 AS first, l.ids, h.hash
    ), kept AS (
        INSERT INTO control.audit_seals (tenant_id, first, ids, hash) SELECT tenant_id, first, ids, hash FROM chained
    ), gone AS (
        DELETE FROM control.audit_pending p USING taken t WHERE p.id = t.id
    )
    SELECT coalesce(sum(cardinality(ids)), 0) INTO sealed FROM logs;
    RETURN sealed;
END $$;

-- The transactions that are about to commit an entry: see isola.audit_commit.
CREATE FUNCTION control.committing() RETURNS TABLE (virtualtransaction text, pid int) LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT l.virtualtransaction, l.pid FROM pg_locks l
    WHERE l.relation = 'control.audit_places'::regclass AND l.mode = 'RowExclusiveLock'
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND l.pid IS DISTINCT FROM pg_backend_pid();
END;

-- The numbers of the bound tenant's sealed entries after ``after``, at most ``most`` of them, also while it is
-- suspended.
CREATE FUNCTION isola.feed(after bigint, most bigint) RETURNS TABLE (number bigint, id uuid) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT s.first + e.n - 1, e.id
    FROM control.audit_seals s CROSS JOIN unnest(s.ids) WITH ORDINALITY e (id, n)
    WHERE s.tenant_id = (SELECT isola.proved_tenant_id()) AND s.first + e.n - 1 > after
      AND s.first >= coalesce((
          SELECT max(b.first) FROM control.audit_seals b
          WHERE b.tenant_id = (SELECT isola.proved_tenant_id()) AND b.first <= feed.after + 1
      ), 0)
    ORDER BY s.first, e.n LIMIT most;
END;

-- The bound tenant's entries that are committed but not sealed yet. Their hashes are for transactions that may read the
-- whole log: values that can be guessed could be found from them.
CREATE FUNCTION isola.unsealed() RETURNS TABLE (id uuid, hash bytea) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT e.id, CASE WHEN (SELECT 'isola:whole_log' = ANY (isola.current_permissions())) THEN e.hash END
    FROM control.audit_pending p CROSS JOIN unnest(p.ids, p.hashes) e (id, hash)
    WHERE p.tenant_id = (SELECT isola.proved_tenant_id());
END;
