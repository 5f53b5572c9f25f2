# Two commands matter to a newcomer: `make demo` and `make test`. Both build .venv from the lock first.
# Options of a command: make demo ARGS="--speed 60 --for 2m", make test ARGS="tests/wire -k topic".

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# Test processes. Most tests wait for brokers and databases, not for a core.
WORKERS ?= 3
SEED ?= 1
MINUTES ?= 10
CODE := wire store gateway api edge_agents dashboards benchmarks tests
# Only what is there: a folder may come later than this file.
CODE := $(wildcard $(CODE))
# Exact versions, nothing resolved and nothing built in isolation: what the lock does not name is not installed.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps

.PHONY: demo test test-slow check lint format bench torture lock clean

demo: $(VENV)/.runtime
	$(BIN)/openlab demo $(ARGS)

test: $(VENV)/.dev
	$(BIN)/pytest -m "not slow" -n $(WORKERS) --dist worksteal $(ARGS)

test-slow: $(VENV)/.dev
	$(BIN)/pytest -m slow $(ARGS)

check: lint test

lint: $(VENV)/.dev
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

bench: $(VENV)/.dev
	@for file in benchmarks/[a-z]*.py; do \
		name=$$(basename $$file .py); [ $$name = torture ] && continue; echo "== $$name"; $(BIN)/python -m benchmarks.$$name $(ARGS) || exit 1; \
	done

# Kills agents, gateways, broker and database at random, then compares every second: make torture SEED=2 MINUTES=10
# On PostgreSQL or Mosquitto: make torture ARGS="--database postgresql --broker mosquitto"
torture: $(VENV)/.dev
	$(BIN)/python -m benchmarks.torture --seed $(SEED) --minutes $(MINUTES) $(ARGS)

# The stamps are newer than what they were made from, so nothing is installed twice.
$(VENV)/.created:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV) || { echo "no venv module: as root, apt-get install python3-venv" >&2; exit 1; }
	touch $@

$(VENV)/.runtime: requirements.lock pyproject.toml | $(VENV)/.created
	@echo "installing what requirements.lock names (some minutes the first time) ..."
	$(INSTALL) -r requirements.lock
	$(INSTALL) --no-build-isolation -e .
	touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml | $(VENV)/.created
	@echo "installing what requirements-dev.lock names (some minutes the first time) ..."
	$(INSTALL) -r requirements-dev.lock
	$(INSTALL) --no-build-isolation -e .
	touch $@ $(VENV)/.runtime

# Resolve afresh from pyproject.toml: plain name==version lines, no addresses, no hashes. Commit both files together.
lock:
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet ".[demo,edge,influx,postgres,grafana]" hatchling==1.33.0 editables
	build/lock/bin/python -m pip freeze --exclude openlab > build/lock/runtime.txt
	build/lock/bin/python -m pip install --quiet -c build/lock/runtime.txt ".[dev]"
	build/lock/bin/python -m pip freeze --exclude openlab > build/lock/dev.txt
	mv build/lock/runtime.txt requirements.lock
	mv build/lock/dev.txt requirements-dev.lock
	rm -rf build/lock

# Everything that can be made again; the demo's data in openlab-data is not among it.
clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
