# Every target does its own set-up: Python 3.11 or later is all that a machine needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SPARK := $(VENV)/.spark
# The tests start Python many times: without bytecode each would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run run-kafka test test-quick test-faults check format generated bench clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|'

$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || { echo "· making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "· installing Pledge and its dependencies (about a minute the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable . --group dev
	@touch $@

$(SPARK): $(READY)
	@echo "· installing Spark, half a gigabyte, for a test (some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group spark
	@touch $@

run: $(READY) ## the whole product on http://127.0.0.1:8000, with a sample company
	@exec $(BIN)/pledge serve

run-kafka: $(READY) ## the same as separate processes around Kafka, all on this machine
	@exec $(BIN)/pledge stack

test: $(READY) $(SPARK) ## every test, on a real PostgreSQL and a real Kafka
	@exec $(BIN)/python -m pytest -n auto

test-quick: $(READY) ## the tests that need no server
	@exec $(BIN)/python -m pytest -n logical -m quick

test-faults: $(READY) ## for an hour: load on the deployment around Kafka while any part of it dies
	@PLEDGE_TEST_FAULT_SECONDS=$${PLEDGE_TEST_FAULT_SECONDS:-3600} exec $(BIN)/python -m pytest -s -k whatever_dies tests/end_to_end/test_distributed.py

check: $(READY) ## format, lint, types, import contracts, compose file, Dockerfile
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	cd bench && MYPYPATH=.. ../$(BIN)/mypy --config-file ../pyproject.toml --explicit-package-bases .
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	$(BIN)/hadolint Dockerfile

format: $(READY) ## let ruff mend what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

generated: $(READY) ## write the generated files anew: event schemas, golden corpus, OpenAPI
	$(BIN)/python -m pledge.generated

bench: $(READY) ## measure against the yardsticks; writes bench/results.json
	@exec $(BIN)/python bench/run.py

clean: ## forget the virtual environment (the data in .pledge/ stays)
	rm -rf $(VENV)
