-- Partners on other installations: see docs/federation.md. At the owner's, such a partner is a tenant of its own, which nobody
-- signs in to. A server makes it, with its row in control.remote_partners; tenants can do neither. The functions below make it a
-- partner of the tenant that it was made for, and pin the key that its installation signs with.

-- Makes the bound tenant and a partner that was made for it partners, and pins a key. ``refused``: ``remote`` if there is no such
-- partner or it is suspended, ``blocked`` if the tenant has blocked it, ``partner`` if it is a partner already.
CREATE FUNCTION isola.add_remote_partner(remote uuid, pinned jsonb, OUT partnership uuid, OUT refused text) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
#variable_conflict use_column
DECLARE
    own uuid := isola.bound_tenant();
    made uuid := isola.uuid_v7();
    row control.remote_partners;
BEGIN
    PERFORM isola.take_turn(own);
    PERFORM FROM control.remote_partners r JOIN control.sharers t ON t.id = r.tenant_id
    WHERE r.tenant_id = remote AND r.owner_id = own;
    IF NOT FOUND THEN
        refused := 'remote';
    ELSIF isola.has_blocked(own, remote) THEN
        refused := 'blocked';
    ELSIF EXISTS (SELECT FROM control.partners WHERE tenant_id = own AND partner_id = remote) THEN
        refused := 'partner';
    END IF;
    IF refused IS NOT NULL THEN
        RETURN;
    END IF;
    PERFORM isola.begin_partnership(made, remote, own, now(), NULL);
    UPDATE control.remote_partners r
    SET partnership_id = made, key = pinned, pinned_by = isola.current_user_id(), pinned_at = now()
    WHERE r.tenant_id = remote
    RETURNING * INTO row;
    PERFORM isola.note_remote_partner(NULL, to_jsonb(row));
    partnership := made;
END $$;

-- Writes into the bound tenant's log what became of a partner on another installation.
CREATE FUNCTION isola.note_remote_partner(before jsonb, after jsonb) RETURNS void LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT isola.audit_note(
        'control.remote_partners'::regclass, 'control',
        '[0:3]={remote_partner,"{owner_id,partnership_id}",prt_,partnership_id}'::text[],
        CASE WHEN before IS NOT NULL THEN ARRAY[before] END, ARRAY[after]
    );
END;

-- Pins another key for a partner of the bound tenant: tokens that the former one signed are refused from then on. False if there
-- is no such partnership with a partner on another installation.
CREATE FUNCTION isola.pin_remote_key(partnership uuid, pinned jsonb) RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    own uuid := isola.bound_tenant();
    before control.remote_partners;
    after control.remote_partners;
BEGIN
    SELECT r.* INTO before FROM control.remote_partners r
    WHERE r.owner_id = own AND r.partnership_id = partnership
      AND EXISTS (SELECT FROM control.partners p WHERE p.id = partnership AND p.tenant_id = own)
    FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE control.remote_partners r SET key = pinned, pinned_by = isola.current_user_id(), pinned_at = now()
    WHERE r.tenant_id = before.tenant_id
    RETURNING * INTO after;
    PERFORM isola.note_remote_partner(to_jsonb(before), to_jsonb(after));
    RETURN true;
END $$;

-- The partners of the bound tenant on other installations, by the ids of the partnerships.
CREATE FUNCTION isola.remote_partners()
RETURNS TABLE (id uuid, slug text, name text, installation text, remote_id uuid, key jsonb, pinned_at timestamptz)
LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
BEGIN ATOMIC
    SELECT p.id, t.slug, t.name, r.installation, r.remote_id, r.key, r.pinned_at
    FROM control.remote_partners r
    JOIN control.partners p ON p.id = r.partnership_id AND p.tenant_id = r.owner_id
    JOIN control.tenants t ON t.id = r.tenant_id
    WHERE r.owner_id = (SELECT isola.bound_tenant());
END;

-- At the partner's: remembers a partnership with a tenant of another installation. ``refused``: ``again`` if it is known,
-- ``many`` if there are 100.
CREATE FUNCTION isola.add_remote_owner(name text, installation text, partnership uuid, OUT added uuid, OUT refused text)
LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
#variable_conflict use_column
DECLARE
    own uuid := isola.bound_tenant();
BEGIN
    PERFORM isola.take_turn(own);
    IF (SELECT count(*) FROM control.remote_owners WHERE tenant_id = own) >= 100 THEN
        refused := 'many';
        RETURN;
    END IF;
    INSERT INTO control.remote_owners AS o (tenant_id, name, installation, partnership_id, added_by)
    VALUES (
        own, add_remote_owner.name, add_remote_owner.installation, add_remote_owner.partnership, isola.current_user_id()
    )
    ON CONFLICT DO NOTHING
    RETURNING o.id INTO added;
    refused := CASE WHEN added IS NULL THEN 'again' END;
END $$;

CREATE FUNCTION isola.remove_remote_owner(remote uuid) RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
BEGIN
    DELETE FROM control.remote_owners o WHERE o.id = remote AND o.tenant_id = isola.bound_tenant();
    RETURN FOUND;
END $$;

CREATE FUNCTION isola.remote_owners()
RETURNS TABLE (id uuid, name text, installation text, partnership_id uuid, added_at timestamptz) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
BEGIN ATOMIC
    SELECT o.id, o.name, o.installation, o.partnership_id, o.added_at
    FROM control.remote_owners o WHERE o.tenant_id = (SELECT isola.bound_tenant());
END;

-- What a token for that tenant of another installation has to say, with a new id, which the log of the bound tenant has as well.
-- No row if there is no such tenant. The server signs the token; nothing here has the key.
CREATE FUNCTION isola.note_remote_token(remote uuid, lasting interval)
RETURNS TABLE (token_id uuid, installation text, partnership_id uuid, issued_at timestamptz, expires_at timestamptz)
LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
#variable_conflict use_column
DECLARE
    owner control.remote_owners;
BEGIN
    SELECT o.* INTO owner FROM control.remote_owners o WHERE o.id = remote AND o.tenant_id = isola.bound_tenant();
    IF NOT FOUND THEN
        RETURN;
    END IF;
    token_id := gen_random_uuid();
    installation := owner.installation;
    partnership_id := owner.partnership_id;
    issued_at := date_trunc('second', clock_timestamp());
    expires_at := issued_at + lasting;
    PERFORM isola.audit_note(
        'control.remote_owners'::regclass, 'control', '[0:3]={remote_token,"{id}",rem_,id}'::text[], NULL,
        ARRAY[jsonb_build_object(
            'id', owner.id, 'installation', installation, 'partnership', concat('prt_', partnership_id),
            'token_id', token_id, 'expires_at', expires_at
        )]
    );
    RETURN NEXT;
END $$;

CREATE TRIGGER audit_insert AFTER INSERT ON control.remote_owners REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('remote_owner', '{}', 'rem_', 'id');
CREATE TRIGGER audit_delete AFTER DELETE ON control.remote_owners REFERENCING OLD TABLE AS old_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('remote_owner', '{}', 'rem_', 'id');
