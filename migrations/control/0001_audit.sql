-- The audit log. Triggers write an entry for every change, in the same transaction, into the log in the tenant's home.
-- Each entry carries a hash of itself; transactions do not wait for each other. Entries queue in control.audit_pending
-- until the sealer numbers them in commit order and chains them (0001_sealing.sql). All of it runs as isola_audit, a
-- role without a login whose only right in a home is to insert into the log: it cannot read, change or delete entries.

-- A row as logged: a value of more than 1,000 bytes is replaced by its hash and size.
CREATE FUNCTION isola.audit_values(changed jsonb, left_out text[]) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN octet_length(changed::text) <= 1000 THEN changed - left_out
    ELSE (
        SELECT jsonb_object_agg(key, CASE
            WHEN octet_length(value::text) <= 1000 THEN value
            ELSE jsonb_build_object(
                'sha256', encode(sha256(convert_to(value::text, 'UTF8')), 'hex'), 'size', octet_length(value::text)
            )
        END)
        FROM jsonb_each(changed - left_out)
    )
END;

-- The values of one row that differ from another row, and the columns that are always kept.
CREATE FUNCTION isola.audit_difference(this jsonb, other jsonb, kept text[]) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each(this)
    WHERE value IS DISTINCT FROM other -> key OR key = ANY (kept)
);

-- How many more rows that count towards a quota exist after a statement than before it; NULL if not more. ``deciding``
-- are the columns that decide whether a row counts: empty if every row does. The condition on them is in
-- control.counted; its text comes from a declaration, never from a client.
CREATE FUNCTION isola.audit_added(changed oid, quota text, deciding text[], before jsonb[], after jsonb[]) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    condition text;
    added bigint;
BEGIN
    IF deciding = '{}' THEN
        added := coalesce(cardinality(after), 0) - coalesce(cardinality(before), 0);
    ELSIF EXISTS (
        SELECT FROM unnest(before, after) pair (o, n), unnest(deciding) name WHERE o -> name IS DISTINCT FROM n -> name
    ) THEN
        SELECT counts INTO STRICT condition FROM control.counted c
        WHERE c.quota = audit_added.quota AND c.relation = (SELECT relname FROM pg_class WHERE oid = changed);
        EXECUTE format(
            'SELECT coalesce(sum(sign), 0) FROM ('
            'SELECT sign, r.* FROM (SELECT 1, unnest($1) UNION ALL SELECT -1, unnest($2)) noted (sign, j), '
            'jsonb_populate_record(NULL::%s, j) r) rows WHERE %s',
            changed::regclass, condition
        ) INTO added USING after, before;
    END IF;
    RETURN CASE WHEN added > 0 THEN added END;
END $$;

-- The hash of an entry, for writing and verifying: see app/isola/platform/audit.py.
CREATE FUNCTION isola.audit_hash(
    tenant uuid, id uuid, at timestamptz, actor text, on_behalf_of text, request text,
    action text, object text, old jsonb, new jsonb
) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN sha256(convert_to(jsonb_build_array(
    tenant, id, extract(epoch FROM at), actor, on_behalf_of, request, action, object, old, new
)::text, 'UTF8'));

-- Writes entries into the log of a home and queues them for sealing after the commit. The log is found by the search
-- path, so only the last statement is planned again when a session writes to another home than before; look up nothing
-- else there. For one row, which is the usual case, it is the statement that takes the least time to plan. No
-- RETURNING: it would require the right to read the log.
CREATE FUNCTION isola.audit_write(
    tenant uuid, log_of text, actor text, on_behalf_of text, request text, quota text, added bigint,
    actions text[], objects text[], olds jsonb[], news jsonb[]
) RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    ids uuid[];
    hashes bytea[];
