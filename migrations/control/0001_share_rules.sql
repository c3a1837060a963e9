-- Shares of rows by a filter. A rule of a tenant shares all rows of a subject that its condition holds for, with one
-- partner: it makes ordinary shares with its id, when it is made and whenever rows are written. isola.audit_note() calls
-- isola.keep_share_rules() for that, in the statement that writes, whoever wrote it.

-- The rules of the tenants whose partnerships have not ended since, and that have not ended themselves.
CREATE VIEW control.live_share_rules WITH (security_invoker = true) AS
SELECT r.*
FROM control.share_rules r
WHERE ended_at IS NULL AND (expires_at IS NULL OR expires_at > statement_timestamp())
  AND EXISTS (
      SELECT FROM control.partners p WHERE p.tenant_id = owner_id AND p.partner_id = grantee_id AND p.id = partnership_id
  );

-- Compares two values, given as texts, as PostgreSQL compares values of their type: -1, 0 or 1.
CREATE FUNCTION isola.compared(of_type text, one text, other text) RETURNS integer LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN CASE of_type
        WHEN 'number' THEN (one::numeric > other::numeric)::integer - (one::numeric < other::numeric)::integer
        WHEN 'float' THEN (one::float8 > other::float8)::integer - (one::float8 < other::float8)::integer
        WHEN 'time' THEN (one::timestamptz > other::timestamptz)::integer - (one::timestamptz < other::timestamptz)::integer
        WHEN 'date' THEN (one::date > other::date)::integer - (one::date < other::date)::integer
        ELSE (one > other)::integer - (one < other)::integer
    END;
END $$;

-- Whether a condition holds for a row, as the filters of reads have it: see app/isola/query/conditions.py. A comparison
-- with NULL does not hold, and its negation does. A condition is ["and" or "or", [conditions]], ["not", condition], or
-- ["test", column, operator, type, value]. A value is a text, or a list of texts.
CREATE FUNCTION isola.matches(condition jsonb, of_row jsonb) RETURNS boolean LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    part jsonb;
    actual text;
    given text;
BEGIN
    CASE condition ->> 0
        WHEN 'and', 'or' THEN
            FOR part IN SELECT jsonb_array_elements(condition -> 1) LOOP
                IF isola.matches(part, of_row) = (condition ->> 0 = 'or') THEN
                    RETURN condition ->> 0 = 'or';
                END IF;
            END LOOP;
            RETURN condition ->> 0 = 'and';
        WHEN 'not' THEN
            RETURN NOT isola.matches(condition -> 1, of_row);
        WHEN 'test' THEN
            actual := of_row ->> (condition ->> 1);
            given := condition ->> 4;
            RETURN CASE condition ->> 2
                WHEN 'isNull' THEN actual IS NULL
                WHEN 'isNotNull' THEN actual IS NOT NULL
                WHEN 'startsWith' THEN coalesce(starts_with(actual, given), false)
                WHEN 'contains' THEN coalesce(strpos(actual, given) > 0, false)
                WHEN 'in' THEN EXISTS (
                    SELECT FROM jsonb_array_elements_text(condition -> 4) each
                    WHERE isola.compared(condition ->> 3, actual, each) = 0
                )
                WHEN 'eq' THEN coalesce(isola.compared(condition ->> 3, actual, given) = 0, false)
                WHEN 'gt' THEN coalesce(isola.compared(condition ->> 3, actual, given) > 0, false)
                WHEN 'gte' THEN coalesce(isola.compared(condition ->> 3, actual, given) >= 0, false)
                WHEN 'lt' THEN coalesce(isola.compared(condition ->> 3, actual, given) < 0, false)
                WHEN 'lte' THEN coalesce(isola.compared(condition ->> 3, actual, given) <= 0, false)
            END;
    END CASE;
END $$;

