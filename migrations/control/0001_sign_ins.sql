-- Sign-ins in the tenant's log. The control plane records events in control.sessions and control.refusals; a
-- transaction inside the tenant logs them. Code inside a tenant cannot forge an entry.

-- Begins a session of the bound tenant that the control plane has prepared within the last minute: from then on it can
-- be refreshed. Returns false and logs nothing if there is no such session, or if it has begun before.
CREATE FUNCTION isola.begin_session(session uuid, of_user uuid) RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    begun control.sessions;
BEGIN
    UPDATE control.sessions SET user_id = of_user
    WHERE id = session AND tenant_id = isola.bound_tenant() AND user_id IS NULL
      AND created_at > now() - interval '1 minute'
    RETURNING * INTO begun;
    IF begun.id IS NULL THEN
        RETURN false;
    END IF;
    PERFORM isola.audit_note(
        'control.sessions'::regclass, 'control', '[0:5]={session,"{subject,ended_at,ended_for}",usr_,user_id,/ses_,id}'::text[],
        NULL, ARRAY[to_jsonb(begun)]
    );
    RETURN true;
END $$;

-- Logs the ended sessions of the bound tenant, its refusals and the reads, by its users and by other tenants, whose time of
-- counting is over, and what happened to the shares that it receives, and deletes them from the control plane. Of the shares
-- and of the reads by its users, at most 2,000 entries each at once.
CREATE FUNCTION isola.note_sign_ins() RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    tenant uuid := isola.bound_tenant();
    ended jsonb[];
    refused jsonb[];
    above jsonb[];
    partners jsonb[];
    notices record;
    reader record;
BEGIN
    WITH gone AS (
        DELETE FROM control.sessions WHERE tenant_id = tenant AND ended_at IS NOT NULL RETURNING *
    )
    SELECT array_agg(to_jsonb(gone) ORDER BY ended_at, id) INTO ended FROM gone;
    PERFORM isola.audit_note(
        'control.sessions'::regclass, 'control', '[0:5]={session,"{subject,user_agent,address}",usr_,user_id,/ses_,id}'::text[], ended, NULL
    );
    WITH due AS (
        DELETE FROM control.refusals WHERE tenant_id = tenant AND due_at <= now() RETURNING *
    )
    SELECT array_agg(
        to_jsonb(due) || jsonb_build_object('address', nullif(address, ''), 'user_agent', nullif(user_agent, ''))
        ORDER BY reason, address, user_agent
    ) INTO refused FROM due;
    PERFORM isola.audit_note(
        'control.refusals'::regclass, 'control', '[0:3]={refusal,"{due_at}",refusal:,reason}'::text[], NULL, refused
    );
    WITH due AS (
        DELETE FROM control.reads WHERE tenant_id = tenant AND due_at <= now() RETURNING *
    )
    SELECT array_agg(to_jsonb(due) ORDER BY subject, reader_id) FILTER (WHERE kind = 'family'),
        array_agg(
            to_jsonb(due) || jsonb_build_object(CASE kind WHEN 'share' THEN 'partner' ELSE kind END, t.slug)
            ORDER BY subject, kind, t.slug
        ) FILTER (WHERE kind <> 'family')
    INTO above, partners FROM due JOIN control.tenants t ON t.id = due.reader_id;
    PERFORM isola.audit_note(
        'control.reads'::regclass, 'control', '[0:3]={family_read,"{due_at,reader_id,kind}",family:,subject}'::text[], NULL, above
    );
    PERFORM isola.audit_note(
        'control.reads'::regclass, 'control', '[0:3]={share_read,"{due_at,reader_id,kind}",shared:,subject}'::text[], NULL, partners
    );
    WITH gone AS (
        DELETE FROM control.share_notices WHERE tenant_id = tenant AND id IN (
            SELECT id FROM control.share_notices WHERE tenant_id = tenant ORDER BY id LIMIT 2000 FOR UPDATE
        )
        RETURNING *
    )
    SELECT array_agg(action ORDER BY id) AS actions, array_agg(object ORDER BY id) AS objects,
        array_agg(old ORDER BY id) AS olds, array_agg(new ORDER BY id) AS news
    INTO notices FROM gone;
    IF notices.actions IS NOT NULL THEN
        PERFORM isola.audit_of_partner(notices.actions, notices.objects, notices.olds, notices.news);
    END IF;
    FOR reader IN
        WITH due AS (
            DELETE FROM control.logged_reads WHERE ctid = ANY (ARRAY(
                SELECT ctid FROM control.logged_reads WHERE tenant_id = tenant AND due_at <= now() LIMIT 2000 FOR UPDATE
            ))
            RETURNING *
        )
        SELECT user_id, array_agg('read:' || subject ORDER BY subject, operation, address, user_agent) AS objects,
            array_agg(
                jsonb_build_object(
                    'subject', subject, 'operation', operation, 'count', count, 'rows', rows, 'first_at', first_at,
                    'last_at', last_at, 'address', nullif(address, ''), 'user_agent', nullif(user_agent, '')
                )
                ORDER BY subject, operation, address, user_agent
            ) AS news
        FROM due GROUP BY user_id ORDER BY user_id
    LOOP
        PERFORM isola.audit_of_reader(reader.user_id, reader.objects, reader.news);
    END LOOP;
