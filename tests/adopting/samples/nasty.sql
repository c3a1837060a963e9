CREATE TYPE "Mood" AS ENUM ('happy', 'so-so', 'x:y', '50%', 'ünhappy');
CREATE DOMAIN percent AS numeric(5, 2) NOT NULL CHECK (VALUE >= 0 AND VALUE <= 100);
CREATE DOMAIN email AS text CHECK (VALUE ~ '^[^@]+@[^@ ]+$');
CREATE TYPE address AS (street text, town text);

-- Composite keys, and what refers to them.
CREATE TABLE warehouses (country char(2), number smallint, name text NOT NULL, PRIMARY KEY (country, number));
CREATE TABLE shelves (
    country char(2), warehouse smallint, shelf int, load percent DEFAULT 0,
    PRIMARY KEY (country, warehouse, shelf),
    CONSTRAINT shelf_in FOREIGN KEY (country, warehouse) REFERENCES warehouses ON DELETE CASCADE
);
COMMENT ON TABLE warehouses IS 'Where "things" are kept: \ and ''so''.';
COMMENT ON COLUMN warehouses.name IS 'As people say it: "the big one".';

-- A self reference, and a circle in which nothing may be null.
CREATE TABLE people (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, boss bigint REFERENCES people ON DELETE SET NULL,
    name varchar(50) NOT NULL, address email UNIQUE, mood "Mood" NOT NULL DEFAULT 'so-so', home address,
    team_id int NOT NULL, created_at timestamp NOT NULL DEFAULT now(),
    CHECK (boss <> id), CHECK (length(name) > 1), CONSTRAINT ":odd" CHECK (name <> 'a :b')
);
CREATE TABLE teams (id serial PRIMARY KEY, lead bigint NOT NULL REFERENCES people, title text NOT NULL UNIQUE);
ALTER TABLE people ADD FOREIGN KEY (team_id) REFERENCES teams DEFERRABLE INITIALLY DEFERRED;
CREATE INDEX ON people (lower(name));
CREATE INDEX ON people (mood, name);

-- Names that need quoting, words that mean something, and columns of every kind.
CREATE TABLE "Order Items" (
    "Id" uuid PRIMARY KEY DEFAULT gen_random_uuid(), "select" text, "class" int, "update" int, "Größe" real,
    "and" boolean DEFAULT true, "order" date DEFAULT '2020-01-31', "column" text DEFAULT 'it''s', "user" text, "list" int,
    tags text[] NOT NULL DEFAULT '{}', prices numeric[], amount numeric, price numeric(10, 2) NOT NULL DEFAULT 1.50,
    double_price numeric GENERATED ALWAYS AS (price * 2) STORED, "per cent%" int, data json, more jsonb DEFAULT '{}',
    photo bytea, at time, lasts interval, host inet, during int4range, doc xml, spent money, words tsvector,
    moods "Mood"[], big bigint CHECK (big > 0), updated_at timestamptz, EXCLUDE USING gist (during WITH &&)
);
CREATE TABLE no_key (a int, b text, s int);
CREATE TABLE codes (code text UNIQUE NOT NULL, "user" int);
CREATE TABLE uses (id int PRIMARY KEY, code text REFERENCES codes (code) ON UPDATE CASCADE, amount numeric(3, -2));
CREATE TABLE "user" (id int PRIMARY KEY, name text);
CREATE TABLE node (id int PRIMARY KEY, friend int NOT NULL UNIQUE REFERENCES node);
CREATE TABLE profile (user_id int PRIMARY KEY REFERENCES "user", bio text);
CREATE TABLE friends (a bigint REFERENCES people, b bigint REFERENCES people, PRIMARY KEY (a, b));
CREATE TABLE people_teams (team int REFERENCES teams, person bigint REFERENCES people, PRIMARY KEY (team, person));
CREATE TABLE codes_people (code text REFERENCES codes (code) ON UPDATE CASCADE, person bigint REFERENCES people ON DELETE CASCADE, PRIMARY KEY (code, person));
CREATE TABLE full_keys (
    id int PRIMARY KEY, country char(2), number smallint, expected_updated_at timestamptz,
    FOREIGN KEY (country, number) REFERENCES warehouses MATCH FULL
);
CREATE TABLE only_bytes (b bytea);
-- Names that mean something to Python, to GraphQL, to SQL or to Isola, and the longest that there are.
CREATE TABLE class (id int PRIMARY KEY, tenant_id uuid, declaration text, "table" text, "None" int, mro int, n int, o int);
CREATE TABLE purchase (id int PRIMARY KEY);
CREATE TABLE purchase_order (id int PRIMARY KEY, purchase int REFERENCES purchase);
CREATE TABLE purchase_filter (id int PRIMARY KEY, grid int[][] DEFAULT '{}');
CREATE TYPE purchase_kind AS ENUM ('true', '');
CREATE TABLE decimal (id int PRIMARY KEY, decimal numeric, date date, kind purchase_kind);
CREATE TABLE "references" (id int PRIMARY KEY);
CREATE TABLE bounded (
    id int PRIMARY KEY, year smallint CHECK (year >= 1901 AND year < 2156), share numeric(5, 2) NOT NULL CHECK (share > 0),
    starts date NOT NULL, ends date NOT NULL CHECK (ends > '1990-01-01'), address email NOT NULL UNIQUE,
    code text NOT NULL CHECK (code ~ '^[A-Z]+$' AND length(code) = 3), a int, b int, n int, made timestamp NOT NULL DEFAULT now(), day date NOT NULL DEFAULT CURRENT_DATE, CHECK (ends > starts), CHECK (num_nonnulls(a, b, n) = 1)
);
CREATE TABLE the_longest_name_that_a_table_can_have_has_sixty_three_signs__1 (
    the_longest_name_that_a_column_can_have_has_sixty_three_sign_1 int PRIMARY KEY,
    the_longest_name_that_a_column_can_have_has_sixty_three_sign_2 int CHECK (the_longest_name_that_a_column_can_have_has_sixty_three_sign_2 > 0)
);
CREATE TABLE the_longest_name_that_a_table_can_have_has_sixty_three_signs__2 (
    id int PRIMARY KEY, other int REFERENCES the_longest_name_that_a_table_can_have_has_sixty_three_signs__1, more int, UNIQUE (other, more)
);
CREATE TABLE "表" ("列" char(3) PRIMARY KEY, "a""b's {}%$" int, flags bit(3) UNIQUE);
CREATE TABLE "表2" (id int PRIMARY KEY, "列" char(5) REFERENCES "表", flags bit(3) REFERENCES "表" (flags));

