# Each target sets up its own virtual environment in .venv and needs nothing else installed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint bench bench-full bench-gpu docs fuzz audit kill-test ray-test big-test clean

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

# A fair cut of the comparisons, then docs/performance.md; bench-full takes hours, bench-gpu a GPU.
bench: $(READY)
	$(BIN)/python -m benchmarks --amount bench
	$(BIN)/python -m benchmarks.page out/bench/bench.json

bench-full: $(READY)
	$(BIN)/python -m benchmarks --amount full
	$(BIN)/python -m benchmarks.page out/bench/full.json
	$(BIN)/python benchmarks/families.py

bench-gpu: $(READY)
	$(BIN)/python -m benchmarks.gpu

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

# 200 runs killed at random moments, each gone on with to the same bytes.
kill-test: $(READY)
	MATCHLENS_KILLS=200 $(BIN)/python -m pytest -s tests/test_kill.py

# A Ray cluster of two nodes on this machine, one of which dies; then the pace of two workers.
ray-test: $(READY)
	MATCHLENS_RAY=1 $(BIN)/python -m pytest tests/test_ray.py
	$(BIN)/python benchmarks/ray_pace.py

# 100,000 pairs: flat memory, progress, a stop half way.
big-test: $(READY)
	$(BIN)/python benchmarks/many_pairs.py

clean:
	rm -rf $(VENV) $(VENV)-audit out dist

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,dev]'
	touch $(READY)
