# make demo   sets up what it needs and runs the whole chain on a simulated gallery
# make test   sets up what it needs and runs the unit tests and those of the workflow
# make test-unit, make test-workflow  the two of them, one by one; make test-fast  neither's slow ones
# make test-cluster  runs the workflow on a real Slurm: the one here, or (as root on Debian) one of its own
# make coverage  the unit tests, and the lines that they miss
# make lint   formatters and linters, as CI runs them
# make lock   the locks again, after a change of requirements*.txt
# make audit  known vulnerabilities of what is locked
# make rulegraph  the picture of the rules in docs/rulegraph.md, drawn from the workflow
# make docs   the documentation as a site, in site/index.html
# make screenshots  pictures of the demo for the docs; its pages are taken in a Chromium

PYTHON ?= python3
# What is there, as far as the memory does; to use less: make demo CORES=4
CORES ?= $(shell $(PYTHON) tools/cores.py)
CONFIG ?= config/tiny.yaml
VENV := .venv
BIN := $(VENV)/bin
# Whole trees of packages with their hashes. Where packages come from an index of your own: make setup LOCKED=no
LOCKED ?= yes
ifeq ($(LOCKED),yes)
INSTALL_RUN := --require-hashes -r $(VENV)/requirements.lock
INSTALL_DEV := --require-hashes -r $(VENV)/requirements-dev.lock
else
INSTALL_RUN := -r requirements.txt
INSTALL_DEV := -r requirements-dev.txt
endif
# PyPI's PyTorch for Linux brings CUDA. Where there is neither an NVIDIA GPU nor a Slurm whose nodes may have one,
# the CPU build is taken from PyTorch's own index instead. By hand: make setup TORCH=cuda, or TORCH=cpu
CUDA := $(shell ls -d /proc/driver/nvidia /dev/nvidia0 2> /dev/null; command -v nvidia-smi sbatch)
TORCH ?= $(if $(filter Linux,$(shell uname -s)),$(if $(CUDA),cuda,cpu),pypi)
# Where that index can be reached, `make lock` writes its hashes; without them, the version is pinned and TLS trusted.
CPU_TORCH := $(firstword $(wildcard requirements-cpu.lock) requirements-cpu.txt)
# One lock for every platform and Python from 3.11 on.
COMPILE := --quiet --no-strip-extras --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
# One more than there are cores, as tests wait for processes, servers and browsers at times.
WORKERS ?= $(shell expr $(CORES) + 1)
# Tests of one file share what it prepares, so they stay in one process; longest files first.
TEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# Snakemake keeps a cache in the home; where that cannot be written, here.
ifneq ($(shell test -w "$$HOME" && echo yes),yes)
export XDG_CACHE_HOME ?= $(CURDIR)/.snakemake/cache
endif
DEMO := --configfile config/demo.yaml --workflow-profile profiles/cpu --cores $(CORES)
CALM := $(BIN)/python tools/run_alone.py $(BIN)/python tools/calm_run.py

.PHONY: demo test test-unit test-workflow test-fast test-cluster coverage lint format setup lock audit rulegraph docs screenshots clean

demo: $(VENV)/run
	@echo "Running the demo on $(CORES) cores."
	@$(CALM) results/demo/run.log "Part 1 of 2, a study of three labs" $(BIN)/snakemake all pack $(DEMO)
	@$(CALM) results/demo_own/run.log "Part 2 of 2, calls for a fourth lab" $(BIN)/snakemake predict $(subst demo.yaml,demo_own.yaml,$(DEMO))
	@echo; cat results/demo/summary.txt; echo
	@echo "Calls for a fourth lab:"; ls results/demo_own/calls.csv results/demo_own/calls.html results/demo_own/trust.csv
	@echo; echo "Figures:"; ls results/demo/figures/*.png results/demo/figures/[acegst]*/*.png
	@echo "Report:"; ls results/demo/report.html