END $$;

-- The subjects whose reads the log of the bound tenant has.
CREATE FUNCTION isola.logged_reads() RETURNS text[] LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
BEGIN ATOMIC
    SELECT t.logged_reads FROM control.tenants t WHERE t.id = (SELECT isola.bound_tenant());
END;

-- Has the reads of these subjects, and of no others, in the log of the bound tenant from now on.
CREATE FUNCTION isola.log_reads(subjects text[]) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    tenant uuid := isola.bound_tenant();
    before text[];
BEGIN
    SELECT t.logged_reads INTO before FROM control.tenants t WHERE t.id = tenant FOR NO KEY UPDATE;
    IF before = subjects THEN
        RETURN;
    END IF;
    UPDATE control.tenants SET logged_reads = subjects WHERE id = tenant;
    PERFORM isola.audit_note(
        'control.tenants'::regclass, 'control', '[0:3]={read_log,"{}",read_log,none}'::text[],
        ARRAY[jsonb_build_object('subjects', before)], ARRAY[jsonb_build_object('subjects', subjects)]
    );
END $$;

-- The sessions of the proved user in the bound tenant that can be refreshed. Without a user there are none.
CREATE FUNCTION isola.own_sessions()
RETURNS TABLE (
    id uuid, started_at timestamptz, refreshed_at timestamptz, expires_at timestamptz, user_agent text
) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
BEGIN ATOMIC
    SELECT s.id, s.created_at, t.refreshed_at, least(s.expires_at, t.expires_at), s.user_agent
    FROM control.sessions s CROSS JOIN LATERAL (
        SELECT max(r.used_at) AS refreshed_at, max(r.expires_at) AS expires_at
        FROM control.refresh_tokens r WHERE r.session_id = s.id
    ) t
    WHERE s.tenant_id = (SELECT isola.bound_tenant()) AND s.user_id = (SELECT isola.current_user_id())
      AND s.ended_at IS NULL AND least(s.expires_at, t.expires_at) > now()
      AND NOT EXISTS (
          SELECT FROM control.sign_outs o
          WHERE o.tenant_id = s.tenant_id AND o.subject = s.subject AND o.not_before > s.created_at
      );
END;

-- Ends a session of the proved user in the bound tenant, or all but one, with their access tokens of that issuer, and
-- returns their number. The log has it twice: now, under the user's name, and when isola.note_sign_ins() records the end.
CREATE FUNCTION isola.end_own_sessions(session uuid, kept uuid, issuer text) RETURNS bigint LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    before jsonb[];
    after jsonb[];
BEGIN
    WITH ended AS (
        UPDATE control.sessions SET ended_at = now(), ended_for = 'sign_out'
        WHERE tenant_id = isola.bound_tenant() AND user_id = isola.current_user_id() AND ended_at IS NULL
          AND (session IS NULL OR id = session) AND id IS DISTINCT FROM kept
        RETURNING *
    ),
    keyed AS (
        -- As isola.platform.revocations.Revocable writes it.
        SELECT json_build_array('session', issuer, id)::text AS key, expires_at FROM ended
    ),
    revoked AS (
        -- Clocks differ: a token may be accepted after its session has expired.
        INSERT INTO control.revocations (key, until) SELECT key, expires_at + interval '1 hour' FROM keyed
        ON CONFLICT DO NOTHING
    ),
    announced AS (
        INSERT INTO control.changes (kind, key) SELECT 'revocation', key FROM keyed
    )
    SELECT array_agg(to_jsonb(ended) || '{"ended_at": null, "ended_for": null}'), array_agg(to_jsonb(ended))
    INTO before, after FROM ended;
    PERFORM isola.audit_note(
        'control.sessions'::regclass, 'control', '[0:5]={session,"{subject,user_agent,address}",usr_,user_id,/ses_,id}'::text[],
        before, after
    );
    RETURN coalesce(array_length(after, 1), 0);
END $$;
