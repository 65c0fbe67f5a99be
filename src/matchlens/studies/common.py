"""What every study says about its pairs and where its numbers come from."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from matchlens._version import __version__
from matchlens.corpora import EASY_GRADE, Pair, PairSet
from matchlens.corpora.pairs import digest
from matchlens.ranking import Candidates, has_gain

VERSIONED = ("torch", "transformers", "tokenizers", "numpy", "ir_measures")
TIE_TOL: Mapping[str, float] = {
    "float64": 1e-9,
    "float32": 1e-5,
    "float16": 1e-2,
    "bfloat16": 5e-2,
}
"""Scores closer than this are tied, by the type of the weights (logits)."""


def identity(model: Mapping[str, object], pairs: PairSet) -> dict[str, object]:
    """Model, pairs and versions: what results must share to stand in one folder."""
    versions = {name: importlib.metadata.version(name) for name in VERSIONED}
    return {
        "model": dict(model),
        "pairs": {
            "sha256": digest(pairs.pairs),
            "number": len(pairs.pairs),
            "sampling": dict(pairs.sampling),
            "counts": dict(pairs.counts),
            "sources": [dict(source) for source in pairs.sources],
        },
        "versions": {
            "matchlens": __version__,
            "python": platform.python_version(),
            **versions,
        },
    }


def half(qid: str, seed: int) -> int:
    """Which half of the queries a query is in: 0 or 1, by a hash of its id and the seed.

    >>> sorted({half(str(qid), 0) for qid in range(20)})
    [0, 1]
    """
    return hashlib.sha256(f"{seed}\0{qid}".encode()).digest()[0] & 1


def half_of(pairs: PairSet, which: int, seed: int) -> PairSet:
    """The pairs of one half of the queries.

    Args:
        pairs: all pairs.
        which: 0 or 1.
        seed: of the halves.
    """
    mine = tuple(pair for pair in pairs.pairs if half(pair.qid, seed) == which)
    keys = {(pair.collection, pair.qid) for pair in mine}
    ideals = {key: grades for key, grades in pairs.ideals.items() if key in keys}
    return replace(pairs, pairs=mine, ideals=ideals)


def pair_table(
    pairs: Sequence[Pair],
    tokens: Int[np.ndarray, " pair"],
    truncated: Bool[np.ndarray, " pair"],
    seed: int,
) -> pd.DataFrame:
    """One row a pair: ids, grade, kind, tokens, truncated, half."""
    return pd.DataFrame(
        {
            "pair": np.arange(len(pairs)),
            "collection": [pair.collection for pair in pairs],
            "qid": [pair.qid for pair in pairs],
            "docid": [pair.docid for pair in pairs],
            "grade": [pair.grade for pair in pairs],
            "judged": [pair.judged for pair in pairs],
            "kind": [pair.kind for pair in pairs],
            "tokens": tokens,
            "truncated": truncated,
            "half": [half(pair.qid, seed) for pair in pairs],
        }
    )


def candidates(pairs: PairSet, *, rank_easy: bool = False) -> list[Candidates]:
    """The queries' candidates, as rows of the pairs, queries in order of first appearance.

    Args:
        pairs: the chosen pairs.
        rank_easy: whether easy negatives stand in the rankings.
    """
    rows: dict[tuple[str, str], list[int]] = {}
    for row, pair in enumerate(pairs.pairs):
        if rank_easy or pair.grade != EASY_GRADE:
            rows.setdefault((pair.collection, pair.qid), []).append(row)
    out = []
    for (collection, qid), places in rows.items():
        one = Candidates(
            collection=collection,
            qid=qid,
            rows=np.array(places, dtype=np.int64),
            grades=np.array([pairs.pairs[row].grade for row in places], dtype=np.int64),
            ideal=np.array(pairs.ideals[collection, qid], dtype=np.int64),
        )
        if has_gain(one):
            out.append(one)
    return out
