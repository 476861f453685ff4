# Everything a developer or CI runs; settings of the tools are in pyproject.toml.
PYTHON ?= python3
INSTANCE_NAME ?= sensor_hub_01
UPGRADE ?=
JOBS ?= 3

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOCK_FLAGS := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	--custom-compile-command "make lock" --quiet $(UPGRADE)

.DEFAULT_GOAL := help
.PHONY: help install run test test-container check format lock bench status clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)$$/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  make %-15s %s\n", $$1, $$2 }'

install: $(STAMP) ## Create or update .venv from requirements-dev.lock

$(STAMP): requirements-dev.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11 or newer, or say make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1): say make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) has no venv module: install it first (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	@touch $(STAMP)

run: $(STAMP) ## Start the hub with emulated devices and a broker of its own (INSTANCE_NAME=sensor_hub_01)
	@INSTANCE_NAME=$(INSTANCE_NAME) exec $(BIN)/sensor-hub run --demo

test: $(STAMP) ## Run all tests but those of the container (ARGS="-k name" for some)
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not container" $(ARGS)

test-container: $(STAMP) ## Build the image and test it (docs/container.md says what that needs)
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m container tests/container $(ARGS)

check: $(STAMP) ## Check format, lint, types and the direction of imports
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(STAMP) ## Format the code and mend what ruff can mend
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

lock: $(STAMP) ## Pin the dependencies anew (UPGRADE=--upgrade takes newer versions)
	$(BIN)/uv pip compile $(LOCK_FLAGS) pyproject.toml --group build -o requirements.lock
	$(BIN)/uv pip compile $(LOCK_FLAGS) pyproject.toml --group build --extra dev -c requirements.lock -o requirements-dev.lock

bench: $(STAMP) ## Measure the hub in about 3 minutes (see docs/performance.md)
	@$(BIN)/python -m bench

status: $(STAMP) ## Say how the running instance is
	@INSTANCE_NAME=$(INSTANCE_NAME) $(BIN)/sensor-hub health

clean: ## Remove .venv, caches and build products
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
