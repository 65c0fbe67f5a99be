"""The reranker in PyTerrier's pipelines and experiments."""

import math

import numpy as np
import pandas as pd
import pytest

import matchlens
from matchlens import InputError, MatchlensWarning, PairSet
from matchlens.pyterrier import Reranker
from tiny import WORDS

pt = pytest.importorskip("pyterrier", reason="PyTerrier is not installed")


def candidates(queries: int = 6, passages: int = 9) -> pd.DataFrame:
    """Random candidates, as another tool would hand them over."""
    random = np.random.default_rng(5)

    def words(n: int) -> str:
        return " ".join(random.choice(WORDS, size=n))

    made = []
    for q in range(queries):
        query = words(3)
        for d in range(passages):
            row = (f"q{q}", query, f"d{q}-{d}", words(4 + d), float(random.normal()), d)
            made.append(row)
    return pd.DataFrame(made, columns=["qid", "query", "docno", "text", "score", "rank"])


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return candidates()


@pytest.fixture(scope="module")
def qrels(frame) -> pd.DataFrame:
    """Grades of the candidates, and of a passage that was not retrieved."""
    grades = np.random.default_rng(6).integers(0, 4, len(frame))
    judged = frame[["qid", "docno"]].assign(label=grades)
    more = [(f"q{q}", f"elsewhere{q}", 3) for q in range(6)]
    return pd.concat([judged, pd.DataFrame(more, columns=judged.columns)], ignore_index=True)


def test_two_candidates_of_a_frame_are_explained(tiny32, frame):
    ranked = Reranker(tiny32).transform(frame)
    mine = ranked[ranked["qid"] == "q1"].sort_values("rank")
    result = Reranker(tiny32, "Q->D").explain(ranked, "q1", points=8, swap=False)
    assert result.to_frame("passages")["docid"].tolist()[:2] == mine["docno"].tolist()[:2]
    np.testing.assert_allclose(
        result.scores["score"].to_numpy()[:2], mine["score"].to_numpy()[:2], atol=1e-4
    )
    last = mine["docno"].iloc[-1]
    named = Reranker(tiny32).explain(
        frame, "q1", [last, mine["docno"].iloc[0]], points=8, swap=False
    )
    assert named.to_frame("passages")["docid"].iloc[0] == last
    for bad in (("nowhere", None), ("q1", ["d1-0"]), ("q1", ["d1-0", "nowhere"])):
        with pytest.raises(InputError, match="expected two of them"):
            Reranker(tiny32).explain(frame, *bad)
    with pytest.raises(InputError, match="has no column text"):
        Reranker(tiny32).explain(frame.drop(columns="text"), "q1")


@pytest.mark.parametrize("cut", ["", "Q->D", "D->D@1:", "CLS->All"])
def test_ndcg_in_an_experiment_is_that_of_matchlens_with_the_full_ideal(tiny, frame, qrels, cut):
    cut = cut.replace("@1:", f"@1:{tiny.family.n_layers}")
    topics = frame[["qid", "query"]].drop_duplicates()
    pipeline = pt.Transformer.from_df(frame) >> Reranker(tiny, cut)
    found = pt.Experiment([pipeline], topics, qrels, ["ndcg_cut_10"], perquery=True)
    theirs = found.set_index("qid")["value"].to_dict()
    pairs = PairSet.from_frame(frame, qrels)
    table = matchlens.ablation(tiny, pairs, cuts=[cut] if cut else ["Q->D"]).tables["queries"]
    ours = table[table["cut"] == cut].set_index("qid")["value"].to_dict()
    if cut == "CLS->All":  # all scores are tied: the expectation is not one order's value
        assert theirs.keys() == ours.keys()
        assert max(abs(theirs[qid] - ours[qid]) for qid in ours) > 1e-6
    else:
        assert theirs == pytest.approx(ours, abs=1e-6)
    assert len(theirs) == 6


def test_scores_are_those_of_score_and_ranks_follow_them(tiny, frame):
    out = Reranker(tiny, "Q->D")(frame)
    expected = matchlens.score(tiny, frame, ["Q->D"])["Q->D"]
    assert out["score"].to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-12)
    assert [*out.columns].count("score") == 1
    for _, group in out.groupby("qid"):
        by_rank = group.sort_values("rank")
        assert by_rank["rank"].tolist() == [*range(9)]
        assert by_rank["score"].is_monotonic_decreasing
    assert frame["rank"].tolist() == [*range(9)] * 6  # what came is left as it was


