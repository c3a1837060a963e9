-- What a tenant sees of security incidents: those that staff show it, with the notes that they show. See
-- app/isola/platform/incidents.py.

CREATE FUNCTION isola.incidents()
RETURNS TABLE (id uuid, title text, severity text, opened_at timestamptz, closed_at timestamptz) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
BEGIN ATOMIC
    SELECT i.id, i.title, i.severity, i.opened_at, i.closed_at
    FROM control.incident_tenants t JOIN control.incidents i ON i.id = t.incident_id
    WHERE t.tenant_id = (SELECT isola.bound_tenant()) AND t.shown;
END;

CREATE FUNCTION isola.incident_notes(of_incident uuid)
RETURNS TABLE (id uuid, text text, noted_at timestamptz) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
BEGIN ATOMIC
    SELECT n.id, n.text, n.noted_at
    FROM control.incident_tenants t JOIN control.incident_notes n ON n.incident_id = t.incident_id
    WHERE t.tenant_id = (SELECT isola.bound_tenant()) AND t.shown AND t.incident_id = of_incident AND n.shown;
END;
