-- Cache invalidation on the servers: see app/isola/platform/changes.py.

-- When this transaction commits, every server drops what it has cached for a key of the bound tenant. The announced key
-- begins with the tenant, so a tenant cannot invalidate another tenant's entries. The limit is 100 changes per
-- transaction: otherwise SQL inside a tenant could flood every server and delay the changes of other tenants.
CREATE FUNCTION isola.announce(kind text, key text) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    tenant uuid := isola.bound_tenant();
BEGIN
    IF (
        SELECT count(*) FROM (
            SELECT FROM control.changes c WHERE c.transaction = pg_current_xact_id()::text::bigint LIMIT 100
        ) announced
    ) = 100 THEN
        RAISE EXCEPTION 'a transaction announces at most 100 changes' USING ERRCODE = 'program_limit_exceeded';
    END IF;
    INSERT INTO control.changes (kind, key) VALUES (announce.kind, tenant::text || '/' || announce.key);
END $$;

-- Tenants are cached by id and by slug. Every change to an entry is announced, however it is made.
CREATE FUNCTION control.announce_tenant() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO control.changes (kind, key) VALUES ('tenant', new.id::text), ('tenant', new.slug);
    IF TG_OP = 'UPDATE' AND old.slug <> new.slug THEN
        INSERT INTO control.changes (kind, key) VALUES ('tenant', old.slug);
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER announce AFTER INSERT OR UPDATE ON control.tenants
FOR EACH ROW EXECUTE FUNCTION control.announce_tenant();
