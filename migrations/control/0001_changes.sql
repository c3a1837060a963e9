-- What servers are to forget: see app/isola/platform/changes.py.

-- Has every server forget what it knows of a key of the bound tenant, when this transaction commits. The tenant comes
-- first in what is heard, so nobody can speak of another's. A transaction announces 100 changes at most: SQL inside a
-- tenant could otherwise keep every server busy with announcements, and the changes of other tenants waiting.
CREATE FUNCTION isola.announce(kind text, key text) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
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

-- A tenant is looked up by its id and by its slug. Whoever changes its entry, by whatever way, is heard.
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
