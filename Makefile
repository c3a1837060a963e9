# `make` lists the targets. Each sets up what it needs in .venv, from the pinned versions.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help demo test test-postgresql15 bench-peers bench-refusing bench-provisioning check format schema snapshots differential lock clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-18s %s\n", $$1, $$2}'

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed: make PYTHON=python3.11 …"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: $(READY) ## a server with three tenants and data on http://127.0.0.1:8000
	@exec $(BIN)/isola demo

test: $(READY) ## the tests, with coverage by branch
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 2
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered

test-postgresql15: $(READY) ## the tests of isolation on PostgreSQL 15, where it is installed
	tests/on-postgresql15

bench-peers: $(READY) ## this server beside PostGraphile, Strawberry and a hand-written one
	$(BIN)/python -m benchmarks.peers $(ARGS)

bench-refusing: $(READY) ## how soon documents that ask for too much are refused
	$(BIN)/python -m benchmarks.refusing

bench-provisioning: $(READY) ## 1,000 tenants made, checked, migrated and filled
	$(BIN)/python benchmarks/provisioning.py

check: $(READY) ## style, types and import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## rewrite the code in the one style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

schema: $(READY) ## write graphql/schema.graphql anew
	$(BIN)/isola schema > graphql/schema.graphql

snapshots: $(READY) ## write the pages of operations, SQL and results anew
	ISOLA_WRITE_SNAPSHOTS=1 $(BIN)/python -m pytest -q tests/api/test_snapshots.py

differential: $(READY) ## 2,000 generated operations under each strategy, by three ways of answering
	ISOLA_DIFFERENTIAL=2000 $(BIN)/python -m pytest -q -n 2 tests/api/test_differential.py

lock: $(READY) ## pin the newest versions that pyproject.toml allows
	$(BIN)/uv pip compile --universal --upgrade --python-version 3.11 --no-header --no-annotate --no-emit-index-url --extra dev -o requirements.lock pyproject.toml

clean: ## remove the environment and the demo's data
	rm -rf .venv .isola
