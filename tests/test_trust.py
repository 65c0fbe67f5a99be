"""Damage told from luck: fewer pairs, sets of heads, halves, several hows, controls."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import matchlens
import tiny as tiny_models
import tiny_decoders
import tiny_t5
from matchlens.corpora import EASY_GRADE, PairSet, choose, demo, thin
from matchlens.directions import Cut
from matchlens.parts import Part
from matchlens.ranking import benjamini_hochberg, compare, holm
from matchlens.report.views import text_of
from matchlens.report.views.ablation import costliest, marked
from matchlens.report.views.controls import CONTROLS, controls
from matchlens.studies.attention.watching import watch
from matchlens.studies.claims.claims import summary
from matchlens.studies.common import half
from matchlens.studies.cuts.controls import _verdicts, control_conditions
from matchlens.studies.cuts.cut_modes import agreement, expand_modes
from matchlens.studies.cuts.head_sets import _masses, random_sets
from matchlens.studies.cuts.sweeps import select


@pytest.fixture(scope="module")
def collection():
    return demo.load()


@pytest.fixture(scope="module")
def few(collection) -> PairSet:
    return choose(collection, per_grade=1, queries=12)


def test_thinning_draws_whole_queries_and_fills_up_to_the_number(collection):
    whole = choose(collection)  # 12 passages a query, 3 of each grade
    kept, rows = thin(whole, 300)
    assert len(kept.pairs) == 300
    assert [whole.pairs[row] for row in rows] == list(kept.pairs)
    fewer = choose(collection, queries=25)
    assert kept.pairs == fewer.pairs  # the queries that choose draws, each with all its passages
    assert kept.ideals == fewer.ideals
    assert len(thin(whole, 10**6)[0].pairs) == len(whole.pairs)
    assert set(thin(whole, 100)[1]) < set(rows)
    assert thin(whole, 300, seed=1)[1] != rows


def test_thinning_takes_evenly_from_the_grades_of_the_last_query(collection):
    whole = choose(collection)
    for most in (5, 20, 100, 130):
        kept, _ = thin(whole, most)
        assert len(kept.pairs) == most
        grades = pd.crosstab([pair.qid for pair in kept.pairs], [pair.grade for pair in kept.pairs])
        last = grades[grades.sum(axis=1) < 12]
        assert len(last) == 1
        assert last.to_numpy().max() - last.to_numpy().min() <= 1
        assert last.to_numpy().min() >= 1
    assert len(thin(whole, 27)[0].pairs) == 24  # three passages of four grades: left out
    two_a_grade = choose(collection, per_grade=2).pairs
    last = {pair.qid for pair in thin(whole, 8)[0].pairs}
    assert thin(whole, 8)[0].pairs == tuple(pair for pair in two_a_grade if pair.qid in last)
    with pytest.raises(matchlens.InputError, match="fewer than one query has"):
        thin(whole, 2)
    with pytest.raises(matchlens.InputError, match="at most 0 pairs"):
        thin(whole, 0)


def test_thinning_a_run_keeps_its_first_passages_and_the_full_ideal(collection):
    from dataclasses import replace

    run = {qid: sorted(grades) for qid, grades in collection.qrels.items()}
    chosen = choose(replace(collection, run=run), depth=12)
    kept, _ = thin(chosen, 100)
    by_query: dict = {}
    for pair in kept.pairs:
        by_query.setdefault(pair.qid, []).append(pair.docid)
    assert len(by_query) == 10
    for qid, docids in by_query.items():
        assert docids == run[qid][:10]
        assert kept.ideals["demo", qid] == chosen.ideals["demo", qid]


def test_thinning_a_run_keeps_the_easy_negatives_beside_the_depth(collection):
    run = {qid: sorted(grades) for qid, grades in collection.qrels.items()}
    chosen = choose(replace(collection, run=run), depth=12, easy=3)
    for most, depth, queries in ((32 * 15 - 1, 11, 32), (32 * 13, 10, 32), (39, 10, 3)):
        kept = thin(chosen, most, easy=True)[0]
        table = pd.DataFrame([(pair.qid, pair.grade == EASY_GRADE) for pair in kept.pairs])
        counts = table.groupby(0)[1].agg(["sum", "size"])
        assert len(counts) == queries
        assert set(counts["sum"]) == {3}
        assert set(counts["size"]) == {depth + 3}
        alone = thin(chosen, queries * depth)[0].pairs
        assert tuple(pair for pair in kept.pairs if pair.grade != EASY_GRADE) == alone


def test_thinning_leaves_easy_negatives_out_unless_they_are_ranked(collection):
    chosen = choose(collection, per_grade=1, queries=4, easy=3)
    assert all(pair.grade != EASY_GRADE for pair in thin(chosen, 100)[0].pairs)
    kept = thin(chosen, 100, easy=True)[0]
    assert sum(pair.grade == EASY_GRADE for pair in kept.pairs) == 12


def test_a_study_on_fewer_pairs_says_so_and_shares_the_folder(tiny, collection, tmp_path):
    chosen = choose(collection, queries=6, per_grade=2)
    whole = matchlens.ablation(tiny, chosen, cuts=["Q->D"])
    part = matchlens.ablation(tiny, chosen, cuts=["D->D"], most_pairs=30)
    assert part.identity == whole.identity
    assert part.options["pairs_run"] == 30
    assert part.notes[0] == "run on 30 of 48 pairs, 4 queries"
    pd.testing.assert_frame_equal(part.pairs, whole.pairs)
    whole.save(tmp_path / "out")
    part.save(tmp_path / "out")
    scores = pd.read_parquet(tmp_path / "out/scores.parquet")
    counts = scores["cut"].value_counts()
    assert (counts[""], counts["Q->D"], counts["D->D"]) == (48, 48, 30)
    assert not scores.duplicated(["cut", "pair"]).any()
    kept = thin(chosen, 30)[0]
    alone = matchlens.ablation(tiny, kept, cuts=["D->D"]).to_frame()
    pd.testing.assert_frame_equal(part.to_frame(), alone)


def test_batches_are_recorded(tiny, few):
    result = matchlens.ablation(tiny, few, cuts=["Q->D"], batch_tokens=300)
    batches = result.options["batches"]
    assert batches["batch_tokens"] == 300
    assert sum(batches["pairs"]) == len(few.pairs)
    assert batches["number"] == len(batches["pairs"]) > 1


@pytest.mark.parametrize(
    ("cuts", "compared"), [([], "(untouched), scores"), (["D->D"], "(D->D), scores")]
)
def test_a_rounded_run_compares_no_means_of_a_sample(cuts, compared, tiny32, few):
    """The sample, 8 of 12 queries, has other means; all else is equal where nothing is rounded."""
    model = replace(tiny32, dtype="bfloat16")
    result = matchlens.ablation(model, few, cuts=[*cuts, "CLS->All~mean"])
    (note,) = [note for note in result.notes if note.startswith("bfloat16 against float32")]
    assert compared in note
    assert float(note.partition("scores off by ")[2].split()[0]) < 1e-5
    assert "; cuts by mean are not compared: the sample has other means than the run" in note


def test_random_sets_match_the_layers_and_differ(tiny):
    named = ((0, 1), (2, 0), (2, 3))
    drawn = random_sets(named, 12, 100, seed=0)
    assert len(set(drawn)) == 100
    assert named not in drawn
    for one in drawn:
        assert [layer for layer, _ in one] == [0, 2, 2]
        assert len(set(one)) == 3
    assert drawn == random_sets(((0, 2), (2, 1), (2, 2)), 12, 100, seed=0)
    assert drawn != random_sets(named, 12, 100, seed=1)
    every = random_sets(((1, 0), (1, 2)), 4, 100, seed=0)
    assert len(every) == 5  # 4 choose 2, without the set itself


def test_random_sets_match_the_attention_as_near_as_can_be():
    mass = np.random.default_rng(0).random((3, 12))
    named = ((0, 1), (2, 0), (2, 3))
    near = random_sets(named, 12, 100, seed=0, mass=mass)
    any_ = random_sets(named, 12, 100, seed=0)
    off = [
        [abs(sum(mass[head] for head in one) - sum(mass[head] for head in named)) for one in some]
        for some in (near, any_)
    ]
    assert len(set(near)) == 100
    assert named not in near
    assert [layer for layer, _ in near[0]] == [0, 2, 2]
    # of all 792 sets but the named one, the hundred nearest, since all of them are candidates
    every = random_sets(named, 12, 10**4, seed=0)
    assert len(every) == 12 * 66 - 1
    best = sorted(abs(sum(mass[h] for h in one) - sum(mass[h] for h in named)) for one in every)
    np.testing.assert_allclose(sorted(off[0]), best[:100])
    assert max(off[0]) < np.median(off[1])


def test_random_sets_of_equal_attention_are_drawn_by_the_seed_not_by_rounding_errors():
    named = ((0, 1), (2, 0), (2, 3))

    def drawn(seed: int, noise: int) -> list:
        mass = 5 + 1e-7 * np.random.default_rng(noise).random((3, 12))
        return random_sets(named, 12, 100, seed=seed, mass=mass)

    assert drawn(0, 1) == drawn(0, 2)
    assert len(set(drawn(0, 1)) & set(drawn(1, 1))) < 50
    shares = pd.Series([head for one in drawn(0, 1) for head in one if head[0] == 0])
    assert shares.value_counts().max() < 25  # of a hundred, over twelve heads


def test_head_sets_say_how_well_the_random_sets_match(tiny, few):
    result = matchlens.head_sets(tiny, few, {"pair": "0.1,2.3"}, directions=["Q->D"])
    row, points = result.to_frame("sets").iloc[0], result.to_frame("points")
    watched = watch(tiny, few, ["mass"])
    mass = watched.arrays["mass"].mapped()[..., int(Part.Q), int(Part.D)].mean(0)
    random = points[points["draw"] >= 0]
    named = points[points["draw"] == -1].iloc[0]
    assert row["mass"] == named["mass"] == pytest.approx(mass[0, 1] + mass[2, 3])
    assert row["random_mass"] == pytest.approx(random["mass"].mean())
    assert row["random_mass_low"] <= row["random_mass"] <= row["random_mass_high"]
    assert row["random_shared"] == pytest.approx(random["shared"].mean())
    assert 0 < row["random_shared"] < 1  # all 15 other pairs of heads, some with one of these
    tau = points["tau_b"].to_numpy()
    as_much = (tau[1:] <= tau[0] + 1e-12).sum()
    assert row["p_tau"] == (1 + as_much) / (1 + row["draws"])
    text = text_of(result)
    for words in ("p measure (uncorrected)", "p order (uncorrected)", "(Holm)", "random mass"):
        assert words in text
    assert "shared" in text
    assert "the named one among 15 random ones" in text
    sets = result.to_frame("sets")
    result.tables["sets"] = pd.concat([sets, sets.assign(set="one", draws=3)])
    text = text_of(result)
    assert "the named one among 3 to 15 (draws) random ones" in text
    assert " draws " in text.partition("p measure")[0]


@pytest.mark.parametrize(
    ("save", "direction", "mass"),
    [
        (lambda folder: tiny_decoders.save(folder, "qwen3"), "{CLS,Q,SEP1}->All", [2, 2]),
        (tiny_t5.save, "{DEC,D}->All", [1, 1]),  # encoder layers have rows of D, decoder layers DEC
    ],
)
def test_a_whole_row_has_attention_1_beside_a_prompt(tmp_path, few, save, direction, mass):
    model, named = matchlens.load(save(tmp_path)), "D->{CLS,Q,SEP1,D,SEP2}"
    found = _masses(model, thin(few, 8)[0], [direction, named], None, None)
    for layer, whole in zip((0, -1), mass, strict=True):
        np.testing.assert_allclose(found[direction][layer], whole, atol=1e-5)
    assert (found[named][0] < 0.999).all()  # the prompt has the rest


@pytest.mark.slow
def test_head_sets_count_the_random_sets_that_do_as_much(tiny, few):
    sets = {"pair": "0.1,2.3", "one": [(1, 2)]}
    result = matchlens.head_sets(
        tiny, few, sets, directions=["Q->D", "D->Q"], hows=["zero", "mask"]
    )
    table, points = result.to_frame("sets"), result.to_frame("points")
    assert len(table) == 2 * 2 * 2
    for row in table.itertuples():
        mine = points[
            (points["set"] == row.set)
            & (points["direction"] == row.direction)
            & (points["how"] == row.how)
        ]
        random = mine[mine["draw"] >= 0]
        assert len(random) == row.draws == {"pair": 15, "one": 3}[row.set]
        as_low = (random["diff"] <= row.diff + 1e-12).sum()
        assert row.p_random == (1 + as_low) / (1 + row.draws)
        assert row.random_mean == pytest.approx(random["diff"].mean())
        own = mine[mine["draw"] == -1].iloc[0]
        alone = matchlens.ablation(tiny, few, cuts=[own["cut"]]).to_frame().iloc[2]
        assert own["diff"] == pytest.approx(alone["diff"], abs=1e-12)
    for name in ("p_random", "p_tau"):
        np.testing.assert_allclose(table[f"{name}_holm"], holm(table[name].to_numpy()))
    assert result.options["sets"] == {"pair": "0.1,2.3", "one": "1.2"}


@pytest.mark.parametrize(
    ("sets", "random", "fragment"),
    [
        ({}, 100, "no set of heads"),
        ({"a": "0.1"}, 99, "random is 99"),
        ({"a": "x"}, 100, "has the heads 'x'"),
        ({"a": ""}, 100, "expected layer.head"),
        ({"a": "0.9"}, 100, "head 0.9"),
        ({"a": "0.0,0.1,0.2,0.3"}, 100, "every head of its layers"),
    ],
)
def test_bad_sets_are_refused(tiny, few, sets, random, fragment):
    with pytest.raises(matchlens.InputError, match=fragment):
        matchlens.head_sets(tiny, few, sets, random=random)


def test_heads_are_chosen_on_one_half_and_reported_on_the_other(tiny, collection):
    chosen = choose(collection, per_grade=1, queries=20)
    result = matchlens.sweep(tiny, chosen, "heads", directions=["D->All"], seed=3)
    found, queries = result.to_frame("selected"), result.to_frame("queries")
    wide = queries.pivot(index="qid", columns="cut", values="value")
    side = np.array([half(qid, 3) for qid in wide.index])
    assert set(side) == {0, 1}
    for row in found.itertuples():
        change = (wide[row.cut] - wide[""]).to_numpy()
        assert row.diff_select == pytest.approx(change[side == 0].mean())
        assert row.diff_report == pytest.approx(change[side == 1].mean())
    assert found["diff_select"].abs().is_monotonic_decreasing
    tests = compare(
        wide.loc[side == 1, found["cut"]].to_numpy().T.copy(),
        wide.loc[side == 1, ""].to_numpy(),
        ["demo"] * int((side == 1).sum()),
        seed=3,
    )
    np.testing.assert_allclose(found["p_report_holm"], holm(tests["p"].to_numpy()))
    held = (found["p_report_holm"] <= 0.05) & (found["diff_select"] * found["diff_report"] > 0)
    assert found["held"].tolist() == held.tolist()


def test_heads_are_selected_by_tests_that_are_corrected_for_each_how_apart():
    points = pd.DataFrame({"direction": "Q->D", "how": ["zero"] * 3 + ["mask"] * 3, "n": 0})
    points = points.assign(head=[0, 1, 2] * 2, cut=list("abcdef"))
    names = [(cut, "c", str(qid)) for cut in ["", *points["cut"]] for qid in range(24)]
    queries = pd.DataFrame(names, columns=["cut", "collection", "qid"])
    queries["value"] = np.random.default_rng(0).random(len(queries))
    found, _ = select(points, queries, 0)
    wide = queries.pivot(index="qid", columns="cut", values="value")
    wide = wide[[half(qid, 0) == 0 for qid in wide.index]]
    values = wide[list("abcdef")].to_numpy().T.copy()
    p = compare(values, wide[""].to_numpy(), ["c"] * len(wide), seed=0)["p"].to_numpy()
    q = [*benjamini_hochberg(p[:3]), *benjamini_hochberg(p[3:])]
    expected = dict(zip("abcdef", q, strict=True))
    assert len(found) > 1
    assert found["q_select"].tolist() == [expected[cut] for cut in found["cut"]]


def test_too_few_queries_select_nothing_and_say_so():
    points = pd.DataFrame(
        [{"direction": "Q->D", "how": "zero", "n": 0, "head": 0, "cut": "Q->D#0.0"}]
    )
    queries = pd.DataFrame(
        {"cut": ["", "Q->D#0.0"], "collection": "c", "qid": "1", "value": [0.5, 0.4]}
    )
    found, said = select(points, queries, 0)
    assert found.empty
    assert "too few queries" in said[0]


def test_ways_make_every_cut_in_every_way():
    made, impossible = expand_modes(["Q->D", "D->SEP2", "Q->D@3"], ["zero", "sink", "zero"])
    assert [way.cut for way in made] == ["Q->D", "D->SEP2", "Q->D@3", "Q->D~sink", "Q->D@3~sink"]
    assert impossible == ["D->SEP2~sink"]
    assert [way.how for way in expand_modes(["Q->D~mean"], None)[0]] == ["mean"]
    for empty in ("", " "):  # no cut is in no mode
        made, impossible = expand_modes([empty, "Q->D"], ["zero", "mask"])
        assert ([way.cut for way in made], impossible) == (["Q->D", "Q->D~mask"], [])
        assert [way.cut for way in expand_modes([empty, "Q->D"], None)[0]] == ["Q->D"]
    for cuts, hows, fragment in [
        (["Q->D"], ["sever"], "how 'sever'"),
        (["Q->D~mask"], ["zero"], "names its own way"),
        (["Q->SEP2", "Q->All"], ["sink"], "moves the removed mass to SEP2"),
        (["Q-D"], ["zero"], "character"),
    ]:
        with pytest.raises(matchlens.InputError, match=fragment):
            expand_modes(cuts, hows)


@pytest.mark.parametrize(
    ("diffs", "stars", "verdict", "same_sign"),
    [
        ([-0.2, -0.1], [True, True], "falls", True),
        ([0.2, 0.1], [True, True], "rises", True),
        ([-0.2, 0.1], [True, True], "contradiction", False),
        ([-0.2, -0.1], [True, False], "depends", True),
        ([-0.2, 0.1], [False, False], "no effect", False),
        ([-0.2, 0.0], [False, False], "no effect", True),
    ],
)
def test_agreement_of_hows(diffs, stars, verdict, same_sign):
    table = pd.DataFrame({"base": "Q->D", "how": ["zero", "mask"], "diff": diffs})
    row = agreement(table, stars).iloc[0]
    assert (row["verdict"], row["same_sign"]) == (verdict, same_sign)
    assert row["zero"] == diffs[0]
    assert row["same_significance"] == (stars[0] == stars[1])


def test_an_ablation_in_several_ways_corrects_each_by_itself(tiny, few):
    cuts = ["Q->D", "D->D", "D->SEP2"]
    both = matchlens.ablation(tiny, few, cuts=cuts, hows=["zero", "sink"])
    table = both.to_frame().set_index("cut")
    alone = matchlens.ablation(tiny, few, cuts=cuts).to_frame().set_index("cut")
    for cut in cuts:
        assert table.loc[cut, "p_holm"] == pytest.approx(alone.loc[cut, "p_holm"])
    agree = both.to_frame("agreement").set_index("cut")
    assert agree.loc["Q->D", "sink"] == table.loc["Q->D~sink", "diff"]
    assert np.isnan(agree.loc["D->SEP2", "sink"])
    assert agree.loc["D->SEP2", "hows"] == 1
    assert any("1 cut left out" in note for note in both.notes)
    assert "agreement" not in matchlens.ablation(tiny, few, cuts=cuts).tables


def test_sets_of_cuts_keep_their_own_how_and_say_so(tiny, few):
    joint = {"joint": ["Q->D", "D->Q"]}
    both = matchlens.ablation(tiny, few, cuts=["", "Q->D"], sets=joint, hows=["mask"])
    assert both.to_frame()["cut"].tolist() == ["", "random", "Q->D~mask", "joint"]
    assert any("the sets of cuts keep the hows of their own cuts" in note for note in both.notes)
    alone = matchlens.ablation(tiny, few, sets=joint)
    assert not any("keep the hows" in note for note in alone.notes)
    assert alone.to_frame()["mean"].iloc[-1] == pytest.approx(both.to_frame()["mean"].iloc[-1])
    for cuts in (None, [], [""]):
        with pytest.raises(matchlens.InputError, match="how mask came with sets of cuts alone"):
            matchlens.ablation(tiny, few, cuts=cuts, sets=joint, hows=["mask"])


def test_a_controlled_cut_without_a_how_takes_the_preset_s(tiny, few):
    conditions, made, _ = control_conditions(["D->D", "Q->D~zero"], None, 1, "mask")
    assert [(one.cut, one.how) for one in made] == [("D->D~mask", "mask"), ("Q->D~zero", "zero")]
    assert "D->D~mask | edges 0" in conditions
    result = matchlens.controls(tiny, few, ["D->D"], preset="zhan2020", draws=1)
    assert result.options["hows"] == ["mask"]
    assert result.to_frame()["cut"].tolist() == ["D->D~mask"]
    with pytest.raises(matchlens.InputError, match="no cut given"):
        matchlens.controls(tiny, few, [""])


def test_controls_stand_beside_their_cut(tiny, few):
    result = matchlens.controls(tiny, few, ["D->D", "Q->D~mask"], draws=2)
    table, draws = result.to_frame("controls"), result.to_frame("draws")
    assert table["cut"].tolist() == ["D->D", "Q->D~mask"]
    names_of = draws.groupby(["of", "control"])["cut"].agg(list)
    assert {key: len(names) for key, names in names_of.items()} == {
        ("D->D", "rows"): 2, ("D->D", "scaled"): 1, ("D->D", "edges"): 2, ("D->D", "mass"): 2,
        ("Q->D~mask", "edges"): 2, ("Q->D~mask", "mass"): 2,
    }  # fmt: skip
    wide = result.to_frame("queries").pivot(index="qid", columns="cut", values="value")
    for (cut, kind), names in names_of.items():
        row = table.set_index("cut").loc[cut]
        control = wide[names].mean(axis=1)
        alone = compare(control.to_numpy()[None], wide[""].to_numpy(), ["demo"] * len(wide))
        assert row[f"{kind}_ci_low"] == pytest.approx(alone["ci_low"].iloc[0])
        assert row[f"{kind}_diff_p"] == pytest.approx(alone["p"].iloc[0])
        assert row[f"{kind}_diff"] == pytest.approx((control - wide[""]).mean())
        assert row[f"{kind}_beyond"] == pytest.approx((wide[cut] - control).mean())
        for amount in ("edges", "mass"):
            assert 0 < row[f"{kind}_overlap_{amount}"] < 1
    mask = table.set_index("cut").loc["Q->D~mask"]
    assert np.isnan(mask["rows_diff"])
    assert mask["verdict"] == "undecided"
    assert "mask takes nothing from a row" in mask["lacking"]
    alone = matchlens.ablation(tiny, few, cuts=["D->D", "Q->D~mask"]).to_frame()
    np.testing.assert_allclose(table["p_holm"], alone["p_holm"].iloc[2:])
    with pytest.raises(matchlens.InputError, match="draws is 0"):
        matchlens.controls(tiny, few, draws=0)
    for p, star in ((0.0, True), (0.05, True), (0.06, False), (np.nan, False)):
        sure = replace(result, tables={**result.tables, "controls": table.assign(rows_p_holm=p)})
        rows = [row for row in controls(sure).rows if row["control"] == CONTROLS["rows"]]
        assert rows[0]["beyond*"] == star, p


def graded_by(model, queries: int, passages: int = 8) -> PairSet:
    """Candidates whose grades follow the model's own scores: it ranks them without a fault."""
    drawn = [replace(pair, grade=0) for pair in tiny_models.pairs(queries * passages, 3, queries)]
    drawn.sort(key=lambda pair: pair.qid)
    scores = matchlens.score(model, drawn)[""].to_numpy().reshape(queries, passages)
    places = (-scores).argsort(axis=1).argsort(axis=1).ravel()
    grades = np.array([3, 2, 2, 1, 1, 0, 0, 0])[places]
    pairs = [replace(pair, grade=int(one)) for pair, one in zip(drawn, grades, strict=True)]
    ideal = (3, 2, 2, 1, 1, 0, 0, 0)
    return PairSet(
        tuple(pairs), {("tiny", f"q{number}"): ideal for number in range(queries)}, {}, {}, ()
    )


