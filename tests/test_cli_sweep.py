"""``matchlens sweep`` on a tiny model: what it prints, writes, shares and refuses."""

from __future__ import annotations

import json
import subprocess
import sys

import pandas as pd
import pytest

import matchlens
from matchlens.studies.cost import TOKENS_A_WORD, _tokens
from test_cli import call, files_of, refused, write_collection


@pytest.fixture(scope="module")
def words(tmp_path_factory, tiny_folder):
    files = write_collection(tmp_path_factory.mktemp("sweep"), seed=1)
    return ["--model", tiny_folder, *files, "--quiet"]


def test_up_to_writes_tables_and_figures(words, tmp_path):
    out = tmp_path / "out"
    done = call("sweep", "up-to", *words, "--direction", "Q->D", "--how", "zero", "--how", "mean",
                "--out", out)  # fmt: skip
    assert (done.status, done.err) == (0, "")
    assert "Q->D  (zero)" in done.out
    assert "Q->D  (mean)" in done.out
    held = files_of(out)
    figures = {f"sweep-up-to/figures/0{n}.{kind}" for n in (0, 1) for kind in ("svg", "pdf", "png")}
    assert figures < set(held)
    assert held["sweep-up-to/points.txt"].decode() == done.out
    points = pd.read_parquet(out / "sweep-up-to/points.parquet")
    assert points["cut"].tolist() == [
        *(f"Q->D@0:{n}" for n in range(4)),
        *(f"Q->D@0:{n}~mean" for n in range(4)),
    ]
    options = json.loads(held["manifest.json"])["studies"]["sweep-up-to"]["options"]
    assert options["layer_passes"] < options["layer_passes_unshared"]
    assert call("sweep", "up-to", *words, "--direction", "Q->D", "--how", "zero", "--how", "mean",
                "--out", out).status == 0  # fmt: skip
    again = files_of(out)
    assert {name for name in held if held[name] != again[name]} == {"run.log"}


@pytest.mark.usefixtures("svg_alone")
def test_studies_share_a_folder(words, tmp_path):
    out = tmp_path / "out"
    assert call("ablation", *words, "--cut", "Q->D", "--out", out).status == 0
    assert call("sweep", "heads", *words, "--direction", "Q->D", "--out", out).status == 0
    assert set(json.loads((out / "manifest.json").read_text())["studies"]) == {
        "ablation",
        "sweep-heads",
    }
    cuts = set(pd.read_parquet(out / "scores.parquet")["cut"])
    assert {"", "Q->D", "Q->D#0.0", "Q->D#2.3"} <= cuts
    assert len(matchlens.Result.load(out, "sweep-heads").to_frame("points")) == 12


def test_explain_says_the_cost_and_runs_nothing(words, monkeypatch):
    monkeypatch.setattr("matchlens.models.load.load", lambda *_, **__: 1 / 0)
    done = call("sweep", "up-to", *words, "--direction", "CLS->D", "--dry-run")
    assert done.status == 0
    assert "layer passes a pair: 9 (15 without sharing: 60% of the work is left)" in done.out
    for word in ("TFLOP", "time: about", "memory: about"):
        assert word in done.out
    done = call("ablation", *words, "--cut", "Q->D", "--how", "zero", "--how", "mask", "--dry-run")
    assert done.status == 0
    assert "3 conditions" in done.out
    done = call("sweep", "controls", *words, "--direction", "Q->D", "--draws", 2, "--dry-run")
    assert "9 conditions" in done.out  # rows, edges and mass are drawn twice, scaled is not
    for given in (["D->D~mask"], ["D->D", "--preset", "zhan2020"]):
        done = call("sweep", "controls", *words, "--draws", 2, "--dry-run", "--direction", *given)
        assert (done.status, "6 conditions" in done.out) == (0, True)  # of mask: edges and mass


