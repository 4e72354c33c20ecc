# The first call of any target makes .venv; nothing has to be set up by hand. `make help` lists the targets.

VENV := .venv
PYTHON := $(VENV)/bin/python
RUN := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
BENCH := .venv-bench/.installed
PYTEST := $(PYTHON) -m pytest
ALL := tests/unit tests/compat tests/typing tests/process tests/broker tests/acceptance tests/docs
CHECKED := tests/unit tests/compat tests/typing tests/docs/test_pages.py
# what `make check` has not run
UNCHECKED := $(filter-out $(CHECKED),$(ALL)) $(CHECKED:%=--ignore=%)
TESTS := $(ALL)
JOBS ?= 4
SECONDS ?= 180
SEED ?= 1
BROKER ?= local

.DEFAULT_GOAL := help
.PHONY: help setup rabbitmq demo test test-failed check fmt fmt-check lint types imports pages unit process broker acceptance docs \
	stress test-matrix chaos chaos-mutants audit-deps lock bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(RUN): pyproject.toml scripts/setup-python.sh
	@scripts/setup-python.sh $(VENV) .
	@touch $@

$(DEV): $(RUN)
	@scripts/setup-python.sh $(VENV) '.[dev]'
	@touch $@

$(BENCH): pyproject.toml scripts/setup-python.sh
	@scripts/setup-python.sh .venv-bench '.[bench]'
	@touch $@

setup: $(DEV) ## .venv with the package and its tools

rabbitmq: ## install RabbitMQ if it is missing; no system service is started
	@scripts/setup-rabbitmq.sh

demo: $(RUN) rabbitmq ## see it work: real jobs on a private RabbitMQ
	@$(PYTHON) demo/run.py

test: $(DEV) rabbitmq ## every test but the stress tests, JOBS=4 at a time
	$(PYTEST) --numprocesses $(JOBS) --dist loadscope --no-loadscope-reorder $(TESTS)

test-failed: $(DEV) rabbitmq ## again, one by one, what failed in the last run
	$(PYTEST) --last-failed --last-failed-no-failures none $(TESTS)

check: fmt-check lint types imports pages unit audit-deps ## what needs no broker: format, lint, types, imports, pages, unit tests, advisories

fmt: $(DEV) ## format the code
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix-only --quiet .

fmt-check: $(DEV)
	$(VENV)/bin/ruff format --check .

lint: $(DEV)
	$(VENV)/bin/ruff check .

types: $(DEV)
	$(VENV)/bin/mypy
	$(PYTEST) -q tests/typing

imports: $(DEV)
	$(VENV)/bin/lint-imports --no-logo

pages: $(DEV)
	$(PYTEST) -q tests/docs/test_pages.py

unit: $(DEV) ## tests that need nothing
	$(PYTEST) tests/unit tests/compat

process: $(DEV) ## tests with real child processes
	$(PYTEST) tests/process

broker: $(DEV) rabbitmq ## tests with a real RabbitMQ, and with RabbitMQ 4 where Docker answers
	$(PYTEST) tests/broker

acceptance: $(DEV) rabbitmq ## tests of the installed command
	$(PYTEST) tests/acceptance

docs: $(DEV) rabbitmq ## do what the documentation says
	$(PYTEST) tests/docs

test-matrix: $(DEV) rabbitmq ## every step of a job, crossed with every way to break it there
	$(PYTEST) tests/stress/test_matrix.py

chaos: $(DEV) rabbitmq ## SECONDS=180 of faults from SEED=1 on a running system, or on BROKER=rabbitmq-4; nothing may be lost
	@$(PYTHON) -m tests.stress.chaos.run --seconds $(SECONDS) --seed $(SEED) --broker $(BROKER)

chaos-mutants: $(DEV) rabbitmq ## the same, with workers that are broken on purpose: each must be caught
	@$(PYTHON) -m tests.stress.chaos.mutants

stress: $(DEV) rabbitmq ## minutes of kills and cuts; nothing may be lost
	$(PYTEST) tests/stress

audit-deps: $(DEV) ## known vulnerabilities in what is locked or installed, asked of PyPI; says so where it cannot ask
	@$(PYTHON) scripts/audit.py

lock: $(DEV) ## renew requirements.lock, with which the image is built: the newest versions, by their hashes
	@test -x .audit/bin/pip-compile || { $(PYTHON) -m venv .audit && .audit/bin/python -m pip install --quiet pip-tools; }
	@.audit/bin/pip-compile --quiet --upgrade --generate-hashes --strip-extras --allow-unsafe --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file .audit/new.lock pyproject.toml
	@{ echo '# Written by `make lock` from pyproject.toml: what the image of the Dockerfile holds, by hash.'; cat .audit/new.lock; } \
		>requirements.lock

bench: $(BENCH) rabbitmq ## measure beside other runners and write docs/performance.md: ten minutes on an idle machine
	@.venv-bench/bin/python bench/run.py --write

clean: ## remove .venv and caches
	rm -rf $(VENV) .venv-bench .audit .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .grimp_cache build dist .demo
	find jobrunner tests demo bench docs examples -name __pycache__ -type d -prune -exec rm -rf {} +
