"""Values of measures: against ir_measures where nothing ties, against all orders where it does."""

from __future__ import annotations

import itertools
import shutil

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matchlens.errors import InputError
from matchlens.ranking import (
    Candidates,
    evaluate,
    movable,
    orders,
    parse_measure,
    random_expectation,
)

LINEAR = [
    "nDCG@10",
    "nDCG@3",
    "nDCG",
    "nDCG(gains={1:5,3:4})@4",
    "P(rel=1)@1",
    "P@5",
    "P@20",
    "R@2",
    "R(rel=1)@5",
    "Rprec(rel=1)",
]
WHOLE = [
    "AP",
    "AP(rel=1)@3",
    "RR",
    "RR(rel=1)",
    "RR@2",
    "Success@2",
    "IPrec(rel=1)@0.5",
    "Compat",
    "Compat(p=0.5,normalize=False)",
    "SetP",
    "SetR",
    "SetF(beta=2)",
    "SetAP",
    "SetRelP",
]
PERL = ["nDCG(dcg='exp-log2')@10", "nDCG(dcg='exp-log2')@2", "ERR@10", "ERR@2"]


def ask(measure, grades, ideal):
    """What ir_measures says of grades in rank order, under ids and scores of another kind."""
    qrels = {"7": {f"d{i:03}": max(int(grade), 0) for i, grade in enumerate(grades)}}
    run = {"7": {f"d{i:03}": 9.5 - 0.25 * i for i in range(len(grades))}}
    rest = sorted(g for g in ideal if g > 0)
    for grade in grades:
        if grade > 0:
            rest.remove(grade)
    qrels["7"] |= {f"x{i}": int(grade) for i, grade in enumerate(rest)}
    (metric,) = ir_measures.iter_calc([measure], qrels, run)
    return float(metric.value)


def discounted(measure, gains):
    """RBP and DCG have no library here: their definitions, written out."""
    at = measure.cutoff or len(gains)
    if measure.name == "RBP":
        p = measure.option("p", 0.8)
        return sum((1 - p) * p**i * gain for i, gain in enumerate(gains[:at]))
    return sum(gain / np.log2(i + 2) for i, gain in enumerate(gains[:at]))


def everything(measure, query, groups):
    """The values of every order inside the groups (lists of grades, best group first)."""
    for order in itertools.product(*(itertools.permutations(group) for group in groups)):
        yield ask(measure.build(), list(itertools.chain(*order)), query.ideal)


GRADES = st.lists(st.integers(-1, 3), min_size=1, max_size=12)


@st.composite
def untied(draw):
    grades = draw(GRADES)
    extra = draw(st.lists(st.integers(-1, 3), max_size=6))
    places = draw(st.permutations(range(len(grades))))
    rows = draw(st.permutations(range(len(grades))))
    scores = np.zeros(len(grades))
    scores[list(rows)] = -np.array(places, dtype=np.float64) / 7
    arrays = np.array(rows), np.array(grades), np.array(grades + extra)
    in_order = [grades[places.index(place)] for place in range(len(grades))]
    return Candidates("dl19", "7", *arrays), scores, in_order


@pytest.mark.parametrize("text", LINEAR + WHOLE)
@given(case=untied())
@settings(max_examples=40)
def test_without_ties_the_value_is_that_of_ir_measures(text, case):
    query, scores, in_order = case
    measure = parse_measure(text)
    found = evaluate(measure, [query], scores)
    assert found.values[0] == pytest.approx(
        ask(measure.build(), in_order, query.ideal), rel=1e-12, abs=1e-15
    )
    assert found.stderr.tolist() == [0]
    assert not found.estimated


@pytest.mark.skipif(shutil.which("perl") is None, reason="ir_measures computes these in Perl")
@pytest.mark.parametrize("text", PERL)
def test_measures_left_to_perl_agree_to_its_five_decimals(text):
    generator = np.random.default_rng(5)
    measure = parse_measure(text)
    for _ in range(8):
        grades = generator.integers(-1, 5, 12)
        ideal = np.concatenate([grades, generator.integers(0, 5, 4)])
        query = Candidates("", "7", np.arange(12), grades, ideal)
        found = evaluate(measure, [query], -np.arange(12.0)).values[0]
        assert found == pytest.approx(ask(measure.build(), grades, ideal), abs=6e-6)


