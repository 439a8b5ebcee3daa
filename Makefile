# Every target runs in .venv, which `make setup` creates from constraints/dev.txt (exact versions, with hashes).
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
# Without bytecode, each of the processes that tests start would compile the runtime again.
export PYTHONDONTWRITEBYTECODE :=
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
STAMP := .venv/.set-up
BENCH_STAMP := .venv/.set-up-bench
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --no-input
CODE := runtime actors examples bench tests
PRESENT = $(wildcard $(CODE))
TEXTS := docs deploy constraints/build.in constraints/manifests.in .ci .github .pre-commit-config.yaml Makefile Dockerfile compose.yaml pyproject.toml $(wildcard *.md)

##@ Start here
.PHONY: help
help: ## Show this list
	@bold= color= plain=; if [[ -t 1 ]]; then bold=$$'\033[1m' color=$$'\033[36m' plain=$$'\033[0m'; fi; \
		awk -v bold="$$bold" -v color="$$color" -v plain="$$plain" 'BEGIN {FS = ":.*## "} \
		/^##@/ {printf "\n%s%s%s\n", bold, substr($$0, 5), plain} \
		/^[a-z-]+:.*## / {printf "  %s%-14s%s %s\n", color, $$1, plain, $$2}' $(firstword $(MAKEFILE_LIST))
	@printf '\n'

.PHONY: setup
setup: $(STAMP) ## Create .venv with all dependencies (the other targets do this when needed)

.PHONY: demo
demo: $(STAMP) ## Run the shop on an embedded NATS, take one order through it and print its trace (ARGS=--exit ends it then)
	@$(BIN)/actorloom demo $(ARGS)

##@ Development
.PHONY: test
test: $(STAMP) ## Run the tests in four processes (ARGS="-k name -x" goes to pytest, ARGS="-n 0" uses one process)
	@$(BIN)/python -m pytest -q -n 4 --dist loadfile --no-loadscope-reorder $(ARGS)

.PHONY: coverage
coverage: $(STAMP) ## Run all tests with line and branch coverage; fail below the floor in pyproject.toml (no floor with ARGS)
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -q $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report $(if $(ARGS),--fail-under=0)

.PHONY: chaos
chaos: $(STAMP) ## Kill, pause and disconnect processes, and account for every effect (ARGS="--only zombie --seed 7"; minutes)
	@$(BIN)/python -m tests.chaos $(ARGS)

.PHONY: check
check: check-format check-lint check-spelling check-types check-docker check-manifests test ## Check format, lint, spelling, types, the Dockerfile and the manifests, and run all tests; CI runs this target

.PHONY: check-format
check-format: $(STAMP) ## Check the format
	@echo '· format'
	@$(BIN)/ruff format --quiet --check $(PRESENT) || { $(BIN)/ruff format --diff $(PRESENT) || true; echo 'run: make format' >&2; exit 1; }

.PHONY: check-lint
check-lint: $(STAMP) ## Run ruff
	@echo '· lint'
	@$(BIN)/ruff check --quiet $(PRESENT)

.PHONY: check-spelling
check-spelling: $(STAMP) ## Run codespell over code and pages: American English, with the exceptions in .words
	@echo '· spelling'
	@$(BIN)/codespell $(PRESENT) $(TEXTS)

.PHONY: check-types
check-types: $(STAMP) ## Run basedpyright and mypy, both strict, over runtime (basedpyright only), actors and examples
	@echo '· types'
	@$(BIN)/basedpyright --level error
	@$(BIN)/mypy

.PHONY: check-docker
check-docker: $(STAMP) ## Run hadolint over the Dockerfile and that of `actorloom new`
	@echo '· Dockerfile'
	@$(BIN)/hadolint Dockerfile runtime/cli/project/Dockerfile.in

# In an environment of its own: the schemas of Kubernetes take 140 MB.
MANIFEST_STAMP := .cache/manifests/stamp
$(MANIFEST_STAMP): constraints/manifests.txt
	@$(find-python); echo '· packages of constraints/manifests.txt'; "$$python" -m venv .cache/manifests
	@.cache/manifests/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

.PHONY: check-manifests
check-manifests: $(MANIFEST_STAMP) ## Run kubernetes-validate over deploy/kubernetes, without the objects of KEDA
	@echo '· manifests'
	@.cache/manifests/bin/kubernetes-validate --quiet --strict deploy/kubernetes/actor.yaml

