"""Claims: what is decided from which numbers, and how often a decision is wrong by chance."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import matchlens
import tiny as tiny_models
from matchlens import InputError
from matchlens.ranking import bootstrap_t, holm
from matchlens.ranking.effects import (
    Evidence,
    both,
    decide,
    effect,
    of_effect,
    of_none,
    one_sided,
    queries_needed,
    unready,
)
from matchlens.studies.attention.matching import inside_layers
from matchlens.studies.attention.profiles import depth
from matchlens.studies.claims.claims import CLAIMS
from matchlens.studies.claims.decisions import mean_of
from matchlens.studies.claims.evidence import evidence, evidence_cuts, gathering, read_cls, read_sep

LAYERS, QUERIES = 6, 16
BELOW, ABOVE = gathering(LAYERS)
FALL, SMALL, NOTHING = -0.2, -0.02, 0.0
"""Against a margin of 6% of .5: an effect, an effect within the margin, none."""


def of_cuts(changes: Mapping[str, float], spread: float = 0.01, queries: int = QUERIES):
    """The study of the evidence, each cut with its mean change, normal over queries."""
    draw = np.random.default_rng(3)
    qids = [f"q{n}" for n in range(queries)]
    noise = {cut: draw.normal(size=queries) for cut in evidence_cuts(LAYERS)}
    frames = [
        pd.DataFrame(
            {
                "cut": cut,
                "collection": "c",
                "qid": qids,
                "diff": changes.get(cut, NOTHING) + spread * (one - one.mean()),
            }
        )
        for cut, one in noise.items()
    ]
    better = 0.5 + 0.05 * draw.normal(size=queries)
    frames.append(pd.DataFrame({"cut": "random", "collection": "c", "qid": qids, "diff": -better}))
    table = pd.DataFrame({"cut": list(noise), "impossible": None})
    options = {"measure": "nDCG@10", "layers": LAYERS, "seed": 0}
    empty = pd.DataFrame()
    tables = {"cuts": table, "queries": pd.concat(frames, ignore_index=True)}
    return matchlens.Result("evidence", {}, options, (), empty, empty, tables)


def of_attention(**tables: pd.DataFrame) -> matchlens.Result:
    parts = {f"{kind}_{part}": 0.1 for kind in ("mass", "norm") for part in ("CLS", "SEP1", "SEP2")}
    noop = pd.DataFrame([{"layer": layer, **parts} for layer in range(LAYERS)])
    empty = pd.DataFrame({"collection": "c", "qid": [f"q{n}" for n in range(QUERIES)]})
    options = {"seed": 0, "layers": LAYERS}
    return matchlens.Result("attention", {}, options, (), empty, empty, {"noop": noop, **tables})


def verdicts(*results: matchlens.Result, **options) -> dict[str, str]:
    table = matchlens.claims({one.study: one for one in results}, **options)
    assert table["id"].tolist() == [claim.id for claim in CLAIMS]
    assert table["found"].str.endswith(".").all()
    assert not table["found"].str.contains("nan").any()
    return dict(zip(table["id"], table["verdict"], strict=True))


def test_a_definition_names_cuts_that_are_made():
    made = {cut.partition("@")[0] for cut in evidence_cuts(LAYERS)}
    for claim in CLAIMS:
        if claim.redrawn:
            words = f"{claim.claim} {claim.definition.format(margin='6%')}"
            named = set(re.findall(r"(?:\w|\{[\w,]+\})+->(?:\{[\w,]+\}|\w+)", words))
            # the claim's own words say CLS->Q and CLS->D for CLS->{Q,D}
            assert named <= made | {"CLS->Q", "CLS->D"}, claim.id
            paths = {"separators": read_sep(LAYERS)[0], "early-cls": read_cls(LAYERS)}
            path = {**paths, "cls-last": BELOW}.get(claim.id)
            assert (path is None) or path.joint.partition("@")[0] in named, claim.id


def test_claims_of_single_cuts():
    said = verdicts(of_cuts({"D->D": FALL, "Q->D": FALL, "D->Q": SMALL}))
    assert said["document-context"] == "holds"
    assert said["document-to-query"] == "does not hold"
    assert said["query-to-document"] == "does not hold"  # shown to be within the margin
    assert verdicts(of_cuts({}))["document-to-query"] == "holds"
    assert verdicts(of_cuts({"D->D": -FALL}))["document-context"] == "does not hold"  # it rises
    wide = of_cuts({"D->D": SMALL, "Q->D": SMALL}, spread=0.2)
    assert verdicts(wide)["document-context"] == verdicts(wide)["document-to-query"] == "undecided"


def test_a_margin_is_a_share_wherever_it_is_given(tiny):
    """With a margin of 6, meant as a per cent, every verdict would be turned round."""
    held = of_cuts({"D->D": FALL})
    pairs = matchlens.choose(matchlens.demo.load(), queries=2, per_grade=1)
    for run in (
        lambda: matchlens.claims({"evidence": held}, margin=6.0),
        lambda: matchlens.Study({"evidence": held}, {}).claims(margin=0.0),
        lambda: matchlens.controls(tiny, pairs, margin=6.0),
    ):
        with pytest.raises(InputError, match=r"expected a share of .* such as 0\.06"):
            run()


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"attention": ({"model": {"sha256": "b"}, "pairs": {"number": 3}})}, "model.sha256 was"),
        ({"attention": ({"model": {"sha256": "a"}, "pairs": {"number": 4}})}, "pairs.number was 3"),
        ({"Attention": {}}, "'Attention' for a result of the study 'attention'"),
    ],
)
def test_claims_are_decided_on_one_model_and_sample(other, said):
    ((name, about),) = other.items()
    first = replace(of_cuts({}), identity={"model": {"sha256": "a"}, "pairs": {"number": 3}})
    second = replace(of_attention(), identity=about)
    with pytest.raises(InputError, match=said):
        matchlens.claims({"evidence": first, name: second})
    matchlens.claims({"evidence": first, "attention": replace(second, identity=first.identity)})


def test_two_collections_with_queries_of_their_own_are_decided_together():
    held = of_cuts({"D->D": FALL})
    queries = held.tables["queries"]
    queries.loc[queries["qid"] < "q12", "collection"] = "d"
    said = verdicts(held)
    assert (said["document-context"], said["document-to-query"]) == ("holds", "holds")
    table = matchlens.claims({"evidence": held}).set_index("id")
    assert table.loc["document-context", "n"] == QUERIES


@pytest.mark.parametrize("queries", [1, 2])
def test_one_query_decides_nothing(queries):
    assert set(verdicts(of_cuts({"D->D": FALL}, queries=queries)).values()) == {"undecided"}
    assert np.isnan(effect(np.ones(1), np.ones(1), ["c"], interval=False).p_change)
    assert queries_needed(np.ones(1)) is None
    assert queries_needed(np.array([np.nan, 1.0])) is None


def test_a_claim_says_what_the_controls_say_of_its_cut():
    row = {"cut": "D->D", "verdict": "only the amount", "verdict_p_holm": 0.01}
    table = pd.DataFrame([{**row, "rows_beyond": -0.001, "rows_overlap_mass": 0.4}])
    empty = pd.DataFrame()
    beside = matchlens.Result("controls", {}, {"seed": 0}, (), empty, empty, {"controls": table})
    found = matchlens.claims({"evidence": of_cuts({"D->D": FALL}), "controls": beside})
    said = found.set_index("id")["found"]
    assert "elsewhere: only the amount (-.001 beyond it; p = .010" in said["document-context"]
    assert "elsewhere" not in said["query-to-document"]


def test_what_is_lacking_is_said():
    table = matchlens.claims({"evidence": of_cuts({"D->D": -0.05}, spread=0.12)}).set_index("id")
    row = table.loc["document-context"]
    assert row["verdict"] == "undecided"
    assert "queries would probably decide it" in row["found"]
    assert row["needed"] > QUERIES
    assert row["p"] < row["p_holm"]
    table = of_cuts({"D->D": -0.05}, spread=0.12).tables["queries"]
    change = table.loc[table["cut"] == "D->D", "diff"].to_numpy()
    times = row["p_holm"] / row["p"]
    assert row["needed"] == queries_needed(-change, alpha=0.05 / 2 / times)
    assert row["needed"] > queries_needed(-change, alpha=0.05 / 2)
    few = matchlens.claims({"evidence": of_cuts({"D->D": FALL}, queries=9)}).set_index("id")
    assert set(few["verdict"]) == {"undecided"}
    assert "9 queries; at least 10 are needed" in few.loc["document-context", "found"]
    none = matchlens.claims({"attention": of_attention()}).set_index("id")
    assert set(none["verdict"]) == {"undecided"}
    assert none.loc["document-context", "found"].startswith("Not decided.")


def test_each_draw_of_the_sample_has_its_verdict_among_the_same_claims():
    held = of_cuts({"D->D": FALL})
    others = [of_cuts({"D->D": change}).tables["queries"] for change in (FALL, NOTHING)]
    numbered = [one.assign(draw=number) for number, one in enumerate(others, start=1)]
    held.tables["redraws"] = pd.concat(numbered, ignore_index=True)  # type: ignore[index]
    table = matchlens.claims({"evidence": held}).set_index("id")
    row = table.loc["document-context"]
    assert (row["verdict"], row["draws"]) == ("holds", "holds, holds, does not hold")
    assert row["agreement"] == "draws disagree: holds, holds, does not hold"
    assert table.loc["document-to-query", "agreement"] == "3 of 3 draws agree"
    assert table.loc["upper-right", "draws"] == "undecided"
    assert table.loc["upper-right", "agreement"].startswith("one draw")


def test_nothing_is_decided_of_a_model_that_is_not_better_than_random():
    held = of_cuts({"D->D": FALL})
    queries = held.tables["queries"]
    chance = queries["cut"] == "random"
    queries.loc[chance, "diff"] = np.tile([0.1, -0.1], QUERIES // 2)
    assert set(verdicts(held).values()) == {"undecided"}
    found = matchlens.claims({"evidence": held}).set_index("id").loc["document-context", "found"]
    assert "not shown to be better than a random ranking" in found


@pytest.mark.parametrize(("claim", "path"), [("separators", 0), ("early-cls", 1)])
def test_a_no_op_needs_the_joint_cut_where_there_is_a_back_door(claim, path):
    paths = [read_sep(LAYERS)[0], read_cls(LAYERS)]
    attention = of_attention()
    assert verdicts(of_cuts({}), attention)[claim] == "holds"
    assert verdicts(of_cuts({}))[claim] == "undecided"  # norm mass was not measured
    assert verdicts(of_cuts({paths[path].main: FALL}), attention)[claim] == "does not hold"
    joint = of_cuts({paths[path].joint: FALL})
    assert verdicts(joint, attention)[claim] == "does not hold"
    found = matchlens.claims({"evidence": joint, "attention": attention}).set_index("id")
    assert f"A backup path is shown: {paths[path].joint}" in found.loc[claim, "found"]


def test_relevance_is_gathered_last_where_only_the_upper_half_matters():
    assert verdicts(of_cuts({ABOVE.main: FALL, ABOVE.joint: FALL}))["cls-last"] == "holds"
    assert verdicts(of_cuts({ABOVE.joint: FALL}))["cls-last"] == "holds"  # SEP stood in for CLS
    both_halves = {ABOVE.main: FALL, ABOVE.joint: FALL, BELOW.joint: FALL}
    assert verdicts(of_cuts(both_halves))["cls-last"] == "does not hold"
    assert verdicts(of_cuts({}))["cls-last"] == "does not hold"


def test_cls_last_is_decided_rightly_where_sep_copies_cls(tmp_path):
    """All is gathered in the upper half, but SEP gathers it, too, and hands it on to CLS.

    So CLS alone may be blind to query and document in any layer, which looks as if nothing were
    gathered there; the joint cut finds the back door, and the claim says that it was used.
    """
    model = matchlens.load(tiny_models.save_copying(tmp_path), dtype="float64", device="cpu")
    pairs = tiny_models.graded_by_cats(queries=16)
    held = evidence(model, pairs)
    cuts = held.to_frame("cuts").set_index("cut")["diff"]
    low, high = gathering(model.family.n_layers)
    assert cuts[high.main] == pytest.approx(0, abs=1e-12)  # decides wrongly
    assert cuts[high.joint] < -0.05
    for cut in low.cuts:
        assert cuts[cut] == pytest.approx(0, abs=1e-12)
    row = matchlens.claims({"evidence": held}).set_index("id").loc["cls-last"]
    assert row["verdict"] == "holds"
    assert f"A backup path is shown: {high.joint} does more damage" in row["found"]
    assert f"used in place of {high.main}" in row["found"]


def test_a_cut_that_removes_nothing_decides_nothing():
    held = of_cuts({})
    cuts = held.tables["cuts"]
    cuts["impossible"] = [
        "the model has no SEP1" if "SEP1" in cut or cut == "Q->D" else None for cut in cuts["cut"]
    ]
    queries = held.tables["queries"]
    gone = set(cuts.loc[cuts["impossible"].notna(), "cut"])
    held.tables["queries"] = queries[~queries["cut"].isin(gone)]  # type: ignore[index]
    said = verdicts(held, of_attention())
    assert said["separators"] == said["document-to-query"] == said["cls-last"] == "undecided"
    assert said["document-context"] == "does not hold"


def of_stages(observed: float, p: float, negative: float = 0.0) -> matchlens.Result:
    row = {"direction": "Q->D", "queries": QUERIES, "lexical": 2.0, "semantic": 2.0 + observed}
    row |= {"later": observed, "null": 1.5, "p_later": p, "p_earlier": 1 - p, "negative": negative}
    return of_attention(stages=pd.DataFrame([row]))


def test_lexical_first_is_what_goes_beyond_shuffled_relevance():
    cuts = of_cuts({})
    assert verdicts(of_stages(2.5, 0.001), cuts)["lexical-first"] == "holds"
    assert verdicts(of_stages(1.5, 0.5), cuts)["lexical-first"] == "undecided"
    table = matchlens.claims({"attention": of_stages(1.5, 0.5), "evidence": cuts}).set_index("id")
    assert "How many queries would decide it cannot be told" in table.loc["lexical-first", "found"]
    assert verdicts(of_stages(0.5, 0.999), cuts)["lexical-first"] == "does not hold"
    assert verdicts(of_stages(2.5, 0.001, negative=0.3), cuts)["lexical-first"] == "undecided"
    assert verdicts(of_stages(2.5, 0.001))["lexical-first"] == "undecided"  # better than random?


@pytest.mark.parametrize(
    ("mean", "said"), [(0.1, "holds"), (-0.1, "does not hold"), (0.0, "undecided")]
)
def test_semantic_mass_of_hard_negatives(mean, said):
    more = mean + 0.02 * np.linspace(-1, 1, QUERIES)
    about = {"direction": "Q->D", "selected": False, "heads": 24, "collection": "c"}
    rows = [
        {**about, "qid": f"q{n}", "hard": 0.2, "easy": 0.1, "more": value}
        for n, value in enumerate(more)
    ]
    held = of_attention(negatives=pd.DataFrame(rows))
    assert verdicts(held, of_cuts({}))["hard-negatives"] == said


def test_matching_heads_stand_to_the_upper_right_inside_their_layers(tmp_path):
    draw = np.random.default_rng(0)
    layer, head = np.repeat(np.arange(LAYERS), 4), np.tile(np.arange(4), LAYERS)
    held = head == 0
    up, flat = draw.normal(size=24) + 5 * held, draw.normal(size=24)
    empty = pd.DataFrame()

    def said(alignment, contrast, marked=held) -> str:
        matching = {"direction": "Q->D", "layer": layer, "head": head, "held": marked}
        heads = {"layer": layer, "head": head, "alignment": alignment, "QD-DD": contrast}
        tables = {"heads": pd.DataFrame(heads)}
        circuits = matchlens.Result("circuits", {}, {"seed": 0}, (), empty, empty, tables)
        attention = of_attention(matching=pd.DataFrame(matching), conditions=pd.DataFrame())
        return verdicts(attention, circuits, of_cuts({}))["upper-right"]

    def resampled(mean: float) -> tuple[str, str]:
        """The verdict, and its words, where the contrast in resamples of the queries is `mean`
        above the layer's mean, with a standard deviation of 1."""
        path = tmp_path / f"{mean}.npy"
        moved = np.zeros((1000, LAYERS, 4), dtype=np.float32)
        moved[:, :, 0] = mean + np.random.default_rng(1).normal(size=(1000, 1)) / 0.75
        np.save(path, moved)
        table = matchlens.claims(
            {
                "attention": of_attention(
                    matching=pd.DataFrame(
                        {"direction": "Q->D", "layer": layer, "head": head, "held": held}
                    ),
                    conditions=empty,
                ),
                "circuits": matchlens.Result(
                    "circuits",
                    {},
                    {"seed": 0},
                    (),
                    empty,
                    empty,
                    {
                        "heads": pd.DataFrame(
                            {"layer": layer, "head": head, "alignment": up, "QD-DD": up}
                        )
                    },
                    arrays={"contrast_resampled": path},
                ),
                "evidence": of_cuts({}),
            }
        )
        row = table.set_index("id").loc["upper-right"]
        return row["verdict"], row["found"]

    assert said(up, up) == "holds"
    assert resampled(5)[0] == "holds"
    verdict, found = resampled(1)  # the heads stand there with these queries only
    assert verdict == "undecided"
    assert "In resamples of the queries the contrast is" in found
    assert "over the heads that the model has, whatever the number of queries" in found
    assert said(up, flat) == "undecided"
    assert said(up, -up) == "does not hold"
    upper = layer >= 4  # all heads of the upper layers, which have more of both: depth decides
    assert said(5.0 * layer + flat, 5.0 * layer + flat, marked=upper) == "undecided"


