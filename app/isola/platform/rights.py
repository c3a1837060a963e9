"""The rights of each role: on the platform's own tables and functions, and in the homes of tenants."""

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Table

from isola.database.transactions import Transaction
from isola.platform import family_policies, visibility
from isola.platform.logins import Addresses, quote
from isola.platform.roles import Roles
from isola.subjects import search, tiers
from isola.subjects.audit import audit_entries, audit_log
from isola.subjects.metadata import Counted, quoted
from isola.subjects.organizations import memberships
from isola.subjects.resources import resources
from isola.subjects.roles import roles as roles_of_users, user_roles
from isola.subjects.spans import spans
from isola.subjects.users import users
from isola_strategies.base import Home, Strategy, rights

CALLED_BY_MEMBERS = (
    "isola.bound_tenant()",
    "isola.share(text, uuid, text, text[], timestamptz, text, text)",
    "isola.share_with_children(text, uuid, text[], timestamptz, text)",
    "isola.change_share(uuid, text[], timestamptz, boolean, text, boolean, text)",
    "isola.revoke_share(uuid)",
    "isola.revoke_shares_of(uuid)",
    "isola.make_share_rule(text, text, text[], timestamptz, text, text, jsonb, jsonb, text[], integer)",
    "isola.share_by_rule(uuid, uuid[])",
    "isola.change_share_rule(uuid, text[], timestamptz, boolean, text, boolean, text)",
    "isola.end_share_rule(uuid)",
    "isola.share_rules()",
    "isola.share_rule_count(uuid)",
    "isola.share_comments(uuid)",
    "isola.comment_on_share(uuid, text)",
    "isola.delete_share_comment(uuid)",
    "isola.may_read_own(text, uuid)",
    "isola.open_subjects()",
    "isola.shared_of(text, text[])",
    "isola.own_partnerships()",
    "isola.offer_partnership(text)",
    "isola.partnerships()",
    "isola.partnership_offers()",
    "isola.accept_partnership(uuid)",
    "isola.decline_partnership(uuid)",
    "isola.end_partnership(uuid)",
    "isola.block_tenant(text)",
    "isola.unblock_tenant(text)",
    "isola.blocked_tenants()",
    "isola.add_partner_domain(text)",
    "isola.remove_partner_domain(text)",
    "isola.partner_domains()",
    "isola.shares_received()",
    "isola.share_received(uuid)",
    "isola.page_of_shares_received(timestamptz, uuid, int)",
    "isola.shared_rows(text, uuid)",
    "isola.received_partnerships()",
    "isola.receives_of_parent(text)",
    "isola.descendants()",
    "isola.domains()",
    "isola.add_domain(text)",
    "isola.verify_domain(uuid)",
    "isola.remove_domain(uuid)",
    "isola.api_keys()",
    "isola.create_api_key(text, bytea, text, text[], uuid, timestamptz)",
    "isola.revoke_api_key(uuid)",
    "isola.announce(text, text)",
    "isola.remember_member(text)",
    "isola.sign_out(uuid, text)",
    "isola.note_access(uuid)",
    "isola.note_intervention(uuid)",
    "isola.begin_session(uuid, uuid)",
    "isola.note_sign_ins()",
    "isola.logged_reads()",
    "isola.log_reads(text[])",
    "isola.own_sessions()",
    "isola.end_own_sessions(uuid, uuid, text)",
    "isola.invitations()",
    "isola.invite(text, uuid[], uuid, interval)",
    "isola.revoke_invitation(uuid)",
    "isola.accept_invitation(uuid, bytea, uuid)",
    "isola.fail_invitation(uuid)",
    "isola.add_remote_partner(uuid, jsonb)",
    "isola.pin_remote_key(uuid, jsonb)",
    "isola.remote_partners()",
    "isola.add_remote_owner(text, text, uuid)",
    "isola.remove_remote_owner(uuid)",
    "isola.remote_owners()",
    "isola.note_remote_token(uuid, interval)",
    "isola.webhooks()",
    "isola.dead_letters(uuid)",
    "isola.connector_events(uuid)",
    "isola.create_webhook(text, text, text[], text, bytea, text)",
    "isola.update_webhook(uuid, text, text, text[], boolean, bytea, text)",
    "isola.disable_webhook(uuid, text)",
    "isola.rotate_webhook_secret(uuid)",
    "isola.delete_webhook(uuid)",
    "isola.replay_webhook(uuid, bigint)",
    "isola.record_usage(text[], bigint[], text[], timestamptz[], text[], jsonb[], boolean)",
    "isola.consume(text, bigint, text, text, jsonb)",
    "isola.limits()",
    "isola.customer_usage(text, text)",
    "isola.usage()",
    "isola.tenant_metrics(timestamptz, timestamptz)",
    "isola.incidents()",
    "isola.incident_notes(uuid)",
    "isola.issue_ticket(bytea, text[], uuid, integer, integer)",
    "isola.claim_answer(bytea, integer, bytea)",
    "isola.keep_answer(bytea, integer, bytea, text, boolean, text)",
    "isola.first_answer(bytea, integer, bytea)",
)
# What servers note about deliveries.
NOTED_OF_WEBHOOKS = (
    "delivered",
    "requests",
    "succeeded_at",
    "failures",
    "failure",
    "next_attempt_at",
    "lease",
    "leased_until",
)
VACUUMED = "autovacuum_vacuum_scale_factor = 0.02"
"""Of tables from which rows are deleted all the time: their space is to be used again soon."""
LEASE_RATE = "control.lease_rate(uuid, text, integer, uuid, bigint, bigint, bigint, bigint)"
COUNTED_FOR_MEMBERS = (
    "isola.plan()",
    "isola.plan_features(text[])",
    "isola.plan_rates()",
    "isola.quotas()",
    "isola.used(text)",
)
# What compares rows with the conditions of rules that share them.
MATCHING = ("isola.matches(jsonb, jsonb)", "isola.compared(text, text, text)")
COPY_WRITTEN = "isola.copy_written(text, uuid[])"
COPY_ALL = "isola.copy_all(uuid, text)"
KEEP_SHARE_RULES = "isola.keep_share_rules(text, jsonb[], jsonb[])"
# What counts the use of meters.
CONSUME_ROWS = "isola.consume_rows()"
CALLED_BY_USAGE = (
    "isola.period_end(timestamptz, text)",
    "isola.usage_digest(text)",
    "isola.usage_content(text, bigint, text, timestamptz, jsonb)",
    "isola.usage_lock(uuid)",
    "isola.meter_limit(uuid, text, timestamptz)",
    "isola.check_events(text[], bigint[], text[], timestamptz[], text[], jsonb[])",
    "isola.check_keys(uuid, text[], bigint[], text[], timestamptz[], text[], jsonb[])",
    "isola.customer_caps(uuid, text[])",
    "isola.check_sum(bigint, bigint)",
    "isola.keep_limit(uuid, text, text, timestamptz, bigint, integer, boolean, bigint, bigint)",
)
# Limits the size of answers, in the statements of reads.
MEASURED = "isola.measured(text, bigint, bigint, text)"
CALLED_BY_ALL = (
    "isola.claimed_tenant_id()",
    "isola.current_permissions()",
    "isola.current_tenant_id()",
    "isola.current_user_id()",
    "isola.proved_request()",
    "isola.proved_tenant_id()",
    "isola.this_transaction()",
    "isola.uuid_v7()",
    "isola.words(regconfig, text)",
)
# Functions that access data which their callers may not: they run as isola_sharing.
ENTER = "isola.enter(text)"
ENTERED = "isola.entered(text)"
FAMILY = ("isola.family(text)", "isola.family_list()")
CALLED_BY_FAMILY = (*FAMILY, "isola.is_family(text)")
AS_SHARING = (
    *CALLED_BY_MEMBERS,
    "isola.may_read(uuid, text, uuid)",
    "isola.granted_columns(text, text[])",
    "isola.may_comment(uuid)",
    "isola.make_share(uuid, text, uuid, text, uuid, uuid, text[], timestamptz, text, text)",
    KEEP_SHARE_RULES,
    COPY_WRITTEN,
    COPY_ALL,
    "isola.copy_received(uuid, text, uuid[])",
    "isola.copy_shares()",
    "isola.copy_names()",
    "isola.copies_ended()",
    "isola.note_disabled()",
    CONSUME_ROWS,
    "isola.shareable_rows(uuid, text, uuid, uuid[])",
    "isola.note_shared_by_rule(control.share_rules, bigint, bigint)",
    "isola.keep_share_rule(control.share_rules, uuid[], uuid[])",
    "isola.locked_share_rule(uuid, uuid)",
    "isola.share_rule_names()",
    "isola.reads_row_of(uuid)",
    "isola.share_of_bound(uuid, uuid)",
    "isola.note_share_comment(control.share_comments, uuid, text)",
    "isola.has_blocked(uuid, uuid)",
    "isola.tenant_or_nobody(text, uuid)",
    "isola.take_turn(uuid)",
    "isola.is_slug_of_another(text)",
    "isola.lock_offers(uuid, uuid)",
    "isola.begin_partnership(uuid, uuid, uuid, timestamptz, text)",
    "isola.note_partners()",
    "isola.note_remote_partner(jsonb, jsonb)",
    "isola.proved_tenant_id()",
    "isola.proof(uuid, uuid)",
    "isola.proof_of(text)",
    *FAMILY,
    "isola.family_record(text)",
    "isola.roles_of(text, uuid)",
    ENTER,
    ENTERED,
)

