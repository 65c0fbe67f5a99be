"""``matchlens sweep`` on a tiny model: what it prints, writes, shares and refuses."""

from __future__ import annotations

import json

import pandas as pd
import pytest

import matchlens
from test_cli import call, files_of, write_collection


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
    done = call("sweep", "up-to", *words, "--direction", "CLS->D", "--explain")
    assert done.status == 0
    assert "layer passes a pair: 9 (15 without sharing: 60% of the work is left)" in done.out
    for word in ("TFLOP", "time: about", "memory: about"):
        assert word in done.out


@pytest.mark.parametrize(
    ("bad", "fragment"),
    [
        (["sideways"], "sweep 'sideways' is not known"),
        (["up-to", "--direction", "Q->D@3"], "no plain direction"),
        (["up-to", "--direction", "Q-"], "redirection"),
        (["window", "--window", "9"], "a window of 9 layers; expected 1 to 3"),
        (["up-to", "--how", "sever"], "how 'sever' is not known"),
        (["up-to", "--how", "sink", "--direction", "Q->All"], "moves the removed mass to SEP2"),
        ([], "Missing argument"),
    ],
)
def test_bad_sweeps_are_one_line_and_status_2(words, tmp_path, bad, fragment):
    done = call("sweep", *bad, *words, "--out", tmp_path / "out")
    assert done.status == 2
    assert done.err.count("\n") == 1
    assert fragment in done.err
    assert not (tmp_path / "out").exists()
