-- Functions that bound transactions may call. Tenant traffic has no rights in the schema control: it reads from there
-- only by the functions below, which run as isola_sharing. That role has no login, reads the shared columns of each
-- home, is subject to row-level security like every other role, and writes only shares, domains and API keys.

-- The bound tenant, if the transaction also has the role of this tenant's transactions: a transaction inside a schema
-- cannot pass for another tenant by changing a setting. A transaction that a ticket binds has no such role. All ancestors
-- of the tenant also have to be active.
CREATE FUNCTION isola.bound_tenant() RETURNS uuid LANGUAGE plpgsql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    bound uuid;
BEGIN
    SELECT t.id INTO bound FROM control.tenants t
    WHERE t.id = isola.current_tenant_id() AND t.status = 'active'
      AND (t.role = current_setting('role') OR EXISTS (
          SELECT FROM control.tickets k WHERE k.used_by = isola.this_transaction() AND k.tenant_id = t.id
      ))
      AND (t.parent_id IS NULL OR NOT control.below_inactive(t.id));
    IF bound IS NULL THEN
        RAISE EXCEPTION 'this transaction is not bound to an active tenant' USING ERRCODE = 'IS001';
    END IF;
    RETURN bound;
END $$;

-- The shares that have not ended by themselves. A share ends at its expiry time. Soon after, a server marks it as lapsed:
-- see app/isola/platform/lapsing.py. The indexes for the reads of grantees exclude lapsed shares. A share that a rule has
-- made (0001_share_rules.sql) is not current while the row is also shared by itself with the partner, or by an older rule.
CREATE VIEW control.current_shares WITH (security_invoker = true) AS
SELECT id, owner_id, subject, row_id, grantee_slug, grantee_id, partnership_id, granted_by, granted_at, expires_at, fields,
    note, rule_id, access
FROM control.shares s
WHERE revoked_at IS NULL AND NOT lapsed AND (expires_at IS NULL OR expires_at > statement_timestamp())
  AND (rule_id IS NULL OR NOT EXISTS (
      SELECT FROM control.shares o
      -- Only the row is a condition of an index, so that this one is used, whatever the planner knows.
      WHERE o.row_id = s.row_id
        AND (o.owner_id = s.owner_id AND o.subject = s.subject AND o.partnership_id = s.partnership_id) IS TRUE
        AND o.revoked_at IS NULL AND NOT o.lapsed AND (o.expires_at IS NULL OR o.expires_at > statement_timestamp())
        AND (o.rule_id IS NULL OR o.rule_id < s.rule_id)
  ));

-- Those whose partnership has not ended either. A later one of the same tenants has another id.
CREATE VIEW control.live_shares WITH (security_invoker = true) AS
SELECT id, owner_id, subject, row_id, grantee_slug, grantee_id, partnership_id, granted_by, granted_at, expires_at, fields,
    note, rule_id, access
FROM control.current_shares
WHERE EXISTS (
    SELECT FROM control.partners p WHERE p.tenant_id = owner_id AND p.partner_id = grantee_id AND p.id = partnership_id
);

-- The tenants whose shares others receive: active, with only active ancestors.
CREATE VIEW control.sharers WITH (security_invoker = true) AS
SELECT id, slug, name, home FROM control.tenants
WHERE status = 'active' AND (parent_id IS NULL OR NOT control.below_inactive(id));

-- Whether a tenant has that row and the proved user may read it; control.subjects lists the tables. Only the functions
-- below may call it: the policies apply to their role.
CREATE FUNCTION isola.may_read(owner uuid, of_subject text, of_row uuid) RETURNS boolean LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    place text;
    found boolean := false;
BEGIN
    SELECT format('%I.%I', t.home, s.relation) INTO place FROM control.tenants t, control.subjects s
    WHERE t.id = owner AND s.name = of_subject;
    IF place IS NOT NULL THEN
        EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE id = $1)', place) INTO found USING of_row;
    END IF;
    RETURN found;
END $$;

-- The columns of a subject that can be shared, in the order of its declaration; with ``chosen`` those alone. NULL if
-- there are none, or if one of the chosen cannot be shared.
CREATE FUNCTION isola.granted_columns(of_subject text, chosen text[]) RETURNS text[] LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT array_agg(c.name ORDER BY c.place)
    FROM control.subjects o CROSS JOIN unnest(o.shared) WITH ORDINALITY c (name, place)
    WHERE o.name = of_subject AND (chosen IS NULL OR (chosen <@ o.shared AND c.name = ANY (chosen)));
END;

