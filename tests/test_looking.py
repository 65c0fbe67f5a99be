"""Pairs to look into: the meter, spans, choice, ranks, hostile texts, command."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata

import attention_reference as reference
import matchlens
import tiny as tiny_models
import tiny_t5
from matchlens.batching import encode, spans
from matchlens.corpora import Pair, PairSet
from matchlens.errors import InputError
from matchlens.meters.arrays import PairArray
from matchlens.meters.received import READERS, ReceivedMeter
from matchlens.report.texts import plain
from matchlens.report.views.looking import looked, looking_text
from matchlens.runners import ShardedRunner, run
from matchlens.studies.common import on_disk
from matchlens.studies.looking import candidates_to_run, drawn, pick
from test_cli import call, files_of, refused, write_collection

CUTS = ["Q->D", "D->Q", "D->D@0:2"]


def pair_set(pairs) -> PairSet:
    ideals: dict = {}
    for pair in pairs:
        ideals.setdefault((pair.collection, pair.qid), []).append(max(pair.grade, 0))
    ordered = {key: tuple(sorted(grades, reverse=True)) for key, grades in ideals.items()}
    sampling = {"ideal": "sample", "candidates": "all_judged"}
    sources = ({"collection": "c"},)
    return PairSet(tuple(pairs), ordered, sampling, {"pairs": len(pairs)}, sources)


def graded(queries: int = 4, each: int = 2) -> PairSet:
    """Queries with passages of grades 3, 0 and -1, ``each`` of each."""
    made = tiny_models.pairs(queries * 3 * each, queries=queries, seed=3)
    grades = [grade for grade in (3, 0, -1) for _ in range(each)]
    rows = []
    for number, pair in enumerate(made):
        grade = grades[number // queries]
        rows.append(Pair(pair.qid, pair.docid, pair.query, pair.text, grade, grade >= 0, "", "c"))
    rows.sort(key=lambda pair: pair.qid)
    return pair_set(rows)


@pytest.fixture(scope="module")
def pairs():
    return graded()


@pytest.fixture(scope="module")
def found(tiny32, pairs):
    return matchlens.look(tiny32, pairs, looks=9, cuts=CUTS)


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
def test_what_tokens_receive_equals_dense_maps(family, tmp_path):
    tiny_models.save(tmp_path / "model", family, layers=2, heads=2, seed=1)
    model = matchlens.load(tmp_path / "model", dtype="float64", device="cpu")
    pairs = tiny_models.pairs(7, seed=2)
    longest = max(len(encode(model.tokenizer, [pair], 64).ids[0]) for pair in pairs)
    array = PairArray(tmp_path / "received.npy", (7, 2, 2, 3, longest))
    out = run(
        model, pairs, {"": []}, asked=tiny_models.watched_by(ReceivedMeter(array)), batch_tokens=100
    )
    assert len(out.batches) > 1
    plain_run = run(model, pairs, {"": []})
    np.testing.assert_allclose(out.scores.of(""), plain_run.scores.of(""), atol=1e-10)
    kept = array.mapped()
    assert kept.dtype == np.float32
    for number, pair in enumerate(pairs):
        encoded, attention, _ = reference.maps(model, pair)
        parts = encoded.parts[0]
        for place, part in enumerate(READERS):
            mean = attention[:, :, parts == part].mean(2)
            np.testing.assert_allclose(kept[number, :, :, place, : len(parts)], mean, atol=1e-6)
        assert np.isnan(kept[number, ..., len(parts) :]).all()
        assert not np.isnan(kept[number, ..., : len(parts)]).any()


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_spans_are_those_of_the_encoded_pair(family):
    tokenizer = tiny_models.tokenizer(family)
    texts = [
        ("the cat", "A Cat  sat [SEP] on\u202e the  mat, " * 9),
        ("cat " * 30, "<b>dog</b>"),
        ("dog", "x" * 150 + " tea \u00e9\U0001f600 ship"),
    ]
    for query, text in texts:
        pair = Pair("q", "d", query, text, 0)
        encoded, made = encode(tokenizer, [pair], 40), spans(tokenizer, pair, 40)
        assert made.tokens == tokenizer.convert_ids_to_tokens(encoded.ids[0].tolist())
        np.testing.assert_array_equal(made.parts, encoded.parts[0])
        for token, part, start, end in zip(
            made.tokens, made.parts, made.starts, made.ends, strict=True
        ):
            if part not in (1, 3):
                assert (start, end) == (-1, -1)
                continue
            span = (query if part == 1 else text)[start:end]
            if token not in ("[UNK]", "<unk>", "[SEP]"):
                assert span.lower().replace("\u00e9", "e") == token.removeprefix("##")


def test_tables_are_as_promised(found, pairs, tiny32):
    looks, tokens, cuts, heads = (
        found.to_frame(name) for name in ("looks", "tokens", "cuts", "heads")
    )
    assert list(looks) == [
        "look", "pair", "collection", "qid", "docid", "grade", "why", "query", "passage", "score",
        "rank", "candidates",
    ]  # fmt: skip
    assert list(tokens) == ["look", "place", "token", "text", "part", "start", "end"]
    assert found.options["readers"] == ["CLS", "Q", "D"]
    assert found.array("received").shape[:4] == (len(looks), 3, 4, 3)
    plain_scores = run(tiny32, pairs.pairs, {"": []}).scores.of("")
    for row in looks.to_dict("records"):
        pair = pairs.pairs[row["pair"]]
        assert (row["qid"], row["docid"], row["grade"]) == (pair.qid, pair.docid, pair.grade)
        assert (row["query"], row["passage"]) == (pair.query, pair.text)
        assert row["score"] == pytest.approx(plain_scores[row["pair"]], abs=1e-5)
        mine = tokens[tokens["look"] == row["look"]]
        assert mine["place"].tolist() == list(range(len(mine)))
        received = found.array("received")[row["look"], ..., : len(mine)]
        np.testing.assert_allclose(received.sum(-1), 1, atol=1e-5)
        for token in mine.to_dict("records"):
            whole = {"Q": pair.query, "D": pair.text}.get(token["part"], "")
            assert token["text"] == whole[max(token["start"], 0) : max(token["end"], 0)]
    assert set(cuts["cut"]) == set(CUTS)
    assert len(cuts) == len(CUTS) * len(looks)
    assert len(heads) == 12
    assert set(heads["directions"]) == {""}


def test_scores_and_ranks_under_cuts_equal_a_plain_run(found, pairs, tiny32):
    out = run(tiny32, pairs.pairs, {"": [], **{cut: [matchlens.Cut.parse(cut)] for cut in CUTS}})
    looks = found.to_frame("looks").set_index("look")
    for row in found.to_frame("cuts").to_dict("records"):
        pair = looks.loc[row["look"], "pair"]
        mine = [n for n, one in enumerate(pairs.pairs) if one.qid == pairs.pairs[pair].qid]
        at = mine.index(pair)
        for ending, cut in (("", row["cut"]), ("_original", "")):
            values = out.scores.of(cut)
            assert row[f"score{ending}"] == pytest.approx(values[pair], abs=1e-5)
            assert row[f"rank{ending}"] == rankdata(-values[mine])[at]
        assert row["candidates"] == len(mine) == looks.loc[row["look"], "candidates"]


def test_ties_share_their_mean_rank(tiny32, pairs):
    alike = [
        Pair(p.qid, p.docid, p.query, "the cat sat", p.grade, p.judged, "", "c")
        for p in pairs.pairs
    ]
    result = matchlens.look(tiny32, pair_set(alike), looks=2, cuts=["Q->D"])
    assert set(result.to_frame("cuts")["rank"]) == {3.5}  # six alike


def test_the_choice_is_what_it_says():
    """Ranks by hand: relevant 0 first, relevant 1 below the hard 2, easy 4 last."""
    rows = [Pair("q", f"d{n}", "q", "t", grade) for n, grade in enumerate((3, 3, 0, 0, -1))]
    ranks = {0: 1.0, 1: 4.0, 2: 2.0, 3: 3.0, 4: 5.0}
    queries = {("", "q"): [0, 1, 2, 3, 4]}
    looks = pick(rows, queries, ranks, ranks, 9, 2)
    assert [(look.row, look.why) for look in looks] == [
        (0, "relevant, the highest of them: ranked 1 of 5"),
        (1, "relevant, missed: ranked 4 of 5, below 2 negatives"),
        (2, "judged not relevant, ranked 2 of 5, above 1 relevant passage"),
        (4, "random passage, ranked 5 of 5"),
    ]
    right = pick(rows, queries, {0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0, 4: 5.0}, ranks, 9, 2)
    assert [look.row for look in right] == [0, 2, 4]  # nothing is missed
    assert "above" not in right[1].why
    assert [look.row for look in pick(rows, queries, ranks, [3], 9, 2)] == [0, 1, 3, 4]
    assert len(pick(rows, queries, ranks, ranks, 2, 2)) == 2


def test_the_choice_says_what_is_not_judged_and_what_did_not_run():
    judged = {3: True, 0: False}
    rows = [Pair("q", f"d{n}", "q", "t", g, judged[g]) for n, g in enumerate((3, 3, 0, 0))]
    ranks = {0: 2.0, 1: 4.0, 2: 1.0, 3: 3.0}
    looks = pick(rows, {("", "q"): [0, 1, 2, 3]}, ranks, [1, 3], 9, 2)
    assert [(look.row, look.why) for look in looks] == [
        (1, "relevant, the highest of them that ran under all cuts: ranked 4 of 4"),
        (3, "not judged, taken as not relevant, ranked 3 of 4, above 1 relevant passage"),
    ]
    looks = pick(rows, {("", "q"): [0, 1, 2, 3]}, ranks, [0, 1, 3], 9, 2)
    assert looks[1].why == "relevant, missed: ranked 4 of 4, below 2 negatives"


def test_queries_are_drawn_by_the_seed_not_by_order(pairs):
    everyone = range(len(pairs.pairs))
    orders = {tuple(drawn(pairs.pairs, 2, seed, everyone)) for seed in range(6)}
    assert len(orders) > 1
    assert list(drawn(pairs.pairs, 2, 0, everyone)) == list(
        drawn(pairs.pairs[::-1], 2, 0, everyone)
    )
    poor = [pair for pair in pairs.pairs if pair.qid != "q1" or pair.grade == 3]
    assert list(drawn(poor, 2, 0, range(len(poor))))[-1] == ("c", "q1")
    assert len(candidates_to_run(pairs, [], 3, 2, 0, None)) == 6  # one query
    assert len(candidates_to_run(pairs, [], 12, 2, 0, None)) == 24
    few = candidates_to_run(pairs, [23], 1, 2, 0, 3)
    assert 23 in few
    assert len(few) <= 4


def test_equal_asks_give_equal_answers(found, pairs, tiny32):
    again = matchlens.look(tiny32, pairs, looks=9, cuts=CUTS)
    for name, table in found.tables.items():
        pd.testing.assert_frame_equal(again.tables[name], table)
    np.testing.assert_array_equal(again.array("received"), found.array("received"))


def test_stored_scores_are_used_and_kept(found, pairs, tiny32):
    conditions = {"": [], **{cut: [matchlens.Cut.parse(cut)] for cut in (*CUTS, "Q->D#0.1")}}
    out = run(tiny32, pairs.pairs, conditions)
    scored = pd.DataFrame(
        [
            {"cut": cut, "pair": pair, "score": score}
            for cut in (*conditions, "D->D | edges 0")
            for pair, score in enumerate(out.scores.of("" if "|" in cut else cut))
        ]
    )
    ran = []

    class Counting(ShardedRunner):
        def __call__(self, *given, **more):
            ran.append(list(given[2]))
            return super().__call__(*given, **more)

    counting = Counting()
    result = matchlens.look(tiny32, pairs, looks=9, scored=scored, runner=counting)
    assert ran == [[""]]  # only the pass that is watched
    assert result.options["cuts"] == ["", *CUTS]  # no heads, no controls
    assert result.scores is scored
    stored = scored.set_index(["cut", "pair"])["score"]
    pair_of = result.to_frame("looks").set_index("look")["pair"]
    for row in result.to_frame("cuts").to_dict("records"):
        pair = pair_of[row["look"]]
        assert row["score"] == stored[row["cut"], pair]
        assert row["score_original"] == stored["", pair]
    # a cut that is not stored, or a chosen pair without a score, is run
    result = matchlens.look(tiny32, pairs, looks=3, scored=scored, cuts=["Q->Q"], runner=counting)
    assert ran[1:] == [["", "Q->Q"], [""]]
    assert "the cuts were run on" in result.notes[0]
    one = pairs.pairs[0]
    result = matchlens.look(
        tiny32,
        pairs,
        scored=scored[scored["pair"] > 0],
        chosen=[(one.qid, one.docid)],
        runner=counting,
    )
    assert result.to_frame("looks")["docid"].tolist() == [one.docid]
    assert len(ran[3]) == 31


def test_scores_of_fewer_candidates_are_said(pairs, tiny32):
    out = run(tiny32, pairs.pairs, {"": [], "Q->D": [matchlens.Cut.parse("Q->D")]})
    few = {n for n, pair in enumerate(pairs.pairs) if pair.grade != -1 and n % 6 != 1}
    rows = [
        {"cut": cut, "pair": pair, "score": score}
        for cut in ("", "Q->D")
        for pair, score in enumerate(out.scores.of(cut))
        if not cut or pair in few
    ]
    result = matchlens.look(tiny32, pairs, looks=12, scored=pd.DataFrame(rows))
    looks, cuts = result.to_frame("looks"), result.to_frame("cuts")
    assert set(looks["candidates"]) == {6}
    assert set(cuts["candidates"]) == {3}
    assert any("among those that were" in note for note in result.notes)
    for row in cuts.to_dict("records"):
        pair = looks["pair"][row["look"]]
        mine = [n for n in few if pairs.pairs[n].qid == pairs.pairs[pair].qid]
        assert row["rank_original"] == rankdata(-out.scores.of("")[mine])[mine.index(pair)]
    assert set(looks[looks["grade"] == 3]["pair"]) <= few  # those with cuts are preferred
    assert len(cuts) == int((looks["grade"] != -1).sum())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layer": 12}, "another model: it has the layer 12; expected 0 to 2"),
        ({"head": -1}, "another model: it has the head -1; expected 0 to 3"),
        ({"kind": None}, "matching has no column kind; expected the table 'matching'"),
    ],
)
def test_matching_heads_are_held_against_the_model(tiny32, pairs, change, said):
    row = {"layer": 2, "head": 1, "direction": "Q->D", "matching": True, "auc_found": 0.8}
    row = {key: one for key, one in {**row, "kind": "lexical", **change}.items() if one is not None}
    with pytest.raises(InputError, match=said):
        matchlens.look(tiny32, pairs, looks=1, cuts=["Q->D"], matching=pd.DataFrame([row]))


def test_matching_heads_come_first(tiny32, pairs):
    rows = [
        (2, 1, "Q->D", True, "lexical", 0.8), (0, 3, "Q->D", True, "semantic", 0.9),
        (2, 1, "D->Q", True, "semantic", 0.76), (1, 1, "Q->D", False, "lexical", 0.99),
    ]  # fmt: skip
    columns = ["layer", "head", "direction", "matching", "kind", "auc_found"]
    result = matchlens.look(
        tiny32, pairs, looks=1, cuts=["Q->D"], matching=pd.DataFrame(rows, columns=columns)
    )
    heads = result.to_frame("heads")
    assert heads.iloc[:2].to_numpy().tolist() == [
        [0, 3, "Q->D", "semantic"],
        [2, 1, "Q->D, D->Q", "lexical, semantic"],
    ]
    assert len(heads) == 12
    text = looking_text(result)
    assert "0.3 Q->D, semantic" in text
    assert "2.1 D->Q" in text


def test_a_reader_of_an_encoder_decoder_is_averaged_over_the_layers_in_which_it_reads(tmp_path):
    """Queries and passages read in the encoder alone, the decoder's token in the decoder alone."""
    model = matchlens.load(tiny_t5.save(tmp_path), device="cpu")
    result = matchlens.look(model, tiny_models.graded_by_cats(2, 3), looks=1, cuts=["Q->D"])
    received, tokens = result.array("received")[0], result.to_frame("tokens")
    encoder = model.family.body.config.num_layers
    text = looking_text(result)
    for place, (reader, part) in enumerate((("CLS", "Q"), ("Q", "D"), ("D", "Q"))):
        layers = received[encoder:] if reader == "CLS" else received[:encoder]
        inside = layers[..., place, (tokens["part"] == part).to_numpy()]
        assert f"{reader}->{part} ({inside.sum(-1).mean():.2f})".replace("(0.", "(.") in text
    numbers = json.loads(looked(result).partition("data-numbers>")[2].partition("<")[0])
    most = numbers["cards"][0]["all"][1][0]
    inside = np.nan_to_num(received[:encoder, :, 1]).mean((0, 1))
    assert most == pytest.approx(inside.max(), rel=1e-4)


