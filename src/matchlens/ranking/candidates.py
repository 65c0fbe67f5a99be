"""The candidates of one query: where their scores stand, how relevant they are, what is ideal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int


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
