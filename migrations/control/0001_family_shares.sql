-- Shares of a parent with its children. Each is one row of control.shares, without a grantee and with the owner's id as
-- that of its partnership. Who receives it is decided when it is read: the tenants that are directly below the owner in
-- that moment. So a child that comes later has it, and one that leaves has it no more.
--
-- A child must not learn of its parent or of siblings. It does not see the owner; each child has another id for the same
-- share; and none was shared before it came.

-- Gives a tenant that comes below a parent what hides it there: a key for the ids of what it receives, and the time.
CREATE FUNCTION control.become_child() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.child_key := gen_random_uuid();
    NEW.child_since := now();
    RETURN NEW;
END $$;

CREATE TRIGGER become_child_insert BEFORE INSERT ON control.tenants
FOR EACH ROW WHEN (new.parent_id IS NOT NULL) EXECUTE FUNCTION control.become_child();
CREATE TRIGGER become_child_update BEFORE UPDATE ON control.tenants
FOR EACH ROW WHEN (new.parent_id IS NOT NULL AND old.parent_id IS DISTINCT FROM new.parent_id)
EXECUTE FUNCTION control.become_child();

-- 64 bits of a hash of the half of an id, for one round.
CREATE FUNCTION control.hashed_half(half bigint, key uuid, round int) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
RETURN ('x' || encode(substr(
    sha256(uuid_send(key) || int4send(round) || int8send(half)), 1, 8
), 'hex'))::bit(64)::bigint;

-- A permutation of ids by a key, which cannot be told from a random one without the key: a Feistel network of four
-- rounds (Luby and Rackoff, 1988). The rounds in the reverse order give the inverse.
CREATE FUNCTION control.permuted(id uuid, key uuid, rounds int[]) RETURNS uuid LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    one bigint := ('x' || encode(substr(uuid_send(id), 1, 8), 'hex'))::bit(64)::bigint;
    other bigint := ('x' || encode(substr(uuid_send(id), 9, 8), 'hex'))::bit(64)::bigint;
    kept bigint;
    round int;
BEGIN
    FOREACH round IN ARRAY rounds LOOP
        kept := other;
        other := one # control.hashed_half(other, key, round);
        one := kept;
    END LOOP;
    RETURN encode(int8send(other) || int8send(one), 'hex')::uuid;
END $$;

-- The id that a child has for a share with its parent's children, and the share of which a child has such an id.
CREATE FUNCTION control.id_of_child(share uuid, key uuid) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
RETURN control.permuted(share, key, '{1,2,3,4}');
CREATE FUNCTION control.id_of_parent(received uuid, key uuid) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
RETURN control.permuted(received, key, '{4,3,2,1}');

-- The current shares with children, once for each child. Left out are rows that the child has received from its parent
-- as a partner, at any time: it would learn from their values who its parent is.
CREATE VIEW control.family_shares WITH (security_invoker = true) AS
SELECT control.id_of_child(s.id, c.child_key) AS id, s.id AS share_id, c.child_key, c.id AS grantee_id,
    s.owner_id, s.subject, s.row_id, s.partnership_id, s.granted_by,
    greatest(s.granted_at, c.child_since) AS granted_at, s.expires_at, s.fields, s.note, s.access
FROM control.tenants c JOIN control.shares s ON s.owner_id = c.parent_id AND s.partnership_id = c.parent_id
WHERE s.revoked_at IS NULL AND NOT s.lapsed AND (s.expires_at IS NULL OR s.expires_at > statement_timestamp())
  AND NOT EXISTS (
      SELECT FROM control.shares o
      WHERE o.grantee_id = c.id AND o.owner_id = s.owner_id AND o.row_id = s.row_id AND o.subject = s.subject
  );

-- Shares one of the bound tenant's own rows with all its children, as the proved user, who needs the permission
-- family:read. As isola.share(), but ``refused`` is ``children`` if there are none, and ``again`` while the row is
-- shared with them.
CREATE FUNCTION isola.share_with_children(
    of_subject text, of_row uuid, chosen text[], until timestamptz, remark text, OUT share uuid, OUT refused text
) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    owner uuid := isola.bound_tenant();
    granted text[] := isola.granted_columns(of_subject, chosen);
BEGIN
    IF NOT isola.may_read(owner, of_subject, of_row)
       OR ('family:read' = ANY (isola.current_permissions())) IS NOT TRUE
       OR NOT EXISTS (SELECT FROM control.tenants c WHERE c.parent_id = owner) THEN
        refused := 'children';
    ELSIF granted IS NULL THEN
        refused := 'fields';
    ELSE
        share := isola.make_share(owner, of_subject, of_row, NULL, NULL, owner, granted, until, remark, 'read');
        refused := CASE WHEN share IS NULL THEN 'again' END;
    END IF;
END $$;
