-- Puts what was noted into the log, as in 0007_moves.sql. Of whoever gets the head without waiting for it, it is asked
-- once whether the tenant is being moved. The log is found by the search path, so the statement stays planned for as
-- long as a session writes in the same home; it comes last, since nothing else is to be looked for there.
CREATE OR REPLACE FUNCTION isola.audit_link() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    head control.audit_heads;
    first bigint;
    ids uuid[];
    hashes bytea[];
    change jsonb;
BEGIN
    SELECT * INTO head FROM control.audit_heads WHERE tenant_id = NEW.tenant_id FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        PERFORM isola.audit_placed(NEW.tenant_id, NEW.home);
        INSERT INTO control.audit_heads (tenant_id) VALUES (NEW.tenant_id) ON CONFLICT DO NOTHING;
        SELECT * INTO head FROM control.audit_heads WHERE tenant_id = NEW.tenant_id FOR UPDATE;
    END IF;
    PERFORM isola.audit_placed(NEW.tenant_id, NEW.home);
    first := head.entries;
    FOREACH change IN ARRAY NEW.changes LOOP
        head.entries := head.entries + 1;
        ids := ids || isola.uuid_v7();
        head.hash := sha256(head.hash || convert_to(jsonb_build_array(
            NEW.tenant_id, head.entries, ids[cardinality(ids)], extract(epoch FROM NEW.at),
            NEW.actor, NEW.on_behalf_of, NEW.request, change -> 0, change -> 1, change -> 2, change -> 3
        )::text, 'UTF8'));
        hashes := hashes || head.hash;
    END LOOP;
    UPDATE control.audit_heads SET entries = head.entries, hash = head.hash WHERE tenant_id = NEW.tenant_id;
    DELETE FROM control.audit_staged WHERE id = NEW.id;
    PERFORM set_config('search_path', quote_ident(NEW.home) || ', pg_temp', true);
    INSERT INTO audit_entries (id, number, at, actor, on_behalf_of, request, action, object, old, new, hash)
    SELECT linked.id, first + place, NEW.at, NEW.actor, NEW.on_behalf_of, NEW.request, made ->> 0, made ->> 1,
        nullif(made -> 2, 'null'), nullif(made -> 3, 'null'), linked.hash
    FROM unnest(ids, NEW.changes, hashes) WITH ORDINALITY linked (id, made, hash, place);
    RETURN NULL;
END $$;
