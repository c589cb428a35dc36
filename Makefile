# Every target first sets up .venv from requirements.lock, if need be. What else the commands take:
# .venv/bin/segbench --help
# Needs Python 3.11 to 3.13 and git; another interpreter: make PYTHON=python3.12 ...
PYTHON ?= python3
PORT ?= 5000

export PATH := $(CURDIR)/.venv/bin:$(PATH)
READY := .venv/.ready

.PHONY: repro recipe test test-all test-exhaustive check ui plan bench test-device bench-device sync lock

repro: $(READY)  ## run the pipeline, print the leaderboard and where the report is
	@segbench repro

# To make itself, AS is the assembler.
recipe: $(READY)  ## run recipes/NAME.yaml in a copy, runs/NAME (AS=...); SET="key=value ..." FRESH=1
	@segbench recipe $(NAME) $(if $(filter-out default,$(origin AS)),--as $(AS)) $(if $(FRESH),--fresh) $(SET)

test: $(READY)  ## the fast tests, one real pipeline among them (6 minutes)
	@python -m pytest

test-all: $(READY)  ## all tests but the exhaustive ones (25 minutes)
	@python -m pytest -m "not exhaustive" --hypothesis-profile thorough

test-exhaustive: $(READY)  ## every encoder there is, forward and backward (10 minutes)
	@python -m pytest -m exhaustive

check: $(READY)  ## style and types
	ruff check . && ruff format --check . && mypy

ui: $(READY)  ## MLflow's pages, for this machine only
	@segbench ui --port $(PORT)

plan: $(READY)  ## what 'make repro' would run, how long it should take, how much disk
	@segbench plan

test-device: $(READY)  ## what an accelerator must do; skipped where there is none (5 minutes)
	@python -m pytest -n 0 -m device -rs tests/test_device.py

bench-device: $(READY)  ## training speed on one GPU, by how kernels are launched
	@python benchmarks/device.py params.yaml

bench: $(READY)  ## speed of this pipeline as ratios, in one run
	@set -e; for name in training startup pipeline ingest comparison; do python benchmarks/$$name.py params.yaml; done

sync: $(READY)  ## replay records into MLflow that it has missed
	@segbench sync

lock:  ## resolve the dependencies anew, for Linux and macOS, Python 3.11 to 3.13
	uv pip compile --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url \
		--no-emit-find-links --extra dev --quiet -o requirements.lock pyproject.toml

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 14) else f"error: $(PYTHON) is Python {v[0]}.{v[1]}; segbench needs 3.11 to 3.13, name one with make PYTHON=...")'
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@echo "setting up .venv (about 7 GB, minutes the first time)"
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@