@pytest.mark.parametrize("text", ["RBP", "RBP(p=0.5,rel=1)", "RBP@3", "DCG", "DCG@3"])
@given(case=untied())
@settings(max_examples=30)
def test_measures_without_a_library_follow_their_definition(text, case):
    query, scores, in_order = case
    measure = parse_measure(text)
    gains = [
        float(grade >= measure.rel) if measure.rel else float(max(grade, 0)) for grade in in_order
    ]
    assert evaluate(measure, [query], scores).values[0] == pytest.approx(
        discounted(measure, gains), rel=1e-12, abs=1e-15
    )


def test_dcg_over_the_ideal_is_ndcg():
    grades = np.array([0, 3, 1, 0, 2])
    query = Candidates("", "7", np.arange(5), grades, grades)
    best = evaluate(parse_measure("DCG@3"), [query], grades.astype(float)).values
    scores = np.array([0.1, 0.2, 0.2, 0.5, 0.3])
    dcg = evaluate(parse_measure("DCG@3"), [query], scores).values
    assert (dcg / best).tolist() == evaluate(
        parse_measure("nDCG@3"), [query], scores
    ).values.tolist()


@st.composite
def tied(draw):
    groups = draw(
        st.lists(st.lists(st.integers(-1, 3), min_size=1, max_size=4), min_size=1, max_size=2)
    )
    extra = draw(st.lists(st.integers(0, 3), max_size=3))
    grades = list(itertools.chain(*groups))
    levels = [-float(i) for i, group in enumerate(groups) for _ in group]
    jitter = draw(
        st.lists(st.floats(0, 9e-6), min_size=len(grades), max_size=len(grades))
    )  # below the tolerance
    query = Candidates("", "7", np.arange(len(grades)), np.array(grades), np.array(grades + extra))
    return query, np.array(levels) + np.array(jitter), groups


@pytest.mark.parametrize("text", LINEAR)
@given(case=tied())
@settings(max_examples=10)
def test_linear_measures_are_exact_means_over_all_orders(text, case):
    query, scores, groups = case
    measure = parse_measure(text)
    expected = np.mean(list(everything(measure, query, groups)))
    found = evaluate(measure, [query], scores)
    assert found.values[0] == pytest.approx(expected, abs=1e-12)
    assert found.stderr.tolist() == [0]
    assert not found.estimated


CASES = [
    [[0, 2, 3, 1, 0]],
    [[3], [0, 2, 0, 0]],
    [[0, 2, 2], [1, 3, 0]],
    [[-1, 3], [2, 0], [1]],
]


