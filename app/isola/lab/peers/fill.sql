-- Fills the shared tables. Rows of all tenants lie between each other, as they do when tenants work at the same time.
SET LOCAL search_path TO rls;

INSERT INTO users (tenant_id, id, subject, name, email, created_at)
SELECT tenant.id, made.id, made.id::text, 'Person ' || n, 'person' || n || '@' || tenant.slug || '.example', made.at
FROM generate_series(1, $users) n
CROSS JOIN (SELECT id, slug FROM control.tenants WHERE strategy = 'rls') tenant
-- Peers without a directory of users take the subject of a token for the user's key.
CROSS JOIN LATERAL (SELECT isola.uuid_v7() AS id, now() - interval '1 year' + n * interval '1 hour' AS at) made;

INSERT INTO organizations (tenant_id, name, name_key)
SELECT tenant.id, 'Team ' || n, 'team ' || n
FROM generate_series(1, $organizations) n
CROSS JOIN (SELECT id FROM control.tenants WHERE strategy = 'rls') tenant;

CREATE TEMPORARY TABLE people ON COMMIT DROP AS
SELECT u.tenant_id, u.users, o.organizations
FROM (SELECT tenant_id, array_agg(id ORDER BY id) AS users FROM users GROUP BY tenant_id) u
JOIN (SELECT tenant_id, array_agg(id ORDER BY id) AS organizations FROM organizations GROUP BY tenant_id) o USING (tenant_id);

INSERT INTO memberships (tenant_id, organization_id, user_id)
SELECT tenant_id, organizations[1 + n % $organizations], users[n]
FROM generate_series(1, $users) n CROSS JOIN people;

INSERT INTO resources (tenant_id, owner_id, name, kind, data, size_bytes, created_at, updated_at)
SELECT
    tenant_id,
    users[1 + n % $users],
    (ARRAY['amber', 'basalt', 'cobalt', 'delta', 'ember', 'fjord', 'granite', 'harbor'])[1 + n * 5 % 8] || ' ' || n,
    (ARRAY['dataset', 'report', 'image', 'model', NULL])[1 + n % 5],
    jsonb_build_object('unit', 'ms', 'measured', n * 1.25, 'tags', jsonb_build_array('tag' || n % 7, 'tag' || n % 11)),
    n * 4096,
    now() - ($resources - n) * interval '7 minutes',
    now() - ($resources - n) * interval '5 minutes'
FROM generate_series(1, $resources) n CROSS JOIN people
ORDER BY n;

INSERT INTO spans (tenant_id, author_id, title, payload, resource_id, organization_id, visibility, created_at)
SELECT
    tenant_id,
    users[1 + (r.n + k) % $users],
    (ARRAY['reviewed', 'measured', 'renamed', 'queried'])[1 + k % 4] || ' ' || r.name,
    jsonb_build_object('seconds', k * 0.25),
    r.id,
    CASE visibility WHEN 'organization' THEN organizations[1 + k % $organizations] END,
    visibility,
    r.created_at + k * interval '13 seconds'
FROM (SELECT *, row_number() OVER (PARTITION BY tenant_id ORDER BY id) AS n FROM resources) r
JOIN people USING (tenant_id)
CROSS JOIN LATERAL generate_series(1, CASE WHEN r.n <= $busy THEN $busy_spans ELSE $quiet_spans END) k
CROSS JOIN LATERAL (
    SELECT (ARRAY['public', 'organization', 'public', 'private', 'public'])[1 + (r.n + k) % 5] AS visibility
) seen
ORDER BY k, r.n;
