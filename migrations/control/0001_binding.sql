-- The tenant that a transaction says it is in. Nobody vouches for it: it is for the planner, and to fill in columns
-- that the policies check afterwards. After one SET LOCAL the setting reads '' for the rest of the session's life, not
-- NULL.
CREATE FUNCTION isola.claimed_tenant_id() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(current_setting('isola.tenant', true), '')::uuid;

-- Which transaction this is. No other has both this process and this moment, as long as the clock is not set back.
CREATE FUNCTION isola.this_transaction() RETURNS text LANGUAGE sql STABLE PARALLEL RESTRICTED
RETURN concat_ws(' ', pg_backend_pid(), extract(epoch FROM transaction_timestamp()));

-- The tenant that a transaction has proved to be in; NULL if it names none. A proof is a record of the tenant and of who
-- acts, line by line, and in its last line a code over the record and the one transaction that it is for. The code is
-- NMAC (Bellare, Canetti, Krawczyk 1996) with SHA-256; app/isola/database/binding.py makes the same. The key is read by a query without
-- parameters, or it would be planned anew for each call.
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
    IF right(proof, 64) = encode(sha256(key.outer || sha256(
            key.inner || convert_to(left(proof, -64) || isola.this_transaction(), 'UTF8')
        )), 'hex')
        AND left(proof, 36) = tenant
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

-- What a transaction has proved of the request that it serves: the tenant, its user, the actor, who is behind the
-- actor, and the request. Unknown parts are ''; all are missing in a transaction that names no tenant.
CREATE FUNCTION isola.proved_request() RETURNS text[] LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF isola.proved_tenant_id() IS NULL THEN
        RETURN NULL;
    END IF;
    RETURN string_to_array(current_setting('isola.proof'), chr(10));
END $$;

-- What policies ask. PostgreSQL puts the function that is named here in its place, so it costs nothing by itself. The
-- owner can have isola.claimed_tenant_id() there instead: see docs/decisions/0008.
CREATE FUNCTION isola.current_tenant_id() RETURNS uuid LANGUAGE sql STABLE PARALLEL RESTRICTED
RETURN isola.proved_tenant_id();

-- A proof for this transaction, for functions that visit another tenant: who acts there is nobody of its own. Nobody
-- else may call it.
CREATE FUNCTION isola.proof(tenant uuid) RETURNS text LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    record text := tenant || repeat(chr(10), 5);
    key control.binding_key;
BEGIN
    SELECT * INTO key FROM control.binding_key;
    RETURN record || encode(sha256(key.outer || sha256(
        key.inner || convert_to(record || isola.this_transaction(), 'UTF8')
    )), 'hex');
END $$;
