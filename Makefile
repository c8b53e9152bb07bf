# Needs Python 3.11 or later, make and a package index; everything else comes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export UV_PROJECT_ENVIRONMENT := $(VENV)
export UV_PYTHON_DOWNLOADS := never
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

# The uv on the PATH if it works, else one inside the environment.
UV := $(shell uv --version >/dev/null 2>&1 && command -v uv || echo $(BIN)/uv)
# --inexact: what the other targets installed (and uv itself) stays.
SYNC := $(UV) sync --quiet --locked --inexact --all-extras
# Two processes; tests that drive whole fleets share one of them (tests/conftest.py).
JOBS ?= 2
PYTEST := $(BIN)/pytest -n $(JOBS) --dist loadgroup
CODE := config registry mirror tasks workers tests bench

.DEFAULT_GOAL := help
.PHONY: help demo up-like-compose test test-deps deploy-check check lint chaos bench scale fmt clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## Mirror sample images between throw-away registries and watch the fleet do it
	$(BIN)/sealift demo

up-like-compose: $(VENV)/.test ## Start the fleet of deploy/compose.yaml as plain processes, until Ctrl-C
	@$(BIN)/python -m tests.up_like_compose

test: $(VENV)/.test $(VENV)/.deploy ## Run every test, whole fleets included (what a machine lacks is skipped: see test-deps)
	$(PYTEST)

test-deps: ## Install what the biggest tests need from the system: servers, registries, clients, Chromium
	@.ci/test-deps

deploy-check: $(VENV)/.test $(VENV)/.deploy ## Render and judge the chart, compose file, Dockerfile and scripts (no cluster needed)
	$(PYTEST) -q tests/deploy

check: lint ## Formatting, lint, types and the fast tests
	$(PYTEST) -q -m "not fleet"

lint: $(VENV)/.dev ## Formatting, lint and types only
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/pyright

chaos: $(VENV)/.test ## Let a storm of faults blow over a fleet and write what it held to docs/guarantees.md
	$(BIN)/python -m tests.chaos

bench: $(VENV)/.test ## Measure against the floor and against other tools
	$(BIN)/python -m bench

scale: $(VENV)/.test ## Backfill very many tags on two cores and write what it took to docs/scale.md
	$(BIN)/python -m bench.scale --docs

fmt: $(VENV)/.dev ## Format the code and fix what can be fixed by a program
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove the environment and everything that is made again
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.demo: GROUPS := --no-default-groups
$(VENV)/.test: GROUPS := --group test
$(VENV)/.dev: GROUPS := --group dev
$(VENV)/.deploy: GROUPS := --group deploy

$(VENV)/.demo $(VENV)/.test $(VENV)/.dev $(VENV)/.deploy: pyproject.toml uv.lock | $(BIN)/python
	@$(UV) --version >/dev/null 2>&1 || $(BIN)/python -m pip install --quiet --disable-pip-version-check -r .ci/uv.txt
	$(SYNC) $(GROUPS)
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
