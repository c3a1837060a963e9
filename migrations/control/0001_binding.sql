-- The tenant that a transaction claims to be in. The claim is not verified: it serves the planner and fills in columns
-- that the policies check afterwards. After one SET LOCAL the setting reads '' for the rest of the session, not NULL.
CREATE FUNCTION isola.claimed_tenant_id() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(current_setting('isola.tenant', true), '')::uuid;

-- Identifies this transaction. No other has the same process and start time, as long as the clock is not set back.
CREATE FUNCTION isola.this_transaction() RETURNS text LANGUAGE sql STABLE PARALLEL RESTRICTED
RETURN concat_ws(' ', pg_backend_pid(), extract(epoch FROM transaction_timestamp()));

-- The tenant for which a transaction has a valid proof; NULL if it names none. A proof is a record of the tenant and
-- the actor, one field per line; its last line is an authentication code over the record and the one transaction that
-- it is valid for. The code is NMAC (Bellare, Canetti, Krawczyk 1996) with SHA-256; app/isola/database/binding.py
-- computes the same. The query of the key has no parameters: with parameters it would be planned anew for each call.
--
-- If a transaction states its home in isola.home and the tenant has another home by now, this raises an error, in the
-- same snapshot in which rows are read: see docs/moving.md. The list of recently moved tenants is stored beside the
-- key, so that the check costs all other tenants next to nothing.
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

-- The fields that a transaction has proved about its request: the tenant, its user, the actor, on whose behalf the
-- actor acts, the request, and those of the user's permissions that visibility rules ask for, separated by spaces.
-- Unknown fields are ''; the result is NULL in a transaction that names no tenant.
CREATE FUNCTION isola.proved_request() RETURNS text[] LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF isola.proved_tenant_id() IS NULL THEN
        RETURN NULL;
    END IF;
    RETURN string_to_array(current_setting('isola.proof'), chr(10));
END $$;

-- The function that policies call. PostgreSQL inlines it, so it costs nothing by itself. The owner can replace its body
-- with isola.claimed_tenant_id(): see docs/decisions/0008.
CREATE FUNCTION isola.current_tenant_id() RETURNS uuid LANGUAGE sql STABLE PARALLEL RESTRICTED
RETURN isola.proved_tenant_id();

-- The user and the permissions that visibility rules ask for, as proved. NULL in a transaction that proves no user, and
-- in one that names no tenant: then a user sees what everybody in the tenant sees. PostgreSQL inlines both, so only the
-- check of the proof costs anything. It is necessary: a statement that runs could have changed the setting.
CREATE FUNCTION isola.current_user_id() RETURNS uuid LANGUAGE sql STABLE PARALLEL RESTRICTED
RETURN CASE WHEN isola.proved_tenant_id() IS NOT NULL
    THEN nullif(split_part(current_setting('isola.proof'), chr(10), 2), '')::uuid END;

CREATE FUNCTION isola.current_permissions() RETURNS text[] LANGUAGE sql STABLE PARALLEL RESTRICTED
RETURN CASE WHEN isola.proved_tenant_id() IS NOT NULL
    THEN string_to_array(split_part(current_setting('isola.proof'), chr(10), 6), ' ') END;

-- A proof of a record for this transaction. A record is one line for each field. No other role may call it.
CREATE FUNCTION isola.proof_of(record text) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    key control.binding_key;
BEGIN
    SELECT * INTO key FROM control.binding_key;
    RETURN record || encode(sha256(key.outer || sha256(
        key.inner || convert_to(record || isola.this_transaction(), 'UTF8')
    )), 'hex');
END $$;

-- A proof for this transaction, for functions that visit another tenant: it names no actor there, and no user but the
-- one whose rows are read. No other role may call it.
CREATE FUNCTION isola.proof(tenant uuid, reader uuid DEFAULT NULL) RETURNS text
LANGUAGE sql STABLE PARALLEL RESTRICTED
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
RETURN isola.proof_of(concat(tenant, chr(10), reader, repeat(chr(10), 5)));
