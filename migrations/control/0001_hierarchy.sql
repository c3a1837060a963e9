-- The hierarchy of tenants. All functions run with the rights of their caller.

-- The ancestors of a tenant, nearest first.
CREATE FUNCTION control.ancestors(tenant uuid) RETURNS uuid[] LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH RECURSIVE above (id, place) AS (
        SELECT parent_id, 1 FROM control.tenants WHERE tenants.id = tenant
        UNION ALL
        SELECT t.parent_id, place + 1 FROM above JOIN control.tenants t ON t.id = above.id
    )
    SELECT coalesce(array_agg(id ORDER BY place), '{}') FROM above WHERE id IS NOT NULL;
END;

-- The descendants of a tenant, each with its depth below it.
CREATE FUNCTION control.descendants(tenant uuid) RETURNS TABLE (id uuid, depth int) LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH RECURSIVE below (id, depth) AS (
        SELECT t.id, 1 FROM control.tenants t WHERE t.parent_id = tenant
        UNION ALL
        SELECT t.id, below.depth + 1 FROM below JOIN control.tenants t ON t.parent_id = below.id
    )
    SELECT below.id, below.depth FROM below;
END;

-- Whether an ancestor of a tenant is not active.
CREATE FUNCTION control.below_inactive(tenant uuid) RETURNS boolean LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT EXISTS (
        SELECT FROM control.tenants above WHERE above.id = ANY (control.ancestors(tenant)) AND above.status <> 'active'
    );
END;

-- The effective status of a tenant: an active tenant with an ancestor that is not active counts as suspended.
CREATE FUNCTION control.status_of(tenant uuid) RETURNS text LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT CASE
        WHEN t.status = 'active' AND t.parent_id IS NOT NULL AND control.below_inactive(t.id) THEN 'suspended'
        ELSE t.status
    END
    FROM control.tenants t WHERE t.id = tenant;
END;

-- Keeps the hierarchy a forest of at most 8 levels. A change of the hierarchy or of a tenant's status in it holds a
-- lock until the transaction ends: so each change sees the earlier ones, and one of them announces the descendants. It
-- is a lock on the table that conflicts with itself and neither with reading nor with writing, since any SQL could take
-- an advisory lock.
CREATE FUNCTION control.keep_hierarchy() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s' AS $$
DECLARE
    above uuid[];
    levels int;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'a snapshot from before the lock does not show what it guards'
        USING ERRCODE = 'serialization_failure';
    END IF;
    LOCK TABLE control.tenants IN SHARE UPDATE EXCLUSIVE MODE;
    IF NEW.status = 'deleted' THEN
        IF EXISTS (SELECT FROM control.tenants WHERE parent_id = NEW.id) THEN
            RAISE EXCEPTION 'there are tenants below' USING ERRCODE = 'restrict_violation', TABLE = 'tenants';
        END IF;
        NEW.parent_id := NULL;
    END IF;
    IF NEW.parent_id IS NULL THEN
        RETURN NEW;
    END IF;
    IF NOT EXISTS (SELECT FROM control.tenants WHERE id = NEW.parent_id AND status <> 'deleted') THEN
        RAISE EXCEPTION 'there is no such parent' USING ERRCODE = 'foreign_key_violation', TABLE = 'tenants';
    END IF;
    above := NEW.parent_id || control.ancestors(NEW.parent_id);
    IF NEW.id = ANY (above) THEN
        RAISE EXCEPTION 'a tenant cannot be below itself'
        USING ERRCODE = 'check_violation', TABLE = 'tenants', CONSTRAINT = 'ck_tenants_not_below_itself';
    END IF;
    SELECT cardinality(above) + 1 + coalesce(max(depth), 0) INTO levels FROM control.descendants(NEW.id);
    IF levels > 8 THEN
        RAISE EXCEPTION 'the hierarchy would have more than 8 levels'
        USING ERRCODE = 'check_violation', TABLE = 'tenants', CONSTRAINT = 'ck_tenants_at_most_8_levels';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER hierarchy_insert BEFORE INSERT ON control.tenants
FOR EACH ROW WHEN (new.parent_id IS NOT NULL) EXECUTE FUNCTION control.keep_hierarchy();
CREATE TRIGGER hierarchy_update BEFORE UPDATE ON control.tenants
FOR EACH ROW WHEN (old.parent_id IS DISTINCT FROM new.parent_id OR old.status <> new.status)
EXECUTE FUNCTION control.keep_hierarchy();

-- Invalidates what servers have cached about the descendants of a changed tenant.
CREATE FUNCTION control.announce_descendants() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO control.changes (kind, key)
    SELECT 'tenant', unnest(ARRAY[t.id::text, t.slug])
    FROM control.descendants(new.id) d JOIN control.tenants t ON t.id = d.id;
    RETURN NULL;
END $$;

CREATE TRIGGER announce_descendants AFTER UPDATE ON control.tenants
FOR EACH ROW WHEN (old.parent_id IS DISTINCT FROM new.parent_id OR old.status <> new.status)
EXECUTE FUNCTION control.announce_descendants();
