-- Moving a tenant to another home: see docs/moving.md. From the moment that it is marked as moving nothing more is
-- written in the home that it leaves, and from the moment that it has moved nothing is read there, whatever servers
-- know: what keeps them out is here.

-- The tenant that a transaction has proved to be in, as in 0001_binding.sql. A transaction that says by isola.home in
-- which home it is finds out here if that is no more the tenant's, as of the same moment at which it reads rows. Which
-- tenants moved lately stands beside the key, so that all others pay next to nothing for it.
CREATE OR REPLACE FUNCTION isola.current_tenant_id() RETURNS uuid LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tenant text := current_setting('isola.tenant', true);
    proof text := current_setting('isola.proof', true);
    key control.binding_key;
BEGIN
    IF tenant IS NULL OR tenant = '' THEN
        RETURN NULL;
    END IF;
    SELECT * INTO key FROM control.binding_key;
    IF right(proof, 64) = encode(sha256(key.outer || sha256(key.inner || (tenant || left(proof, -64))::bytea)), 'hex')
        AND split_part(proof, '.', 3) IN ('0', pg_backend_pid()::text)
        AND to_timestamp(split_part(proof, '.', 2)::float8)
            BETWEEN transaction_timestamp() - interval '10 s' AND transaction_timestamp() + interval '10 s'
    THEN
        IF tenant::uuid = ANY (key.moved) THEN
            -- A condition of its own: with a query in it, it is not evaluated the quick way.
            IF EXISTS (
                SELECT FROM control.tenants
                WHERE id = tenant::uuid AND home <> nullif(current_setting('isola.home', true), '')
            ) THEN
                RAISE EXCEPTION 'the home of the tenant is another by now' USING ERRCODE = 'IS004';
            END IF;
        END IF;
        RETURN tenant::uuid;
    END IF;
    RAISE EXCEPTION 'the binding of this transaction is not proved' USING ERRCODE = 'IS002';
END $$;

-- The resource that a share grants to the bound tenant, as in 0001_sharing.sql: now in the owner's home by name, so
-- that one who moves away meanwhile is not taken for one who has no such resource.
CREATE OR REPLACE FUNCTION isola.shared_resource(share uuid)
RETURNS TABLE (
    id uuid, name text, kind text, data jsonb, size_bytes bigint, created_at timestamptz, updated_at timestamptz
) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    grantee uuid := isola.bound_tenant();
    grantees_proof text := current_setting('isola.proof');
    grantees_home text := coalesce(current_setting('isola.home', true), '');
    owner uuid;
    owners_home text;
    resource uuid;
BEGIN
    SELECT s.owner_id, t.home, s.resource_id INTO owner, owners_home, resource
    FROM control.live_shares s JOIN control.tenants t ON t.id = s.owner_id AND t.status = 'active'
    WHERE s.id = share AND s.grantee_id = grantee;
    IF owner IS NULL THEN
        RETURN;
    END IF;
    PERFORM set_config('isola.tenant', owner::text, true), set_config('isola.proof', isola.proof(owner), true),
        set_config('isola.home', owners_home, true);
    RETURN QUERY EXECUTE format(
        'SELECT id, name, kind, data, size_bytes, created_at, updated_at FROM %I.resources WHERE id = $1', owners_home
    ) USING resource;
    PERFORM set_config('isola.tenant', grantee::text, true), set_config('isola.proof', grantees_proof, true),
        set_config('isola.home', grantees_home, true);
END $$;

-- Whether what is done to a table is done by its owner, who migrates, moves and erases.
CREATE FUNCTION isola.audit_of_owner(changed oid) RETURNS boolean LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
RETURN (SELECT pg_get_userbyid(relowner) = session_user FROM pg_class WHERE oid = changed);

-- Fires for each statement, as in 0005_audit.sql: now what the owner does, to a whole home at a time, is not even
-- gathered.
CREATE OR REPLACE FUNCTION isola.audit() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF isola.audit_of_owner(TG_RELID) THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'INSERT' THEN
        PERFORM isola.audit_note(TG_RELID, TG_ARGV, NULL, (SELECT array_agg(to_jsonb(n)) FROM new_rows n));
    ELSIF TG_OP = 'DELETE' THEN
        PERFORM isola.audit_note(TG_RELID, TG_ARGV, (SELECT array_agg(to_jsonb(o)) FROM old_rows o), NULL);
    ELSE
        PERFORM isola.audit_note(
            TG_RELID, TG_ARGV,
            (SELECT array_agg(to_jsonb(o)) FROM old_rows o), (SELECT array_agg(to_jsonb(n)) FROM new_rows n)
        );
    END IF;
    RETURN NULL;
END $$;

-- Refuses to write in a home that the tenant is leaving or has left: it would stay behind there.
CREATE FUNCTION isola.audit_placed(tenant uuid, written text) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM control.tenants WHERE id = tenant AND (home <> written OR moving_to IS NOT NULL)) THEN
        RAISE EXCEPTION 'the tenant is being moved' USING ERRCODE = 'IS004';
    END IF;
END $$;

-- Puts what was noted into the log, as in 0005_audit.sql. Who moves a tenant holds the head of its log, having marked
-- the tenant before: so who writes is either done before anything is copied, or finds the mark here. It is looked for
-- before the head is waited for, since a move may wait for what this transaction holds; and once more with the head.
CREATE OR REPLACE FUNCTION isola.audit_link() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    head control.audit_heads;
    ids uuid[];
    hashes bytea[];
    change jsonb;
BEGIN
    PERFORM isola.audit_placed(NEW.tenant_id, NEW.home);
    SELECT * INTO head FROM control.audit_heads WHERE tenant_id = NEW.tenant_id FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO control.audit_heads (tenant_id) VALUES (NEW.tenant_id) ON CONFLICT DO NOTHING;
        SELECT * INTO head FROM control.audit_heads WHERE tenant_id = NEW.tenant_id FOR UPDATE;
    END IF;
    PERFORM isola.audit_placed(NEW.tenant_id, NEW.home);
    FOREACH change IN ARRAY NEW.changes LOOP
        head.entries := head.entries + 1;
        ids := ids || isola.uuid_v7();
        head.hash := sha256(head.hash || convert_to(jsonb_build_array(
            NEW.tenant_id, head.entries, ids[cardinality(ids)], extract(epoch FROM NEW.at),
            NEW.actor, NEW.on_behalf_of, NEW.request, change -> 0, change -> 1, change -> 2, change -> 3
        )::text, 'UTF8'));
        hashes := hashes || head.hash;
    END LOOP;
    EXECUTE format(
        'INSERT INTO %I.audit_entries '
        '(id, number, at, actor, on_behalf_of, request, action, object, old, new, hash) '
        'SELECT id, $1 + place, $2, $3, $4, $5, change ->> 0, change ->> 1, '
        'nullif(change -> 2, ''null''), nullif(change -> 3, ''null''), hash '
        'FROM unnest($6, $7, $8) WITH ORDINALITY linked (id, change, hash, place)',
        NEW.home
    ) USING head.entries - cardinality(ids), NEW.at, NEW.actor, NEW.on_behalf_of, NEW.request, ids, NEW.changes, hashes;
    UPDATE control.audit_heads SET entries = head.entries, hash = head.hash WHERE tenant_id = NEW.tenant_id;
    DELETE FROM control.audit_staged WHERE id = NEW.id;
    RETURN NULL;
END $$;
