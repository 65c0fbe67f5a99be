"""Contrasts, matching heads and their kinds, no-ops, lexical matching: of attention as measured."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import matchlens
from matchlens.corpora import EASY_GRADE, Pair, choose, demo
from matchlens.engine import collated
from matchlens.meters.arrays import PairArray
from matchlens.meters.attention import (
    PARTS,
    AttentionMeter,
    Likeness,
    Reading,
)
from matchlens.meters.names import COMPANIONS, shape_of
from matchlens.models.words import Static, words_of
from matchlens.parts import Part
from matchlens.ranking import benjamini_hochberg, holm
from matchlens.report.texts import arrow
from matchlens.report.views import matching as matching_view
from matchlens.report.views.profiles import no_op_words
from matchlens.results import records
from matchlens.studies.attention import matching, profiles
from matchlens.studies.attention.contrasts import (
    Classes,
    Thresholds,
    contrast_table,
    paired,
    pairwise,
)
from matchlens.studies.attention.profiles import ks, taken
from matchlens.studies.attention.watching import Reader
from matchlens.studies.common import half
from tiny import WORDS

QUERIES, PER_CLASS = 12, 5


def planted(seed: int = 0) -> tuple[Classes, np.ndarray, np.random.Generator]:
    """Pairs of three classes and mass [pair, 2 layers, 3 heads] in which head 1.2 matches."""
    draw = np.random.default_rng(seed)
    query = np.repeat(np.arange(QUERIES), 3 * PER_CLASS)
    of_pair = np.tile(np.repeat([0, 1, 2], PER_CLASS), QUERIES)
    qids = tuple(f"q{number}" for number in range(QUERIES))
    mass = draw.uniform(0, 0.3, (len(query), 2, 3))
    mass[of_pair == 0, 1, 2] += 0.4
    return Classes(of_pair, query, ("c",) * QUERIES, qids), mass, draw


def test_contrasts_are_paired_by_query_and_corrected_over_heads():
    classes, mass, _ = planted()
    mass[3, 0, 0] = np.nan
    table = contrast_table(mass, classes, "relevant-easy")
    flat = mass.reshape(len(mass), -1)
    apart = np.array(
        [
            [
                np.nanmean(flat[(classes.query == q) & (classes.of_pair == 0), e])
                - np.nanmean(flat[(classes.query == q) & (classes.of_pair == 2), e])
                for e in range(6)
            ]
            for q in range(QUERIES)
        ]
    )
    np.testing.assert_allclose(table["diff"], apart.mean(0))
    np.testing.assert_allclose(table["sd"], apart.std(0, ddof=1))
    p = stats.ttest_1samp(apart, 0).pvalue
    np.testing.assert_allclose(table["p"], p)
    np.testing.assert_allclose(table["q"], benjamini_hochberg(p))
    median = contrast_table(mass, classes, "relevant-easy", aggregate="median")
    np.testing.assert_allclose(median["diff"], np.median(apart, 0))
    back = contrast_table(mass, classes, "hard-easy")
    assert back["q"].min() > 0.05
    assert table[["layer", "head"]].to_numpy().tolist() == [[i // 3, i % 3] for i in range(6)]


def test_auc_is_the_chance_of_a_higher_value():
    classes, mass, _ = planted()
    mass[:, 0, 1] = np.round(mass[:, 0, 1], 1)  # ties
    found = pairwise(mass.reshape(len(mass), -1), classes, "relevant-easy")[1]
    for query in (0, 5):
        mine = classes.query == query
        high, low = (mass[mine & (classes.of_pair == side), 0, 1] for side in (0, 2))
        slow = np.mean([(h > e) + 0.5 * (h == e) for h in high for e in low])
        assert found[query, 1] == pytest.approx(slow)
        test = stats.mannwhitneyu(high, low).statistic / (len(high) * len(low))
        assert found[query, 1] == pytest.approx(test)


def test_equal_classes_differ_by_nothing_and_one_query_proves_nothing():
    classes, mass, _ = planted()
    table = contrast_table(np.ones_like(mass), classes, "relevant-hard")
    assert (table["diff"] == 0).all()
    assert (table["p"] == 1).all()
    assert (table["auc"] == 0.5).all()
    single = contrast_table(mass, classes.only(classes.query == 3), "relevant-easy")
    assert single["p"].isna().all()
    assert (single["queries"] == 1).all()


@pytest.mark.parametrize(
    ("side", "contrast", "fragment"),
    [
        (0, "relevant-hard", "no relevant passage"),
        (1, "hard-easy", "no hard passage"),
        (2, "relevant-easy", "no easy passage; expected one: ask for random"),
        (3, "easy-hard", "contrast 'easy-hard' is not known"),
    ],
)
def test_an_empty_class_is_named(side, contrast, fragment):
    classes, mass, _ = planted()
    with pytest.raises(matchlens.InputError, match=fragment):
        contrast_table(mass, classes.only(classes.of_pair != side), contrast)


def seen(mass, **more) -> matching.HeadMasses:
    """The mass of a direction beside rivals that tell nothing, all passages of one length."""
    draw = np.random.default_rng(9)
    rivals = {name: draw.uniform(0, 1, mass.shape) for name in ("CLS->D", "SEP1->D")}
    settings = {"rivals": rivals, "lengths": np.full(len(mass), 50.0), **more}
    return matching.HeadMasses(mass, **settings)


def matched(table) -> list[tuple[int, int]]:
    rows = table[table["matching"]]
    return list(zip(rows["layer"], rows["head"], strict=True))


def test_only_passages_of_like_length_are_compared():
    classes, mass, draw = planted()
    flat = mass.reshape(len(mass), -1)
    lengths = draw.integers(40, 60, len(mass)).astype(float)
    apart, auc = pairwise(flat, classes, "relevant-easy", lengths, 0.1)
    for query in (0, 7):
        mine = np.flatnonzero(classes.query == query)
        high, low = (mine[classes.of_pair[mine] == side] for side in (0, 2))
        like = [
            (i, j) for i in high for j in low if abs(lengths[i] - lengths[j]) <= 0.1 * lengths[i]
        ]
        assert 0 < len(like) < len(high) * len(low)
        for head in range(6):
            wins = [(flat[i, head] > flat[j, head]) for i, j in like]
            assert auc[query, head] == pytest.approx(np.mean(wins))
            gap = np.mean([flat[i, head] - flat[j, head] for i, j in like])
            assert apart[query, head] == pytest.approx(gap)
    lengths[classes.query == 3] = np.arange(15) * 100 + 1
    assert np.isnan(pairwise(flat, classes, "relevant-easy", lengths, 0.1)[1][3]).all()


def test_one_sided_tests_are_scipys():
    apart = np.random.default_rng(2).normal(0.3, 1, (12, 4))
    apart[3, 1] = np.nan
    apart[:, 2], apart[:, 3] = 0.0, -1.0
    expected = stats.ttest_1samp(apart[:, :2], 0, alternative="greater", nan_policy="omit").pvalue
    np.testing.assert_allclose(paired(apart, above=True)[:2], np.asarray(expected))
    assert paired(apart, above=True)[2:].tolist() == [1.0, 1.0]


def test_the_planted_head_is_found_on_one_half_and_described_on_the_other():
    classes, mass, draw = planted()
    same = draw.uniform(0.6, 0.9, mass.shape)
    given = seen(mass, shares={"same_stem": same})
    table, conditions, said = matching.find(given, classes, "Q->D", 0, Thresholds())
    assert not said
    assert matched(table) == [(1, 2)]
    assert conditions["heads"].tolist() == [1, 1, 1, 1, 1]
    assert conditions["condition"].tolist()[2:4] == ["above CLS->D", "above SEP1->D"]
    row = table[table["matching"]].iloc[0]
    assert (row["kind"], row["held"], row["auc"]) == ("unknown", True, 1.0)
    other = np.array([half(qid, 0) for qid in classes.qids])[classes.query] == 1
    relevant = other & (classes.of_pair == 0)
    share = (mass * same)[relevant, 1, 2].sum() / mass[relevant, 1, 2].sum()
    assert row["same_stem"] == pytest.approx(share)
    described = contrast_table(mass, classes.only(other), "relevant-easy")
    assert row["p"] == pytest.approx(described["p"].iloc[5])
    np.testing.assert_allclose(
        table["p_holm"], holm(np.where(table["matching"], table["p"], np.nan))
    )


def test_a_head_that_length_drives_does_not_match():
    """Relevant passages are longer; the head's mass is the length, and a little noise."""
    classes, mass, draw = planted()
    long = draw.random(len(mass)) < np.where(classes.of_pair == 0, 0.9, 0.2)
    lengths = np.where(long, 60.0, 40.0)
    mass[:, 0, 0] = lengths / 200 + draw.normal(0, 0.002, len(mass))
    given = seen(mass, lengths=lengths)
    strict = matching.find(given, classes, "Q->D", 0, Thresholds())
    assert matched(strict[0]) == [(1, 2)]
    assert strict[1]["heads"].tolist()[:2] == [2, 1]  # the second condition takes it out
    row = strict[0].iloc[0]
    assert row["beside_length"] == pytest.approx(0.5, abs=0.2)
    lone = np.full(len(mass), 50.0)
    lone[classes.query == 2] = np.arange(15) * 1000.0 + 1
    said = matching.find(seen(mass, lengths=lone), classes, "Q->D", 0, Thresholds())[2]
    assert said == [
        "left out of the matching heads Q->D, for want of an easy passage of like length: "
        "1 of 12 queries"
    ]