# Functions for sessions with a ticket run as isola_sql_functions.
AS_SQL = (
    "isola.get_tenant_timeline(timestamptz, timestamptz, text, text, text, text, text, text, integer)",
    "isola.create_tenant_span(text, jsonb, jsonb, text, text, text, text, text, float8)",
    "isola.get_tenant_stats(timestamptz, timestamptz)",
    "isola.create_resource(jsonb)",
)
CALLED_BY_SQL = (
    "isola.expect(boolean, text, text)",
    "isola.expect_document(text, jsonb, integer)",
    "isola.key_of(text, text, text)",
)
# What they need in every home.
INSERTED_BY_SQL = (resources.name, spans.name)
READ_BY_SQL: Mapping[str, Sequence[str]] = {
    memberships.name: ("organization_id", "user_id"),
    resources.name: ("id",),
    spans.name: [column.name for column in spans.columns],
}

# Functions that record changes and write them to the log run as isola_audit: triggers, and what they call. Only staff
# access and sign-in events are recorded by functions that run as isola_sharing.
NOTE_PLATFORM = "isola.audit_platform(text, text, text, text, jsonb, jsonb)"
AUDIT_NOTE = "isola.audit_note(oid, text, text[], jsonb[], jsonb[])"
AUDIT_HASH = "isola.audit_hash(uuid, uuid, timestamptz, text, text, text, text, text, jsonb, jsonb)"
NOTE_PARTNER = "isola.audit_of_partner(text[], text[], jsonb[], jsonb[])"
SEAL = "control.seal(bigint)"
NOTE_READER = "isola.audit_of_reader(uuid, text[], jsonb[])"
READ_SEALS = ("isola.feed(bigint, bigint)", "isola.unsealed()")
AS_AUDIT = (
    "isola.audit()",
    AUDIT_NOTE,
    "isola.audit_commit()",
    "isola.audit_offers_ended()",
    "isola.audit_grantees()",
    "isola.audit_single_shares()",
    NOTE_PARTNER,
    NOTE_READER,
    NOTE_PLATFORM,
    SEAL,
    *READ_SEALS,
)
KEEP_STORAGE = "isola.quota_keep_storage()"
# Functions that enforce and report quotas.
AS_QUOTAS = (*COUNTED_FOR_MEMBERS, KEEP_STORAGE, "isola.quota_keep()", "isola.quota_keep_at_once()")
CALLED_BY_QUOTAS = (
    "isola.quota_used(uuid, text, text, bigint)",
    "isola.quota_counted(uuid, text, text, bigint)",
    "isola.quota_limit(uuid, text, timestamptz)",
)
# Functions that delete what plans do not keep.
AS_RETENTION = (
    "isola.retention()",
    "isola.expire_rows(text, integer, timestamptz, uuid)",
    "isola.cut_log(bigint)",
    "isola.count_expired(text)",
)
CALLED_BY_RETENTION = (
    "isola.retention_days(uuid, text, timestamptz)",
    "isola.retention_delete(uuid, text, control.kept, timestamptz, integer, uuid[])",
    "isola.revoke_shares_of(uuid)",
    "isola.bound_tenant()",
    AUDIT_NOTE,
    AUDIT_HASH,
)
# What tells the size of rows.
AS_STORAGE = ("isola.measure_rows(text, text, uuid, integer)",)
MEASURE_STORAGE = (
    "control.take_storage(integer)",
    "control.keep_storage(uuid, bigint, bigint, double precision)",
    "isola.quota_limit(uuid, text, timestamptz)",
)
# Functions that keep the words of searched texts.
AS_WORDS = ("isola.keep_words()",)
AS_WATCHDOG = ("control.end_sessions(text, interval, timestamptz, text[])",)
HIERARCHY = (
    "control.ancestors(uuid)",
    "control.descendants(uuid)",
    "control.below_inactive(uuid)",
    "control.status_of(uuid)",
    "control.entitlements(uuid, text)",
    "control.active_descendants(uuid)",
)
# The ids that children have for what their parents share.
IDS_OF_CHILDREN = (
    "control.hashed_half(bigint, uuid, integer)",
    "control.permuted(uuid, uuid, integer[])",
    "control.id_of_child(uuid, uuid)",
    "control.id_of_parent(uuid, uuid)",
)
CALLED_BY_AUDIT = (
    "isola.audit_values(jsonb, text[])",
    "isola.audit_difference(jsonb, jsonb, text[])",
    "isola.audit_received(jsonb, text)",
    "isola.audit_recipients(control.shares)",
    "isola.audit_of_owner(oid)",
    AUDIT_HASH,
    "isola.audit_expiring(text, bigint)",
    "isola.audit_write(uuid, text, text, text, text, text, bigint, text[], text[], jsonb[], jsonb[])",
    "control.committing()",
    "isola.audit_added(oid, text, text[], jsonb[], jsonb[])",
    "isola.share_rules_lock(uuid, text)",
    KEEP_SHARE_RULES,
    COPY_WRITTEN,
)


