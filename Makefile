# Two commands: `make demo` and `make test`. Both set up .venv on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SEED ?= 0
DEMO ?= demo
# One thread per process: intra-op threads on shared cores cost more than they bring.
export OMP_NUM_THREADS := 1
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: demo test setup lint types tests slow clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[train,events,aedat,aria,chronos,ego4d,hub,dev]'
	touch $@

demo: setup
	$(BIN)/egotriad demo --out $(DEMO) --seed $(SEED)

test: lint types tests

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell README.md docs src tests benchmarks

types: setup
	$(BIN)/mypy

tests: setup
	$(BIN)/pytest -q

slow: setup
	$(BIN)/pytest -q -m slow

clean:
	rm -rf $(DEMO) build dist .mypy_cache .ruff_cache .pytest_cache
