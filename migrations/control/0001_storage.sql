-- The storage of tenants: the bytes of the values in their rows, as stored, the same under every strategy. Servers measure them
-- page by page (app/isola/platform/storage.py), as isola_storage, a role without a login, which may read all columns and tells
-- only their sizes.

-- Measures rows of a table in the home of the bound tenant, about ``most`` with a key after ``after``: the bytes of their values,
-- and the last key; NULL if there are no more rows. ``key`` is the first column of its primary key. Columns that are computed from
-- others do not count, nor does what a strategy adds.
CREATE FUNCTION isola.measure_rows(relation text, key text, after uuid, most integer, OUT bytes bigint, OUT last uuid)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    measured regclass := (
        SELECT format('%I.%I', t.home, measure_rows.relation)::regclass FROM control.tenants t WHERE t.id = isola.bound_tenant()
    );
    sizes text;
BEGIN
    SELECT string_agg(format('coalesce(pg_column_size(r.%I), 0)', a.attname), ' + ' ORDER BY a.attnum) INTO sizes
    FROM pg_attribute a
    WHERE a.attrelid = measured AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND a.attname <> 'tenant_id';
    EXECUTE format('SELECT %2$I FROM %1$s WHERE %2$I > $1 ORDER BY %2$I OFFSET $2 LIMIT 1', measured, measure_rows.key)
    INTO last USING measure_rows.after, measure_rows.most - 1;
    EXECUTE format(
        'SELECT coalesce(sum(%s), 0) FROM %s r WHERE r.%3$I > $1 AND ($2 IS NULL OR r.%3$I <= $2)', sizes, measured, measure_rows.key
    ) INTO bytes USING measure_rows.after, last;
END $$;

-- Takes the tenant whose storage was measured longest ago, if it is due, for ``lease`` seconds. Tenants whose rows have not
-- changed since are due, too, but have not to be measured again: ``changed`` says so.
CREATE FUNCTION control.take_storage(lease integer, OUT tenant uuid, OUT changed boolean, OUT entries bigint)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO control.storage (tenant_id)
    SELECT t.id FROM control.tenants t
    WHERE t.status = 'active' AND NOT t.remote AND NOT EXISTS (SELECT FROM control.storage s WHERE s.tenant_id = t.id)
    ON CONFLICT DO NOTHING;
    UPDATE control.storage s SET due_at = now() + make_interval(secs => lease)
    WHERE s.tenant_id = (
        SELECT d.tenant_id FROM control.storage d JOIN control.tenants t ON t.id = d.tenant_id
        WHERE d.due_at <= now() AND t.status = 'active'
        ORDER BY d.due_at, d.tenant_id LIMIT 1 FOR UPDATE OF d SKIP LOCKED
    )
    RETURNING s.tenant_id INTO tenant;
    SELECT s.entries IS DISTINCT FROM h.entries, h.entries INTO changed, entries
    FROM control.storage s JOIN control.audit_heads h ON h.tenant_id = s.tenant_id WHERE s.tenant_id = take_storage.tenant;
END $$;

-- Stores what was measured: ``bytes`` NULL if nothing has changed. It is due again in an hour, or in a hundred times as long as it
-- took. Notes on its way to the tenant's log that 80 or 100 % of the limit are reached, each once until it is less again.
CREATE FUNCTION control.keep_storage(tenant uuid, bytes bigint, entries bigint, took double precision)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    kept control.storage;
    percent integer;
BEGIN
    UPDATE control.storage s SET
        bytes = coalesce(keep_storage.bytes, s.bytes), entries = keep_storage.entries, measured_at = now(),
        due_at = now() + greatest(interval '1 hour', make_interval(secs => 100 * took)),
        most = isola.quota_limit(keep_storage.tenant, 'storage', now())
    FROM control.tenants t
    WHERE s.tenant_id = keep_storage.tenant AND t.id = s.tenant_id AND t.status <> 'deleted'
    RETURNING s.* INTO kept;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    INSERT INTO control.hourly_metrics AS h (tenant_id, hour, requests, errors, users, fields, objects, bytes, microseconds, storage)
    VALUES (keep_storage.tenant, date_trunc('hour', now(), 'UTC'), 0, 0, 0, 0, 0, 0, 0, kept.bytes)
    ON CONFLICT (tenant_id, hour) DO UPDATE SET storage = excluded.storage;
    -- Servers that record no requests delete no old hours.
    DELETE FROM control.hourly_metrics h WHERE h.tenant_id = keep_storage.tenant AND h.hour < now() - interval '720 hours';
    percent := CASE WHEN kept.bytes >= kept.most THEN 100 WHEN kept.bytes >= kept.most * 0.8 THEN 80 ELSE 0 END;
    IF percent > kept.warned THEN
        INSERT INTO control.share_notices (tenant_id, action, object, new)
        VALUES (keep_storage.tenant, 'usage_warning:create', 'quota:storage', jsonb_build_object(
            'quota', 'storage', 'percent', percent, 'quantity', kept.bytes, 'limit', kept.most
        ));
    END IF;
    UPDATE control.storage s SET warned = percent WHERE s.tenant_id = keep_storage.tenant AND s.warned <> percent;
END $$;

-- Raises IS003 if the bound tenant exceeds its quota of storage, as it was last measured. isola.audit_note() calls it for
-- inserts, where the limit of that moment was exceeded.
CREATE FUNCTION isola.quota_keep_storage() RETURNS void LANGUAGE plpgsql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tenant uuid := isola.bound_tenant();
    allowed bigint := isola.quota_limit(tenant, 'storage', clock_timestamp());
BEGIN
    IF EXISTS (SELECT FROM control.storage s WHERE s.tenant_id = tenant AND s.bytes > allowed) THEN
        RAISE EXCEPTION 'the storage is full' USING ERRCODE = 'IS003', TABLE = 'storage', CONSTRAINT = allowed;
    END IF;
END $$;
