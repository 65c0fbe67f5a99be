"""Own parts and several measures on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

import matchlens
from matchlens.cli.candidates import collections, draw
from matchlens.options import StudySettings
from matchlens.studies.presets import PRESETS
from test_cli import call, collection_options, refused, well, write_collection


@pytest.fixture(scope="module")
def words(tiny_folder, tmp_path_factory) -> list[object]:
    folder = tmp_path_factory.mktemp("titled")
    write_collection(folder, 1)
    passages = folder / "passages.jsonl"
    lines = [json.loads(line) for line in passages.read_text().splitlines()]
    for line in lines:
        line["title"] = "cat dog"
    passages.write_text("".join(json.dumps(line) + "\n" for line in lines))
    first = lines[0]
    parts = {
        "RARE": {"of": "Q", "spans": {"q0": [[0, 3]], "q1": [[0, 2]]}},
        "START": {"of": "D", "spans": {str(next(iter(first.values()))): [[0, 3]]}},
    }
    (folder / "parts.json").write_text(json.dumps(parts))
    return ["-m", tiny_folder, *collection_options(folder), "--device", "cpu"]


def test_fields_and_parts_files_are_cut_recorded_and_run_again(words, tmp_path):
    out = tmp_path / "out"
    parts = Path(str(words[3])).parent / "parts.json"
    printed = well(
        *words, "--fields", "title,body", "--parts", _only_rare(parts, tmp_path),
        "-c", "Q->TITLE", "-c", "Q->BODY", "-c", "RARE->D", "-c", "Q->{TITLE,BODY}", "-c", "Q->D",
        "--measure", "nDCG@10", "--measure", "RR@10", "--out", out,
    )  # fmt: skip
    assert "Q->TITLE" in printed
    assert "RR(rel=2)@10" in printed
    table = pd.read_parquet(next(out.rglob("table1.parquet"))).set_index("cut")
    both, whole = table.loc["Q->{TITLE,BODY}", "mean"], table.loc["Q->D", "mean"]
    assert both == pytest.approx(whole)
    manifest = json.loads((out / "manifest.json").read_text())
    text = json.dumps(manifest)
    assert '"own_parts": {"BODY": "D", "RARE": "Q", "TITLE": "D"}' in text
    assert '"fields": "title,body"' in text
    again = call("rerun", out, "--out", tmp_path / "again", "--yes", "-q")
    assert again.status == 0, again


def good(*words: object) -> str:
    done = call(*words, "--quiet")
    assert (done.status, done.err) == (0, "")
    return done.out


@pytest.mark.usefixtures("svg_alone")
@pytest.mark.parametrize("paged", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_screen_and_its_page_show_the_gates_of_fields(words, tmp_path, paged):
    out = tmp_path / "out"
    printed = good("screen", *words, "--fields", "title,body", "--others", "4", "--out", out)
    gates = pd.read_parquet(next(out.rglob("gates.parquet")))
    assert {"Q->TITLE", "BODY->Q", "TITLE->BODY"} <= set(gates["direction"])
    assert "gates of BODY, TITLE are within those of D" in " ".join(printed.split())
    assert matchlens.Result.load(out, "screen").axes("slopes")["row"][-2:] == ["BODY", "TITLE"]
    if paged:
        assert call("report", out, "-q").status == 0
        page = (out / "report.html").read_text()
        assert "Q\xa0→\xa0TITLE: the query reads TITLE" in page


@pytest.mark.usefixtures("svg_alone")
def test_explain_takes_parts_by_the_passages_numbers(words, tmp_path):
    spans = {"0": [[0, 3]], "1": [[0, 4]]}
    parts = {"START": {"of": "D", "spans": spans}, "CAT": {"of": "Q", "spans": {"query": [[2, 5]]}}}
    (tmp_path / "parts.json").write_text(json.dumps(parts))
    texts = ["--query", "a cat", "--passage", "the cat sat", "--passage", "rain on a dog"]
    few = ["--points", "4", "--query-prefix", "q: ", "--parts", tmp_path / "parts.json"]
    out = tmp_path / "out"
    printed = good("explain", *words[:2], *texts, *few, "--out", out)
    assert "Directions with your own parts" in printed
    assert "Q->START" in printed
    inside = matchlens.Result.load(out, "explain").to_frame("words").query("own != ''")
    assert inside.groupby(["passage", "own"])["text"].agg("".join).to_dict() == {
        (0, "CAT"): "cat", (0, "START"): "the", (1, "CAT"): "cat", (1, "START"): "rain",
    }  # fmt: skip
    page = (out / "explain.html").read_text()
    assert "Contribution of your own parts" in page
    assert "(passage, START)" in page
    again = call("rerun", out, "--out", tmp_path / "again", "--yes", "-q")
    assert "the same bytes" in again.out
    assert again.status == 0, again


def _only_rare(parts: Path, folder: Path) -> Path:
    kept = folder / "rare.json"
    kept.write_text(json.dumps({"RARE": json.loads(parts.read_text())["RARE"]}))
    return kept


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["-c", "Q->TITEL", "--fields", "title"], "no part TITEL"),
        (["-c", "Q->TITLE"], "no part TITLE"),
        (["-c", "Q->title"], "'t': expected a part"),
        (["-c", "Q->D", "--parts", "nowhere.json"], "cannot be read"),
        (["-c", "Q->D", "--fields", "abstract", "--out", "x"], "no field 'abstract'"),
        (["-c", "Q->D", "--fields", "a-b", "--out", "x"], "cannot name an own part"),
        (["-c", "Q->D", "--measure", "RR@10", "--measure", "RR@10", "--out", "x"], "given twice"),
    ],
)
def test_what_is_wrong_with_a_part_is_said_before_the_model_is_loaded(
    words, more, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert message in refused("ablation", *words, *more, "-q")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "holds no object of parts"),
        ("{", "cannot be read"),
        ('{"TITLE": {"of": "X", "spans": {}}}', 'expected \'of\' ("D" or "Q")'),
        ('{"title": {"of": "D", "spans": {}}}', "cannot name an own part"),
        ('{"TITLE": {"of": "D", "spans": {"1-p0": "x"}}}', "expected a list of couples"),
        ('{"TITLE": {"of": "D", "spans": {"1-p0": [[0, 99999]]}}}', "inside the text"),
        ('{"TITLE": {"of": "D", "spans": {"nowhere": [[0, 9]]}}}', "no pair has a character"),
    ],
)
def test_parts_files_are_untrusted(words, content, message, tmp_path):
    file = tmp_path / "parts.json"
    file.write_text(content)
    words = [*words, "--parts", file, "-c", "Q->D", "--out", tmp_path / "o", "-q"]
    assert message in refused("ablation", *words)


def two_folders(folder: Path) -> list[str]:
    """Two folders of one name in BEIR's form, with the same ids; the second one has no titles."""
    names = []
    for name, title in (("a", "Tea"), ("b", "")):
        made = folder / name / "scifact"
        (made / "qrels").mkdir(parents=True)
        passages = [{"_id": f"{n}", "title": title, "text": f"{name} is hot {n}"} for n in (1, 2)]
        lines = "".join(json.dumps(one) + "\n" for one in passages)
        (made / "corpus.jsonl").write_text(lines)
        (made / "queries.jsonl").write_text(json.dumps({"_id": f"q{name}", "text": "warm tea"}))
        (made / "qrels/test.tsv").write_text(f"q{name}\t1\t1\nq{name}\t2\t0\n")
        names.append(str(made))
    return names