BEGIN
    SELECT array_agg(id), array_agg(isola.audit_hash(
        tenant, id, now(), actor, on_behalf_of, request, action, object, old, new
    )) INTO ids, hashes
    FROM (
        SELECT isola.uuid_v7() AS id, c.* FROM unnest(actions, objects, olds, news) c (action, object, old, new)
    ) made;
    INSERT INTO control.audit_pending (tenant_id, home, quota, added, ids, hashes)
    VALUES (tenant, log_of, quota, added, ids, hashes);
    PERFORM set_config('search_path', quote_ident(log_of) || ', pg_temp', true);
    IF cardinality(ids) = 1 THEN
        INSERT INTO audit_entries (id, at, actor, on_behalf_of, request, action, object, old, new, hash)
        VALUES (
            ids[1], now(), actor, on_behalf_of, request, actions[1], objects[1], olds[1], news[1], hashes[1]
        );
        RETURN;
    END IF;
    INSERT INTO audit_entries (id, at, actor, on_behalf_of, request, action, object, old, new, hash)
    SELECT e.id, now(), actor, on_behalf_of, request, e.action, e.object, e.old, e.new, e.hash
    FROM unnest(ids, actions, objects, olds, news, hashes) e (id, action, object, old, new, hash);
END $$;

-- Logs the changes of a statement to the rows of a table. ``names`` are the trigger arguments, counted from 0: the name
-- of the rows, the columns left out of the log, and a prefix and a column for each of at most two parts of the key;
-- then, if row visibility is restricted, the columns that decide it, which stand in every entry; and, if the rows count
-- towards a quota, its name and the columns that decide whether a row counts. ``home`` is the schema of the table; rows
-- in control belong to the bound tenant. The bound tenant and the actor, both proved, are looked up only if a row
-- changed.
CREATE FUNCTION isola.audit_note(changed oid, home text, names text[], before jsonb[], after jsonb[])
RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    left_out text[] := array_append(names[1]::text[], 'tenant_id');
    kept text[] := coalesce(names[6]::text[], '{}');
    tenant uuid;
    proved text[];
    added bigint;
    actions text[];
    objects text[];
    olds jsonb[];
    news jsonb[];
    in_home boolean := home <> 'control';
    expired boolean := false;
    written uuid[];
BEGIN
    IF before IS NULL AND after IS NULL THEN
        RETURN;
    END IF;
    -- Also if no column changed that the log has.
    IF in_home AND before IS NOT NULL
        AND pg_advisory_xact_lock_shared(isola.share_rules_lock(isola.current_tenant_id(), names[0])) IS NOT NULL
    THEN
        written := ARRAY(SELECT (o ->> 'id')::uuid FROM unnest(before) o);
        IF EXISTS (
            SELECT FROM control.shares s
            WHERE s.row_id = ANY (written) AND s.owner_id = isola.current_tenant_id() AND s.subject = names[0]
              AND s.revoked_at IS NULL
        ) THEN
            PERFORM isola.copy_written(names[0], written);
        END IF;
    END IF;
    IF before IS NULL THEN
        SELECT array_agg(names[0] || ':create'), array_agg(concat(names[2], n ->> names[3], names[4], n ->> names[5])),
            array_agg(isola.audit_values(n, left_out))
        INTO actions, objects, news FROM unnest(after) n;
    ELSIF after IS NULL THEN
        SELECT array_agg(names[0] || ':delete'), array_agg(concat(names[2], o ->> names[3], names[4], o ->> names[5])),
            array_agg(isola.audit_values(o, left_out))
        INTO actions, objects, olds FROM unnest(before) o;
    ELSE
        SELECT array_agg(names[0] || ':update'), array_agg(key),
            array_agg(isola.audit_difference(o, n, kept)), array_agg(isola.audit_difference(n, o, kept))
        INTO actions, objects, olds, news
        FROM (
            SELECT isola.audit_values(b.j, left_out), isola.audit_values(a.j, left_out), coalesce(b.key, a.key)
            FROM (
                SELECT j, concat(names[2], j ->> names[3], names[4], j ->> names[5]) FROM unnest(before) j
            ) b (j, key)
            FULL JOIN (
                SELECT j, concat(names[2], j ->> names[3], names[4], j ->> names[5]) FROM unnest(after) j
            ) a (j, key) ON a.key = b.key
        ) changed (o, n, key)
        WHERE o IS DISTINCT FROM n;
    END IF;
    IF actions IS NULL THEN
        RETURN;
    END IF;
    tenant := isola.bound_tenant();
    proved := isola.proved_request();
    IF home = 'control' THEN
        SELECT t.home INTO home FROM control.tenants t WHERE t.id = tenant;
    END IF;
    -- Nothing is added by a tenant whose storage is full: see 0001_storage.sql.
    IF before IS NULL AND in_home THEN
        IF EXISTS (SELECT FROM control.storage s WHERE s.tenant_id = tenant AND s.bytes > s.most) THEN
            PERFORM isola.quota_keep_storage();
        END IF;
    END IF;
    IF names[7] IS NOT NULL THEN
        added := isola.audit_added(changed, names[7], names[8]::text[], before, after);
    END IF;
    -- Of rows that the tenant's plan does not keep any more, there is one entry for all: see 0001_retention.sql.
    IF after IS NULL AND in_home THEN
        expired := isola.audit_expiring(names[0], cardinality(before));
    END IF;
    IF NOT expired THEN
        PERFORM isola.audit_write(
            tenant, home, nullif(proved[3], ''), nullif(proved[4], ''), nullif(proved[5], ''),
            CASE WHEN added IS NOT NULL THEN names[7] END, added, actions, objects, olds, news
        );
    END IF;
    -- An expression of its own: it needs no executor, and the next one has a snapshot of what was committed meanwhile.
    IF in_home AND pg_advisory_xact_lock_shared(isola.share_rules_lock(tenant, names[0])) IS NOT NULL THEN
        IF EXISTS (
            SELECT FROM control.share_rules r
            WHERE r.owner_id = tenant AND r.subject = names[0] AND r.ended_at IS NULL
        ) THEN
            PERFORM isola.keep_share_rules(names[0], before, after);
        END IF;
    END IF;
