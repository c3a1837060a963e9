-- Webhooks of a tenant. Servers deliver the entries of the tenant's log to them: see docs/webhooks.md. A secret is derived from
-- ``secret_id`` with the installation's secret, so neither these functions nor the tables have any that would be of use.

CREATE FUNCTION isola.webhooks()
RETURNS TABLE (
    id uuid, kind text, url text, template text, description text, events text[], enabled boolean, created_by uuid, created_at timestamptz,
    updated_at timestamptz, secret_changed_at timestamptz, delivered bigint, succeeded_at timestamptz, failures int, failure text,
    next_attempt_at timestamptz, lag bigint
) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
BEGIN ATOMIC
    SELECT w.id, w.kind, w.url, w.template, w.description, w.events, w.enabled, w.created_by, w.created_at, w.updated_at, w.secret_changed_at,
           w.delivered, w.succeeded_at, w.failures, w.failure, w.next_attempt_at, greatest(h.entries - w.delivered, 0)
    FROM control.webhooks w JOIN control.audit_heads h ON h.tenant_id = w.tenant_id
    WHERE w.tenant_id = (SELECT isola.bound_tenant());
END;

-- The events that a webhook of the bound tenant did not accept in time.
CREATE FUNCTION isola.dead_letters(of_webhook uuid)
RETURNS TABLE (id uuid, number bigint, entry_id uuid, action text, attempts int, failure text, died_at timestamptz)
LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
BEGIN ATOMIC
    SELECT d.id, d.number, d.entry_id, d.action, d.attempts, d.failure, d.died_at
    FROM control.dead_letters d WHERE d.webhook_id = of_webhook AND d.tenant_id = (SELECT isola.bound_tenant());
END;

-- The last requests of a webhook of the bound tenant.
CREATE FUNCTION isola.connector_events(of_webhook uuid)
RETURNS TABLE (
    id uuid, number bigint, at timestamptz, first_entry bigint, last_entry bigint, entries int, attempt int, failure text, bytes int
) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
BEGIN ATOMIC
    SELECT e.id, e.number, e.at, e.first_entry, e.last_entry, e.entries, e.attempt, e.failure, e.bytes
    FROM control.connector_events e WHERE e.webhook_id = of_webhook AND e.tenant_id = (SELECT isola.bound_tenant());
END;

-- Makes a webhook that gets the events from now on. No row if the tenant has 20. ``sealed`` is an encrypted secret, of
-- connectors; what is not sealed for this tenant, kind and URL is never sent.
CREATE FUNCTION isola.create_webhook(
    url text, description text, events text[], kind text DEFAULT 'webhook', sealed bytea DEFAULT '', template text DEFAULT ''
)
RETURNS TABLE (id uuid, secret_id uuid) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := isola.bound_tenant();
BEGIN
    -- So that the webhooks of concurrent transactions are counted.
    PERFORM isola.take_turn(tenant);
    IF (SELECT count(*) FROM control.webhooks w WHERE w.tenant_id = tenant) >= 20 THEN
        RETURN;
    END IF;
    RETURN QUERY
    INSERT INTO control.webhooks AS w (tenant_id, kind, url, sealed, template, description, events, created_by, delivered)
    SELECT tenant, create_webhook.kind, create_webhook.url, create_webhook.sealed, create_webhook.template,
           create_webhook.description, create_webhook.events, isola.current_user_id(), h.entries
    FROM control.audit_heads h WHERE h.tenant_id = tenant
    RETURNING w.id, w.secret_id;
END $$;

-- Changes a webhook of the bound tenant; false if there is none. A server that is delivering to it stops, and the next attempt
-- is due at once. An empty ``sealed`` or ``template`` keeps what is there.
CREATE FUNCTION isola.update_webhook(
    webhook uuid, url text, description text, events text[], enabled boolean, sealed bytea DEFAULT '', template text DEFAULT ''
)
RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
#variable_conflict use_column
BEGIN
    UPDATE control.webhooks w SET
        url = update_webhook.url, description = update_webhook.description, events = update_webhook.events,
        sealed = coalesce(nullif(update_webhook.sealed, ''), w.sealed),
        template = coalesce(nullif(update_webhook.template, ''), w.template),
        secret_changed_at = CASE WHEN update_webhook.sealed = '' THEN w.secret_changed_at ELSE now() END,
        enabled = update_webhook.enabled, updated_at = now(), failures = 0, next_attempt_at = NULL, lease = NULL,
        leased_until = NULL
    WHERE w.id = webhook AND w.tenant_id = isola.bound_tenant();
    RETURN FOUND;
