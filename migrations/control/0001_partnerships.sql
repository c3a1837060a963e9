-- Partnerships: a tenant shares only with tenants that have agreed to it. One tenant offers a partnership by a slug, the
-- tenant of that slug accepts or declines, and each of them ends it. As with sharing, tenant traffic has no access to
-- the schema control, and each function first checks the bound tenant.
--
-- An offer reveals nothing about the tenant of the slug. The functions run the same statements and take the same locks
-- whether there is one or not: a slug of nobody stands for a random id, which no foreign key refuses. What the tenant of
-- the slug answers, except by accepting, is stored apart from the offer.

-- Whether a tenant has blocked another.
CREATE FUNCTION isola.has_blocked(tenant uuid, other uuid) RETURNS boolean LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT EXISTS (SELECT FROM control.tenant_blocks WHERE tenant_id = tenant AND blocked_id = other);
END;

-- The tenant with that slug; if there is none, ``nobody`` or, by default, an id that no tenant has.
CREATE FUNCTION isola.tenant_or_nobody(of_slug text, nobody uuid) RETURNS uuid LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT coalesce(
        (SELECT id FROM control.tenants WHERE slug = of_slug AND status <> 'deleted'), nobody, gen_random_uuid()
    );
END;

-- Has transactions of a tenant wait for each other from here on.
CREATE FUNCTION isola.take_turn(tenant uuid) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO control.quota_turns (tenant_id) VALUES (tenant) ON CONFLICT DO NOTHING;
    PERFORM FROM control.quota_turns WHERE tenant_id = tenant FOR UPDATE;
END $$;

-- Whether a text has the form of a slug, and is not the bound tenant's own.
CREATE FUNCTION isola.is_slug_of_another(of_slug text) RETURNS boolean LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT coalesce(of_slug ~ '^[a-z][a-z0-9-]{0,61}[a-z0-9]$', false)
       AND of_slug <> (SELECT slug FROM control.tenants WHERE id = isola.bound_tenant());
END;

-- Locks the open offers between two tenants, in the same order for all: two tenants that offer to each other, or accept,
-- wait for each other.
CREATE FUNCTION isola.lock_offers(one uuid, other uuid) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM control.partnership_offers o
    WHERE (o.tenant_id = one AND o.partner_id = other) OR (o.tenant_id = other AND o.partner_id = one)
    ORDER BY o.tenant_id FOR UPDATE;
END $$;

