CREATE FUNCTION isola.current_tenant_id() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
-- After one SET LOCAL the setting reads '' for the rest of the session's life, not NULL.
RETURN nullif(current_setting('isola.tenant', true), '')::uuid;

-- A UUIDv7 (RFC 9562) that PostgreSQL 15 can make: 48 bits of milliseconds over a random UUID, then the version.
CREATE FUNCTION isola.uuid_v7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN encode(
    set_bit(
        set_bit(
            overlay(
                uuid_send(gen_random_uuid())
                PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
                FROM 1 FOR 6
            ),
            52, 1
        ),
        53, 1
    ),
    'hex'
)::uuid;
