-- Quotas of plans, enforced by the database: every addition, however it is made, is counted when its transaction
-- commits. All of it runs as isola_quotas, a role without a login that may only read the counted rows.

-- The current usage of a quota, counted up to ``at_most``; without limit if that is NULL. control.counted says which
-- rows count: the text of its conditions comes from a declaration, never from a client. The caller has to be bound to
-- the tenant and needs the right to read the counted rows.
CREATE FUNCTION isola.quota_used(tenant uuid, home text, quota text, at_most bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    counted control.counted;
    found bigint;
    used bigint := 0;
BEGIN
    IF quota = 'storage' THEN
        RETURN coalesce((SELECT s.bytes FROM control.storage s WHERE s.tenant_id = quota_used.tenant), 0);
    END IF;
    FOR counted IN SELECT * FROM control.counted c WHERE c.quota = quota_used.quota LOOP
        EXECUTE format(
            'SELECT count(*) FROM (SELECT FROM %I.%I WHERE %s AND (%s) LIMIT $2) taken',
            CASE WHEN counted.tenant_column IS NULL THEN home ELSE 'control' END,
            counted.relation,
            coalesce(quote_ident(counted.tenant_column) || ' = $1', 'true'),
            coalesce(counted.counts, 'true')
        ) INTO found USING tenant, at_most;
        used := used + found;
    END LOOP;
    RETURN used;
END $$;

-- A tenant's limit at a moment: its override's until that ends, otherwise its plan's. NULL if there is none.
CREATE FUNCTION isola.quota_limit(tenant uuid, quota text, at timestamptz) RETURNS bigint LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT CASE WHEN o.tenant_id IS NULL THEN (p.quotas ->> quota_limit.quota)::bigint ELSE o.at_most END
    FROM control.tenants t
    JOIN control.plans p ON p.name = t.plan
    LEFT JOIN control.quota_overrides o
        ON o.tenant_id = t.id AND o.quota = quota_limit.quota AND (o.ends_at IS NULL OR o.ends_at > quota_limit.at)
    WHERE t.id = quota_limit.tenant;
END;

-- Raises an error if a tenant exceeds a quota; otherwise returns its usage.
CREATE FUNCTION isola.quota_counted(tenant uuid, home text, quota text, most bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    used bigint := isola.quota_used(tenant, home, quota, most + 1);
BEGIN
    IF used > most THEN
        RAISE EXCEPTION 'no place is left' USING ERRCODE = 'IS003', TABLE = quota, CONSTRAINT = most;
    END IF;
    RETURN used;
END $$;

-- Enforces quotas at commit. If the tenant's plan has quotas, or the tenant has overrides, transactions that add rows
-- wait for each other here, all on the same row, so they cannot deadlock: of several that each take the last place, all
-- but one are rejected, and each waits at most for a commit.
--
-- The last count is stored, plus all additions since; deletions are not subtracted. So the stored bound is never below
-- the actual usage, and nothing is counted while it is within the quota. Giving a tenant another plan, or changing its
-- overrides, has its usage counted anew. An override that has ended is no limit any more, but transactions still wait
-- for each other until it is removed.
CREATE FUNCTION isola.quota_keep() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    most bigint;
    bound bigint;
BEGIN
    -- With the plan that is built in, which has no quotas, this is all there is to do.
    IF EXISTS (SELECT FROM control.tenants t WHERE t.id = NEW.tenant_id AND t.plan = 'unlimited')
       AND NOT EXISTS (SELECT FROM control.quota_overrides o WHERE o.tenant_id = NEW.tenant_id) THEN
        RETURN NULL;
    END IF;
    INSERT INTO control.quota_turns (tenant_id) VALUES (NEW.tenant_id) ON CONFLICT DO NOTHING;
    PERFORM FROM control.quota_turns WHERE tenant_id = NEW.tenant_id FOR UPDATE;
    most := isola.quota_limit(NEW.tenant_id, NEW.quota, clock_timestamp());
    UPDATE control.quota_bounds SET at_most = at_most + NEW.added
    WHERE tenant_id = NEW.tenant_id AND quota = NEW.quota RETURNING at_most INTO bound;
    IF bound <= most OR most IS NULL THEN
        RETURN NULL;
    END IF;
    bound := isola.quota_counted(NEW.tenant_id, NEW.home, NEW.quota, most);
    INSERT INTO control.quota_bounds (tenant_id, quota, at_most) VALUES (NEW.tenant_id, NEW.quota, bound)
    ON CONFLICT (tenant_id, quota) DO UPDATE SET at_most = excluded.at_most;
    RETURN NULL;
END $$;

-- If a stored bound is close to the quota, a statement that exceeds the quota fails at once, not at commit.
CREATE FUNCTION isola.quota_keep_at_once() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    most bigint;
    bound bigint;
BEGIN
    SELECT at_most INTO bound FROM control.quota_bounds WHERE tenant_id = NEW.tenant_id AND quota = NEW.quota;
    IF bound IS NULL THEN
        RETURN NULL;
    END IF;
    most := isola.quota_limit(NEW.tenant_id, NEW.quota, clock_timestamp());
    IF bound + NEW.added > most THEN
        PERFORM isola.quota_counted(NEW.tenant_id, NEW.home, NEW.quota, most);
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER quota_at_once AFTER INSERT ON control.audit_pending
FOR EACH ROW WHEN (new.quota IS NOT NULL) EXECUTE FUNCTION isola.quota_keep_at_once();
CREATE CONSTRAINT TRIGGER quota AFTER INSERT ON control.audit_pending DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW WHEN (new.quota IS NOT NULL) EXECUTE FUNCTION isola.quota_keep();

-- The plan of the bound tenant.
CREATE FUNCTION isola.plan() RETURNS TABLE (name text, title text, price numeric, currency text, period text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT p.name, p.title, p.price, p.currency, p.period FROM control.tenants t JOIN control.plans p ON p.name = t.plan
    WHERE t.id = (SELECT isola.bound_tenant());
END;

-- All quotas, and the limits of the bound tenant; NULL if there is no limit. ``until`` is the end of an override. The use of
-- storage was measured at ``measured_at``; that of all others is counted when it is asked for.
CREATE FUNCTION isola.quotas() RETURNS TABLE (id text, allowed bigint, until timestamptz, measured_at timestamptz)
LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT c.quota, isola.quota_limit(t.id, c.quota, statement_timestamp()), o.ends_at,
        CASE c.quota WHEN 'storage' THEN s.measured_at END
    FROM control.tenants t
    CROSS JOIN (SELECT counted.quota FROM control.counted UNION SELECT 'storage') c
    LEFT JOIN control.storage s ON s.tenant_id = t.id
    LEFT JOIN control.quota_overrides o
        ON o.tenant_id = t.id AND o.quota = c.quota AND o.ends_at > statement_timestamp()
    WHERE t.id = (SELECT isola.bound_tenant());
END;

-- The bound tenant's current usage of a quota.
CREATE FUNCTION isola.used(quota text) RETURNS bigint LANGUAGE plpgsql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    bound uuid := isola.bound_tenant();
BEGIN
    RETURN isola.quota_used(bound, (SELECT home FROM control.tenants WHERE id = bound), quota, NULL);
END $$;
