-- Every tenant shares its first resources with the next one, its partner.
CREATE TEMP TABLE pairs AS
SELECT * FROM (
    SELECT id, slug, lead(id) OVER (ORDER BY id) AS next, lead(slug) OVER (ORDER BY id) AS next_slug,
        gen_random_uuid() AS partnership
    FROM control.tenants WHERE strategy = 'rls'
) each WHERE next IS NOT NULL;

INSERT INTO control.partners (tenant_id, partner_id, partner_slug, id, offered_at)
SELECT id, next, next_slug, partnership, now() FROM pairs
UNION ALL
SELECT next, id, slug, partnership, now() FROM pairs;

INSERT INTO control.shares (owner_id, subject, row_id, grantee_slug, grantee_id, partnership_id, granted_by, fields)
SELECT r.tenant_id, 'resource', r.id, owner.next_slug, owner.next, owner.partnership, r.owner_id, shared.shared
FROM pairs owner
CROSS JOIN LATERAL (SELECT * FROM rls.resources WHERE tenant_id = owner.id ORDER BY id LIMIT $shares) r
CROSS JOIN control.subjects shared
WHERE shared.name = 'resource';

SELECT isola.copy_all(id, 'resource') FROM pairs;

DROP TABLE pairs;
