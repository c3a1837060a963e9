-- What a tenant may know and read of the tenants below it. A user needs the permission family:read, and proves it.

-- The descendants of the bound tenant, at any depth; none for a user without the permission. Those below one that is
-- not active count as suspended. The slug of the parent is the bound tenant's own or that of another descendant.
CREATE FUNCTION isola.descendants()
RETURNS TABLE (id uuid, slug text, name text, depth int, parent_slug text, status text, plan text)
LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
BEGIN ATOMIC
    WITH RECURSIVE below (id, slug, name, depth, parent_slug, status, plan) AS (
        SELECT t.id, t.slug, t.name, 1, above.slug, t.status, t.plan
        FROM control.tenants above JOIN control.tenants t ON t.parent_id = above.id
        WHERE above.id = (SELECT isola.bound_tenant()) AND 'family:read' = ANY ((SELECT isola.current_permissions())::text[])
        UNION ALL
        SELECT t.id, t.slug, t.name, below.depth + 1, below.slug,
            CASE below.status WHEN 'active' THEN t.status ELSE 'suspended' END, t.plan
        FROM below JOIN control.tenants t ON t.parent_id = below.id
    )
    SELECT b.id, b.slug, b.name, b.depth, b.parent_slug, b.status, b.plan FROM below b;
END;

-- The active descendants of an active tenant, each with the schema of its tables. What is below one that is not active
-- is left out. Only the control plane and the function below may call it.
CREATE FUNCTION control.active_descendants(tenant uuid) RETURNS TABLE (id uuid, home text) LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH RECURSIVE below (id, home) AS (
        SELECT t.id, t.home FROM control.tenants t WHERE t.parent_id = tenant AND t.status = 'active'
        UNION ALL
        SELECT t.id, t.home FROM below JOIN control.tenants t ON t.parent_id = below.id WHERE t.status = 'active'
    )
    SELECT b.id, b.home FROM below b;
END;

-- What the code over a list of descendants is over: the list, the proof, the transaction and the statement. It begins
-- like no record of a proof.
CREATE FUNCTION isola.family_record(list text) RETURNS text LANGUAGE sql STABLE PARALLEL RESTRICTED
RETURN concat_ws(
    chr(10), 'family ' || list, current_setting('isola.proof', true), isola.this_transaction(),
    extract(epoch FROM statement_timestamp())
);

-- The active descendants of the proved tenant, by their homes: "home uuid,uuid;home uuid;". It is empty unless the
-- transaction has proved that it reads descendants, which only servers prove, for users with the permission. It is kept
-- in a setting, with a code, for the policies.
CREATE FUNCTION isola.family_list() RETURNS text LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    tenant uuid := isola.proved_tenant_id();
    list text;
    kept text;
    key control.binding_key;
BEGIN
    IF tenant IS NULL OR NOT '{family:read,isola:family}' <@ string_to_array((isola.proved_request())[6], ' ') THEN
        RETURN '';
    END IF;
    SELECT coalesce(string_agg(concat(home, ' ', ids, ';'), '' ORDER BY home COLLATE "C"), '') INTO list
    FROM (
        SELECT d.home, string_agg(d.id::text, ',' ORDER BY d.id) AS ids
        FROM control.tenants t CROSS JOIN LATERAL control.active_descendants(t.id) d
        WHERE t.id = tenant AND t.status = 'active' AND NOT control.below_inactive(t.id)
        GROUP BY d.home
    ) homes;
    SELECT * INTO key FROM control.binding_key;
    -- An assignment is planned without values. In the plan of a PERFORM they are constants, and debug_print_plan, which
    -- everybody may set, shows them to the client.
    kept := set_config('isola.family', list || encode(sha256(key.outer || sha256(
        key.inner || convert_to(isola.family_record(list), 'UTF8')
    )), 'hex'), true);
    RETURN list;
END $$;

-- Those of them whose rows are in one home. The policies for the role that reads descendants call it once for each
-- table of a statement, so it uses the list that was made in the same statement; the next statement makes another. In a
-- transaction that proves no tenant it is as in one that does not read descendants: isola.proved_tenant_id() decides.
CREATE FUNCTION isola.family(of_home text) RETURNS uuid[] LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    kept text := current_setting('isola.family', true);
    list text;
    start int;
    key control.binding_key;
BEGIN
    IF length(kept) >= 64 THEN
        SELECT * INTO key FROM control.binding_key;
        IF right(kept, 64) = encode(sha256(key.outer || sha256(
            key.inner || convert_to(isola.family_record(left(kept, -64)), 'UTF8')
        )), 'hex') THEN
            list := left(kept, -64);
        END IF;
    END IF;
    list := ';' || coalesce(list, isola.family_list());
    start := strpos(list, concat(';', of_home, ' '));
    IF start = 0 THEN
        RETURN '{}';
    END IF;
    RETURN string_to_array(split_part(substr(list, start + length(of_home) + 2), ';', 1), ',')::uuid[];
END $$;

-- Raises an error if the list is another by now: a statement names the homes and the tenants that it reads, and would
-- leave out one that has come in or has moved.
CREATE FUNCTION isola.is_family(list text) RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF list IS DISTINCT FROM isola.family_list() THEN
        RAISE EXCEPTION 'the descendants are others by now' USING ERRCODE = 'IS004';
    END IF;
    RETURN true;
END $$;