.PHONY: format
format: $(STAMP) ## Format the code and apply the automatic fixes of ruff
	@$(BIN)/ruff check --quiet --fix-only $(PRESENT)
	@$(BIN)/ruff format $(PRESENT)

##@ Benchmarks and other software
.PHONY: bench
bench: $(BENCH_STAMP) ## Measure throughput, latency and CPU beside raw nats-py (ARGS=--quick)
	@$(BIN)/python -m bench $(ARGS)

.PHONY: bench-check
bench-check: $(BENCH_STAMP) ## Run a short benchmark and compare it with the ratios in bench/ratios.json; for changes of the hot path
	@$(BIN)/python -m bench check $(ARGS)

.PHONY: test-jaeger
test-jaeger: $(STAMP) ## Check in a real Jaeger that one order is one trace (built once into your cache; needs Go)
	@tests/jaeger/build.sh >/dev/null || [[ $$? == 3 ]]
	@$(BIN)/python -m pytest -q -m jaeger tests/jaeger $(ARGS)

.PHONY: test-ruler
test-ruler: $(STAMP) ## Compare event patterns with AWS's event-ruler on generated pairs (skipped without Java and Maven)
	@$(BIN)/python -m pytest -q -m ruler tests/ruler $(ARGS)

.PHONY: test-alerts
test-alerts: $(STAMP) ## Check the alert rules with promtool, and that each fires on its fault (skipped without apt-get)
	@tests/promtool/get.sh >/dev/null || [[ $$? == 3 ]]
	@$(BIN)/python -m pytest -q -m promtool tests/promtool $(ARGS)

.PHONY: test-asyncapi
test-asyncapi: $(STAMP) ## Parse the AsyncAPI documents with the official parser (installed once into your cache; skipped without npm)
	@$(BIN)/python -m pytest -q -m asyncapi tests/contracts $(ARGS)

##@ Housekeeping
find-python = for python in $(PYTHON) python3.11 python3.12 python3.13 python3.14 python3 ''; do \
		if command -v "$$python" >/dev/null && "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then break; fi; \
	done; \
	[[ -n $$python ]] || { echo 'Python 3.11 or later is needed (PYTHON=… names one)' >&2; exit 1; }
compile = echo '· constraints/$(1)'; .cache/lock/bin/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe \
	--no-header --no-emit-options --no-emit-index-url --no-emit-find-links --no-emit-trusted-host $(ARGS) \
	--output-file constraints/$(1) $(2)

.PHONY: lock
lock: ## Resolve the versions in constraints/ within the ranges of pyproject.toml (ARGS=--upgrade: the newest)
	@$(find-python); [[ -d .cache/lock ]] || "$$python" -m venv .cache/lock
	@.cache/lock/bin/python -m pip install --quiet --disable-pip-version-check 'pip-tools>=7.6,<8'
	@$(call compile,dev.txt,--extra dev --extra uvloop pyproject.toml)
	@$(call compile,run.txt,--extra router --extra uvloop --constraint constraints/dev.txt pyproject.toml)
	@$(call compile,bench.txt,--extra bench --constraint constraints/dev.txt pyproject.toml)
	@$(call compile,build.txt,--constraint constraints/dev.txt constraints/build.in)
	@$(call compile,manifests.txt,--constraint constraints/dev.txt constraints/manifests.in)

.PHONY: clean
clean: ## Remove .venv, caches and build output
	@rm -rf .venv .cache build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .coverage .coverage.*
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Runs again only if the locked versions or pyproject.toml change. --require-hashes installs listed packages only;
# --no-build-isolation builds with the packages of constraints/build.txt only. The project itself comes last.
$(STAMP): constraints/build.txt constraints/dev.txt pyproject.toml
	@$(find-python); [[ -x $(BIN)/python ]] || { echo "· .venv with $$($$python --version)"; "$$python" -m venv .venv; }
	@echo '· packages of constraints/dev.txt (a minute the first time)'
	@$(PIP) install --require-hashes -r constraints/build.txt
	@$(PIP) install --require-hashes --no-build-isolation -r constraints/dev.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(BENCH_STAMP): $(STAMP) constraints/bench.txt
	@echo '· packages of constraints/bench.txt'
	@$(PIP) install --require-hashes --no-build-isolation -r constraints/bench.txt
	@touch $@
