-- The log of what was done. Triggers write an entry for every change in the transaction that makes it, into the log of
-- the tenant's home, each with a hash over itself; no transaction waits for another. What was written waits in
-- control.audit_pending to be sealed: numbered in the order of commits, and chained (0001_sealing.sql).
-- All of it runs as isola_audit, which has no login and may do nothing else: in a home it may insert into the log, and
-- neither read, change nor delete.

-- A row as the log shows it: a value of more than 1,000 bytes by its hash and size.
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

-- What of one row is not so in another, and the columns that are always kept.
CREATE FUNCTION isola.audit_difference(this jsonb, other jsonb, kept text[]) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each(this)
    WHERE value IS DISTINCT FROM other -> key OR key = ANY (kept)
);

-- How many rows more than before a statement has of those that take a place of a quota; NULL if there are not more.
-- ``deciding`` are the columns that decide whether a row takes one: none where every row does. The condition on them is
-- in control.counted; its text comes from a declaration, never from a client.
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

-- What the hash of an entry is made over, and verified over: see app/isola/platform/audit.py.
CREATE FUNCTION isola.audit_hash(
    tenant uuid, id uuid, at timestamptz, actor text, on_behalf_of text, request text,
    action text, object text, old jsonb, new jsonb
) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN sha256(convert_to(jsonb_build_array(
    tenant, id, extract(epoch FROM at), actor, on_behalf_of, request, action, object, old, new
)::text, 'UTF8'));

-- Writes entries into the log of a home, and has them sealed once the transaction has committed. The log is found by the
-- search path, so only the last statement is planned anew where a session writes in another home than before; for one
-- row, which is what most statements change, it is the one that is planned the quickest. Nothing else is looked for in
-- the home. To return what was inserted would take the right to read it.
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

-- Notes what a statement did to rows of a table. ``names`` are the arguments of its trigger, counted from 0: what the
-- rows are called, the columns left out of the log, and a prefix and a column for each of at most two parts of the key;
-- behind them, where rows are not for everybody, the columns that decide for whom: they stand in every entry; and where
-- a quota is of the rows, its name, and the columns that decide whether a row takes a place. ``home`` is the schema of
-- the table; what is in control belongs to the bound tenant. Only where a row was changed is it asked who is bound, and
-- who acts: both have to be proved.
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
BEGIN
    IF before IS NULL AND after IS NULL THEN
        RETURN;
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
    IF names[7] IS NOT NULL THEN
        added := isola.audit_added(changed, names[7], names[8]::text[], before, after);
    END IF;
    PERFORM isola.audit_write(
        tenant, home, nullif(proved[3], ''), nullif(proved[4], ''), nullif(proved[5], ''),
        CASE WHEN added IS NOT NULL THEN names[7] END, added, actions, objects, olds, news
    );
END $$;

-- Whether what is done to a table is done by its owner, who migrates, moves and erases.
CREATE FUNCTION isola.audit_of_owner(changed oid) RETURNS boolean LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
RETURN (SELECT pg_get_userbyid(relowner) = session_user FROM pg_class WHERE oid = changed);

-- Fires for each statement. What the owner of the tables does itself is noted nowhere. A session keeps a copy of this for each trigger that it met, in each tenant's home, so
-- there is as little in it as can be. What the owner does, to a whole home at a time, is not
-- even gathered.
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

-- Gives what a transaction has written its place among all commits, when it commits, and refuses to commit in a home that
-- the tenant is leaving or has left: it would stay behind there.
--
-- Whoever draws from the sequence holds a lock on it until the end of the transaction, which conflicts with nobody's,
-- and is in pg_locks. So the sealer and whoever moves a tenant can tell which transactions are about to commit: once
-- those are gone that held it at a moment, all places drawn before that moment are decided, and whoever comes later
-- finds a tenant marked that was marked by then.
CREATE FUNCTION isola.audit_commit() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE control.audit_pending SET place = nextval('control.audit_places'), at = clock_timestamp() WHERE id = NEW.id;
    IF EXISTS (
        SELECT FROM control.tenants WHERE id = NEW.tenant_id AND (home <> NEW.home OR moving_to IS NOT NULL)
    ) THEN
        RAISE EXCEPTION 'the tenant is being moved' USING ERRCODE = 'IS004';
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER place AFTER INSERT ON control.audit_pending DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION isola.audit_commit();

-- What a tenant has in the control plane is in the log of its home all the same. That a share was marked as lapsed is no
-- change that anybody made.
CREATE TRIGGER audit_insert AFTER INSERT ON control.shares REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit(
    'share', '{owner_id,grantee_id,lapsed}', 'shr_', 'id', '', '', '{}', 'shares', '{revoked_at,expires_at}'
);
CREATE TRIGGER audit_update AFTER UPDATE ON control.shares REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit(
    'share', '{owner_id,grantee_id,lapsed}', 'shr_', 'id', '', '', '{}', 'shares', '{revoked_at,expires_at}'
);

-- In the log of the tenant that answers.
CREATE TRIGGER audit_insert AFTER INSERT ON control.share_answers REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('share_answer', '{owner_id,grantee_id}', 'shr_', 'share_id');
CREATE TRIGGER audit_update AFTER UPDATE ON control.share_answers REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('share_answer', '{owner_id,grantee_id}', 'shr_', 'share_id');

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

-- That a key was used is no change that anybody made.
CREATE TRIGGER audit_insert AFTER INSERT ON control.api_keys REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit(
    'api_key', '{digest,last_used_at}', 'key_', 'id', '', '', '{}', 'api_keys', '{revoked_at,expires_at}'
);
CREATE TRIGGER audit_update AFTER UPDATE ON control.api_keys REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit(
    'api_key', '{digest,last_used_at}', 'key_', 'id', '', '', '{}', 'api_keys', '{revoked_at,expires_at}'
);

-- Ending all sessions of a user.
CREATE TRIGGER audit_insert AFTER INSERT ON control.sign_outs REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('sign_out', '{}', 'usr_', 'user_id');
CREATE TRIGGER audit_update AFTER UPDATE ON control.sign_outs REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('sign_out', '{}', 'usr_', 'user_id');
