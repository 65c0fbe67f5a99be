"""The benchmarks: contenders are right before they are fast; the page shows what was measured."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import authors, gpu, operations, subjects
from benchmarks.cuts import parse
from benchmarks.encoding import encode, load
from benchmarks.goals import GOALS
from benchmarks.harness import compare, compete, verdict
from benchmarks.job import Contender, Job
from benchmarks.loop import Loop
from benchmarks.page import page
from benchmarks.reference import reference
from benchmarks.works import AMOUNTS, FIGURE1A, TABLE1, cutters, measurers, plain, triplets, works
from torch.utils.flop_counter import FlopCounterMode

import matchlens
import reference as slow
import tiny
from matchlens.corpora import Pair
from matchlens.directions import Cut
from matchlens.models.packed import rounds_products

pytestmark = pytest.mark.slow

LAYERS, HEADS = 3, 4
CELLS = ["Q->D", "D->D", "CLS->All", "Q->All", "{Q,D}->{Q,D}"]
CONDITIONS = ["", *CELLS, "D->D@0:1", "Q->D@0:2", "D->D@0:3", "Q->D#1.2", "D->Q#0.0"]
QUIET = {"say": lambda _: None, "remote": False}


def mine(contenders) -> list[Contender]:
    """Those that need no other environment and no compiler."""
    return [
        one
        for one in contenders
        if not one.environment and not one.options.get("compiled") and "compiled" not in one.name
    ]


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> Job:
    folder = tiny.save(tmp_path_factory.mktemp("model"), layers=LAYERS, heads=HEADS)
    texts = [[pair.query, pair.text] for pair in tiny.pairs(6)]
    return Job("scores", str(folder), 64, texts, list(CONDITIONS))


@pytest.fixture(scope="module")
def right(job):
    return reference(job, list(range(len(job.pairs))))


@pytest.fixture(scope="module")
def masses(job) -> Job:
    return Job("masses", job.model, 64, job.pairs, [""])


def test_the_benchmarks_reference_is_that_of_the_tests(job, right):
    reranker = matchlens.load(job.model, device="cpu", dtype="float64")
    for number, (query, text) in enumerate(job.pairs[:2]):
        pair = Pair("q", "d", query, text, 0)
        for name in ("", "Q->D", "Q->D@0:2", "Q->D#1.2"):
            cuts = [Cut.parse(name)] if name else []
            assert right[name][number] == pytest.approx(slow.score(reranker, pair, cuts), abs=1e-9)


def test_every_condition_moves_scores(right):
    for name in CONDITIONS[1:]:
        assert np.abs(right[name] - right[""]).max() > 1e-3, name


def test_contenders_that_cut_agree_with_the_reference(job, right):
    standings = compete(job, mine(cutters(1)), right, 1, **QUIET)
    assert [one.contender.side for one in standings] == ["ours", "peer", "authors"]
    for one in standings:
        assert (one.wrong, one.absent, len(one.rounds)) == ("", "", 1), one.contender.name
        assert one.rounds[0]["cpu"] > 0
        assert one.rounds[0]["memory_mib"] > 50


@pytest.mark.parametrize("way", ["two", "written"])
def test_both_ways_of_the_loop_are_right_at_any_batch_size(job, right, way):
    loop = Loop(job)
    for size in (1, 4, 6):
        found = loop._scores(job, size, way)
        assert verdict(compare(found, right, Contender("loop", "loop"), False)) == ""


def test_contenders_that_measure_agree_with_the_reference(masses):
    everything = reference(masses, list(range(len(masses.pairs))))
    standings = compete(masses, mine(measurers(1)), everything, 1, **QUIET)
    assert len(standings) == 5
    for one in standings:
        assert (one.wrong, one.absent, len(one.rounds)) == ("", "", 1), one.contender.name
        scoring = one.contender.side == "baseline"
        assert set(one.difference) == ({"scores"} if scoring else {"scores", "mass"})


def test_a_wrong_contender_gets_no_time(job, right, monkeypatch):
    honest = authors.belongs
    monkeypatch.setattr(authors, "belongs", lambda parts, names: honest(parts, names - {4}))
    few = Job("scores", job.model, 64, job.pairs, ["", "CLS->All"])
    known = {name: right[name] for name in few.conditions}
    found = mine(cutters(1))
    ours, _, wrong = compete(few, found, known, 3, **QUIET)
    assert len(ours.rounds) == 3
    assert wrong.rounds == []
    assert wrong.wrong.startswith("scores differ from the reference by")
    assert wrong.difference["scores"] > 1e-3


def test_what_is_missing_is_wrong(right):
    contender = Contender("one", "loop")
    assert verdict(compare(right, right, contender, False)) == ""
    lacking = {name: values for name, values in right.items() if name != "Q->D"}
    assert "nan" in verdict(compare(lacking, right, contender, False))
    hole = copy.deepcopy(right)
    hole["Q->D"][1] = np.nan
    assert "nan" in verdict(compare(hole, right, contender, False))
    assert verdict(compare(hole, right, contender, True)) == ""
    nothing = {name: np.full_like(values, np.nan) for name, values in right.items()}
    assert "nan" in verdict(compare(nothing, right, contender, True))
    short = {name: values[1:] for name, values in right.items()}
    assert "nan" in verdict(compare(short, right, contender, False))


def test_the_authors_loop_says_what_it_runs_and_counts_for_all(job, right):
    (standing,) = compete(job, [cutters(3)[-1]], right, 1, **QUIET)
    assert standing.wrong == ""
    assert (standing.facts["pairs run"], standing.facts["scale"]) == (2, 3.0)
    assert standing.facts["padded to"] == 64


def test_a_contender_works_in_a_process_of_its_own():
    job = Job("triplets", sizes=[2, 3, 8])
    dense = triplets(1).contenders[1]
    gone = Contender("gone", "ours", {"load": {"no_such_option": 1}})
    said: list[str] = []
    standings = compete(job, [dense], reference(job, []), 2, say=said.append)
    assert standings[0].wrong == ""
    assert len(standings[0].rounds) == 2
    assert standings[0].difference["triplets"] < 1e-9
    (absent,) = compete(job, [gone], {}, 1, **QUIET)
    assert absent.absent == "matchlens.load of this version has no no_such_option"


def test_cuts_are_read_as_matchlens_reads_them():
    texts = [*TABLE1, *FIGURE1A, "D->D@0:2", "{Q,D}->{Q,D}@1:3", "Q->D#1.2"]
    for text in texts:
        own, cut = parse(text, LAYERS), Cut.parse(text)
        assert own is not None
        for layer in range(LAYERS):
            edges = {(int(x), int(y)) for x, y in cut.edges(layer) if max(x, y) < 5}
            mine = {(x, y) for x in own.rows for y in own.columns if layer in own.layers}
            assert edges == mine, text
            heads = cut.heads_at(layer)
            if own.head is not None and layer in own.layers:
                assert list(heads or ()) == [own.head]
    with pytest.raises(ValueError, match="no cut that the benchmarks know"):
        parse("Q,D", LAYERS)


def test_useful_operations_are_what_a_counter_counts(job):
    reranker = matchlens.load(job.model, device="cpu")
    module, tokenizer = load(job, "eager")  # the library's own: packed products are not counted
    tokens = encode(tokenizer, job)[0]
    ids, types = torch.tensor([tokens.ids]), torch.tensor([tokens.types])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(ids, token_type_ids=types)
    wide, inner = module.config.hidden_size, module.config.intermediate_size
    length = len(tokens.ids)
    each = operations.projections(wide) + operations.row(length, wide, inner)
    ends = 2 * wide * wide + 2 * wide
    assert counter.get_total_flops() == LAYERS * length * each + ends
    pair = [Pair("q", "d", *job.pairs[0], 0)]
    untouched = (LAYERS - 1) * length * each + each  # of the last layer one row
    assert operations.of_run(reranker, pair, [""]) == untouched
    cut = operations.of_run(reranker, pair, ["", f"CLS->D@{LAYERS - 1}:{LAYERS}"])
    assert cut == untouched + each
    shared = operations.of_run(reranker, pair, ["", f"D->D@0:{LAYERS}"])
    assert untouched < shared < 2 * untouched  # the first layer's projections are shared
    twice = operations.of_run(reranker, pair * 2, [""])
    assert twice == 2 * untouched


def test_the_bench_is_the_cut_that_it_is_said_to_be():
    job = Job("scores", "model", 128, [["a", "b"]])
    made = {work.key: work for work in works(AMOUNTS["bench"], job, 12, 12)}
    assert len(made["table1"].job.conditions) == 1 + 6
    assert len(made["up-to"].job.conditions) == 1 + 12
    assert len(made["heads"].job.conditions) == 1 + 24
    everything = {work.key: work for work in works(AMOUNTS["full"], job, 12, 12)}
    assert len(everything["table1"].job.conditions) == 1 + 30
    assert len(everything["up-to"].job.conditions) == 1 + 9 * 12
    assert len(everything["heads"].job.conditions) == 1 + 144
    assert all(amount.rounds >= 5 for name, amount in AMOUNTS.items() if name != "quick")


def stored(work, standings) -> dict:
    return {
        "title": work.title,
        "model": "demo",
        "conditions": work.job.conditions,
        "pairs": len(work.job.pairs),
        "tokens": {"mean": 20.0, "most": 30},
        "checked": len(work.job.pairs),
        "contenders": {one.contender.name: one.record() for one in standings},
    }


def held_of(made) -> dict:
    """A file as a run writes it; every contender of every comparison has made-up rounds."""
    from benchmarks.harness import Standing

    found = {}
    for work in made:
        standings = []
        for place, contender in enumerate(work.contenders):
            rounds = [{"cpu": place + 1.0, "wall": 2.0, "memory_mib": 300.0}] * 2
            facts = {"prepare seconds": 3.0, "versions": {"torch": "0"}, "useful operations": 1e9}
            standings.append(Standing(contender, facts, rounds, {"scores": 1e-6}))
        found[work.key] = stored(work, standings)
        meter = {"side": "baseline", "facts": {}, "difference": {}, "wrong": "", "absent": ""}
        rates = [{"cpu": 1.0, "wall": 1.0, "memory_mib": 1.0, "rate": 1.25e9}] * 2
        found[work.key]["contenders"]["matrix products"] = {**meter, "rounds": rates}
    rounds = [{"cpu": 1.0, "wall": 1.0, "memory_mib": 100.0}] * 2
    return {
        "machine": {
            "cpu": "a | processor",
            "cores": 2,
            "vectors": "avx2",
            "memory_gib": 8.0,
            "system": "Linux",
            "commit": "abc",
            "date": "2026-01-01",
            "load_at_start": 0.1,
        },
        "command": "python -m benchmarks",
        "threads": 1,
        "rounds": 2,
        "seconds": 60,
        "pairs": {"source": "nowhere", "number": 1, "limit": 128},
        "tolerances": {"scores": 2e-4, "mass": 1e-5, "triplets": 1e-6},
        "operations": operations.FORMULA,
        "works": found,
        "growth": [{"pairs": 20, "rounds": rounds}, {"pairs": 200, "rounds": rounds}],
        "gates": {"screen": [2.0, 2.5], "explain": [2.0, 4.0]},
    }


@pytest.fixture
def held():
    job = Job("scores", "model", 128, [["a", "b"]])
    return held_of([*works(AMOUNTS["bench"], job, 12, 12), triplets(1)])


def test_the_page_shows_every_row(held):
    work = {"rounds": [400.0, 600.0], "ms": 500.0, "share": 0.6, "pairs": 2, "tokens": 80.0}
    bf16 = {"off by": 0.1, "off by, mean": 0.05}
    bf16 |= {"rank correlation": 0.99, "lowest rank correlation": 0.9}
    shape = {
        "works": {"table1": {**work, "memory_gib": 1.0}},
        "bf16": bf16,
        "ablation": {"pairs": 200, "seconds": 3.0, "memory_gib": 2.0},
        "off the cpu": 1e-5,
        "share": 0.6,
        "paper_seconds": 700.0,
    }
    held["gpu"] = {
        "device": "a card",
        "machine": {"versions": {"torch": "0", "transformers": "0"}},
        "source": "nowhere",
        "command": "python -m benchmarks.gpu",
        "shapes": {"bert-large": shape},
    }
    text = page(held)
    for goal in GOALS:
        (line,) = [line for line in text.splitlines() if line.startswith(f"| {goal.work} |")]
        assert "not measured" not in line
        assert line.endswith(("| met |", "| **missed** |"))
    assert "| **missed** |" in next(line for line in text.splitlines() if "whole paper" in line)
    assert "at least .5 | 0.60 | met |" in text
    assert "at most 3 times | 2.25 (2.00 to 2.50) times | met |" in text
    assert "at most 3 CPU s | 3.00 (2.00 to 4.00) CPU s | met |" in text
    for one in (*plain(), *cutters(8), *measurers(8), *triplets(1).contenders):
        assert f"| {one.name} |" in text, one.name
    assert "a / processor" in text
    assert "No GPU was at hand" not in text
    row = "| Table 1 | 2 of 80 tokens | 500.00 (400.00 to 600.00) | 0.60 | 1.0 | 4520 s |"
    assert f"| bert-large {row}" in text
    assert "no time was left for plain scoring and" in text


def test_a_page_says_what_is_wrong_absent_or_not_measured(held):
    contenders = held["works"]["table1"]["contenders"]
    contenders["nnsight"] |= {"wrong": "scores differ by 1", "rounds": []}
    contenders["loop over SDPA"] |= {"absent": "it ended", "rounds": []}
    del held["works"]["masses"], held["works"]["plain"]
    text = page({**held, "growth": [], "note": "a busy machine"})
    assert "**a busy machine**\n\n## Goals" in text
    assert "| nnsight | **wrong**: scores differ by 1 |" in text
    assert "| loop over SDPA | absent: it ended |" in text
    unmeasured = [goal.work for goal in GOALS if f"| {goal.work} | {goal.goal} | not" in text]
    assert len(unmeasured) == 8, unmeasured  # the three of allowed operations need plain scoring
    assert "No GPU was at hand" in text


def test_lengths_are_spread():
    assert subjects.spread([5, 9, 7, 1, 3], 3) == [0, 1, 3]
    assert subjects.spread([2, 1], 5) == [0, 1]


@pytest.mark.slow
def test_a_gpus_figures_are_made_on_a_cpu_and_missing_without_a_gpu(
    tmp_path: Path, held, monkeypatch, capsys
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    gpu.main(["--out", str(tmp_path / "none.json")])
    assert capsys.readouterr().out == f"{gpu.MISSING}\n"
    assert not (tmp_path / "none.json").exists()
    monkeypatch.delenv("MATCHLENS_TREC_DL", raising=False)
    out = tmp_path / "gpu.json"
    words = ["--device", "cpu", "--tiny", "--rounds", "1", "--minutes", "0.1", "--out", str(out)]
    with warnings.catch_warnings():
        gpu.main(words)
    found = json.loads(out.read_text())["gpu"]
    assert set(found["shapes"]) == {"small", "small-decoder"}
    for shape in found["shapes"].values():
        assert set(shape["works"]) == set(gpu.WORKS)
        shares = [work["share"] for work in shape["works"].values()]
        assert min(shares) > 0
        # a processor without bfloat16 imitates the big product more slowly than small ones
        assert max(shares) < 1 or not rounds_products(torch.device("cpu"), 1)
        assert shape["off the cpu"] <= 1e-4
        assert 0 < shape["bf16"]["off by"] < 1
        assert shape["bf16"]["rank correlation"] > 0.8
        assert shape["ablation"]["pairs"] > 0
    assert "of the peak, the paper" in capsys.readouterr().out
    text = page({**held, "gpu": found})
    assert "| small-decoder | Table 1 |" in text
