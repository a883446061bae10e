# One short command for each job; they use the Python of the active environment.
# Set up: python3 -m venv .venv && .venv/bin/python -m pip install -e ".[dev]"
PYTHON ?= python

.PHONY: lint types tests docs benchmarks

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:
	$(PYTHON) -m mypy

tests:
	$(PYTHON) -m pytest

docs:
	$(PYTHON) -m sphinx -j auto -W --keep-going -b html docs docs/_build/html
	$(PYTHON) docs/check_site.py docs/_build/html

benchmarks:
	$(PYTHON) -m asv_bench.compare
