-- Copies of what partners receive, so that a page over many owners is one ordered scan of an index, as a page of a
-- tenant's own is. Each subject that all users of a tenant may read has a table in the schema received, and a view of it
-- in the schema isola: `isola migrate` makes both (app/isola/platform/received.py).
--
-- A copy has the columns that its share grants, and NULL for all others. Whatever ends or changes a share, or writes a
-- shared row, changes the copy in the same statement. Whether the share is still one is not a matter of its copy: the policy
-- of the table asks control.received_shares for each row when a partner reads. Only what changes shares writes that table, a
-- share at a time, so a copy that a concurrent write leaves behind shows nothing.

CREATE SCHEMA received;

-- Why rows are received now: the partnerships of the bound tenant with tenants that others receive shares of.
CREATE FUNCTION isola.received_partnerships() RETURNS uuid[] LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
RETURN ARRAY(
    SELECT p.id FROM control.partners p JOIN control.sharers t ON t.id = p.partner_id
    WHERE p.tenant_id = (SELECT isola.bound_tenant())
);

-- What the policies of copies ask: the shares of control.received_shares that are current, as control.current_shares has
-- them, and whose sharers are not disabled. A policy of that table leaves a recipient its own.
CREATE VIEW control.received_now WITH (security_invoker = true) AS
SELECT s.id FROM control.received_shares s
WHERE (s.expires_at IS NULL OR s.expires_at > statement_timestamp())
  AND (s.rule_id IS NULL OR NOT EXISTS (
      SELECT FROM control.received_shares o
      WHERE o.row_id = s.row_id
        AND (o.owner_id = s.owner_id AND o.subject = s.subject AND o.partnership_id = s.partnership_id) IS TRUE
        AND (o.expires_at IS NULL OR o.expires_at > statement_timestamp())
        AND (o.rule_id IS NULL OR o.rule_id < s.rule_id)
  ))
  AND NOT EXISTS (SELECT FROM control.disabled_users d WHERE d.tenant_id = s.owner_id AND d.user_id = s.granted_by);

ALTER TABLE control.received_shares ENABLE ROW LEVEL SECURITY;

-- Whether the parent of the bound tenant shares rows of a subject with its children. These are not copied: who receives
-- them is found when they are read (0001_family_shares.sql).
CREATE FUNCTION isola.receives_of_parent(of_subject text) RETURNS boolean LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
RETURN EXISTS (
    SELECT FROM control.family_shares s
    WHERE s.grantee_id = (SELECT isola.bound_tenant()) AND s.subject = of_subject
);

-- Copies the rows of shares anew, from the home of their owner, which has to be bound. There is none where the row is gone
-- or the share has ended. Whoever shares a row or changes its share has locked the row (app/isola/subjects/shares), so a
-- transaction that writes it has ended, or finds the share. Of two that copy one share, the second waits at the copy, which
-- is written in place, and its last statement removes what the first has ended. Only the functions below call it.
CREATE FUNCTION isola.copy_received(owner uuid, of_subject text, ids uuid[]) RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    declared control.subjects;
    place text;
    of_row text;
    copied text;
    granted text;
