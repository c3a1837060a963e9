-- A login for PostGraphile, held by the same policies as everybody else. Which spans a user may see is a policy too:
-- that is how its documentation says to do it. It is the login's own, so that no other peer pays for it.
CREATE ROLE peer_postgraphile LOGIN NOINHERIT;
GRANT USAGE ON SCHEMA rls, isola TO peer_postgraphile;
GRANT SELECT ON rls.users, rls.organizations, rls.memberships, rls.spans TO peer_postgraphile;
GRANT SELECT, INSERT ON rls.resources TO peer_postgraphile;
GRANT EXECUTE ON FUNCTION isola.claimed_tenant_id(), isola.current_tenant_id(), isola.proved_tenant_id(),
    isola.this_transaction(), isola.uuid_v7() TO peer_postgraphile;
-- Peers have their proofs made by the database, and pay for that with no round trip. Never do that elsewhere: SQL that is
-- smuggled into a transaction could make them, too.
GRANT EXECUTE ON FUNCTION isola.proof(uuid, uuid) TO peer_postgraphile;

CREATE SCHEMA peers;
GRANT USAGE ON SCHEMA peers TO peer_postgraphile;
CREATE FUNCTION peers.peer_user() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(current_setting('peer.user', true), '')::uuid;

-- PostGraphile sets settings to values that it has; this one is set to what the database makes of the tenant.
CREATE FUNCTION peers.set_config(name text, value text, is_local boolean) RETURNS text LANGUAGE sql
RETURN pg_catalog.set_config(name, CASE name WHEN 'isola.proof' THEN isola.proof(value::uuid) ELSE value END, is_local);
ALTER ROLE peer_postgraphile SET search_path = peers, pg_catalog;

CREATE POLICY peer_visible ON rls.spans AS RESTRICTIVE FOR SELECT TO peer_postgraphile USING (
    visibility = 'public'
    OR author_id = peers.peer_user()
    OR visibility = 'organization' AND EXISTS (
        SELECT FROM rls.memberships m
        WHERE m.tenant_id = isola.claimed_tenant_id()
          AND m.organization_id = spans.organization_id
          AND m.user_id = peers.peer_user()
    )
);
CREATE POLICY peer_owner ON rls.resources AS RESTRICTIVE FOR INSERT TO peer_postgraphile
WITH CHECK (owner_id = peers.peer_user());
