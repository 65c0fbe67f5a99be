"""A measure that no order can change decides nothing: a run is refused, or queries are counted."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import matchlens
import tiny as tiny_models
from matchlens.corpora import Pair, PairSet
from matchlens.errors import InputError
from matchlens.studies.common import ranked, relevant_grade
from test_cli import call, refused, well

BINARY, POSITIVES, GRADED, NO_ZERO = [1, 1, 0, 0, 0], [1, 1], [3, 2, 1, 0], [1, 2, 1, 2]


def pair_set(*queries: Sequence[int]) -> PairSet:
    """One query for each list of grades."""
    draw = random.Random(0)
    pairs = tuple(
        Pair(
            f"q{number}", f"d{place}", "cat sat", " ".join(draw.choices(tiny_models.WORDS, k=5)), g
        )
        for number, grades in enumerate(queries)
        for place, g in enumerate(grades)
    )
    ideals = {
        ("", f"q{number}"): tuple(sorted((max(grade, 0) for grade in grades), reverse=True))
        for number, grades in enumerate(queries)
    }
    return PairSet(pairs, ideals, {}, {}, ())


@pytest.mark.parametrize(
    ("grades", "rel"), [(BINARY, 1), (POSITIVES, 1), (GRADED, 2), ([-2, 0, 1], 1), ([0, 2], 2)]
)
def test_the_relevant_grade_follows_the_judgements(grades, rel):
    assert relevant_grade(pair_set(grades)) == rel


def test_a_grade_that_no_judgement_reaches_is_refused():
    with pytest.raises(InputError, match=r"the highest grade .* is 1, .* \(--rel 1\)"):
        relevant_grade(pair_set(BINARY), 2)
    assert relevant_grade(pair_set(BINARY), 1) == 1


@pytest.mark.parametrize(
    ("texts", "tied"),
    [(["rain"] * 3, 2), (["Rain", " rain", "RAIN"], 2), (["rain", "tea", "rain"], 0)],
    ids=["the same text", "other capitals", "two of three"],
)
def test_a_ranking_that_is_random_already_is_stated(texts, tied, tiny):
    rows = [
        {"qid": qid, "docno": f"{qid}{place}", "query": "cat", "text": text, "grade": place}
        for qid in "ab"
        for place, text in enumerate(texts)
    ]
    table = matchlens.table_text(matchlens.ablation(tiny, PairSet.from_frame(rows), cuts=["Q->D"]))
    assert (f"to all candidates of {tied} of 2 queries (within 1e-09 logits" in table) == bool(tied)


def test_a_small_scale_of_the_logits_is_stated(tiny_folder, tmp_path):
    small = AutoModelForSequenceClassification.from_pretrained(tiny_folder)
    with torch.no_grad():
        small.classifier.weight.mul_(1e-7)
    small.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(tmp_path)
    model = matchlens.load(tmp_path, device="cpu")
    pairs = pair_set(GRADED, NO_ZERO)
    result = matchlens.ablation(model, pairs, cuts=["Q->D"])
    assert any("candidates of 2 of 2 queries (within 1e-05" in note for note in result.notes)
    result = matchlens.ablation(model, pairs, cuts=["Q->D"], tie_tol=0)
    assert not any("gives one score" in note for note in result.notes)


@pytest.mark.parametrize(
    ("queries", "title"),
    [
        ([GRADED], ": 1 query, 4 pairs ("),
        ([GRADED, POSITIVES, POSITIVES], ": 1 of 3 queries, 8 pairs ("),
        ([GRADED, GRADED], ": 2 queries, 8 pairs ("),
    ],
)
def test_a_table_says_how_many_queries_it_rests_on(queries, title, tiny):
    table = matchlens.table_text(matchlens.ablation(tiny, pair_set(*queries), cuts=["Q->D"]))
    assert title in table


@pytest.mark.parametrize(
    ("rank_easy", "ideal", "more"),
    [
        (False, None, ""),
        (True, None, ", with 2 easy negatives a query"),
        (False, "full", ", ideal of the full qrels"),
    ],
)
def test_a_title_says_what_is_ranked_and_by_which_ideal(rank_easy, ideal, more, tiny):
    demo = matchlens.demo.load()
    pairs = matchlens.choose(demo, queries=2, per_grade=1, easy=2, ideal=ideal)
    result = matchlens.ablation(tiny, pairs, cuts=["Q->D"], rank_easy=rank_easy)
    assert f"(at most 1 a grade, seed 0{more})\n" in matchlens.table_text(result)


@pytest.mark.parametrize("other", ["Q\N{RIGHTWARDS ARROW}D", "Q -> D", "Q->D~zero"])
def test_a_cut_counts_once_in_whatever_spelling(other, tiny):
    with pytest.raises(InputError, match=r"is given twice \('Q->D' is the same\)"):
        matchlens.ablation(tiny, pair_set(GRADED), cuts=["Q->D", other])
    both = {"directions": ["Q->D", "Q->D", other]}
    for study in (
        lambda model, pairs: matchlens.sweep(model, pairs, "only", **both),
        lambda model, pairs: matchlens.head_sets(model, pairs, {"one": "0.1"}, **both),
        lambda model, pairs: matchlens.controls(model, pairs, both["directions"]),
    ):
        with pytest.raises(InputError, match=r"is given twice \('Q->D' is the same\)"):
            study(tiny, pair_set(GRADED))


@pytest.mark.parametrize(
    ("queries", "measure", "rel", "why", "remedy"),
    [
        ([BINARY, BINARY], "RR@10", 2, "no candidate has grade 2 or more", {"rel": 1}),
        ([NO_ZERO], "P@3", 1, "all candidates of a query have grade 1 or more", {"rel": 2}),
        ([[2, 0, 1]], "P(rel=3)@2", 2, "write rel=2 in the measure", {"measure": "P(rel=2)@2"}),
        ([NO_ZERO], "RR(rel=1)", 2, "write rel=2 in the measure", {"measure": "RR(rel=2)"}),
        ([POSITIVES, POSITIVES], "nDCG@10", 1, "have the same grade", None),
        ([BINARY], "P@10", 1, "at most 10 candidates", {"measure": "nDCG@10"}),
        ([[2, 2, 0]], "Success@2", 2, "same value of the first 2", {"measure": "nDCG@10"}),
        ([[2, 2, 2, 1], [2, 2, 2, 2, 1]], "P@9", 2, "at most 9 candidates", {"measure": "P@2"}),
        ([BINARY], "SetP", 1, "it ignores the order", {"measure": "nDCG@10"}),
    ],
)
def test_a_measure_that_cannot_move_is_refused_with_a_remedy_that_works(
    queries, measure, rel, why, remedy
):
    pairs = pair_set(*queries)
    with pytest.raises(InputError, match=why):
        ranked(pairs, measure, rel)
    if remedy is None:  # "rank other passages beside these"
        pairs, remedy = pair_set(*[[*grades, 0] for grades in queries]), {}
    _, kept, said = ranked(pairs, **{"measure": measure, "rel": rel, **remedy})
    assert len(kept) == len(queries)
    assert said == ()


@pytest.mark.parametrize("measure", ["nDCG@10", "RR@10"])
def test_candidates_none_of_which_is_judged_are_told_by_their_ids(measure):
    rows = [(f"q{q}", f"tea {q}", f"d{n}", f"tea {n} {q}") for q in range(2) for n in range(3)]
    frame = pd.DataFrame(rows, columns=["qid", "query", "docno", "text"])
    frame["docno"] += frame["qid"]
    padded = {f"q{q}": {f"d00{n}q{q}": n for n in range(3)} for q in range(2)}
    with pytest.raises(InputError, match="no candidate is judged, such as 'd0q0' of query 'q0'"):
        ranked(PairSet.from_frame(frame, padded), measure, 1)
    alike = {
        qid: {docno.replace("00", ""): g for docno, g in of.items()} for qid, of in padded.items()
    }
    assert len(ranked(PairSet.from_frame(frame, alike), measure, 1)[1]) == 2


def test_queries_none_of_whose_candidates_is_judged_are_counted(tiny):
    rows = [("q", "tea", f"d{n}", f"tea {n}") for n in range(3)]
    rows += [("r", "sun", f"e{n}", f"sun {n}") for n in range(3)]
    frame = pd.DataFrame(rows, columns=["qid", "query", "docno", "text"])
    judged = {"q": {"d0": 2, "d1": 0}, "r": {"E0": 2, "E1": 0}}
    notes = matchlens.ablation(tiny, PairSet.from_frame(frame, judged), cuts=["Q->D"]).notes
    told = "queries none of whose candidates is judged: 1 (all their candidates have grade 0)"
    assert f"{told}, such as 'r'" in notes
    ungraded = PairSet.from_frame(frame)
    assert "queries_without_judged" not in ungraded.counts or not ungraded.notes


def test_queries_that_cannot_move_it_are_left_out_and_counted(tiny):
    pairs = pair_set(BINARY, POSITIVES, BINARY, [0, 0])
    result = matchlens.ablation(tiny, pairs, cuts=["Q->D"], measure="RR@10")
    assert result.options["rel"] == 1
    assert result.tables["table1"]["queries"].tolist() == [2, 2, 2]
    for why in ("no candidate of theirs has a grade above 0", "every order of their candidates"):
        assert any(note.startswith(f"1 of 4 queries were left out: {why}") for note in result.notes)
    result = matchlens.ablation(tiny, pairs, cuts=["Q->D"], measure=["RR@10", "P@1"])
    assert sum("has a grade above 0" in note for note in result.notes) == 1


def write(folder: Path, grades: Sequence[int], queries: int = 6) -> list[object]:
    """A collection of random words in files, as options of the command line."""
    draw = random.Random(1)
    passages = [(f"d{n}", " ".join(draw.choices(tiny_models.WORDS, k=8))) for n in range(40)]
    (folder / "p.jsonl").write_text(
        "".join(json.dumps({"_id": docid, "text": text}) + "\n" for docid, text in passages)
    )
    names = [f"q{n}" for n in range(queries)]
    (folder / "t.tsv").write_text("".join(f"{name}\tcat sat\n" for name in names))
    (folder / "q.txt").write_text(
        "".join(
            f"{name} 0 {docid} {grade}\n"
            for name in names
            for (docid, _), grade in zip(draw.sample(passages, len(grades)), grades, strict=True)
        )
    )
    files = {"--topics": "t.tsv", "--qrels": "q.txt", "--passages": "p.jsonl"}
    return [word for option, name in files.items() for word in (option, folder / name)]


@pytest.mark.parametrize("command", [["ablation"], ["sweep", "up-to"], ["study", "--quick"]])
def test_the_command_refuses_before_it_loads_the_model(command, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("matchlens.models.load.load", None)  # a call would end in a TypeError
    words = [*command, "--model", tiny_folder, *write(tmp_path, POSITIVES), "--out", tmp_path / "o"]
    assert "nDCG@10 has one value for every order" in refused(*words)


@pytest.mark.parametrize(
    ("command", "more"),
    [
        (["sweep", "heads", "--pairs", "250"], ["--pairs", "0"]),
        (["ablation", "--pairs", "250", "--cut", "Q->D"], ["--pairs", "0"]),
        (["study", "--studies", "heads", "--easy", "0"], ["--full"]),
    ],
)
def test_what_cannot_move_on_fewer_pairs_is_refused_before_the_model_is_loaded(
    command, more, tiny_folder, tmp_path, monkeypatch
):
    queries = 50 if command[0] == "study" else 25  # of 450 pairs 10 a query are left, or fewer
    words = [*command, "--model", tiny_folder, *write(tmp_path, [2, 2, 1, 0], queries)]
    run = (f"q{q} Q0 d{n} {n} {40 - n} t\n" for q in range(queries) for n in range(30))
    (tmp_path / "run.txt").write_text("".join(run))
    words += ["--run", tmp_path / "run.txt", "--depth", 30, "--measure", "P@10"]
    with monkeypatch.context() as patch:
        patch.setattr("matchlens.models.load.load", None)  # a call would end in a TypeError
        message = refused(*words, "--out", tmp_path / "o")
    assert "every query has at most 10 candidates" in message
    assert f"{' '.join(more)} cuts all of them" in message
    taken = [word for word in words if word not in ("--pairs", "250")]
    done = call(*taken, *more, "--dry-run")
    assert done.status == 0, done.err


def test_binary_judgements_need_no_option(tiny_folder, tmp_path):
    words = [*write(tmp_path, BINARY), "--measure", "RR@10", "--cut", "Q->D", "--out"]
    table = well("--model", tiny_folder, *words, tmp_path / "o")
    assert "RR(rel=1)@10" in table
    manifest = json.loads((tmp_path / "o" / "manifest.json").read_text())
    assert manifest["studies"]["ablation"]["options"]["rel"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("grades", [NO_ZERO, [2, 2, 0]])
def test_a_study_goes_through_where_a_class_of_passages_is_empty(grades, tiny_folder, tmp_path):
    words = write(tmp_path, grades)
    found = call("study", "--quick", "--model", tiny_folder, *words, "--out", tmp_path / "o")
    assert found.status == 0, found.err
    assert (tmp_path / "o" / "report.html").exists()