test: $(VENV)/dev
	$(TEST) --ignore tests/cluster $(PYTEST)

test-unit: $(VENV)/dev
	$(TEST) --ignore tests/workflow --ignore tests/cluster $(PYTEST)

test-workflow: $(VENV)/dev
	$(TEST) tests/workflow $(PYTEST)

test-fast: $(VENV)/dev
	$(TEST) --ignore tests/cluster -m "not slow" $(PYTEST)

coverage: $(VENV)/dev
	$(TEST) --cov --cov-report=term:skip-covered --ignore tests/workflow --ignore tests/cluster

test-cluster: $(VENV)/cluster
	@echo "Running $(CONFIG) on Slurm, through kills, cancels and limits."
	CONFIG=$(CONFIG) $(BIN)/python -m pytest -rs tests/cluster $(PYTEST)

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/python tools/lint_rules.py --configfile config/demo.yaml

format: $(VENV)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile rules

setup: $(VENV)/run

lock: $(VENV)/dev
	$(BIN)/uv pip compile $(COMPILE) requirements.txt -o requirements.lock
	$(BIN)/uv pip compile $(COMPILE) -c requirements.lock requirements-dev.txt -o requirements-dev.lock
	-$(BIN)/uv pip compile $(COMPILE) --no-deps --emit-index-url requirements-cpu.txt -o requirements-cpu.lock

audit: $(VENV)/dev
	$(BIN)/python tools/audit.py requirements.lock

rulegraph: $(VENV)/dev
	$(BIN)/python tools/rulegraph.py

docs: $(VENV)/dev node_modules
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "The documentation is in site/index.html."

screenshots: $(VENV)/dev
	$(BIN)/python tools/screenshots.py results/demo/report.html docs/images

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.11"; exit 1; }
	@echo "Making a virtual environment in $(VENV)."
	$(PYTHON) -m venv $(VENV)

$(VENV)/torch: $(if $(filter cpu,$(TORCH)),$(CPU_TORCH)) | $(VENV)/bin/python
ifeq ($(TORCH),cpu)
	@echo "No NVIDIA GPU here: installing PyTorch's CPU build (200 MB). For GPUs: make setup TORCH=cuda"
	@$(BIN)/python -m pip install --no-deps --timeout 10 --retries 2 --progress-bar on -r $(CPU_TORCH) || \
	    echo "That failed, so PyTorch's build with CUDA comes from PyPI instead (5 GB on the disk)."
endif
	@touch $@

# A lock as it is installed: without CUDA's libraries if PyTorch's CPU build is there already.
$(VENV)/%.lock: %.lock $(VENV)/torch
	@if ls $(VENV)/lib/python3*/site-packages | grep -q '^torch-.*+cpu'; \
	then awk '/^[a-z]/ { keep = !/^(cuda-|nvidia-|triton=)/ } keep' $< > $@; else cp $< $@; fi

$(VENV)/run: requirements.txt $(VENV)/requirements.lock requirements-nodeps.txt
	@echo "Installing the pinned requirements; minutes."
	$(BIN)/python -m pip install --progress-bar on $(INSTALL_RUN)
	$(BIN)/python -m pip install --no-deps --require-hashes -r requirements-nodeps.txt
	@touch $@

$(VENV)/dev: requirements-dev.txt $(VENV)/requirements-dev.lock $(VENV)/run
	@echo "Installing what the tests need besides."
	$(BIN)/python -m pip install $(INSTALL_DEV)
	@touch $@

$(VENV)/cluster: requirements-cluster.txt $(VENV)/dev
	$(BIN)/python -m pip install --no-deps --require-hashes -r requirements-cluster.txt
	@touch $@

# What draws the site's diagrams; without npm the reader's browser fetches it.
node_modules: package-lock.json
	@if command -v npm > /dev/null; then npm ci --ignore-scripts --no-audit --no-fund; fi
	@mkdir -p $@ && touch $@

clean:
	rm -rf results/demo results/demo_own
