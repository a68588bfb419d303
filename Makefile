# make demo   sets up what it needs and runs the whole chain on a simulated gallery
# make test   sets up what it needs and runs all tests
# make test-cluster   runs the workflow on a real Slurm: the one here, or (as root on Debian) one of its own
# make lint   formatters and linters, as CI runs them

PYTHON ?= python3
CORES ?= 2
CONFIG ?= config/tiny.yaml
VENV := .venv
BIN := $(VENV)/bin
DEMO := --configfile config/demo.yaml --workflow-profile profiles/cpu --cores $(CORES) --quiet rules host

.PHONY: demo test test-cluster lint format setup clean

demo: $(VENV)/run
	@echo "Running the demo on $(CORES) cores; logs are in results/demo/logs."
	@$(BIN)/python tools/run_alone.py $(BIN)/snakemake $(DEMO)
	@echo; cat results/demo/summary.txt
	@echo; echo "Figures:"; ls results/demo/figures/*.png results/demo/figures/[cest]*/*.png
	@echo "Report:"; ls results/demo/report.html

test: $(VENV)/dev
	@echo "Running all tests."
	$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST)

test-cluster: $(VENV)/cluster
	@echo "Running $(CONFIG) on Slurm, through kills, cancels and limits."
	CONFIG=$(CONFIG) $(BIN)/python -m pytest -rs tests/cluster $(PYTEST)

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint --configfile config/demo.yaml

format: $(VENV)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile rules

setup: $(VENV)/run

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.11"; exit 1; }
	@echo "Making a virtual environment in $(VENV)."
	$(PYTHON) -m venv $(VENV)

$(VENV)/run: requirements.txt requirements-deepprofiler.txt | $(VENV)/bin/python
	@echo "Installing the pinned requirements (PyTorch takes 5 GB; minutes)."
	$(BIN)/python -m pip install --progress-bar on -r requirements.txt
	$(BIN)/python -m pip install --no-deps -r requirements-deepprofiler.txt
	@touch $@

$(VENV)/dev: requirements-dev.txt $(VENV)/run
	@echo "Installing what the tests need besides."
	$(BIN)/python -m pip install -r requirements-dev.txt
	@touch $@

$(VENV)/cluster: requirements-cluster.txt $(VENV)/dev
	$(BIN)/python -m pip install -r requirements-cluster.txt
	@touch $@

clean:
	rm -rf results/demo
