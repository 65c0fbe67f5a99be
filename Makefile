# Each target sets up its own virtual environment in .venv and needs nothing else installed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint bench docs docs-test clean

demo: $(READY)
	$(BIN)/matchlens study --demo --quick --out out/demo
	@echo 'open out/demo/report.html'

test: $(READY)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python benchmarks/prefix_sharing.py
	$(BIN)/python benchmarks/attention_meters.py
	$(BIN)/python benchmarks/qk_triplets.py
	$(BIN)/python benchmarks/families.py

# The site, in out/site/index.html: no network is needed to read it. Its links are followed, too.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	$(BIN)/python -m pytest tests/site_built.py

# The examples in the docstrings and the code blocks of README and the site, all of which run.
docs-test: $(READY)
	$(BIN)/python -m pytest --doctest-modules src/matchlens
	$(BIN)/python -m pytest --noconftest tests/site_pages.py

clean:
	rm -rf $(VENV) out dist

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,dev,docs]'
	touch $(READY)