END $$;

-- Whether the owner of a table, who migrates, moves and erases, makes the change.
CREATE FUNCTION isola.audit_of_owner(changed oid) RETURNS boolean LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
RETURN (SELECT pg_get_userbyid(relowner) = session_user FROM pg_class WHERE oid = changed);

-- Fires once per statement. Changes by the owner of the tables are not logged: it works on whole homes, so their rows
-- are not even collected. A session caches this function once per trigger that it fires, in each tenant's home, so the
-- body is as small as possible.
CREATE FUNCTION isola.audit() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF isola.audit_of_owner(TG_RELID) THEN
        RETURN NULL;
    END IF;
    -- With the star it is the row, even where a column has the same name.
    IF TG_OP = 'INSERT' THEN
        PERFORM isola.audit_note(
            TG_RELID, TG_TABLE_SCHEMA, TG_ARGV, NULL, (SELECT array_agg(to_jsonb(n.*)) FROM new_rows n)
        );
    ELSIF TG_OP = 'DELETE' THEN
        PERFORM isola.audit_note(
            TG_RELID, TG_TABLE_SCHEMA, TG_ARGV, (SELECT array_agg(to_jsonb(o.*)) FROM old_rows o), NULL
        );
    ELSE
        PERFORM isola.audit_note(
            TG_RELID, TG_TABLE_SCHEMA, TG_ARGV,
            (SELECT array_agg(to_jsonb(o.*)) FROM old_rows o), (SELECT array_agg(to_jsonb(n.*)) FROM new_rows n)
        );
    END IF;
    RETURN NULL;
END $$;

-- Assigns a transaction's entries their place in commit order, at commit. Rejects a commit into a home that the tenant
-- is leaving or has left, and one of a deleted tenant: the data would stay behind there.
--
-- A transaction that draws from the sequence holds a lock on it until it ends. The lock conflicts with no other such
-- lock and is visible in pg_locks. So the sealer, and the move or erasure of a tenant, can tell which transactions are
-- about to commit: once the transactions that held the lock at a moment have ended, all places drawn before that moment
-- are decided, and later transactions see every tenant that was marked as moving or deleted by that moment.
CREATE FUNCTION isola.audit_commit() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_status text;
BEGIN
    UPDATE control.audit_pending SET place = nextval('control.audit_places'), at = clock_timestamp() WHERE id = NEW.id;
    SELECT status INTO found_status FROM control.tenants
    WHERE id = NEW.tenant_id AND (home <> NEW.home OR moving_to IS NOT NULL OR status = 'deleted');
    IF found_status = 'deleted' THEN
        RAISE EXCEPTION 'the tenant is not active' USING ERRCODE = 'IS001';
    ELSIF found_status IS NOT NULL THEN
        RAISE EXCEPTION 'the tenant is being moved' USING ERRCODE = 'IS004';
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER place AFTER INSERT ON control.audit_pending DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION isola.audit_commit();