@pytest.fixture(scope="module")
def by_row_mass(tmp_path_factory):
    """A model in which attention carries one vector whatever is read: a row's sum alone counts."""
    folder = tiny_models.save(
        tmp_path_factory.mktemp("mass"), "modernbert", layers=2, classifier_pooling="mean"
    )
    model = matchlens.load(folder, device="cpu")
    for layer in model.family.layers:
        width = layer.attn.Wqkv.weight.shape[0] // 3
        layer.attn.Wqkv.weight.data[2 * width :] = 0
        layer.attn.Wqkv.bias.data[2 * width :] *= 10  # that its loss moves the ranking
    return matchlens.wrap(model.family.module, model.tokenizer)


def test_a_model_of_row_mass_alone_has_no_damage_beyond_its_row_matched_control(by_row_mass):
    pairs = graded_by(by_row_mass, queries=24)
    cuts = ["{Q,D}->{Q,SEP1}", "D->{D,CLS,SEP1,SEP2}"]
    result = matchlens.controls(by_row_mass, pairs, cuts, draws=2)
    table = result.to_frame().set_index("cut")
    few = table.loc[cuts[0]]
    assert few["diff"] < -0.03  # the cut does damage
    assert abs(few["edges_beyond"]) > 0.01  # random edges lie in other rows
    for kind in ("rows", "scaled"):
        np.testing.assert_allclose(table[f"{kind}_beyond"], 0, atol=1e-12)
        np.testing.assert_allclose(table[f"{kind}_diff"], table["diff"], atol=1e-12)
    assert few["verdict"] == "only the amount"
    assert few["p_only"] <= few["verdict_p_holm"] <= 0.05 < few["p_beyond"]
    most = table.loc[cuts[1]]  # little else is left to the row
    assert most["rows_overlap_mass"] > 0.5
    assert most["verdict"] == "undecided"
    assert "lies in the direction itself" in most["lacking"]


