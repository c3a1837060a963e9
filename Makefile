# `make` lists the targets. Each sets up what it needs in .venv, from the pinned versions.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: $(shell sed -n 's/^\([a-z0-9-]*\):.*/\1/p' $(firstword $(MAKEFILE_LIST)))
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-18s %s\n", $$1, $$2}'

$(READY): requirements.lock pyproject.toml examples/agents/pyproject.toml examples/cases/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed: make PYTHON=python3.11 …"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	@rm -rf *.egg-info # stale entry points of an earlier build would take precedence
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable . --editable examples/agents --editable examples/cases
	@touch $@

demo: $(READY) ## run a server with three tenants and data on http://127.0.0.1:8000
	@exec $(BIN)/isola demo

test: $(READY) ## run the tests, except those of running benchmarks; ALL=1 runs each under all strategies
	TEST_IN_TURN=$(if $(ALL),,1) $(BIN)/python -m pytest -n 3 --dist worksteal --ignore tests/lab/running

coverage: $(READY) ## run all tests and report branch coverage
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 2
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered

test-postgresql15: $(READY) ## run the isolation tests on an installed PostgreSQL 15
	tests/on-postgresql15

test-wheel: $(READY) ## run the tests of the command line on the package in an empty environment
	tests/on-the-wheel

test-lab: $(READY) ## run small benchmarks with real servers, as tests of the lab
	$(BIN)/python -m pytest -q -n 3 tests/lab/running

bench: $(READY) ## compare the strategies and write a report: about six minutes (an hour with ARGS="--profile standard")
	$(BIN)/isola bench run $(ARGS)

wheel: $(READY) ## build the package in dist/
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

graphiql: ## build the page of GraphiQL from its locked packages: needs Node.js and npm
	cd app/isola/pages/source && npm ci --ignore-scripts --no-audit --no-fund && node build.mjs

outdated: $(READY) ## check for a newer minor release of the embedded PostgreSQL
	$(BIN)/python -m tests.embedded

bench-check: $(READY) ## check that the lab detects an artificial slow-down, and reports none without it
	$(BIN)/python -m isola.lab.check

bench-peers: $(READY) ## compare this server with PostGraphile, Strawberry and a hand-written server
	$(BIN)/python -m isola.lab.peers $(ARGS)

bench-strategies: $(READY) ## CPU per request under rls and schema, 200 tenants each, against its limit
	$(BIN)/python -m isola.lab.peers --peer isola --peer isola-schema --peer handwritten --warming 20 $(ARGS)

bench-refusing: $(READY) ## measure how fast excessive documents are refused
	$(BIN)/python -m benchmarks.refusing

bench-identity: $(READY) ## measure the cost of authentication, and the effect of many invalid credentials
	$(BIN)/python -m benchmarks.identity

bench-changes: $(READY) ## measure the cost and latency of cache invalidation between servers
	$(BIN)/python -m benchmarks.changes

bench-provisioning: $(READY) ## measure the creation, check, migration and import of 1,000 tenants
	$(BIN)/python -m benchmarks.provisioning

bench-signing: $(READY) ## measure the cost of proofs of bindings, for a list of 50
	$(BIN)/python -m benchmarks.signing

bench-moving: $(READY) ## measure how long a tenant is unavailable while it moves to another strategy
	$(BIN)/python -m benchmarks.moving

bench-adopting: $(READY) ## measure the rows per second that isola adopt copies
	$(BIN)/python -m benchmarks.adopting

bench-fairness: $(READY) ## measure the effect on others of a tenant with ten times its share of requests
	$(BIN)/python -m benchmarks.fairness

bench-servers: $(READY) ## measure the CPU per request of HTTP servers, and their handling of request smuggling
	$(BIN)/python -m benchmarks.servers

bench-writers: $(READY) ## measure concurrent writes in one tenant, and the cost of a write
	$(BIN)/python -m benchmarks.writers

bench-scopes: $(READY) ## measure the cost of run_with_tenant
	$(BIN)/python -m benchmarks.scopes

bench-quotas: $(READY) ## measure the cost of quotas for inserts
	$(BIN)/python -m benchmarks.quotas

bench-rates: $(READY) ## measure the cost of decisions about rates
	$(BIN)/python -m benchmarks.rates

bench-metering: $(READY) ## measure what metered events cost PostgreSQL, and 100 at once on one limit
	$(BIN)/python -m benchmarks.metering

bench-declared: $(READY) ## compare reads of a declared subject with the same reads of resources
	$(BIN)/python -m benchmarks.declared

