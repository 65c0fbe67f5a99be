"""``matchlens circuits`` on tiny models: what it prints, writes and refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from transformers import BertConfig, BertForMaskedLM

import matchlens
import tiny as tiny_models
from test_cli import call, files_of, refused, without_long_queries

FEW = ["--demo", "--queries", 6, "--per-grade", 1, "--easy", 2]
FIGURES = ("2", "2-companion", "2-nulls", "alignment", "shares")


@pytest.fixture(scope="module")
def words(tiny_folder) -> list[object]:
    return ["-m", tiny_folder, "--device", "cpu", "--quiet", *FEW]


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory) -> Path:
    """A language model of the tiny model's shape, without a tokenizer."""
    folder = tmp_path_factory.mktemp("base")
    config = BertConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=8,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_it_writes_tables_texts_figures_and_means(words, base_folder, tmp_path):
    out = tmp_path / "out"
    done = call("circuits", *words, "--base", base_folder, "--top", 2, "--same-token", "--out", out)
    assert (done.status, without_long_queries(done.err)) == (0, "")
    for said in (
        "Query-key circuits of ",
        "QD-DD: a query token reads document tokens more than a document token does",
        "DQ-QQ: a document token reads query tokens more than a query token does",
        "Alignment against chance: of 12 heads",
        "before: the same head of ",
        "same-token share in context",
        "Note: mean states from ",
    ):
        assert said in done.out
    assert max(map(len, done.out.split("Note: ", maxsplit=1)[0].splitlines())) <= 110
    held = files_of(out)
    assert held["circuits/circuits.txt"].decode() == done.out
    drawn = {
        f"circuits/figures/{name}.{ending}"
        for name in (*FIGURES, "base")
        for ending in ("svg", "pdf", "png")
    }
    tables = ("heads", "associations", "shares", "logits", "matches", "vocabulary")
    assert drawn == {name for name in held if "/figures/" in name}
    assert {f"circuits/{name}.{ending}" for name in tables for ending in ("parquet", "json")} < set(
        held
    )
    back = matchlens.Result.load(out, "circuits")
    assert back.array("query_mean").shape == (3, 32)
    assert not np.isclose(back.to_frame("heads")["base_change"], 0).all()
    again = call(
        "circuits", *words, "--base", base_folder, "--top", 2, "--same-token", "--out", out
    )
    assert again.out == done.out
    assert {name for name in held if held[name] != files_of(out)[name]} == {"run.log"}


@pytest.mark.slow
def test_options_are_recorded_and_distilbert_works(tmp_path):
    folder = tiny_models.save(tmp_path / "model", family="distilbert", layers=2)
    out = tmp_path / "out"
    done = call(
        "circuits", "-m", folder, "--device", "cpu", *FEW, "--contrast", "DQ-DD", "--variant",
        "positive", "--biases", "--divided", "--head", "1.3,0.2", "--matches", 3, "--pairs", 8,
        "--out", out,
    )  # fmt: skip
    assert done.status == 0
    assert "DQ-DD: a document token reads query tokens more than document tokens" in done.out
    assert "weights and biases, divided by sqrt(d_h)" in " ".join(done.out.split())
    asked = json.loads((out / "manifest.json").read_text())["studies"]["circuits"]["options"]
    assert asked["heads_looked_at"] == ["1.3", "0.2"]
    assert (asked["contrast"], asked["variant"]) == ("DQ-DD", "positive")
    assert asked["biases"] is asked["divided"] is True
    assert asked["pairs_of_hypothesis"] <= 8


@pytest.mark.slow
def test_it_shares_a_folder_with_other_studies(words, tmp_path):
    out = tmp_path / "out"
    assert call("ablation", *words, "--cut", "Q->D", "--out", out).status == 0
    done = call("circuits", *words, "--top", 0, "--out", out)
    assert (done.status, without_long_queries(done.err)) == (0, "")
    assert "What heads match" not in done.out
    held = json.loads((out / "manifest.json").read_text())["studies"]
    assert set(held) == {"ablation", "circuits"}


def test_explain_says_the_cost_and_runs_nothing(words, monkeypatch):
    monkeypatch.setattr("matchlens.models.load.load", lambda *_, **__: 1 / 0)
    done = call("circuits", *words, "--dry-run", "--same-token", "--pairs", 8)
    assert done.status == 0
    for said in (
        "TFLOP",
        "time: about",
        "mass:",
        "same_token:",
        "a second pass over",
        "vocabulary",
    ):
        assert said in done.out


@pytest.mark.parametrize(
    ("bad", "fragment"),
    [
        (["--contrast", "DD-QD"], "contrast 'DD-QD' is not known"),
        (["--variant", "most"], "variant 'most' is not known"),
        (["--top", "-1"], "top is -1"),
        (["--matches", "0"], "matches is 0"),
        (["--head", "x"], "head 'x': expected layer.head, as in '8.1,4.9'"),
        (["--head", "3.0"], "layer 3"),
        (["--pairs", "-1"], "--pairs is -1"),
        (["--pairs", "1"], "fewer than one query has"),
        (["--base", "no/such/place/at/all"], "no model folder"),
        (["--base", "demo"], "has 12 x 12 x 384 (layers x heads x width), the model 3 x 4 x 32"),
        (["--rel", "9"], "the highest grade of these judgements is 3"),
        (["--easy", "0"], "no easy passage"),
        (["--queries", "1"], "give more queries, or another seed"),
        (["--preset", "mine"], "preset 'mine' is not known"),
    ],
)
def test_bad_input_is_one_line_and_status_2(words, tmp_path, bad, fragment, monkeypatch):
    monkeypatch.setattr("matchlens.models.load.load", lambda *_, **__: 1 / 0)
    assert fragment in refused("circuits", *words, *bad, "--out", tmp_path / "out")


def test_a_rotary_base_is_refused_before_the_model_is_loaded(words, tmp_path, monkeypatch):
    monkeypatch.setattr("matchlens.models.load.load", lambda *_, **__: 1 / 0)
    base = tiny_models.save(tmp_path / "modernbert", "modernbert")
    line = refused("circuits", *words, "--base", base, "--out", tmp_path / "out")
    assert "uses rotary position embeddings" in line


def test_options_are_checked_before_the_model_is_loaded(tiny_folder, base_folder, tmp_path):
    """The last thing that can be seen early: a half of the queries that lacks a class."""
    words = ["-m", tiny_folder, "--base", base_folder, "--demo", "--easy", "1", "--queries", "1"]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "matchlens", "circuits", *map(str, words),
         "--out", str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": str(Path(matchlens.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "give more queries" in done.stderr
    assert "matchlens.studies.circuits.circuits" in imported
    assert "matchlens.models.load" not in imported
