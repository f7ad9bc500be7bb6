# make demo   the whole main job, end to end, in a fresh workspace
# make test   the tests
# make check  format, lint, types, import rules
# On a machine with a GPU: make demo TORCH=torch   (takes the build that the package index has for it)

PYTHON ?= python3
TORCH  ?= --constraint constraints.txt torch
BIN    := .venv/bin

.PHONY: demo test check setup clean
demo: setup
	$(BIN)/kt demo

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("kt needs Python 3.11 or later: make PYTHON=python3.11") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch .venv/ready

clean:
	rm -rf .venv build dist *.egg-info
