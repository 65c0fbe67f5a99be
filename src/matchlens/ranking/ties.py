"""Candidates ranked with tie groups: near-equal scores share places instead of a false order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

from matchlens.errors import InputError

WIDE = 10  # a group that spans more than this many tolerances is warned about


@dataclass(frozen=True, eq=False)
class Candidates:
    """The candidates of one query, to be ranked by a vector of scores.

    Args:
        collection: name of the collection that the query belongs to.
        qid: the query's id, unique inside its collection.
        rows: `[n]`, the place of each candidate in the score vector.
        grades: `[n]`, the relevance grade of each candidate; -1 marks an easy negative, which
            counts as 0.
        ideal: `[m]`, the grades that the ideal ranking, and the number of relevant passages, are
            made of: those of the candidates themselves, or of the full qrels.

    Raises:
        ValueError: there is no candidate, a row is negative or occurs twice, the lengths differ,
            or the ideal ranking lacks a relevant candidate.

    >>> import numpy as np
    >>> grades = np.array([0, 3, 1])
    >>> Candidates("dl19", "19335", rows=np.arange(3), grades=grades, ideal=grades).name
    'query 19335 of dl19'
    """

    collection: str
    qid: str
    rows: Int[np.ndarray, " n"]
    grades: Int[np.ndarray, " n"]
    ideal: Int[np.ndarray, " m"]

    def __post_init__(self) -> None:
        if not len(self.rows) or len(self.rows) != len(self.grades):
            raise ValueError(
                f"{self.name} has {len(self.rows)} rows and {len(self.grades)} grades; "
                "expected at least one candidate and a grade for each"
            )
        if self.rows.min() < 0 or len(np.unique(self.rows)) != len(self.rows):
            raise ValueError(f"{self.name} names a row below 0, or the same row twice")
        ideal = self.ideal[self.ideal > 0]
        for grade, count in zip(*np.unique(self.grades, return_counts=True), strict=True):
            if grade > 0 and np.count_nonzero(ideal == grade) < count:
                raise ValueError(
                    f"{self.name} has {count} candidates of grade {grade}, more than its ideal "
                    "ranking; expected the ideal to hold every relevant candidate"
                )

    @property
    def name(self) -> str:
        """How messages call the query."""
        return f"query {self.qid} of {self.collection}" if self.collection else f"query {self.qid}"

    def unretrieved(self) -> Int[np.ndarray, " k"]:
        """The positive grades of the ideal that no candidate accounts for."""
        top = int(max(self.ideal.max(initial=0), 0)) + 1
        counts = np.bincount(np.maximum(self.ideal, 0), minlength=top)
        counts = counts - np.bincount(np.maximum(self.grades, 0), minlength=top)
        counts[0] = 0
        return np.repeat(np.arange(top), counts)


def has_gain(candidates: Candidates) -> bool:
    """Whether any ranking of the query can earn something: a positive grade in its ideal.

    Queries without are left out of every mean, counted and reported by the caller.
    """
    return bool((candidates.ideal > 0).any())


@dataclass(frozen=True, eq=False)
class Ranked:
    """The candidates of all queries, one query after another, each in order of falling score.

    Args:
        query: `[t]`, number of the query.
        order: `[t]`, number of the candidate in the queries' candidates put end to end.
        place: `[t]`, rank inside the query, from 0.
        group: `[t]`, number of the tie group, counted through all queries.
        first: `[g]`, the place where each group begins.
        size: `[g]`, number of candidates in each group.
        wide_ties: number of queries with a group that spans more than 10 tolerances.
    """

    query: Int[np.ndarray, " t"]
    order: Int[np.ndarray, " t"]
    place: Int[np.ndarray, " t"]
    group: Int[np.ndarray, " t"]
    first: Int[np.ndarray, " g"]
    size: Int[np.ndarray, " g"]
    wide_ties: int

    def spread(self, x: Float[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
        """Each candidate's expected value at its place: the mean of `x` over its tie group."""
        # Every order inside a tie group is as likely, so a candidate's expected value is the mean.
        means = np.bincount(self.group, weights=x[self.order], minlength=len(self.size)) / self.size
        return means[self.group]

    def unranked(self, x: Shaped[np.ndarray, " t"]) -> Shaped[np.ndarray, " t"]:
        """Numbers in rank order, put back into the queries' own order."""
        back = np.empty_like(x)
        back[self.order] = x
        return back


def rank(
    queries: Sequence[Candidates], scores: Float[np.ndarray, " n"], tie_tol: float = 1e-5
) -> Ranked:
    """Rank every query's candidates by score and find the tie groups.

    Sorted neighbours whose scores are equal, or differ by less than `tie_tol`, share a group; a
    group may so grow beyond `tie_tol` link by link. Nothing is rounded, since rounding separates
    neighbours that straddle a boundary.

    Source: McSherry & Najork 2008.

    >>> import numpy as np
    >>> grades = np.array([0, 3, 1])
    >>> query = Candidates("", "1", np.arange(3), grades, ideal=grades)
    >>> rank([query], np.array([0.5, 2.0, 0.500004])).group
    array([0, 1, 1])
    """
    if not (math.isfinite(tie_tol) and tie_tol >= 0):
        raise InputError(
            f"tie_tol is {tie_tol}; expected a finite number of logits, at least 0: give the "
            "difference below which two scores are the same, e.g. 1e-5 for float32"
        )
    lengths = np.array([len(query.rows) for query in queries], dtype=np.int64)
    owner = np.repeat(np.arange(len(queries)), lengths)
    x = _scores_of(queries, scores)
    order = np.lexsort((-x, owner))
    x = x[order]

    start = np.cumsum(lengths) - lengths
    place = np.arange(len(x)) - np.repeat(start, lengths)
    gap = np.zeros(len(x))
    gap[1:] = x[:-1] - x[1:]
    # A group is opened by a gap, not by a grid of rounded scores, which would separate .49999 from
    # .50001. The price is that a chain may grow wide; it is counted, and the result says so.
    opens = (place == 0) | ((gap > 0) & (gap >= tie_tol))
    group = np.cumsum(opens) - 1
    begin = np.flatnonzero(opens)
    size = np.diff(np.append(begin, len(x)))
    wide = x[begin] - x[begin + size - 1] > WIDE * tie_tol
    return Ranked(
        query=owner,
        order=order,
        place=place,
        group=group,
        first=place[begin],
        size=size,
        wide_ties=len(np.unique(owner[begin][wide])),
    )


def _scores_of(
    queries: Sequence[Candidates], scores: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " t"]:
    """The scores of the candidates, end to end, in float64; all of them finite."""
    for query in queries:
        if query.rows.max() >= len(scores):
            raise ValueError(
                f"{query.name} names row {query.rows.max()} of a vector of {len(scores)} scores"
            )
    if not queries:
        return np.zeros(0)
    each = [scores[query.rows].astype(np.float64) for query in queries]
    bad = [int(np.count_nonzero(~np.isfinite(x))) for x in each]
    if any(bad):
        at = int(np.flatnonzero(bad)[0])
        others = sum(count > 0 for count in bad) - 1
        raise InputError(
            f"{bad[at]} of the {len(each[at])} scores of {queries[at].name} are NaN or infinite"
            + (f" (and scores of {others} more queries)" if others else "")
            + "; expected finite logits: score again, in float32 if another precision was used"
        )
    return np.concatenate(each)