def test_hostile_texts_are_kept_inert_and_bounded(tiny32, pairs, tmp_path):
    hostile = "<script>alert(1)</script> \x1b[31m\u202e</td>" + " cat" * 5
    long, solid = "cat " * 250_000, "x" * 1_000_000
    texts = iter([hostile, long, solid])
    rows = [Pair("q", f"d{n}", "cat", next(texts), grade) for n, grade in enumerate((3, 0, -1))]
    result = matchlens.look(tiny32, pair_set(rows), cuts=["Q->D"])
    looks = result.to_frame("looks").set_index("docid")
    assert looks.loc["d0", "passage"] == hostile
    assert 20_000 < len(looks.loc["d1", "passage"]) < 21_000
    assert len(looks.loc["d2", "passage"]) == 60_000
    tokens = result.to_frame("tokens")
    assert tokens["text"].str.len().max() == 1000
    assert tokens["end"].max() == 1_000_000
    assert sum("1,000,000 characters" in note for note in result.notes) == 2
    assert any("tokens are kept up to 1,000 characters" in note for note in result.notes)
    result.save(tmp_path / "out")
    assert sum(map(len, files_of(tmp_path / "out").values())) < 1_000_000
    text = looking_text(result)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "<script>" in text  # a terminal runs no scripts
    assert max(map(len, text.splitlines())) < 300
    assert plain("a\tb\r\x00c\u200f") == "a b \N{REPLACEMENT CHARACTER}c\N{REPLACEMENT CHARACTER}"


