"""Sweeps: what they cost, what they share, and that they say the same as one pass a condition."""

from __future__ import annotations

import numpy as np
import pytest

import matchlens
import tiny as tiny_models
from matchlens.corpora import PairSet
from matchlens.directions import Cut
from matchlens.engine import Shard, other_pairs, term_means
from matchlens.plan import Plan
from matchlens.ranking import benjamini_hochberg
from matchlens.report.results_folder import ResultsFolder
from matchlens.report.texts import arrow, num
from matchlens.report.views import text_of
from matchlens.report.views.ablation import costliest, exhibits
from matchlens.report.views.sweep import heads, layers
from matchlens.runners import run
from matchlens.studies.cuts.sweeps import KINDS, sweep_points


@pytest.fixture(scope="module")
def tiny_set(tiny_pairs) -> PairSet:
    ideals: dict = {}
    for pair in tiny_pairs:
        ideals.setdefault((pair.collection, pair.qid), []).append(pair.grade)
    return PairSet(
        tuple(tiny_pairs),
        {key: tuple(sorted(grades, reverse=True)) for key, grades in ideals.items()},
        {"candidates": "all_judged", "seed": 0},
        {"pairs": len(tiny_pairs)},
        ({"collection": "tiny"},),
    )


def test_a_window_has_no_effect_on_another_sweep(tiny, tiny_set):
    with pytest.raises(matchlens.InputError, match="no effect on the sweep 'only'"):
        matchlens.sweep(tiny, tiny_set, "only", window=2)


def rows_by_layer(model, monkeypatch) -> list[int]:
    """Counts the token rows that leave each of the library's layers."""
    rows = [0] * model.family.n_layers
    for number, layer in enumerate(model.family.layers):
        last = tiny_models.leaving(layer)
        forward = last.forward

        def counting(states, *args, forward=forward, number=number, **kwargs):
            rows[number] += states.shape[0] * states.shape[1]
            return forward(states, *args, **kwargs)

        monkeypatch.setattr(last, "forward", counting)
    return rows


def test_up_to_each_layer_costs_half_the_passes(tiny, tiny_pairs, monkeypatch):
    """L(L+1)/2 and the shared run; the last layer's D rows are not read, so n = L is n = L - 1."""
    layers = tiny.family.n_layers
    rows = rows_by_layer(tiny, monkeypatch)
    points, _ = sweep_points("up-to", ["CLS->D"], layers=layers, heads=4)
    conditions = {point.cut: [Cut.parse(point.cut)] for point in points}
    out = run(tiny, tiny_pairs, conditions, batch_tokens=10**6)
    every, pairs = len(tiny_pairs) * int(out.tokens.max()), len(tiny_pairs)
    # A layer of whole passes for each condition that goes on uncut, a row of each pair for the
    # others.
    cut = [1, 1, layers + 1]
    assert rows == [number * every + pairs for number in (1, 2)] + [cut[2] * pairs]
    assert out.plan.passes == layers * (layers + 1) // 2 + layers
    assert out.plan.passes_unshared == (layers + 1) * layers
    for name, cuts in conditions.items():
        alone = run(tiny, tiny_pairs, {name: cuts})
        np.testing.assert_allclose(out.scores.of(name), alone.scores.of(name), atol=1e-10)


def test_every_head_alone_shares_what_lies_below(tiny, tiny_pairs, monkeypatch):
    layers, heads = tiny.family.n_layers, tiny.family.n_heads
    rows = rows_by_layer(tiny, monkeypatch)
    points, _ = sweep_points("heads", ["CLS->All"], layers=layers, heads=heads)
    conditions = {"": [], **{point.cut: [Cut.parse(point.cut)] for point in points}}
    out = run(tiny, tiny_pairs[:6], conditions, batch_tokens=10**6)
    every = 6 * int(out.tokens.max())
    # Below, whole passes; a head's own layer computes anew the one row that it cuts.
    assert rows == [every + 6 * heads, (1 + heads) * every + 6 * heads, 6 * (1 + 3 * heads)]
    assert out.plan.passes == heads * layers * (layers + 1) // 2 + layers
    for name in list(conditions)[1::5]:
        alone = run(tiny, tiny_pairs[:6], {name: conditions[name]})
        np.testing.assert_allclose(out.scores.of(name), alone.scores.of(name), atol=1e-10)


def test_float32_agrees_with_one_pass_a_condition(tiny32, tiny_pairs):
    points, _ = sweep_points("window", ["Q->D", "D->Q"], layers=3, heads=4, window=2)
    conditions = {point.cut: [Cut.parse(point.cut)] for point in points}
    out = run(tiny32, tiny_pairs, conditions)
    for name, cuts in conditions.items():
        alone = run(tiny32, tiny_pairs, {name: cuts})
        np.testing.assert_allclose(out.scores.of(name), alone.scores.of(name), atol=1e-4)


