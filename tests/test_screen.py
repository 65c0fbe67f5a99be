"""The screen: estimates are slopes, held against exact cuts, and withheld where these disagree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from benchmarks.gated import gate_slopes

import matchlens
import tiny as tiny_models
from matchlens import InputError, gating
from matchlens.corpora import thin
from matchlens.parts import NAMED
from matchlens.ranking import evaluate, parse_measure
from matchlens.report.page.overview import _facts, _run
from matchlens.report.results_folder import ResultsFolder
from matchlens.report.views.screen import screen_table, screen_text
from matchlens.studies import screening
from matchlens.studies.common import candidates

LAYERS, HEADS = 2, 2


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tiny_models.save(tmp_path_factory.mktemp("tiny"), layers=LAYERS, heads=HEADS, seed=4)
    return matchlens.load(folder, dtype="float64", device="cpu")


@pytest.fixture(scope="module")
def pairs():
    return tiny_models.graded_by_cats(queries=10, passages=5)


@pytest.fixture(scope="module")
def result(model, pairs):
    return matchlens.screen(model, pairs, others=20)


def test_the_table_is_the_slopes_means(model, pairs, result):
    slopes = gate_slopes(model, pairs.pairs).slopes[..., :5, :5]
    table = result.to_frame("gates")
    assert len(table) == LAYERS * HEADS * 25
    np.testing.assert_allclose(result.array("slopes"), slopes, rtol=1e-6, atol=1e-7)
    for row in table.to_dict("records"):
        x, y = (NAMED.index(matchlens.Part.parse(one)) for one in row["direction"].split("->"))
        own = -slopes[:, row["layer"], row["head"], x, y]
        assert row["change"] == pytest.approx(own.mean(), abs=1e-6)  # queries of equal size
        assert row["size"] == pytest.approx(np.abs(own).mean(), abs=1e-6)
        assert row["cut"] == f"{row['direction']}#{row['layer']}.{row['head']}"


def test_predictions_rank_by_score_plus_estimate(model, pairs, monkeypatch):
    """The slow way: every gate's ranking evaluated anew."""
    monkeypatch.setattr(screening, "CORRELATED", -1)  # random weights bend; nothing is withheld
    monkeypatch.setattr(screening, "AGREEING", 0)
    result = matchlens.screen(model, pairs, others=4)
    slopes = gate_slopes(model, pairs.pairs).slopes
    scores = matchlens.score(model, pairs.pairs)[""].to_numpy()
    queries, measure = candidates(pairs), parse_measure("nDCG@10", rel=2)
    base = evaluate(measure, queries, scores, tie_tol=1e-9).values
    for row in result.to_frame("gates").to_dict("records"):
        x, y = (int(matchlens.Part.parse(one)) for one in row["direction"].split("->"))
        moved = scores - slopes[:, row["layer"], row["head"], x, y]
        expected = (evaluate(measure, queries, moved, tie_tol=1e-9).values - base).mean()
        assert row["predicted"] == pytest.approx(expected, abs=1e-6)
    selected = result.to_frame("selected")
    assert len(selected)
    assert (selected["queries_cut"] > 0).all()


def test_rows_say_whether_they_were_cut(model, pairs, result):
    table = result.to_frame("gates")
    cut = table[table["status"] == screening.CUT]
    exact = matchlens.score(model, pairs.pairs, cut["cut"].tolist())
    for row in cut.to_dict("records"):
        change = (exact[row["cut"]] - exact[""]).mean()
        assert row["exact"] == pytest.approx(change, abs=1e-9)
    others = table[table["status"] != screening.CUT]
    assert others["exact"].isna().all()
    assert others["diff"].isna().all()
    nothing = table[table["status"] == screening.NOTHING]
    assert (nothing["size"] == 0).all()
    assert {(LAYERS - 1, "D->Q")} <= set(zip(nothing["layer"], nothing["direction"], strict=True))
    assert set(result.scores["cut"]) == {"", *cut["cut"]}


def test_the_check_is_of_the_largest_and_of_others_over_the_layers(result):
    check, gates = result.to_frame("check"), result.to_frame("gates")
    largest = check[check["chosen"] == "largest"]
    assert largest["cut"].tolist() == gates["cut"].head(10).tolist()
    drawn = check[check["chosen"] == "drawn"]
    assert len(drawn) >= 20
    assert set(drawn["layer"]) == set(range(LAYERS))
    whole = result.to_frame("agreement").iloc[0]
    assert whole["gates"] == len(check)
    assert whole["drawn"] == len(drawn)
    assert result.options["withheld"] == bool(result.to_frame("agreement")["withheld"].iloc[1])