END $$;

-- Disables a webhook of the bound tenant whose endpoint is gone.
CREATE FUNCTION isola.disable_webhook(webhook uuid, reason text) RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
BEGIN
    UPDATE control.webhooks w SET
        enabled = false, updated_at = now(), failures = w.failures + 1, failure = reason, next_attempt_at = NULL, lease = NULL,
        leased_until = NULL
    WHERE w.id = webhook AND w.tenant_id = isola.bound_tenant();
    RETURN FOUND;
END $$;

-- Gives a webhook of the bound tenant another secret, and returns what it is derived from; NULL if there is no such webhook.
-- The former one is valid for 24 hours.
CREATE FUNCTION isola.rotate_webhook_secret(webhook uuid) RETURNS uuid LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    made uuid;
BEGIN
    UPDATE control.webhooks w SET
        former_secret_id = w.secret_id, former_secret_until = now() + interval '24 hours', secret_id = gen_random_uuid(),
        secret_changed_at = now(), lease = NULL, leased_until = NULL
    WHERE w.id = webhook AND w.tenant_id = isola.bound_tenant() AND w.kind = 'webhook'
    RETURNING w.secret_id INTO made;
    RETURN made;
END $$;

-- Deletes a webhook of the bound tenant and its dead letters; false if there is none.
CREATE FUNCTION isola.delete_webhook(webhook uuid) RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
BEGIN
    DELETE FROM control.webhooks w WHERE w.id = webhook AND w.tenant_id = isola.bound_tenant();
    RETURN FOUND;
END $$;

-- Has a webhook of the bound tenant get the events from a number on, in order. NULL if there is no such webhook; false if the
-- number is not in the log, or if events that were not delivered would be left out. What died from there on is tried again.
CREATE FUNCTION isola.replay_webhook(webhook uuid, first bigint) RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    tenant uuid := isola.bound_tenant();
    reached bigint;
BEGIN
    SELECT w.delivered INTO reached FROM control.webhooks w WHERE w.id = webhook AND w.tenant_id = tenant FOR UPDATE;
    IF reached IS NULL THEN
        RETURN NULL;
    ELSIF first NOT BETWEEN 1 + coalesce((SELECT c.number FROM control.audit_checkpoints c WHERE c.tenant_id = tenant), 0)
        AND reached + 1 THEN
        RETURN false;
    END IF;
    DELETE FROM control.dead_letters d WHERE d.webhook_id = webhook AND d.tenant_id = tenant AND d.number >= first;
    UPDATE control.webhooks w SET
        delivered = first - 1, failures = 0, next_attempt_at = NULL, lease = NULL, leased_until = NULL, replayed_at = now()
    WHERE w.id = webhook AND w.tenant_id = tenant;
    RETURN true;
END $$;

-- No entry has the path or query of a URL, which may contain a secret. What only concerns deliveries is not logged: no user
-- made that change.
CREATE TRIGGER audit_insert AFTER INSERT ON control.webhooks REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit(
    'webhook', '{url,secret_id,former_secret_id,former_secret_until,sealed,delivered,requests,succeeded_at,failures,failure,next_attempt_at,lease,leased_until}',
    'whk_', 'id'
);
CREATE TRIGGER audit_update AFTER UPDATE ON control.webhooks
REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit(
    'webhook', '{url,secret_id,former_secret_id,former_secret_until,sealed,delivered,requests,succeeded_at,failures,failure,next_attempt_at,lease,leased_until}',
    'whk_', 'id'
);
CREATE TRIGGER audit_delete AFTER DELETE ON control.webhooks REFERENCING OLD TABLE AS old_rows
FOR EACH STATEMENT EXECUTE FUNCTION isola.audit(
    'webhook', '{url,secret_id,former_secret_id,former_secret_until,sealed,delivered,requests,succeeded_at,failures,failure,next_attempt_at,lease,leased_until}',
    'whk_', 'id'
);
