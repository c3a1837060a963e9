-- Retention: how long a plan keeps rows of subjects that declare it, and the tenant's log. Servers call these functions inside
-- each tenant: see app/isola/platform/retention.py. They run as isola_retention, a role without a login, which no visibility rule
-- binds. They read from the plan what goes, so whoever calls them removes nothing that the plan keeps.

-- For how many days a tenant's plan, or its override, keeps something; NULL for ever.
CREATE FUNCTION isola.retention_days(tenant uuid, name text, at timestamptz) RETURNS integer LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT CASE WHEN o.tenant_id IS NULL THEN (p.retention ->> retention_days.name)::integer ELSE o.days END
    FROM control.tenants t
    JOIN control.plans p ON p.name = t.plan
    LEFT JOIN control.retention_overrides o
        ON o.tenant_id = t.id AND o.retention = retention_days.name AND (o.ends_at IS NULL OR o.ends_at > retention_days.at)
    WHERE t.id = retention_days.tenant;
END;

-- What can be kept for a time, with the days of the bound tenant, NULL for ever. ``until`` is the end of an override.
CREATE FUNCTION isola.retention() RETURNS TABLE (id text, days integer, until timestamptz) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT k.name, isola.retention_days(t.id, k.name, statement_timestamp()), o.ends_at
    FROM control.tenants t
    CROSS JOIN (SELECT name FROM control.kept UNION ALL SELECT 'log') k
    LEFT JOIN control.retention_overrides o
        ON o.tenant_id = t.id AND o.retention = k.name AND o.ends_at > statement_timestamp()
    WHERE t.id = (SELECT isola.bound_tenant());
END;

-- Notes in the log what went: the audit trigger counts rows of this transaction here instead of writing an entry for each. Only
-- isola.retention_delete() begins it, and ends it before anything else can be deleted.
CREATE FUNCTION isola.audit_expiring(subject text, number bigint) RETURNS boolean LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    UPDATE control.expiring e
    SET rows = e.rows || jsonb_build_object(subject, coalesce((e.rows ->> subject)::bigint, 0) + number)
    WHERE e.transaction = pg_current_xact_id()::text;
    RETURN FOUND;
END $$;

-- Deletes rows of the bound tenant as an ordinary deletion does: it ends their shares, and foreign keys apply. Returns how many,
-- and notes them in the log. Rows that others refer to stay, and keep no other row.
CREATE FUNCTION isola.retention_delete(tenant uuid, home text, of_kept control.kept, before timestamptz, days integer, ids uuid[])
RETURNS bigint LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    statement text := format('DELETE FROM %I.%I WHERE id = ANY ($1)', home, of_kept.relation);
    batch uuid[];
    deleted bigint := 0;
    one bigint;
    gone jsonb;
BEGIN
    INSERT INTO control.expiring (transaction) VALUES (pg_current_xact_id()::text);
    BEGIN
        PERFORM isola.revoke_shares_of(id) FROM unnest(ids) id;
        EXECUTE statement USING ids;
        GET DIAGNOSTICS deleted = ROW_COUNT;
    EXCEPTION WHEN foreign_key_violation OR restrict_violation THEN
        FOR position IN 1 .. cardinality(ids) LOOP
            batch := ids[position:position];
            BEGIN
                PERFORM isola.revoke_shares_of(batch[1]);
                EXECUTE statement USING batch;
                GET DIAGNOSTICS one = ROW_COUNT;
                deleted := deleted + one;
            EXCEPTION WHEN foreign_key_violation OR restrict_violation THEN
                CONTINUE;
            END;
        END LOOP;
    END;
    DELETE FROM control.expiring WHERE transaction = pg_current_xact_id()::text RETURNING rows INTO gone;
    IF deleted > 0 THEN
        PERFORM isola.audit_note(
            'control.kept'::regclass, 'control', '[0:3]={retention,"{}",retention:,name}'::text[], NULL,
            ARRAY[jsonb_build_object('name', of_kept.name, 'days', days, 'before', before, 'rows', gone)]
        );
    END IF;
    RETURN deleted;
END $$;

-- Deletes rows that the bound tenant's plan does not keep any more, the oldest first, of the next ``most`` after a place. Returns
-- how many it looked at and deleted, and the last place; rows that another transaction has locked are left for the next time.
CREATE FUNCTION isola.expire_rows(
    name text, most integer, after timestamptz, after_id uuid, OUT looked bigint, OUT deleted bigint, OUT last timestamptz,
    OUT last_id uuid
) LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := isola.bound_tenant();
    days integer := isola.retention_days(tenant, expire_rows.name, now());
    before timestamptz := now() - make_interval(days => days);
    home text := (SELECT t.home FROM control.tenants t WHERE t.id = tenant);
    kept control.kept;
    ids uuid[];
BEGIN
    SELECT * INTO kept FROM control.kept k WHERE k.name = expire_rows.name;
    looked := 0;
    deleted := 0;
    IF days IS NULL OR kept.name IS NULL THEN
        RETURN;
    END IF;
    EXECUTE format(
        'SELECT count(*), array_agg(id), max(at), (array_agg(id ORDER BY at DESC, id DESC))[1] FROM ('
        'SELECT id, %2$I AS at FROM %1$I.%3$I WHERE %2$I < $1 AND %2$I >= $2 AND (%2$I > $2 OR id > $3) '
        'ORDER BY %2$I, id LIMIT $4 FOR UPDATE SKIP LOCKED) r',
        home, kept.moment, kept.relation
    ) INTO looked, ids, last, last_id
    USING before, coalesce(after, '-infinity'), coalesce(after_id, '00000000-0000-0000-0000-000000000000'), most;
    IF looked > 0 THEN
        deleted := isola.retention_delete(tenant, home, kept, before, days, ids);
    END IF;