@pytest.mark.parametrize(
    ("command", "says", "not_"),
    [
        (["screen", "--others", "5"], ["the screen: 32 pairs", "16 conditions"], []),
        (["screen", "--others", "30"], ["41 conditions"], []),
        (["screen", "--pairs", "8"], ["the screen: 8 pairs", "), 8 pairs"], []),
        (["sweep", "heads", "--direction", "Q->D"], ["13 conditions"], ["the screen"]),
        (
            ["sweep", "heads", "--direction", "Q->D", "--direction", "D->D", "--screen", "2"],
            ["the screen: 32 pairs, about 9 layer passes a pair", "5 conditions"],
            [],
        ),
        (["ablation", "--cut", "Q->D", "--max-length", "8"], ["about 8 tokens a pair"], []),
    ],
)
def test_what_is_estimated_is_what_would_run(command, says, not_, words, monkeypatch):
    monkeypatch.setattr("matchlens.models.load.load", lambda *_, **__: 1 / 0)
    done = call(*command, *words, "--dry-run")
    assert done.status == 0
    assert [text for text in says if text not in done.out] == []
    assert [text for text in not_ if text in done.out] == []


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--random", "500", "--pairs", "40"], "500 random sets of heads are cut on at most 40 pa"),
        (["--pairs", "0"], "100 random sets of heads are cut on all pairs of half"),
        (["--no-cut"], None),
    ],
)
def test_cuts_of_matching_heads_are_estimated_where_they_are_made(more, says, words):
    demo = [*words[:2], "--demo", "--queries", "4", "--dry-run"]
    done = call("attention", *demo, *more)
    assert done.status == 0
    assert ("random sets" in done.out) == (says is not None)
    assert says is None or says in done.out


def test_easy_negatives_that_are_not_screened_are_not_counted(words):
    demo = ["screen", *words[:2], "--demo", "--queries", "4", "--pairs", "0", "--dry-run"]
    plain, easy = call(*demo), call(*demo, "--easy", "5")
    first = [done.out.splitlines()[0] for done in (plain, easy)]
    assert first[0] == first[1]
    assert "screen neither screens nor ranks easy negatives, so that --easy has no e" in easy.err


def test_letters_without_spaces_are_counted_as_tokens():
    assert _tokens("two words") == 2 * TOKENS_A_WORD
    for text in ("\u6211\u7231\u4f60", "\u0e20\u0e32\u0e29"):  # Chinese, Thai
        assert _tokens(text) == TOKENS_A_WORD + 3
    assert _tokens("\u00e9t\u00e9") == TOKENS_A_WORD


def test_heads_that_cannot_be_screened_are_refused_before_the_model_is_loaded(words, monkeypatch):
    monkeypatch.setattr("matchlens.models.load.load", lambda *_, **__: 1 / 0)
    for more in (["--how", "mean"], ["--preset", "zhan2020"]):
        given = [
            "sweep",
            "heads",
            *words,
            "--direction",
            "Q->D",
            "--screen",
            "2",
            "--dry-run",
            *more,
        ]
        assert "cannot be screened; expected single heads, cut by zero" in refused(*given)


def test_head_sets_and_controls_write_tables(words, tmp_path):
    out = tmp_path / "out"
    done = call("sweep", "head-sets", *words, "--set", "top=0.1,2.3", "--direction", "Q->D",
                "--out", out)  # fmt: skip
    assert (done.status, done.err) == (0, "")
    assert "top: 0.1,2.3" in done.out
    held = files_of(out)
    assert held["head-sets/sets.txt"].decode() == done.out
    assert {"head-sets/sets.parquet", "head-sets/points.parquet"} < set(held)
    assert {f"head-sets/figures/00.{kind}" for kind in ("svg", "pdf", "png")} < set(held)
    done = call("sweep", "controls", *words, "--direction", "D->D", "--draws", "1", "--out", out)
    assert (done.status, done.err) == (0, "")
    assert "each cut beside its controls, mean of 1 draws" in done.out
    assert {f"controls/figures/00.{kind}" for kind in ("svg", "pdf", "png")} < set(files_of(out))
    cuts = set(pd.read_parquet(out / "scores.parquet")["cut"])
    assert {"", "D->D", "D->D | edges 0", "D->D | mass 0", "Q->D#0.1,2.3"} <= cuts


