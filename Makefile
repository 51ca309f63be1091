# `make demo` and `make test` need Python 3.10 to 3.13 and nothing else: they make .venv and install into it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DONE := $(VENV)/.installed
# Some of the tested set is not made for Python 3.10.
TESTED = $$($(BIN)/python -c 'import sys; print("-c constraints.txt" if sys.version_info >= (3, 11) else "")')

.PHONY: demo test lint setup clean

demo: $(DONE)  ## draw a data set, train D-FINE-N on it, evaluate, leave pictures in demo/
	$(BIN)/dfine demo --out demo

test: $(DONE)  ## lint, types and all tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell dfine_cli recipes examples tests README.md CHANGELOG.md
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --durations 15

lint: $(DONE)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy

setup: $(DONE)

# torch goes first: a requirement that any other package has on it is then met, and no second build arrives.
$(DONE): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q $(TESTED) torch
	$(BIN)/python -m pip install -q $(TESTED) -e ".[dev]"
	touch $(DONE)

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache
