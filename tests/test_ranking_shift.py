"""How far a condition moves scores and order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from matchlens.ranking import Candidates, shift, shifts


def one(size, qid="1", start=0):
    grades = np.zeros(size, dtype=np.int64)
    return Candidates("dl19", qid, np.arange(start, start + size), grades, grades)


@st.composite
def two_scorings(draw, most=10):
    size = draw(st.integers(1, most))
    levels = st.lists(st.integers(0, 5), min_size=size, max_size=size)
    return np.array(draw(levels), dtype=np.float64), np.array(draw(levels), dtype=np.float64)


@given(two_scorings())
def test_tau_is_that_of_scipy_on_group_ranks(pair):
    a, b = pair
    jitter = np.random.default_rng(0).uniform(0, 4e-6, len(a))
    found = shift([one(len(a))], a + jitter, b - jitter).tau_b[0]
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(scipy.stats.kendalltau(a, b).statistic, rel=1e-12, abs=1e-15)


def test_tau_of_many_candidates_is_summed_in_blocks(monkeypatch):
    generator = np.random.default_rng(2)
    a, b = generator.integers(0, 40, (2, 150)).astype(np.float64)
    monkeypatch.setattr(shifts, "BLOCK", 1000)
    found = shift([one(150)], a, b).tau_b[0]
    assert found == pytest.approx(scipy.stats.kendalltau(a, b).statistic, rel=1e-12)


@given(two_scorings(most=6), st.integers(1, 7))
def test_overlap_is_the_mean_over_all_orders_of_both(pair, k):
    def chances(scores):
        """Share of the orders, ties broken every way, in which each candidate is in the top k."""
        orders = [
            order
            for order in itertools.permutations(range(len(scores)))
            if all(scores[i] >= scores[j] for i, j in itertools.pairwise(order))
        ]
        tops = [[i in order[:k] for i in range(len(scores))] for order in orders]
        return np.mean(tops, axis=0)

    a, b = pair
    expected = (chances(a) * chances(b)).sum() / min(k, len(a))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shifts, "TOP", k)
        found = shift([one(len(a))], a, b).overlap[0]
    assert found == pytest.approx(expected, abs=1e-12)


def test_score_change_and_its_spread_are_over_candidates():
    original = np.array([1.0, 2.0, 3.0, 10.0])
    scores = np.array([2.0, 2.0, 0.0, 10.5])
    moved = shift([one(3), one(1, "2", start=3)], scores, original)
    assert moved.score_change == pytest.approx([-2 / 3, 0.5])
    assert moved.score_sd == pytest.approx([np.std([1, 0, -3]), 0])


def test_nothing_moved():
    scores = np.random.default_rng(0).normal(size=40)
    moved = shift([one(40)], scores, scores)
    assert (moved.score_change[0], moved.score_sd[0], moved.tau_b[0]) == (0, 0, 1)
    assert moved.overlap[0] == 1
    assert shift([one(40)], -scores, scores).tau_b[0] == -1


def test_a_constant_condition_keeps_a_quarter_of_ten_in_forty():
    original = np.random.default_rng(0).normal(size=40)
    constant = np.zeros(40) + np.random.default_rng(1).uniform(-1e-7, 1e-7, 40)
    moved = shift([one(40)], constant, original)
    assert np.isnan(moved.tau_b[0])
    assert moved.overlap[0] == pytest.approx(0.25)


def test_queries_keep_their_place_and_candidates_have_no_order():
    generator = np.random.default_rng(7)
    scores, original = generator.integers(0, 6, (2, 60)).astype(np.float64)
    queries = [one(size, str(size), start) for size, start in ((10, 0), (30, 10), (20, 40))]
    whole = shift(queries, scores, original)
    for number, query in enumerate(queries):
        mixed = generator.permutation(len(query.rows))
        same = Candidates("dl19", query.qid, query.rows[mixed], query.grades, query.ideal)
        alone = shift([same], scores, original)
        for name in ("score_change", "score_sd", "tau_b", "overlap"):
            assert getattr(alone, name)[0] == pytest.approx(getattr(whole, name)[number], rel=1e-12)


def test_single_precision_is_subtracted_in_double():
    original = np.array([1000.0, 2000.0], dtype=np.float32)
    scores = np.nextafter(original, np.float32(np.inf))
    expected = (scores.astype(float) - original.astype(float)).mean()
    assert shift([one(2)], scores, original).score_change[0] == expected > 0


def test_no_query_gives_nothing():
    assert len(shift([], np.zeros(2), np.zeros(2)).tau_b) == 0