def test_last_point_is_the_cell_of_table1(tiny, tiny_set):
    """Invariant 5."""
    swept = matchlens.sweep(tiny, tiny_set, directions=["Q->D", "{Q,D}->{Q,D}"]).to_frame()
    table = matchlens.ablation(tiny, tiny_set, cuts=["Q->D", "{Q,D}->{Q,D}"]).to_frame()
    for direction in ("Q->D", "{Q,D}->{Q,D}"):
        curve = swept[swept["direction"] == direction].set_index("n")
        cell = table[table["cut"] == direction].iloc[0]
        assert curve.loc[3, "mean"] == cell["mean"]
        assert curve.loc[3, "score_change"] == pytest.approx(cell["score_change"], abs=1e-12)
        assert curve.loc[0, "diff"] == 0
        assert curve.loc[0, "p"] == 1
        # The score reads CLS only: what Q and D read in the last layer cannot matter.
        assert curve.loc[2, "mean"] == curve.loc[3, "mean"]


def test_points_of_every_kind():
    shape = {"layers": 4, "heads": 2}
    texts = {kind: [p.cut for p in sweep_points(kind, ["Q->D"], **shape)[0]] for kind in KINDS}
    assert texts["up-to"] == ["Q->D@0:0", "Q->D@0:1", "Q->D@0:2", "Q->D@0:3", "Q->D@0:4"]
    assert texts["from"] == ["Q->D@0:4", "Q->D@1:4", "Q->D@2:4", "Q->D@3:4", "Q->D@4:4"]
    assert texts["only"] == ["Q->D@0", "Q->D@1", "Q->D@2", "Q->D@3"]
    assert [Cut.parse(text).layers for text in texts["window"]] == [(0,), (1,), (2,), (3,)]
    wide, _ = sweep_points("window", ["Q->D"], **shape, window=3)
    assert [p.cut for p in wide] == ["Q->D@0:3", "Q->D@1:4"]
    assert texts["heads"][:3] == ["Q->D#0.0", "Q->D#0.1", "Q->D#1.0"]
    both, _ = sweep_points("only", ["Q->D"], **shape, hows=["zero", "sink"])
    assert [p.cut for p in both][3:5] == ["Q->D@3", "Q->D@0~sink"]


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ({"kind": "sideways"}, "sweep 'sideways' is not known"),
        ({"directions": []}, "no direction"),
        ({"directions": ["Q->D@3"]}, "no plain direction"),
        ({"directions": ["Q->D~mask"]}, "no plain direction"),
        ({"directions": [""]}, "no plain direction"),
        ({"directions": ["Q->X"]}, "character 4"),
        ({"kind": "window", "window": 0}, "window is 0"),
        ({"kind": "window", "window": 5}, "window is 5"),
        ({"hows": ["sever"]}, "how 'sever'"),
        ({"directions": ["Q->SEP2"], "hows": ["sink"]}, "moves the removed mass to SEP2"),
    ],
)
def test_bad_sweeps_are_refused(arguments, fragment):
    given = {"kind": "up-to", "directions": ["Q->D"], "layers": 4, "heads": 2, **arguments}
    with pytest.raises(matchlens.InputError, match=fragment):
        sweep_points(**given)


def test_heads_are_corrected_by_benjamini_and_hochberg(tiny, tiny_set):
    result = matchlens.sweep(tiny, tiny_set, "heads", directions=["Q->D"], hows=["zero", "mask"])
    table = result.to_frame()
    assert len(table) == 2 * 12
    for _, group in table.groupby("how"):  # each way of cutting is a family of tests
        np.testing.assert_allclose(group["q"], benjamini_hochberg(group["p"].to_numpy()))
    assert set(table["how"]) == {"zero", "mask"}
    assert result.options["stars"] == "q"
    assert result.study == "sweep-heads"
    assert "over the sweep, each way of cutting apart)" in text_of(result)
    one = matchlens.sweep(tiny, tiny_set, "only", directions=["Q->D"])
    assert "Holm-corrected p <= .05 over the sweep, two-tailed" in text_of(one)


def test_other_pairs_are_of_the_same_query_and_not_the_same():
    pairs = tiny_models.pairs(20)
    others = other_pairs(pairs, seed=3)
    for number, other in enumerate(others):
        assert other != number
        assert pairs[other].qid == pairs[number].qid
    shuffled = [pairs[i] for i in np.random.default_rng(0).permutation(20)]
    redrawn = zip(shuffled, other_pairs(shuffled, 3), strict=True)
    again = {p.docid: shuffled[o].docid for p, o in redrawn}
    assert again == {p.docid: pairs[o].docid for p, o in zip(pairs, others, strict=True)}
    assert (other_pairs(pairs, seed=4) != others).any()
    with pytest.raises(matchlens.InputError, match="one pair only"):
        other_pairs(pairs[:1], 0)


