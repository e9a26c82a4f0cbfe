# Each target does all the set-up it needs: a virtual environment in .venv with the project built into it.
# PYTHON chooses the interpreter (3.10 or newer).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := setup.py pyproject.toml $(shell find engine -name '*.pyx' -o -name '*.pxi' -o -name '*.pxd' 2>/dev/null)
ARGS ?=

.PHONY: demo test lint types check bench guard guard-record guards-check coverage brokers brokers-stop docs dist clean help

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/pyvenv.cfg:
	@$(PYTHON) tools/setup_check.py
	$(PYTHON) -m venv $(VENV)

# The bare install: what a user gets with `pip install .`, in place so that the sources can be edited; the
# bytecode too, which Python may not be allowed to write by itself (PYTHONDONTWRITEBYTECODE).
$(VENV)/.run: $(VENV)/pyvenv.cfg $(SOURCES)
	@echo "building the engine in $(VENV): about a minute" >&2
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	$(BIN)/python -m compileall -q engine
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(VENV)/.run  ## run thousands of real tasks on the embedded SQLite broker
	$(BIN)/engine demo $(ARGS)

test: $(VENV)/.dev  ## the whole test suite, on real brokers
	$(BIN)/python -m tools.run_tests $(ARGS)

lint: $(VENV)/.dev  ## format, lint, layers
	$(BIN)/python -m tools.check lint

types: $(VENV)/.dev  ## mypy --strict and stubtest
	$(BIN)/python -m tools.check types

check: $(VENV)/.dev  ## lint and types
	$(BIN)/python -m tools.check all

bench: $(VENV)/.dev  ## the micro-benchmarks
	$(BIN)/python -m pytest benchmarks $(ARGS)

guard: $(VENV)/.dev  ## fail when something has become slower
	$(BIN)/python -m tools.run_tests benchmarks -q --benchmark-disable -p no:randomly
	$(BIN)/python -m tools.instructions

guard-record: $(VENV)/.dev  ## make today's instruction counts the recorded ones
	$(BIN)/python -m tools.instructions --record

guards-check: $(VENV)/.dev  ## show that the guards fail on slow-downs (takes minutes)
	$(BIN)/python -m tools.guard_check $(ARGS)

coverage: $(VENV)/.dev  ## line coverage of engine/, the extension included, in a build of its own
	$(BIN)/python -m tools.coverage_build $(ARGS)

brokers: $(VENV)/.dev  ## start a private RabbitMQ and Redis and print their URLs
	$(BIN)/python -m tools.brokers start

brokers-stop: $(VENV)/.dev  ## stop them
	$(BIN)/python -m tools.brokers stop

docs: $(VENV)/.dev  ## write docs/settings.md anew from the settings
	$(BIN)/python -m tools.gen_settings_doc

dist: $(VENV)/.dev  ## sdist and wheel, built, installed in a clean environment and run
	$(BIN)/python -m tools.dist

clean:  ## remove what the build made
	rm -rf build dist *.egg-info .venv .cache .mypy_cache .ruff_cache .pytest_cache
	find engine -name '*.so' -delete
	rm -f engine/_codec.c engine/_keepalive.c engine/*.html
