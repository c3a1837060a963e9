-- First answers to mutations that clients sent with an idempotency key: see docs/idempotency.md.
--
-- A root field of a mutation is a transaction. The transaction first claims its place under the key, makes its change,
-- and keeps its answer when it reads it: so the change and the answer exist together, or neither does. All of that is
-- about the tenant and the user that the transaction proves.

-- Waits for other transactions with this key of the user, then raises IS008 if this place has its answer already, and
-- IS007 if the key was used for another request. Returns false. At READ COMMITTED the query sees what those transactions
-- have committed; at other levels the primary key refuses a second answer. The proof alone decides whose key it is: each
-- write pays for this function, and isola.bound_tenant() costs three times as much as the rest of it.
CREATE FUNCTION isola.claim_answer(key text, place integer, request bytea) RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := isola.proved_tenant_id();
    holder uuid := nullif(split_part(current_setting('isola.proof'), chr(10), 2), '');
BEGIN
    -- An expression, which needs no executor.
    IF pg_advisory_xact_lock(hashtextextended(concat_ws(' ', tenant, holder, claim_answer.key), 0)) IS NULL THEN
        RETURN NULL;
    END IF;
    PERFORM FROM control.first_answers WHERE tenant_id = tenant AND user_id = holder AND key = claim_answer.key LIMIT 1;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    DELETE FROM control.first_answers
    WHERE tenant_id = tenant AND user_id = holder AND key = claim_answer.key AND kept_at <= now() - interval '24 hours';
    IF EXISTS (
        SELECT FROM control.first_answers
        WHERE tenant_id = tenant AND user_id = holder AND key = claim_answer.key AND request <> claim_answer.request
    ) THEN
        RAISE EXCEPTION 'the key was used for another request' USING ERRCODE = 'IS007';
    ELSIF EXISTS (
        SELECT FROM control.first_answers
        WHERE tenant_id = tenant AND user_id = holder AND key = claim_answer.key AND place = claim_answer.place
    ) THEN
        RAISE EXCEPTION 'the request was answered before' USING ERRCODE = 'IS008';
    END IF;
    RETURN false;
END $$;

-- Keeps the answer for a claimed place, with the permissions of the request; ``refusal`` tells that it is an error.
-- Returns the answer. Raises IS009 for one of more than 64 KiB: all tenants share the disk of the table.
CREATE FUNCTION isola.keep_answer(
    key text, place integer, request bytea, permissions text, refusal boolean, answer text
) RETURNS text LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF octet_length(keep_answer.answer) > 65536 THEN
        RAISE EXCEPTION 'the answer is too large to be kept' USING ERRCODE = 'IS009';
    END IF;
    INSERT INTO control.first_answers (tenant_id, user_id, key, place, request, permissions, refusal, answer)
    VALUES (
        isola.proved_tenant_id(), nullif(split_part(current_setting('isola.proof'), chr(10), 2), '')::uuid,
        keep_answer.key, keep_answer.place, keep_answer.request, keep_answer.permissions, keep_answer.refusal,
        keep_answer.answer
    );
    RETURN keep_answer.answer;
END $$;

-- The answer that the proved user got for a place of a request; no row if there is none.
CREATE FUNCTION isola.first_answer(
    key text, place integer, request bytea, OUT permissions text, OUT refusal boolean, OUT answer text
) RETURNS SETOF record LANGUAGE plpgsql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := isola.bound_tenant();
    holder uuid := isola.current_user_id();
BEGIN
    RETURN QUERY SELECT a.permissions, a.refusal, a.answer FROM control.first_answers a
    WHERE a.tenant_id = tenant AND a.user_id = holder AND a.key = first_answer.key
      AND a.place = first_answer.place AND a.request = first_answer.request
      AND a.kept_at > now() - interval '24 hours';
END $$;