def test_what_is_kept_survives_saving_and_continuing(found, pairs, tiny32, tmp_path):
    out = tmp_path / "out"
    matchlens.ablation(tiny32, pairs, cuts=["Q->D"], rank_easy=True).save(out)
    before = files_of(out)
    scored = matchlens.Result.load(out, "ablation").scores
    matchlens.look(tiny32, pairs, looks=9, scored=scored).save(out)
    assert files_of(out)["scores.parquet"] == before["scores.parquet"]
    assert files_of(out)["pairs.parquet"] == before["pairs.parquet"]
    found.save(out)
    matchlens.ablation(tiny32, pairs, cuts=["D->D"], rank_easy=True).save(out)
    back = matchlens.Result.load(out, "looking")
    np.testing.assert_array_equal(back.array("received"), found.array("received"))
    for name, table in found.tables.items():
        pd.testing.assert_frame_equal(back.tables[name], table)
    assert looking_text(back) == looking_text(found)


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"looks": 0}, "looks is 0; expected 1 to 100"),
        ({"chosen": []}, "looks is 0"),
        ({"chosen": [("q0", "nowhere")]}, "query 'q0' and passage 'nowhere' is not among the 24"),
        ({"chosen": [("q0", "p0"), ("q0", "p0")]}, "given twice"),
        ({"tie_tol": -1.0}, "tie_tol is -1.0"),
        ({"cuts": ["Q->"]}, "cut 'Q->'"),
        ({"scored": pd.DataFrame({"cut": [""], "pair": [0]})}, "no column score"),
        ({"scored": pd.DataFrame({"cut": [""], "pair": [99], "score": [0.0]})}, "other pairs"),
        ({"scored": pd.DataFrame({"cut": [""], "pair": [0], "score": [np.nan]})}, "NaN"),
    ],
)
def test_bad_input_is_one_line(tiny32, pairs, options, fragment):
    with pytest.raises(matchlens.InputError, match=fragment):
        matchlens.look(tiny32, pairs, **options)