@pytest.mark.parametrize("overlap", [0.4, 0.6, np.nan])
def test_a_control_that_is_nearly_the_cut_never_says_only_the_amount(overlap):
    """Cut and control differ by less than the margin, and the control does a little more damage."""
    about, rows = control_conditions(["D->D"], None, draws=1)[2], {"cut": ["D->D"]}
    control = next(row["cut"] for row in about if row["control"] == "rows")
    jitter = np.tile([-0.001, 0.001], 8)
    lower = {"": 0.8, "random": 0.3, "D->D": 0.7 + jitter, control: 0.695 - jitter}
    names = pd.MultiIndex.from_product([["a"], range(16)], names=["collection", "qid"])
    wide = pd.DataFrame({name: np.zeros(16) + value for name, value in lower.items()}, index=names)
    wide["random"] += np.tile([-0.1, 0.1], 8)
    table = pd.DataFrame({**rows, "rows_overlap_mass": [overlap]})
    found = _verdicts(table, pd.DataFrame(about), wide, 0.06, 0).iloc[0]
    assert found["verdict"] == ("less than the amount" if overlap == 0.6 else "only the amount")
    assert (found["verdict_p"] > found["p_only"]) == (overlap == 0.6)


def test_a_direction_that_matters_is_beyond_the_amount(tmp_path):
    """A model in which the tokens that the score hangs on read a word in the passage."""
    model = matchlens.load(tiny_models.save_copying(tmp_path), dtype="float64", device="cpu")
    pairs = tiny_models.graded_by_cats(queries=16)
    result = matchlens.controls(model, pairs, ["{CLS,SEP1,SEP2}->{Q,D}", "D->Q"], draws=1)
    table = result.to_frame().set_index("cut")
    row = table.loc["{CLS,SEP1,SEP2}->{Q,D}"]
    assert row["verdict"] == "beyond the amount"
    assert row["verdict_p"] == row["p_beyond"] <= row["verdict_p_holm"] <= 0.05
    idle = table.loc["D->Q"]
    assert idle["verdict"] == "undecided"
    assert idle["lacking"] == "the cut itself is not shown to lower the measure"
    text = text_of(result)
    assert "{CLS,SEP1,SEP2}->{Q,D}: the direction matters beyond the amount" in text
    assert "the same rows lose as much, elsewhere" in text


