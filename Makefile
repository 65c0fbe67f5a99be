# Each target sets up its own virtual environment in .venv and needs nothing else installed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint bench docs kill-test ray-test big-test clean

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
	rm -rf $(VENV) out dist

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,dev]'
	touch $(READY)
