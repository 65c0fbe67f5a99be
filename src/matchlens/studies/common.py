"""What every study records of its pairs and its run."""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
import os
import platform
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from matchlens._version import __version__
from matchlens.corpora import EASY_GRADE, Pair, PairSet
from matchlens.corpora.pair import digest
from matchlens.errors import InputError
from matchlens.plan import Condition
from matchlens.ranking import Candidates, Measure, has_gain, movable, parse_measure

if TYPE_CHECKING:
    from matchlens.engine import Progress, Run
    from matchlens.models.load import Reranker
    from matchlens.runners import MeasurementRequest, Runner

VERSIONED = ("torch", "transformers", "tokenizers", "numpy", "ir_measures")
TIE_TOL: Mapping[str, float] = {"float64": 1e-9, "float32": 1e-5, "float16": 1e-2, "bfloat16": 5e-2}
"""Scores closer than this are tied, by the type of the weights (logits)."""


@dataclass(frozen=True)
class Execution:
    """How a study's pairs are run."""

    model: Reranker  # a loaded reranker
    batch_tokens: int | None = None  # most places of one layer call
    progress: Progress | None = None  # called with pairs done and pairs in all
    runner: Runner | None = None  # runs the pairs; this process where None

    def temporary_folder(self) -> tempfile.TemporaryDirectory[str]:
        """A folder for what is needed only until results are saved."""
        scratch = None if self.runner is None else self.runner.scratch
        return tempfile.TemporaryDirectory(
            prefix="matchlens-", dir=scratch, ignore_cleanup_errors=True
        )

    def __call__(
        self,
        pairs: Sequence[Pair],
        conditions: Mapping[str, Condition] | None = None,
        *,
        seed: int = 0,
        asked: Sequence[MeasurementRequest] = (),
    ) -> Run:
        """Score pairs under conditions, the untouched model alone where None."""
        from matchlens.runners import run

        return (self.runner or run)(
            self.model,
            pairs,
            {"": []} if conditions is None else conditions,
            seed=seed,
            batch_tokens=self.batch_tokens,
            progress=self.progress,
            asked=asked,
        )