def test_pairs_of_several_collections_are_told_apart(tiny32, pairs):
    both = pair_set([*pairs.pairs, *(replace(pair, collection="e") for pair in pairs.pairs)])
    with pytest.raises(matchlens.InputError, match="in the collections 'c', 'e'; name the"):
        matchlens.look(tiny32, both, chosen=[("q0", "p0")])
    result = matchlens.look(tiny32, both, chosen=[("e", "q0", "p0")], cuts=["Q->D"])
    assert result.to_frame("looks")["collection"].tolist() == ["e"]
    assert result.to_frame("looks")["why"][0].startswith("asked for: relevant, ranked ")


def test_scores_of_another_model_are_refused(pairs, tiny32):
    rows = [
        {"cut": cut, "pair": pair, "score": float(pair)}
        for cut in ("", "Q->D")
        for pair in range(len(pairs.pairs))
    ]
    with pytest.raises(matchlens.InputError, match="expected scores of these pairs by this model"):
        matchlens.look(tiny32, pairs, scored=pd.DataFrame(rows))


@pytest.fixture(scope="module")
def words(tmp_path_factory, tiny_folder):
    files = write_collection(tmp_path_factory.mktemp("look"), seed=1)
    return ["--model", tiny_folder, *files, "--easy", "0", "--quiet"]


