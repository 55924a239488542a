# Every target makes .venv by itself, and again when pyproject.toml or constraints.txt have changed.
PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
# Waiting threads sleep after a tenth of a millisecond: busy ones slow everything down where programs share the cores.
export GOMP_SPINCOUNT ?= 10000

help:  ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: .venv/ready  ## Train on the embedded winds and write demo/ with its report
	$(BIN)/finegrid demo --out demo/

test: check  ## Every check of the project: linters, types, all tests but the long ones
	$(BIN)/python -m pytest -n $(WORKERS) -m "not long"

long: .venv/ready  ## The tests that train networks for long: further closed forms of every head
	$(BIN)/python -m pytest -n $(WORKERS) -m long

check: .venv/ready audit  ## Linters and types, and known vulnerabilities of the dependencies
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

audit: .venv/ready  ## Known vulnerabilities of the pinned dependencies, where their database can be reached
	@if $(BIN)/python -c "import urllib.request as u; u.urlopen('https://api.osv.dev/v1/vulns/PYSEC-2020-1', timeout=5)" \
		2>/dev/null; then \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check pip-audit && \
		$(BIN)/pip-audit --vulnerability-service osv --requirement constraints.txt --no-deps --disable-pip; \
	else echo "audit: api.osv.dev cannot be reached; known vulnerabilities were not looked up"; fi

docs: .venv/ready-docs  ## Build the documentation into site/
	$(BIN)/mkdocs build --strict

fuzz: .venv/ready  ## Read 200,000 damaged files and recipes
	$(BIN)/python -m finegrid.benchmark.fuzzing

bench: .venv/ready  ## Measure every figure that the project promises, into bench/
	$(BIN)/python -m finegrid.benchmark.bench --out bench/

clean:  ## Remove what the other targets made, .venv included
	rm -rf .venv site demo bench build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[all,test]"
	@touch $@

.venv/ready-docs: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	@touch $@

.PHONY: help demo test long check audit docs fuzz bench clean
