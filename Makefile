# `make demo` and `make test` do all their own set-up on a fresh Debian 12 with Python 3.11.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# pip and the tools must not be led by a PYTHONPATH of the caller
unexport PYTHONPATH PYTHONHOME

.PHONY: help demo web test test-long lint sabotage clean
.DEFAULT_GOAL := help

help:
	@echo "make demo      meters, gateway, broker, ingest and API on this machine, in one command"
	@echo "make web       the scripts of the pages, from npm by lock file (demo and test do it themselves)"
	@echo "make test      the whole suite (installs what it needs)"
	@echo "make test-long the long forms of the slow proofs (200 kills)"
	@echo "make lint      ruff and mypy"
	@echo "make sabotage  break each promise in a copy and show which test catches it"

$(VENV)/runtime.stamp: pyproject.toml
	@$(PYTHON) scripts/check_python.py
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/test.stamp: pyproject.toml $(VENV)/runtime.stamp
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

WEB := api/pages/built/manifest.json

$(WEB): $(wildcard api/pages/web/src/*.js) api/pages/web/build.mjs api/pages/web/package-lock.json $(VENV)/runtime.stamp
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[web]'
	@$(BIN)/python scripts/build_web.py

web: $(WEB)

.PHONY: debian-packages
debian-packages:
	@sh scripts/debian_packages.sh packages-debian.txt

demo: $(VENV)/runtime.stamp $(WEB)
	@$(BIN)/metergate demo $(DEMO)

# three at a time on two cores: many tests wait for processes more than they compute; a file stays in one process, and
# files come in the order of their names: sorted by the number of their tests, the slowest would come last
WORKERS ?= 3

test: debian-packages $(VENV)/test.stamp $(WEB)
	@$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-long: debian-packages $(VENV)/test.stamp $(WEB)
	@$(BIN)/pytest -m long

lint: $(VENV)/test.stamp
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

sabotage: debian-packages $(VENV)/test.stamp $(WEB)
	@$(BIN)/python -m tests.sabotage

clean:
	rm -rf api/pages/built api/pages/web/node_modules $(VENV) .mypy_cache .ruff_cache .hypothesis build dist
