-- The rows of all residents, by formulas: equal under every strategy, and in every run of the same seed.
-- Each view has the columns of a table, and before them whose row it is and its number, by which residents' rows lie
-- between each other in shared tables, as they do when tenants work at the same time.
CREATE SCHEMA lab;

CREATE TABLE lab.residents (number int PRIMARY KEY, tenant uuid NOT NULL, home text NOT NULL, rows int NOT NULL);
CREATE INDEX ON lab.residents (home);

-- A UUIDv7, later for a higher number.
CREATE FUNCTION lab.id(kind text, resident int, n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    lpad(to_hex(1700000000000 + n * 1000), 12, '0') || '7' || substr(md5(concat(kind, resident, '/', n, '/$seed')), 1, 3)
    || 'a' || substr(md5(concat(n, '/', resident, kind, '/$seed')), 1, 15)
)::uuid;

CREATE FUNCTION lab.moment(n bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN timestamptz '2025-01-01 00:00:00+00' + n * interval '7 minutes';

CREATE VIEW lab.users AS
SELECT number, tenant, home, n, lab.id('user', number, n) AS id, lab.id('user', number, n)::text AS subject,
    'Person ' || n AS name, 'person' || n || '@tenant' || number || '.example' AS email, lab.moment(n) AS created_at
FROM lab.residents CROSS JOIN LATERAL generate_series(1, $users) n;

CREATE VIEW lab.organizations AS
SELECT number, tenant, home, n, lab.id('organization', number, n) AS id, 'Team ' || n AS name, 'team ' || n AS name_key,
    lab.moment(n) AS created_at
FROM lab.residents CROSS JOIN LATERAL generate_series(1, $organizations) n;

CREATE VIEW lab.memberships AS
SELECT number, tenant, home, n, lab.id('organization', number, 1 + n % $organizations) AS organization_id,
    lab.id('user', number, n) AS user_id, lab.moment(n) AS joined_at
FROM lab.residents CROSS JOIN LATERAL generate_series(1, $users) n;

CREATE VIEW lab.resources AS
SELECT number, tenant, home, n,
    lab.id('resource', number, n) AS id,
    lab.id('user', number, 1 + n % $users) AS owner_id,
    (ARRAY['amber', 'basalt', 'cobalt', 'delta', 'ember', 'fjord', 'granite', 'harbor'])[1 + n * 5 % 8] || ' ' || n AS name,
    (ARRAY['dataset', 'report', 'image', 'model', NULL])[1 + n % 5] AS kind,
    jsonb_build_object(
        'unit', 'ms', 'measured', n * 1.25, 'tags', jsonb_build_array('tag' || n % 7, 'tag' || n % 11)
    ) AS data,
    n::bigint * 4096 AS size_bytes,
    lab.moment(n) AS created_at,
    lab.moment(n + 1) AS updated_at
FROM lab.residents CROSS JOIN LATERAL generate_series(1, rows) n;

CREATE VIEW lab.spans AS
SELECT number, tenant, home, n,
    lab.id('span', number, n) AS id,
    lab.id('user', number, 1 + n % $users) AS author_id,
    (ARRAY['reviewed', 'measured', 'renamed', 'queried'])[1 + n % 4] || ' ' || n AS title,
    jsonb_build_object('seconds', n * 0.25) AS payload,
    lab.id('resource', number, 1 + (n - 1) % rows) AS resource_id,
    CASE WHEN n % 5 = 1 THEN lab.id('organization', number, 1 + n % $organizations) END AS organization_id,
    (ARRAY['public', 'organization', 'public', 'private', 'public'])[1 + n % 5] AS visibility,
    lab.moment(n) AS created_at,
    lab.moment(n + 1) AS updated_at
FROM lab.residents CROSS JOIN LATERAL generate_series(1, rows * $spans) n;

-- Of each table of a larger application.
CREATE VIEW lab.further AS
SELECT number, tenant, home, n, lab.id('further', number, n) AS id,
    lab.id('resource', number, 1 + (n - 1) % rows) AS resource_id, 'thing ' || n AS name, n::bigint * 100 AS amount,
    lab.moment(n) AS created_at
FROM lab.residents CROSS JOIN LATERAL generate_series(1, $further) n;