BEGIN
    SELECT * INTO declared FROM control.subjects WHERE name = of_subject AND NOT restricted;
    SELECT home INTO place FROM control.tenants WHERE id = owner;
    IF declared.name IS NULL OR place IS NULL THEN
        RETURN;
    END IF;
    -- A statement of its own: the next one reads what the transaction that it has waited for has committed.
    EXECUTE format(
        'SELECT FROM received.%I WHERE share_id = ANY ($1) ORDER BY share_id FOR UPDATE', declared.relation
    ) USING ids;
    SELECT string_agg(format('%I', each.name), ', ' ORDER BY each.place),
        string_agg(format('EXCLUDED.%I', each.name), ', ' ORDER BY each.place),
        string_agg(format('CASE WHEN %L = ANY (s.fields) THEN r.%I END', each.name, each.name), ', ' ORDER BY each.place)
    INTO of_row, copied, granted
    FROM unnest(declared.shared) WITH ORDINALITY each (name, place);
    EXECUTE format(
        'INSERT INTO received.%1$I (share_id, owner_id, grantee_id, partnership_id,'
        '    owner_slug, owner_name, granted_at, expires_at, note, access, granted_fields, %2$s)'
        ' SELECT s.id, s.owner_id, s.grantee_id, s.partnership_id,'
        '    t.slug, t.name, s.granted_at, s.expires_at, s.note, s.access, ARRAY('
        '        SELECT name FROM unnest($2) WITH ORDINALITY each (name, place) WHERE name = ANY (s.fields) ORDER BY place'
        '    ), %3$s'
        ' FROM control.shares s JOIN control.tenants t ON t.id = s.owner_id JOIN %4$I.%1$I r ON r.id = s.row_id'
        ' WHERE s.id = ANY ($1) AND s.owner_id = $3 AND s.subject = $4 AND s.grantee_id IS NOT NULL'
        '    AND s.revoked_at IS NULL AND NOT s.lapsed'
        ' ON CONFLICT (share_id) DO UPDATE SET (granted_at, expires_at, note, access, granted_fields, %2$s)'
        '    = (EXCLUDED.granted_at, EXCLUDED.expires_at, EXCLUDED.note, EXCLUDED.access, EXCLUDED.granted_fields, %5$s)',
        declared.relation, of_row, granted, place, copied
    ) USING ids, declared.shared, owner, of_subject;
    EXECUTE format(
        'DELETE FROM received.%1$I c WHERE c.share_id = ANY ($1) AND NOT EXISTS ('
        '    SELECT FROM control.shares s JOIN %2$I.%1$I r ON r.id = s.row_id'
        '    WHERE s.id = c.share_id AND s.revoked_at IS NULL AND NOT s.lapsed'
        ')',
        declared.relation, place
    ) USING ids;
END $$;

-- Keeps the copies of shares that are made, changed or ended. Where another tenant is bound than their owner, or none, as
-- when servers mark what has lapsed, no row can be read: nothing is copied then, and a copy goes if less is granted.
CREATE FUNCTION isola.copy_shares() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    shared record;
BEGIN
    DELETE FROM control.received_shares WHERE id IN (SELECT id FROM new_rows WHERE revoked_at IS NOT NULL OR lapsed);
    INSERT INTO control.received_shares
        (id, owner_id, grantee_id, partnership_id, subject, row_id, rule_id, granted_by, expires_at)
    SELECT id, owner_id, grantee_id, partnership_id, subject, row_id, rule_id, granted_by, expires_at FROM new_rows
    WHERE grantee_id IS NOT NULL AND revoked_at IS NULL AND NOT lapsed
    ON CONFLICT (id) DO UPDATE SET expires_at = EXCLUDED.expires_at;
    FOR shared IN
        SELECT n.owner_id, n.subject, o.relation, array_agg(n.id) AS ids
        FROM new_rows n JOIN control.subjects o ON o.name = n.subject AND NOT o.restricted
        WHERE n.grantee_id IS NOT NULL GROUP BY n.owner_id, n.subject, o.relation
    LOOP
        IF shared.owner_id = isola.current_tenant_id() THEN
            PERFORM isola.copy_received(shared.owner_id, shared.subject, shared.ids);
        ELSE
            EXECUTE format(
                'DELETE FROM received.%I c USING control.shares s WHERE c.share_id = ANY ($1) AND s.id = c.share_id'
                ' AND (s.revoked_at IS NOT NULL OR s.lapsed OR NOT c.granted_fields <@ s.fields)', shared.relation
            ) USING shared.ids;
            EXECUTE format(
                'UPDATE received.%I c SET granted_at = s.granted_at, expires_at = s.expires_at, note = s.note,'
                ' access = s.access FROM control.shares s WHERE c.share_id = ANY ($1) AND s.id = c.share_id', shared.relation
            ) USING shared.ids;
        END IF;
    END LOOP;
    RETURN NULL;
END $$;

CREATE TRIGGER copy_insert AFTER INSERT ON control.shares REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.copy_shares();
CREATE TRIGGER copy_update AFTER UPDATE ON control.shares REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.copy_shares();

