-- What sessions with a ticket may call, as the API answers its user: the same rows, rules, ids and entries in the log.
-- See docs/sql.md. They run as isola_sql_functions, a role without a login to which the policies apply. They find the
-- tables by the search path, which ends with them.

-- Refuses an argument. The value is not part of the message.
CREATE FUNCTION isola.expect(is_valid boolean, field text, expected text) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF is_valid IS NOT TRUE THEN
        RAISE EXCEPTION '%: expected %', field, expected
        USING ERRCODE = 'invalid_parameter_value', COLUMN = field;
    END IF;
END $$;

-- The UUID in an id of the API; NULL for NULL.
CREATE FUNCTION isola.key_of(field text, id text, prefix text) RETURNS uuid LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM isola.expect(
        id IS NULL OR id ~ concat('^', prefix, '_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'), field,
        format('an id of the form %s_<uuid>', prefix)
    );
    RETURN substr(id, length(prefix) + 2)::uuid;
END $$;

-- Refuses a document that the API would refuse: see app/isola/subjects/document.py.
CREATE FUNCTION isola.expect_document(field text, document jsonb, at_most integer) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM isola.expect(document <> 'null', field, 'JSON other than null');
    PERFORM isola.expect(octet_length(document::text) <= at_most, field, format('at most %s bytes of JSON', at_most));
    PERFORM isola.expect(
        NOT jsonb_path_exists(document, 'strict $.**{100} ? (@.type() == "object" || @.type() == "array")'),
        field, 'at most 100 levels of nesting'
    );
    PERFORM isola.expect(NOT EXISTS (
        SELECT FROM jsonb_path_query(document, 'strict $.** ? (@.type() == "number")') number
        WHERE length(translate(number::text, '-.', '')) > 100
    ), field, 'numbers of at most 100 digits');
END $$;

-- The spans that the user may read, newest first: created from ``since`` on and before ``until``, and with the other
-- values that are not NULL. ``after`` is the id of the last span of the page before.
CREATE FUNCTION isola.get_tenant_timeline(
    since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL, of_type text DEFAULT NULL,
    of_visibility text DEFAULT NULL, of_author text DEFAULT NULL, of_organization text DEFAULT NULL,
    of_resource text DEFAULT NULL, after text DEFAULT NULL, most integer DEFAULT 100
) RETURNS TABLE (
    id text, type text, title text, payload jsonb, metadata jsonb, visibility text, author text, organization text,
    resource text, node text, delta_s float8, replay_from text, replay_count bigint, verification text,
    created_at timestamptz, updated_at timestamptz
) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    inside record := isola.entered('span:read');
    author uuid := isola.key_of('of_author', of_author, 'usr');
    organization uuid := isola.key_of('of_organization', of_organization, 'org');
    resource uuid := isola.key_of('of_resource', of_resource, 'res');
    last uuid := isola.key_of('after', after, 'spn');
    last_at timestamptz;
BEGIN
    PERFORM isola.expect(most BETWEEN 1 AND 10000, 'most', 'a number from 1 to 10000');
    PERFORM isola.expect(
        coalesce(of_type IN ('USER', 'SYSTEM', 'ORGANIZATION', 'GHOST'), true), 'of_type',
        'USER, SYSTEM, ORGANIZATION or GHOST'
    );
    PERFORM isola.expect(
        coalesce(of_visibility IN ('PRIVATE', 'ORGANIZATION', 'PUBLIC'), true), 'of_visibility',
        'PRIVATE, ORGANIZATION or PUBLIC'
    );
    PERFORM set_config('search_path', format('pg_catalog, %I, pg_temp', inside.home), true);
    IF last IS NOT NULL THEN
        SELECT s.created_at INTO last_at FROM spans s WHERE s.id = last;
        PERFORM isola.expect(FOUND, 'after', 'the id of a span that the user may read');
    END IF;
    RETURN QUERY
    SELECT concat('spn_', s.id), upper(s.type), s.title, s.payload, s.metadata, upper(s.visibility),
        'usr_' || s.author_id, 'org_' || s.organization_id, 'res_' || s.resource_id, s.node, s.delta_s,
        (SELECT 'spn_' || o.id FROM spans o WHERE o.id = s.replay_from_id),
        (SELECT count(*) FROM spans r WHERE r.replay_from_id = s.id), upper(s.verification), s.created_at, s.updated_at
    FROM spans s
    WHERE (since IS NULL OR s.created_at >= since) AND (until IS NULL OR s.created_at < until)
      AND (of_type IS NULL OR s.type = lower(of_type))
      AND (of_visibility IS NULL OR s.visibility = lower(of_visibility))
      AND (author IS NULL OR s.author_id = author)
      AND (organization IS NULL OR s.organization_id = organization)
      AND (resource IS NULL OR s.resource_id = resource)
      AND (last IS NULL OR (s.created_at, s.id) < (last_at, last))
    ORDER BY s.created_at DESC, s.id DESC LIMIT most;
