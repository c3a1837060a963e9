-- The log of what was done. Triggers note every change in the transaction that makes it; when that commits, a deferred
-- trigger puts what was noted into the log of the tenant's home, each entry with a hash over itself and the one before.
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

-- Notes what a statement did to rows of a table. ``names`` are the arguments of its trigger, counted from 0: what the
-- rows are called, the columns left out of the log, and a prefix and a column for each of at most two parts of the key;
-- behind them, where rows are not for everybody, the columns that decide for whom: they stand in every entry; and where
-- a quota is of the rows, its name, and the columns that decide whether a row takes a place. What the owner of the tables
-- does itself is noted nowhere: it migrates, moves and erases. Only where a row was changed is it asked who is bound, and
-- who acts: both have to be proved.
CREATE FUNCTION isola.audit_note(changed oid, names text[], before jsonb[], after jsonb[])
RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    left_out text[] := array_append(names[1]::text[], 'tenant_id');
    kept text[] := coalesce(names[6]::text[], '{}');
    log_of text;
    proved text[];
    quota text;
    added bigint;
BEGIN
    IF before IS NULL AND after IS NULL THEN
        RETURN;
    END IF;
    SELECT n.nspname INTO log_of FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = changed AND pg_get_userbyid(c.relowner) <> session_user;
    IF log_of IS NULL THEN
        RETURN;
    ELSIF log_of = 'control' THEN
        SELECT home INTO log_of FROM control.tenants WHERE id = isola.claimed_tenant_id();
    END IF;
    proved := isola.proved_request();
    IF names[7] IS NOT NULL THEN
        added := isola.audit_added(changed, names[7], names[8]::text[], before, after);
        quota := CASE WHEN added IS NOT NULL THEN names[7] END;
    END IF;
    -- A statement is noted in parts of bounded size. The first has what it takes of a quota.
    IF before IS NULL THEN
        INSERT INTO control.audit_staged (tenant_id, home, actor, on_behalf_of, request, quota, added, changes)
        SELECT (SELECT isola.bound_tenant()), log_of, nullif(proved[3], ''), nullif(proved[4], ''),
            nullif(proved[5], ''), CASE place / 1000 WHEN 0 THEN quota END, CASE place / 1000 WHEN 0 THEN added END,
            array_agg(jsonb_build_array(
            names[0] || ':create',
            concat(names[2], n ->> names[3], names[4], n ->> names[5]),
            NULL,
            isola.audit_values(n, left_out)
        ) ORDER BY place)
        FROM unnest(after) WITH ORDINALITY a (n, place)
        GROUP BY place / 1000;
    ELSIF after IS NULL THEN
        INSERT INTO control.audit_staged (tenant_id, home, actor, on_behalf_of, request, changes)
        SELECT (SELECT isola.bound_tenant()), log_of, nullif(proved[3], ''), nullif(proved[4], ''),
            nullif(proved[5], ''), array_agg(jsonb_build_array(
            names[0] || ':delete',
            concat(names[2], o ->> names[3], names[4], o ->> names[5]),
            isola.audit_values(o, left_out),
            NULL
        ) ORDER BY place)
        FROM unnest(before) WITH ORDINALITY b (o, place)
        GROUP BY place / 1000;
    ELSE
        INSERT INTO control.audit_staged (tenant_id, home, actor, on_behalf_of, request, quota, added, changes)
        SELECT (SELECT isola.bound_tenant()), log_of, nullif(proved[3], ''), nullif(proved[4], ''),
            nullif(proved[5], ''), CASE part WHEN min(part) OVER () THEN quota END,
            CASE part WHEN min(part) OVER () THEN added END, array_agg(jsonb_build_array(
            names[0] || ':update', key, isola.audit_difference(o, n, kept), isola.audit_difference(n, o, kept)
        ))
        FROM (
            SELECT isola.audit_values(b.j, left_out), isola.audit_values(a.j, left_out), coalesce(b.key, a.key),
                row_number() OVER () / 1000
            FROM (
                SELECT j, concat(names[2], j ->> names[3], names[4], j ->> names[5]) FROM unnest(before) j
            ) b (j, key)
            FULL JOIN (
                SELECT j, concat(names[2], j ->> names[3], names[4], j ->> names[5]) FROM unnest(after) j
            ) a (j, key) ON a.key = b.key
        ) changed (o, n, key, part)
        WHERE o IS DISTINCT FROM n
        GROUP BY part;
    END IF;
END $$;

-- Whether what is done to a table is done by its owner, who migrates, moves and erases.
CREATE FUNCTION isola.audit_of_owner(changed oid) RETURNS boolean LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
RETURN (SELECT pg_get_userbyid(relowner) = session_user FROM pg_class WHERE oid = changed);

-- Fires for each statement. A session keeps a copy of this for each trigger that it met, in each tenant's home, so
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
        PERFORM isola.audit_note(TG_RELID, TG_ARGV, NULL, (SELECT array_agg(to_jsonb(n.*)) FROM new_rows n));
    ELSIF TG_OP = 'DELETE' THEN
        PERFORM isola.audit_note(TG_RELID, TG_ARGV, (SELECT array_agg(to_jsonb(o.*)) FROM old_rows o), NULL);
    ELSE
        PERFORM isola.audit_note(
            TG_RELID, TG_ARGV,
            (SELECT array_agg(to_jsonb(o.*)) FROM old_rows o), (SELECT array_agg(to_jsonb(n.*)) FROM new_rows n)
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

-- Puts what was noted into the log. It runs last of all, when the transaction commits: only then is the head of the
-- tenant's chain held, so no two transactions wait for each other in a circle, and none waits longer than a commit
-- takes. If the binding was changed in between, it fails, and the transaction with it.
--
-- Who moves a tenant holds the head of its log, having marked the tenant before: so who writes is either done before
-- anything is copied, or finds the mark here. Of whoever gets the head without waiting for it, it is asked once whether
-- the tenant is being moved; of others before they wait, since a move may wait for what this transaction holds, and
-- once more with the head. The log is found by the search path, so the statement stays planned for as long as a session
-- writes in the same home; it comes last, since nothing else is to be looked for there.
CREATE FUNCTION isola.audit_link() RETURNS trigger LANGUAGE plpgsql
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
        -- It is made with the tenant. Without it the chain would begin again, so nothing is written.
        SELECT * INTO STRICT head FROM control.audit_heads WHERE tenant_id = NEW.tenant_id FOR UPDATE;
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

CREATE CONSTRAINT TRIGGER link AFTER INSERT ON control.audit_staged DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION isola.audit_link();

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