-- Whether a partner may get the right to comment: a tenant on another installation, and all children, may only read.
CREATE FUNCTION isola.may_comment(partner uuid) RETURNS boolean LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
RETURN coalesce((SELECT NOT remote FROM control.tenants WHERE id = partner), false);

-- Stores a share, and returns its id; NULL while the row is shared already in this partnership. One that has expired is
-- replaced. Only the functions below call it.
CREATE FUNCTION isola.make_share(
    owner uuid, of_subject text, of_row uuid, grantee text, partner uuid, partnership uuid,
    granted text[], until timestamptz, remark text, granted_access text, OUT share uuid
) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    UPDATE control.shares SET revoked_at = now()
    WHERE owner_id = owner AND row_id = of_row AND subject = of_subject AND partnership_id = partnership
      AND rule_id IS NULL AND revoked_at IS NULL AND expires_at <= statement_timestamp();
    INSERT INTO control.shares AS s (
        owner_id, subject, row_id, grantee_slug, grantee_id, partnership_id, granted_by, fields, expires_at, note, access
    )
    VALUES (
        owner, of_subject, of_row, grantee, partner, partnership, isola.current_user_id(), granted, until, remark,
        granted_access
    )
    ON CONFLICT (owner_id, row_id, subject, partnership_id, rule_id) WHERE revoked_at IS NULL DO NOTHING
    RETURNING s.id INTO share;
END $$;

-- Shares one of the bound tenant's own rows with the partner of that slug, as the proved user; as nobody if there is
-- none: the ``chosen`` columns, or all that its subject shares. ``share`` is NULL if it is ``refused``: ``grantee`` if
-- there is no such row, or if the slug is not that of an active partner, whether there is such a tenant or not;
-- ``fields`` if a column cannot be shared or none is chosen; ``access`` if the partner may only read; ``again`` while the
-- row is shared with that partner other than by a rule, or with all children if the partner is one of them.
CREATE FUNCTION isola.share(
    of_subject text, of_row uuid, grantee text, chosen text[], until timestamptz, remark text,
    granted_access text DEFAULT 'read', OUT share uuid, OUT refused text
) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
#variable_conflict use_column
DECLARE
    owner uuid := isola.bound_tenant();
    partner uuid;
    partnership uuid;
    owned boolean := isola.may_read(owner, of_subject, of_row);
    granted text[] := isola.granted_columns(of_subject, chosen);
BEGIN
    SELECT p.partner_id, p.id INTO partner, partnership FROM control.partners p JOIN control.sharers t ON t.id = p.partner_id
    WHERE p.tenant_id = owner AND p.partner_id = (SELECT id FROM control.tenants WHERE slug = grantee AND status <> 'deleted');
    IF NOT owned OR partner IS NULL THEN
        refused := 'grantee';
        RETURN;
    END IF;
    IF granted IS NULL THEN
        refused := 'fields';
        RETURN;
    END IF;
    IF granted_access <> 'read' AND NOT isola.may_comment(partner) THEN
        refused := 'access';
        RETURN;
    END IF;
    IF NOT EXISTS (
        SELECT FROM control.family_shares f
        WHERE f.grantee_id = partner AND f.owner_id = owner AND f.subject = of_subject AND f.row_id = of_row
    ) THEN
        share := isola.make_share(owner, of_subject, of_row, grantee, partner, partnership, granted, until, remark, granted_access);
    END IF;
    refused := CASE WHEN share IS NULL THEN 'again' END;
END $$;

-- Changes a live share of the bound tenant: its columns unless ``chosen`` is NULL, its end and its note unless they are
-- kept, and its access unless that is NULL. ``changed`` is NULL if there is no such share, if a rule made it, if the proved
-- user may not read the row, or if it is ``refused`` for its ``fields`` or its ``access``. Who granted it stays.
CREATE FUNCTION isola.change_share(
    share uuid, chosen text[], until timestamptz, keep_until boolean, remark text, keep_remark boolean,
    granted_access text DEFAULT NULL, OUT changed uuid, OUT refused text
) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    of_subject text;
    partner uuid;
    granted text[];
