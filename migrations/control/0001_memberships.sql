-- Notes that somebody has come into the bound tenant, so that they can be told of it in others.
CREATE FUNCTION isola.remember_member(subject text) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO control.memberships (subject, tenant_id) VALUES (remember_member.subject, isola.bound_tenant())
    ON CONFLICT DO NOTHING;
END $$;
