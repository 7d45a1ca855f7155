# Two commands do everything on a machine with Python and make: `make quickstart` and `make test`.
# Both set up .venv first where that is needed. `make help` lists the rest.

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help quickstart test chaos fuzz test-browser test-cluster test-raylets coverage bench lint format wheel wheel-quick clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  PYTHON=python3.12 names the Python to set up with; ARGS='...' is handed to the command behind a target."

quickstart: $(INSTALLED) ## Set up, run the built-in experiment (minutes, no GPU, no downloads of data), print its ranking
	$(BIN)/raybench run $(ARGS)

# Two processes of one thread each: the networks of the tests are small, and Ray runs several of them at once.
test: $(INSTALLED) ## Set up, run the tests; ARGS='-k cost -x' is handed to pytest
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

# Real processes that hang, crash, fill disks and memory; then runs that are killed at random moments.
chaos: $(INSTALLED) ## Set up, break runs in every way, kill them at random (20 minutes); ARGS='--rounds 3'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/faults -n 2 --dist loadfile
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.chaos $(ARGS)

# What `make test` looks at with some tens of examples, with thousands of them.
fuzz: $(INSTALLED) ## Set up, read thousands of damaged experiments, images, tables and run directories (some minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/fuzz -n 2 --hypothesis-profile fuzz --timeout 3600 $(ARGS)

# Debian's Chromium, which Playwright drives; where it cannot be had, the tests are left out, with the reason.
test-browser: $(INSTALLED) ## Set up, open reports in Debian's Chromium, test and photograph them
	@bash tests/browser/install_chromium.sh
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/browser $(ARGS)

# Several machines, as hosts made of Linux namespaces, as root; where these cannot be had, left out, with the reason.
test-cluster: $(INSTALLED) ## Set up, let `ray up` make a cluster of hosts on this machine, run experiments on it (8 minutes)
	@bash tests/cluster/install_hosts.sh
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/cluster $(ARGS)

# Several machines, as nothing but Ray's processes on this one.
test-raylets: $(INSTALLED) ## Set up, run experiments on clusters of Ray's processes (8 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/raylets $(ARGS)

coverage: $(INSTALLED) ## Run the tests and say which lines and branches none of them takes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report=term-missing $(ARGS)

bench: $(INSTALLED) ## Measure how fast raybench is, against doing it by hand; ARGS='grid ranking' measures these two alone
	$(BIN)/python -m benchmarks $(ARGS)

lint: $(INSTALLED) ## Check style, types and import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(INSTALLED) ## Format the code and apply the fixes that are safe
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

wheel: $(INSTALLED) ## Build the wheel, install it with all it needs into an empty environment, run the quickstart from it
	bash tests/check_wheel.sh

wheel-quick: $(INSTALLED) ## The same with the packages that .venv already holds: no downloads
	bash tests/check_wheel.sh --borrow .venv

clean: ## Remove build products and caches; .venv and runs/ stay
	rm -rf build dist *.egg-info .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "raybench needs Python 3.11 or later; $(PYTHON) is '$$($(PYTHON) --version 2>&1)'." >&2; \
	  echo "Name another one, for instance: make PYTHON=python3.12 $(firstword $(MAKECMDGOALS))" >&2; exit 1; }
	@echo "Setting up .venv: torch and its CUDA libraries are about 7 GB on Linux, so the first time takes some minutes."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { \
	  echo "No environment could be made; on Debian and Ubuntu: apt install python3-venv" >&2; rm -rf .venv; exit 1; }
	$(BIN)/python -m pip install -e '.[dev]'
	@touch $@