BEGIN
    SELECT s.subject, s.grantee_id INTO of_subject, partner FROM control.shares s
    WHERE s.id = share AND s.owner_id = isola.bound_tenant() AND isola.may_read(s.owner_id, s.subject, s.row_id)
      AND (s.partnership_id = s.owner_id OR EXISTS (SELECT FROM control.live_shares l WHERE l.id = s.id))
      AND s.rule_id IS NULL;
    granted := isola.granted_columns(of_subject, chosen);
    IF of_subject IS NOT NULL AND chosen IS NOT NULL AND granted IS NULL THEN
        refused := 'fields';
    ELSIF of_subject IS NOT NULL AND granted_access <> 'read' AND NOT isola.may_comment(partner) THEN
        refused := 'access';
    ELSIF of_subject IS NOT NULL THEN
        UPDATE control.shares s SET
            fields = CASE WHEN chosen IS NULL THEN s.fields ELSE granted END,
            expires_at = CASE WHEN keep_until THEN s.expires_at ELSE until END,
            note = CASE WHEN keep_remark THEN s.note ELSE remark END,
            access = coalesce(granted_access, s.access)
        WHERE s.id = share AND s.owner_id = isola.bound_tenant() AND s.revoked_at IS NULL AND NOT s.lapsed
          AND (s.expires_at IS NULL OR s.expires_at > statement_timestamp())
        RETURNING s.id INTO changed;
    END IF;
END $$;

-- Revokes a share of the bound tenant and returns the subject and id of its row; NULLs if there is no such share, or if
-- the proved user may not read the row, or if a rule made it.
CREATE FUNCTION isola.revoke_share(share uuid, OUT subject text, OUT row_id uuid) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
BEGIN
    UPDATE control.shares s SET revoked_at = now()
    WHERE s.id = share AND s.owner_id = isola.bound_tenant() AND s.revoked_at IS NULL AND s.rule_id IS NULL
      AND (s.partnership_id = s.owner_id OR EXISTS (SELECT FROM control.partners p WHERE p.id = s.partnership_id))
      AND isola.may_read(s.owner_id, s.subject, s.row_id)
    RETURNING s.subject, s.row_id INTO subject, row_id;
END $$;

-- Revokes the shares of a row that is about to be deleted. Those that rules made end when it is.
CREATE FUNCTION isola.revoke_shares_of(of_row uuid) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
BEGIN
    UPDATE control.shares SET revoked_at = now()
    WHERE row_id = of_row AND owner_id = isola.bound_tenant() AND revoked_at IS NULL AND rule_id IS NULL;
END $$;

-- Whether the proved user may read a row of the bound tenant.
CREATE FUNCTION isola.may_read_own(of_subject text, of_row uuid) RETURNS boolean LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
RETURN isola.may_read(isola.bound_tenant(), of_subject, of_row);

-- The subjects whose rows every user of a tenant may read.
CREATE FUNCTION isola.open_subjects() RETURNS text[] LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
RETURN ARRAY(SELECT name FROM control.subjects WHERE NOT restricted);

-- What the shares of the bound tenant are made in: its partnerships, and itself for those with its children.
CREATE FUNCTION isola.own_partnerships() RETURNS uuid[] LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
RETURN array_append(
    ARRAY(SELECT id FROM control.partners WHERE tenant_id = (SELECT isola.bound_tenant())), isola.bound_tenant()
);

-- Of the columns that a share grants, those that its subject still shares.
CREATE FUNCTION isola.shared_of(of_subject text, granted text[]) RETURNS text[] LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
RETURN ARRAY(
    SELECT c.name FROM control.subjects o CROSS JOIN unnest(o.shared) WITH ORDINALITY c (name, place)
    WHERE o.name = of_subject AND c.name = ANY (granted) ORDER BY c.place
);

-- The live shares of the bound tenant's own rows that the proved user may read. It is a view and not a function, so that
-- the conditions, orders and limits of a read use the indexes of the table. Tenant traffic may read these columns of the
-- table, but not name it: a policy of the table leaves it these rows (app/isola/platform/rights.py).
CREATE VIEW isola.own_shares WITH (security_invoker = true) AS
SELECT id, subject, row_id, grantee_slug, granted_by, granted_at, expires_at, note,
    isola.shared_of(subject, fields) AS fields, partnership_id = owner_id AS to_children, rule_id, access
FROM control.shares
WHERE revoked_at IS NULL AND NOT lapsed AND (expires_at IS NULL OR expires_at > statement_timestamp())
  AND partnership_id = ANY ((SELECT isola.own_partnerships())::uuid[]);

ALTER TABLE control.shares ENABLE ROW LEVEL SECURITY;

-- Estimates of the planner would tell how often a value occurs in the shares of all tenants.
ALTER TABLE control.shares ALTER grantee_slug SET STATISTICS 0, ALTER note SET STATISTICS 0;