def test_a_screen_that_is_off_is_withheld(model, pairs, monkeypatch):
    """Estimates of the wrong sign: the exact cuts tell, and nothing is predicted."""
    gating.check_gates(model)  # while the estimates are right
    real = gating.stream_slopes

    def turned(model, pairs, keep, *args, **kwargs):
        return real(model, pairs, lambda rows, values: keep(rows, -values), *args, **kwargs)

    monkeypatch.setattr(gating, "stream_slopes", turned)
    result = matchlens.screen(model, pairs, others=20)
    assert result.options["withheld"]
    assert result.to_frame("gates")[list(screening.PREDICTED)].isna().all(axis=None)
    assert result.to_frame("selected").empty
    assert any("the measure is not predicted" in note for note in result.notes)
    assert result.to_frame("agreement")["pearson"].max() < 0


def test_a_screen_without_felt_changes_predicts_nothing(model, pairs, monkeypatch):
    """No cut moves a score enough to compare signs: that check was not passed."""
    monkeypatch.setattr(screening, "CORRELATED", -1)
    monkeypatch.setattr(screening, "FELT", 1e6)
    result = matchlens.screen(model, pairs, others=20)
    assert result.options["withheld"]
    assert result.to_frame("gates")[list(screening.PREDICTED)].isna().all(axis=None)
    assert any("signs cannot be compared" in note for note in result.notes)
    assert not any("nan" in note for note in result.notes)


def test_no_miss_of_thirty_allows_a_tenth():
    assert screening._upper(0, 30) == pytest.approx(1 - 0.05 ** (1 / 30))
    assert screening._upper(0, 30) < 0.1
    assert screening._upper(30, 30) == 1


def test_a_ranking_that_stays_is_not_evaluated_again(model, pairs, monkeypatch):
    calls = []
    real = screening.evaluate

    def counting(*args, **kwargs):
        calls.append(1)
        return real(*args, **kwargs)

    monkeypatch.setattr(screening, "evaluate", counting)
    (query,) = candidates(replace(pairs, pairs=pairs.pairs[:5]))
    scores = np.arange(5.0)
    estimates = np.array([[0.1] * 5, [0, 0, 0, 0, -4.5], [0.2, 0, 0, 0, 0]])
    measure = parse_measure("nDCG@10", rel=2)
    found = screening._predicted(measure, query, scores, estimates, 1e-9, 0)
    assert len(calls) == 2
    for one, moved in zip(found, scores + estimates, strict=True):
        assert one == real(measure, [query], moved, tie_tol=1e-9).values[0]


def test_fewer_than_ten_queries_have_no_intervals_and_it_is_said(model):
    few = matchlens.screen(model, tiny_models.graded_by_cats(queries=4, passages=5), others=4)
    assert few.to_frame("gates")[["change_low", "change_high", "ci_low"]].isna().all(axis=None)
    assert "intervals need 10 queries; here are 4" in few.notes
    text = screen_text(few)
    assert "intervals need 10 queries" in text
    assert "nan" not in text.lower()
    assert "nan" not in screen_table(few).latex().lower()


def test_a_model_of_two_labels_goes_through(tmp_path):
    model = matchlens.load(tiny_models.save(tmp_path, layers=2, heads=2, labels=2), device="cpu")
    pairs = tiny_models.graded_by_cats(queries=3, passages=4)
    assert matchlens.screen(model, pairs, others=4).to_frame("agreement")["pearson"].iloc[0] > 0.5


def test_it_saves_and_loads(result, tmp_path):
    again = matchlens.Result.load(result.save(tmp_path / "out"), "screen")
    for name in result.tables:
        assert again.to_frame(name).shape == result.to_frame(name).shape
    np.testing.assert_array_equal(again.array("slopes"), result.array("slopes"))


def test_fewer_pairs_of_whole_queries(model, pairs):
    result = matchlens.screen(model, pairs, others=4, most_pairs=15)
    assert result.options["pairs_run"] == 15
    assert len(result.pairs) == len(pairs.pairs)
    plain = result.scores[result.scores["cut"] == ""]
    own = matchlens.score(model, [pairs.pairs[row] for row in plain["pair"]])[""]
    np.testing.assert_allclose(plain["score"], own, atol=1e-9)


