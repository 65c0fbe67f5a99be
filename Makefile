# Each target sets up its own virtual environment in .venv and needs nothing else installed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOWEST := .venv-lowest
# The tests in which a library's version shows: its models, tables, figures, messages and files.
LOWEST_TESTS ?= tests/test_engine.py tests/test_decoders.py tests/test_deberta.py \
	tests/test_wrap.py tests/test_circuits_study.py tests/test_attention_study.py tests/test_matching.py \
	tests/test_results.py tests/test_showing.py tests/test_figures.py \
	tests/test_ranking_measures.py tests/test_ranking_significance.py \
	tests/test_corpora_irds.py tests/test_cli.py tests/test_package.py

# Compiled files are kept, whatever the environment says: each test process would compile all source
# again, with its checks of types.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-all test-lowest lint bench bench-full bench-gpu docs docs-test examples pictures release
.PHONY: golden fuzz audit kill-test ray-test big-test clean

demo: $(READY)
	$(BIN)/matchlens study --demo --quick --out out/demo
	@echo 'open out/demo/report.html'

# Minutes; test-all adds the tests that take long (random models, kills, every setting of a family).
test: $(READY)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -m 'not slow'

test-all: $(READY)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# On the lowest versions that pyproject.toml allows, without the slow ones; more by LOWEST_TESTS=tests
test-lowest: $(LOWEST)/.ready
	$(LOWEST)/bin/python -m pytest --numprocesses 2 --dist loadfile -m 'not slow' $(LOWEST_TESTS)

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

# The site, in out/site/index.html: no network is needed to read it. Its links are followed, too.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	$(BIN)/python -m pytest tests/site_built.py

# What a change of structure must not move: BASE and the working tree, every study, side by side.
BASE ?= HEAD
golden: $(READY)
	rm -rf out/golden && git worktree prune && git worktree add --detach out/golden/base $(BASE)
	PYTHONPATH=out/golden/base/src $(BIN)/python tests/golden.py record out/golden/old
	PYTHONPATH=src $(BIN)/python tests/golden.py record out/golden/new
	git worktree remove --force out/golden/base
	$(BIN)/python tests/golden.py compare out/golden/old out/golden/new

# The examples in the docstrings and the code blocks of README and the site, all of which run.
docs-test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --doctest-modules src/matchlens
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --noconftest tests/site_pages.py

# Files as strangers might write them, for SECONDS in all; other examples of every test that draws
# them; random model settings, by number. The default suite tries fewer, and always the same.
SECONDS ?= 600
COMBINATIONS ?= 5000
fuzz: $(READY)
	MATCHLENS_FUZZ_SECONDS=$(SECONDS) $(BIN)/python -m pytest -s tests/test_fuzz.py
	MATCHLENS_FUZZ_SECONDS=1 $(BIN)/python -m pytest -m hypothesis
	MATCHLENS_FUZZ_COMBINATIONS=$(COMBINATIONS) $(BIN)/python -m pytest -s tests/test_fuzz_models.py

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
	$(BIN)/python benchmarks/ray_pace.py --many 20000

# 100,000 pairs: flat memory, progress, a stop half way.
big-test: $(READY)
	$(BIN)/python benchmarks/many_pairs.py

# The scripts and notebooks of examples/; what they save goes to out/.
examples: $(READY)
	rm -rf out/examples
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/run_examples.py

# The same, and their figures become the pictures of the documentation.
pictures: $(READY)
	rm -rf out/examples
	PATH="$(CURDIR)/$(BIN):$$PATH" MATCHLENS_PICTURES=$(CURDIR)/docs/pictures \
	    $(BIN)/python tools/run_examples.py
	$(BIN)/python docs/record_live.py

# Wheel and sdist in dist/, checked in empty environments; nothing is published or tagged.
release: $(READY)
	$(BIN)/python tools/release.py $(VERSION)

clean:
	rm -rf $(VENV) $(VENV)-audit $(LOWEST) out dist

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,dev,docs]'
	touch $(READY)

$(LOWEST)/.ready: pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --upgrade pip
	$(LOWEST)/bin/python -m pip install --quiet --constraint constraints-lowest.txt --editable '.[demo,dev]'
	touch $(LOWEST)/.ready
