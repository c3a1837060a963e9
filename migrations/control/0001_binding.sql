-- The tenant that a transaction says it is in. Nobody vouches for it: it is for the planner, and to fill in columns
-- that the policies check afterwards. After one SET LOCAL the setting reads '' for the rest of the session's life, not
-- NULL.
CREATE FUNCTION isola.claimed_tenant_id() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(current_setting('isola.tenant', true), '')::uuid;

-- The tenant that a transaction has proved to be in; NULL if it names none. The code is NMAC (Bellare, Canetti,
-- Krawczyk 1996) with SHA-256; app/binding.py makes the same. The key is read by a query without parameters, or it
-- would be planned anew for each call.
--
-- A transaction that says by isola.home in which home it is finds out here if that is no longer the tenant's, as of the
-- same moment at which it reads rows: see docs/moving.md. Which tenants moved lately stands beside the key, so that
-- all others pay next to nothing for it.
CREATE FUNCTION isola.proved_tenant_id() RETURNS uuid LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
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
        IF tenant::uuid = ANY (key.moved) THEN
            -- A condition of its own: with a query in it, it is not evaluated the quick way.
            IF EXISTS (
                SELECT FROM control.tenants
                WHERE id = tenant::uuid AND home <> nullif(current_setting('isola.home', true), '')
            ) THEN
                RAISE EXCEPTION 'the home of the tenant is another by now' USING ERRCODE = 'IS004';
            END IF;
        END IF;
        RETURN tenant::uuid;
    END IF;
    RAISE EXCEPTION 'the binding of this transaction is not proved' USING ERRCODE = 'IS002';
END $$;

-- What policies ask. PostgreSQL puts the function that is named here in its place, so it costs nothing by itself. The
-- owner can have isola.claimed_tenant_id() there instead: see docs/decisions/0008.
CREATE FUNCTION isola.current_tenant_id() RETURNS uuid LANGUAGE sql STABLE PARALLEL RESTRICTED
RETURN isola.proved_tenant_id();

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