BLIND = (
    *("CLS->All", "CLS->All~mean", "CLS->{CLS,Q,SEP1,D,SEP2}~mask", "CLS->All@0:3"),
    *("CLS->{Q,SEP1,D,SEP2}~mask", "{CLS,Q,SEP1}->{D,SEP2}~mask"),
    "CLS->All#" + ",".join(f"{layer}.{head}" for layer in range(3) for head in range(4)),
)
SEEING = (
    *("CLS->All@0:2", "CLS->{Q,SEP1,D,SEP2}", "{CLS,Q,SEP1}->{D,SEP2}", "CLS->All~resample"),
    *("CLS->{Q,D}~mask", "CLS->{Q,SEP1,D}~sink", "{Q,SEP1}->{D,SEP2}~mask"),
)


def test_cuts_that_leave_the_score_nothing_are_known_by_what_the_rows_lose(tiny, few):
    sets = {"all": ["Q->D", "CLS->All@0", "CLS->All@1:3~mask"], "some": ["Q->D", "CLS->All@1:3"]}
    few = choose(demo.load(), per_grade=1, queries=12, easy=1)
    result = matchlens.ablation(tiny, few, cuts=[*BLIND, *SEEING], sets=sets, rank_easy=True)
    table = result.to_frame()
    table["significant"] = table["cut"].isin([*BLIND, "all", "Q->D"])
    table.loc[table["significant"], "diff"] = -0.9
    result.tables["table1"] = table
    rows = {row["cut"]: row for row in marked(result, "table1")}
    blind = [cut for cut, row in rows.items() if row["construction"]]
    assert blind == [*BLIND, "all"]
    without = replace(result, tables={"table1": table[~table["cut"].isin(blind)]})
    assert costliest(result) == costliest(without)
    said = summary({"ablation": result}, matchlens.claims({"ablation": result}))["sentence"]
    assert f"{', '.join(blind)} are left out of what follows: their rankings are random" in said[3]
    assert f"Of {len(SEEING) + 1} cuts, none lowers it" in said[4]
    assert "12 random ones (easy negatives, ranked in ablation)" in said[0]


