# `make run` and `make test` do everything on a fresh machine; the others are parts of them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
PYTHON ?= python3
PORT ?= 8000
PY := .venv/bin/python
# Tests keep their databases and keys away from var/, which belongs to the person.
TEST_ENV := DATA_DIR=.cache/test HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
JOBS ?= auto

.PHONY: run setup test lint format api bench clean help

help:
	@echo "make run     everything, on http://127.0.0.1:8000 (make run PORT=8010: on another port)"
	@echo "make test    everything that CI runs"
	@echo "make setup | lint | format | api | bench | clean"

run: setup
	@$(PY) manage.py migrate --verbosity 0
	@$(PY) manage.py create_sample_project
	@$(PY) manage.py start --port $(PORT)

setup: .venv/.installed

.venv/.installed: pyproject.toml
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --upgrade "pip>=25"
	$(PY) -m pip install --quiet --editable ".[train,postgres,dev]"
	touch $@

test: setup lint
	$(PY) tests/install_chromium.py
	env -u DATABASE_URL $(TEST_ENV) $(PY) -m pytest -q -n $(JOBS) -m "not slow and not browser and not gpu"
	$(TEST_ENV) $(PY) tests/with_postgres.py $(PY) -m pytest -q -n $(JOBS) -m "not slow and not browser and not gpu" tests/labelhub tests/training
	env -u DATABASE_URL $(TEST_ENV) $(PY) -m pytest -q -m "browser and not slow"
	env -u DATABASE_URL $(TEST_ENV) $(PY) -m pytest -q -n $(JOBS) --dist loadgroup -m "slow and not gpu"

lint: setup
	.venv/bin/ruff format --check --quiet .
	.venv/bin/ruff check --quiet .
	.venv/bin/djade --check --target-version 5.2 $$(git ls-files 'templates/*.html')
	.venv/bin/djhtml --check --tabwidth 2 $$(git ls-files 'templates/*.html') 2>/dev/null
	.venv/bin/lint-imports --no-cache | tail -n 1
	DATA_DIR=.cache/test $(PY) -m mypy labelhub training
	DATA_DIR=.cache/test $(PY) manage.py makemigrations --check --dry-run --verbosity 0
	DATA_DIR=.cache/test SECRET_KEY=$$($(PY) -c "import secrets; print(secrets.token_urlsafe(60))") \
	  ALLOWED_HOSTS=labelhub.example $(PY) manage.py check --deploy --fail-level WARNING --verbosity 0

format: setup
	.venv/bin/ruff check --quiet --fix .
	.venv/bin/ruff format --quiet .
	.venv/bin/djade --target-version 5.2 $$(git ls-files 'templates/*.html') || true
	.venv/bin/djhtml --tabwidth 2 $$(git ls-files 'templates/*.html')

api: setup # docs/openapi.json, after a change of the API
	env -u DATABASE_URL $(TEST_ENV) $(PY) manage.py shell --no-imports -c "from labelhub.api.schema import write; write()"

bench: setup
	for script in benchmarks/bench_*.py; do $(PY) $$script; done

clean:
	rm -rf .cache build *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path "./.venv/*" -not -path "./var/*" -prune -exec rm -rf {} +
