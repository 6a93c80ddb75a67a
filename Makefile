# make up      the main job: a cluster on local machines, ending at a page over HTTP
#              make up S=cloud: on servers of a stand-in for Hetzner Cloud
# make test    all tests; make test T=expression: those that match (pytest -k)
# make down    takes the cluster away and everything with it, but for the cache and .venv
# make check   format, lint, types, host scripts, unit tests
# make status  what runs now
# make bench   ratios against a hand-written script
# Each installs what it needs first, once.

PYTHON := .venv/bin/python
READY := .venv/.ready
.DEFAULT_GOAL := up
.PHONY: up down status lint test check bench

$(READY): requirements.txt requirements-dev.txt sandbox/setup.sh
	@bash sandbox/setup.sh
	@touch $@

up down status: $(READY)
	@$(PYTHON) -m sandbox $@ $(if $(S),--stack $(S))

lint: $(READY)
	@.venv/bin/ruff format --check --quiet .
	@.venv/bin/ruff check --quiet .
	@.venv/bin/mypy

test: lint
	@$(PYTHON) -m pytest $(if $(T),-k "$(T)") tests/unit tests/live

check: lint
	@$(PYTHON) -m pytest tests/unit

bench: $(READY)
	@$(PYTHON) -m benchmarks.up
