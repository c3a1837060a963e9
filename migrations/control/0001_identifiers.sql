-- A UUIDv7 (RFC 9562). PostgreSQL 18 has it built in, at a twentieth of the time. For older versions: 48 bits of
-- milliseconds, the version, 12 bits of the millisecond's fraction (method 3 of the RFC, so that the ids that one
-- connection makes sort in creation order), and 64 bits of a random UUID.
DO $$ BEGIN
    IF current_setting('server_version_num')::int >= 180000 THEN
        CREATE FUNCTION isola.uuid_v7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS 'SELECT uuidv7()';
    ELSE
        CREATE FUNCTION isola.uuid_v7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE
        RETURN (
            overlay(
                lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000 * 4096)::bigint), 15, '0')
                PLACING '7' FROM 13 FOR 0
            )
            || right(replace(gen_random_uuid()::text, '-', ''), 16)
        )::uuid;
    END IF;
END $$;
