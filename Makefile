# What a new machine needs is python3 (3.11 or later, with venv) and make; the rest is brought here.

VENV := .venv
BIN := $(VENV)/bin
SERVING := $(VENV)/.serving
DEVELOPMENT := $(VENV)/.development
INSTALL := VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --constraint requirements.lock

.PHONY: help serve test check format lock bench loadtest wheel

help: ## Say what can be made.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

serve: $(SERVING) ## Serve the shipped model with the bundled Triton.
	$(BIN)/pspsearch triton

test: $(DEVELOPMENT) ## Run every test.
	$(BIN)/pytest

check: $(DEVELOPMENT) ## Lint, types, import rules, the lock.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports
	@cp requirements.lock $(VENV)/requirements.lock
	$(BIN)/uv pip compile $(LOCK) --quiet --output-file $(VENV)/requirements.lock
	diff requirements.lock $(VENV)/requirements.lock

format: $(DEVELOPMENT) ## Put the source in its form.
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(DEVELOPMENT) ## Measure, and print the ratios to the bare parts.
	$(BIN)/python -m tests.bench

loadtest: $(DEVELOPMENT) ## Load the served model with perf_analyzer.
	$(BIN)/python -m tests.bench.loadtest

wheel: $(DEVELOPMENT) ## Build the distribution into dist/.
	$(BIN)/python -m build

LOCK := pyproject.toml --all-extras --group dev --universal --python-version 3.11 --generate-hashes --no-annotate --no-header

lock: $(DEVELOPMENT) ## Pin the newest of everything in requirements.lock.
	$(BIN)/uv pip compile $(LOCK) --quiet --upgrade --output-file requirements.lock

$(BIN)/uv: requirements.lock
	@python3 -c 'import sys; sys.exit("pspsearch needs Python 3.11 or later" if sys.version_info < (3, 11) else 0)'
	python3 -m venv $(VENV)
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock >$(VENV)/uv.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $(VENV)/uv.txt
	@touch $@

$(SERVING): $(BIN)/uv pyproject.toml requirements.lock
	$(INSTALL) --editable '.[cpu]'
	@touch $@

$(DEVELOPMENT): $(SERVING)
	$(INSTALL) --editable '.[cpu,build]' --group dev
	@touch $@
