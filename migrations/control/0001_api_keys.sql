-- Functions through which a bound transaction manages its tenant's API keys. None of them returns the digest of a key.

CREATE FUNCTION isola.api_keys()
RETURNS TABLE (
    id uuid, prefix text, name text, permissions text[], user_id uuid, created_by uuid,
    created_at timestamptz, expires_at timestamptz, last_used_at timestamptz, revoked_at timestamptz
) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
BEGIN ATOMIC
    SELECT k.id, k.prefix, k.name, k.permissions, k.user_id, k.created_by,
           k.created_at, k.expires_at, k.last_used_at, k.revoked_at
    FROM control.api_keys k WHERE k.tenant_id = (SELECT isola.bound_tenant());
END;

-- Makes a key, created by the proved user: a key has no permission that its creator lacks. Fails if there is no user.
CREATE FUNCTION isola.create_api_key(
    prefix text, digest bytea, name text, permissions text[], user_id uuid, expires_at timestamptz
) RETURNS uuid LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
#variable_conflict use_column
DECLARE
    created uuid;
BEGIN
    INSERT INTO control.api_keys AS k (tenant_id, prefix, digest, name, permissions, user_id, created_by, expires_at)
    VALUES (
        isola.bound_tenant(), create_api_key.prefix, create_api_key.digest, create_api_key.name,
        create_api_key.permissions, create_api_key.user_id, isola.current_user_id(), create_api_key.expires_at
    )
    RETURNING k.id INTO created;
    RETURN created;
END $$;

-- Revokes a key of the bound tenant; false if there is no such key. Revoking again keeps the first time.
CREATE FUNCTION isola.revoke_api_key(key uuid) RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    revoked text;
BEGIN
    UPDATE control.api_keys SET revoked_at = coalesce(revoked_at, now())
    WHERE id = key AND tenant_id = isola.bound_tenant()
    RETURNING prefix INTO revoked;
    IF revoked IS NULL THEN
        RETURN false;
    END IF;
    PERFORM isola.announce('key', revoked);
    RETURN true;
END $$;
