"""How far a condition moved the scores and the order of the candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from matchlens.ranking.ties import Candidates, Ranked, rank

BLOCK = 1 << 22  # pairs of candidates compared at once
TOP = 10  # depth of the overlap


@dataclass(frozen=True, eq=False)
class Shift:
    """What a condition changed against the original, one number for each query.

    Args:
        score_change: `[q]`, mean over candidates of score minus original score, logits.
        score_sd: `[q]`, standard deviation of that change over the candidates (divisor n), logits.
        tau_b: `[q]`, Kendall's tau-b of the two orders, -1 to 1; NaN where either is constant.
        overlap: `[q]`, expected share of the top ten that the two rankings have in common, 0 to 1.
    """

    score_change: Float[np.ndarray, " q"]
    score_sd: Float[np.ndarray, " q"]
    tau_b: Float[np.ndarray, " q"]
    overlap: Float[np.ndarray, " q"]


def shift(
    queries: Sequence[Candidates],
    scores: Float[np.ndarray, " n"],
    original: Float[np.ndarray, " n"],
    *,
    tie_tol: float = 1e-5,
) -> Shift:
    """Compare a condition's scores with the original ones, query by query.

    Both orders have the tie groups of section 3. The overlap is
    `sum_i P(i in top 10 of A) P(i in top 10 of B) / min(10, n)`, ties broken at random and
    independently; so a ranking whose tie straddles rank 10 overlaps itself by less than 1.

    Args:
        queries: the candidates of each query.
        scores: `[n]`, relevance logits under the condition.
        original: `[n]`, relevance logits of the untouched model.
        tie_tol: logits; neighbours closer than this are tied.

    Raises:
        InputError: a score is NaN or infinite, or the tolerance is negative.
        ValueError: a candidate's row is outside the scores.

    Source: Kendall 1945 (tau-b).

    >>> import numpy as np
    >>> grades = np.array([0, 3, 1])
    >>> query = Candidates("", "1", np.arange(3), grades, ideal=grades)
    >>> moved = shift([query], np.array([1.0, 3.0, 2.0]), np.array([0.0, 2.0, 4.0]))
    >>> moved.score_change, moved.overlap
    (array([0.]), array([1.]))
    >>> round(float(moved.tau_b[0]), 3)
    0.333
    """
    cut, untouched = rank(queries, scores, tie_tol), rank(queries, original, tie_tol)
    count = len(queries)
    lengths = np.array([len(query.rows) for query in queries], dtype=np.int64)
    rows = np.concatenate([query.rows for query in queries]) if count else np.zeros(0, np.int64)
    owner = cut.query

    def mean(x: Float[np.ndarray, " t"]) -> Float[np.ndarray, " q"]:
        return np.bincount(owner, weights=x, minlength=count) / lengths

    change = scores[rows].astype(np.float64) - original[rows].astype(np.float64)
    centre = mean(change)
    both = _in_top(cut) * _in_top(untouched)
    shared = np.bincount(owner, weights=both, minlength=count)

    a, b = cut.unranked(cut.group), untouched.unranked(untouched.group)
    ends = np.cumsum(lengths)
    tau = [
        _tau_b(a[end - length : end], b[end - length : end])
        for end, length in zip(ends, lengths, strict=True)
    ]
    return Shift(
        score_change=centre,
        score_sd=np.sqrt(mean((change - centre[owner]) ** 2)),
        tau_b=np.array(tau, dtype=np.float64),
        overlap=shared / np.minimum(TOP, lengths),
    )


def _in_top(ranked: Ranked) -> Float[np.ndarray, " t"]:
    """Probability of each candidate, in the queries' own order, of a place among the first ten."""
    share = np.clip((TOP - ranked.first) / ranked.size, 0, 1)
    return ranked.unranked(share[ranked.group])


def _tau_b(a: Int[np.ndarray, " n"], b: Int[np.ndarray, " n"]) -> float:
    """Kendall's tau-b of two rankings given by group numbers; NaN where one is constant."""
    agree = differ_a = differ_b = 0
    for start in range(0, len(a), step := max(1, BLOCK // len(a))):
        of_a = np.sign(a[start : start + step, None] - a)
        of_b = np.sign(b[start : start + step, None] - b)
        agree += int((of_a * of_b).sum())
        differ_a += int(np.count_nonzero(of_a))
        differ_b += int(np.count_nonzero(of_b))
    if not differ_a or not differ_b:
        return float("nan")
    return float(agree / np.sqrt(float(differ_a) * float(differ_b)))