# --- the numbers behind them


def test_holm_goes_over_the_claims_in_two_families():
    evidence = [
        Evidence(0.02, 0.9),
        Evidence(0.03, 0.8),
        Evidence(np.nan, np.nan),
        Evidence(1.0, 1.0),
    ]
    found = decide(evidence)
    expected = holm(np.array([0.02, 0.03, 1.0]))
    assert [one.p_corrected for one in found[:2]] == pytest.approx(expected[:2])
    assert {one.verdict for one in found} == {"undecided"}
    assert decide([Evidence(0.001, 0.001)])[0].verdict == "does not hold"


def test_several_cuts_need_all_for_holds_and_one_for_does_not():
    fall, none = (
        effect(mean + 0.01 * np.linspace(-1, 1, 12), np.full(12, 0.5), ["c"] * 12)
        for mean in (FALL, NOTHING)
    )
    assert of_effect([fall, none]).p_holds == none.shown(-1)
    assert of_effect([fall, none]).p_not == pytest.approx(2 * none.p_none)
    assert of_none([fall, none]).p_holds == fall.p_none
    assert of_none([fall, none]).p_not == pytest.approx(2 * fall.p_beyond)
    assert both(of_none([none]), of_effect([fall])).p_holds == max(none.p_none, fall.shown(-1))


def test_a_one_sided_p_is_scipy_s():
    from scipy.stats import ttest_1samp

    values = np.random.default_rng(0).normal(size=13) + 0.3
    for sign, name in ((1, "greater"), (-1, "less")):
        assert one_sided(values, sign) == pytest.approx(
            ttest_1samp(values, 0, alternative=name).pvalue
        )
    assert one_sided(np.full(5, 0.2), 1) == 0.0
    assert one_sided(np.zeros(5), 1) == 0.5
    assert np.isnan(one_sided(np.ones(1), 1))


def test_readiness_and_the_number_of_queries():
    assert unready(np.ones(1)) == "1 query; at least 10 are needed"
    assert "better than a random ranking" in unready(np.tile([1.0, -1.0], 6))
    draw = np.random.default_rng(0)
    values = draw.normal(0.2, 0.5, 40)
    needed = queries_needed(values)
    pool = 0.2 * 0 + draw.normal(values.mean(), values.std(ddof=1), (4000, needed))
    power = np.mean([one_sided(one, 1) <= 0.05 for one in pool])
    assert 0.75 < power < 0.87
    assert queries_needed(-values) is None


def test_depth_and_marks_inside_layers():
    assert np.isnan(depth(np.zeros((1, 3)))[0])
    values, layers = np.array([1.0, 2.0, 3.0, 10.0, 20.0, 30.0]), np.repeat([0, 1], 3)
    marked = np.array([False, False, True, False, False, True])
    seen, above, below = inside_layers(values, marked, layers, seed=0, draws=2000)
    assert seen == pytest.approx((1 + 10) / 2)
    assert above == pytest.approx(1 / 9, abs=0.03)  # one of three heads in each of two layers
    assert below == pytest.approx(1.0)


