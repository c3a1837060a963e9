-- The tenant that a transaction says it is in. Nobody vouches for it: it is for the planner, and to fill in columns
-- that the policies check afterwards. After one SET LOCAL the setting reads '' for the rest of the session's life, not
-- NULL.
CREATE FUNCTION isola.claimed_tenant_id() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(current_setting('isola.tenant', true), '')::uuid;

-- The tenant that a transaction has proved to be in; NULL if it names none. The code is NMAC (Bellare, Canetti,
-- Krawczyk 1996) with SHA-256; app/binding.py makes the same. The key is read by a query without parameters, or it
-- would be planned anew for each call.
CREATE FUNCTION isola.current_tenant_id() RETURNS uuid LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tenant text := current_setting('isola.tenant', true);
    proof text := current_setting('isola.proof', true);
    key control.binding_key;
BEGIN
    IF tenant IS NULL OR tenant = '' THEN
        RETURN NULL;
    END IF;
    SELECT * INTO key FROM control.binding_key;
    IF right(proof, 64) = encode(sha256(key.outer || sha256(key.inner || (tenant || left(proof, -64))::bytea)), 'hex')
        AND split_part(proof, '.', 3) IN ('0', pg_backend_pid()::text)
        AND to_timestamp(split_part(proof, '.', 2)::float8)
            BETWEEN transaction_timestamp() - interval '10 s' AND transaction_timestamp() + interval '10 s'
    THEN
        RETURN tenant::uuid;
    END IF;
    RAISE EXCEPTION 'the binding of this transaction is not proved' USING ERRCODE = 'IS002';
END $$;

-- A proof for this transaction, for functions that visit another tenant. Nobody else may call it.
CREATE FUNCTION isola.proof(tenant uuid) RETURNS text LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    stated text := format('.%s.%s.', round(extract(epoch FROM transaction_timestamp())), pg_backend_pid());
    key control.binding_key;
BEGIN
    SELECT * INTO key FROM control.binding_key;
    RETURN stated || encode(sha256(key.outer || sha256(key.inner || (tenant || stated)::bytea)), 'hex');
END $$;
