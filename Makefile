# make up      the main job: a cluster on local machines, ending at a page over HTTP
#              make up S=cloud: on servers of a stand-in for Hetzner Cloud; S=ha: three control planes
# make test    all tests; make test T=expression: those that match (pytest -k)
# make test-long  what takes too long for every time; T=expression as well
# make down    takes the cluster away and everything with it, but for the cache and .venv
# make check   format, lint, types, host scripts, unit tests
# make status  what runs now, and how the cluster is: fails if something is not well
# make trust   the tables of what has to hold (docs/): settings, secrets, faults, the loop,
#              conformance; hours, the first time
# make bench   ratios against a hand-written script
# make lock    requirements*.txt from requirements*.in: every package, with the hashes of all its files
# Each installs what it needs first, once.

PYTHON := .venv/bin/python
READY := .venv/.ready
# Unit tests run side by side, those of a file by one process, as they share what is dear to make.
UNIT := --numprocesses=auto --maxprocesses=4 --dist=loadfile tests/unit
.DEFAULT_GOAL := up
.PHONY: up down status lint test test-long check bench trust lock

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
ifdef T
	@$(PYTHON) -m pytest -k "$(T)" tests/unit tests/live
else
	@$(PYTHON) -m pytest $(UNIT)
	@$(PYTHON) -m pytest tests/live
endif

test-long: lint
	@$(PYTHON) -m pytest $(if $(T),-k "$(T)") -s tests/long

check: lint
	@$(PYTHON) -m pytest $(UNIT)

TABLES := settings secrets faults loop conformance
trust: $(READY)
	@for table in $(TABLES); do $(PYTHON) -m tests.trust.$$table || exit 1; done

bench: $(READY)
	@$(PYTHON) -m benchmarks.up

LOCK := .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--emit-build-options --annotation-style line --custom-compile-command "make lock"
lock: $(READY)
	@for list in requirements policy/requirements requirements-dev; do \
	  [ ! -e $$list.in ] || $(LOCK) $$list.in --output-file $$list.txt || exit; done