def test_an_interval_is_stratified_and_absent_where_resamples_have_no_variance():
    values = np.array([[0.0, 0.0, 0.0, 1.0]])
    assert np.isnan(bootstrap_t(values, ["a"] * 4)[0][0])  # many resamples draw zeros alone
    apart = np.array([[0.0, 0.1, 0.2, 0.1, 0.05, 10.0, 10.1, 10.2, 10.1, 10.05]])
    joined = bootstrap_t(apart, ["a"] * 10)
    strata = bootstrap_t(apart, ["a"] * 5 + ["b"] * 5)
    assert (strata[1] - strata[0])[0] < 0.1 * (joined[1] - joined[0])[0]
    assert np.isnan(mean_of([0.1, 0.2], ["a", "b"], 0).low)


@pytest.mark.parametrize(
    ("kinds", "listed", "ends"),
    [
        (["unexplained", "lexical"], "1 lexical, 1 unexplained", "of the queries."),
        (
            ["lexical, query-word reader", "query-word reader"],
            "1 lexical, 2 query-word readers",
            "A head may be of several kinds.",
        ),
    ],
)
def test_kinds_that_overlap_are_stated_so(kinds, listed, ends):
    from matchlens.studies.claims.claims import _findings

    heads = pd.DataFrame({"kind": kinds}).assign(direction="Q->D", matching=True, held=True)
    tables = {"matching": heads, "conditions": heads}
    result = matchlens.Result("attention", {}, {}, (), pd.DataFrame(), pd.DataFrame(), tables)
    sentence = next(_findings({"attention": result}, pd.DataFrame({"verdict": []})))
    assert sentence.startswith(f"Of 2 heads, 2 match in Q->D ({listed}), of which 2 hold")
    assert sentence.endswith(ends)
    heads["held"] = heads.index == 0
    (sentence, _) = _findings({"attention": result}, pd.DataFrame({"verdict": []}))
    assert ", of which 1 holds on the other half" in sentence
    heads["matching"] = False
    (sentence, _) = _findings({"attention": result}, pd.DataFrame({"verdict": []}))
    assert sentence == "Of 2 heads, none matches in Q->D."
