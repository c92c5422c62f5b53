# What a new machine needs is python3 (3.11 or later, with venv) and make; the rest is brought here.

VENV := .venv
BIN := $(VENV)/bin
SERVING := $(VENV)/.serving
DEVELOPMENT := $(VENV)/.development
INSTALL := VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --constraint requirements.lock

.PHONY: help serve test slow check audit sbom format protos client lock bench rivals rivals-million loadtest faults wheel

help: ## Say what can be made.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

serve: $(SERVING) ## Serve searches, with the shipped model and a gallery of samples.
	$(BIN)/pspsearch serve --sample

# Without restartable sequences, because a kernel ended long-idle threads by SIGSEGV when it could not update theirs.
test: $(DEVELOPMENT) ## Run the tests, in two processes.
	OMP_NUM_THREADS=1 GLIBC_TUNABLES=glibc.pthread.rseq=0 $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0 --durations 10 --durations-min 1

slow: $(DEVELOPMENT) ## Run the repetitions that `make test` leaves out.
	$(BIN)/pytest -m slow

faults: $(DEVELOPMENT) ## Do to real servers what happens on bad days, many times; FAULTS=words chooses.
	$(BIN)/python -m tests.faults $(FAULTS)

check: $(DEVELOPMENT) ## Lint, types, import rules, what is generated, the lock.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/buf format --diff --exit-code protos
	@rm -rf $(VENV)/protos && mkdir $(VENV)/protos
	@$(call generate,$(VENV)/protos)
	$(BIN)/buf lint $(VENV)/api.binpb --config protos/buf.yaml --path pspsearch/v1
	diff --recursive --exclude=__pycache__ --exclude=__init__.py $(VENV)/protos/pspsearch/v1 server/pspsearch/v1
	@rm -rf $(VENV)/blocking && mkdir $(VENV)/blocking
	@$(BIN)/python tools/blocking_client.py $(VENV)/blocking
	diff --recursive --exclude=__pycache__ --exclude=threads.py $(VENV)/blocking server/pspsearch/client/blocking
	@cp requirements.lock $(VENV)/requirements.lock
	$(BIN)/uv pip compile $(LOCK) --quiet --output-file $(VENV)/requirements.lock
	diff requirements.lock $(VENV)/requirements.lock

audit: $(DEVELOPMENT) ## Look up what is known against the locked packages; needs PyPI's list of that.
	$(BIN)/uv tool run pip-audit@2.10.1 --strict --disable-pip --require-hashes --requirement requirements.lock

sbom: $(DEVELOPMENT) ## Say what a server consists of, in CycloneDX, in dist/sbom.json.
	@mkdir -p dist
	$(BIN)/uv pip compile pyproject.toml --extra cpu --extra traces --constraint requirements.lock --universal --python-version 3.11 \
	  --generate-hashes --no-annotate --no-header --quiet --output-file $(VENV)/served.txt
	$(BIN)/uv tool run --from cyclonedx-bom==7.5.0 cyclonedx-py requirements $(VENV)/served.txt --pyproject pyproject.toml --output-reproducible --output-file dist/sbom.json

define generate
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python -m grpc_tools.protoc \
	  --proto_path=protos --proto_path=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
	  --python_out=$(1) --grpc_python_out=$(1) --mypy_out=quiet:$(1) --mypy_grpc_out=quiet:$(1) \
	  --include_imports --include_source_info --descriptor_set_out=$(VENV)/api.binpb protos/pspsearch/v1/*.proto
endef

protos: $(DEVELOPMENT) ## Make server/pspsearch/v1 from the protos.
	@$(call generate,server)

client: $(DEVELOPMENT) ## Make the client that blocks from the one that awaits.
	$(BIN)/python tools/blocking_client.py

format: $(DEVELOPMENT) ## Put the source in its form.
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(DEVELOPMENT) ## Measure, and print the ratios to the bare parts.
	$(BIN)/python -m tests.bench

rivals: $(DEVELOPMENT) ## Measure searches beside what people would use instead.
	$(BIN)/python -m tests.bench.rivals $(RIVALS)

rivals-million: $(DEVELOPMENT) ## The same for searches by descriptor among a million; half an hour at first.
	$(BIN)/python -m tests.bench.rivals.descriptors

loadtest: $(DEVELOPMENT) ## Load model and searches with perf_analyzer; IMAGES=folder searches for your pictures.
	$(BIN)/python -m tests.bench.loadtest $(if $(IMAGES),--images $(IMAGES))

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
	$(INSTALL) --editable '.[cpu,build,traces]' --group dev
	@touch $@