def test_a_head_that_cls_and_sep_do_not_need_the_query_for_does_not_match():
    """What CLS or SEP1 tells of the passage as well is not told by the query's words."""
    classes, mass, draw = planted()
    for name in ("CLS->D", "SEP1->D"):
        rivals = {one: draw.uniform(0, 1, mass.shape) for one in ("CLS->D", "SEP1->D")}
        rivals[name] = mass + draw.normal(0, 0.01, mass.shape)
        table = matching.find(seen(mass, rivals=rivals), classes, "Q->D", 0, Thresholds())[0]
        assert not matched(table)
        both, counts, _ = matching.find(
            seen(mass, rivals={**rivals, name: np.full(mass.shape, np.nan)}),
            classes, "Q->D", 0, Thresholds(),
        )  # fmt: skip
        assert matched(both) == [(1, 2)]  # the input has no such part
        assert f"above {name}" not in counts["condition"].tolist()


def test_what_is_left_beside_a_number_is_an_analysis_of_covariance():
    classes, mass, draw = planted()
    given = draw.uniform(0, 1, len(mass)) + (classes.of_pair == 0)
    flat = mass.reshape(len(mass), -1)
    left = matching.beside(flat, given, classes)
    used = classes.of_pair != 1
    cells = pd.get_dummies(classes.query[used] * 3 + classes.of_pair[used]).to_numpy(float)
    design = np.column_stack([given[used], cells])
    slope = np.linalg.lstsq(design, flat[used], rcond=None)[0][0]
    np.testing.assert_allclose(left, flat - given[:, None] * slope)


