-- Sign-ins in the tenant's log. The control plane records events in control.sessions and control.refusals; a
-- transaction inside the tenant logs them. Code inside a tenant cannot forge an entry.

-- Begins a session of the bound tenant that the control plane has prepared within the last minute: from then on it can
-- be refreshed. Returns false and logs nothing if there is no such session, or if it has begun before.
CREATE FUNCTION isola.begin_session(session uuid, of_user uuid) RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
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

-- Logs the ended sessions of the bound tenant, and its refusals whose minute of counting is over, and deletes both from
-- the control plane.
CREATE FUNCTION isola.note_sign_ins() RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tenant uuid := isola.bound_tenant();
    ended jsonb[];
    refused jsonb[];
BEGIN
    WITH gone AS (
        DELETE FROM control.sessions WHERE tenant_id = tenant AND ended_at IS NOT NULL RETURNING *
    )
    SELECT array_agg(to_jsonb(gone) ORDER BY ended_at, id) INTO ended FROM gone;
    PERFORM isola.audit_note(
        'control.sessions'::regclass, 'control', '[0:5]={session,"{subject}",usr_,user_id,/ses_,id}'::text[], ended, NULL
    );
    WITH due AS (
        DELETE FROM control.refusals WHERE tenant_id = tenant AND due_at <= now() RETURNING *
    )
    SELECT array_agg(to_jsonb(due) ORDER BY reason) INTO refused FROM due;
    PERFORM isola.audit_note(
        'control.refusals'::regclass, 'control', '[0:3]={refusal,"{due_at}",refusal:,reason}'::text[], NULL, refused
    );
END $$;