-- The lock that transactions which write rows of a subject share until they end, and that whoever makes, changes or ends
-- a rule takes alone: so no row is written beside a rule that does not know it. A transaction at a higher level than READ
-- COMMITTED knows the rules of its snapshot.
CREATE FUNCTION isola.share_rules_lock(owner uuid, of_subject text) RETURNS bigint LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
RETURN hashtextextended(concat('share rules ', owner, ' ', of_subject), 0);

-- Those of the bound tenant's rows that a user may read without special permissions, or all users if it is NULL: others
-- would not be shown to the partner. Only the functions below may call it: they bind the caller's own proof again.
CREATE FUNCTION isola.shareable_rows(owner uuid, of_subject text, reader uuid, ids uuid[]) RETURNS uuid[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    proof text := current_setting('isola.proof');
    place text;
    found uuid[];
BEGIN
    SELECT format('%I.%I', t.home, s.relation) INTO STRICT place FROM control.tenants t, control.subjects s
    WHERE t.id = owner AND s.name = of_subject;
    PERFORM set_config('isola.proof', isola.proof(owner, reader), true);
    EXECUTE format('SELECT array_agg(id ORDER BY id) FROM %s WHERE id = ANY ($1)', place) INTO found USING ids;
    PERFORM set_config('isola.proof', proof, true);
    RETURN coalesce(found, '{}');
END $$;

-- Notes in the owner's log, and for the log of its partner, that a rule has shared rows and ended shares: one entry each,
-- however many there are.
CREATE FUNCTION isola.note_shared_by_rule(rule control.share_rules, shared bigint, ended bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    notice jsonb := jsonb_build_object(
        'subject', rule.subject, 'fields', rule.fields, 'note', rule.note, 'expires_at', rule.expires_at,
        'access', rule.access
    );
BEGIN
    INSERT INTO control.share_notices (tenant_id, action, object, old, new)
    SELECT p.tenant_id, concat('received_share:', n.verb), concat('shared:', rule.subject),
        CASE n.verb WHEN 'delete' THEN n.told END, CASE n.verb WHEN 'create' THEN n.told END
    FROM control.partners p
    CROSS JOIN LATERAL (
        VALUES
            ('create', shared, notice || jsonb_build_object('owner', p.partner_slug, 'count', shared, 'granted_at', now())),
            ('delete', ended, notice || jsonb_build_object('owner', p.partner_slug, 'count', ended, 'revoked_at', now()))
    ) n (verb, count, told)
    WHERE p.tenant_id = rule.grantee_id AND p.id = rule.partnership_id AND n.count > 0;
END $$;

-- Shares rows that a rule matches and ends its shares of others; how many of each. Statements that would change nothing
-- are left out: they would fire the triggers of the table.
CREATE FUNCTION isola.keep_share_rule(
    rule control.share_rules, matching uuid[], others uuid[], OUT shared bigint, OUT ended bigint
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    shared := 0;
    ended := 0;
    IF EXISTS (
        SELECT FROM control.shares WHERE rule_id = rule.id AND row_id = ANY (others) AND revoked_at IS NULL
    ) THEN
        UPDATE control.shares SET revoked_at = now()
        WHERE rule_id = rule.id AND row_id = ANY (others) AND revoked_at IS NULL;
        GET DIAGNOSTICS ended = ROW_COUNT;
    END IF;
    matching := ARRAY(
        SELECT m FROM unnest(matching) m WHERE NOT EXISTS (
            SELECT FROM control.shares s WHERE s.rule_id = rule.id AND s.row_id = m AND s.revoked_at IS NULL
        )
        -- As in isola.share(): a child would learn from the values which partner is its parent.
        AND NOT EXISTS (
            SELECT FROM control.family_shares f
            WHERE f.grantee_id = rule.grantee_id AND f.owner_id = rule.owner_id AND f.subject = rule.subject AND f.row_id = m
        )
    );
    IF matching = '{}' THEN
        IF ended > 0 THEN
            PERFORM isola.note_shared_by_rule(rule, shared, ended);
        END IF;
        RETURN;
    END IF;
    INSERT INTO control.shares (
        owner_id, subject, row_id, grantee_slug, grantee_id, partnership_id, granted_by, fields, expires_at, note, access, rule_id
    )
    SELECT rule.owner_id, rule.subject, id, rule.grantee_slug, rule.grantee_id, rule.partnership_id, rule.granted_by,
        rule.fields, rule.expires_at, rule.note, rule.access, rule.id
    FROM unnest(matching) id
    ON CONFLICT (owner_id, row_id, subject, partnership_id, rule_id) WHERE revoked_at IS NULL DO NOTHING;
    GET DIAGNOSTICS shared = ROW_COUNT;
    PERFORM isola.note_shared_by_rule(rule, shared, ended);
END $$;

-- Compares the rows that a statement has written with the rules of the bound tenant.
CREATE FUNCTION isola.keep_share_rules(of_subject text, before jsonb[], after jsonb[]) RETURNS void
LANGUAGE plpgsql VOLATILE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    owner uuid := isola.bound_tenant();
    rule control.share_rules;
    written uuid[] := ARRAY(SELECT (r ->> 'id')::uuid FROM unnest(before || after) r);
    matching uuid[];
    kept record;
BEGIN
    FOR rule IN
        SELECT * FROM control.live_share_rules r WHERE r.owner_id = owner AND r.subject = of_subject ORDER BY r.id
    LOOP
        BEGIN
            matching := ARRAY(SELECT (r ->> 'id')::uuid FROM unnest(after) r WHERE isola.matches(rule.condition, r));
        EXCEPTION WHEN data_exception OR case_not_found OR statement_too_complex THEN
            -- A server makes no such condition, but SQL can. It shares nothing, and the tenant can write all the same.
            matching := '{}';
        END;
        IF matching <> '{}' AND (SELECT restricted FROM control.subjects s WHERE s.name = of_subject) THEN
            matching := isola.shareable_rows(owner, of_subject, rule.granted_by, matching);
        END IF;
        SELECT * INTO kept FROM isola.keep_share_rule(
            rule, matching, ARRAY(SELECT unnest(written) EXCEPT SELECT unnest(matching))
        );
        IF kept.shared + kept.ended > 0 THEN
            PERFORM isola.audit_note(
                'control.share_rules'::regclass, 'control', isola.share_rule_names(), ARRAY[jsonb_build_object('id', rule.id)],
                ARRAY[jsonb_build_object('id', rule.id, 'shared', kept.shared, 'ended', kept.ended)]
            );
        END IF;
    END LOOP;
END $$;

-- How isola.audit_note() names rules. The log has the columns of a filter, and not the values.
CREATE FUNCTION isola.share_rule_names() RETURNS text[] LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
RETURN '[0:8]={share_rule,"{owner_id,grantee_id,partnership_id,filter,condition}",srl_,id,"","","{}",shares,"{ended_at,expires_at}"}'::text[];

-- Makes a rule of the bound tenant for the partner of that slug, as the proved user: the caller then shares the rows that
-- match by isola.share_by_rule(). It waits for the transactions that write rows of the subject. ``made`` is NULL if it is
-- ``refused``: see isola.share(); ``many`` if the subject has too many rules.
CREATE FUNCTION isola.make_share_rule(
    of_subject text, grantee text, chosen text[], until timestamptz, remark text,
    granted_access text, filter jsonb, condition jsonb, compared text[], most integer, OUT made uuid, OUT refused text
) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
#variable_conflict use_column
DECLARE
    owner uuid := isola.bound_tenant();
    partner uuid;
    partnership uuid;
    granted text[] := isola.granted_columns(of_subject, chosen);
BEGIN
    SELECT p.partner_id, p.id INTO partner, partnership FROM control.partners p JOIN control.sharers t ON t.id = p.partner_id
    WHERE p.tenant_id = owner AND p.partner_id = (SELECT id FROM control.tenants WHERE slug = grantee AND status <> 'deleted');
    IF partner IS NULL THEN
        refused := 'grantee';
    ELSIF granted IS NULL THEN
        refused := 'fields';
    ELSIF granted_access <> 'read' AND NOT isola.may_comment(partner) THEN
        refused := 'access';
    ELSE
        PERFORM pg_advisory_xact_lock(isola.share_rules_lock(owner, of_subject));
        IF (SELECT count(*) FROM control.live_share_rules r WHERE r.owner_id = owner AND r.subject = of_subject) >= most THEN
            refused := 'many';
            RETURN;
        END IF;
        INSERT INTO control.share_rules (
            owner_id, subject, grantee_slug, grantee_id, partnership_id, granted_by, fields, expires_at, note, access,
            filter, condition, columns
        )
        VALUES (
            owner, of_subject, grantee, partner, partnership, isola.current_user_id(), granted, until, remark,
            granted_access, make_share_rule.filter, make_share_rule.condition, compared
        )
        RETURNING id INTO made;
    END IF;
END $$;

-- Shares the first rows of a rule that the transaction has made; how many there are. The rows are those that the proved
-- user may read.
CREATE FUNCTION isola.share_by_rule(rule uuid, ids uuid[]) RETURNS bigint LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    owner uuid := isola.bound_tenant();
    made control.share_rules;
    kept record;
BEGIN
    SELECT * INTO made FROM control.live_share_rules r WHERE r.id = rule AND r.owner_id = owner AND r.granted_at = now();
    IF made.id IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT * INTO kept FROM isola.keep_share_rule(
        made, isola.shareable_rows(owner, made.subject, made.granted_by, ids), '{}'
    );
    PERFORM isola.audit_note(
        'control.share_rules'::regclass, 'control', isola.share_rule_names(), NULL,
        ARRAY[to_jsonb(made) || jsonb_build_object('shared', kept.shared)]
    );
    RETURN kept.shared;
END $$;

-- The rule of the bound tenant with this id, locked against transactions that write rows of its subject. NULLs if there is
-- none, or if it has ended.
CREATE FUNCTION isola.locked_share_rule(rule uuid, owner uuid) RETURNS control.share_rules LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found control.share_rules;
BEGIN
    PERFORM pg_advisory_xact_lock(isola.share_rules_lock(owner, r.subject))
    FROM control.live_share_rules r WHERE r.id = rule AND r.owner_id = owner;
    SELECT * INTO found FROM control.live_share_rules r WHERE r.id = rule AND r.owner_id = owner;
    RETURN found;
END $$;

-- Changes a rule and all its shares, as isola.change_share() changes one.
CREATE FUNCTION isola.change_share_rule(
    rule uuid, chosen text[], until timestamptz, keep_until boolean, remark text, keep_remark boolean,
    granted_access text DEFAULT NULL, OUT changed uuid, OUT refused text
) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    was control.share_rules := isola.locked_share_rule(rule, isola.bound_tenant());
    became control.share_rules;
    granted text[] := isola.granted_columns(was.subject, chosen);
    told jsonb;
    tell jsonb;
    shared bigint;
BEGIN
    IF was.id IS NULL THEN
        RETURN;
    ELSIF chosen IS NOT NULL AND granted IS NULL THEN
        refused := 'fields';
        RETURN;
    ELSIF granted_access <> 'read' AND NOT isola.may_comment(was.grantee_id) THEN
        refused := 'access';
        RETURN;
    END IF;
    UPDATE control.share_rules r SET
        fields = CASE WHEN chosen IS NULL THEN r.fields ELSE granted END,
        expires_at = CASE WHEN keep_until THEN r.expires_at ELSE until END,
        note = CASE WHEN keep_remark THEN r.note ELSE remark END,
        access = coalesce(granted_access, r.access)
    WHERE r.id = rule
    RETURNING r.* INTO became;
    changed := became.id;
    IF to_jsonb(was) = to_jsonb(became) THEN
        RETURN;
    END IF;
    UPDATE control.shares SET
        fields = became.fields, expires_at = became.expires_at, note = became.note, access = became.access
    WHERE rule_id = rule AND revoked_at IS NULL;
    GET DIAGNOSTICS shared = ROW_COUNT;
    PERFORM isola.audit_note(
        'control.share_rules'::regclass, 'control', isola.share_rule_names(), ARRAY[to_jsonb(was)], ARRAY[to_jsonb(became)]
    );
    SELECT jsonb_object_agg(o.key, o.value), jsonb_object_agg(o.key, to_jsonb(became) -> o.key) INTO told, tell
    FROM jsonb_each(to_jsonb(was)) o WHERE o.value <> to_jsonb(became) -> o.key;
    INSERT INTO control.share_notices (tenant_id, action, object, old, new)
    SELECT p.tenant_id, 'received_share:update', concat('shared:', became.subject), k.kept || told,
        k.kept || tell || jsonb_build_object('changed_at', now())
    FROM control.partners p
    CROSS JOIN LATERAL (
        SELECT jsonb_build_object('owner', p.partner_slug, 'subject', became.subject, 'count', shared)
    ) k (kept)
    WHERE p.tenant_id = became.grantee_id AND p.id = became.partnership_id;
END $$;

-- Ends a rule of the bound tenant and all its shares. NULL if there is no such rule.
CREATE FUNCTION isola.end_share_rule(rule uuid) RETURNS uuid LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    was control.share_rules := isola.locked_share_rule(rule, isola.bound_tenant());
    ended bigint;
BEGIN
    IF was.id IS NULL THEN
        RETURN NULL;
    END IF;
    UPDATE control.share_rules SET ended_at = now() WHERE id = rule;
    UPDATE control.shares SET revoked_at = now() WHERE rule_id = rule AND revoked_at IS NULL;
    GET DIAGNOSTICS ended = ROW_COUNT;
    PERFORM isola.note_shared_by_rule(was, 0, ended), isola.audit_note(
        'control.share_rules'::regclass, 'control', isola.share_rule_names(),
        ARRAY[to_jsonb(was) || jsonb_build_object('shared', ended)], NULL
    );
    RETURN was.id;
END $$;

-- The rules of the bound tenant.
CREATE FUNCTION isola.share_rules()
RETURNS TABLE (
    id uuid, subject text, grantee_slug text, granted_by uuid, granted_at timestamptz, expires_at timestamptz, note text,
    fields text[], filter jsonb, access text
)
LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
BEGIN ATOMIC
    SELECT r.id, r.subject, r.grantee_slug, r.granted_by, r.granted_at, r.expires_at, r.note,
        isola.shared_of(r.subject, r.fields), r.filter, r.access
    FROM control.live_share_rules r WHERE r.owner_id = (SELECT isola.bound_tenant());
END;

-- How many rows a rule of the bound tenant shares, of those that the proved user may read.
CREATE FUNCTION isola.share_rule_count(rule uuid) RETURNS bigint LANGUAGE plpgsql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    owner uuid := isola.bound_tenant();
    place text;
    found bigint := 0;
BEGIN
    SELECT format('%I.%I', t.home, s.relation) INTO place
    FROM control.live_share_rules r JOIN control.tenants t ON t.id = r.owner_id JOIN control.subjects s ON s.name = r.subject
    WHERE r.id = rule AND r.owner_id = owner;
    IF place IS NOT NULL THEN
        EXECUTE format(
            'SELECT count(*) FROM control.shares s JOIN %s r ON r.id = s.row_id WHERE s.rule_id = $1 AND s.revoked_at IS NULL',
            place
        ) INTO found USING rule;
    END IF;
    RETURN found;
END $$;