def observed(ratios: dict[str, float], classes: Classes, shape, seed: int = 4):
    """Masses of the kinds for head 1.2, each so many times what is expected; 1 for all others."""
    draw = np.random.default_rng(seed)
    kinds = {}
    for name in matching.KINDS:
        expected = draw.uniform(0.01, 0.02, shape)
        times = np.ones(shape[1:])
        times[1, 2] = ratios.get(name, 1.0)
        kinds[name] = expected * times * draw.uniform(0.9, 1.1, shape)
        kinds[f"{name}_expected"] = expected
    return kinds


@pytest.mark.parametrize(
    ("ratios", "kind"),
    [
        ({"stem": 3.0}, "lexical"),
        ({"query_words": 3.0}, "query-word reader"),
        ({"near": 2.0}, "semantic"),
        ({"stem": 3.0, "near": 2.0}, "lexical, semantic"),
        ({"stem": 1.9, "query_words": 1.9, "near": 1.4}, "unexplained"),
    ],
)
def test_each_kind_has_a_test_of_its_own(ratios, kind):
    classes, mass, _ = planted()
    kinds = observed(ratios, classes, mass.shape)
    table = matching.find(seen(mass, kinds=kinds), classes, "Q->D", 0, Thresholds())[0]
    assert table["kind"].tolist() == ["", "", "", "", "", kind]
    row = table.iloc[5]
    halves = np.array([half(qid, 0) for qid in classes.qids])
    p = []
    for name, least in (("stem", 2.0), ("query_words", 2.0), ("near", 1.5)):
        gap = (kinds[name] - least * kinds[f"{name}_expected"])[:, 1, 2]
        means = [
            gap[(classes.query == q) & (classes.of_pair == 0)].mean()
            for q in range(QUERIES)
            if halves[q] == 1
        ]
        p.append(stats.ttest_1samp(means, 0, alternative="greater").pvalue)
    found = [row[f"{name}_p_holm"] for name in matching.KINDS]
    np.testing.assert_allclose(found, holm(np.array(p)))


def synthetic(model, pairs, attention, folder) -> Reader:
    """What the meter sees of one synthetic head over real texts, made of what is alike."""
    names = ("mass", "same_stem", *COMPANIONS)
    shapes = {name: (len(pairs), *shape_of(name, 1, 1)) for name in names}
    arrays = {name: PairArray(folder / f"{name}.npy", shape) for name, shape in shapes.items()}
    static = Static.of(model)
    meter = AttentionMeter(names, arrays, Reading(static, lambda at: words_of(model, pairs[at])))
    for number, pair in enumerate(pairs):
        batch = collated(model, [pair])
        meter.begin(model.family, batch, np.array([number]))
        parts = torch.stack([batch.parts == part for part in PARTS], -1)
        weights = attention(Likeness.of([words_of(model, pair)], static, batch, parts))[:, None]
        probe = meter.probe(0)
        probe.look(weights)
        probe.take(weights @ probe.columns(torch.zeros(1, 1, weights.shape[-1], 4)))
        meter.end()
    return Reader(arrays)


