-- The log of staff and operator actions: a separate chain, linked like that of a tenant. Its home is the schema
-- control, and its id is one that no tenant has. See app/isola/platform/platform_log.py.

-- Writes an entry into the platform's log, in the transaction of the action itself.
CREATE FUNCTION isola.audit_platform(actor text, request text, action text, object text, old jsonb, new jsonb)
RETURNS void LANGUAGE sql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
BEGIN ATOMIC
    SELECT isola.audit_write(
        '00000000-0000-0000-0000-000000000000', 'control', audit_platform.actor, NULL, audit_platform.request,
        NULL, NULL, ARRAY[action], ARRAY[object], ARRAY[old], ARRAY[new]
    );
END;

-- Logs a staff action inside the bound tenant, if it was announced from outside the tenant a moment ago. Returns false
-- and logs nothing if it was not announced or was logged already: code inside a tenant cannot forge an entry.
CREATE FUNCTION isola.note_intervention(intervention uuid) RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    announced control.interventions;
BEGIN
    UPDATE control.interventions SET done_at = now()
    WHERE id = intervention AND tenant_id = isola.bound_tenant() AND done_at IS NULL
      AND announced_at > now() - interval '1 minute'
    RETURNING * INTO announced;
    IF announced.id IS NULL THEN
        RETURN false;
    END IF;
    PERFORM isola.audit_platform(
        announced.actor, announced.request, announced.action, announced.object, NULL, announced.new
    );
    RETURN true;
END $$;