def test_the_command_writes_the_study(words, tmp_path):
    out = tmp_path / "out"
    done = call("look", *words, "--looks", "3", "--cut", "Q->D", "--out", out)
    assert (done.status, done.err) == (0, "")
    assert "Look 0: relevant, the highest of them" in done.out
    assert "Look 1" not in done.out
    assert "Q->D" in done.out
    held = files_of(out)
    tables = {f"looking/{name}.parquet" for name in ("looks", "tokens", "cuts", "heads")}
    assert {*tables, "meters/received.npy", "looking/looking.txt"} < set(held)
    assert b"Look 1: " in held["looking/looking.txt"]
    again = call("look", *words, "--looks", "3", "--cut", "Q->D", "--out", out)
    assert again.out == done.out
    now = files_of(out)
    assert {name for name in held if held[name] != now[name]} <= {"run.log", "manifest.json"}


@pytest.mark.slow
def test_the_command_uses_what_the_folder_holds(words, tmp_path):
    out = tmp_path / "out"
    assert call("ablation", *words, "--cut", "D->D", "--out", out).status == 0
    scores = files_of(out)["scores.parquet"]
    result_pairs = pd.read_parquet(out / "pairs.parquet")
    qid, docid = result_pairs["qid"][0], result_pairs["docid"][0]
    done = call("look", *words, "--pair", f"{qid} {docid}", "--out", out)
    assert (done.status, done.err) == (0, "")
    assert "asked for" in done.out
    assert files_of(out)["scores.parquet"] == scores
    assert matchlens.Result.load(out, "looking").to_frame("cuts")["cut"].tolist() == ["D->D"]
    done = call("look", *words, "--looks", "3", "--cut", "Q->D", "--out", out)
    assert "cuts were run on" in done.out  # this cut is not at hand
    again = call("look", *words, "--looks", "12", "--out", out)  # nor is that look in its way
    assert "cuts were run on" not in again.out
    assert again.err == ""
    told = call("look", *words, "--looks", "3", "--pairs", "9", "--dry-run", "--out", out)
    assert "are stored, and no cut is made\n1 conditions (the untouched model amo" in told.out
    assert "under cuts are in" in told.err
    assert "--pairs has no effect: leave it out" in told.err
    assert len(matchlens.Result.load(out, "looking").to_frame("looks")) > 3


