# Ronda's house: everything a person types here. `make` alone says what there is.
PYTHON ?= python3
UV     ?= uv
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ronda-installed
# Arguments passed on, e.g. `make test T=tests/agent/test_doctor.py`, `make run ARGS="--config my.yaml"`.
T      ?=
# Files of tests that run side by side in a whole run; most of them wait for real daemons.
JOBS   ?= 2
ARGS   ?=

RULES      := $(filter-out %.test.yaml,$(wildcard alerts/rules/*.yaml))
RULE_TESTS := $(wildcard alerts/rules/*.test.yaml)

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help install run up test check fuzz bench torture detect docs lock clean

help:
	@sed -n 's/^## /  /p' Makefile

## make run       sets up and runs the agent without any config; its page is on this machine only
run: install
	@echo "Starting Ronda. Its log names the address of its page; Ctrl-C ends it."
	@exec $(BIN)/ronda run $(ARGS)

## make up        sets up and runs the centre on this machine: Prometheus, Alertmanager, gateway and a page of messages, on loopback
up: install
	@exec $(BIN)/ronda central up $(ARGS)

## make test      sets up (as root also the Debian packages that tests drive) and runs every test
test: install
	@sh .ci/packages tests
	@sh .ci/newer $(VENV)/newer || true
	@exec $(BIN)/python -m pytest $(if $(T),$(T),-n $(JOBS) --dist loadfile --no-loadscope-reorder)

## make install   the environment in .venv, with the command .venv/bin/ronda
install: $(STAMP)

$(STAMP): requirements.txt pyproject.toml
	@sh .ci/packages venv $(PYTHON)
	@echo "Setting up $(VENV) (about a minute, once) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)
	@echo "Ready: $(BIN)/ronda"

## make check     linters, types, and the alert rules where promtool is installed
check: install
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@if command -v promtool >/dev/null; then promtool check rules $(RULES) && promtool test rules $(RULE_TESTS); \
	 else echo "promtool is not installed (Debian: prometheus): the alert rules were not checked"; fi

## make fuzz      every fuzz target with random input, FUZZ times each (make fuzz FUZZ=20000)
FUZZ ?= 20000
fuzz: install
	@FUZZ=$(FUZZ) exec $(BIN)/python -m pytest -m fuzz $(T)

## make bench     the agent beside its peers on the same work: memory, CPU, accuracy
bench: install
	@exec $(BIN)/python -m tests.bench $(ARGS)

## make torture   cuts, kills, torn writes, wrong clocks, refusals by chance; then a referee counts (ARGS="--faults 1000 --seed 7")
torture: install
	@exec $(BIN)/python -m tests.torture $(ARGS)

## make detect    the detectors on captures and generated cases: precision and recall of each (ARGS="--only port_scan")
detect: install
	@exec $(BIN)/python -m tests.detect $(ARGS)

## make docs      writes the list of files in docs/architecture.md from their own first sentences
docs: install
	@$(BIN)/python -m tests.filelist

## make lock      renews requirements.txt from pyproject.toml (needs uv); look at the diff before you commit it
lock:
	@$(UV) pip compile pyproject.toml --group dev --universal --python-version 3.11 --upgrade --generate-hashes \
	   --no-header --no-emit-index-url --quiet --output-file $(VENV)/lock.txt >/dev/null
	@{ echo "# Every package that Ronda, its tests and its tools need, pinned by hash. Renew with: make lock"; \
	   cat $(VENV)/lock.txt; } > requirements.txt
	@rm $(VENV)/lock.txt

## make clean     removes .venv and what builds and tests leave behind; no data, no config
clean:
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