def test_what_is_of_the_exact_cuts_alone_is_named_so(model, pairs, monkeypatch):
    monkeypatch.setattr(screening, "CHECK_PAIRS", 15)
    result = matchlens.screen(model, pairs, others=4, most_pairs=40)
    some = matchlens.ablation(model, pairs, cuts=["Q->D"], most_pairs=40)
    few = matchlens.ablation(model, thin(pairs, 40)[0], cuts=["Q->D"], most_pairs=15)
    for name in ("original", "random"):
        assert result.options[name] == pytest.approx(some.options[name])
        assert result.options[f"check_{name}"] == pytest.approx(few.options[name])
    assert result.options["check_batches"]["pairs"] == few.options["batches"]["pairs"]
    assert not {"batches", "layer_passes", "layer_passes_unshared"} & set(result.options)
    assert "screened 40 of 50 pairs, 8 queries" in result.notes
    assert "of the exact cuts: run on 15 of 40 pairs, 3 queries" in result.notes
    assert not any(note.startswith("run on") for note in result.notes)


@pytest.mark.parametrize(("most", "of"), [(40, " (40 of 50 pairs)"), (50, ""), (None, "")])
def test_the_page_says_of_which_pairs_the_original_is(model, pairs, most, of):
    result = matchlens.controls(model, pairs, ["Q->D"], draws=1, most_pairs=most)
    folder = ResultsFolder({"identity": result.identity}, {"controls": result})
    assert {f"nDCG@10, original{of}", f"random ranking{of}"} <= set(dict(_facts(folder)))
    on = f"measured by nDCG@10{', on 40 of 50 pairs' if of else ''}: the untouched"
    assert any(on in sentence for sentence in _run(folder, "it", "them"))


def test_a_sweep_cuts_what_the_screen_puts_forward(model, pairs):
    every = matchlens.sweep(model, pairs, "heads", directions=["Q->D", "D->Q+D->D"])
    some = matchlens.sweep(model, pairs, "heads", directions=["Q->D", "D->Q+D->D"], screened=1)
    slopes = gate_slopes(model, pairs.pairs).slopes
    for direction, edges in (("Q->D", ([1], [3])), ("D->Q+D->D", ([3, 3], [1, 3]))):
        size = np.abs(slopes[:, :, :, edges[0], edges[1]].sum(-1)).mean(0)
        layer, head = np.unravel_index(size.argmax(), size.shape)
        points = some.to_frame("points")
        own = points[points["direction"] == direction]
        assert own[["n", "head"]].to_numpy().tolist() == [[layer, head]]
        whole = every.to_frame("points").set_index("cut")
        assert own["mean"].iloc[0] == whole.loc[own["cut"].iloc[0], "mean"]
    assert any("screened, not cut" in note for note in some.notes)
    assert some.options["screened"] == 1


@pytest.mark.slow
def test_batches_and_preset_are_those_that_were_asked_for(model, pairs, monkeypatch):
    asked, own = [], gating.stream_slopes

    def stream(model, pairs, keep, tables=None, batch_tokens=None, *more, **options):
        asked.append(batch_tokens)
        return own(model, pairs, keep, tables, batch_tokens, *more, **options)

    monkeypatch.setattr(gating, "stream_slopes", stream)
    given = {"batch_tokens": 48, "preset": "paper"}
    of = matchlens.screen(model, pairs, others=1, **given).options
    assert (of["stars"], of["digits"], of["check_batches"]["batch_tokens"]) == ("unpaired", 2, 48)
    matchlens.sweep(model, pairs, "heads", directions=["Q->D"], screened=1, **given)
    assert asked.count(48) == 2  # beside the check of the gates


def test_only_single_heads_are_screened(model, pairs):
    with pytest.raises(InputError, match=r"cut 'Q->D@0' cannot be screened"):
        matchlens.sweep(model, pairs, "only", directions=["Q->D"], screened=3)
    with pytest.raises(InputError, match=r"screened is 0; expected 1 or more heads"):
        matchlens.sweep(model, pairs, "heads", directions=["Q->D"], screened=0)
    with pytest.raises(InputError, match="others is 0"):
        matchlens.screen(model, pairs, others=0)
