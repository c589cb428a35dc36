# Every target first sets up .venv from requirements.lock, if need be. What else the commands take:
# .venv/bin/segbench --help
# Needs Python 3.11 to 3.13 and git; another interpreter: make PYTHON=python3.12 ...
PYTHON ?= python3
PORT ?= 5000

export PATH := $(CURDIR)/.venv/bin:$(PATH)
READY := .venv/.ready

.PHONY: repro recipe init doctor deliver predict test test-all test-exhaustive check ui plan bench test-device bench-device sync lock verdict review gallery

repro: $(READY)  ## run the pipeline, print the leaderboard; JOBS=n or auto, or CLUSTER=file: stages side by side
	@segbench repro $(if $(JOBS),--jobs $(JOBS)) $(if $(CLUSTER),--cluster $(CLUSTER))

# To make itself, AS is the assembler.
recipe: $(READY)  ## run recipes/NAME.yaml in a copy, runs/NAME (AS=...); SET="key=value ..." FRESH=1 JOBS=n or auto
	@segbench recipe $(NAME) $(if $(JOBS),--jobs $(JOBS)) $(if $(filter-out default,$(origin AS)),--as $(AS)) $(if $(FRESH),--fresh) $(SET)

init: $(READY)  ## describe your images in params.yaml; SOURCE=folder-or-archive FORCE=1
	@segbench init $(SOURCE) $(if $(FORCE),--force)

doctor: $(READY)  ## is everything there that a run needs; the first thing in a bug report
	@segbench doctor

deliver: $(READY)  ## a model as ONNX, pt2 and OpenVINO's files, scored anew, with its card; MODEL=champion NAME=folder
	@segbench deliver $(or $(MODEL),champion) $(if $(NAME),--name $(NAME))

predict: $(READY)  ## masks of new images; MODEL=champion IMAGES=folder OUT=folder
	@segbench predict --model $(or $(MODEL),champion) --images "$(IMAGES)" --out "$(OUT)"

verdict: $(READY)  ## one verdict over finished comparisons; RUNS="runs/a runs/b"
	@segbench verdict $(RUNS)

review: $(READY)  ## the committed report, and whether it stands, as a pull request shows it
	@segbench review

test: $(READY)  ## the fast tests, one real pipeline among them (12 minutes)
	@python -m pytest

test-all: $(READY)  ## all tests but the exhaustive ones (an hour)
	@python -m pytest -m "not exhaustive" --hypothesis-profile thorough

test-exhaustive: $(READY)  ## every encoder there is, forward and backward (10 minutes)
	@python -m pytest -m exhaustive

gallery: $(READY)  ## reports of every kind, of made-up results, to look at: build/gallery
	@PYTHONPATH=src:tests python -m support.gallery build/gallery

check: $(READY)  ## style and types
	ruff check . && ruff format --check . && mypy

ui: $(READY)  ## MLflow's pages, for this machine only
	@segbench ui --port $(PORT)

plan: $(READY)  ## what 'make repro' would run, how long it should take, how much disk; JOBS=n WORKERS=n
	@segbench plan $(if $(JOBS),--jobs $(JOBS)) $(if $(WORKERS),--workers $(WORKERS))

test-device: $(READY)  ## what an accelerator must do; skipped where there is none (5 minutes)
	@python -m pytest -n 0 -m device -rs tests/test_device.py

bench-device: $(READY)  ## training speed on one GPU, by how kernels are launched
	@python benchmarks/device.py params.yaml

bench: $(READY)  ## speed of this pipeline as ratios, in one run
	@set -e; for name in training threads evaluation predict startup pipeline jobs ingest comparison; do python benchmarks/$$name.py params.yaml; done

sync: $(READY)  ## replay records into MLflow that it has missed; REV=commit-or-experiment FORCE=1
	@segbench sync $(if $(REV),--rev $(REV)) $(if $(FORCE),--force-champion)

lock: $(READY)  ## lock the dependencies, for Linux and macOS, Python 3.11 to 3.13; UPGRADE=1 all anew
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet \
		--no-emit-index-url --no-emit-find-links --all-extras $(if $(UPGRADE),--upgrade) -o requirements.lock pyproject.toml