@pytest.mark.parametrize(
    ("save", "blind"),
    [
        (lambda folder: tiny_decoders.save(folder, "qwen3"), ["CLS->All"]),  # a prompt is read, too
        (lambda folder: tiny_models.save(folder, "modernbert", classifier_pooling="mean"), []),
    ],
)
def test_where_other_rows_or_words_are_read_the_ranking_is_not_random(tmp_path, few, save, blind):
    cuts = ["CLS->All", "CLS->{CLS,Q,SEP1,D,SEP2}", "CLS->{Q,D}~mask"]
    result = matchlens.ablation(matchlens.load(save(tmp_path)), thin(few, 24)[0], cuts=cuts)
    assert [r["cut"] for r in marked(result, "table1") if r["construction"]] == blind


def test_a_set_that_is_a_single_cut_counts_twice_and_says_so(tiny, few):
    cuts = ["{Q,D}->D", "D->Q"]
    sets = {"mine": ["D->D", "Q->D@0:3"], "again": ["D->D", "Q->D"], "other": ["D->Q@0:2"]}
    notes = matchlens.ablation(tiny, few, cuts=cuts, sets=sets).notes
    same = [note for note in notes if "cuts the same as" in note]
    assert [note.partition(":")[0] for note in same] == [
        "set 'mine' cuts the same as '{Q,D}->D'",
        "set 'again' cuts the same as '{Q,D}->D'",
    ]
    notes = matchlens.ablation(tiny, few, cuts=cuts, sets=sets, hows=["zero", "mask"]).notes
    same = [note for note in notes if "cuts the same as" in note]  # hows are families of their own
    assert [note.partition(":")[0] for note in same] == ["set 'again' cuts the same as 'mine'"]


def test_presets_say_what_the_authors_and_zhan_cut(tiny, few):
    authors = matchlens.ablation(tiny, few, preset="authors")
    assert authors.options["cuts"][0] == "CLS->All"
    assert len(authors.options["cuts"]) == 7
    assert authors.options["stars"] == "unpaired"
    said = text_of(authors)
    assert "uncorrected, as in the paper" in said
    assert "Note: preset 'authors': the choices are those of its authors' research code." in said
    assert "Note: preset" not in text_of(matchlens.ablation(tiny, few, cuts=["Q->D"]))
    wide = matchlens.ablation(tiny, few, preset="zhan2020")
    assert all(text.endswith("~mask") for text in wide.options["cuts"])
    swept = matchlens.sweep(tiny, few, preset="zhan2020")
    assert set(swept.to_frame()["how"]) == {"mask"}
    for text in swept.options["directions"]:
        assert Cut.parse(text)