def test_a_pipeline_goes_on_behind_it(tiny, frame):
    pipeline = pt.Transformer.from_df(frame) >> Reranker(tiny) % 3 >> Reranker(tiny, "D->D")
    topics = frame[["qid", "query"]].drop_duplicates()
    assert pipeline(topics).groupby("qid").size().tolist() == [3] * 6


def test_an_empty_frame_is_accepted_and_pipelines_can_be_looked_into(tiny, frame):
    reranker = Reranker(tiny)
    empty = reranker(frame.iloc[:0])
    assert len(empty) == 0
    assert {"score", "rank"} <= {*empty.columns}
    assert pt.inspect.transformer_inputs(reranker) == [["qid", "query", "docno", "text"]]
    outputs = pt.inspect.transformer_outputs(reranker, ["qid", "query", "docno", "text"])
    assert {*outputs} == {"qid", "query", "docno", "text", "score", "rank"}
    names = [one.name for one in pt.inspect.transformer_attributes(reranker)]
    assert names == ["model", "cut", "text_field", "batch_tokens"]


def test_another_column_may_hold_the_texts(tiny, frame):
    named = frame.rename(columns={"text": "body"})
    out = Reranker(tiny, text_field="body")(named)
    assert out["score"].tolist() == Reranker(tiny)(frame)["score"].tolist()
    with pytest.raises(pt.validate.InputValidationError):
        Reranker(tiny)(named)


def test_candidates_without_a_text_are_left_out_with_a_warning(tiny, frame):
    holes = frame.astype({"text": object})
    holes.loc[[1, 12, 13], "text"] = ["", None, math.nan]
    with pytest.warns(MatchlensWarning, match=r"3 of 54 candidates have no text.*such as 'd0-1'"):
        out = Reranker(tiny)(holes)
    assert len(out) == 51
    with pytest.raises(InputError, match="row 1: the passage is 3; expected text"):
        Reranker(tiny)(frame.assign(text=3))


@pytest.mark.parametrize("missing", [None, math.nan, " "])
def test_what_has_no_text_is_not_explained(tiny32, frame, missing):
    holes = frame.astype({"text": object})[frame["qid"] == "q0"]
    holes.iloc[0, holes.columns.get_loc("text")] = missing
    reranker = Reranker(tiny32)
    with pytest.warns(MatchlensWarning, match=r"1 of 9 candidates have no text.*such as 'd0-0'"):
        result = reranker.explain(holes, "q0", points=8, swap=False)
    assert result.to_frame("passages")["docid"].tolist()[:2] == ["d0-1", "d0-2"]
    with (
        pytest.warns(MatchlensWarning, match="have no text"),
        pytest.raises(InputError, match=r"has 8 candidates with a text.*expected two of them"),
    ):
        reranker.explain(holes, "q0", ["d0-0", "d0-1"])
    with (
        pytest.warns(MatchlensWarning, match="9 of 9 candidates have no text"),
        pytest.raises(InputError, match="has 0 candidates with a text"),
    ):
        reranker.explain(holes.assign(query=missing), "q0")


def test_candidates_without_a_score_are_explained_last(tiny32, frame):
    scored = frame[frame["qid"] == "q0"].drop(columns="rank").assign(score=1.0)
    scored.iloc[[0, 8], scored.columns.get_loc("score")] = [math.nan, 2.0]
    result = Reranker(tiny32).explain(scored, "q0", points=8, swap=False)
    assert result.to_frame("passages")["docid"].tolist()[:2] == ["d0-8", "d0-1"]


def test_a_model_may_come_as_a_folder(tiny_folder, tiny32, frame):
    some = frame.iloc[:3]
    assert Reranker(str(tiny_folder))(some)["score"].tolist() == pytest.approx(
        Reranker(tiny32)(some)["score"].tolist(), abs=1e-6
    )


WRONG = {
    "no model": ((3,), "model is 3; expected a model"),
    "no cut": (("model", "Q=>D"), "cut 'Q=>D', at character 2"),
    "a layer": (("model", "Q->D@99"), "layer 99 is out of range"),
    "mean": (("model", "Q->D~mean"), "expected one of zero, mask, sink"),
    "resample": (("model", "Q->D~resample"), "expected one of zero, mask, sink"),
}


@pytest.mark.parametrize(("given", "came"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_used_is_refused_at_once(tiny, given, came):
    with pytest.raises(InputError, match=came):
        Reranker(*[tiny if one == "model" else one for one in given])


def test_it_says_what_it_is_in_a_line(tiny):
    assert repr(Reranker(tiny, "Q->D")) == f"Reranker({tiny.name!r}, cut='Q->D')"
    assert len(repr(Reranker(tiny))) <= 200