def even(wanted):
    """Rows that spread nearly all attention over the wanted columns, all over where none is."""
    weights = wanted.float() + 1e-4
    return weights / weights.sum(-1, keepdim=True)


def query_words(alike):
    """Every row reads the query's content words, in query and passage, whoever reads."""
    return even(alike.in_query[:, None].expand_as(alike.stem))


def same_stems(alike):
    return even(alike.stem)


def near_words(alike):
    """A query word that the passage lacks reads words that are near; nothing else is special."""
    return even(alike.near)


@pytest.mark.parametrize(
    ("attention", "is_kind", "is_not"),
    [
        (query_words, "query-word reader", "semantic"),
        (same_stems, "lexical", "semantic"),
        (near_words, "semantic", "lexical"),
    ],
)
def test_synthetic_heads_are_of_their_kind(tiny, attention, is_kind, is_not, monkeypatch, tmp_path):
    monkeypatch.setattr("matchlens.models.words.NEAR", 0.3)  # the vocabulary has twelve words
    draw, pairs = np.random.default_rng(1), []
    for query in range(16):
        words = [str(word) for word in draw.permutation(WORDS)]
        asked, near, far = words[:3], words[3:8], words[8:]
        for number, grade in enumerate((3, 3, 0, EASY_GRADE, EASY_GRADE)):
            of = asked[:2] if grade == 3 else asked[2:] if grade == 0 else []
            text = " ".join([*of, *draw.permutation([*near, *far])])
            pairs.append(Pair(f"q{query}", f"{query}.{number}", " ".join(asked), text, grade))
    classes = Classes.of(pairs)
    reader = synthetic(tiny, pairs, attention, tmp_path)
    kinds = matching.kinds_of(
        matching.HeadMasses.of(reader, "Q->D", np.ones(len(pairs))),
        classes, np.array([True]), Thresholds(),
    )["kind"].iloc[0].split(", ")  # fmt: skip
    assert is_kind in kinds
    assert is_not not in kinds


def test_what_is_found_does_not_hang_on_the_half_that_describes():
    classes, mass, draw = planted()
    other = np.array([half(qid, 0) for qid in classes.qids])[classes.query] == 1
    noise = np.where(other[:, None, None], draw.uniform(0, 1, mass.shape), mass)
    columns = ["diff_found", "q_found", "auc_found", "over_cls", "q_sep", "matching"]
    first = matching.find(seen(mass), classes, "Q->D", 0, Thresholds())[0]
    second = matching.find(seen(noise), classes, "Q->D", 0, Thresholds())[0]
    pd.testing.assert_frame_equal(first[columns], second[columns])
    assert not second["held"].any()
    strict = matching.find(seen(mass), classes, "Q->D", 0, Thresholds(auc=1.0, q=0.0))[0]
    assert not strict["matching"].any()
    few = classes.only(other)
    said = matching.find(seen(mass), few, "Q->D", 0, Thresholds())[2]
    assert "fewer than two with relevant and easy passages; no" in said[0]
    alone = seen(mass, lengths=2.0 ** np.tile(np.arange(15), QUERIES))
    said = matching.find(alone, classes, "Q->D", 0, Thresholds())[2]
    assert "easy passages of like length" in said[0]


def test_the_authors_take_pairs_that_are_classified_rightly():
    pairs = choose(demo.load(), queries=4, per_grade=4, easy=4).pairs
    classes = Classes.of(pairs)
    scores = np.where(classes.of_pair == 0, 1.0, -1.0)
    scores[:6] *= -1
    kept = taken(classes, scores, pairs, 2, seed=0)
    inside = kept.of_pair >= 0
    assert not inside[:6].any()
    counts = pd.DataFrame({"q": kept.query, "c": kept.of_pair})[inside].value_counts()
    assert counts.max() == 2
    assert (kept.of_pair[inside] == classes.of_pair[inside]).all()


def attention_result(**tables) -> matchlens.Result:
    """A stored study with these tables alone."""
    options = {"thresholds": vars(Thresholds())}
    empty = pd.DataFrame()
    held = {"conditions": empty, **{name: pd.DataFrame(rows) for name, rows in tables.items()}}
    return matchlens.Result("attention", {}, options, (), empty, empty, held)


