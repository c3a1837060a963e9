-- The features of a tenant with a plan: the plan's, NULL for all; the tenant's overrides that have not ended; and, unless the
-- plan has all, the features of the plans that are listed, for the error that says which plan has a missing one. Also its
-- rates, and the overrides of these. Servers cache it with the tenant's entry, and apply the ends of overrides themselves.
CREATE FUNCTION control.entitlements(tenant uuid, plan text) RETURNS jsonb LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT jsonb_build_object(
        'plan', to_jsonb(p.features),
        'overrides', coalesce((
            SELECT jsonb_agg(jsonb_build_array(o.feature, o.given, o.ends_at) ORDER BY o.feature)
            FROM control.feature_overrides o
            WHERE o.tenant_id = entitlements.tenant AND (o.ends_at IS NULL OR o.ends_at > now())
        ), '[]'),
        'offers', coalesce((
            SELECT jsonb_agg(jsonb_build_array(l.name, to_jsonb(l.features)) ORDER BY l.price, l.name)
            FROM control.plans l WHERE l.listed AND l.retired_at IS NULL
        ), '[]'),
        'rates', p.rates,
        'rate_overrides', coalesce((
            SELECT jsonb_agg(jsonb_build_array(r.rate, r.value, r.ends_at) ORDER BY r.rate)
            FROM control.rate_overrides r
            WHERE r.tenant_id = entitlements.tenant AND (r.ends_at IS NULL OR r.ends_at > now())
        ), '[]')
    )
    FROM control.plans p WHERE p.name = entitlements.plan;
END;

-- Which of the features that a server knows the bound tenant has.
CREATE FUNCTION isola.plan_features(known text[]) RETURNS text[] LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT ARRAY(
        SELECT k.name FROM unnest(plan_features.known) k (name)
        LEFT JOIN control.feature_overrides o
            ON o.tenant_id = t.id AND o.feature = k.name AND (o.ends_at IS NULL OR o.ends_at > statement_timestamp())
        WHERE coalesce(o.given, p.features IS NULL OR k.name = ANY (p.features))
        ORDER BY 1
    )
    FROM control.tenants t JOIN control.plans p ON p.name = t.plan
    WHERE t.id = (SELECT isola.bound_tenant());
END;

-- The rates of the bound tenant. ``until`` is the end of an override.
CREATE FUNCTION isola.plan_rates() RETURNS TABLE (id text, allowed bigint, period text, until timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT given.rate, split_part(given.value, '/', 1)::bigint, split_part(given.value, '/', 2), given.ends_at
    FROM control.tenants t
    JOIN control.plans p ON p.name = t.plan
    CROSS JOIN LATERAL (
        SELECT of_plan.key AS rate, of_plan.value, NULL::timestamptz AS ends_at FROM jsonb_each_text(p.rates) of_plan
        WHERE NOT EXISTS (
            SELECT FROM control.rate_overrides o
            WHERE o.tenant_id = t.id AND o.rate = of_plan.key
              AND (o.ends_at IS NULL OR o.ends_at > statement_timestamp())
        )
        UNION ALL
        SELECT o.rate, o.value, o.ends_at FROM control.rate_overrides o
        WHERE o.tenant_id = t.id AND o.value IS NOT NULL AND (o.ends_at IS NULL OR o.ends_at > statement_timestamp())
    ) given
    WHERE t.id = (SELECT isola.bound_tenant());
END;
