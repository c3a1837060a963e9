-- Tickets: each binds one transaction of a session that has only SQL to a tenant. See docs/sql.md.
--
-- Such a session has a login in the role isola_sql, which has no right on any table. A ticket is a random text; the
-- table has its digest. isola.enter() proves the tenant and the user, as a server does for a request. So the functions
-- of 0001_timeline.sql are subject to the same policies, and their changes are logged under the user's name.

-- The roles of a user in a home, with their permissions, as one text. Only the functions below may call it.
CREATE FUNCTION isola.roles_of(home text, holder uuid) RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found text;
BEGIN
    EXECUTE format(
        'SELECT md5(string_agg(concat_ws('' '', r.id, r.permissions), '','' ORDER BY r.id))'
        ' FROM %1$I.user_roles g JOIN %1$I.roles r ON r.id = g.role_id WHERE g.user_id = $1', home
    ) INTO found USING holder;
    RETURN coalesce(found, '');
END $$;

-- Issues a ticket for the proved user of the bound tenant, valid for at most an hour; when it expires, or NULL if the
-- user has 100 that are neither used nor expired. Transactions that issue tickets in a tenant wait for each other: on a
-- row, since any SQL could take an advisory lock. The transaction that it binds proves what this one does about
-- permissions; ``permissions`` are those that the functions check. ``backend`` is the only process that may use it, NULL
-- for any.
CREATE FUNCTION isola.issue_ticket(
    digest bytea, permissions text[], organization uuid, backend integer, minutes integer
) RETURNS timestamptz LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := isola.bound_tenant();
    holder uuid := isola.current_user_id();
    proved text[] := isola.proved_request();
    ends timestamptz;
BEGIN
    INSERT INTO control.quota_turns (tenant_id) VALUES (tenant)
    ON CONFLICT (tenant_id) DO UPDATE SET tenant_id = excluded.tenant_id;
    DELETE FROM control.tickets WHERE tenant_id = tenant AND expires_at < now() - interval '1 day';
    IF (
        SELECT count(*) FROM control.tickets
        WHERE tenant_id = tenant AND user_id = holder AND expires_at > now() AND used_at IS NULL
    ) >= 100 THEN
        RETURN NULL;
    END IF;
    INSERT INTO control.tickets (
        tenant_id, user_id, digest, permissions, roles, proved, organization_id, backend, on_behalf_of, expires_at
    ) VALUES (
        tenant, holder, issue_ticket.digest, issue_ticket.permissions,
        isola.roles_of((SELECT t.home FROM control.tenants t WHERE t.id = tenant), holder), proved[6], organization,
        issue_ticket.backend,
        nullif(CASE WHEN proved[3] = concat('usr_', holder) THEN proved[4] ELSE proved[3] END, ''),
        now() + greatest(1, least(minutes, 60)) * interval '1 minute'
    ) RETURNING expires_at INTO ends;
    RETURN ends;
END $$;

-- Binds this transaction to the tenant and the user of a ticket; the id of the ticket. A ticket binds one transaction.
-- If that is rolled back, the ticket is unused again; until the session ends, an advisory lock reserves it for this
-- session. The watchdog recognises these locks by their first key. Raises IS006 for a ticket that cannot be used. What
-- the owner of the database changes is not logged, so the owner has to connect under another name. At other isolation
-- levels the transaction would not notice that its user was disabled meanwhile.
CREATE FUNCTION isola.enter(ticket text) RETURNS text LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    held control.tickets;
    home text;
