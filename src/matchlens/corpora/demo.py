"""The demo collection: small, graded, and made so that it is known how each passage matches."""

from __future__ import annotations

import atexit
from contextlib import ExitStack
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path

from . import trec
from .collection import Collection

_unpacked = ExitStack()
atexit.register(_unpacked.close)


def load() -> Collection:
    """The collection that comes with the package: 32 queries with 12 passages each, grades 0 to 3.

    `kinds` says how a passage matches: "exact" (every content word of the query), "paraphrase"
    (none), "partial", "trap" (the words without an answer) or "topic"; DATACARD.md says more.

    >>> collection = load()
    >>> sorted(set(collection.kinds.values()))
    ['exact', 'paraphrase', 'partial', 'topic', 'trap']
    """
    collection = trec.load(
        _file("topics.tsv"), _file("qrels.tsv"), [_file("passages.jsonl")], name="demo"
    )
    return replace(collection, source={**collection.source, "dataset": "matchlens demo"})


def _file(name: str) -> Path:
    """A data file as a path, unpacked until the program ends where the package is an archive."""
    resource = files("matchlens.corpora").joinpath("demo_data").joinpath(name)
    return _unpacked.enter_context(as_file(resource))
