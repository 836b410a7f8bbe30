PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: setup run test check bench docs clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt requirements/no-deps.txt
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"flatconv needs Python 3.11 or newer, this is {v.major}.{v.minor}: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch numpy
	$(PIP) -e '.[images,dev,models,bench]'
	$(PIP) --no-deps -r requirements/no-deps.txt
	touch $(STAMP)

run: setup
	$(BIN)/flatconv fold flatconv.examples:image_vae --image examples/photo.png --measure --force -o out

test: setup
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/mypy

bench: setup
	$(BIN)/python benchmarks/fold.py --json benchmarks/results/fold.json --figure docs/bench.svg

docs: setup
	$(BIN)/python benchmarks/readme.py

clean:
	rm -rf $(VENV) out build dist