def admit_to_platform(addresses: Addresses) -> str:
    """Idempotent statements that grant each role its rights on the platform's own tables and functions."""
    tenant, control = quote(addresses.tenant_login), quote(addresses.control_login)
    roles = addresses.roles
    owners = ", ".join(
        f"('{function}'::regprocedure, {_literal(role)}::regrole)"
        for role, functions in zip(
            roles.inner,
            (AS_SHARING, AS_AUDIT, AS_QUOTAS, AS_WATCHDOG, AS_SQL, AS_WORDS, AS_RETENTION, AS_STORAGE),
            strict=True,
        )
        for function in functions
    )
    return f"""
        REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA isola, control FROM PUBLIC;
        GRANT USAGE ON SCHEMA isola TO {tenant}, {control}, {roles.members}, {roles.sharing};
        GRANT EXECUTE ON FUNCTION {", ".join(CALLED_BY_ALL)} TO {tenant}, {control}, {roles.members}, {roles.sharing};
        GRANT EXECUTE ON FUNCTION {", ".join(CALLED_BY_MEMBERS)}, {MEASURED} TO {tenant}, {roles.members};
        GRANT EXECUTE ON FUNCTION {", ".join(MATCHING)} TO {tenant}, {roles.members}, {roles.sharing};
        GRANT EXECUTE ON FUNCTION isola.share_rules_lock(uuid, text), {", ".join(CALLED_BY_USAGE)} TO {roles.sharing};
        GRANT USAGE ON SCHEMA isola TO {roles.sql}, {roles.sql_functions};
        GRANT EXECUTE ON FUNCTION {", ".join((*CALLED_BY_ALL, *AS_SQL))}, {ENTER} TO {roles.sql};
        GRANT EXECUTE ON FUNCTION {", ".join((*CALLED_BY_ALL, *CALLED_BY_SQL))}, {ENTERED} TO {roles.sql_functions};
        GRANT EXECUTE ON FUNCTION isola.audit_of_owner(oid) TO {roles.sharing}, {roles.words};
        GRANT USAGE ON SCHEMA isola TO {roles.words}, {roles.family};
        GRANT EXECUTE ON FUNCTION {", ".join((*CALLED_BY_ALL, *CALLED_BY_FAMILY))}, {MEASURED} TO {roles.family};
        GRANT EXECUTE ON FUNCTION {", ".join(CALLED_BY_ALL)} TO {roles.words};
        GRANT EXECUTE ON FUNCTION {", ".join(CALLED_BY_ALL)}, isola.bound_tenant() TO {roles.audit};
        GRANT EXECUTE ON FUNCTION {", ".join(CALLED_BY_AUDIT)} TO {roles.audit};
        GRANT EXECUTE ON FUNCTION {AUDIT_NOTE} TO {roles.sharing};
        GRANT USAGE ON SCHEMA isola TO {roles.retention}, {roles.storage};
        GRANT EXECUTE ON FUNCTION {", ".join(AS_STORAGE)} TO {tenant}, {roles.members};
        GRANT EXECUTE ON FUNCTION {", ".join(CALLED_BY_ALL)}, isola.bound_tenant() TO {roles.storage};
        GRANT EXECUTE ON FUNCTION {", ".join(MEASURE_STORAGE)} TO {control};
        GRANT EXECUTE ON FUNCTION {KEEP_STORAGE} TO {roles.audit};
        GRANT EXECUTE ON FUNCTION {", ".join(AS_RETENTION)} TO {tenant}, {roles.members};
        GRANT EXECUTE ON FUNCTION {", ".join((*CALLED_BY_ALL, *CALLED_BY_RETENTION))} TO {roles.retention};
        GRANT EXECUTE ON FUNCTION {", ".join(READ_SEALS)} TO {tenant}, {roles.members};
        GRANT EXECUTE ON FUNCTION {NOTE_PARTNER}, {NOTE_READER} TO {roles.sharing};
        GRANT EXECUTE ON FUNCTION {NOTE_PLATFORM} TO {control}, {roles.sharing};
        GRANT USAGE ON SCHEMA isola TO {roles.quotas};
        GRANT EXECUTE ON FUNCTION {", ".join(COUNTED_FOR_MEMBERS)} TO {tenant}, {roles.members};
        GRANT EXECUTE ON FUNCTION {", ".join(CALLED_BY_ALL)}, isola.bound_tenant() TO {roles.quotas};
        GRANT EXECUTE ON FUNCTION {", ".join(CALLED_BY_QUOTAS)} TO {roles.quotas};
        GRANT EXECUTE ON FUNCTION {", ".join(HIERARCHY)} TO {control}, {roles.sharing};
        GRANT USAGE ON SCHEMA isola TO {roles.audit};
        GRANT CREATE ON SCHEMA isola, control TO {", ".join(roles.inner)};
        {_OWN.format(owners=owners)};
        REVOKE CREATE ON SCHEMA isola, control FROM {", ".join(roles.inner)};
        GRANT USAGE ON SCHEMA control TO {control}, {", ".join(roles.inner)};
        GRANT EXECUTE ON FUNCTION {", ".join(AS_WATCHDOG)} TO {control};
        GRANT INSERT ON control.audit_entries TO {roles.audit};
        GRANT SELECT ON control.audit_entries TO {control};
        GRANT SELECT, INSERT ON control.interventions TO {control};
        GRANT SELECT, UPDATE (done_at) ON control.interventions TO {roles.sharing};
        GRANT SELECT, INSERT, UPDATE, DELETE ON control.plans TO {control};
        GRANT SELECT (id, home, plan) ON control.tenants TO {roles.quotas};
        GRANT SELECT, INSERT, UPDATE, DELETE ON control.quota_overrides TO {control};
        GRANT SELECT, INSERT, UPDATE, DELETE ON control.feature_overrides, control.meter_overrides TO {control};
        GRANT SELECT, INSERT, UPDATE, DELETE ON control.rate_overrides TO {control};
        GRANT SELECT, INSERT, UPDATE, DELETE ON control.rate_levels TO {control};
        GRANT EXECUTE ON FUNCTION {LEASE_RATE} TO {control};
        GRANT SELECT (tenant_id, rate, value, ends_at) ON control.rate_overrides TO {roles.quotas};
        GRANT SELECT (tenant_id, feature, given, ends_at) ON control.feature_overrides TO {roles.quotas};
        GRANT SELECT (tenant_id, quota, at_most, ends_at) ON control.quota_overrides TO {roles.quotas};
        GRANT SELECT (tenant_id), DELETE ON control.quota_bounds TO {control};
        GRANT SELECT, INSERT, UPDATE ON control.quota_bounds, control.quota_turns TO {roles.quotas};
        GRANT SELECT (name, title, price, currency, period, quotas, rates, features) ON control.plans TO {roles.quotas};
        GRANT SELECT ON control.counted TO {roles.quotas}, {roles.audit};
        GRANT SELECT, INSERT, UPDATE, DELETE ON control.retention_overrides TO {control};
        GRANT SELECT (tenant_id, retention, days, ends_at) ON control.retention_overrides TO {roles.retention};
        GRANT SELECT (id, home, plan) ON control.tenants TO {roles.retention};
        GRANT SELECT (name, retention) ON control.plans TO {roles.retention};
        GRANT SELECT ON control.kept TO {roles.retention};
        GRANT SELECT, INSERT, UPDATE ON control.storage TO {control};
        GRANT SELECT (tenant_id, bytes, measured_at) ON control.storage TO {roles.quotas};
        GRANT SELECT (tenant_id, bytes, most) ON control.storage TO {roles.audit};
        GRANT SELECT (id, home) ON control.tenants TO {roles.storage};
        GRANT SELECT, INSERT, DELETE ON control.expiring TO {roles.retention};
        GRANT SELECT, UPDATE (rows) ON control.expiring TO {roles.audit};
        GRANT SELECT, DELETE ON control.audit_seals TO {roles.retention};
        GRANT SELECT, INSERT, UPDATE ON control.audit_checkpoints TO {roles.retention};
        GRANT SELECT ON control.audit_checkpoints TO {control};
        GRANT SELECT (tenant_id, number) ON control.audit_checkpoints TO {roles.sharing};
        GRANT SELECT (tenant_id, enabled, delivered) ON control.webhooks TO {roles.retention};
        GRANT SELECT (tenant_id, revoked_at, expires_at) ON control.api_keys TO {roles.quotas};
        GRANT SELECT (tenant_id) ON control.domains TO {roles.quotas};
        GRANT SELECT (owner_id, revoked_at, expires_at, partnership_id, rule_id) ON control.shares TO {roles.quotas};
        GRANT SELECT (id) ON control.partners TO {roles.quotas}, {roles.audit};
        GRANT SELECT (tenant_id, partner_slug) ON control.partners TO {roles.audit};
        GRANT INSERT ON control.share_notices TO {roles.audit};
        GRANT SELECT (tenant_id), INSERT ON control.share_notices TO {control};
        GRANT SELECT, UPDATE (id), DELETE ON control.share_notices TO {roles.sharing};
        GRANT SELECT, INSERT, UPDATE (place, at), DELETE ON control.audit_pending TO {roles.audit};
        GRANT USAGE, SELECT ON SEQUENCE control.audit_places TO {roles.audit};
        GRANT SELECT, UPDATE ON control.audit_heads TO {roles.audit};
        GRANT SELECT, INSERT ON control.audit_seals TO {roles.audit};
        GRANT EXECUTE ON FUNCTION {SEAL}, control.committing() TO {control};
        GRANT SELECT ON control.audit_pending, control.audit_seals TO {control};
        GRANT SELECT (
            id, home, status, moving_to, parent_id, child_key, child_since
        ) ON control.tenants TO {roles.audit};
        GRANT SELECT ON control.audit_heads, control.memberships TO {control};
        GRANT SELECT, INSERT, UPDATE (state, finished_at) ON control.orders TO {control};
        GRANT SELECT, INSERT ON control.memberships TO {roles.sharing};
        GRANT SELECT, INSERT, UPDATE ON control.tenants TO {control};
        GRANT SELECT ON control.alembic_version, control.applications, control.secrets TO {control};
        GRANT SELECT ON control.binding_key TO {control}, {roles.sharing};
        GRANT SELECT, INSERT, DELETE ON control.changes TO {control};
        GRANT SELECT, INSERT, UPDATE, DELETE ON control.revocations, control.sessions TO {control};
        GRANT SELECT, INSERT, UPDATE ON control.refresh_tokens TO {control};
        GRANT SELECT, UPDATE (user_id, ended_at, ended_for), DELETE ON control.sessions TO {roles.sharing};
        GRANT SELECT (session_id, expires_at, used_at) ON control.refresh_tokens TO {roles.sharing};
        GRANT INSERT ON control.revocations TO {roles.sharing};
        GRANT SELECT, INSERT, UPDATE (count, last_at) ON control.refusals TO {control};
        GRANT SELECT, DELETE ON control.refusals, control.reads TO {roles.sharing};
        GRANT SELECT, INSERT, UPDATE (count, last_at) ON control.reads TO {control};
        GRANT SELECT, INSERT, UPDATE (count, rows, last_at) ON control.logged_reads TO {control};
        GRANT SELECT, UPDATE (due_at), DELETE ON control.logged_reads TO {roles.sharing};
        GRANT UPDATE (logged_reads) ON control.tenants TO {roles.sharing};
        GRANT SELECT ON control.sign_outs TO {control};
        GRANT SELECT, INSERT, UPDATE (ended_at) ON control.access_grants TO {control};
        GRANT SELECT ON control.access_grants TO {roles.sharing};
        GRANT INSERT, SELECT (transaction) ON control.changes TO {roles.sharing};
        GRANT SELECT, INSERT, UPDATE ON control.sign_outs TO {roles.sharing};
        GRANT SELECT ON control.domains, control.api_keys TO {control};
        GRANT SELECT (
            id, owner_id, grantee_id, partnership_id, subject, expires_at, revoked_at, lapsed
        ) ON control.shares TO {control};
        GRANT SELECT (owner_id, grantee_id, subject, row_id, revoked_at) ON control.shares TO {roles.audit};
        GRANT SELECT, INSERT, DELETE ON control.disabled_users TO {roles.sharing};
        GRANT SELECT, INSERT, UPDATE, DELETE ON control.received_shares TO {roles.sharing};
        GRANT SELECT ON control.disabled_users, control.received_shares, control.received_now
            TO {tenant}, {roles.members};
        GRANT EXECUTE ON FUNCTION {COPY_ALL} TO CURRENT_USER;
        GRANT USAGE ON SCHEMA received TO {roles.sharing};
        GRANT EXECUTE ON FUNCTION {", ".join(IDS_OF_CHILDREN)} TO {control}, {roles.sharing}, {roles.audit};
        GRANT UPDATE (lapsed) ON control.shares TO {control};
        GRANT UPDATE (last_used_at) ON control.api_keys TO {control};
        GRANT UPDATE (proven_at) ON control.domains TO {control};
        GRANT SELECT, INSERT, UPDATE, DELETE ON control.domains TO {roles.sharing};
        GRANT SELECT, INSERT, UPDATE ON control.api_keys TO {roles.sharing};
        GRANT SELECT ON control.tenants, control.subjects, control.current_shares, control.live_shares,
            control.family_shares, control.sharers TO {roles.sharing};
        GRANT SELECT, INSERT, UPDATE ON control.shares, control.share_rules TO {roles.sharing};
        GRANT SELECT, INSERT, DELETE ON control.share_comments TO {roles.sharing};
        GRANT SELECT ON control.live_share_rules TO {roles.sharing};
        GRANT SELECT (owner_id, subject, ended_at) ON control.share_rules TO {roles.audit};
        GRANT SELECT (owner_id, ended_at, expires_at, partnership_id) ON control.share_rules TO {roles.quotas};
        GRANT INSERT ON control.share_notices TO {roles.sharing};
        GRANT SELECT, INSERT, UPDATE, DELETE ON control.partnership_offers TO {roles.sharing};
        GRANT SELECT, INSERT, UPDATE ON control.partnership_declines TO {roles.sharing};
        GRANT SELECT, INSERT, UPDATE, DELETE ON control.partners, control.tenant_blocks TO {roles.sharing};
        GRANT SELECT, INSERT, UPDATE, DELETE ON control.partner_domains TO {roles.sharing};
        GRANT SELECT, INSERT, UPDATE (used_at, used_by), DELETE ON control.tickets TO {roles.sharing};
        GRANT SELECT, INSERT, UPDATE ON control.quota_turns TO {roles.sharing};
        GRANT SELECT, INSERT, DELETE ON control.first_answers TO {roles.sharing};
        GRANT SELECT ON control.meters, control.meter_overrides TO {roles.sharing};
        GRANT SELECT (name, limits) ON control.plans TO {roles.sharing};
        GRANT SELECT, INSERT, UPDATE ON control.usage TO {roles.sharing};
        GRANT SELECT, INSERT ON control.usage_keys, control.usage_values TO {roles.sharing};
        GRANT INSERT ON control.usage_events TO {roles.sharing};
        GRANT SELECT, UPDATE (digest, attempts, next_attempt_at, sent_at), DELETE ON control.invitations TO {control};
        GRANT SELECT, INSERT, UPDATE ON control.invitations TO {roles.sharing};
        GRANT SELECT, INSERT ON control.remote_partners TO {control};
        GRANT SELECT, INSERT, UPDATE (expires_at), DELETE ON control.remote_tokens TO {control};
        GRANT SELECT (tenant_id, id) ON control.partners TO {control};
        GRANT INSERT ON control.audit_heads TO {control};
        GRANT SELECT, UPDATE (partnership_id, key, pinned_by, pinned_at) ON control.remote_partners TO {roles.sharing};
        GRANT SELECT, INSERT, DELETE ON control.remote_owners TO {roles.sharing};
        GRANT SELECT, INSERT, UPDATE, DELETE ON control.webhooks TO {roles.sharing};
        GRANT SELECT, DELETE ON control.dead_letters TO {roles.sharing};
        GRANT SELECT ON control.connector_events TO {roles.sharing};
        GRANT SELECT (tenant_id, entries) ON control.audit_heads TO {roles.sharing};
        GRANT SELECT, UPDATE ({", ".join(NOTED_OF_WEBHOOKS)}) ON control.webhooks TO {control};
        GRANT INSERT ON control.dead_letters TO {control};
        GRANT SELECT (webhook_id, number), INSERT, DELETE ON control.connector_events TO {control};
        GRANT SELECT, INSERT, DELETE ON control.request_records, control.hourly_members TO {control};
        GRANT SELECT, INSERT, UPDATE, DELETE ON control.hourly_metrics TO {control};
        GRANT SELECT ON control.hourly_metrics TO {roles.sharing};
        GRANT SELECT, INSERT, UPDATE (closed_at) ON control.incidents TO {control};
        GRANT SELECT, INSERT ON control.incident_notes TO {control};
        GRANT SELECT, INSERT, UPDATE (shown) ON control.incident_tenants TO {control};
        GRANT SELECT ON control.incidents, control.incident_notes, control.incident_tenants TO {roles.sharing};
        GRANT SELECT (digest, place, kept_at), DELETE ON control.first_answers TO {control};
        {_own_shares((tenant, roles.members), (control, roles.sharing, roles.quotas, roles.audit))}
    """


