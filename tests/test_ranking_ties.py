"""Candidates and tie groups."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matchlens.errors import InputError
from matchlens.ranking import Candidates, evaluate, has_gain, parse_measure, shift
from matchlens.ranking.ties import rank


def one(grades, ideal=None, rows=None, qid="1"):
    grades = np.array(grades)
    ideal = grades if ideal is None else np.array(ideal, dtype=np.int64)
    rows = np.arange(len(grades)) if rows is None else np.array(rows)
    return Candidates("dl19", qid, rows, grades, ideal)


def groups(scores, tie_tol=1e-5):
    """Sizes of the tie groups, best first."""
    scores = np.asarray(scores, dtype=np.float64)
    return rank([one([0] * len(scores))], scores, tie_tol).size.tolist()


def test_a_group_straddles_what_rounding_would_separate():
    low, high = 0.1234549, 0.1234551
    assert round(low, 5) != round(high, 5)
    assert groups([low, high, 0.2]) == [1, 2]
    found = evaluate(parse_measure("P(rel=1)@1"), [one([0, 1])], np.array([high, low]))
    assert found.values.tolist() == [0.5]


def test_neighbours_further_apart_than_the_tolerance_are_not_tied():
    assert groups([1.0, 0.5, 0.25], tie_tol=0.5) == [1, 2]
    assert groups([1.0, 0.5, 0.25], tie_tol=0.51) == [3]


def test_groups_grow_link_by_link():
    assert groups([0.0, 0.9e-5, 1.8e-5, 3e-5]) == [1, 3]


def test_a_tolerance_of_zero_ties_equal_scores_only():
    assert groups([1.0, 1.0, 1.0 - 1e-15, 0.0], tie_tol=0.0) == [2, 1, 1]


def test_scores_in_single_precision_tie_as_in_double():
    scores = np.array([0.3, 0.3 + 2e-6, 0.31], dtype=np.float32)
    assert rank([one([0, 0, 0])], scores).size.tolist() == [1, 2]


def test_wide_groups_are_counted_by_query():
    chain = np.arange(14) * 0.9e-5
    query = one([0] * 13 + [1], qid="wide")
    calm = one([0, 1], rows=[14, 15], qid="calm")
    scores = np.concatenate([chain, [0.0, 1.0]])
    assert evaluate(parse_measure("nDCG@10"), [query, calm], scores).wide_ties == 1
    assert evaluate(parse_measure("AP"), [query, query, calm], scores).wide_ties == 2
    assert evaluate(parse_measure("nDCG@10"), [calm], scores).wide_ties == 0


@given(st.lists(st.integers(0, 12), min_size=1, max_size=12), st.integers(1, 4))
def test_ranks_agree_with_a_plain_reading(levels, tolerance):
    scores = np.array(levels, dtype=np.float64)
    ranked = rank([one([0] * len(levels))], scores, tie_tol=float(tolerance))
    falling = sorted(levels, reverse=True)
    sizes = [1]
    for before, after in itertools.pairwise(falling):
        if before == after or before - after < tolerance:
            sizes[-1] += 1
        else:
            sizes.append(1)
    assert ranked.size.tolist() == sizes
    assert scores[ranked.order].tolist() == falling
    assert ranked.first.tolist() == np.cumsum([0, *sizes[:-1]]).tolist()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_refused_by_query(bad):
    queries = [one([0, 1], qid="7"), one([0, 1, 2], rows=[2, 3, 4], qid="8")]
    scores = np.array([0.1, 0.2, bad, 0.3, bad])
    with pytest.raises(InputError, match="2 of the 3 scores of query 8 of dl19 are NaN"):
        evaluate(parse_measure("nDCG@10"), queries, scores)
    with pytest.raises(InputError, match="query 8"):
        shift(queries, np.zeros(5), scores)
    assert len(evaluate(parse_measure("nDCG@10"), queries[:1], scores).values) == 1


@pytest.mark.parametrize("tie_tol", [-1e-5, np.nan, np.inf])
def test_a_tolerance_must_be_a_number_of_logits(tie_tol):
    with pytest.raises(InputError, match="tie_tol"):
        rank([one([0, 1])], np.zeros(2), tie_tol=float(tie_tol))


def test_rows_outside_the_scores_are_an_error():
    with pytest.raises(ValueError, match="row 5 of a vector of 3"):
        rank([one([0, 1], rows=[0, 5])], np.zeros(3))


@pytest.mark.parametrize(
    ("rows", "grades", "ideal", "match"),
    [
        ([], [], [1], "at least one candidate"),
        ([0, 0], [1, 0], [1], "same row twice"),
        ([-1, 0], [1, 0], [1], "below 0"),
        ([0, 1], [3, 3], [3, 2, 2], "2 candidates of grade 3"),
    ],
)
def test_candidates_that_contradict_themselves_are_an_error(rows, grades, ideal, match):
    arrays = [np.array(x, dtype=np.int64) for x in (rows, grades, ideal)]
    with pytest.raises(ValueError, match=match):
        Candidates("dl19", "1", *arrays)


def test_gain_is_looked_for_in_the_ideal():
    assert has_gain(one([0, 0], ideal=[0, 0, 1]))
    assert not has_gain(one([0, -1]))
    assert not has_gain(one([0, -1], ideal=[]))
