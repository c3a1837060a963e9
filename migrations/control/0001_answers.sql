-- What the statements of reads build, kept within bounds: see app/isola/query/budget.py.

-- A piece of an answer, as long as it is within ``most`` bytes and all pieces that the transaction has built so far are
-- within ``total``. ``field`` is what the error names.
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