# Only where it changes something, since it locks the function: another migration, which is making a home, may have
# locked some of them by then.
_OWN = """
        DO $owners$ DECLARE function regprocedure; owner regrole; BEGIN
            FOR function, owner IN
                SELECT f, r FROM (VALUES {owners}) wanted (f, r) JOIN pg_proc p ON p.oid = f WHERE p.proowner <> r
            LOOP
                EXECUTE format('ALTER FUNCTION %s OWNER TO %s', function, owner);
            END LOOP;
        END $owners$"""


def _literal(role: str) -> str:
    return "'{}'".format(role.replace("'", "''"))


def _own_shares(readers: Sequence[str], others: Sequence[str]) -> str:
    """Let tenant traffic read its own shares, by the view ``isola.own_shares``: it cannot name the table.

    The policies replace older ones only where they are for other roles, since that locks the table.
    """
    reading, all_others = ", ".join(readers), ", ".join(others)
    names = ", ".join(map(_literal, (*readers, *others)))
    return f"""
        GRANT SELECT ON isola.own_shares TO {reading};
        GRANT SELECT (
            id, owner_id, subject, row_id, grantee_slug, partnership_id, granted_by, granted_at, expires_at, revoked_at,
            lapsed, fields, note, rule_id, access
        ) ON control.shares TO {reading};
        DO $policies$ BEGIN
            IF (
                SELECT array_agg(DISTINCT role::regrole::text) FROM pg_policy, unnest(polroles) role
                WHERE polrelid = 'control.shares'::regclass
            ) IS DISTINCT FROM (
                SELECT array_agg(DISTINCT r::regrole::text) FROM unnest(ARRAY[{names}]) r
            ) THEN
                DROP POLICY IF EXISTS own ON control.shares;
                DROP POLICY IF EXISTS every ON control.shares;
                CREATE POLICY own ON control.shares FOR SELECT TO {reading} USING (
                    owner_id = (SELECT isola.bound_tenant())
                    AND (subject = ANY ((SELECT isola.open_subjects())::text[]) OR isola.may_read_own(subject, row_id))
                );
                CREATE POLICY every ON control.shares TO {all_others} USING (true) WITH CHECK (true);
            END IF;
        END $policies$
    """


