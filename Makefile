# make demo   sets up what it needs and runs the whole chain on a simulated gallery
# make test   sets up what it needs and runs all tests
# make test-cluster  runs the workflow on a real Slurm: the one here, or (as root on Debian) one of its own
# make coverage  the unit tests, and the lines that they miss
# make lint   formatters and linters, as CI runs them
# make lock   the locks again, after a change of requirements*.txt
# make audit  known vulnerabilities of what is locked
# make rulegraph  the picture of the rules in docs/rulegraph.md, drawn from the workflow
# make screens  the README's pictures of the demo's report, taken in a Chromium

PYTHON ?= python3
# What is there, as far as the memory does; to use less: make demo CORES=4
CORES ?= $(shell $(PYTHON) tools/cores.py)
CONFIG ?= config/tiny.yaml
VENV := .venv
BIN := $(VENV)/bin
# Whole trees of packages with their hashes. Where packages come from an index of your own: make setup LOCKED=no
LOCKED ?= yes
ifeq ($(LOCKED),yes)
INSTALL_RUN := --require-hashes -r requirements.lock
INSTALL_DEV := --require-hashes -r requirements-dev.lock
else
INSTALL_RUN := -r requirements.txt
INSTALL_DEV := -r requirements-dev.txt
endif
# One lock for every platform and Python from 3.11 on.
COMPILE := --quiet --no-strip-extras --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
DEMO := --configfile config/demo.yaml --workflow-profile profiles/cpu --cores $(CORES) --quiet rules host

.PHONY: demo test test-cluster coverage lint format setup lock audit rulegraph screens clean

demo: $(VENV)/run
	@echo "Running the demo on $(CORES) cores; logs are in results/demo/logs."
	@$(BIN)/python tools/run_alone.py $(BIN)/snakemake $(DEMO)
	@echo; cat results/demo/summary.txt
	@echo; echo "Figures:"; ls results/demo/figures/*.png results/demo/figures/[acegst]*/*.png
	@echo "Report:"; ls results/demo/report.html

test: $(VENV)/dev
	@echo "Running all tests."
	$(BIN)/python -m pytest -n 2 --dist loadfile --ignore tests/cluster $(PYTEST)

coverage: $(VENV)/dev
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report=term:skip-covered --ignore tests/workflow --ignore tests/cluster

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

audit: $(VENV)/dev
	$(BIN)/python tools/audit.py requirements.lock

rulegraph: $(VENV)/dev
	$(BIN)/python tools/rulegraph.py

screens: $(VENV)/dev
	$(BIN)/python tools/screens.py results/demo/report.html docs/images

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.11"; exit 1; }
	@echo "Making a virtual environment in $(VENV)."
	$(PYTHON) -m venv $(VENV)

$(VENV)/run: requirements.txt requirements.lock requirements-deepprofiler.txt | $(VENV)/bin/python
	@echo "Installing the pinned requirements (PyTorch takes 5 GB; minutes)."
	$(BIN)/python -m pip install --progress-bar on $(INSTALL_RUN)
	$(BIN)/python -m pip install --no-deps --require-hashes -r requirements-deepprofiler.txt
	@touch $@

$(VENV)/dev: requirements-dev.txt requirements-dev.lock $(VENV)/run
	@echo "Installing what the tests need besides."
	$(BIN)/python -m pip install $(INSTALL_DEV)
	@touch $@

$(VENV)/cluster: requirements-cluster.txt $(VENV)/dev
	$(BIN)/python -m pip install --no-deps --require-hashes -r requirements-cluster.txt
	@touch $@

clean:
	rm -rf results/demo
