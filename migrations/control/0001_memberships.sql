-- Records that a subject is a member of the bound tenant, so that other tenants can show it to them.
CREATE FUNCTION isola.remember_member(subject text) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
BEGIN
    INSERT INTO control.memberships (subject, tenant_id) VALUES (remember_member.subject, isola.bound_tenant())
    ON CONFLICT DO NOTHING;
END $$;
