PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: setup run test check fuzz mutants recall metamorphic bench zoo study study-docs docs clean

# How many random programs: make fuzz N=100000 GRAPHS=5000 START=0
N ?= 2000
GRAPHS ?= 100
START ?= 0
JOBS ?= 2

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
	$(BIN)/ruff check src tests trust benchmarks examples
	$(BIN)/ruff format --check src tests trust benchmarks examples
	$(BIN)/mypy

fuzz: setup
	$(BIN)/python -m trust.fuzz --operators $(N) --graphs $(GRAPHS) --start $(START) --jobs $(JOBS) --json out/fuzz.json

mutants: setup
	$(BIN)/python -m trust.mutate --jobs $(JOBS) --json out/mutants.json

recall: setup
	$(BIN)/python -m trust.recall --networks 2000 --start $(START) --json out/recall.json

metamorphic: setup
	$(BIN)/python -m trust.metamorphic --programs 1000 --start $(START) --json out/metamorphic.json

bench: setup
	$(BIN)/python benchmarks/fold.py --json benchmarks/results/fold.json --figure docs/bench.svg

zoo: setup
	$(PIP) -e '.[study,zoo]'
	$(PIP) --no-deps -r requirements/zoo-no-deps.txt
	$(BIN)/python benchmarks/zoo.py --json benchmarks/results/zoo.json
	$(BIN)/python benchmarks/readme.py

study: setup
	$(BIN)/flatconv study -o out/study --force

# The report of the last run becomes the one in docs/.
study-docs: setup
	mkdir -p docs/study
	rm -f docs/study/*.svg
	cp out/study/study.md out/study/study.json out/study/*.svg docs/study/
	$(BIN)/python benchmarks/answer.py

docs: setup
	$(BIN)/python benchmarks/readme.py
	$(BIN)/python -m trust.page

clean:
	rm -rf $(VENV) out build dist