END $$;

-- Cuts the oldest entries off the bound tenant's log, those that its plan does not keep any more: whole seals, with about ``most``
-- entries at a time. The number and the hash of the last one become the checkpoint, from which the chain is verified, and an entry
-- says so, which is sealed like all others. Returns how many entries went; ``broken`` is the first that was not as it was sealed:
-- such a log is not cut, as it would destroy the evidence. NULL for both if another transaction cuts it.
--
-- Entries that an enabled webhook has not got yet stay for 30 days longer, and so that a log of its own checkpoints is not cut over
-- and over, it is cut when its oldest entry is a day older than the plan keeps it.
CREATE FUNCTION isola.cut_log(most bigint, OUT removed bigint, OUT broken bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    tenant uuid := isola.bound_tenant();
    days integer := isola.retention_days(tenant, 'log', now());
    before timestamptz := now() - make_interval(days => days);
    home_of text := (SELECT t.home FROM control.tenants t WHERE t.id = tenant);
    delivered bigint := (SELECT min(w.delivered) FROM control.webhooks w WHERE w.tenant_id = tenant AND w.enabled);
    mark control.audit_checkpoints;
    seal control.audit_seals;
    was record;
    until timestamptz;
    ids uuid[] := '{}';
BEGIN
    removed := 0;
    IF days IS NULL THEN
        RETURN;
    END IF;
    INSERT INTO control.audit_checkpoints (tenant_id) VALUES (tenant) ON CONFLICT DO NOTHING;
    SELECT * INTO mark FROM control.audit_checkpoints c WHERE c.tenant_id = tenant FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        removed := NULL;
        RETURN;
    END IF;
    FOR seal IN SELECT * FROM control.audit_seals s WHERE s.tenant_id = tenant ORDER BY s.first LIMIT most LOOP
        EXIT WHEN cardinality(ids) >= most;
        EXECUTE format(
            'SELECT count(*) AS entries, max(e.at) AS at, string_agg(e.hash, '''' ORDER BY u.n) AS hashes, bool_and('
            'e.hash = isola.audit_hash($1, e.id, e.at, e.actor, e.on_behalf_of, e.request, e.action, e.object, e.old, e.new)'
            ') AS whole FROM unnest($2) WITH ORDINALITY u (id, n) JOIN %I.audit_entries e ON e.id = u.id', home_of
        ) INTO was USING tenant, seal.ids;
        IF seal.first <> mark.number + 1 OR was.entries <> cardinality(seal.ids) OR NOT was.whole
           OR seal.hash <> sha256(mark.hash || int8send(seal.first) || was.hashes) THEN
            broken := mark.number + 1;
            EXIT;
        END IF;
        EXIT WHEN was.at >= before - CASE
            WHEN seal.first + was.entries - 1 > delivered THEN interval '30 days'
            WHEN ids = '{}' THEN interval '1 day'
            ELSE interval '0'
        END;
        mark.number := seal.first + was.entries - 1;
        mark.hash := seal.hash;
        until := greatest(until, was.at);
        ids := ids || seal.ids;
    END LOOP;
    removed := cardinality(ids);
    IF removed = 0 THEN
        RETURN;
    END IF;
    EXECUTE format('DELETE FROM %I.audit_entries WHERE id = ANY ($1)', home_of) USING ids;
    DELETE FROM control.audit_seals s WHERE s.tenant_id = tenant AND s.first <= mark.number;
    UPDATE control.audit_checkpoints c SET number = mark.number, hash = mark.hash, at = now() WHERE c.tenant_id = tenant;
    PERFORM isola.audit_note(
        'control.audit_checkpoints'::regclass, 'control', '[0:3]={retention,"{}",retention:,name}'::text[], NULL,
        ARRAY[jsonb_build_object(
            'name', 'log', 'days', days, 'before', before, 'rows', jsonb_build_object('entry', removed),
            'number', mark.number, 'hash', encode(mark.hash, 'hex'), 'until', until
        )]
    );
END $$;

-- How many rows, or entries of the log, are older than the bound tenant's plan keeps them.
CREATE FUNCTION isola.count_expired(name text) RETURNS bigint LANGUAGE plpgsql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := isola.bound_tenant();
    days integer := isola.retention_days(tenant, count_expired.name, now());
    home text := (SELECT t.home FROM control.tenants t WHERE t.id = tenant);
    kept control.kept;
    counted bigint;
BEGIN
    SELECT * INTO kept FROM control.kept k WHERE k.name = count_expired.name;
    IF count_expired.name = 'log' THEN
        kept.relation := 'audit_entries';
        kept.moment := 'at';
    END IF;
    IF days IS NULL OR kept.relation IS NULL THEN
        RETURN 0;
    END IF;
    EXECUTE format('SELECT count(*) FROM %I.%I WHERE %I < $1', home, kept.relation, kept.moment)
    INTO counted USING now() - make_interval(days => days);
    RETURN counted;
END $$;