-- Changes to a tenant's data in the control plane are also logged in its home. Marking a share as lapsed is not logged:
-- no user made that change. Of shares that a rule makes, there is one entry for all: see 0001_share_rules.sql.
CREATE FUNCTION isola.audit_single_shares() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF isola.audit_of_owner(TG_RELID) THEN
        RETURN NULL;
    ELSIF TG_OP = 'INSERT' THEN
        PERFORM isola.audit_note(
            TG_RELID, TG_TABLE_SCHEMA, TG_ARGV, NULL,
            (SELECT array_agg(to_jsonb(n.*)) FROM new_rows n WHERE rule_id IS NULL)
        );
    ELSE
        PERFORM isola.audit_note(
            TG_RELID, TG_TABLE_SCHEMA, TG_ARGV,
            (SELECT array_agg(to_jsonb(o.*)) FROM old_rows o WHERE rule_id IS NULL),
            (SELECT array_agg(to_jsonb(n.*)) FROM new_rows n WHERE rule_id IS NULL)
        );
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER audit_insert AFTER INSERT ON control.shares REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit_single_shares(
    'share', '{owner_id,grantee_id,partnership_id,lapsed,rule_id}', 'shr_', 'id', '', '', '{}', 'shares',
    '{revoked_at,expires_at}'
);
CREATE TRIGGER audit_update AFTER UPDATE ON control.shares REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit_single_shares(
    'share', '{owner_id,grantee_id,partnership_id,lapsed,rule_id}', 'shr_', 'id', '', '', '{}', 'shares',
    '{revoked_at,expires_at}'
);

-- An offer is logged by the tenant that makes it, and so is its end if that tenant ends it. Declines, blocks and rules are
-- logged by the tenant that makes them, and by no other.
CREATE FUNCTION isola.audit_offers_ended() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF isola.audit_of_owner(TG_RELID) THEN
        RETURN NULL;
    END IF;
    PERFORM isola.audit_note(TG_RELID, TG_TABLE_SCHEMA, TG_ARGV, (
        SELECT array_agg(to_jsonb(o.*)) FROM old_rows o WHERE o.tenant_id = isola.bound_tenant()
    ), NULL);
    RETURN NULL;
END $$;

CREATE TRIGGER audit_insert AFTER INSERT ON control.partnership_offers REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('partnership_offer', '{partner_id}', 'prt_', 'id');
CREATE TRIGGER audit_update AFTER UPDATE ON control.partnership_offers
REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('partnership_offer', '{partner_id}', 'prt_', 'id');
CREATE TRIGGER audit_delete AFTER DELETE ON control.partnership_offers REFERENCING OLD TABLE AS old_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit_offers_ended('partnership_offer', '{partner_id}', 'prt_', 'id');

CREATE TRIGGER audit_insert AFTER INSERT ON control.partnership_declines REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('partnership_decline', '{tenant_id,offerer_id,offer_id}', 'prt_', 'offer_id');
CREATE TRIGGER audit_update AFTER UPDATE ON control.partnership_declines REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('partnership_decline', '{tenant_id,offerer_id,offer_id}', 'prt_', 'offer_id');

CREATE TRIGGER audit_insert AFTER INSERT ON control.tenant_blocks REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('tenant_block', '{id,tenant_id,blocked_id}', '', 'slug');
CREATE TRIGGER audit_update AFTER UPDATE ON control.tenant_blocks REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('tenant_block', '{id,tenant_id,blocked_id}', '', 'slug');
CREATE TRIGGER audit_delete AFTER DELETE ON control.tenant_blocks REFERENCING OLD TABLE AS old_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('tenant_block', '{id,tenant_id,blocked_id}', '', 'slug');

CREATE TRIGGER audit_insert AFTER INSERT ON control.partner_domains REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('partner_domain', '{id,tenant_id}', '', 'name');
CREATE TRIGGER audit_delete AFTER DELETE ON control.partner_domains REFERENCING OLD TABLE AS old_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('partner_domain', '{id,tenant_id}', '', 'name');

-- What the log of a grantee has of a share.
CREATE FUNCTION isola.audit_received(share jsonb, owner text) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN isola.audit_values(jsonb_build_object(
    'owner', owner, 'subject', share -> 'subject', 'fields', share -> 'fields', 'note', share -> 'note',
    'access', share -> 'access',
    'granted_at', share -> 'granted_at', 'expires_at', share -> 'expires_at', 'revoked_at', share -> 'revoked_at'
), '{}');