END $$;

-- Creates a span of the user; its id, NULL if the user may not read it. Its author is the user for the type USER, and
-- nobody for the others. Without an organization it gets that of the ticket; without a visibility it is ORGANIZATION if
-- the ticket names an organization, and PRIVATE otherwise.
CREATE FUNCTION isola.create_tenant_span(
    title text, payload jsonb DEFAULT '{}', metadata jsonb DEFAULT '{}', type text DEFAULT 'USER',
    visibility text DEFAULT NULL, organization text DEFAULT NULL, resource text DEFAULT NULL, node text DEFAULT NULL,
    delta_s float8 DEFAULT NULL
) RETURNS text LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    inside record := isola.entered('span:write');
    made uuid := isola.uuid_v7();
    about uuid := isola.key_of('resource', resource, 'res');
    audience uuid := coalesce(isola.key_of('organization', organization, 'org'), inside.organization_id);
    shown text := coalesce(visibility, CASE WHEN inside.organization_id IS NULL THEN 'PRIVATE' ELSE 'ORGANIZATION' END);
    rule text;
BEGIN
    PERFORM isola.expect(length(title) BETWEEN 1 AND 200, 'title', '1 to 200 characters');
    PERFORM isola.expect(
        type IN ('USER', 'SYSTEM', 'ORGANIZATION', 'GHOST'), 'type', 'USER, SYSTEM, ORGANIZATION or GHOST'
    );
    PERFORM isola.expect(
        shown IN ('PRIVATE', 'ORGANIZATION', 'PUBLIC'), 'visibility', 'PRIVATE, ORGANIZATION or PUBLIC'
    );
    PERFORM isola.expect(
        shown <> 'ORGANIZATION' OR audience IS NOT NULL, 'organization', 'one, because the visibility is ORGANIZATION'
    );
    PERFORM isola.expect(
        node IS NULL OR length(node) <= 500 AND node ~ '^[A-Za-z][A-Za-z0-9+.-]*:[!-~]+$', 'node',
        'a URI of at most 500 characters, with a scheme'
    );
    PERFORM isola.expect(
        delta_s IS NULL OR delta_s > '-Infinity' AND delta_s < 'Infinity', 'delta_s', 'a finite number'
    );
    PERFORM isola.expect_document('payload', payload, 4194304);
    PERFORM isola.expect_document('metadata', metadata, 65536);
    PERFORM set_config('search_path', format('pg_catalog, %I, pg_temp', inside.home), true);
    PERFORM isola.expect(
        about IS NULL OR EXISTS (SELECT FROM resources r WHERE r.id = about), 'resource', 'the id of a resource'
    );
    IF audience IS NOT NULL AND NOT EXISTS (
        SELECT FROM memberships m WHERE m.organization_id = audience AND m.user_id = inside.user_id
    ) THEN
        RAISE EXCEPTION 'only members of an organization may write spans for it' USING ERRCODE = 'insufficient_privilege';
    END IF;
    INSERT INTO spans (
        id, type, author_id, title, payload, metadata, visibility, organization_id, resource_id, node, delta_s
    ) VALUES (
        made, lower(type), CASE type WHEN 'USER' THEN inside.user_id END, title, payload, metadata, lower(shown), audience,
        about, node, delta_s
    );
    RETURN (SELECT 'spn_' || s.id FROM spans s WHERE s.id = made);
EXCEPTION WHEN integrity_constraint_violation THEN
    GET STACKED DIAGNOSTICS rule = CONSTRAINT_NAME;
    RAISE EXCEPTION 'the span violates the rule %', rule USING ERRCODE = SQLSTATE, CONSTRAINT = rule;
END $$;