def test_several_hows_are_compared(words, tmp_path):
    out = tmp_path / "out"
    done = call("ablation", *words, "--cut", "D->D", "--cut", "D->SEP2", "--how", "zero",
                "--how", "sink", "--out", out)  # fmt: skip
    assert (done.status, done.err) == (0, "")
    assert "under each way of cutting" in done.out
    assert "D->SEP2~sink" in done.out  # it is said that this cannot be made
    held = files_of(out)
    assert {"ablation/agreement.json", "ablation/figures/00.svg"} < set(held)


def test_a_cap_on_pairs_is_kept_and_said(words, tmp_path):
    done = call("sweep", "only", *words, "--direction", "Q->D", "--pairs", "8",
                "--out", tmp_path / "out")  # fmt: skip
    assert done.status == 0
    assert "Note: run on " in done.out
    scores = pd.read_parquet(tmp_path / "out/scores.parquet")
    assert scores["pair"].nunique() <= 8


@pytest.mark.slow
def test_what_a_study_would_cost_or_refuse_is_said_without_loading_it(words):
    given = [str(word) for word in words]
    good = [
        ["sweep", "head-sets", "--set", "a=0.1", *given, "--dry-run"],
        ["sweep", "controls", *given, "--dry-run"],
        ["ablation", *given, "--dry-run"],
        ["attention", "--demo", *given[:2], "--dry-run"],
    ]
    bad = [
        ["sweep", "head-sets", "--set", "a=9.9", *given, "--out", "x"],
        ["sweep", "controls", "--draws", "0", *given, "--out", "x"],
        ["attention", "--demo", *given[:2], "--easy", "0", "--out", "x"],
    ]
    script = f"""
import sys
from matchlens.cli import main
assert [main(words) for words in {good!r}] == [0] * 4
assert [main(words) for words in {bad!r}] == [2] * 3
assert "matchlens.models.load" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("bad", "fragment"),
    [
        (["sideways"], "'sideways' is not known"),
        (["up-to", "--direction", "Q->D@3"], "no plain direction"),
        (["up-to", "--direction", "Q-"], "redirection"),
        (["window", "--window", "9"], "window is 9 layers; expected 1 to 3"),
        (["up-to", "--how", "sever"], "how 'sever' is not known"),
        (["head-sets"], "--set NAME=HEADS and the sweep head-sets go together"),
        (["heads", "--set", "a=0.1"], "--set NAME=HEADS and the sweep head-sets go together"),
        (["head-sets", "--set", "0.1"], "expected NAME=HEADS"),
        (["head-sets", "--set", "a=0.1", "--set", "a=0.2"], "'a' is given twice"),
        (["head-sets", "--set", "a=5.1"], "layer 5"),
        (["head-sets", "--set", "a=0.1", "--random", "20"], "random is 20"),
        (["controls", "--how", "mean"], "expected how zero or mask"),
        (["controls", "--draws", "0"], "draws is 0"),
        (["only", "--window", "5"], "--window is 5; expected it with the sweep window alone"),
        (["heads", "--draws", "10"], "--draws is 10; expected it with the sweep controls alone"),
        (["controls", "--random", "1000"], "expected it with the sweep head-sets alone"),
        (["up-to", "--screen", "2"], "expected it with the sweep heads alone"),
        (["heads", "--pairs", "-1"], "--pairs is -1"),
        (["up-to", "--preset", "authors"], "has no run"),
        (["up-to", "--how", "sink", "--direction", "Q->All"], "moves the removed mass to SEP2"),
        ([], "Missing argument"),
    ],
)
def test_bad_sweeps_are_one_line_and_status_2(words, tmp_path, bad, fragment):
    assert fragment in refused("sweep", *bad, *words, "--out", tmp_path / "out")