-- Who receives a share: the partner, or each child of the owner, with the id that it has there, the owner's slug as the
-- partnership has it, NULL for children, and since when the grantee is a child. As in control.family_shares.
CREATE FUNCTION isola.audit_recipients(share control.shares)
RETURNS TABLE (tenant_id uuid, id uuid, owner text, since timestamptz) LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT p.tenant_id, (share).id, p.partner_slug, NULL::timestamptz FROM control.partners p
    WHERE p.tenant_id = (share).grantee_id AND p.id = (share).partnership_id
    UNION ALL
    SELECT c.id, control.id_of_child((share).id, c.child_key), NULL, c.child_since FROM control.tenants c
    WHERE c.parent_id = (share).owner_id AND (share).partnership_id = (share).owner_id
      AND NOT EXISTS (
          SELECT FROM control.shares o WHERE o.grantee_id = c.id
            AND o.owner_id = (share).owner_id AND o.row_id = (share).row_id AND o.subject = (share).subject
      );
END;

-- The grantee's log has a share's grant, changes and end as well. It may be on its way to another home, or suspended, and
-- the owner must not wait for it: isola.note_sign_ins() copies them in a transaction of the grantee. They name the owner
-- as the partnership does, and the share by its id; nothing else of the owner's. No entry for a share that has expired by
-- then, or whose partnership has ended. A child's log does not name the owner.
CREATE FUNCTION isola.audit_grantees() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF isola.audit_of_owner(TG_RELID) THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'INSERT' THEN
        INSERT INTO control.share_notices (tenant_id, action, object, new)
        SELECT r.tenant_id, 'received_share:create', concat('shr_', r.id), isola.audit_received(to_jsonb(n.*), r.owner)
        FROM new_rows n CROSS JOIN LATERAL isola.audit_recipients(n) r
        WHERE n.rule_id IS NULL
        ORDER BY r.id;
        RETURN NULL;
    END IF;
    INSERT INTO control.share_notices (tenant_id, action, object, old, new)
    SELECT c.tenant_id, concat('received_share:', CASE WHEN c.ended THEN 'delete' ELSE 'update' END), concat('shr_', c.id),
        CASE WHEN c.ended THEN c.new ELSE isola.audit_difference(c.old, c.new, '{owner,subject}') END,
        CASE WHEN NOT c.ended THEN
            isola.audit_difference(c.new, c.old, '{owner,subject}') || jsonb_build_object('changed_at', now())
        END
    FROM (
        SELECT r.id, r.tenant_id, n.revoked_at IS NOT NULL AS ended,
            isola.audit_received(to_jsonb(o.*) || r.start, r.owner) AS old,
            isola.audit_received(to_jsonb(n.*) || r.start, r.owner) AS new
        FROM new_rows n JOIN old_rows o ON o.id = n.id
        CROSS JOIN LATERAL (
            SELECT each.*, jsonb_build_object('granted_at', greatest(n.granted_at, each.since)) AS start
            FROM isola.audit_recipients(n) each
        ) r
        WHERE n.rule_id IS NULL AND (o.expires_at IS NULL OR o.expires_at > statement_timestamp())
    ) c
    WHERE c.old <> c.new
    ORDER BY c.id;
    RETURN NULL;
END $$;

CREATE TRIGGER received_insert AFTER INSERT ON control.shares REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit_grantees();
CREATE TRIGGER received_update AFTER UPDATE ON control.shares REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit_grantees();

-- Writes entries into the log of the tenant that the caller has bound, without an actor.
CREATE FUNCTION isola.audit_of_partner(actions text[], objects text[], olds jsonb[], news jsonb[]) RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tenant uuid := isola.proved_tenant_id();
BEGIN
    PERFORM isola.audit_write(
        tenant, (SELECT t.home FROM control.tenants t WHERE t.id = tenant), NULL, NULL, NULL, NULL, NULL,
        actions, objects, olds, news
    );
END $$;