def test_term_means_merge_in_any_order(tiny, tiny_pairs):
    plan = Plan.build({"x": [Cut.parse("Q->D~mean")]}, 3, 4)

    def means(pairs):
        return term_means(tiny, plan, Shard(0, np.arange(len(pairs)), pairs, 64), 200)

    whole = means(tiny_pairs)
    parts = [means(tiny_pairs[at : at + 8]) for at in (0, 8, 16)]
    forth = parts[0].merge(parts[1]).merge(parts[2])
    back = parts[2].merge(parts[0].merge(parts[1]))
    assert sorted(whole.sums) == [0, 1]  # the last layer's Q rows are not read
    for layer in whole.sums:
        for other in (forth, back):
            np.testing.assert_allclose(other.mean(layer), whole.mean(layer), atol=1e-12)


def lead_of(view, result) -> str:
    (exhibit,) = view(ResultsFolder({"identity": result.identity}, {result.study: result}))
    return " ".join(exhibit.lead)


@pytest.mark.parametrize(
    ("changes", "stars", "sentence"),
    [
        ([0.1, 0.2, 0.3], [], "Cut up to each layer, no direction lowers nDCG@10."),
        ([-0.1, -0.2, -0.3], [1, 3], "at n = 3; significant at n = 1 and 3."),
        ([-0.1, -0.2, -0.3], [2, 3], "at n = 3; significant from n = 2."),
        ([0.1, -0.2, -0.3], [1, 3], "at n = 3; significant from n = 3."),
        ([-0.3, -0.2, -0.1], [], "at n = 1."),
    ],
)
def test_the_sentence_on_layers_says_no_more_than_the_points(
    tiny, tiny_set, changes, stars, sentence
):
    """Only falls cost anything, and `from n` means each n from there on."""
    result = matchlens.sweep(tiny, tiny_set, directions=["Q->D"])
    points = result.tables["points"]
    for n, change in enumerate(changes, 1):
        row = points["n"] == n
        points.loc[row, ["diff", "mean"]] = [change, points.loc[row, "original"].iloc[0] + change]
        points.loc[row, ["q", "p_holm"]] = 0.01 if n in stars else 0.9
        points.loc[row, "significant"] = n in stars
    assert lead_of(layers, result).endswith(sentence)


def test_heads_cut_in_two_directions_are_not_counted_as_twice_the_heads(tiny, tiny_set):
    result = matchlens.sweep(tiny, tiny_set, "heads", directions=["Q->D", "D->Q"])
    points = result.tables["points"]
    points["diff"], points["q"] = 0.1, 0.9
    points.loc[points["cut"] == "D->Q#1.2", "diff"] = -0.25
    number = tiny.family.n_layers * tiny.family.n_heads
    lead = lead_of(heads, result)
    assert lead.startswith(f"0 of {2 * number} single-head cuts change nDCG@10 significantly.")
    assert f"The largest losses: {arrow('D->Q#1.2')} ({num(-0.25, 4)})." in lead
    chosen = len(result.tables["selected"])
    assert chosen
    assert f"Of {chosen} single-head cuts selected on one half of the queries, 0 hold" in lead
    points["diff"] = 0.1
    assert "None lowers nDCG@10." in lead_of(heads, result)


def test_the_sentences_on_cuts_say_no_more_than_the_table(tiny, tiny_set):
    result = matchlens.ablation(tiny, tiny_set, cuts=["Q->D", "D->Q", "D->D"])
    table = result.tables["table1"].set_index("cut")
    for cut, change, star in (("Q->D", -0.1, True), ("D->Q", -0.2, False), ("D->D", 0.1, False)):
        table.loc[cut, ["diff", "mean"]] = [change, table.loc[cut, "original"] + change]
        table.loc[cut, ["significant", "significant_paper"]] = star
    result.tables["table1"] = table.reset_index()
    assert costliest(result).startswith("Of the significant falls of nDCG@10, the largest, from")
    assert "(corrected;" in lead_of(exhibits, result)
    assert costliest(result).endswith("what the query reads of the document.")
    result.options["stars"] = "unpaired"
    assert "1 of 3 cuts change nDCG@10 significantly (unpaired test, uncorrected;" in lead_of(
        exhibits, result
    )
    table.loc["Q->D", "diff"] = -0.3
    result.tables["table1"] = table.reset_index()
    assert "costs most" in costliest(result)
