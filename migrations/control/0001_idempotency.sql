-- First answers to mutations that clients sent with an idempotency key: see docs/idempotency.md.
--
-- A root field of a mutation is a transaction. The transaction first claims its place under the key, makes its change,
-- and keeps its answer when it reads it: so the change and the answer exist together, or neither does.
--
-- Servers compute the digest of a key, a tenant and a user with a secret of the installation. SQL inside a tenant knows
-- no digest but those that its server sends, so it can neither use nor occupy the keys of others.

-- Waits for other transactions with this digest, then raises IS008 if this place has its answer already, and IS007 if
-- the key was used for another request. Returns false. At READ COMMITTED the query sees what those transactions have
-- committed; at other levels the primary key refuses a second answer.
CREATE FUNCTION isola.claim_answer(digest bytea, place integer, request bytea) RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    -- Expressions, which need no executor.
    IF isola.proved_tenant_id() IS NULL
        OR pg_advisory_xact_lock(hashtextextended(encode(claim_answer.digest, 'hex'), 0)) IS NULL
    THEN
        RETURN NULL;
    END IF;
    PERFORM FROM control.first_answers WHERE digest = claim_answer.digest LIMIT 1;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    DELETE FROM control.first_answers
    WHERE digest = claim_answer.digest AND kept_at <= now() - interval '24 hours';
    IF EXISTS (
        SELECT FROM control.first_answers WHERE digest = claim_answer.digest AND request <> claim_answer.request
    ) THEN
        RAISE EXCEPTION 'the key was used for another request' USING ERRCODE = 'IS007';
    ELSIF EXISTS (
        SELECT FROM control.first_answers WHERE digest = claim_answer.digest AND place = claim_answer.place
    ) THEN
        RAISE EXCEPTION 'the request was answered before' USING ERRCODE = 'IS008';
    END IF;
    RETURN false;
END $$;

-- Keeps the answer for a claimed place, with the permissions of the request; ``refusal`` tells that it is an error.
-- Returns the answer. Raises IS009 for one of more than 64 KiB: all tenants share the disk of the table.
CREATE FUNCTION isola.keep_answer(
    digest bytea, place integer, request bytea, permissions text, refusal boolean, answer text
) RETURNS text LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF octet_length(keep_answer.answer) > 65536 THEN
        RAISE EXCEPTION 'the answer is too large to be kept' USING ERRCODE = 'IS009';
    END IF;
    INSERT INTO control.first_answers (digest, place, tenant_id, user_id, request, permissions, refusal, answer)
    VALUES (
        keep_answer.digest, keep_answer.place,
        isola.proved_tenant_id(), nullif(split_part(current_setting('isola.proof'), chr(10), 2), '')::uuid,
        keep_answer.request, keep_answer.permissions, keep_answer.refusal, keep_answer.answer
    );
    RETURN keep_answer.answer;
END $$;

-- The answer that the proved user got for a place of a request; no row if there is none.
CREATE FUNCTION isola.first_answer(
    digest bytea, place integer, request bytea, OUT permissions text, OUT refusal boolean, OUT answer text
) RETURNS SETOF record LANGUAGE plpgsql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := isola.bound_tenant();
    holder uuid := isola.current_user_id();
BEGIN
    RETURN QUERY SELECT a.permissions, a.refusal, a.answer FROM control.first_answers a
    WHERE a.tenant_id = tenant AND a.user_id = holder AND a.digest = first_answer.digest
      AND a.place = first_answer.place AND a.request = first_answer.request
      AND a.kept_at > now() - interval '24 hours';
END $$;
