-- Records a staff access in the bound tenant's log, in the transaction of the access itself. Returns false and records
-- nothing without a currently valid access grant.
CREATE FUNCTION isola.note_access(leave uuid) RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    granted control.access_grants;
BEGIN
    SELECT * INTO granted FROM control.access_grants
    WHERE id = leave AND tenant_id = isola.bound_tenant() AND ended_at IS NULL AND expires_at > clock_timestamp();
    IF granted.id IS NULL THEN
        RETURN false;
    END IF;
    PERFORM isola.audit_note(
        'control.access_grants'::regclass, 'control', '[0:3]={access,"{ended_at}",grant_,id}'::text[],
        NULL, ARRAY[to_jsonb(granted)]
    );
    RETURN true;
END $$;