def test_explain_runs_nothing(words, monkeypatch):
    monkeypatch.setattr("matchlens.models.load.load", lambda *_, **__: 1 / 0)
    done = call("look", *words, "--looks", "3", "--dry-run")
    assert done.status == 0
    assert "31 conditions (the untouched model among them), 8 pairs" in done.out


@pytest.mark.parametrize(
    ("bad", "fragment"),
    [
        (["--looks", "0"], "looks is 0"),
        (["--pair", "q0 x"], "is not among the 32 pairs"),
        (["--pair", "q0"], "pair 'q0' does not hold two ids"),
        (["--cut", "Q->"], "cut 'Q->'"),
    ],
)
def test_bad_options_are_one_line_and_status_2(words, tmp_path, bad, fragment):
    assert fragment in refused("look", *words, *bad, "--out", tmp_path / "out")


@pytest.mark.parametrize(
    ("where", "remedy"),
    [("", "set TMPDIR to a folder with room"), ("out/work", "make room there")],
)
def test_a_full_disk_names_the_remedy_that_helps_there(where, remedy, tmp_path, monkeypatch):
    """Arrays beside the results go to the results' disk, whatever TMPDIR is."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    says = rf"they need 2 MiB there: {remedy}$"
    with (
        pytest.raises(InputError, match=says),
        on_disk("the numbers", tmp_path / where / "a", [(2**18,), (2**9, 2**9)]),
    ):
        raise OSError(28, "No space left on device")
