-- Invitations of a tenant. None of these functions returns the digest of a token or accepts an invitation without it.

CREATE FUNCTION isola.invitations()
RETURNS TABLE (
    id uuid, email text, role_ids uuid[], organization_id uuid, invited_by uuid, created_at timestamptz,
    expires_at timestamptz, sent_at timestamptz, failed_at timestamptz, accepted_at timestamptz, accepted_by uuid,
    revoked_at timestamptz
) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
BEGIN ATOMIC
    SELECT i.id, i.email, i.role_ids, i.organization_id, i.invited_by, i.created_at, i.expires_at, i.sent_at,
           i.failed_at, i.accepted_at, i.accepted_by, i.revoked_at
    FROM control.invitations i WHERE i.tenant_id = (SELECT isola.bound_tenant());
END;

-- Invites an address in the name of the proved user, instead of earlier invitations of it that are still open. A server
-- sends it after the commit. NULL if the tenant has invited 100 times, or the address 3 times, within a day.
CREATE FUNCTION isola.invite(email text, role_ids uuid[], organization_id uuid, lifetime interval) RETURNS uuid
LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := isola.bound_tenant();
    invited uuid;
BEGIN
    -- The next transaction that invites waits here, so that it counts this invitation.
    INSERT INTO control.quota_turns (tenant_id) VALUES (tenant) ON CONFLICT DO NOTHING;
    PERFORM FROM control.quota_turns WHERE tenant_id = tenant FOR UPDATE;
    IF (
        SELECT count(*) >= 100 OR count(*) FILTER (WHERE i.email = invite.email) >= 3
        FROM control.invitations i WHERE i.tenant_id = tenant AND i.created_at > now() - interval '1 day'
    ) THEN
        RETURN NULL;
    END IF;
    UPDATE control.invitations i SET revoked_at = now()
    WHERE i.tenant_id = tenant AND i.email = invite.email AND i.accepted_at IS NULL AND i.revoked_at IS NULL;
    INSERT INTO control.invitations AS i
        (tenant_id, email, role_ids, organization_id, invited_by, expires_at, next_attempt_at)
    VALUES (
        tenant, invite.email, invite.role_ids, invite.organization_id, isola.current_user_id(),
        now() + least(invite.lifetime, interval '30 days'), now()
    )
    RETURNING i.id INTO invited;
    RETURN invited;
END $$;

-- Revokes an open invitation of the bound tenant; false if there is none. Revoking again keeps the first time.
CREATE FUNCTION isola.revoke_invitation(invitation uuid) RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
BEGIN
    UPDATE control.invitations SET revoked_at = coalesce(revoked_at, now())
    WHERE id = invitation AND tenant_id = isola.bound_tenant() AND accepted_at IS NULL;
    RETURN FOUND;
END $$;

-- Accepts an invitation of the bound tenant for a user, and returns what it grants. No row if it is not open, or if its
-- token has another digest. Of two concurrent calls, the second waits here for the first.
CREATE FUNCTION isola.accept_invitation(invitation uuid, token bytea, of_user uuid)
RETURNS TABLE (role_ids uuid[], organization_id uuid, invited_by uuid) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    UPDATE control.invitations i SET accepted_at = now(), accepted_by = of_user
    WHERE i.id = invitation AND i.tenant_id = isola.bound_tenant() AND i.digest = token
      AND i.accepted_at IS NULL AND i.revoked_at IS NULL AND i.expires_at > now()
    RETURNING i.role_ids, i.organization_id, i.invited_by;
END $$;

-- Records that an invitation of the bound tenant could not be sent.
CREATE FUNCTION isola.fail_invitation(invitation uuid) RETURNS void LANGUAGE sql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
BEGIN ATOMIC
    UPDATE control.invitations SET failed_at = now(), next_attempt_at = NULL
    WHERE id = invitation AND tenant_id = (SELECT isola.bound_tenant()) AND sent_at IS NULL AND failed_at IS NULL;
END;

-- The address is in no entry: the log cannot be erased. Neither is what only concerns the sending.
CREATE TRIGGER audit_insert AFTER INSERT ON control.invitations REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit(
    'invitation', '{email,digest,attempts,next_attempt_at,sent_at}', 'inv_', 'id'
);
CREATE TRIGGER audit_update AFTER UPDATE ON control.invitations
REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit(
    'invitation', '{email,digest,attempts,next_attempt_at,sent_at}', 'inv_', 'id'
);
