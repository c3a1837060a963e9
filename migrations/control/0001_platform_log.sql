-- The log of what staff and operators do: a chain of its own, linked like that of a tenant, whose home is the schema
-- control and whose id is none that a tenant has. See app/isola/platform/platform_log.py.

-- Notes something in the platform's log, in the transaction in which it is done.
CREATE FUNCTION isola.audit_platform(actor text, request text, action text, object text, old jsonb, new jsonb)
RETURNS void LANGUAGE sql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT isola.audit_write(
        '00000000-0000-0000-0000-000000000000', 'control', audit_platform.actor, NULL, audit_platform.request,
        NULL, NULL, ARRAY[action], ARRAY[object], ARRAY[old], ARRAY[new]
    );
END;

-- Notes what staff do inside the bound tenant, where what they are about to do was announced from outside a moment ago.
-- False, and nothing noted, if it was not, or was done already: nothing that runs inside can make an entry up.
CREATE FUNCTION isola.note_intervention(intervention uuid) RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
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