# pip puts uv into .venv and uv the rest, or pip where uv cannot be had. Nothing is fetched but what the lock has
# a hash of: what builds packages is locked too, and --no-build-isolation takes it from .venv. Without its mark
# .venv is made anew, out of the caches: a uv that is killed leaves half a package, which the next one takes for
# whole.
PIP := .venv/bin/python -m pip --disable-pip-version-check
INSTALL := install --quiet --require-hashes --no-build-isolation --requirement
FAILED := { echo "error: .venv is not set up, for the reason above; the same command tries again" >&2; exit 1; }
entry = sed -n '/^$(1)==/,/[^\\]$$/p' requirements.lock

# uv reads neither pip.conf nor PIP_*. What they say of indexes it is told, unless UV_* say otherwise; that the
# best of all indexes counts, as for pip, is safe where hashes are required. Bytecode, as by pip: else what a run
# imports takes 25 s more the first time, and every time where PYTHONDONTWRITEBYTECODE is set.
told = for from in :env: install global; do printf '%s\n' "$$told" | sed -n "s/^$$from[.]$(1)='\(.*\)'$$/\1/p"; done | sed 's/\\n/ /g; q'
UV = told=$$($(PIP) config list) && \
	UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$$($(call told,index-url))}" \
	UV_INDEX="$${UV_INDEX:-$$($(call told,extra-index-url))}" \
	UV_FIND_LINKS="$${UV_FIND_LINKS:-$$($(call told,find-links) | tr ' ' ,)}" \
	UV_INSECURE_HOST="$${UV_INSECURE_HOST:-$$($(call told,trusted-host))}" \
	SSL_CERT_FILE="$${SSL_CERT_FILE:-$$($(call told,cert))}" \
	.venv/bin/uv pip $(INSTALL) requirements.lock \
		--python .venv/bin/python --index-strategy unsafe-best-match --compile-bytecode

# Scripts and links in .venv name the folder that it was made in: moved or copied along with its project, it
# runs the code of the former place, or nothing.
MOVED := $(shell here=$$(cd .venv 2>/dev/null && pwd -P); \
	made=$$(sed -n 's|^command = .* /|/|p' .venv/pyvenv.cfg 2>/dev/null); test "$$made" = "$$here" || test "$$made" = "$(CURDIR)/.venv" || echo "$$made")
# A link to another clone's .venv: what is installed here would be what that one runs.
OTHERS := $(shell test -L .venv && cd -P .venv && test -f ../pyproject.toml && cd .. && pwd -P)
ifneq ($(MOVED)$(OTHERS),)
.PHONY: $(READY)
endif

$(READY): requirements.lock pyproject.toml
	@test -z "$(OTHERS)" || { echo "error: .venv is a link to that of $(OTHERS), which would run the code of this clone; 'rm .venv' removes the link, then make sets up one of its own" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11, 4) <= v < (3, 14) else "error: $(PYTHON) is Python %d.%d.%d; segbench needs 3.11.4 to 3.13, name one with make PYTHON=..." % v[:3])'
	@$(if $(MOVED),echo "this .venv was made as $(MOVED): it is made anew",:)
	@{ $(if $(MOVED),false,test -e $@) && $(PIP) --version >/dev/null; } || $(PYTHON) -m venv --clear .venv || $(FAILED)
	@rm -f $@
	@echo "setting up .venv (7 GB; a minute or two by uv, several by pip)"
	@$(call entry,setuptools) | $(PIP) $(INSTALL) /dev/stdin || $(FAILED)
	@if why=$$($(call entry,uv) | $(PIP) $(INSTALL) /dev/stdin --only-binary :all: 2>&1); then $(UV); else \
		echo "uv cannot be had here ($$(echo "$$why" | tail -n 1)): pip sets up .venv, which takes longer"; \
		sed '/^uv==/,/[^\\]$$/d' requirements.lock | $(PIP) $(INSTALL) /dev/stdin; \
	fi || $(FAILED)
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable . || $(FAILED)
	@touch $@