def admit_to_home(home: Home, tables: Sequence[Table], roles: Roles) -> Sequence[str]:
    """Idempotent statements that grant the platform's roles their rights in a home.

    The log is insert-only. Rows that quotas are about can be counted, without access to further columns. Data that
    tables declare as shared can be read.
    """
    schema = home.schema
    entering = [roles.sharing, roles.audit, roles.quotas, roles.sql_functions, roles.retention, roles.storage]
    if kept := _kept(tables):
        entering.append(roles.words)
    return [
        # Functions that every transaction may call; the login does not inherit, so each role is granted them.
        *([f"GRANT {roles.members} TO {home.role}"] if home.role else []),
        f"GRANT USAGE ON SCHEMA {schema} TO {', '.join(entering)}",
        f"GRANT INSERT ON {schema}.audit_entries TO {roles.audit}",
        f"GRANT SELECT, DELETE ON {schema}.audit_entries TO {roles.retention}",
        *(f"GRANT SELECT ON {schema}.{table} TO {roles.storage}" for table in _measured(tables)),
        # FOR UPDATE needs the right to update some column.
        *(f"GRANT UPDATE (id), DELETE ON {schema}.{table} TO {roles.retention}" for table in _kept_for_a_time(tables)),
        *(
            f"ALTER TABLE {schema}.{table} SET ({VACUUMED})"
            for table in (audit_entries.name, *_kept_for_a_time(tables))
        ),
        *(f"GRANT INSERT ON {schema}.{table} TO {roles.sql_functions}" for table in INSERTED_BY_SQL),
        *(f"GRANT INSERT, DELETE ON {schema}.{table} TO {roles.words}" for table in kept),
        *(
            f"GRANT SELECT ({', '.join(map(quoted, columns))}) ON {schema}.{table} TO {role}"
            for role, table, columns in _read(tables, roles)
        ),
    ]


