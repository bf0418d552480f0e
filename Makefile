# One command for people and for CI. `make` alone explains itself.
# Each target brings what it needs: uv by pip when it is missing, Debian packages by apt when it may, and says so.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

export UV_PYTHON_DOWNLOADS := never
BUILD := $(or $(SIGHTLINE_BUILD),.build)
PROFILE := check
VENV := .venv
PYTHON := $(VENV)/bin/python
PYTEST := $(PYTHON) -m pytest -q
MEMBERS := model kube operator agents api cli
PYPROJECTS := pyproject.toml $(MEMBERS:%=%/pyproject.toml)
WEB_SOURCES := $(shell find web -type f -not -path 'web/node_modules/*' -not -path 'web/dist/*' 2>/dev/null)

# Where pip may not write beside Python it puts uv into the user's own folder, which is not on every PATH.
ifeq ($(shell command -v uv),)
export PATH := $(PATH):$(shell python3 -m site --user-base 2>/dev/null)/bin
endif

say = @printf '\033[1m==> %s\033[0m\n' "$(1)"

##@ Everyday
.PHONY: help
help: ## Show this text
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n\033[1m%s\033[0m\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\nVariables: PORT, TOKEN, NO_OPEN=1, CAMERA=rtsp://... (dev), CLUSTER=current|kind|local (demo), PROFILE=full (check: four times the examples), SIGHTLINE_BUILD (where built things live)\n'

.PHONY: dev
dev: setup web fanout ## Run everything in one process, without a cluster: test pattern and CAMERA=rtsp://... in a browser
	@exec $(VENV)/bin/sightline dev $(if $(PORT),--port $(PORT)) $(if $(TOKEN),--token $(TOKEN)) $(if $(CAMERA),--camera 'camera=$(value CAMERA)') $(if $(NO_OPEN),--no-open)

.PHONY: demo
demo: setup web ## Install on a real cluster (CLUSTER=current|kind|local) and show the page's address
	@exec $(PYTHON) -m hack.demo $(if $(CLUSTER),--cluster $(CLUSTER)) $(if $(REGISTRY),--registry $(REGISTRY))

.PHONY: check
check: setup lint ## Lint, types and unit tests: the inner loop, under a minute
	@$(MAKE) -j3 --output-sync=target types web-check unit

.PHONY: lint
lint: setup
	$(call say,lint)
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check -q .
	@$(VENV)/bin/lint-imports --config .importlinter | tail -n 4

.PHONY: types
types: setup
	$(call say,types)
	@$(VENV)/bin/mypy

# Compiled modules are kept even where the shell forbids them beside their sources, as those of containers often do:
# without them each worker compiles everything anew, 10 s of CPU.
.PHONY: unit
unit: setup
	$(call say,unit and contract tests without a cluster)
	@env -u PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX="$(abspath $(BUILD))/pycache" \
		$(PYTEST) -n 2 --dist worksteal --hypothesis-profile=$(PROFILE) \
		-m "not stacks and not thorough and not apiserver and not node and not browser and not promtool"

.PHONY: test
test: ## Everything that can run on this machine; says at its end what it left out and why
	@exec hack/test.sh

.PHONY: bench
bench: setup fanout ## Measure: the figures of docs/benchmarks.md
	@exec $(PYTHON) -m tests.bench

.PHONY: bench-scale
bench-scale: setup cluster-build ## Measure the operator with 10,000 cameras on a real API server (CAMERAS=500 for a look)
	@exec $(PYTHON) -m tests.bench.scale $(if $(CAMERAS),--cameras $(CAMERAS))

.PHONY: fuzz
fuzz: setup ## Throw a million mutated inputs at everything that reads untrusted bytes (INPUTS=, FOR=seconds, TARGET=)
	@exec $(PYTHON) -m tests.fuzz $(if $(INPUTS),--inputs $(INPUTS)) $(if $(FOR),--seconds $(FOR)) $(if $(TARGET),--target $(TARGET))

.PHONY: format
format: setup ## Put sources into their one form
	@$(VENV)/bin/ruff check --fix -q . ; $(VENV)/bin/ruff format -q .

##@ Generated files
.PHONY: crds
crds: setup ## Write the CustomResourceDefinitions and their reference from the model
	@$(PYTHON) -m sightline_model.crd --write crds charts/sightline/files/crds
	@$(PYTHON) -m sightline_model.reference --write docs/reference

.PHONY: requirements
requirements: uv ## Resolve dependencies anew and export them with hashes
	@uv lock --upgrade -q && hack/export-requirements.sh

.PHONY: openapi
openapi: setup ## Write the snapshot of the front door's OpenAPI
	@$(PYTEST) tests/contract/test_openapi.py --snapshot-update

##@ The local node
.PHONY: cluster-build
cluster-build: setup ## Build Kubernetes from source (once; 6 to 11 minutes on two cores)
	@$(PYTHON) -m hack.cluster build

.PHONY: cluster-up
cluster-up: setup cluster-build ## Start a real Kubernetes node on this machine
	@$(PYTHON) -m hack.cluster up

.PHONY: cluster-down
cluster-down: setup ## End it and remove what it left
	@$(PYTHON) -m hack.cluster down

##@ Set-up (the others call these)
.PHONY: setup
setup: $(VENV)/.installed ## Python environment with hashed, pinned dependencies

$(VENV)/.installed: requirements/dev.txt $(PYPROJECTS) | uv
	$(call say,Python environment: $(VENV))
	@[ -x $(PYTHON) ] || uv venv -q --python '>=3.11' $(VENV)
	@uv pip sync -q --python $(PYTHON) --require-hashes requirements/dev.txt
	@uv pip install -q --python $(PYTHON) --no-deps $(MEMBERS:%=-e ./%)
	@touch $@
	@[ ! -e $(VENV)/.fanout ] || hack/build-fanout.sh # which the synchronisation has just taken away

.PHONY: fanout
fanout: $(VENV)/.fanout ## The native fan-out, where Rust is there (else the Python one serves)

$(VENV)/.fanout: $(VENV)/.installed $(shell find agents/fanout -name '*.rs' -o -name 'Cargo.*')
	@hack/build-fanout.sh

.PHONY: uv
uv:
	@command -v uv >/dev/null || { echo "==> installing uv by pip"; python3 -m pip install -q uv==0.13.9 --break-system-packages 2>/dev/null || python3 -m pip install -q uv==0.13.9; }

.PHONY: web
web: web/dist/index.html ## Build the page

web/node_modules/.package-lock.json: web/package.json web/package-lock.json
	@command -v npm >/dev/null && node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' || { \
		echo "==> the web page needs Node.js 20 or later, with npm (nodejs.org, or your distribution)" >&2; exit 1; }
	$(call say,packages of the web page)
	@cd web && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

web/dist/index.html: $(WEB_SOURCES) web/node_modules/.package-lock.json
	$(call say,web page)
	@cd web && npm run -s build
	@touch $@

.PHONY: web-check
web-check: web/node_modules/.package-lock.json
	$(call say,web: types and tests)
	@cd web && npm run -s check && npm test -s

.PHONY: clean
clean: ## Remove what was built here, the local node's files excepted (make cluster-down first)
	@rm -rf $(VENV) web/dist web/node_modules .mypy_cache .ruff_cache .pytest_cache $(BUILD)/pycache