-- Shares are deleted with their owner or their recipient.
CREATE FUNCTION isola.copies_ended() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    declared text;
BEGIN
    DELETE FROM control.received_shares WHERE id IN (SELECT id FROM old_rows);
    FOR declared IN SELECT relation FROM control.subjects WHERE NOT restricted LOOP
        EXECUTE format('DELETE FROM received.%I WHERE share_id IN (SELECT id FROM old_rows)', declared);
    END LOOP;
    RETURN NULL;
END $$;

CREATE TRIGGER copy_delete AFTER DELETE ON control.shares REFERENCING OLD TABLE AS old_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.copies_ended();

-- Copies shared rows of the bound tenant again that a statement has changed or deleted: isola.audit_note() calls it.
CREATE FUNCTION isola.copy_written(of_subject text, ids uuid[]) RETURNS void LANGUAGE plpgsql VOLATILE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    owner uuid := isola.bound_tenant();
BEGIN
    PERFORM isola.copy_received(owner, of_subject, ARRAY(
        SELECT s.id FROM control.shares s
        WHERE s.row_id = ANY (ids) AND s.owner_id = owner AND s.subject = of_subject AND s.revoked_at IS NULL
    ));
END $$;

-- Copies all that a tenant shares of a subject anew, and notes its disabled users: `isola migrate` calls it where tables
-- have changed.
CREATE FUNCTION isola.copy_all(owner uuid, of_subject text) RETURNS void LANGUAGE plpgsql VOLATILE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    declared text;
    place text;
BEGIN
    SELECT relation INTO declared FROM control.subjects WHERE name = of_subject AND NOT restricted;
    SELECT home INTO place FROM control.tenants WHERE id = owner;
    IF declared IS NULL OR place IS NULL THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(isola.share_rules_lock(owner, of_subject));
    PERFORM set_config('isola.tenant', owner::text, true), set_config('isola.proof', isola.proof(owner, NULL), true),
        set_config('isola.home', place, true);
    EXECUTE format(
        'INSERT INTO control.disabled_users (tenant_id, user_id)'
        ' SELECT $1, id FROM %I.users WHERE disabled_at IS NOT NULL ON CONFLICT DO NOTHING', place
    ) USING owner;
    EXECUTE format('DELETE FROM received.%I WHERE owner_id = $1', declared) USING owner;
    PERFORM isola.copy_received(owner, of_subject, ARRAY(
        SELECT id FROM control.shares WHERE owner_id = owner AND subject = of_subject AND revoked_at IS NULL AND NOT lapsed
    ));
    PERFORM set_config('isola.tenant', '', true), set_config('isola.proof', '', true), set_config('isola.home', '', true);
END $$;

-- Copies have the slug and the name of their owner.
CREATE FUNCTION isola.copy_names() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    declared text;
BEGIN
    FOR declared IN SELECT relation FROM control.subjects WHERE NOT restricted LOOP
        EXECUTE format('UPDATE received.%I SET owner_slug = $1, owner_name = $2 WHERE owner_id = $3', declared)
        USING NEW.slug, NEW.name, NEW.id;
    END LOOP;
    RETURN NULL;
END $$;

CREATE TRIGGER copy_names AFTER UPDATE ON control.tenants FOR EACH ROW
WHEN (OLD.slug <> NEW.slug OR OLD.name <> NEW.name) EXECUTE FUNCTION isola.copy_names();

-- The users who are disabled or deleted: what they shared is hidden. Triggers of the table of users call it, in each home.
-- Who moves or erases a home deletes no user.
CREATE FUNCTION isola.note_disabled() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    tenant uuid := isola.current_tenant_id();
BEGIN
    IF tenant IS NULL OR isola.audit_of_owner(TG_RELID) THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND NEW.id <> OLD.id) THEN
        INSERT INTO control.disabled_users (tenant_id, user_id) VALUES (tenant, OLD.id) ON CONFLICT DO NOTHING;
    END IF;
    IF TG_OP <> 'DELETE' AND NEW.disabled_at IS NULL THEN
        DELETE FROM control.disabled_users WHERE tenant_id = tenant AND user_id = NEW.id;
    ELSIF TG_OP <> 'DELETE' THEN
        INSERT INTO control.disabled_users (tenant_id, user_id) VALUES (tenant, NEW.id) ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$;
