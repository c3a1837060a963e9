-- Size limits for the results that read statements build: see app/isola/query/budget.py.

-- Returns a piece of a result if it has at most ``most`` bytes and all pieces built so far in the transaction have at
-- most ``total``. The error names ``field``.
CREATE FUNCTION isola.measured(piece text, most bigint, total bigint, field text) RETURNS text
LANGUAGE plpgsql VOLATILE STRICT PARALLEL RESTRICTED AS $$
DECLARE
    built bigint := octet_length(piece) + coalesce(nullif(current_setting('isola.built', true), '')::bigint, 0);
BEGIN
    IF octet_length(piece) > most OR built > total THEN
        RAISE EXCEPTION USING
            ERRCODE = 'IS005', MESSAGE = 'the answer is too large', COLUMN = field, CONSTRAINT = most::text;
    END IF;
    PERFORM set_config('isola.built', built::text, true);
    RETURN piece;
END
$$;