bench-visible: $(READY) ## measure what policies of visibility rules cost PostgreSQL
	$(BIN)/python -m benchmarks.visible $(ARGS)

bench-finding: $(READY) ## measure what filters cost PostgreSQL in a tenant of 100,000 rows among 200
	$(BIN)/python -m benchmarks.finding $(ARGS)

bench-live: $(READY) ## measure how soon a write reaches subscribers, and what a subscription costs
	$(BIN)/python -m benchmarks.live $(ARGS)

bench-recording: $(READY) ## measure what records of requests cost, and reading a month of metrics among 10,000 tenants
	$(BIN)/python -m benchmarks.recording $(ARGS)

bench-idempotency: $(READY) ## measure what an idempotency key adds to the cost of a create
	$(BIN)/python -m benchmarks.idempotency $(ARGS)

bench-reconnecting: $(READY) ## lose 1,000 connections of subscribers while servers are killed: no event is lost or repeated
	$(BIN)/python -m benchmarks.reconnecting $(ARGS)

bench-large: $(READY) ## measure the effect of a tenant with 1,000,000 rows on 1,000 small ones: CPU and plans
	$(BIN)/python -m benchmarks.large $(ARGS)

bench-assumed: $(READY) ## measure what it changes that the planner assumes large tenants in shared tables
	$(BIN)/python -m benchmarks.assumed $(ARGS)

bench-many: $(READY) ## measure 10,000 tenants: first requests, memory, a check (ARGS="--tenants 2000 --strategy rls")
	$(BIN)/python -m benchmarks.many $(ARGS)

bench-timeline: $(READY) ## measure signatures of spans per second, and daily statistics among a million spans
	$(BIN)/python -m benchmarks.timeline $(ARGS)

bench-sharing: $(READY) ## measure a partner's reads when one tenant shares many objects with it
	$(BIN)/python -m benchmarks.sharing

bench-received: $(READY) ## measure a page over what 100 partners share against one of a tenant's own
	$(BIN)/python -m benchmarks.received

bench-revoking: $(READY) ## race 10,000 revocations of shares against a partner's reads: none has the row afterwards
	$(BIN)/python -m benchmarks.revoking $(ARGS)

bench-family: $(READY) ## measure a page over the rows of 50 descendants against one of a tenant's own
	$(BIN)/python -m benchmarks.family

check: $(READY) ## check style, types and import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

schema: $(READY) ## generate graphql/schema.graphql and graphql/admin.graphql
	$(BIN)/isola schema > graphql/schema.graphql
	$(BIN)/isola schema --admin > graphql/admin.graphql

snapshots: $(READY) ## generate the snapshots of operations, SQL and results
	TEST_WRITE_SNAPSHOTS=1 $(BIN)/python -m pytest -q tests/api/test_snapshots.py

differential: $(READY) ## compare three implementations on 2,000 generated operations per strategy
	TEST_DIFFERENTIAL=2000 $(BIN)/python -m pytest -q -n 2 tests/api/test_differential.py

stateful: $(READY) ## run 300 (or TEST_STATEFUL=…) random histories of three tenants under all mixes of strategies
	TEST_STATEFUL=$${TEST_STATEFUL:-300} $(BIN)/python -m pytest -q -s app/isola/testing/isolation/test_stateful.py

# Further tests that depend on the strategy, but not on the connection mode.
ONCE := database control/test_history.py control/test_moves.py control/test_provisioning.py http/test_dropping.py api/test_differential.py

isolation: $(READY) ## run the isolation suite in all connection modes (STRATEGY=package.module:Class for a new one)
	$(BIN)/isola isolation $(if $(STRATEGY),--strategy $(STRATEGY)) $(foreach mode,$(MODE),--mode $(mode)) \
	    $(foreach test,$(ONCE),--also tests/$(test)) -- $(or $(ARGS),-n 2)

mutation: $(READY) ## disable each protection in turn: the suite has to fail each time (ARGS="'a name'" for one)
	$(BIN)/python -m tests.mutation $(ARGS)

elle: $(READY) ## check the isolation of 20,000 (or ARGS=…) concurrent transactions while connections fail
	TEST_ELLE=$(or $(ARGS),20000) $(BIN)/python -m pytest -q -s tests/elle

isolation-report: $(READY) ## generate docs/isolation-report.md, the evidence of isolation
	$(BIN)/python -m tests.report

lock: $(READY) ## pin the newest versions that pyproject.toml allows
	$(BIN)/uv pip compile --universal --upgrade --python-version 3.11 --no-header --no-annotate --no-emit-index-url --extra dev -o requirements.lock pyproject.toml

clean: ## remove the environment and the demo's data
	rm -rf .venv .isola