-- The statistics of the spans that the user may read, of a period of at most 366 days, with the fields of tenantStats.
CREATE FUNCTION isola.get_tenant_stats(since timestamptz, until timestamptz) RETURNS jsonb LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    inside record := isola.entered('span:read');
BEGIN
    PERFORM isola.expect(until > since, 'until', 'a moment after since');
    PERFORM isola.expect(until - since <= interval '366 days', 'until', 'at most 366 days after since');
    PERFORM set_config('search_path', format('pg_catalog, %I, pg_temp', inside.home), true);
    RETURN (
        WITH chosen AS MATERIALIZED (
            SELECT s.type, s.visibility, (s.created_at AT TIME ZONE 'UTC')::date AS day, s.author_id,
                octet_length(s.title) + octet_length(s.payload::text) + octet_length(s.metadata::text) AS bytes,
                s.replay_from_id IS NOT NULL AND EXISTS (SELECT FROM spans o WHERE o.id = s.replay_from_id) AS is_replay
            FROM spans s WHERE s.created_at >= since AND s.created_at < until
        )
        SELECT jsonb_build_object(
            'spans', (SELECT count(*) FROM chosen),
            'byType', (
                SELECT coalesce(jsonb_agg(jsonb_build_object('type', upper(type), 'spans', n) ORDER BY array_position(
                    ARRAY['user', 'system', 'organization', 'ghost'], type
                )), '[]') FROM (SELECT type, count(*) FROM chosen GROUP BY type) counted (type, n)
            ),
            'byVisibility', (
                SELECT coalesce(jsonb_agg(jsonb_build_object('visibility', upper(visibility), 'spans', n)
                    ORDER BY array_position(ARRAY['private', 'organization', 'public'], visibility)
                ), '[]') FROM (SELECT visibility, count(*) FROM chosen GROUP BY visibility) counted (visibility, n)
            ),
            'byDay', (
                SELECT coalesce(jsonb_agg(jsonb_build_object('day', day, 'spans', n) ORDER BY day), '[]')
                FROM (SELECT day, count(*) FROM chosen GROUP BY day) counted (day, n)
            ),
            'activeUsers', (SELECT count(DISTINCT author_id) FROM chosen),
            'replays', (SELECT count(*) FROM chosen WHERE is_replay),
            'storageBytes', (SELECT coalesce(sum(bytes), 0) FROM chosen)
        )
    );
END $$;

-- Creates a resource of the user, of the fields of createResource: name, kind, data and sizeBytes; its id.
CREATE FUNCTION isola.create_resource(input jsonb) RETURNS text LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    inside record := isola.entered('resource:write');
    made uuid := isola.uuid_v7();
    data jsonb := CASE WHEN input ? 'data' THEN input -> 'data' ELSE '{}' END;
    size jsonb := CASE WHEN input ? 'sizeBytes' THEN input -> 'sizeBytes' ELSE '0' END;
    rule text;
BEGIN
    PERFORM isola.expect(jsonb_typeof(input) = 'object', 'input', 'an object');
    PERFORM isola.expect(
        input - '{name,kind,data,sizeBytes}'::text[] = '{}', 'input', 'only the fields name, kind, data and sizeBytes'
    );
    PERFORM isola.expect(
        jsonb_typeof(input -> 'name') = 'string' AND length(input ->> 'name') BETWEEN 1 AND 200, 'name',
        'a text of 1 to 200 characters'
    );
    PERFORM isola.expect(
        coalesce(jsonb_typeof(input -> 'kind') = 'null'
            OR jsonb_typeof(input -> 'kind') = 'string' AND length(input ->> 'kind') <= 200, true),
        'kind', 'a text of at most 200 characters'
    );
    PERFORM isola.expect(size::text ~ '^[0-9]{1,16}$' AND size <= '9007199254740991', 'sizeBytes', 'an integer from 0 to 2^53 - 1');
    PERFORM isola.expect_document('data', data, 4194304);
    PERFORM set_config('search_path', format('pg_catalog, %I, pg_temp', inside.home), true);
    INSERT INTO resources (id, owner_id, name, kind, data, size_bytes)
    VALUES (made, inside.user_id, input ->> 'name', input ->> 'kind', data, size::bigint);
    RETURN concat('res_', made);
EXCEPTION WHEN integrity_constraint_violation THEN
    GET STACKED DIAGNOSTICS rule = CONSTRAINT_NAME;
    RAISE EXCEPTION 'the resource violates the rule %', rule USING ERRCODE = SQLSTATE, CONSTRAINT = rule;
END $$;
