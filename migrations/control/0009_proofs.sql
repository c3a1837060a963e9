-- The tenant that a transaction has proved to be in: what isola.current_tenant_id() was until now (0001_binding.sql,
-- 0007_moves.sql).
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
CREATE OR REPLACE FUNCTION isola.current_tenant_id() RETURNS uuid LANGUAGE sql STABLE PARALLEL RESTRICTED
RETURN isola.proved_tenant_id();
