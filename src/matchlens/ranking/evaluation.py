"""The value of a measure for every query, in expectation over the orders inside tie groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from matchlens.ranking.measures import Measure
from matchlens.ranking.orders import by_orders
from matchlens.ranking.ties import Candidates, Ranked, rank

SAME = 1e-12  # values of a measure closer than this differ by rounding alone


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A measure's values, one a query.

    Args:
        values: `[q]`, expected value over the orders inside tie groups, in the measure's units.
        stderr: `[q]`, standard error of an estimated value; 0 where the value is exact.
        estimated: whether any query's value was estimated by permutations.
        wide_ties: number of queries with a tie group that spans more than 10 tolerances.
    """

    values: Float[np.ndarray, " q"]
    stderr: Float[np.ndarray, " q"]
    estimated: bool
    wide_ties: int


def evaluate(
    measure: Measure,
    queries: Sequence[Candidates],
    scores: Float[np.ndarray, " n"],
    *,
    tie_tol: float = 1e-5,
    seed: int = 0,
) -> Evaluation:
    """Evaluate the ranking that the scores give to every query's candidates.

    Measures linear in position (nDCG, DCG, P, R, Rprec, RBP) are exact: each place of a tie group
    earns the group's mean gain. The others are evaluated by ir_measures on distinct scores;
    where candidates of different grade tie, on 1,000 seeded permutations inside the groups, which
    depend on the seed and the query only.

    Args:
        measure: what to compute.
        queries: the candidates of each query.
        scores: `[n]`, relevance logits of all pairs.
        tie_tol: logits; neighbours closer than this are tied.
        seed: of the permutations.

    Raises:
        InputError: a score is NaN or infinite, an option is out of range, or ERR meets a grade
            above 4.
        ValueError: a candidate's row is outside the scores.

    Source: McSherry & Najork 2008.

    >>> import numpy as np
    >>> from matchlens.ranking import parse_measure
    >>> grades = np.array([0, 3])
    >>> query = Candidates("", "1", np.arange(2), grades, ideal=grades)
    >>> evaluate(parse_measure("P@1"), [query], np.array([0.7, 0.7])).values
    array([0.5])
    """
    ranked = rank(queries, scores, tie_tol)
    if measure.linear:
        values = _linear(measure, queries, ranked)
        return Evaluation(values, np.zeros(len(queries)), False, ranked.wide_ties)
    values, stderr, estimated = by_orders(measure, queries, ranked, seed)
    return Evaluation(values, stderr, estimated, ranked.wide_ties)


def random_expectation(
    measure: Measure, queries: Sequence[Candidates], *, seed: int = 0
) -> Evaluation:
    """Evaluate the random ranking: all candidates of a query are one tie group."""
    rows = max((int(query.rows.max()) + 1 for query in queries), default=0)
    scores = np.zeros(rows)
    return evaluate(measure, queries, scores, tie_tol=0.0, seed=seed)


def movable(measure: Measure, queries: Sequence[Candidates]) -> Bool[np.ndarray, " q"]:
    """Whether the order of a query's candidates can change the measure at all.

    The candidates are ranked best first and worst first, by gain. Where both orders have one value
    every order has it, so that no cut could lower it and no test could show damage: binary measures
    without a relevant or without a non-relevant candidate, graded ones where all gains are equal,
    cutoffs that all candidates fit into where the measure ignores the order above the cutoff.

    Returns:
        `[q]`, True where some order differs from another.

    >>> import numpy as np
    >>> from matchlens.ranking import parse_measure
    >>> grades = np.array([0, 1])
    >>> query = Candidates("", "1", np.arange(2), grades, ideal=grades)
    >>> [bool(movable(parse_measure(text), [query])[0]) for text in ("nDCG@10", "RR@10", "P@10")]
    [True, False, False]
    """
    rows = max((int(query.rows.max()) + 1 for query in queries), default=0)
    best = np.zeros(rows)
    for query in queries:
        best[query.rows] = measure.gains(query.grades)
    top, bottom = (evaluate(measure, queries, x, tie_tol=0.0).values for x in (best, -best))
    return np.abs(top - bottom) > SAME


def _linear(
    measure: Measure, queries: Sequence[Candidates], ranked: Ranked
) -> Float[np.ndarray, " q"]:
    """Sum over places of expected gain times the place's weight, normalised by query."""
    count = len(queries)
    if not count:
        return np.zeros(0)
    ideal = measure.gains(np.concatenate([query.ideal for query in queries]))
    owner = np.repeat(np.arange(count), [len(query.ideal) for query in queries])
    relevant = np.bincount(owner, weights=ideal > 0, minlength=count)

    gains = ranked.spread(measure.gains(np.concatenate([query.grades for query in queries])))
    limit = relevant[ranked.query] if measure.name == "Rprec" else measure.cutoff
    weights = _weights(measure, ranked.place, limit)
    totals = np.bincount(ranked.query, weights=gains * weights, minlength=count)
    if measure.name in ("R", "Rprec"):
        norm = relevant
    elif measure.name == "P":
        norm = np.full(count, float(measure.cutoff or 1))
    elif measure.name == "nDCG":
        ideal = ideal[np.lexsort((-ideal, owner))]
        first = np.cumsum(np.bincount(owner, minlength=count)) - np.bincount(owner, minlength=count)
        place = np.arange(len(owner)) - first[owner]
        weights = _weights(measure, place, measure.cutoff)
        norm = np.bincount(owner, weights=ideal * weights, minlength=count)
    else:
        norm = np.ones(count)
    return np.divide(totals, norm, out=np.zeros(count), where=norm > 0)


def _weights(
    measure: Measure, place: Int[np.ndarray, " t"], limit: int | Float[np.ndarray, " t"] | None
) -> Float[np.ndarray, " t"]:
    """What a gain at each place (from 0) counts."""
    if measure.name in ("nDCG", "DCG"):
        weights = 1 / np.log2(place + 2)
    elif measure.name == "RBP":
        p = measure.option("p", 0.8)
        weights = (1 - p) * p ** place.astype(np.float64)
    else:
        weights = np.ones(len(place))
    return weights if limit is None else np.where(place < limit, weights, 0)
