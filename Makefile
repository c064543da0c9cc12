# Everything starts here: `make demo` and `make test` set up what they need. PYTHON names the interpreter to use.
PYTHON ?= python3
BIN := .venv/bin
PACKAGES := client common server simulations
TYPES := build/types/prostafed
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: setup demo test test-all lint types fmt bench gpu-check docs clean

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; name one: make setup PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

demo: setup
	$(BIN)/prostafed-sim demo

# A file stays on one worker, which makes what its tests share once.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

test: setup
	$(PYTEST)

test-all: setup
	$(PYTEST) -m 'not gpu'

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	@mkdir -p $(TYPES) && for package in $(PACKAGES); do ln -sfn $(CURDIR)/$$package $(TYPES)/$$package; done
	MYPYPATH=build/types $(BIN)/mypy -p prostafed

fmt: setup
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format .

bench: setup
	@for benchmark in $(filter-out tests/benchmarks/test_%,$(wildcard tests/benchmarks/[a-z]*.py)); do $(BIN)/python $$benchmark || exit 1; done

# On a bare machine: torch, numpy, scipy and MONAI are enough, and no setup is made.
gpu-check:
	$(PYTHON) tests/gpu/check.py

docs: setup
	$(BIN)/python -m prostafed.simulations.reference.pages docs

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
