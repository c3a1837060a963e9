-- The requests of the bound tenant by hour. Servers add to them: see app/isola/platform/request_records.py.
CREATE FUNCTION isola.tenant_metrics(since timestamptz, until timestamptz)
RETURNS TABLE (
    hour timestamptz, requests bigint, errors bigint, users bigint, fields bigint, objects bigint, bytes bigint,
    microseconds bigint, storage bigint
) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
BEGIN ATOMIC
    SELECT h.hour, h.requests, h.errors, h.users, h.fields, h.objects, h.bytes, h.microseconds, h.storage
    FROM control.hourly_metrics h
    WHERE h.tenant_id = (SELECT isola.bound_tenant()) AND h.hour >= since AND h.hour < until;
END;