BEGIN
    IF coalesce(current_setting('isola.tenant', true), '') <> '' THEN
        BEGIN
            PERFORM isola.proved_tenant_id();
            RAISE EXCEPTION 'this transaction is inside a tenant already' USING ERRCODE = 'IS006';
        EXCEPTION WHEN SQLSTATE 'IS002' THEN
            -- Without a valid proof, it is a setting that another client of a pooler left on this session.
        END;
    END IF;
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'a ticket is for a transaction at the isolation level READ COMMITTED' USING ERRCODE = 'IS006';
    END IF;
    IF isola.audit_of_owner('control.tickets'::regclass) THEN
        RAISE EXCEPTION 'the owner of the database cannot use a ticket: expected a login in the role isola_sql'
        USING ERRCODE = 'IS006';
    END IF;
    SELECT * INTO held FROM control.tickets t WHERE t.digest = sha256(convert_to(ticket, 'UTF8'));
    IF held.id IS NULL THEN
        RAISE EXCEPTION 'there is no such ticket' USING ERRCODE = 'IS006';
    ELSIF held.backend <> pg_backend_pid() THEN
        RAISE EXCEPTION 'the ticket is for another session' USING ERRCODE = 'IS006';
    ELSIF NOT pg_try_advisory_lock(hashtext('isola.ticket'), hashtext(held.id::text)) THEN
        RAISE EXCEPTION 'the ticket was used in another session' USING ERRCODE = 'IS006';
    END IF;
    SELECT t.home INTO home FROM control.tenants t WHERE t.id = held.tenant_id;
    PERFORM set_config('isola.tenant', held.tenant_id::text, true), set_config('isola.home', home, true),
        set_config('isola.proof', isola.proof_of(concat_ws(
            chr(10), held.tenant_id, held.user_id, concat('usr_', held.user_id), coalesce(held.on_behalf_of, ''),
            concat('tkt_', held.id), held.proved, ''
        )), true);
    UPDATE control.tickets SET used_at = now(), used_by = isola.this_transaction()
    WHERE id = held.id AND used_at IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the ticket was used before' USING ERRCODE = 'IS006';
    END IF;
    PERFORM isola.entered(NULL);
    RETURN concat('tkt_', held.id);
END $$;

-- What the ticket of this transaction permits: the home, the user and the organization. Raises IS006 without a valid
-- ticket, and for a user who was disabled or signed out since it was issued, or whose roles were changed; IS001 for a tenant that is not active; and
-- an error for a permission that the user did not have.
CREATE FUNCTION isola.entered(permission text, OUT home text, OUT user_id uuid, OUT organization_id uuid)
LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
#variable_conflict use_column
DECLARE
    held control.tickets;
    enabled boolean;
BEGIN
    IF coalesce(current_setting('isola.tenant', true), '') <> '' THEN
        SELECT * INTO held FROM control.tickets
        WHERE used_by = isola.this_transaction() AND tenant_id = isola.bound_tenant();
    END IF;
    IF held.id IS NULL THEN
        RAISE EXCEPTION 'this transaction has no ticket: expected BEGIN, then SELECT isola.enter(''…'')'
        USING ERRCODE = 'IS006';
    ELSIF held.expires_at <= clock_timestamp() THEN
        RAISE EXCEPTION 'the ticket has expired' USING ERRCODE = 'IS006';
    ELSIF permission IS NOT NULL AND array_position(held.permissions, permission) IS NULL THEN
        RAISE EXCEPTION 'this needs the permission %', permission USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT t.home INTO home FROM control.tenants t WHERE t.id = held.tenant_id;
    EXECUTE format('SELECT EXISTS (SELECT FROM %I.users WHERE id = $1 AND disabled_at IS NULL)', home)
    INTO enabled USING held.user_id;
    IF NOT enabled THEN
        RAISE EXCEPTION 'the user is disabled' USING ERRCODE = 'IS006';
    ELSIF isola.roles_of(home, held.user_id) <> held.roles THEN
        RAISE EXCEPTION 'the roles of the user have changed since the ticket was issued' USING ERRCODE = 'IS006';
    ELSIF EXISTS (
        SELECT FROM control.sign_outs o
        WHERE o.tenant_id = held.tenant_id AND o.user_id = held.user_id AND o.not_before >= held.issued_at
    ) THEN
        RAISE EXCEPTION 'the user has signed out since the ticket was issued' USING ERRCODE = 'IS006';
    END IF;
    user_id := held.user_id;
    organization_id := held.organization_id;
END $$;

CREATE TRIGGER audit_insert AFTER INSERT ON control.tickets REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('ticket', '{digest,permissions,roles,proved,used_by}', 'tkt_', 'id');
CREATE TRIGGER audit_update AFTER UPDATE ON control.tickets REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('ticket', '{digest,permissions,roles,proved,used_by}', 'tkt_', 'id');
