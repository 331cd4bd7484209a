# `make` lists the targets. Each brings the virtual environment up to date first, which is quick when nothing changed.
VENV ?= .venv
PYTHON ?= $(firstword $(wildcard $(VENV)/bin/python) python3)
BIN := $(VENV)/bin

# Tests mostly wait, so two run at once; with MOORAGE_TEST_WORKERS=1 one after the other, as `pytest` alone runs them.
MOORAGE_TEST_WORKERS ?= 2
WORKERS := $(if $(filter-out 0 1,$(MOORAGE_TEST_WORKERS)),--numprocesses=$(MOORAGE_TEST_WORKERS))

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo demo-env dev-env test lint format types contracts check lock bench schema services-up services-down clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-14s %s\n", $$1, $$2 }'

demo: demo-env ## see Moorage work on this machine, without Kafka or Docker
	@$(BIN)/moorage demo $(ARGS)

test: dev-env ## run every test with branch coverage, on real services where this machine has or can start them
	@$(BIN)/python -m pytest --cov --cov-branch --cov-report=term $(WORKERS) $(ARGS)

lint: dev-env ## look for defects and for unformatted files
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

format: dev-env ## format the files and mend what can be mended by itself
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

types: dev-env ## check the types
	@$(BIN)/mypy

contracts: dev-env ## check that each package imports only what it may
	@$(BIN)/lint-imports

check: lint types contracts test ## everything that CI checks

lock: dev-env ## compile requirements/*.txt anew from pyproject.toml (ARGS=--upgrade takes newer versions)
	@VENV=$(VENV) tools/lock.sh $(ARGS)

bench: dev-env ## measure (ARGS are the benchmarks' own)
	@$(BIN)/python -m benchmarks $(ARGS)

schema: dev-env ## write the contract with the outside to docs/schema: JSON Schema and AsyncAPI
	@$(BIN)/moorage schema export $(ARGS)

services-up: dev-env ## start Kafka, Docker, Podman, Kubernetes and a registry and keep them (their addresses: eval "$$(make -s services-up)")
	@$(BIN)/python -m tests.services up $(ARGS)

services-down: dev-env ## end what services-up started
	@$(BIN)/python -m tests.services down $(ARGS)

clean: ## remove what the other targets made, the virtual environment too
	rm -rf $(VENV) build dist .cache .coverage .coverage.* htmlcov .hypothesis .import_linter_cache *.egg-info
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

demo-env:
	@$(PYTHON) tools/bootstrap.py demo --venv $(VENV)

dev-env:
	@$(PYTHON) tools/bootstrap.py dev --venv $(VENV)
