-- Comments on shares: what users of the owner and of its partner say to each other about what is shared. They are neither
-- tenant's rows: they are stored beside the shares, and each of the two reaches them only as long as the share is current.
-- No tenant learns more about a user of the other than the tenant's slug and name.

-- Whether the bound tenant reads the row of a share that it receives: see isola.shared_rows(). What a parent shares is none.
CREATE FUNCTION isola.reads_row_of(share uuid) RETURNS boolean LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    of_subject text;
    columns text;
    found boolean := false;
BEGIN
    SELECT s.subject, string_agg(format('%I %s', a.attname, format_type(a.atttypid, NULL)), ', ' ORDER BY each.place)
    INTO of_subject, columns
    FROM control.live_shares s
    JOIN control.tenants t ON t.id = s.owner_id
    JOIN control.subjects o ON o.name = s.subject
    CROSS JOIN unnest(o.shared) WITH ORDINALITY each (name, place)
    JOIN pg_attribute a ON a.attrelid = to_regclass(format('%I.%I', t.home, o.relation)) AND a.attname = each.name
    WHERE s.id = share
    GROUP BY s.subject;
    IF columns IS NOT NULL THEN
        EXECUTE format(
            'SELECT EXISTS (SELECT FROM isola.shared_rows($1, $2) r (%s, ":fields" text[], ":id" uuid, ":slug" text,'
            ' ":name" text, ":granted_at" timestamptz, ":expires_at" timestamptz, ":note" text, ":access" text))', columns
        ) INTO found USING of_subject, share;
    END IF;
    RETURN found;
END $$;

-- A current share that the bound tenant takes part in: one of its own rows, if the proved user may read the row, or one that
-- a partner made for it, as long as the tenant reads the row. None of what a parent shares with its children, whose shares nobody else is to notice.
CREATE FUNCTION isola.share_of_bound(share uuid, own uuid)
RETURNS TABLE (owner_id uuid, grantee_id uuid, access text, by_owner boolean) LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT s.owner_id, s.grantee_id, s.access, s.owner_id = own
    FROM control.live_shares s
    WHERE s.id = share AND CASE own
        WHEN s.owner_id THEN isola.may_read(s.owner_id, s.subject, s.row_id)
        WHEN s.grantee_id THEN isola.reads_row_of(s.id)
        ELSE false
    END;
END;

-- The comments on such a share. The author is NULL in those of the other tenant.
CREATE FUNCTION isola.share_comments(of_share uuid)
RETURNS TABLE (
    id uuid, share_id uuid, tenant_slug text, tenant_name text, author_id uuid, text text, created_at timestamptz
)
LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
BEGIN ATOMIC
    SELECT c.id, c.share_id, t.slug, t.name, CASE WHEN c.by_owner = s.by_owner THEN c.author_id END, c.text, c.created_at
    FROM isola.share_of_bound(of_share, isola.bound_tenant()) s
    JOIN control.share_comments c ON c.share_id = of_share
    JOIN control.tenants t ON t.id = CASE WHEN c.by_owner THEN c.owner_id ELSE c.grantee_id END;
END;

-- Notes in the bound tenant's log, and for that of the other, that a comment was made or deleted: not what it says, and of
-- its author only the tenant.
CREATE FUNCTION isola.note_share_comment(comment control.share_comments, own uuid, verb text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    told jsonb := jsonb_build_object(
        'tenant', (
            SELECT slug FROM control.tenants
            WHERE id = CASE WHEN comment.by_owner THEN comment.owner_id ELSE comment.grantee_id END
        ),
        'created_at', comment.created_at
    );
    noted jsonb[] := ARRAY[told || jsonb_build_object('id', comment.id, 'share_id', comment.share_id)];
BEGIN
    PERFORM isola.audit_note(
        'control.share_comments'::regclass, 'control', '[0:5]={share_comment,"{id,share_id}",shr_,share_id,/cmt_,id}'::text[],
        CASE WHEN verb = 'delete' THEN noted END, CASE WHEN verb = 'create' THEN noted END
    );
    INSERT INTO control.share_notices (tenant_id, action, object, old, new)
    VALUES (
        CASE own WHEN comment.owner_id THEN comment.grantee_id ELSE comment.owner_id END,
        concat('share_comment:', verb), concat('shr_', comment.share_id, '/cmt_', comment.id),
        CASE WHEN verb = 'delete' THEN told END, CASE WHEN verb = 'create' THEN told END
    );
END $$;

-- Adds a comment of the proved user to a share of isola.share_of_bound(). ``refused``: ``share`` if there is none, ``access``
-- if it is only to be read, ``many`` if the bound tenant has written as many as there may be of each of the two, ``text``
-- unless it has 1 to 2000 characters: the error of the table's constraint would quote the other tenant's id.
CREATE FUNCTION isola.comment_on_share(share uuid, said text, OUT comment uuid, OUT refused text) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    most CONSTANT int := 1000;
    own uuid := isola.bound_tenant();
    found record;
    made control.share_comments;
BEGIN
    -- So that concurrent comments are counted. Tenants do not wait for each other.
    PERFORM pg_advisory_xact_lock(hashtextextended(concat('share comments ', own, ' ', share), 0));
    SELECT * INTO found FROM isola.share_of_bound(share, own);
    refused := CASE
        WHEN found.owner_id IS NULL THEN 'share'
        WHEN found.access <> 'comment' THEN 'access'
        WHEN (
            SELECT count(*) FROM control.share_comments c WHERE c.share_id = share AND c.by_owner = found.by_owner
        ) >= most THEN 'many'
        WHEN length(said) BETWEEN 1 AND 2000 IS NOT TRUE THEN 'text'
    END;
    IF refused IS NOT NULL THEN
        RETURN;
    END IF;
    INSERT INTO control.share_comments (share_id, owner_id, grantee_id, by_owner, author_id, text)
    VALUES (share, found.owner_id, found.grantee_id, found.by_owner, isola.current_user_id(), said)
    RETURNING * INTO made;
    PERFORM isola.note_share_comment(made, own, 'create');
    comment := made.id;
END $$;

-- Deletes a comment that the proved user wrote, or any on a share of the user's tenant if the user may manage shares.
-- ``refused``: ``comment`` if the bound tenant cannot read it, ``author`` if the user may not delete it.
CREATE FUNCTION isola.delete_share_comment(comment uuid, OUT refused text) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    own uuid := isola.bound_tenant();
    deleted control.share_comments;
    of_owner boolean;
BEGIN
    SELECT * INTO deleted FROM control.share_comments c WHERE c.id = comment;
    SELECT s.by_owner INTO of_owner FROM isola.share_of_bound(deleted.share_id, own) s;
    IF of_owner IS NULL THEN
        refused := 'comment';
    ELSIF (deleted.by_owner = of_owner AND deleted.author_id = isola.current_user_id())
        OR (of_owner AND 'share:manage' = ANY (isola.current_permissions()))
    THEN
        DELETE FROM control.share_comments c WHERE c.id = deleted.id;
        IF FOUND THEN
            PERFORM isola.note_share_comment(deleted, own, 'delete');
        ELSE
            refused := 'comment';
        END IF;
    ELSE
        refused := 'author';
    END IF;
END $$;