-- Makes two tenants partners, and ends the offers between them, which the caller has locked. ``by_domain`` is the domain
-- by whose rule the second accepts.
CREATE FUNCTION isola.begin_partnership(partnership uuid, offerer uuid, accepter uuid, since timestamptz, by_domain text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    DELETE FROM control.partnership_offers
    WHERE (tenant_id = offerer AND partner_id = accepter) OR (tenant_id = accepter AND partner_id = offerer);
    INSERT INTO control.partners (tenant_id, partner_id, partner_slug, id, offered_at, by_domain)
    SELECT pair.tenant, pair.partner, t.slug, partnership, since,
        CASE WHEN pair.tenant = accepter THEN begin_partnership.by_domain END
    FROM (VALUES (offerer, accepter), (accepter, offerer)) pair (tenant, partner)
    JOIN control.tenants t ON t.id = pair.partner
    ORDER BY pair.tenant
    ON CONFLICT DO NOTHING;
END $$;

-- Offers a partnership to the tenant of that slug, and returns its id. If that tenant has an open offer to the bound one,
-- or accepts offers from one of its verified domains, they are partners at once. To offer again changes nothing while
-- the offer is open, except that it is for the tenant that has the slug now. ``refused``: ``slug`` if it is malformed or
-- the tenant's own, ``blocked`` if the tenant has blocked it, ``partner`` if it is a partner already, ``many`` if there
-- are too many open offers. All of it depends only on the bound tenant's own rows.
CREATE FUNCTION isola.offer_partnership(partner text, OUT partnership uuid, OUT refused text) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
#variable_conflict use_column
DECLARE
    most CONSTANT int := 100;
    own uuid := isola.bound_tenant();
    made control.partnership_offers;
    target uuid;
    returned boolean;
    trusted text;
    refuses boolean;
    able boolean;
BEGIN
    IF NOT isola.is_slug_of_another(partner) THEN
        refused := 'slug';
        RETURN;
    END IF;
    -- So that the offers of concurrent transactions are counted.
    PERFORM isola.take_turn(own);
    SELECT * INTO made FROM control.partnership_offers WHERE tenant_id = own AND partner_slug = partner;
    target := isola.tenant_or_nobody(partner, made.partner_id);
    IF EXISTS (SELECT FROM control.tenant_blocks WHERE tenant_id = own AND slug = partner) THEN
        refused := 'blocked';
    ELSIF EXISTS (SELECT FROM control.partners WHERE tenant_id = own AND partner_id = target) THEN
        refused := 'partner';
    ELSIF (SELECT count(*) FROM control.partnership_offers WHERE tenant_id = own AND partner_slug <> partner) >= most THEN
        refused := 'many';
    END IF;
    IF refused IS NOT NULL THEN
        RETURN;
    END IF;
    returned := EXISTS (SELECT FROM control.partnership_offers WHERE tenant_id = target AND partner_id = own);
    -- One look-up for each of the tenant's own domains, however many the other trusts.
    SELECT d.name INTO trusted FROM control.domains d
    WHERE d.tenant_id = own AND d.verified_at IS NOT NULL
      AND (SELECT true FROM control.partner_domains w WHERE w.tenant_id = target AND w.name = d.name LIMIT 1)
    ORDER BY d.name LIMIT 1;
    refuses := isola.has_blocked(target, own);
    -- No entry can be written into the log of a tenant that is being moved: the offer stays open.
    able := EXISTS (SELECT FROM control.tenants WHERE id = target AND status = 'active' AND moving_to IS NULL);
    IF (returned OR trusted IS NOT NULL) AND NOT refuses AND able AND EXISTS (SELECT FROM control.sharers WHERE id = target) THEN
        -- The other may withdraw or block meanwhile: isola.block_tenant() waits for these locks.
        PERFORM isola.lock_offers(own, target);
        PERFORM FROM control.partner_domains WHERE tenant_id = target AND name = trusted FOR SHARE;
        returned := EXISTS (SELECT FROM control.partnership_offers WHERE tenant_id = target AND partner_id = own);
        SELECT name INTO trusted FROM control.partner_domains WHERE tenant_id = target AND name = trusted;
        IF (returned OR trusted IS NOT NULL) AND NOT isola.has_blocked(target, own) THEN
            PERFORM isola.begin_partnership(
                coalesce(made.id, isola.uuid_v7()), own, target, coalesce(made.offered_at, now()),
                CASE WHEN NOT returned THEN trusted END
            );
            DELETE FROM control.partnership_offers WHERE tenant_id = own AND partner_slug = partner;
            SELECT id INTO partnership FROM control.partners WHERE tenant_id = own AND partner_id = target;
            RETURN;
        END IF;
    END IF;
    INSERT INTO control.partnership_offers AS o (tenant_id, partner_slug, partner_id, offered_by)
    VALUES (own, partner, target, isola.current_user_id())
    ON CONFLICT (tenant_id, partner_slug) DO UPDATE SET partner_id = excluded.partner_id
    RETURNING o.id INTO partnership;
END $$;

-- The bound tenant's own open offers, and its partners. Of an offer, only what the tenant wrote.
CREATE FUNCTION isola.partnerships()
RETURNS TABLE (id uuid, slug text, name text, offered_at timestamptz, accepted_at timestamptz) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
BEGIN ATOMIC
    SELECT o.id, o.partner_slug, NULL::text, o.offered_at, NULL::timestamptz
    FROM control.partnership_offers o WHERE o.tenant_id = (SELECT isola.bound_tenant())
    UNION ALL
    SELECT p.id, t.slug, t.name, p.offered_at, p.accepted_at
    FROM control.partners p JOIN control.tenants t ON t.id = p.partner_id
    WHERE p.tenant_id = (SELECT isola.bound_tenant()) AND t.status <> 'deleted';
END;

-- The offers to the bound tenant that wait for an answer: not those of tenants that it has blocked.
CREATE FUNCTION isola.partnership_offers()
RETURNS TABLE (id uuid, offerer_slug text, offerer_name text, offered_at timestamptz) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
BEGIN ATOMIC
    SELECT o.id, t.slug, t.name, o.offered_at
    FROM control.partnership_offers o JOIN control.sharers t ON t.id = o.tenant_id
    WHERE o.partner_id = (SELECT isola.bound_tenant())
      AND NOT EXISTS (
          SELECT FROM control.tenant_blocks b WHERE b.tenant_id = o.partner_id AND b.blocked_id = o.tenant_id
      )
      AND NOT EXISTS (
          SELECT FROM control.partnership_declines d
          WHERE d.tenant_id = o.partner_id AND d.offerer_id = o.tenant_id AND d.offer_id = o.id
      )
      AND NOT EXISTS (
          SELECT FROM control.partners p WHERE p.tenant_id = o.partner_id AND p.partner_id = o.tenant_id
      );
END;

-- Accepts an offer to the bound tenant, also one that it has declined. False if there is no such offer.
CREATE FUNCTION isola.accept_partnership(offer uuid) RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    own uuid := isola.bound_tenant();
    offerer uuid;
    since timestamptz;
BEGIN
    PERFORM isola.take_turn(own);
    SELECT o.tenant_id, o.offered_at INTO offerer, since
    FROM control.partnership_offers o JOIN control.sharers t ON t.id = o.tenant_id
    WHERE o.id = offer AND o.partner_id = own AND NOT isola.has_blocked(own, o.tenant_id);
    PERFORM isola.lock_offers(offerer, own);
    -- It may have been withdrawn meanwhile.
    IF offerer IS NULL OR NOT EXISTS (SELECT FROM control.partnership_offers o WHERE o.id = offer) THEN
        RETURN false;
    END IF;
    PERFORM isola.begin_partnership(offer, offerer, own, since, NULL);
    RETURN true;
END $$;

-- Declines an offer to the bound tenant: it is no longer listed. For the tenant that made it, nothing changes. False if
-- there is no such offer.
CREATE FUNCTION isola.decline_partnership(offer uuid) RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    own uuid := isola.bound_tenant();
    offerer uuid;
    slug text;
BEGIN
    SELECT o.tenant_id, t.slug INTO offerer, slug
    FROM control.partnership_offers o JOIN control.sharers t ON t.id = o.tenant_id
    WHERE o.id = offer AND o.partner_id = own AND NOT isola.has_blocked(own, o.tenant_id);
    IF offerer IS NULL THEN
        RETURN false;
    END IF;
    INSERT INTO control.partnership_declines (tenant_id, offerer_id, offerer_slug, offer_id, declined_by)
    VALUES (own, offerer, slug, offer, isola.current_user_id())
    ON CONFLICT (tenant_id, offerer_id) DO UPDATE SET offerer_slug = excluded.offerer_slug,
        offer_id = excluded.offer_id, declined_by = excluded.declined_by, declined_at = excluded.declined_at;
    RETURN true;
END $$;

-- Ends a partnership of the bound tenant, and with it all shares in both directions; or withdraws an offer of the bound
-- tenant. False if there is neither.
CREATE FUNCTION isola.end_partnership(partnership uuid) RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    own uuid := isola.bound_tenant();
BEGIN
    DELETE FROM control.partnership_offers o WHERE o.id = partnership AND o.tenant_id = own;
    IF FOUND THEN
        RETURN true;
    END IF;
    PERFORM FROM control.partners p WHERE p.id = partnership ORDER BY p.tenant_id FOR UPDATE;
    IF NOT EXISTS (SELECT FROM control.partners p WHERE p.id = partnership AND p.tenant_id = own) THEN
        RETURN false;
    END IF;
    DELETE FROM control.partners p WHERE p.id = partnership;
    RETURN true;
END $$;

-- Blocks the tenant of that slug: its offers are not listed and not accepted, and it is no partner any more. The result
-- does not reveal whether there is such a tenant. ``refused``: ``slug`` if it is malformed or the tenant's own, ``many``
-- if too many are blocked.
CREATE FUNCTION isola.block_tenant(blocked text, OUT refused text) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
#variable_conflict use_column
DECLARE
    most CONSTANT int := 1000;
    own uuid := isola.bound_tenant();
    target uuid;
BEGIN
    IF NOT isola.is_slug_of_another(blocked) THEN
        refused := 'slug';
        RETURN;
    END IF;
    PERFORM isola.take_turn(own);
    IF (SELECT count(*) FROM control.tenant_blocks WHERE tenant_id = own AND slug <> blocked) >= most THEN
        refused := 'many';
        RETURN;
    END IF;
    target := isola.tenant_or_nobody(
        blocked, (SELECT blocked_id FROM control.tenant_blocks WHERE tenant_id = own AND slug = blocked)
    );
    INSERT INTO control.tenant_blocks (tenant_id, slug, blocked_id, blocked_by)
    VALUES (own, blocked, target, isola.current_user_id())
    ON CONFLICT (tenant_id, slug) DO UPDATE SET blocked_id = excluded.blocked_id;
    -- These locks wait for a partnership that is being accepted by an offer or by a rule, which is then ended. They are
    -- taken in the order of isola.offer_partnership().
    DELETE FROM control.partnership_offers WHERE tenant_id = own AND partner_slug = blocked;
    PERFORM FROM control.partner_domains WHERE tenant_id = own FOR UPDATE;
    PERFORM isola.end_partnership(id) FROM control.partners WHERE tenant_id = own AND partner_id = target;
END $$;

CREATE FUNCTION isola.unblock_tenant(blocked text) RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
BEGIN
    DELETE FROM control.tenant_blocks b WHERE b.tenant_id = isola.bound_tenant() AND b.slug = blocked;
    RETURN FOUND;
END $$;

CREATE FUNCTION isola.blocked_tenants() RETURNS TABLE (id uuid, slug text, blocked_at timestamptz) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
BEGIN ATOMIC
    SELECT b.id, b.slug, b.blocked_at FROM control.tenant_blocks b WHERE b.tenant_id = (SELECT isola.bound_tenant());
END;

-- Accepts later offers from the tenant that has verified this domain. False if too many domains are accepted.
CREATE FUNCTION isola.add_partner_domain(domain text) RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
#variable_conflict use_column
DECLARE
    most CONSTANT int := 100;
    own uuid := isola.bound_tenant();
BEGIN
    PERFORM isola.take_turn(own);
    IF (SELECT count(*) FROM control.partner_domains WHERE tenant_id = own AND name <> domain) >= most THEN
        RETURN false;
    END IF;
    INSERT INTO control.partner_domains (tenant_id, name, added_by) VALUES (own, domain, isola.current_user_id())
    ON CONFLICT DO NOTHING;
    RETURN true;
END $$;

CREATE FUNCTION isola.remove_partner_domain(domain text) RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
BEGIN
    DELETE FROM control.partner_domains w WHERE w.tenant_id = isola.bound_tenant() AND w.name = domain;
    RETURN FOUND;
END $$;

CREATE FUNCTION isola.partner_domains() RETURNS TABLE (id uuid, name text, added_at timestamptz) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
BEGIN ATOMIC
    SELECT w.id, w.name, w.added_at FROM control.partner_domains w WHERE w.tenant_id = (SELECT isola.bound_tenant());
END;
