"""Databases not made by Isola, as found in practice: designed for tenants, but with gaps."""

from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest

from isola.database.transactions import Database
from isola.errors import OperatorError
from isola.testing.fixtures import Cluster
from tests.doctor.patient import Patient, admitted

# Row-level security as in tutorials: enabled, with a policy for reading, and an application that is the owner.
NAIVE = """
CREATE ROLE doctor_app LOGIN;
CREATE TABLE orgs (id bigserial PRIMARY KEY, name text);
CREATE TABLE "Projects" (id bigserial PRIMARY KEY, org_id bigint REFERENCES orgs, name text UNIQUE);
CREATE TABLE tasks (id bigserial PRIMARY KEY, org_id bigint NOT NULL, project_id bigint REFERENCES "Projects");
CREATE TABLE comments (id bigserial PRIMARY KEY, task_id bigint REFERENCES tasks, body text);
CREATE TABLE invoices (id bigserial PRIMARY KEY, org_id bigint NOT NULL);
ALTER TABLE "Projects" ENABLE ROW LEVEL SECURITY;
ALTER TABLE tasks ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON "Projects" USING (org_id = current_setting('app.org')::bigint);
CREATE POLICY own ON tasks FOR SELECT
    USING (org_id = nullif(current_setting('app.org', true), '')::bigint OR current_setting('app.admin', true) = 'on');
CREATE VIEW overview AS SELECT t.id, p.name FROM tasks t JOIN "Projects" p ON p.id = t.project_id;
CREATE FUNCTION total() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM tasks';
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO doctor_app;
ALTER TABLE tasks OWNER TO doctor_app;
ALTER ROLE doctor_app SET app.org = '1'
"""
FOUND_IN_NAIVE = {
    ("RLS001", "public.invoices"),
    ("RLS002", 'public."Projects"'),
    ("RLS002", "public.tasks"),
    ("RLS004", 'own ON public."Projects"'),
    ("RLS006", "own ON public.tasks"),
    ("RLS008", "public.tasks"),
    ("RLS009", "public.comments"),
    ("RLS009", "public.orgs"),
    ("RLS010", 'public."Projects"'),
    ("KEY001", "comments_task_id_fkey ON public.comments"),
    ("KEY001", "tasks_project_id_fkey ON public.tasks"),
    ("KEY002", 'public."Projects_name_key"'),
    ("KEY002", 'public."Projects_pkey"'),
    ("KEY002", "public.tasks_pkey"),
    ("KEY002", "public.invoices_pkey"),
    ("VIW001", "public.overview"),
    ("FUN001", "public.total()"),
    ("FUN002", "public.total()"),
    ("FUN009", "{database}"),
    ("OWN001", "doctor_app"),
    ("ROL012", "{login}"),
    ("GRT011", "{database}"),
    ("SET001", "ROLE doctor_app: app.org"),
}

# A schema for each customer, selected only by the search path.
BY_PATH = """
CREATE ROLE doctor_app LOGIN;
CREATE SCHEMA customer_a; CREATE TABLE customer_a.users (id bigserial PRIMARY KEY, name text);
CREATE SCHEMA customer_b; CREATE TABLE customer_b.users (id bigserial PRIMARY KEY, name varchar(20));
CREATE SCHEMA customer_c; CREATE TABLE customer_c.users (id bigserial PRIMARY KEY, name text);
GRANT USAGE ON SCHEMA customer_a, customer_b, customer_c TO doctor_app;
GRANT SELECT ON customer_a.users, customer_b.users, customer_c.users TO doctor_app
"""
FOUND_BY_PATH = {
    ("GRT005", "customer_a"),
    ("GRT005", "customer_b"),
    ("GRT005", "customer_c"),
    ("DRF002", "customer_b.users"),
    ("FUN009", "{database}"),
    ("GRT011", "{database}"),
    ("ROL012", "{login}"),
}


@pytest.fixture
async def stranger(cluster: Cluster) -> AsyncIterator[Patient]:
    """A database in which Isola is not installed."""
    name = f"{cluster.template}_foreign_{uuid4().hex[:8]}"
    server = await asyncpg.connect(cluster.url)
    await server.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    async with (
        await Database.open(cluster.address(name)) as owner,
        admitted(owner, {"login": "doctor_app", "database": name}) as patient,
    ):
        yield patient
    await server.execute(f"DROP DATABASE {name}")
    await server.close()


async def test_naive_row_level_security(stranger: Patient) -> None:
    await stranger.suffer(NAIVE)
    findings = await stranger.findings(column="org_id")
    worse = {(finding.code, finding.object) for finding in findings if finding.severity != "note"}
    # Where the owner given for the tests is a superuser, a function of its own is one as well.
    assert worse - {("FUN005", "public.total()")} == {(code, stranger.named(name)) for code, name in FOUND_IN_NAIVE}
    notes = {(finding.code, finding.object) for finding in findings if finding.severity == "note"}
    assert {("KEY006", 'public."Projects".id'), ("RLS011", 'own ON public."Projects"')} <= notes


async def test_schemas_told_apart_by_the_search_path_alone(stranger: Patient) -> None:
    await stranger.suffer(BY_PATH)
    findings = await stranger.findings(homes="^customer_")
    worse = {(finding.code, finding.object) for finding in findings if finding.severity != "note"}
    assert worse == {(code, stranger.named(name)) for code, name in FOUND_BY_PATH}
    [drift] = [finding.detail for finding in findings if finding.code == "DRF002"]
    assert drift == "has name: character varying(20); lacks name: text"


async def test_what_cannot_be_looked_at_is_not_called_healthy(stranger: Patient) -> None:
    await stranger.suffer(NAIVE)
    with pytest.raises(OperatorError, match="there is no role nobody"):
        await stranger.findings(login="nobody", column="org_id")
    with pytest.raises(OperatorError, match="--tenant-column or --homes"):
        await stranger.findings()