CREATE TABLE events (id bigint, at date NOT NULL, what text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE events_old PARTITION OF events FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
CREATE TABLE events_new PARTITION OF events FOR VALUES FROM ('2020-01-01') TO (MAXVALUE);
ALTER TABLE events ADD COLUMN actor bigint, ADD COLUMN other bigint;
ALTER TABLE events_old ADD FOREIGN KEY (actor) REFERENCES people;
ALTER TABLE events_new ADD FOREIGN KEY (actor) REFERENCES people;
ALTER TABLE events_new ADD FOREIGN KEY (other) REFERENCES people;
ALTER TABLE events_old ALTER what SET DEFAULT 'once', ADD CHECK (what <> 'never');
CREATE INDEX only_old ON events_old (what);
CREATE TABLE base (id int PRIMARY KEY, x int);
CREATE TABLE derived (y int) INHERITS (base);

CREATE VIEW happy AS SELECT * FROM people WHERE mood = 'happy';
CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM people;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER touched BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TRIGGER touched_old BEFORE UPDATE ON events_old FOR EACH ROW EXECUTE FUNCTION touch();
CREATE SEQUENCE spare;
CREATE TYPE unused_type AS (a int);
CREATE OPERATOR ### (leftarg = int, rightarg = int, function = int4pl);

-- Arrays of every kind; domains over arrays, and arrays of domains.
CREATE DOMAIN few AS text[] CHECK (cardinality(VALUE) < 5);
CREATE DOMAIN grid AS int[][];
CREATE DOMAIN small AS int CHECK (VALUE < 100);
CREATE DOMAIN code AS varchar(5) NOT NULL DEFAULT 'none';
CREATE TABLE lists (
    id int PRIMARY KEY, texts varchar(9)[] NOT NULL DEFAULT '{a,"b c"}', ints smallint[] DEFAULT ARRAY[1, 2], bigs bigint[],
    bools bool[] DEFAULT '{t,f}', numbers numeric(10, 2)[], floats real[], days date[], times timestamp[], moments timestamptz[],
    ids uuid[], documents jsonb[], bytes bytea[], addresses address[], smalls small[], few few, grid grid, code code,
    computed text[] DEFAULT string_to_array('a b', ' ')
);
-- Keys that compare periods, and unique keys of texts that are equal although they are written in other ways.
CREATE EXTENSION btree_gist;
CREATE TABLE lives (id int, during daterange, name text, CONSTRAINT one_life PRIMARY KEY (id, during WITHOUT OVERLAPS));
CREATE TABLE works (
    id int PRIMARY KEY, life int, during daterange, flat float8 UNIQUE, host inet UNIQUE,
    CONSTRAINT by_life FOREIGN KEY (life, PERIOD during) REFERENCES lives (id, PERIOD during)
);
CREATE UNIQUE INDEX with_host ON works (life) INCLUDE (host);
CREATE INDEX lives_gin ON lists USING gin (texts);
ALTER TABLE codes ENABLE ROW LEVEL SECURITY;
CREATE POLICY few ON codes USING (code <> '');

BEGIN;
INSERT INTO warehouses VALUES ('de', 1, 'Köln'), ('de', -2, E'a\tb\nc\\d'), ('fr', 1, '');
INSERT INTO shelves VALUES ('de', 1, 1, 50), ('de', 1, 2, 0), ('fr', 1, 1, 99.99);
INSERT INTO people (boss, name, address, mood, home, team_id)
    VALUES (NULL, 'Ada', 'ada@example.org', 'happy', ('Street', 'Town'), 1), (1, 'Bob', NULL, 'x:y', NULL, 1), (2, 'Cy', 'c@d', '50%', NULL, 1);
INSERT INTO teams (lead, title) VALUES (1, 'Analysts');
COMMIT;
INSERT INTO "Order Items" ("Id", "select", "class", "update", "Größe", tags, prices, amount, data, photo, at, lasts, host, during, spent, words, moods, big)
    VALUES ('00000000-0000-0000-0000-000000000001', 's', 1, 2, 0.1, '{a,"b c"}', '{1.5,2}', 12.345, '{"a": 1,  "a": 2}', '\x00', '12:34',
        '1 day 2 hours', '10.0.0.1', '[1,3)', 12, 'a b', '{happy,"x:y"}', 9007199254740991),
    ('00000000-0000-0000-0000-000000000002', NULL, NULL, NULL, NULL, '{}', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO no_key VALUES (1, 'x', 5), (1, 'x', 5), (NULL, NULL, 5), (2, 'y', 5);
INSERT INTO codes VALUES ('one', 1), ('two', NULL);
INSERT INTO uses VALUES (1, 'one', 1200), (2, NULL, NULL), (3, 'one', 100);
INSERT INTO "user" VALUES (-1, 'minus'), (1, 'plus');
INSERT INTO node VALUES (1, 2), (2, 1);
INSERT INTO profile VALUES (1, 'Was born.');
INSERT INTO friends VALUES (1, 2), (2, 1), (3, 3);
INSERT INTO people_teams VALUES (1, 1), (1, 3);
INSERT INTO events VALUES (1, '2019-05-05', 'old', 1), (1, '2021-05-05', 'new', 2);
INSERT INTO base VALUES (1, 10);
INSERT INTO derived VALUES (1, 11, 12);
INSERT INTO class VALUES (1, '00000000-0000-0000-0000-000000000001', 'd', 't', 2, 3, 4, 5);
INSERT INTO purchase VALUES (1);
INSERT INTO purchase_order VALUES (1, 1);
INSERT INTO decimal VALUES (1, 1.5, '2020-02-29', 'true'), (2, NULL, NULL, '');
INSERT INTO the_longest_name_that_a_table_can_have_has_sixty_three_signs__1 VALUES (1, 2);
INSERT INTO the_longest_name_that_a_table_can_have_has_sixty_three_signs__2 VALUES (1, 1, 3);
INSERT INTO "表" VALUES ('abc', 1, '101'), ('abd', 2, '110'), ('a', 3, '111');
INSERT INTO "表2" VALUES (1, 'abd', '110'), (2, 'a', NULL);
INSERT INTO bounded VALUES (1, 1999, 0.5, '2020-01-01', '2020-01-02', 'a@b', 'XYZ', 1);
INSERT INTO purchase_filter VALUES (1, '{{1,2},{3,4}}');
INSERT INTO lists (id) VALUES (1);
INSERT INTO lists VALUES (2, ARRAY['x', 'y "q",z', '', 'NULL', E'\\'], '{}', '{9007199254740991,-1}', '{f}', '{1.50,-2}', '{0.1,1e30}', '{2020-02-29}',
    '{2020-01-01 10:00}', '{2020-01-01 10:00+02}', '{00000000-0000-0000-0000-000000000001}', ARRAY['{"a": 1}'::jsonb], NULL, NULL, '{5}',
    '{p,q}', '{{1,2},{3,4}}', 'abc', '[3:4]={c,d}');
INSERT INTO lives VALUES (1, '[2020-01-01,2021-01-01)', 'a'), (1, '[2021-01-01,2022-01-01)', 'b');
INSERT INTO works VALUES (1, 1, '[2020-06-01,2021-06-01)', 0.5, '10.0.0.1');
