-- Every tenant shares its first resources with the next one.
INSERT INTO control.shares (owner_id, subject, row_id, grantee_slug, grantee_id, granted_by, fields)
SELECT r.tenant_id, 'resource', r.id, owner.next_slug, owner.next, r.owner_id, shared.shared
FROM (
    SELECT id, lead(id) OVER (ORDER BY id) AS next, lead(slug) OVER (ORDER BY id) AS next_slug
    FROM control.tenants WHERE strategy = 'rls'
) owner
CROSS JOIN LATERAL (SELECT * FROM rls.resources WHERE tenant_id = owner.id ORDER BY id LIMIT $shares) r
CROSS JOIN control.subjects shared
WHERE owner.next IS NOT NULL AND shared.name = 'resource';

INSERT INTO control.share_answers (grantee_id, owner_id, owner_slug, share_id, accepted, answered_by)
SELECT DISTINCT ON (s.grantee_id, s.owner_id) s.grantee_id, s.owner_id, o.slug, s.id, true, s.granted_by
FROM control.shares s JOIN control.tenants o ON o.id = s.owner_id;