def drawn(folder: Path, spans: dict) -> dict[tuple[str, str], list[str]]:
    """Collection and id -> the texts of its passage's parts, over both folders."""
    parts = folder / "parts.json"
    parts.write_text(json.dumps({"START": {"of": "D", "spans": spans}}))
    named = [str(folder / name / "scifact") for name in "ab"]
    settings = StudySettings(dataset=named, fields="title", parts=parts, passage_prefix="so: ")
    read = collections(settings, PRESETS["default"])
    pairs = draw(read, settings, PRESETS["default"], easy=0, seed=0)
    return {
        (pair.collection, pair.docid): [pair.text[span.start : span.end] for span in pair.parts]
        for pair in pairs
    }


def test_parts_of_several_collections_are_those_of_their_own_passages(tmp_path):
    two_folders(tmp_path)
    assert drawn(tmp_path, {"b/scifact": {"1": [[0, 1]]}}) == {
        ("a/scifact", "1"): ["Tea"],
        ("a/scifact", "2"): ["Tea"],
        ("b/scifact", "1"): ["b"],
        ("b/scifact", "2"): [],
    }
    with pytest.raises(matchlens.InputError, match="spans for '1', which is the id of two texts"):
        drawn(tmp_path, {"1": [[0, 1]]})
    with pytest.raises(matchlens.InputError, match="expected some of 'a/scifact, b/scifact'"):
        drawn(tmp_path, {"c": {"1": [[0, 1]]}})


def test_collections_that_share_passages_share_their_parts(tmp_path):
    first, second = (Path(name) for name in two_folders(tmp_path))
    (second / "corpus.jsonl").write_text((first / "corpus.jsonl").read_text())
    found = drawn(tmp_path, {"1": [[4, 5]]})
    assert [*found.values()] == [["Tea", "a"], ["Tea"]] * 2
