"""Tests of conditions against the original: each against scipy, statsmodels or brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from statsmodels.stats.multitest import multipletests

from matchlens.errors import InputError
from matchlens.ranking import compare, holm, sign_flip, significance

COLUMNS = [
    "n",
    "mean",
    "original",
    "diff",
    "p",
    "p_holm",
    "q",
    "p_flip",
    "p_flip_holm",
    "p_unpaired",
    "ci_low",
    "ci_high",
    "significant",
    "significant_paper",
]


def data(conditions=6, queries=20, seed=0, effect=0.05):
    generator = np.random.default_rng(seed)
    original = generator.uniform(0.3, 1, queries)
    drop = generator.normal(effect, 0.1, (conditions, queries))
    return np.clip(original - drop, 0, 1), original


def quick(values, original, collections=None, **options):
    collections = ["dl19"] * len(original) if collections is None else collections
    return compare(values, original, collections, **({"resamples": 500} | options))


def test_rows_say_what_they_hold():
    values, original = data()
    table = quick(values, original)
    assert list(table.columns) == COLUMNS
    assert table["n"].tolist() == [20] * 6
    assert table["mean"].to_numpy() == pytest.approx(values.mean(axis=1))
    assert table["original"].to_numpy() == pytest.approx(original.mean())
    assert table["diff"].to_numpy() == pytest.approx((values - original).mean(axis=1))
    assert table["significant"].dtype == table["significant_paper"].dtype == bool


@pytest.mark.parametrize("queries", [2, 3, 20, 200])
def test_t_tests_are_those_of_scipy(queries):
    values, original = data(queries=queries)
    table = quick(values, original)
    for row, x in zip(table.itertuples(), values, strict=True):
        assert row.p == pytest.approx(scipy.stats.ttest_rel(x, original).pvalue, rel=1e-9)
        assert row.p_unpaired == pytest.approx(scipy.stats.ttest_ind(x, original).pvalue, rel=1e-9)


def test_stars():
    values, original = data(conditions=40, queries=30, effect=0.04)
    table = quick(values, original)
    assert (table["significant"] == (table["p_holm"] <= 0.05)).all()
    assert (table["significant_paper"] == (table["p_unpaired"] <= 0.05)).all()
    assert 0 < table["significant"].sum() < 40
    strict = quick(values, original, alpha=1e-4)
    assert strict["significant"].sum() < table["significant"].sum()


@pytest.mark.slow
@given(
    arrays.arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 1)),
    st.lists(st.integers(0, 30), max_size=5),
)
@settings(max_examples=10)
def test_holm_is_that_of_statsmodels_and_passes_over_nan(p, missing):
    expected = multipletests(p, method="holm")[1]
    assert holm(p) == pytest.approx(expected, rel=1e-12)
    holes = np.insert(p, [min(at, len(p)) for at in missing], np.nan)
    tested = ~np.isnan(holes)
    assert holm(holes)[tested] == pytest.approx(expected, rel=1e-12)
    assert np.isnan(holm(holes)[~tested]).all()


def test_the_corrected_columns_are_corrected_over_the_rows():
    values, original = data()
    table = quick(values, original)
    for raw, corrected in (("p", "p_holm"), ("p_flip", "p_flip_holm")):
        expected = multipletests(table[raw], method="holm")[1]
        assert table[corrected].to_numpy() == pytest.approx(expected, rel=1e-12)


@given(
    arrays.arrays(
        np.float64, st.tuples(st.integers(1, 3), st.integers(1, 7)), elements=st.integers(-4, 4)
    )
)
def test_exact_sign_flips_are_a_count_over_all_patterns(whole):
    differences = whole / 10  # sums of tenths: equal in truth, unequal by rounding
    for p, row in zip(sign_flip(differences), whole, strict=True):
        seen = abs(row.sum())
        patterns = itertools.product([-1, 1], repeat=len(row))
        beyond = [abs((np.array(signs) * row).sum()) >= seen for signs in patterns]
        assert p == np.mean(beyond)


def test_sign_flips_are_exact_up_to_fourteen_queries_and_drawn_above():
    values, original = data(conditions=3, queries=15)
    differences = values - original
    assert (sign_flip(differences[:, :14], seed=1) == sign_flip(differences[:, :14], seed=2)).all()
    assert ((sign_flip(differences[:, :14]) * 2**14) % 1 == 0).all()
    drawn = sign_flip(differences, seed=1, resamples=999)
    assert (drawn * 1000) == pytest.approx(np.round(drawn * 1000))
    assert (drawn != sign_flip(differences, seed=2, resamples=999)).any()
    patterns = np.array(list(itertools.product([-1.0, 1.0], repeat=15)))
    every = (np.abs(patterns @ differences.T) >= np.abs(differences.sum(1)) - 1e-12).mean(axis=0)
    many = sign_flip(differences, resamples=20_000)
    assert (np.abs(many - every) <= 5 * np.sqrt(every * (1 - every) / 20_000) + 1e-4).all()


def test_sign_flips_never_reach_zero():
    assert sign_flip(np.ones((1, 30)), resamples=99).tolist() == [0.01]


@pytest.mark.parametrize("queries", [1, 2, 14, 15, 40])
def test_no_difference_is_p_one(queries):
    original = np.linspace(0.2, 0.9, queries)
    jitter = original + np.resize([1e-17, -1e-16, 2e-16], queries)
    worse = original - np.linspace(0.1, 0.15, queries)
    table = quick(np.stack([original, jitter, worse]), original)
    for column in ("p", "p_holm", "p_flip", "p_flip_holm", "p_unpaired"):
        assert table[column].tolist()[:2] == [1, 1]
    assert table["diff"].tolist()[:2] == [0, 0]
    assert not table["significant"].tolist()[0]


def test_equal_constant_values_are_p_one():
    table = quick(np.full((1, 8), 0.5), np.full(8, 0.5))
    assert table[["p", "p_flip", "p_unpaired"]].to_numpy().tolist() == [[1, 1, 1]]


def test_a_constant_difference_is_certain_to_t_and_not_to_sign_flips():
    original = np.linspace(0.3, 0.9, 8)
    table = quick(np.stack([original - 0.1, original + 0.1]), original)
    assert table["p"].tolist() == [0, 0]
    assert table["p_flip"].tolist() == [2 / 2**8] * 2
    assert table["significant"].all()
    assert (table["p_unpaired"] > 0.05).all()
    assert table[["ci_low", "ci_high"]].isna().all(axis=None)  # resamples have no variance
    flat = quick(np.full((1, 8), 0.4), np.full(8, 0.5))
    assert flat["p_unpaired"].tolist() == [0]


def test_one_query_is_no_test():
    table = quick(np.array([[0.5], [0.9]]), np.array([0.9]))
    assert np.isnan(
        table.loc[0, ["p", "p_holm", "p_unpaired", "ci_low", "ci_high"]].astype(float)
    ).all()
    assert table["p_flip"].tolist() == [1, 1]
    assert table["p"].tolist()[1] == 1
    assert not table["significant"].any()
    assert not table["significant_paper"].any()


def test_the_interval_is_stratified_by_collection():
    original = np.full(12, 0.9)
    noise = 0.001 * np.tile(np.linspace(-1, 1, 6), 2)
    values = original - np.repeat([0.1, 0.3], 6) - noise  # nearly all variance is between them
    apart = quick(values[None], original, ["dl19"] * 6 + ["dl20"] * 6)
    assert apart["ci_low"][0] == pytest.approx(-0.2, abs=0.002)
    assert apart["ci_high"][0] == pytest.approx(-0.2, abs=0.002)
    mixed = quick(values[None], original)
    assert mixed["ci_high"][0] - mixed["ci_low"][0] > 0.05


def test_collections_are_sampled_independently():
    effect = np.linspace(-0.3, 0.3, 20)
    values = 0.5 + np.concatenate([effect, -effect])  # the same sample of both would cancel out
    table = compare(values[None], np.full(40, 0.5), ["dl19"] * 20 + ["dl20"] * 20)
    half = 1.96 * effect.std() / np.sqrt(40)
    assert table["ci_high"][0] == pytest.approx(half, rel=0.1)
    assert table["ci_low"][0] == pytest.approx(-half, rel=0.1)


def test_collections_keep_their_number_of_queries_in_every_sample():
    generator = np.random.default_rng(0)
    original = np.full(40, 0.9)
    names = np.where(generator.random(40) < 0.2, "small", "large").tolist()
    noise = 0.001 * generator.normal(size=40)
    values = original - np.where(np.array(names) == "small", 0.5, 0.1) - noise
    table = quick(values[None], original, names)
    assert table["ci_low"][0] == pytest.approx(table["diff"][0], abs=0.002)


def test_the_interval_is_the_bootstrap_t():
    values, original = data(conditions=2, queries=25, seed=4)
    table = compare(values, original, ["dl19"] * 25)
    generator = np.random.default_rng(99)
    for row, x in zip(table.itertuples(), values - original, strict=True):
        drawn = x[generator.integers(0, 25, (20_000, 25))]
        t = (drawn.mean(axis=1) - x.mean()) / (drawn.std(axis=1, ddof=1) / 5)
        high, low = x.mean() - x.std(ddof=1) / 5 * np.percentile(t, [2.5, 97.5])
        assert (row.ci_low, row.ci_high) == pytest.approx((low, high), abs=0.05 * (high - low))
        assert row.ci_low < row.diff < row.ci_high


def test_collections_of_one_query_each_have_no_interval():
    values, original = data(queries=3)
    table = quick(values, original, ["a", "b", "c"])
    assert table[["ci_low", "ci_high"]].isna().all(axis=None)
    assert quick(values, original, ["a", "b", "b"])["ci_low"].isna().all()  # too few to vary
    values, original = data(queries=7)
    assert not quick(values, original, ["a", *"bbbbbb"])["ci_low"].isna().any()


def test_a_condition_does_not_depend_on_the_others_but_for_the_correction(monkeypatch):
    values, original = data(conditions=7, queries=18)
    collections = ["dl19"] * 10 + ["dl20"] * 8
    whole = quick(values, original, collections)
    monkeypatch.setattr(significance, "BLOCK", 64)  # many blocks
    parts = quick(values, original, collections)
    alone = quick(values[3:4], original, collections)
    for column in ("p", "p_flip", "p_unpaired", "ci_low", "ci_high"):
        assert parts[column].to_numpy() == pytest.approx(whole[column].to_numpy(), rel=1e-12)
        assert alone[column][0] == pytest.approx(whole[column][3], rel=1e-12)


def test_seeds_move_what_is_drawn_and_nothing_else():
    values, original = data(queries=30)
    one, same, other = (quick(values, original, seed=seed) for seed in (1, 1, -2))
    assert one.equals(same)
    assert (one["ci_low"] != other["ci_low"]).any()
    assert one["p"].equals(other["p"])


def test_p_is_uniform_where_nothing_happens():
    values, original = data(conditions=2000, queries=12, effect=0.0)
    values = original + np.random.default_rng(1).normal(0, 0.05, values.shape)
    table = quick(values, original, resamples=50)
    for column in ("p", "p_flip"):
        assert (table[column] <= 0.05).mean() == pytest.approx(0.05, abs=0.02)
    assert table["significant"].sum() <= 3


def test_single_precision_is_taken():
    values, original = data()
    table = quick(values.astype(np.float32), original.astype(np.float32))
    assert table["p"].to_numpy() == pytest.approx(quick(values, original)["p"].to_numpy(), rel=1e-3)


def test_no_condition_gives_no_row():
    table = quick(np.zeros((0, 5)), np.full(5, 0.5))
    assert list(table.columns) == COLUMNS
    assert len(table) == 0


@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"alpha": 1.5}, {"resamples": 0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InputError, match="alpha"):
        quick(*data(), **options)


def test_values_that_are_no_numbers_are_an_error():
    values, original = data()
    values[2, 3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        quick(values, original)


def test_lengths_must_agree():
    values, original = data()
    with pytest.raises(ValueError, match="collections"):
        quick(values, original, ["dl19"] * 3)