def withdraw_from_home(strategy: Strategy, home: Home, tables: Sequence[Table], roles: Roles) -> Sequence[str]:
    """Statements that take all rights on tables from tenant traffic, the platform's roles and PUBLIC, in its schema."""
    names = ", ".join(quoted(table.name) for table in tables)
    return (f"REVOKE ALL ON {names} FROM {', '.join(('PUBLIC', strategy.login, *_watched(home, roles)))}",)


def _watched(home: Home, roles: Roles) -> Sequence[str]:
    """The roles whose rights in a home are those of this module and no others, besides the login."""
    return (*roles.inner, roles.members, roles.sql, roles.family, *([home.role] if home.role else []))


def _measured(tables: Iterable[Table]) -> Sequence[str]:
    """The tables whose rows count for the storage of a tenant."""
    return [quoted(table.name) for table in tables if "audited" in table.info]


def _kept_for_a_time(tables: Iterable[Table]) -> Sequence[str]:
    """The tables of the subjects from which rows are deleted that plans do not keep."""
    return [table.name for table in tables if "kept" in table.info]


def _kept(tables: Iterable[Table]) -> Sequence[str]:
    """The tables of words."""
    return [words.table.name for table in tables if (words := search.words_of(table)) is not None]


def _read(tables: Iterable[Table], roles: Roles) -> Iterable[tuple[str, str, Sequence[str]]]:
    """The columns of each table that a role may read in every home."""
    for table in tables:
        counted: Counted | None = table.info.get("counted")
        if counted is not None:
            # Without a condition, the primary key is counted.
            yield roles.quotas, table.name, counted.columns or [column.name for column in table.primary_key]
        if "shared_columns" in table.info:
            yield roles.sharing, table.name, ["id", *table.info["shared_columns"]]
        if (words := search.words_of(table)) is not None:
            yield roles.words, words.table.name, words.table.columns.keys()
        if "kept" in table.info:
            yield roles.retention, table.name, ("id", table.info["kept"])
    yield roles.sharing, users.name, ("id", "disabled_at")
    # For the limits of customers.
    yield roles.sharing, tiers.Tier.table.name, ("id", "usage_caps")
    yield roles.sharing, tiers.TierCustomer.table.name, ("name", "tier_id")
    # For tickets, which end when the roles of their user change.
    yield roles.sharing, user_roles.name, ("user_id", "role_id")
    yield roles.sharing, roles_of_users.name, ("id", "permissions")
    for table_name, columns in READ_BY_SQL.items():
        yield roles.sql_functions, table_name, columns