-- The live shares that the bound tenant receives: from its partners, and from its parent, which is not named. Each
-- partner's shares are read in index order, which holds the planner to the index without lapsed shares.
CREATE FUNCTION isola.shares_received()
RETURNS TABLE (
    id uuid, owner_slug text, owner_name text, granted_at timestamptz, expires_at timestamptz, note text, access text
)
LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
BEGIN ATOMIC
    SELECT s.id, t.slug, t.name, s.granted_at, s.expires_at, s.note, s.access
    FROM control.partners p
    JOIN control.sharers t ON t.id = p.partner_id
    CROSS JOIN LATERAL (
        SELECT l.id, l.granted_at, l.expires_at, l.note, l.access FROM control.live_shares l
        WHERE l.partnership_id = p.id AND l.owner_id = p.partner_id
        ORDER BY l.granted_at DESC, l.id DESC
    ) s
    WHERE p.tenant_id = (SELECT isola.bound_tenant())
    UNION ALL
    SELECT s.id, NULL, NULL, s.granted_at, s.expires_at, s.note, s.access
    FROM control.family_shares s JOIN control.sharers t ON t.id = s.owner_id
    WHERE s.grantee_id = (SELECT isola.bound_tenant());
END;

-- One received share, by its id.
CREATE FUNCTION isola.share_received(share uuid)
RETURNS TABLE (
    id uuid, owner_slug text, owner_name text, granted_at timestamptz, expires_at timestamptz, note text, access text
)
LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
BEGIN ATOMIC
    SELECT s.id, t.slug, t.name, s.granted_at, s.expires_at, s.note, s.access
    FROM control.live_shares s
    JOIN control.sharers t ON t.id = s.owner_id
    WHERE s.id = share AND s.grantee_id = (SELECT isola.bound_tenant())
    UNION ALL
    SELECT s.id, NULL, NULL, s.granted_at, s.expires_at, s.note, s.access
    FROM control.family_shares s JOIN control.sharers t ON t.id = s.owner_id
    WHERE s.share_id = control.id_of_parent(share, s.child_key) AND s.grantee_id = (SELECT isola.bound_tenant());
END;

