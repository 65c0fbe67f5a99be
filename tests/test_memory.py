"""Memory: what is streamed is not held, and a large collection takes no more than its parts."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import matchlens
from matchlens.cli.scoring import read_pairs
from matchlens.corpora.formats import stream
from matchlens.errors import InputError

MIB = 2**20
QUERIES = 100_000


@contextmanager
def within(mib: float) -> Iterator[None]:
    """At no moment more memory of Python's than that."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1] / MIB
    finally:
        tracemalloc.stop()
    assert peak < mib, f"{peak:.1f} MiB"


def write_lines(path: Path, lines: Iterator[str]) -> Path:
    text = "".join(lines).encode()
    path.write_bytes(gzip.compress(text, compresslevel=1) if path.suffix == ".gz" else text)
    return path


LOAD = """
import resource, sys
from matchlens.corpora import choose, trec
def used():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = used()
held = trec.load(*sys.argv[1:])
assert len(choose(held, queries=5).pairs) == 5
print(len(held.queries), used() - before)
"""


def test_a_hundred_thousand_queries(tmp_path):
    """In a process of its own: as a person has it, without the tests' own checks of types."""
    topics = write_lines(tmp_path / "t.tsv", (f"q{n}\tword{n}\n" for n in range(QUERIES)))
    qrels = write_lines(tmp_path / "q", (f"q{n} 0 d{n % 50} 2\n" for n in range(QUERIES)))
    passages = write_lines(tmp_path / "p.tsv", (f"d{n}\ttext {n}\n" for n in range(50)))
    command = [sys.executable, "-c", LOAD, str(topics), str(qrels), str(passages)]
    env = {**os.environ, "PYTHONPATH": str(Path(matchlens.__file__).parents[1])}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    queries, mib = done.stdout.split()
    assert int(queries) == QUERIES
    assert float(mib) < 120  # 1.2 kB a query and its judgement


@pytest.mark.parametrize("name", ["p.jsonl", "p.jsonl.gz", "p.tsv"])
def test_passages_of_a_megabyte_are_streamed(name, tmp_path):
    text = "x" * MIB

    def lines() -> Iterator[str]:
        for n in range(20):
            if name.endswith("tsv"):
                yield f"d{n}\t{text}\n"
            else:
                yield json.dumps({"docid": f"d{n}", "text": text}) + "\n"

    path = write_lines(tmp_path / name, lines())
    if name.endswith(".gz"):  # twenty megabytes of one letter are no text: the limit holds
        with pytest.raises(InputError, match="unpacks to more than"):
            sum(len(one.text) for one in stream(path))
        with pytest.MonkeyPatch.context() as patch, within(12):
            patch.setenv("MATCHLENS_MAX_UNPACKED", str(30 * MIB))
            assert sum(len(one.text) for one in stream(path)) == 20 * MIB
        return
    with within(12):
        assert sum(len(one.text) for one in stream(path)) == 20 * MIB


def test_pairs_to_score_are_streamed(tmp_path):
    row = json.dumps({"query": "a", "text": "x" * MIB}) + "\n"
    path = write_lines(tmp_path / "pairs.jsonl", (row for _ in range(20)))
    with within(12):
        assert sum(len(pair.text) for pair in read_pairs(str(path))) == 20 * MIB


def test_a_line_without_an_end_is_not_held(tmp_path):
    bomb = gzip.compress(b"x" * (100 * MIB), compresslevel=1, mtime=0)
    (tmp_path / "p.jsonl.gz").write_bytes(bomb)
    with within(160), pytest.raises(InputError, match="line 1: the line is longer than"):
        next(stream(tmp_path / "p.jsonl.gz"))
