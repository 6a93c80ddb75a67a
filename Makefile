# make up      the main job: a cluster on local machines, ending at a page over HTTP
# make test    all tests; make test T=expression: those that match (pytest -k)
# make down    takes the cluster away and everything with it, but for the cache and .venv
# make check   format, lint, types, host scripts, unit tests
# make bench   ratios against a hand-written script
# Each installs what it needs first, once.

PYTHON := .venv/bin/python
READY := .venv/.ready
.DEFAULT_GOAL := up
.PHONY: up down status test check bench

$(READY): requirements.txt requirements-dev.txt sandbox/setup.sh
	@bash sandbox/setup.sh
	@touch $@

up down status: $(READY)
	@$(PYTHON) -m sandbox $@

test: check
	@$(PYTHON) -m pytest $(if $(T),-k "$(T)") tests/live

check: $(READY)
	@.venv/bin/ruff format --check --quiet .
	@.venv/bin/ruff check --quiet .
	@.venv/bin/mypy
	@$(PYTHON) -m pytest $(if $(T),-k "$(T)") tests/unit

bench: $(READY)
	@$(PYTHON) -m benchmarks.up