# $1 and $2 are the schemas of homes and their roles, '' for the login itself; $3 the login and $4 the role of members;
# $5 to $8 the rights on tables: the role, '' for the home's own, the table, the right, and the column or ''. $9 are
# roles that have no other rights there; nor have the home's own and PUBLIC.
# Homes whose tables have the same owners and rights but for their own role, which has the same memberships, are alike:
# the rights on tables are examined in one example of each kind. Memberships are looked up: pg_has_role would collect
# all of the login's, one of every tenant, for each home.
_SHUT = """
WITH homes AS (
    SELECT schema, role, coalesce(nullif(role, ''), $3) AS enters FROM unnest($1::text[], $2::text[]) h (schema, role)
),
found AS MATERIALIZED (
    SELECT h.schema, h.role, h.enters, c.oid, c.relname, c.relowner, c.relacl
    FROM homes h JOIN pg_namespace n ON n.nspname = h.schema JOIN pg_class c ON c.relnamespace = n.oid
    WHERE c.relname = ANY ($6)
),
kinds AS MATERIALIZED (
    SELECT h.schema, h.enters, min(h.schema) OVER (PARTITION BY h.role = '', t.rights, a.rights, m.roles) AS example
    FROM homes h
    LEFT JOIN (
        SELECT schema, md5(string_agg(
            concat_ws(' ', relname, relowner, replace(relacl::text, role, '')), ';' ORDER BY relname
        )) AS rights
        FROM found GROUP BY schema
    ) t USING (schema)
    LEFT JOIN (
        SELECT schema, md5(string_agg(
            concat_ws(' ', relname, attname, replace(attacl::text, role, '')), ';' ORDER BY relname, attname
        )) AS rights
        FROM found JOIN pg_attribute ON attrelid = found.oid WHERE attacl IS NOT NULL GROUP BY schema
    ) a USING (schema)
    LEFT JOIN (
        SELECT r.rolname, r.rolsuper || string_agg((to_jsonb(g) - 'oid' - 'member')::text, ';' ORDER BY roleid) AS roles
        FROM pg_roles r LEFT JOIN pg_auth_members g ON g.member = r.oid GROUP BY 1, r.rolsuper
    ) m ON m.rolname = h.role
),
rights AS (
    SELECT * FROM unnest($5::text[], $6::text[], $7::text[], $8::text[]) r (role, name, privilege, attribute)
)
SELECT schema, min(lacks) FROM (
    SELECT schema, format('the role %s is missing', enters) AS lacks
    FROM homes WHERE enters NOT IN (SELECT rolname FROM pg_roles)
    UNION ALL
    SELECT h.schema, format('%s is no member of %s', m.rolname, o.rolname)
    FROM homes h JOIN pg_roles own ON own.rolname = h.role
    CROSS JOIN LATERAL (VALUES (own.rolname, $4), ($3, own.rolname)) wanted (member, of)
    JOIN pg_roles m ON m.rolname = wanted.member JOIN pg_roles o ON o.rolname = wanted.of
    WHERE NOT m.rolsuper AND NOT EXISTS (SELECT FROM pg_auth_members g WHERE g.member = m.oid AND g.roleid = o.oid)
    UNION ALL
    SELECT h.schema, format('%s may not enter it', r.rolname)
    FROM (
        SELECT schema, enters AS name FROM homes
        UNION ALL
        SELECT schema, reader FROM homes CROSS JOIN (SELECT DISTINCT role FROM rights WHERE role <> '') r (reader)
    ) h JOIN pg_roles r ON r.rolname = h.name
    WHERE NOT coalesce(has_schema_privilege(r.oid, to_regnamespace(quote_ident(h.schema)), 'USAGE'), false)
    UNION ALL
    SELECT k.schema, format('%s lacks %s on %s', coalesce(nullif(l.role, ''), k.enters), privilege, name)
    FROM kinds k JOIN (
        SELECT h.schema, w.*
        FROM kinds h CROSS JOIN rights w JOIN pg_roles r ON r.rolname = coalesce(nullif(w.role, ''), h.enters),
            to_regclass(format('%I.%I', h.schema, w.name)) tables
        WHERE h.schema = h.example AND NOT coalesce(
            CASE w.attribute WHEN '' THEN has_table_privilege(r.oid, tables, privilege)
            ELSE has_column_privilege(r.oid, tables, w.attribute, privilege) END, false
        )
    ) l ON l.schema = k.example
    UNION ALL
    SELECT k.schema, format(
        '%s has %s on %s', coalesce(nullif(m.held, ''), k.enters), privilege,
        concat_ws('.', relname, nullif(attribute, ''))
    )
    FROM kinds k JOIN (
        SELECT g.schema, g.relname, g.attribute, a.privilege_type AS privilege,
            CASE WHEN a.grantee = 0 THEN 'PUBLIC' WHEN holder.rolname = g.enters THEN '' ELSE holder.rolname END AS held
        FROM (
            SELECT f.schema, f.enters, f.relname, '' AS attribute, f.relowner, f.relacl AS acl FROM found f
            JOIN kinds e ON e.schema = f.schema AND e.schema = e.example
            UNION ALL
            SELECT f.schema, f.enters, f.relname, attname, f.relowner, attacl FROM found f
            JOIN kinds e ON e.schema = f.schema AND e.schema = e.example
            JOIN pg_attribute ON attrelid = f.oid AND attacl IS NOT NULL
        ) g CROSS JOIN aclexplode(g.acl) a LEFT JOIN pg_roles holder ON holder.oid = a.grantee
        WHERE a.grantee <> g.relowner
          AND (a.grantee = 0 OR holder.rolname = g.enters OR holder.rolname = ANY ($9))
    ) m ON m.schema = k.example
    WHERE NOT EXISTS (
        SELECT FROM rights w
        WHERE w.role = m.held AND w.name = m.relname AND w.privilege = m.privilege AND w.attribute = m.attribute
    )
) lacking
GROUP BY schema
"""