-- The newest received shares, at most ``most``; if a time and an id are given, those after that share. Each partner's
-- shares are read in index order, so that one owner's many shares do not slow down reading the others'. All of a parent's
-- are read and sorted: each child has other ids.
CREATE FUNCTION isola.page_of_shares_received(after timestamptz, after_id uuid, most int)
RETURNS TABLE (
    id uuid, owner_slug text, owner_name text, granted_at timestamptz, expires_at timestamptz, note text, access text
)
LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
BEGIN ATOMIC
    SELECT s.id, t.slug, t.name, s.granted_at, s.expires_at, s.note, s.access
    FROM control.partners p
    JOIN control.sharers t ON t.id = p.partner_id
    CROSS JOIN LATERAL (
        SELECT l.id, l.granted_at, l.expires_at, l.note, l.access FROM control.live_shares l
        WHERE l.partnership_id = p.id AND l.owner_id = p.partner_id
          AND (l.granted_at, l.id) < (coalesce(after, 'infinity'), coalesce(after_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
        ORDER BY l.granted_at DESC, l.id DESC LIMIT most
    ) s
    WHERE p.tenant_id = (SELECT isola.bound_tenant())
    UNION ALL
    SELECT s.id, NULL, NULL, s.granted_at, s.expires_at, s.note, s.access
    FROM control.family_shares s JOIN control.sharers t ON t.id = s.owner_id
    WHERE s.grantee_id = (SELECT isola.bound_tenant())
      AND (s.granted_at, s.id) < (coalesce(after, 'infinity'), coalesce(after_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    ORDER BY granted_at DESC, id DESC LIMIT most;
END;

-- What a grantee reads of a share.
CREATE TYPE control.granted AS (
    id uuid, row_id uuid, granted_by uuid, granted_at timestamptz, expires_at timestamptz, fields text[], note text,
    access text
);

-- The rows of a subject that partners or its parent share with the bound tenant, or the one of a share: the columns that
-- its table declares as shared, in that order, NULL where the share does not grant them; the names of those that it
-- grants; and of the share its id, its owner's slug and name, NULL for the parent, when it was made, when it ends, its
-- note and its access. No row for a share of another subject.
--
-- Each owner's shares are found first, and then its rows are read in its home, of whatever strategy, by name: so an owner
-- that leaves its home meanwhile does not look like one without rows, it is an error of its own (IS006), and a later
-- statement reads the new home. PostgreSQL plans the statement for each home anew, so it names as few tables as it can.
--
-- The policies apply to this function as well, so the owner is bound while its rows are read: with the user who shared
-- them if the subject has a visibility rule, so that a partner reads a row as long as that user may, and a row that nobody
-- shared as long as all users may. There is no row while the user is disabled. The grantee is bound again before anything
-- else runs; an error on the way ends the transaction and with it the binding.
-- STABLE: all owners' rows, and a page and its count, are of one snapshot, that of the statement.
CREATE FUNCTION isola.shared_rows(of_subject text, of_share uuid DEFAULT NULL) RETURNS SETOF record LANGUAGE plpgsql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    grantee uuid := isola.bound_tenant();
    grantees_proof text := current_setting('isola.proof');
    grantees_home text := coalesce(current_setting('isola.home', true), '');
    declared record;
    owner record;
BEGIN
    SELECT o.relation, o.shared, o.restricted, string_agg(
        -- NULL of the column's type.
        format('CASE WHEN %L = ANY (s.fields) THEN r.%I END', each.name, each.name), ', ' ORDER BY each.place
    ) AS columns
    INTO declared
    FROM control.subjects o CROSS JOIN unnest(o.shared) WITH ORDINALITY each (name, place)
    WHERE o.name = of_subject
    GROUP BY o.name;
    IF declared.relation IS NULL THEN
        RETURN;
    END IF;
    FOR owner IN
        SELECT t.id, t.home, CASE WHEN NOT g.by_parent THEN t.slug END AS slug,
            CASE WHEN NOT g.by_parent THEN t.name END AS name, g.sharer, g.shares
        FROM (
            SELECT p.partner_id AS owner_id, false AS by_parent, each.sharer, each.shares
            FROM control.partners p CROSS JOIN LATERAL (
                SELECT CASE WHEN declared.restricted THEN s.granted_by END AS sharer, array_agg(
                    ROW(s.id, s.row_id, s.granted_by, s.granted_at, s.expires_at, s.fields, s.note, s.access)::control.granted
                ) AS shares
                FROM control.current_shares s
                WHERE s.partnership_id = p.id AND s.owner_id = p.partner_id AND s.grantee_id = p.tenant_id
                  AND s.subject = of_subject
                GROUP BY sharer
            ) each
            WHERE p.tenant_id = grantee AND of_share IS NULL
            UNION ALL
            SELECT s.owner_id, false, CASE WHEN declared.restricted THEN s.granted_by END, ARRAY[
                ROW(s.id, s.row_id, s.granted_by, s.granted_at, s.expires_at, s.fields, s.note, s.access)::control.granted
            ]
            FROM control.live_shares s
            WHERE s.id = of_share AND s.grantee_id = grantee AND s.subject = of_subject
            UNION ALL
            SELECT s.owner_id, true, CASE WHEN declared.restricted THEN s.granted_by END AS sharer, array_agg(
                ROW(s.id, s.row_id, s.granted_by, s.granted_at, s.expires_at, s.fields, s.note, s.access)::control.granted
            )
            FROM control.family_shares s
            WHERE s.grantee_id = grantee AND s.subject = of_subject
              AND (of_share IS NULL OR s.share_id = control.id_of_parent(of_share, s.child_key))
            GROUP BY s.owner_id, sharer
        ) g
        JOIN control.sharers t ON t.id = g.owner_id
    LOOP
        PERFORM set_config('isola.tenant', owner.id::text, true),
            set_config('isola.proof', isola.proof(owner.id, owner.sharer), true),
            set_config('isola.home', owner.home, true);
        RETURN QUERY EXECUTE format(
            'SELECT %1$s, CASE WHEN s.fields <@ $1 THEN s.fields ELSE ARRAY('
            '    SELECT name FROM unnest($1) WITH ORDINALITY each (name, place) WHERE name = ANY (s.fields) ORDER BY place'
            ') END, s.id, $2, $3, s.granted_at, s.expires_at, s.note, s.access'
            ' FROM unnest($4) s JOIN %2$I.%3$I r ON r.id = s.row_id'
            ' WHERE s.granted_by IS NULL'
            '    OR EXISTS (SELECT FROM %2$I.users u WHERE u.id = s.granted_by AND u.disabled_at IS NULL)',
            declared.columns, owner.home, declared.relation
        ) USING declared.shared, owner.slug, owner.name, owner.shares;
        PERFORM set_config('isola.tenant', grantee::text, true), set_config('isola.proof', grantees_proof, true),
            set_config('isola.home', grantees_home, true);
    END LOOP;
EXCEPTION
    WHEN undefined_table OR invalid_schema_name OR SQLSTATE 'IS004' THEN
        RAISE EXCEPTION 'a tenant that shares rows is being moved or deleted' USING ERRCODE = 'IS006';
END $$;
