"""The whole study: what its studies share, what it decides, what it writes, what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

import matchlens
import tiny_decoders
from matchlens import InputError
from matchlens.corpora import thin
from matchlens.report import conclusions
from matchlens.runners import ShardedRunner, run
from matchlens.studies import sizes, wexir25
from matchlens.studies.claims.claims import CLAIMS
from matchlens.studies.claims.evidence import evidence
from matchlens.studies.presets import SEGMENTS
from matchlens.studies.study import Shared
from test_cli import call, files_of, refused, write_collection

ALL = ("ablation", "sweep", "heads", "controls", "screen", "attention", "circuits", "looking")


@pytest.fixture(scope="module")
def pairs():
    return matchlens.choose(matchlens.demo.load(), queries=8, per_grade=1, easy=2)


@pytest.fixture(scope="module")
def kept() -> list:
    return []


@pytest.fixture(scope="module")
def stages() -> list:
    return []


@pytest.fixture(scope="module")
def found(tiny, pairs, kept, stages):
    return matchlens.study(
        tiny,
        pairs,
        progress=lambda what, done, total: stages.append((what, done, total)),
        keep=lambda result: kept.append(result.study),
    )


@pytest.fixture(scope="module")
def folder(found, tmp_path_factory) -> Path:
    out = found.save(tmp_path_factory.mktemp("study") / "out")
    matchlens.write_report(out)
    return out


# --- one run for all


@pytest.mark.slow
def test_every_study_is_what_it_is_alone(tiny, pairs, found):
    size = sizes.size("default")
    figure = list(size.figure_1a("default"))
    alone = {
        "ablation": matchlens.ablation(tiny, pairs),
        "evidence": evidence(tiny, pairs),
        "sweep-up-to": matchlens.sweep(
            tiny, pairs, "up-to", directions=figure, most_pairs=size.swept
        ),
        "sweep-from": matchlens.sweep(
            tiny, pairs, "from", directions=list(sizes.FROM), most_pairs=size.swept
        ),
        "sweep-heads": matchlens.sweep(tiny, pairs, "heads", most_pairs=size.pairs),
        "controls": matchlens.controls(tiny, pairs, draws=size.draws, most_pairs=size.pairs),
        "screen": matchlens.screen(tiny, pairs, most_pairs=size.pairs),
        "attention": matchlens.attention(tiny, pairs, most_pairs=size.causal_pairs),
        "circuits": matchlens.circuits(tiny, pairs, same_token=True),
    }
    assert set(found.results) == {*alone, "looking"}
    for name, result in alone.items():
        mine = found[name]
        assert set(mine.tables) == set(result.tables)
        for table, frame in result.tables.items():
            assert_frame_equal(mine.tables[table], frame, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(
        found["attention"].array("mass"), alone["attention"].array("mass"), atol=1e-6
    )


@pytest.mark.slow
def test_the_untouched_pass_is_one_and_results_come_as_they_are_made(found, stages, kept, pairs):
    assert kept == list(found.results)
    over_all = {what for what, _, total in stages if total == len(pairs.pairs)}
    assert over_all == {"attention"}  # meters, mean states and scores of all pairs at once
    assert sum(what == "attention" and done == total for what, done, total in stages) == 1
    ranked = sum(pair.grade >= 0 for pair in pairs.pairs)
    ran = {what for what, _, total in stages if total == ranked}
    assert "Table 1" in ran
    assert not ran & {"cut up to each layer", "cut from each layer", "every head alone"}


def test_what_is_shared_is_run_once(tiny, pairs):
    ranked = sum(pair.grade >= 0 for pair in pairs.pairs)
    few, _ = thin(pairs, ranked)
    conditions = {"": [], "Q->D": [matchlens.Cut.parse("Q->D")]}
    more = {"": [], "D->D": [matchlens.Cut.parse("D->D")]}
    ran = []
    shared = Shared(lambda *given, **options: ran.append(run(*given, **options)) or ran[-1])
    shared.announce(few.pairs, conditions)
    shared.announce(few.pairs, more)
    first = shared(tiny, few.pairs, conditions)
    second = shared(tiny, few.pairs, more)
    assert len(ran) == 1
    assert first.scores.conditions == ("", "Q->D")
    assert second.scores.conditions == ("", "D->D")
    np.testing.assert_array_equal(first.scores.of(""), second.scores.of(""))
    other = {"D->Q": [matchlens.Cut.parse("D->Q")], "": []}
    shared(tiny, few.pairs, other)  # not announced: run by itself
    assert len(ran) == 2
    with pytest.raises(InputError, match="two things"):
        shared.announce(few.pairs, {"Q->D": [matchlens.Cut.parse("D->D")]})


def test_the_options_of_the_study_reach_the_pairs_to_look_into(tiny, pairs):
    options = {"preset": "zhan2020", "rel": 3, "tie_tol": 0.25, "seed": 1}
    done = matchlens.study(tiny, pairs, studies=["looking"], size="quick", **options)
    looked = done["looking"]
    assert {name: looked.options[name] for name in options} == options
    assert looked.options["cuts"][1:] == [f"{cut}~mask" for cut in SEGMENTS]
    alone = matchlens.look(tiny, pairs, looks=sizes.size("quick").looks, **options)
    assert_frame_equal(looked.to_frame(), alone.to_frame())


# --- several draws of the sample


@pytest.mark.slow
def test_the_claims_of_few_cuts_are_decided_on_every_draw(tiny, tmp_path):
    draws = [
        matchlens.choose(matchlens.demo.load(), queries=12, per_grade=1, seed=seed, easy=easy)
        for seed, easy in ((0, 2), (1, 0), (2, 0))
    ]
    runs: list[list[tuple[str, str]]] = []

    class Counting(ShardedRunner):
        def __call__(self, model, pairs, conditions, **options):
            runs.append([(pair.qid, pair.docid) for pair in pairs])
            return super().__call__(model, pairs, conditions, **options)

    done = matchlens.study(
        tiny, draws[0], studies=["evidence"], redraws=[*draws[1:], draws[1]], runner=Counting()
    )
    result = done["evidence"]
    ranked = [{(p.qid, p.docid) for p in draw.pairs if p.grade >= 0} for draw in draws]
    assert sum(map(len, runs)) == len(set().union(*ranked)) == result.options["pairs_scored"]
    assert len(set().union(*ranked)) < sum(map(len, ranked))  # some pairs are in several draws
    assert result.options["layer_passes"] == evidence(tiny, draws[0]).options["layer_passes"]
    assert [one["seed"] for one in result.options["draws"]] == [0, 1, 2]
    table = result.to_frame("redraws")
    for number, draw in enumerate(draws[1:], start=1):  # the slow way: each draw by itself
        alone = evidence(tiny, draw).to_frame("queries")
        mine = table[table["draw"] == number].reset_index(drop=True)
        keys = ["cut", "collection", "qid", "value", "diff"]
        assert_frame_equal(mine[keys], alone[keys], rtol=1e-5, atol=1e-6)
    done.save(tmp_path / "out")
    matchlens.write_report(tmp_path / "out")
    claims = pd.read_parquet(tmp_path / "out/study/claims.parquet").set_index("id")
    assert claims["draws"].str.count(",").to_dict() == {
        claim.id: 2 * claim.redrawn for claim in CLAIMS
    }
    assert claims.loc["cls-last", "agreement"].startswith(("3 of 3 draws agree", "draws disagree"))
    assert claims.loc["upper-right", "agreement"].startswith("one draw")
    assert (
        "3 draws of the sample give the same verdict" in (tmp_path / "out/report.html").read_text()
    )


def test_a_sample_that_takes_all_has_one_draw(tiny):
    draws = [matchlens.choose(matchlens.demo.load(), seed=seed) for seed in range(2)]
    few = [replace(draw, pairs=draw.pairs[:24]) for draw in draws]
    done = matchlens.study(tiny, few[0], studies=["evidence"], redraws=few[1:])
    assert "redraws" not in done["evidence"].tables
    assert done["evidence"].options["pairs_scored"] == 24
    said = done.claims().set_index("id").loc["document-context"]
    assert (said["draws"], said["agreement"]) == ("undecided", "one draw: all draws are the same")
    alone = matchlens.study(tiny, few[0], studies=["evidence"]).claims().set_index("id")
    assert alone.loc["document-context", "agreement"] == "one draw"


@pytest.mark.parametrize(
    ("change", "given", "said"),
    [
        ({"per_grade": 2}, {}, "redraw 1 is no draw of the same sample: per_grade was 1"),
        ({"query_prefix": "x "}, {}, "query_prefix was ''"),
        (None, {}, "its collections was"),
        ({}, {"studies": ["ablation"]}, "redraws has no effect without the study evidence"),
        ({}, {"studies": ["ablation"], "redraws": [], "base": "demo"}, "base has no effect"),
    ],
)
def test_what_is_no_other_draw_or_has_no_effect_is_refused(tiny, change, given, said):
    def drawn(seed, **options):
        options = {"queries": 3, "per_grade": 1, **options}
        return matchlens.choose(matchlens.demo.load(), seed=seed, **options)

    redraw = drawn(1, **(change or {}))
    if change is None:
        redraw = replace(redraw, sources=({"collection": "other"},))
    given = {"studies": ["evidence"], "redraws": [redraw], **given}
    with pytest.raises(InputError, match=said):
        matchlens.study(tiny, drawn(0), **given)


def test_a_draw_that_cannot_move_the_measure_is_left_out(tiny):
    draw = matchlens.choose(matchlens.demo.load(), queries=4, per_grade=1)
    flat = tuple(replace(pair, docid=f"{pair.docid}-0", grade=1) for pair in draw.pairs)
    ideals = dict.fromkeys(draw.ideals, (1,) * 4)
    result = evidence(tiny, draw, redraws=[replace(draw, pairs=flat, ideals=ideals)])
    assert len(result.options["draws"]) == 1
    assert any("draw 1 of the sample was left out" in note for note in result.notes)
    first = draw.pairs[0].qid
    some = [p if p.qid == first else q for p, q in zip(flat, draw.pairs, strict=True)]
    ideal = {**draw.ideals, (draw.pairs[0].collection, first): (1,) * 4}
    other = evidence(tiny, draw, redraws=[replace(draw, pairs=tuple(some), ideals=ideal)])
    assert "in draw 1 of the sample, 1 of 4 queries were left out: every order" in str(other.notes)
    said = matchlens.claims({"evidence": result}).set_index("id")["agreement"]
    assert said["cls-last"] == "one draw: no other moves the measure"
    with pytest.raises(InputError, match="leave out redraws or rank_easy"):
        evidence(tiny, draw, redraws=[draw], rank_easy=True)


def test_a_study_that_cannot_be_run_is_left_out_with_its_reason(tiny):
    bare = matchlens.choose(matchlens.demo.load(), queries=4, per_grade=1)
    studies = ["ablation", "attention", "circuits"]
    with pytest.raises(InputError, match=r"study 'circuits' cannot be run: .*easy"):
        matchlens.study(tiny, bare, studies=studies)
    done = matchlens.study(tiny, bare, size="quick")
    assert "easy" in done.skipped["circuits"]
    blank = replace(bare, pairs=tuple(replace(pair, grade=1) for pair in bare.pairs))
    with pytest.raises(InputError, match=r"study 'attention' cannot be run: contrast"):
        matchlens.study(tiny, blank, studies=["attention", "circuits"])  # the first, and its reason
    assert done["attention"].options["contrasts"] == ["relevant-hard"]
    with pytest.raises(InputError, match="no result 'circuits'"):
        done["circuits"]


@pytest.mark.slow
def test_a_decoder_is_studied_as_far_as_it_goes(tmp_path_factory, tmp_path):
    model = matchlens.load(tiny_decoders.save(tmp_path_factory.mktemp("qwen3"), "qwen3"))
    pairs = matchlens.choose(matchlens.demo.load(), queries=4, per_grade=1, easy=2)
    done = matchlens.study(model, pairs, size="quick")
    assert "normalises each query and key" in done.skipped["circuits"]
    decided = done.claims().set_index("id")
    assert "causal mask" in decided.loc["document-to-query", "found"]
    assert "no SEP1" in decided.loc["separators", "found"]
    assert not decided["found"].str.contains("nan").any()
    done.save(tmp_path / "out")
    matchlens.write_report(tmp_path / "out")
    assert "21 of 30 cuts are none in this model" in (tmp_path / "out/results.json").read_text()


def test_options_that_are_no_options(tiny, pairs):
    with pytest.raises(InputError, match="study 'tables' is not known"):
        matchlens.study(tiny, pairs, studies=["tables"])
    with pytest.raises(InputError, match="size 'huge' is not known"):
        matchlens.study(tiny, pairs, size="huge")
    with pytest.raises(InputError, match="no study to run"):
        matchlens.study(tiny, pairs, studies=[])


@pytest.mark.slow
def test_a_study_shows_itself(found):
    shown = found._repr_html_()
    for name in ("Q→D", "nDCG@10"):
        assert name in shown
    assert shown.count("<script") == 2  # the pair view and its data; nothing else runs
    assert found.plot("sweep-up-to").get_axes()
    assert found.claims()["id"].tolist() == [claim.id for claim in CLAIMS]
    with pytest.raises(InputError):
        found.plot("ablation", "no such figure")


# --- the folder


@pytest.mark.slow
def test_results_json_is_as_its_schema_says_and_every_number_is_its_cell(folder):
    content = json.loads((folder / "results.json").read_text("utf-8"))
    schema = json.loads(files("matchlens.report").joinpath("results.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(content, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**content, "more": 1}, schema)
    assert len(content["headline"]) > 60
    for number in content["headline"]:
        table = pd.read_parquet(folder / number["study"] / f"{number['table']}.parquet")
        mine = np.ones(len(table), dtype=bool)
        for column, value in json.loads(number["row"]).items():
            mine &= (table[column] == value).to_numpy()
        assert mine.sum() == 1, number["id"]
        assert table[number["column"]].to_numpy()[mine][0] == number["value"], number["id"]
    ids = [number["id"] for number in content["headline"]]
    assert len(set(ids)) == len(ids)
    assert {"table1/original", "table1/random ranking", "table1/D->D"} < set(ids)
    claims = pd.read_parquet(folder / "study/claims.parquet")
    assert [claim["verdict"] for claim in content["claims"]] == claims["verdict"].tolist()


@pytest.mark.slow
def test_the_report_of_two_copies_has_the_same_bytes(folder, tmp_path):
    held = []
    for number, seed in enumerate(("1", "2")):
        copy = tmp_path / f"copy-{number}" / ("deep" * number or "flat")
        shutil.copytree(folder, copy)
        (copy / "report.html").unlink()
        (copy / "results.json").write_text("{}")
        words = [sys.executable, "-m", "matchlens", "report", str(copy), "--quiet"]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run(words, check=True, env=environment)
        held.append(files_of(copy))
    assert held[0] == held[1] == files_of(folder)
    assert len(held[0]["report.html"]) < 5_000_000


def test_the_report_of_some_studies(tiny, pairs, tmp_path):
    matchlens.ablation(tiny, pairs, cuts=["Q->D"]).save(tmp_path / "out")
    done = call("report", tmp_path / "out", "--margin", "0.5")
    assert (done.status, done.out) == (0, "")
    claims = pd.read_parquet(tmp_path / "out/study/claims.parquet").set_index("id")
    assert "50%" in claims.loc["document-to-query", "definition"]
    assert (claims.loc[["document-context", "cls-last"], "verdict"] == "undecided").all()
    assert call("report", tmp_path / "out").status == 0  # the margin is remembered
    again = pd.read_parquet(tmp_path / "out/study/claims.parquet").set_index("id")
    assert_frame_equal(claims, again)


@pytest.fixture(scope="module")
def words(tmp_path_factory, tiny_folder):
    return [
        "--model",
        tiny_folder,
        *write_collection(tmp_path_factory.mktemp("study-files"), seed=1),
    ]


@pytest.mark.slow
def test_the_command_writes_everything(words, tmp_path):
    out = tmp_path / "out"
    done = call("study", *words, "--quick", "--quiet", "--out", out)
    assert (done.status, done.err) == (0, "")
    held = files_of(out)
    assert held["study/claims.txt"].decode() == done.out
    for name in ("report.html", "results.json", "study/claims.tex", "ablation/table1.tex"):
        assert held[name], name
    assert {f"sweep-up-to/figures/00.{kind}" for kind in ("svg", "pdf", "png")} < set(held)
    manifest = json.loads(held["manifest.json"])
    assert manifest["studies"]["study"]["options"]["size"] == "quick"
    assert manifest["studies"]["evidence"]["options"]["draws_asked"] == sizes.SAMPLES
    said = call("study", *words, "--dry-run")
    assert said.status == 0
    for part in ("Table 1", "Figure 1a", "every head alone", "in all", "memory"):
        assert part in said.out


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--quick", "--full", "--out", "x"], "exclude each other"),
        (["--studies", "ablation,tables", "--out", "x"], "study 'tables' is not known"),
        (["--margin", "0", "--out", "x"], "margin is 0.0; expected a share"),
        (["--samples", "0", "--out", "x"], "--samples is 0; expected 1 or more"),
        (["--quick"], "Missing option '--out'"),
        (["--base", "nowhere/at-all", "--out", "x"], "nowhere/at-all"),
    ],
)
def test_bad_options_are_one_line(words, tmp_path, monkeypatch, more, says):
    monkeypatch.chdir(tmp_path)
    assert says in refused("study", *words, *more)
    assert not list(tmp_path.iterdir())


def test_a_folder_without_results_has_no_report(tmp_path):
    assert "is no results folder" in refused("report", tmp_path)
    assert not list(tmp_path.iterdir())


# --- the paper


def test_beside_the_paper(words, tmp_path):
    out = tmp_path / "out"
    done = call("reproduce", "wexir25", *words, "--studies", "ablation", "--quiet", "--out", out)
    assert done.status == 0
    (line,) = done.err.splitlines()  # the paper's 512 tokens are more than the model takes
    assert "a limit of 512 tokens" in line
    table = pd.read_parquet(out / "wexir25/comparison.parquet").set_index("cut")
    ours = pd.read_parquet(out / "ablation/table1.parquet").set_index("cut")
    assert table["ours"].tolist() == ours.loc[table.index, "mean"].tolist()
    assert table.loc["CLS->All", "paper"] == ".48*"
    assert table.loc["Q->SEP1", "paper"] == ".78 to .82"
    apart = table.loc["D->D", "ours"] - 0.67
    assert table.loc["D->D", "difference"] == pytest.approx(apart)
    for cut in ("Q->SEP1", "SEP2->All"):
        value = table.loc[cut, "ours"]
        assert table.loc[cut, "difference"] == pytest.approx(value - np.clip(value, 0.78, 0.82))
    assert "another model" in done.out
    assert "instead of TREC DL 2019 to 2022" in done.out
    assert json.loads((out / "manifest.json").read_text())["studies"]["wexir25"]["notes"]
    shown = (out / "report.html").read_text("utf-8")
    assert 'id="paper"' in shown
    assert "Another model" in shown
    assert conclusions.load_studies(out).keys() == {"ablation"}
    assert len(wexir25.DATASETS) == 4


def test_without_a_hub_the_paper_is_refused_in_one_line(tmp_path):
    out = ("--out", tmp_path / "out")
    assert "castorini/monobert-large-msmarco" in refused("reproduce", "wexir25", *out)
    assert "expected one of wexir25" in refused("reproduce", "other", *out)