async def shut(
    owner: Transaction, homes: Sequence[Home], tables: Sequence[Table], addresses: Addresses, *, families: bool
) -> Mapping[str, str]:
    """The homes, by schema, in which a role lacks a right or has one too many, and the first such right.

    ``families``: their strategies have that capability.

    This happens after a database was restored without its roles, and if somebody granted rights.
    """
    required = [
        ("", table.name, right, "")
        for table in tables
        if not table.info.get("readable")
        for right in rights(table).split(", ")
    ]
    required += [("", table.name, "SELECT", column) for table in tables for column in table.info.get("readable") or ()]
    required += [("", view, "SELECT", "") for view in (audit_log.name, visibility.STATISTICS)]
    required.append((addresses.roles.audit, audit_entries.name, "INSERT", ""))
    required.append((addresses.roles.sharing, audit_entries.name, "SELECT", ""))
    required += [(addresses.roles.sql_functions, table, "INSERT", "") for table in INSERTED_BY_SQL]
    if families:
        required += [(addresses.roles.family, table.name, "SELECT", "") for table in family_policies.tables()]
    required += [(addresses.roles.words, table, right, "") for table in _kept(tables) for right in ("INSERT", "DELETE")]
    required += [(addresses.roles.storage, table.name, "SELECT", "") for table in tables if "audited" in table.info]
    required += [(addresses.roles.retention, audit_entries.name, right, "") for right in ("SELECT", "DELETE")]
    required += [
        (addresses.roles.retention, table, right, column)
        for table in _kept_for_a_time(tables)
        for right, column in (("DELETE", ""), ("UPDATE", "id"))
    ]
    required += [
        (role, table, "SELECT", column)
        for role in (addresses.roles.sharing, addresses.roles.sql_functions)
        for table, columns in visibility.read_for_users().items()
        for column in columns
    ]
    required += [
        (role, table, "SELECT", column) for role, table, columns in _read(tables, addresses.roles) for column in columns
    ]
    # Rights of thousands of homes are sorted.
    await owner.script("SET LOCAL work_mem TO '64MB'")
    return await owner.pairs(
        _SHUT,
        [home.schema for home in homes],
        [home.role or "" for home in homes],
        addresses.tenant_login,
        addresses.roles.members,
        *(list(column) for column in zip(*required, strict=True)),
        [
            addresses.tenant_login,
            addresses.roles.members,
            addresses.roles.sql,
            addresses.roles.family,
            *addresses.roles.inner,
        ],
    )


# The state that ``admit_to_platform`` and ``logins.prepare`` change: $1 are the roles.
_PLATFORM = """
WITH granted AS (
    SELECT format('the schema %I', nspname) AS object, nspacl AS acl, 'n' AS kind, nspowner AS owner
    FROM pg_namespace WHERE nspname IN ('control', 'isola', 'public')
    UNION ALL
    SELECT format('the database %I', datname), datacl, 'd', datdba FROM pg_database WHERE datname = current_database()
    UNION ALL
    SELECT oid::regprocedure::text, proacl, 'f', proowner FROM pg_proc
    WHERE pronamespace IN (to_regnamespace('isola'), to_regnamespace('control'))
       OR (pronamespace = 'pg_catalog'::regnamespace AND proacl IS NOT NULL)
    UNION ALL
    SELECT oid::regclass::text, relacl, 'r', relowner FROM pg_class
    WHERE relnamespace IN (to_regnamespace('isola'), to_regnamespace('control')) AND relkind <> 'i'
    UNION ALL
    SELECT format('%s (%I)', attrelid::regclass, attname), attacl, 'c', relowner
    FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
    WHERE relnamespace = to_regnamespace('control') AND attacl IS NOT NULL
)
SELECT format('the role %I', rolname) FROM pg_roles WHERE rolname = ANY ($1)
UNION ALL
SELECT format('%I as a member of %I', m.rolname, r.rolname)
FROM pg_auth_members JOIN pg_roles m ON m.oid = member JOIN pg_roles r ON r.oid = roleid
WHERE r.rolname = ANY ($1) AND m.rolname = ANY ($1 || current_user::text)
UNION ALL
SELECT format(
    '%s on %s for %s', privilege_type, object, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END
)
FROM granted, aclexplode(coalesce(acl, acldefault(kind::"char", owner)))
UNION ALL
SELECT format('%s as the owner of %s', proowner::regrole, oid::regprocedure) FROM pg_proc
WHERE pronamespace IN (to_regnamespace('isola'), to_regnamespace('control'))
UNION ALL
SELECT format('the count of %s by %s%s', quota, relation, ' WHERE ' || counts) FROM control.counted
UNION ALL
SELECT format('the moment of %s: %s.%s', name, relation, moment) FROM control.kept
UNION ALL
SELECT format('the meter %s: %s by %s', name, kind, period) FROM control.meters
UNION ALL
SELECT format('the sharing of %s from %s: %s', name, relation, array_to_string(shared, ', ')) FROM control.subjects
"""


async def of_platform(owner: Transaction, addresses: Addresses) -> set[str]:
    """The attributes and rights of the platform's roles outside of homes, as text."""
    return set(await owner.texts(_PLATFORM, addresses.all_roles))
