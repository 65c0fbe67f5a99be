# Each target sets up its own virtual environment in .venv and needs nothing else installed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint bench docs fuzz audit clean

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

# The examples in the docstrings, all of which run.
docs: $(READY)
	$(BIN)/python -m pytest --doctest-modules src/matchlens

# Files as strangers might write them, for SECONDS in all; the tests go through a few of each.
SECONDS ?= 600
FUZZ_TESTS := 9
fuzz: $(READY)
	MATCHLENS_FUZZ_SECONDS=$$(($(SECONDS) / $(FUZZ_TESTS))) $(BIN)/python -m pytest tests/test_fuzz.py

# The pinned versions against the public lists of vulnerabilities; says so where they are not reached.
audit:
	@$(PYTHON) -m venv $(VENV)-audit && $(VENV)-audit/bin/python -m pip install --quiet pip-audit \
		&& $(VENV)-audit/bin/pip-audit --disable-pip --no-deps --requirement constraints.txt \
		|| echo 'audit: not clean, or the lists of vulnerabilities could not be reached: see above'

clean:
	rm -rf $(VENV) $(VENV)-audit out dist

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,dev]'
	touch $(READY)
