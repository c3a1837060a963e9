-- Every tenant shares its first resources with the next one.
INSERT INTO control.shares (owner_id, resource_id, grantee_id, granted_by)
SELECT r.tenant_id, r.id, owner.next, r.owner_id
FROM (SELECT id, lead(id) OVER (ORDER BY id) AS next FROM control.tenants WHERE strategy = 'rls') owner
CROSS JOIN LATERAL (SELECT * FROM rls.resources WHERE tenant_id = owner.id ORDER BY id LIMIT $shares) r
WHERE owner.next IS NOT NULL;
