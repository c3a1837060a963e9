-- The words of searched texts. A subject that declares what is searched has a further table: a row for each word of each
-- of its rows, so that an index finds the rows with a word, also under row-level security. Triggers keep it. They run as
-- isola_words, a role without a login, which can read and change such tables and nothing else.

-- The words of a text, as a configuration of PostgreSQL's text search makes them, without accents and other ways of
-- writing: see app/isola/subjects/folding.py. The words of a search are made in the same way.
CREATE FUNCTION isola.words(language regconfig, searched text) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN tsvector_to_array(to_tsvector(language, CASE
    WHEN octet_length(searched) = length(searched) THEN searched
    ELSE normalize(regexp_replace(normalize(searched, NFKD), '[\u0300-\u036F\U0010FFFF]', '', 'g'), NFC)
END));

-- Keeps the words of new rows, once for each statement, and of changed rows, for each row whose searched texts have
-- changed. Those of deleted rows are deleted by their foreign key. The arguments are the table of words, its column with
-- the id of the row, the configuration, and the searched columns. Words are written with the defaults of their table: so
-- they are of the bound tenant, or refused. Changes by the owner of the tables are left out, as by isola.audit(): it
-- copies whole homes, with their words.
CREATE FUNCTION isola.keep_words() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kept_in text := format('%I.%I', TG_TABLE_SCHEMA, TG_ARGV[0]);
    searched text;
    words text[];
BEGIN
    IF isola.audit_of_owner(TG_RELID) THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'INSERT' THEN
        SELECT string_agg(format('n.%I', name), ', ') INTO searched FROM unnest(TG_ARGV[3]::text[]) name;
        EXECUTE format(
            'INSERT INTO %s (%I, word) SELECT n.id, unnest(isola.words(%L, concat_ws(chr(10), %s))) FROM new_rows n',
            kept_in, TG_ARGV[1], TG_ARGV[2], searched
        );
        RETURN NULL;
    END IF;
    SELECT string_agg(format('($1).%I', name), ', ') INTO searched FROM unnest(TG_ARGV[3]::text[]) name;
    EXECUTE format('SELECT isola.words(%L, concat_ws(chr(10), %s))', TG_ARGV[2], searched) INTO words USING NEW;
    EXECUTE format('DELETE FROM %s WHERE %I = $1 AND word <> ALL ($2)', kept_in, TG_ARGV[1]) USING NEW.id, words;
    EXECUTE format('INSERT INTO %s (%I, word) SELECT $1, unnest($2) ON CONFLICT DO NOTHING', kept_in, TG_ARGV[1])
        USING NEW.id, words;
    RETURN NULL;
END $$;

-- Makes all words of a table anew, for a revision, which is a statement of the owner: of all tenants in the home. The
-- words have the key of their row: its columns, whichever a strategy has added, are the first of their own key.
CREATE FUNCTION isola.fill_words(kept_in regclass, of regclass, language regconfig, columns text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    of_words text;
    of_rows text;
    searched text;
BEGIN
    SELECT
        string_agg(quote_ident(attname), ', ' ORDER BY place) FILTER (WHERE indrelid = kept_in AND attname <> 'word'),
        string_agg(format('r.%I', attname), ', ' ORDER BY place) FILTER (WHERE indrelid = of)
    INTO of_words, of_rows
    FROM pg_index, unnest(indkey) WITH ORDINALITY key (number, place)
    JOIN pg_attribute ON attnum = number
    WHERE indrelid IN (kept_in, of) AND indisprimary AND attrelid = indrelid;
    SELECT string_agg(format('r.%I', name), ', ') INTO searched FROM unnest(columns) name;
    EXECUTE format('DELETE FROM %s', kept_in);
    EXECUTE format(
        'INSERT INTO %s (%s, word) SELECT %s, unnest(isola.words(%L, concat_ws(chr(10), %s))) FROM %s r',
        kept_in, of_words, of_rows, language, searched, of
    );
END $$;