@pytest.mark.parametrize("groups", CASES)
@pytest.mark.parametrize(
    "text", ["AP", "AP(rel=1)@2", "RR", "RR(rel=1)@2", "Success(rel=3)@2", "Compat", "IPrec@0.5"]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_other_measures_are_estimated_within_their_error(groups, text, seed):
    measure = parse_measure(text)
    grades = np.array(list(itertools.chain(*groups)))
    levels = np.array([-float(i) for i, group in enumerate(groups) for _ in group])
    query = Candidates("", "7", np.arange(len(grades)), grades, np.append(grades, 3))
    all_values = list(everything(measure, query, groups))
    truth, spread = np.mean(all_values), np.std(all_values)
    found = evaluate(measure, [query], levels, seed=seed)
    assert found.estimated == (spread > 0 or found.estimated)
    assert abs(found.values[0] - truth) <= 5 * spread / np.sqrt(1000) + 1e-12
    assert found.stderr[0] == pytest.approx(spread / np.sqrt(1000), rel=0.15, abs=1e-12)


@pytest.mark.parametrize("groups", CASES)
def test_err_is_estimated_within_its_error(groups):
    def err(order):
        value, reach = 0.0, 1.0
        for place, grade in enumerate(order[:4], start=1):
            stop = (2 ** max(grade, 0) - 1) / 16
            value += reach * stop / place
            reach *= 1 - stop
        return value

    every = itertools.product(*(itertools.permutations(group) for group in groups))
    all_values = [err(list(itertools.chain(*order))) for order in every]
    grades = np.array(list(itertools.chain(*groups)))
    levels = np.array([-float(i) for i, group in enumerate(groups) for _ in group])
    query = Candidates("", "7", np.arange(len(grades)), grades, grades)
    found = evaluate(parse_measure("ERR@4"), [query], levels)
    assert found.estimated
    assert abs(found.values[0] - np.mean(all_values)) <= 5 * np.std(all_values) / np.sqrt(1000)
    assert found.stderr[0] == pytest.approx(np.std(all_values) / np.sqrt(1000), rel=0.15)


def test_err_refuses_grades_beyond_its_scale():
    query = Candidates("", "7", np.arange(2), np.array([5, 0]), np.array([5, 0]))
    with pytest.raises(InputError, match="grade 5"):
        evaluate(parse_measure("ERR@10"), [query], np.zeros(2))


def test_ties_that_the_measure_cannot_see_leave_the_value_exact():
    grades = np.array([3, 2, 1, -1, 0])
    query = Candidates("", "7", np.arange(5), grades, grades)
    scores = np.array([2.0, 2.0, 1.0, 1.0, 1.0])  # ties inside relevant and inside the others
    exact = evaluate(parse_measure("AP"), [query], scores)
    assert (exact.values[0], exact.stderr[0], exact.estimated) == (1.0, 0.0, False)
    assert evaluate(parse_measure("AP(rel=3)"), [query], scores).estimated
    assert not evaluate(parse_measure("SetF"), [query], np.zeros(5)).estimated


MANY = np.random.default_rng(3)


def some_queries(count=6, size=9):
    queries = []
    for number in range(count):
        rows = np.arange(number * size, (number + 1) * size)
        grades = MANY.integers(-1, 4, size)
        ideal = np.append(grades, MANY.integers(0, 4, 3))
        queries.append(Candidates("dl19", str(number), rows, grades, ideal))
    return queries, MANY.integers(0, 3, count * size).astype(np.float64)


@pytest.mark.parametrize("text", ["nDCG@5", "R@5", "Rprec", "AP", "RR@3", "ERR@5", "Compat"])
def test_values_do_not_depend_on_neighbours_or_on_the_order_of_candidates(text):
    queries, scores = some_queries()
    measure = parse_measure(text)
    whole = evaluate(measure, queries, scores)
    back = evaluate(measure, queries[::-1], scores)
    assert back.values[::-1].tolist() == whole.values.tolist()
    assert back.stderr[::-1].tolist() == whole.stderr.tolist()
    for number, query in enumerate(queries):
        mixed = MANY.permutation(len(query.rows))
        same = Candidates(
            "dl19", query.qid, query.rows[mixed], query.grades[mixed], MANY.permutation(query.ideal)
        )
        assert evaluate(measure, [same], scores).values[0] == whole.values[number]


def test_permutations_depend_on_seed_query_and_collection():
    grades = np.array([0, 3, 0, 2, 0, 0])

    def value(seed=0, qid="1", collection="dl19"):
        query = Candidates(collection, qid, np.arange(6), grades, grades)
        return evaluate(parse_measure("AP"), [query], np.zeros(6), seed=seed).values[0]

    values = [value(), value(seed=1), value(seed=-1), value(qid="2"), value(collection="dl20")]
    assert len(set(values)) == len(values)
    assert value() == values[0]


def test_batches_do_not_change_values(monkeypatch):
    queries, scores = some_queries()
    monkeypatch.setattr(orders, "PERMUTATIONS", 50)
    whole = evaluate(parse_measure("AP"), queries, scores)
    monkeypatch.setattr(orders, "CELLS", 20)
    parts = evaluate(parse_measure("AP"), queries, scores)
    assert parts.values.tolist() == whole.values.tolist()
    assert parts.stderr.tolist() == whole.stderr.tolist()


@pytest.mark.parametrize("text", ["nDCG@10", "AP", "ERR"])
def test_no_query_gives_no_value(text):
    found = evaluate(parse_measure(text), [], np.zeros(3))
    assert len(found.values) == len(found.stderr) == 0
    assert not found.estimated
    assert len(random_expectation(parse_measure(text), []).values) == 0


def test_single_precision_scores_give_the_same_values():
    queries, scores = some_queries()
    for text in ("nDCG@5", "AP"):
        single = evaluate(parse_measure(text), queries, scores.astype(np.float32))
        assert (
            single.values.tolist() == evaluate(parse_measure(text), queries, scores).values.tolist()
        )


def test_a_query_without_relevant_passages_is_worth_nothing():
    query = Candidates("", "7", np.arange(3), np.array([0, 1, -1]), np.array([0, 1, 0]))
    for text in ("AP", "R@2", "Rprec", "RR@10", "P@2", "nDCG(gains={1:0})@2"):
        measure = parse_measure(text)
        found = evaluate(measure, [query], np.array([3.0, 2.0, 1.0])).values[0]
        assert found == ask(measure.build(), [0, 1, -1], [0, 1, 0]) == 0


def test_candidates_outside_the_qrels_are_worth_nothing():
    grades = np.array([0, 3, 0, 0])
    query = Candidates("", "7", np.arange(4), grades, np.array([3, 2, 1]))  # no 0 was judged
    for text in (*LINEAR, *WHOLE):
        measure = parse_measure(text)
        found = evaluate(measure, [query], np.array([4.0, 3.0, 2.0, 1.0])).values[0]
        assert found == pytest.approx(ask(measure.build(), grades, query.ideal), rel=1e-12)


def test_random_ranking_is_the_mean_over_all_orders():
    grades = [0, 3, 1, 2, -1]
    query = Candidates("", "7", np.arange(5), np.array(grades), np.array([*grades, 3]))
    for text in ("nDCG@3", "P@2", "R@2", "Rprec"):
        measure = parse_measure(text)
        expected = np.mean(list(everything(measure, query, [grades])))
        found = random_expectation(measure, [query])
        assert found.values[0] == pytest.approx(expected, abs=1e-12)
        assert (found.estimated, found.wide_ties) == (False, 0)
    measure = parse_measure("AP")
    found = random_expectation(measure, [query])
    expected = np.mean(list(everything(measure, query, [grades])))
    assert found.estimated
    assert abs(found.values[0] - expected) <= 5 * found.stderr[0]


def test_random_ranking_of_a_balanced_sample():
    def balanced(each, ideal_each):
        grades = np.repeat([0, 1, 2, 3], each)
        return Candidates(
            "dl19", "7", np.arange(4 * each), grades, np.repeat([0, 1, 2, 3], ideal_each)
        )

    ndcg = parse_measure("nDCG@10")
    assert random_expectation(ndcg, [balanced(10, 10)]).values[0] == pytest.approx(0.5)
    # Two a grade: near the .788 that DL19 has by the ideal of the sample, and far below by the
    # ideal of all that is judged.
    assert random_expectation(ndcg, [balanced(2, 2)]).values[0] == pytest.approx(0.79, abs=0.005)
    assert random_expectation(ndcg, [balanced(2, 10)]).values[0] < 0.5
    assert random_expectation(parse_measure("P@10"), [balanced(10, 10)]).values[0] == 0.5


def test_a_better_ranking_is_worth_more_than_a_random_one_than_a_worse():
    grades = np.repeat([0, 1, 2, 3], 5)
    query = Candidates("", "7", np.arange(20), grades, grades)
    for text in (*LINEAR[:3], "P@5", "RBP", "AP", "RR", "ERR@10"):
        measure = parse_measure(text)
        best = evaluate(measure, [query], grades.astype(np.float64)).values[0]
        worst = evaluate(measure, [query], -grades.astype(np.float64)).values[0]
        assert best > random_expectation(measure, [query]).values[0] > worst


@pytest.mark.slow
@settings(max_examples=150)
@given(
    measure=st.sampled_from([*LINEAR, *WHOLE, "RBP(rel=1)"]),
    grades=st.lists(st.integers(-1, 3), min_size=1, max_size=5),
    rest=st.lists(st.integers(0, 3), max_size=3),
)
def test_a_measure_moves_where_two_orders_differ(measure, grades, rest):
    parsed, grades = parse_measure(measure), np.array(grades)
    ideal = np.array([*np.maximum(grades, 0), *rest])
    query = Candidates("", "7", np.arange(len(grades)), grades, ideal)
    orders_of = itertools.permutations(range(len(grades)))
    values = [evaluate(parsed, [query], np.array(order, float)).values[0] for order in orders_of]
    assert movable(parsed, [query])[0] == (np.ptp(values) > 1e-12)