def identity(model: Mapping[str, object], pairs: PairSet) -> dict[str, object]:
    """Model, pairs and versions: what results must share to stand in one folder."""
    return {
        "model": dict(model),
        "pairs": {
            "sha256": digest(pairs.pairs),
            "number": len(pairs.pairs),
            "sampling": dict(pairs.sampling),
            "counts": dict(pairs.counts),
            "sources": [dict(source) for source in pairs.sources],
        },
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """The versions of matchlens, Python and the libraries that numbers depend on."""
    libraries = {name: importlib.metadata.version(name) for name in VERSIONED}
    return {"matchlens": __version__, "python": platform.python_version(), **libraries}


def run_options(model: Reranker, out: Run) -> dict[str, object]:
    """What the manifest records of the model and the run."""
    return {
        "layers": model.family.n_layers,
        "heads": model.family.n_heads,
        "device": out.device,
        "batches": {"batch_tokens": out.batch_tokens, "number": len(out.batches)},
        "check": dict(model.checks),
    }


def truncation_note(out: Run) -> list[str]:
    """The note on pairs that were cut to the length limit."""
    short = int(out.truncated.sum())
    return [f"{short} of {len(out.truncated)} pairs were cut to the length limit"] if short else []


def own_notes(out: Run, pairs: int) -> list[str]:
    """The notes on user-defined parts that have no token in some pairs."""
    return [
        f"part {name} has no token in {pairs - there} of {pairs} pairs"
        for name, there in out.own.items()
        if there < pairs
    ]


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """The part divided by the whole, element by element; NaN where the whole is not above 0."""
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


@contextmanager
def on_disk(what: str, folder: Path, shapes: Iterable[tuple[int, ...]]) -> Iterator[None]:
    """A full disk as one line that says how much float32 arrays of these shapes need."""
    try:
        yield
    except OSError as error:
        needed = sum(math.prod(shape) for shape in shapes) * 4 / 2**20
        temporary = folder.parent == Path(tempfile.gettempdir())  # else beside the results
        where = "set TMPDIR to a folder with room" if temporary else "make room there"
        raise InputError(
            f"{what} cannot be kept in {os.path.realpath(folder)!r} ({error.strerror or error}); "
            f"they need {needed:.0f} MiB there: {where}"
        ) from None


def tolerance(tie_tol: float | None, dtype: str) -> float:
    """Scores closer than this (logits) are tied; by the type of the weights where None."""
    tol = TIE_TOL[dtype] if tie_tol is None else tie_tol
    if not 0 <= tol < float("inf"):
        raise InputError(f"tie_tol is {tol}; expected 0 or more logits")
    return tol


def half(qid: str, seed: int) -> int:
    """Which half of the queries a query is in: 0 or 1, by a hash of its id and the seed.

    >>> sorted({half(str(qid), 0) for qid in range(20)})
    [0, 1]
    """
    # By the id alone, so that a query stays in its half when others are added or left out.
    return hashlib.sha256(f"{seed}\0{qid}".encode()).digest()[0] & 1


def half_of(pairs: PairSet, which: int, seed: int) -> PairSet:
    """The pairs of one half of the queries."""
    kept = tuple(pair for pair in pairs.pairs if half(pair.qid, seed) == which)
    keys = {(pair.collection, pair.qid) for pair in kept}
    ideals = {key: grades for key, grades in pairs.ideals.items() if key in keys}
    return replace(pairs, pairs=kept, ideals=ideals)


def pair_key(pair: Pair) -> tuple[str, str, str]:
    """What names a pair among all pairs of a study."""
    return pair.collection, pair.qid, pair.docid


def pair_table(
    pairs: Sequence[Pair],
    tokens: Int[np.ndarray, " pair"],
    truncated: Bool[np.ndarray, " pair"],
    seed: int,
) -> pd.DataFrame:
    """One row for each pair: ids, grade, kind, tokens, truncated, half."""
    names = ("collection", "qid", "docid", "grade", "judged", "kind")
    table = pd.DataFrame({name: [getattr(pair, name) for pair in pairs] for name in names})
    table.insert(0, "pair", np.arange(len(pairs)))
    halves = [half(pair.qid, seed) for pair in pairs]
    return table.assign(tokens=tokens, truncated=truncated, half=halves)


def candidates(pairs: PairSet, *, rank_easy: bool = False) -> list[Candidates]:
    """The queries' candidates, as rows of the pairs, queries in order of first appearance."""
    rows: dict[tuple[str, str], list[int]] = {}
    for row, pair in enumerate(pairs.pairs):
        if rank_easy or pair.grade != EASY_GRADE:
            rows.setdefault((pair.collection, pair.qid), []).append(row)
    grades = np.array([pair.grade for pair in pairs.pairs], dtype=np.int64)
    queries = (
        Candidates(*key, np.array(at, np.int64), grades[at], np.array(pairs.ideals[key], np.int64))
        for key, at in rows.items()
    )
    return [query for query in queries if has_gain(query)]


RELEVANT = 2
"""Lowest relevant grade of graded judgements (TREC DL); 1 where no judgement reaches it."""


def relevant_grade(pairs: PairSet, rel: int | None = None) -> int:
    """The lowest grade that counts as relevant, for measures and contrasts alike.

    Source: science 3.

    >>> from matchlens.corpora import choose, demo
    >>> relevant_grade(choose(demo.load()))
    2
    """
    top = max((grade for grades in pairs.ideals.values() for grade in grades), default=0)
    top = max([top, *(pair.grade for pair in pairs.pairs)])
    if rel is None:
        return RELEVANT if top >= RELEVANT else 1
    if rel > top >= 1:
        raise InputError(
            f"rel is {rel} and the highest grade of these judgements is {top}, so that no passage "
            f"would be relevant; give a grade of 1 to {top} (--rel {top})"
        )
    return rel


def ranked(
    pairs: PairSet, measure: str, rel: int, *, rank_easy: bool = False
) -> tuple[Measure, list[Candidates], tuple[str, ...]]:
    """The measure, the queries whose ranking can move it, and notes on the others.

    A query whose candidates give one value in every order shows neither damage nor its absence.

    Source: science 3, "Ideal" and "Measures that cannot move".

    >>> from matchlens.corpora import choose, demo
    >>> measure, queries, notes = ranked(choose(demo.load()), "P@5", 2)
    >>> str(measure), len(queries), notes
    ('P(rel=2)@5', 32, ())
    """
    parsed = parse_measure(measure, rel=rel)
    queries = candidates(pairs, rank_easy=rank_easy)
    if not queries:
        raise InputError(
            "no query has a candidate with a grade above 0, so that nothing can be ranked; choose "
            "queries with relevant passages"
        )
    moves = movable(parsed, queries)
    if not moves.any():
        written = parsed.rel == parse_measure(measure, rel=rel + 1).rel
        raise InputError(_cannot_move(parsed, queries, pairs.pairs, written))
    kept = [query for query, can in zip(queries, moves, strict=True) if can]
    every = len({(pair.collection, pair.qid) for pair in pairs.pairs})
    whys = {
        "no candidate of theirs has a grade above 0": every - len(queries),
        f"every order of their candidates has the same {parsed}, so that no cut could change it": (
            len(queries) - len(kept)
        ),
    }
    notes = (
        f"{left} of {every} queries were left out: {why}" for why, left in whys.items() if left
    )
    return parsed, kept, tuple(notes)


def _cannot_move(
    measure: Measure, queries: Sequence[Candidates], pairs: Sequence[Pair], written: bool
) -> str:
    """Why no order of any query's candidates changes a measure, and what to do.

    Where the relevant grade is written in the measure, --rel does not change it.
    """
    gains = [measure.gains(query.grades) for query in queries]
    top = max(int(query.grades.max()) for query in queries)
    rel = measure.rel
    at = f"write rel={top} in the measure" if written else f"--rel {top}"
    if not any(pair.judged for pair in pairs):
        why = (
            f"no candidate is judged, such as {pairs[0].docid!r:.60} of query {pairs[0].qid!r:.60}"
        )
        remedy = "write the ids of passages alike in candidates and judgements, or " + _MORE
    elif all((gain <= 0).all() for gain in gains):
        why = f"no candidate has grade {rel} or more" if rel else "no candidate has a gain"
        remedy = f"lower the relevant grade ({at})" if rel and top >= 1 else _MORE
    elif all((gain == gain[0]).all() for gain in gains):
        same = f"grade {rel} or more" if rel else "the same grade"
        why = f"all candidates of a query have {same}"
        higher = rel is not None and any((query.grades < top).any() for query in queries)
        remedy = f"raise the relevant grade ({at}), or {_MORE}" if higher else _MORE
    else:
        why, longest = "it ignores the order of the candidates", max(map(len, gains))
        if measure.cutoff:
            why = f"every order has the same value of the first {measure.cutoff}"
            if longest <= measure.cutoff:
                why = f"every query has at most {measure.cutoff} candidates"
        remedy = "take a measure that weighs ranks, such as nDCG@10"
    return (
        f"{measure} has one value for every order of the candidates ({why}), so that no cut could "
        f"change it; {remedy}"
    )


_MORE = (
    "rank other passages beside these: the top of a run (--run FILE --depth 100), or judged "
    "passages of another grade"
)