def test_text_tells_that_nothing_was_searched_from_that_nothing_was_found():
    head = {"direction": "Q->D", "layer": 0, "head": 0, "matching": False}
    assert matching_view.lines(attention_result(matching=[head]))[-1] == "none found"
    nothing = matching_view.lines(attention_result(matching=[]))
    assert nothing[-1] == "not searched for; the notes say why"


@pytest.mark.parametrize("searched", [["Q->D"], ["Q->D", "D->Q"]])
def test_published_heads_stand_beside_the_directions_that_were_searched(searched):
    rows = [
        {"list": "theirs", "layer": 0, "head": 1, "direction": direction, "kind": "lexical",
         "matching": direction == "Q->D"}
        for direction in searched
    ]  # fmt: skip
    text = "\n".join(matching_view.published(attention_result(published=rows)))
    both = len(searched) == 2
    assert ("match D->Q" in text, "either" in text) == (both, both)
    assert "match Q->D" in text
    page = matching_view._published(rows)
    assert f"Searched for here: {', '.join(map(arrow, searched))}." in page


def test_noop_tells_what_is_looked_at_from_what_is_written():
    parts = [Part.CLS, Part.Q, Part.SEP1, Part.D, Part.SEP2]
    mass = {(x, y): np.full((3, 1, 2), 0.1) for x in (Part.Q, Part.D) for y in parts}
    norm = {key: value.copy() for key, value in mass.items()}
    for x in (Part.Q, Part.D):
        mass[x, Part.SEP2][:, 0, 1] = 0.6
        norm[x, Part.SEP2][:, 0, 1] = 0.001
    table = profiles.noop(mass, norm)
    assert table["mass_SEP2"].tolist() == pytest.approx([0.2, 0.6])
    assert table["mass_special"].tolist() == pytest.approx([0.6, 0.8])
    assert table["sink"].tolist() == [True, True]
    assert table["noop"].tolist() == [False, False]
    for x in (Part.Q, Part.D):
        for part in (Part.CLS, Part.SEP1):
            norm[x, part][:, 0, 1] = 0.001
    assert profiles.noop(mass, norm)["noop"].tolist() == [False, True]
    assert profiles.noop(mass, None)["noop"].isna().all()


def test_heads_in_which_query_and_passage_read_nothing_are_no_sinks_and_not_counted():
    """Those of the decoder of an encoder-decoder."""
    parts = [Part.CLS, Part.Q, Part.SEP1, Part.D, Part.SEP2]
    mass = {(x, y): np.full((3, 2, 2), 0.2) for x in (Part.Q, Part.D) for y in parts}
    for values in mass.values():
        values[:, 1] = 0.0
    table = profiles.noop(mass, None)
    np.testing.assert_allclose(table["mass_special"], [0.6, 0.6, np.nan, np.nan])
    assert table["sink"].tolist() == [True, True, False, False]
    words = no_op_words(records(table))
    assert "2 of 2 heads in which they read (4 in all) send half" in words
    assert "2 of 2 heads send half" in no_op_words(records(table.iloc[:2]))


def test_lexical_profile_weighs_by_mass():
    classes, mass, draw = planted()
    same = draw.uniform(0, 1, mass.shape)
    table = profiles.lexical({(Part.Q, Part.D): mass}, {(Part.Q, Part.D): same}, classes)
    row = table[(table["class"] == "hard") & (table["layer"] == 1)].iloc[0]
    mine = classes.of_pair == 1
    assert row["same_stem"] == pytest.approx((mass * same)[mine, 1].sum() / mass[mine, 1].sum())
    assert len(table) == 3 * 2


def test_kinds_compare_passages_of_one_grade():
    pairs = choose(demo.load(), queries=6).pairs
    classes = Classes.of(pairs)
    value = np.zeros((len(pairs), 1, 1))
    for number, pair in enumerate(pairs):
        value[number] = pair.grade + (0.5 if pair.kind == "exact" else 0.0)
    table = profiles.kinds(
        {"x": value}, [pair.kind for pair in pairs], [pair.grade for pair in pairs], classes
    )
    assert table["diff"].iloc[0] == pytest.approx(0.5)  # not the difference of their grades
    assert profiles.kinds({"x": value}, [""] * len(pairs), [0] * len(pairs), classes).empty


def test_ks_is_scipys_and_knows_nothing_of_empty_samples():
    assert ks(np.array([0.1, 0.2, np.nan]), np.array([0.15, 0.3])) == 0.5
    assert np.isnan(ks(np.zeros(0), np.ones(2)))