-- Writes entries about reads by a user of the tenant that the caller has bound.
CREATE FUNCTION isola.audit_of_reader(reader uuid, objects text[], news jsonb[]) RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tenant uuid := isola.proved_tenant_id();
BEGIN
    PERFORM isola.audit_write(
        tenant, (SELECT t.home FROM control.tenants t WHERE t.id = tenant), 'usr_' || reader, NULL, NULL, NULL, NULL,
        array_fill('row_read:create'::text, ARRAY[cardinality(objects)]), objects,
        array_fill(NULL::jsonb, ARRAY[cardinality(objects)]), news
    );
END $$;

-- The beginning and the end of a partnership are logged by both tenants: each row of control.partners by its tenant. The
-- partner's log does not name the user who acted. It is bound while the entry is written, as in isola.shared_row().
CREATE FUNCTION isola.note_partners() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    bound uuid;
    proof text := current_setting('isola.proof', true);
    home text := coalesce(current_setting('isola.home', true), '');
    changed record;
BEGIN
    IF isola.audit_of_owner(TG_RELID) THEN
        RETURN NULL;
    END IF;
    bound := isola.bound_tenant();
    FOR changed IN SELECT c.tenant_id, c.id, to_jsonb(c.*) AS row, t.home
        FROM changed_rows c JOIN control.tenants t ON t.id = c.tenant_id
    LOOP
        IF changed.tenant_id = bound THEN
            PERFORM isola.audit_note(
                TG_RELID, TG_TABLE_SCHEMA, TG_ARGV,
                CASE WHEN TG_OP = 'DELETE' THEN ARRAY[changed.row] END,
                CASE WHEN TG_OP = 'INSERT' THEN ARRAY[changed.row] END
            );
        ELSE
            PERFORM set_config('isola.tenant', changed.tenant_id::text, true),
                set_config('isola.proof', isola.proof(changed.tenant_id), true),
                set_config('isola.home', changed.home, true);
            changed.row := changed.row - array_append(TG_ARGV[1]::text[], 'tenant_id');
            PERFORM isola.audit_of_partner(
                ARRAY[CASE TG_OP WHEN 'INSERT' THEN 'partnership:create' ELSE 'partnership:delete' END],
                ARRAY[concat('prt_', changed.id)],
                ARRAY[CASE WHEN TG_OP = 'DELETE' THEN changed.row END],
                ARRAY[CASE WHEN TG_OP = 'INSERT' THEN changed.row END]
            );
            PERFORM set_config('isola.tenant', bound::text, true), set_config('isola.proof', proof, true),
                set_config('isola.home', home, true);
        END IF;
    END LOOP;
    RETURN NULL;
END $$;

CREATE TRIGGER audit_insert AFTER INSERT ON control.partners REFERENCING NEW TABLE AS changed_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.note_partners('partnership', '{partner_id}', 'prt_', 'id');
CREATE TRIGGER audit_delete AFTER DELETE ON control.partners REFERENCING OLD TABLE AS changed_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.note_partners('partnership', '{partner_id}', 'prt_', 'id');

CREATE TRIGGER audit_insert AFTER INSERT ON control.domains REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit(
    'domain', '{challenge,proven_at}', 'dom_', 'id', '', '', '{}', 'domains', '{}'
);
CREATE TRIGGER audit_update AFTER UPDATE ON control.domains REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit(
    'domain', '{challenge,proven_at}', 'dom_', 'id', '', '', '{}', 'domains', '{}'
);
CREATE TRIGGER audit_delete AFTER DELETE ON control.domains REFERENCING OLD TABLE AS old_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit(
    'domain', '{challenge,proven_at}', 'dom_', 'id', '', '', '{}', 'domains', '{}'
);

-- The use of a key is not logged: no user made that change.
CREATE TRIGGER audit_insert AFTER INSERT ON control.api_keys REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit(
    'api_key', '{digest,last_used_at}', 'key_', 'id', '', '', '{}', 'api_keys', '{revoked_at,expires_at}'
);
CREATE TRIGGER audit_update AFTER UPDATE ON control.api_keys REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit(
    'api_key', '{digest,last_used_at}', 'key_', 'id', '', '', '{}', 'api_keys', '{revoked_at,expires_at}'
);

-- Sign-outs from all sessions of a user.
CREATE TRIGGER audit_insert AFTER INSERT ON control.sign_outs REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('sign_out', '{}', 'usr_', 'user_id');
CREATE TRIGGER audit_update AFTER UPDATE ON control.sign_outs REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('sign_out', '{}', 'usr_', 'user_id');
