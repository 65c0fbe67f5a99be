# Each target sets up its own virtual environment in .venv and needs nothing else installed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOWEST := .venv-lowest
# The tests in which a library's version shows: its models, tables, figures, messages and files.
LOWEST_TESTS ?= tests/test_engine.py tests/test_decoders.py tests/test_deberta.py \
	tests/test_wrap.py tests/test_circuits_study.py tests/test_attention_study.py \
	tests/test_results.py tests/test_showing.py tests/test_figures.py \
	tests/test_ranking_measures.py tests/test_ranking_significance.py \
	tests/test_corpora_irds.py tests/test_cli.py tests/test_package.py

.PHONY: demo test test-lowest lint bench docs examples pictures release clean

demo: $(READY)
	$(BIN)/matchlens study --demo --quick --out out/demo
	@echo 'open out/demo/report.html'

test: $(READY)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# On the lowest versions that pyproject.toml allows; everything with LOWEST_TESTS=tests
test-lowest: $(LOWEST)/.ready
	$(LOWEST)/bin/python -m pytest --numprocesses 2 --dist loadfile $(LOWEST_TESTS)

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

# The examples in the docstrings, all of which run.
docs: $(READY)
	$(BIN)/python -m pytest --doctest-modules src/matchlens

# The scripts and notebooks of examples/; what they save goes to out/.
examples: $(READY)
	rm -rf out/examples
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/run_examples.py

# The same, and their figures become the pictures of the documentation.
pictures: $(READY)
	rm -rf out/examples
	PATH="$(CURDIR)/$(BIN):$$PATH" MATCHLENS_PICTURES=$(CURDIR)/docs/pictures \
	    $(BIN)/python tools/run_examples.py

# Wheel and sdist in dist/, checked in empty environments; nothing is published or tagged.
release: $(READY)
	$(BIN)/python tools/release.py $(VERSION)

clean:
	rm -rf $(VENV) $(LOWEST) out dist

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,dev]'
	touch $(READY)

$(LOWEST)/.ready: pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --upgrade pip
	$(LOWEST)/bin/python -m pip install --quiet --constraint constraints-lowest.txt --editable '.[demo,dev]'
	touch $(LOWEST)/.ready
