-- Signs a user of the bound tenant out everywhere: every token for that user issued until now is rejected, whichever
-- issuer issued it. See app/isola/platform/revocations.py.
CREATE FUNCTION isola.sign_out(user_id uuid, subject text) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := isola.bound_tenant();
BEGIN
    INSERT INTO control.sign_outs AS s (tenant_id, user_id, subject, not_before)
    VALUES (tenant, sign_out.user_id, sign_out.subject, clock_timestamp())
    ON CONFLICT (tenant_id, subject)
    DO UPDATE SET user_id = excluded.user_id, not_before = greatest(s.not_before, excluded.not_before);
    PERFORM isola.announce('revocation', sign_out.subject);
END $$;
