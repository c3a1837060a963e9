-- Functions through which a bound transaction manages its tenant's custom domains. As with sharing, it has no access to
-- the schema control, and each function first checks the bound tenant. Changes reach servers by isola.announce().

CREATE FUNCTION isola.domains()
RETURNS TABLE (
    id uuid, name text, challenge text, challenge_expires_at timestamptz,
    created_at timestamptz, verified_at timestamptz
) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
BEGIN ATOMIC
    SELECT d.id, d.name, d.challenge, d.challenge_expires_at, d.created_at, d.verified_at
    FROM control.domains d WHERE d.tenant_id = (SELECT isola.bound_tenant());
END;

-- Adds a domain that is not verified yet; adding it again before that makes a new challenge. NULL if this tenant has
-- verified it. Whether another tenant has verified it makes no difference. The challenge is generated here: a tenant
-- that could choose it would choose a value that is published already. Two random UUIDs hold 244 random bits.
CREATE FUNCTION isola.add_domain(name text) RETURNS uuid LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
#variable_conflict use_column
DECLARE
    added uuid;
BEGIN
    INSERT INTO control.domains AS d (tenant_id, name, challenge, challenge_expires_at)
    VALUES (
        isola.bound_tenant(), add_domain.name,
        encode(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()), 'hex'), now() + interval '7 days'
    )
    ON CONFLICT (tenant_id, name) DO UPDATE
    SET challenge = excluded.challenge, challenge_expires_at = excluded.challenge_expires_at, proven_at = NULL
    WHERE d.verified_at IS NULL
    RETURNING d.id INTO added;
    RETURN added;
END $$;

-- Verifies a domain whose challenge a server found published within the last minute: servers write proven_at, which no
-- code inside a tenant can write. False if no server did, or if the challenge was replaced or has expired since. Fails
-- on the unique index if another tenant has verified the same domain and not removed it.
CREATE FUNCTION isola.verify_domain(domain uuid) RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    verified text;
BEGIN
    UPDATE control.domains SET verified_at = coalesce(verified_at, now())
    WHERE id = domain AND tenant_id = isola.bound_tenant() AND proven_at > now() - interval '1 minute'
      AND (verified_at IS NOT NULL OR challenge_expires_at > now())
    RETURNING name INTO verified;
    IF verified IS NULL THEN
        RETURN false;
    END IF;
    PERFORM isola.announce('domain', verified);
    RETURN true;
END $$;

-- Removes a domain. To add it again, this or another tenant has to publish a new challenge.
CREATE FUNCTION isola.remove_domain(domain uuid) RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    removed text;
BEGIN
    DELETE FROM control.domains WHERE id = domain AND tenant_id = isola.bound_tenant() RETURNING name INTO removed;
    IF removed IS NULL THEN
        RETURN false;
    END IF;
    PERFORM isola.announce('domain', removed);
    RETURN true;
END $$;
