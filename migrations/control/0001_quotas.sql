-- Quotas of plans, kept by the database: whatever adds, by whatever way, is counted when its transaction commits.
-- All of it runs as isola_quotas, which has no login and may read what is counted, and nothing else.

-- The quota that a noted change takes a place of; NULL if it takes none. A change by which something comes back, such
-- as a share that is renewed after its end, takes one as well.
CREATE FUNCTION isola.quota_taken(change jsonb) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE change ->> 0
    WHEN 'resource:create' THEN 'resources'
    WHEN 'user:create' THEN CASE WHEN change -> 3 ->> 'seen_at' IS NOT NULL THEN 'users' END
    WHEN 'user:update' THEN CASE
        WHEN change -> 3 ->> 'seen_at' IS NOT NULL OR change -> 2 ->> 'disabled_at' IS NOT NULL THEN 'users'
    END
    WHEN 'api_key:create' THEN 'api_keys'
    WHEN 'domain:create' THEN 'domains'
    WHEN 'share:create' THEN 'shares'
    WHEN 'share:update' THEN CASE
        WHEN (change -> 2 ->> 'expires_at')::timestamptz <= statement_timestamp() THEN 'shares'
    END
END;

-- How many places of a quota are taken now, counted as far as ``at_most``; all of them where that is NULL. Whoever asks
-- has to be bound to the tenant, and may read what is counted.
CREATE FUNCTION isola.quota_used(tenant uuid, home text, quota text, at_most bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    used bigint;
BEGIN
    CASE quota
        WHEN 'resources' THEN
            EXECUTE format('SELECT count(*) FROM (SELECT FROM %I.resources LIMIT $1) taken', home)
            INTO used USING at_most;
        WHEN 'users' THEN
            EXECUTE format(
                'SELECT count(*) FROM ('
                'SELECT FROM %I.users WHERE seen_at IS NOT NULL AND disabled_at IS NULL LIMIT $1) taken', home
            ) INTO used USING at_most;
        WHEN 'api_keys' THEN
            SELECT count(*) INTO used FROM (
                SELECT FROM control.api_keys
                WHERE tenant_id = tenant AND revoked_at IS NULL
                  AND (expires_at IS NULL OR expires_at > statement_timestamp())
                LIMIT at_most
            ) taken;
        WHEN 'domains' THEN
            SELECT count(*) INTO used FROM (SELECT FROM control.domains WHERE tenant_id = tenant LIMIT at_most) taken;
        WHEN 'shares' THEN
            SELECT count(*) INTO used FROM (
                SELECT FROM control.shares
                WHERE owner_id = tenant AND revoked_at IS NULL
                  AND (expires_at IS NULL OR expires_at > statement_timestamp())
                LIMIT at_most
            ) taken;
    END CASE;
    RETURN used;
END $$;

-- Refuses a tenant that has more than a quota allows; how much it has where it has not.
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

-- Keeps quotas when a transaction commits. By then the trigger ``link``, whose name comes before, holds the head of the
-- tenant's log, as for every transaction that adds anything: so of several that each take the last place all but one
-- find it taken, and nobody waits longer than for a commit.
--
-- What was counted once is remembered, with all that was added since; what was given up since is not taken off. So it
-- is never less than there is, and as long as it is within the quota, nothing is counted. It is kept up, too, while
-- there is no quota.
CREATE FUNCTION isola.quota_keep() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    allowed jsonb;
    taken record;
    most bigint;
    bound bigint;
BEGIN
    -- With the plan that is built in, which has no quotas, this is all there is to do.
    IF NOT EXISTS (
        SELECT FROM control.tenants t WHERE t.id = NEW.tenant_id
          AND (t.plan <> 'unlimited' OR EXISTS (SELECT FROM control.quota_bounds b WHERE b.tenant_id = t.id))
    ) THEN
        RETURN NULL;
    END IF;
    SELECT p.quotas INTO allowed FROM control.tenants t JOIN control.plans p ON p.name = t.plan
    WHERE t.id = NEW.tenant_id;
    FOR taken IN
        SELECT isola.quota_taken(change) AS quota, count(*) AS added FROM unnest(NEW.changes) change GROUP BY 1
    LOOP
        UPDATE control.quota_bounds SET at_most = at_most + taken.added
        WHERE tenant_id = NEW.tenant_id AND quota = taken.quota RETURNING at_most INTO bound;
        most := allowed ->> taken.quota;
        IF bound <= most THEN
            CONTINUE;
        END IF;
        IF most IS NOT NULL THEN
            bound := isola.quota_counted(NEW.tenant_id, NEW.home, taken.quota, most);
            INSERT INTO control.quota_bounds (tenant_id, quota, at_most) VALUES (NEW.tenant_id, taken.quota, bound)
            ON CONFLICT (tenant_id, quota) DO UPDATE SET at_most = excluded.at_most;
        END IF;
    END LOOP;
    RETURN NULL;
END $$;

-- Where it is known that little is left, a statement that shows that there is no place is refused at once.
CREATE FUNCTION isola.quota_keep_at_once() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    short record;
BEGIN
    IF NOT EXISTS (SELECT FROM control.quota_bounds WHERE tenant_id = NEW.tenant_id) THEN
        RETURN NULL;
    END IF;
    FOR short IN
        SELECT taken.quota, (p.quotas ->> taken.quota)::bigint AS most
        FROM control.tenants t
        JOIN control.plans p ON p.name = t.plan
        CROSS JOIN (
            SELECT isola.quota_taken(change), count(*) FROM unnest(NEW.changes) change GROUP BY 1
        ) taken (quota, added)
        JOIN control.quota_bounds b ON b.tenant_id = t.id AND b.quota = taken.quota
        WHERE t.id = NEW.tenant_id AND b.at_most + taken.added > (p.quotas ->> taken.quota)::bigint
    LOOP
        PERFORM isola.quota_counted(NEW.tenant_id, NEW.home, short.quota, short.most);
    END LOOP;
    RETURN NULL;
END $$;

CREATE TRIGGER quota_at_once AFTER INSERT ON control.audit_staged
FOR EACH ROW WHEN (
    new.changes[1] ->> 0 IN (
        'resource:create', 'user:create', 'user:update', 'api_key:create', 'domain:create', 'share:create',
        'share:update'
    )
) EXECUTE FUNCTION isola.quota_keep_at_once();
CREATE CONSTRAINT TRIGGER quota AFTER INSERT ON control.audit_staged DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW WHEN (
    new.changes[1] ->> 0 IN (
        'resource:create', 'user:create', 'user:update', 'api_key:create', 'domain:create', 'share:create',
        'share:update'
    )
) EXECUTE FUNCTION isola.quota_keep();

-- The plan of the bound tenant.
CREATE FUNCTION isola.plan() RETURNS TABLE (name text, title text) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT p.name, p.title FROM control.tenants t JOIN control.plans p ON p.name = t.plan
    WHERE t.id = (SELECT isola.bound_tenant());
END;

-- Every quota that there is, and what the bound tenant's plan allows of it; NULL where there is no limit.
CREATE FUNCTION isola.quotas() RETURNS TABLE (id text, allowed bigint) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT quota, (p.quotas ->> quota)::bigint
    FROM control.tenants t
    JOIN control.plans p ON p.name = t.plan,
    unnest(ARRAY['api_keys', 'domains', 'resources', 'shares', 'users']) quota
    WHERE t.id = (SELECT isola.bound_tenant());
END;

-- How many places of a quota the bound tenant has taken.
CREATE FUNCTION isola.used(quota text) RETURNS bigint LANGUAGE plpgsql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    bound uuid := isola.bound_tenant();
BEGIN
    RETURN isola.quota_used(bound, (SELECT home FROM control.tenants WHERE id = bound), quota, NULL);
END $$;
