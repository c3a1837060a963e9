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
	@rm -rf *.egg-info # of an earlier build: what it says of entry points would be found first
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable . --editable examples/agents --editable examples/cases
	@touch $@

demo: $(READY) ## a server with three tenants and data on http://127.0.0.1:8000
	@exec $(BIN)/isola demo

test: $(READY) ## the tests, all but those of the lab at work
	$(BIN)/python -m pytest -n 3 --dist worksteal --ignore tests/lab/running

coverage: $(READY) ## the tests, with coverage by branch
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 2
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered

test-postgresql15: $(READY) ## the tests of isolation on PostgreSQL 15, where it is installed
	tests/on-postgresql15

test-wheel: $(READY) ## the tests of the command line on the package, installed into an empty environment
	tests/on-the-wheel

test-lab: $(READY) ## the tests of the lab at work: real servers, real populations, as small as can be
	$(BIN)/python -m pytest -q -n 3 tests/lab/running

bench: $(READY) ## strategies side by side: figures and a report, in about six minutes (ARGS="--profile standard": an hour)
	$(BIN)/isola bench run $(ARGS)

wheel: $(READY) ## the package to install elsewhere, in dist/
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

outdated: $(READY) ## whether the package index has a newer minor release of the embedded PostgreSQL
	$(BIN)/python -m tests.embedded

bench-check: $(READY) ## whether the lab finds a slow-down that was planted, and nothing where there is none
	$(BIN)/python -m isola.lab.check

bench-peers: $(READY) ## this server beside PostGraphile, Strawberry and a hand-written one
	$(BIN)/python -m isola.lab.peers $(ARGS)

bench-strategies: $(READY) ## CPU a request under schema to that under rls and to the limit, 200 tenants a strategy
	$(BIN)/python -m isola.lab.peers --peer isola --peer isola-schema --peer handwritten --warming 20 $(ARGS)

bench-refusing: $(READY) ## how soon documents that ask for too much are refused
	$(BIN)/python -m benchmarks.refusing

bench-identity: $(READY) ## what it costs to know who is calling, and what a flood of bad credentials does
	$(BIN)/python -m benchmarks.identity

bench-changes: $(READY) ## what it costs a server to hear of changes, and how soon it does
	$(BIN)/python -m benchmarks.changes

bench-provisioning: $(READY) ## 1,000 tenants made, checked, migrated and filled
	$(BIN)/python benchmarks/provisioning.py

bench-signing: $(READY) ## what it costs that transactions prove their tenant, on the list of 50
	$(BIN)/python -m benchmarks.signing

bench-moving: $(READY) ## how long a tenant is closed while it moves to another strategy
	$(BIN)/python -m benchmarks.moving

bench-adopting: $(READY) ## how many rows a second are copied from a database that is adopted
	$(BIN)/python -m benchmarks.adopting

bench-fairness: $(READY) ## what one tenant that asks for ten times its share costs the others
	$(BIN)/python -m benchmarks.fairness

bench-servers: $(READY) ## what HTTP servers cost a request, and what they make of deceiving ones
	$(BIN)/python -m benchmarks.servers

bench-writers: $(READY) ## whether the writers of one tenant wait for each other, and what a write costs
	$(BIN)/python -m benchmarks.writers

bench-scopes: $(READY) ## what it costs code beside requests to enter a tenant
	$(BIN)/python -m benchmarks.scopes

bench-quotas: $(READY) ## what quotas cost who adds
	$(BIN)/python -m benchmarks.quotas

bench-declared: $(READY) ## what reads of a declared subject cost beside the same reads of resources
	$(BIN)/python -m benchmarks.declared

bench-large: $(READY) ## what a tenant of 1,000,000 rows changes for 1,000 small ones: CPU and plans
	$(BIN)/python -m benchmarks.large $(ARGS)

bench-many: $(READY) ## 10,000 tenants: first requests, memory of connections, a check (ARGS="--tenants 2000 --strategy rls")
	$(BIN)/python -m benchmarks.many $(ARGS)

bench-timeline: $(READY) ## signatures of spans a second, and what the statistics of a day cost among a million spans
	$(BIN)/python -m benchmarks.timeline $(ARGS)

bench-sharing: $(READY) ## what a partner's reads cost when one tenant shares a great deal with it
	$(BIN)/python -m benchmarks.sharing

check: $(READY) ## style, types and import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## rewrite the code in the one style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

schema: $(READY) ## write graphql/schema.graphql and graphql/admin.graphql anew
	$(BIN)/isola schema > graphql/schema.graphql
	$(BIN)/isola schema --admin > graphql/admin.graphql

snapshots: $(READY) ## write the pages of operations, SQL and results anew
	TEST_WRITE_SNAPSHOTS=1 $(BIN)/python -m pytest -q tests/api/test_snapshots.py

differential: $(READY) ## 2,000 generated operations under each strategy, by three ways of answering
	TEST_DIFFERENTIAL=2000 $(BIN)/python -m pytest -q -n 2 tests/api/test_differential.py

stateful: $(READY) ## random lives of three tenants on every mix of placements: 300, or TEST_STATEFUL=…
	TEST_STATEFUL=$${TEST_STATEFUL:-300} $(BIN)/python -m pytest -q -s app/isola/testing/isolation/test_stateful.py

# What else a strategy can break, the same however it is connected to.
ONCE := database control/test_history.py control/test_moves.py control/test_provisioning.py http/test_dropping.py api/test_differential.py

isolation: $(READY) ## the suite of isolation by every way of connecting (STRATEGY=package.module:Class for a new one)
	$(BIN)/isola isolation $(if $(STRATEGY),--strategy $(STRATEGY)) $(foreach mode,$(MODE),--mode $(mode)) \
	    $(foreach test,$(ONCE),--also tests/$(test)) -- $(or $(ARGS),-n 2)

mutation: $(READY) ## take isolation apart piece by piece: the suite has to notice each (ARGS="'a name'" for one)
	$(BIN)/python -m tests.mutation $(ARGS)

elle: $(READY) ## what concurrent clients see while connections die: 20,000 transactions, or ARGS=…
	TEST_ELLE=$(or $(ARGS),20000) $(BIN)/python -m pytest -q -s tests/elle

isolation-report: $(READY) ## all that proves isolation, written down in docs/isolation-report.md
	$(BIN)/python -m tests.report

lock: $(READY) ## pin the newest versions that pyproject.toml allows
	$(BIN)/uv pip compile --universal --upgrade --python-version 3.11 --no-header --no-annotate --no-emit-index-url --extra dev -o requirements.lock pyproject.toml

clean: ## remove the environment and the demo's data
	rm -rf .venv .isola
