"""What a user of Python expects: progress bars, LaTeX, named axes, whole folders."""

from __future__ import annotations

import io
import os
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Regex, normalizers

import matchlens
import tiny as tiny_models
from matchlens import InputError
from matchlens.showing import Bar
from matchlens.studies.attention.contrasts import Thresholds
from matchlens.tokenizing import _silent
from test_looking import graded as with_easy
from test_own_parts import graded, thirds


@pytest.fixture(scope="module")
def attention(tiny):
    pairs = with_easy(queries=6, each=1).with_parts({"TITLE": thirds})
    return matchlens.attention(
        tiny,
        pairs,
        meters=["mass"],
        thresholds=Thresholds(length=1.0),
        directions=["Q->TITLE"],
        causal=False,
    )


def test_arrays_have_named_axes_and_are_read_by_direction(attention):
    axes = attention.axes("mass")
    assert list(axes) == ["pair", "layer", "head", "row", "column"]
    assert axes["row"] == axes["column"] == ["CLS", "Q", "SEP1", "D", "SEP2", "TITLE"]
    whole = attention.array("mass")
    assert whole.shape == tuple(map(len, axes.values()))
    np.testing.assert_array_equal(
        attention.array("mass", "Q->TITLE"), whole[..., axes["row"].index("Q"), 5]
    )
    for wrong in ("Q->NOWHERE", "Q", "Q->D->D", ""):
        with pytest.raises(InputError, match="expected two of its parts"):
            attention.array("mass", wrong)


def test_contrasts_and_heads_are_there_for_an_own_part(attention):
    directions = set(attention.to_frame("contrasts")["direction"])
    assert {"Q->TITLE", "TITLE->Q", "Q->D", "TITLE->TITLE"} <= directions
    assert set(attention.to_frame("matching")["direction"]) == {"Q->TITLE"}


def test_xarray_takes_the_axes_as_they_are(attention):
    xarray = pytest.importorskip("xarray")
    coords = [*attention.axes("mass").items()]
    named = xarray.DataArray(attention.array("mass"), coords=coords)
    np.testing.assert_array_equal(
        named.sel(row="Q", column="TITLE"), attention.array("mass", "Q->TITLE")
    )


def test_save_writes_what_the_command_writes(tiny, tmp_path):
    result = matchlens.ablation(tiny, graded(), cuts=["Q->D"], rel=1)
    plain, whole = tmp_path / "plain", tmp_path / "whole"
    result.save(plain)
    result.save(whole, drawings=True)
    assert (whole / "ablation/table1.tex").read_text() == result.to_latex()
    assert (whole / "ablation/table1.txt").exists()
    assert not (plain / "ablation/table1.tex").exists()
    assert r"\begin{tabular}" in result.to_latex()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_true_draws_in_a_terminal_and_is_quiet_when_piped(tiny, monkeypatch):
    drawn = _Terminal()
    monkeypatch.setattr(sys, "stderr", drawn)
    matchlens.score(tiny, graded(), ["Q->D"], batch_tokens=32, progress=True)
    assert "pairs" in drawn.getvalue()
    piped = io.StringIO()
    monkeypatch.setattr(sys, "stderr", piped)
    matchlens.score(tiny, graded(), ["Q->D"], batch_tokens=32, progress=True)
    matchlens.score(tiny, graded(), ["Q->D"], batch_tokens=32, progress=False)
    assert piped.getvalue() == ""


def test_a_bar_in_a_notebook_is_tqdms_and_starts_anew_for_each_pass(monkeypatch):
    from tqdm import auto

    made = []

    class Shown:
        def __init__(self, total: int, desc: str) -> None:
            self.total, self.desc, self.n, self.closed = total, desc, 0, False
            made.append(self)

        def update(self, more: int) -> None:
            self.n += more

        def close(self) -> None:
            self.closed = True

    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    monkeypatch.setattr(auto, "tqdm", Shown)
    bar = Bar()
    for done in (1, 4, 8, 2, 8):
        bar(done, 8, "ablation")
    assert [(one.desc, one.n, one.closed) for one in made] == [("ablation: pairs", 8, True)] * 2


def test_rank_is_that_of_sentence_transformers(tiny):
    """Score, place and text by falling score; with a cut as without."""
    texts = ["cat dog", "rain", "a cat sat far", "warm sun"]
    for cut in ("", "Q->D"):
        scores = matchlens.score(tiny, [("cat", text) for text in texts], [cut] if cut else [])[cut]
        ranked = matchlens.rank(tiny, "cat", texts, cut=cut)
        assert [one["corpus_id"] for one in ranked] == scores.sort_values(
            ascending=False
        ).index.tolist()
        assert [one["text"] for one in ranked] == [texts[one["corpus_id"]] for one in ranked]
        assert [one["score"] for one in ranked] == sorted(scores, reverse=True)
    assert len(matchlens.rank(tiny, "cat", texts, top=2)) == 2
    with pytest.raises(InputError, match="no passage to rank"):
        matchlens.rank(tiny, "cat", [])


def test_scores_of_a_frame_have_its_index(tiny):
    frame = pd.DataFrame(
        {"query": "a cat", "text": ["the cat sat", "rain", "a dog"]}, index=[7, 3, 5]
    )
    table = matchlens.score(tiny, frame, ["Q->D"])
    assert table.index.tolist() == [7, 3, 5]
    plain = matchlens.score(tiny, list(zip(frame["query"], frame["text"], strict=True)))
    assert frame.assign(score=table[""])["score"].tolist() == plain[""].tolist()


def test_a_bar_leaves_the_output_where_it_goes_when_a_run_ends_early(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    before, bar = (sys.stdout, sys.stderr), Bar()
    bar(1, 8, "ablation")
    assert (sys.stdout, sys.stderr) == before
    del bar


def test_autocast_of_the_caller_changes_no_score(tiny32):
    texts = [("a cat", "the cat sat"), ("a cat", "rain")]
    own = matchlens.score(tiny32, texts, ["Q->D"])
    units = matchlens.explain(tiny32, "a cat", ["the cat sat", "rain"], points=2, swap=False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert matchlens.score(tiny32, texts, ["Q->D"]).equals(own)
        again = matchlens.explain(tiny32, "a cat", ["the cat sat", "rain"], points=2, swap=False)
    assert again.to_frame("units").equals(units.to_frame("units"))


def test_axes_without_names_are_said(tiny32):
    result = matchlens.circuits(tiny32, with_easy(queries=6, each=1))
    name = next(name for name in result.arrays if result.array(name).ndim != 5)
    with pytest.raises(InputError, match="have no names"):
        result.axes(name)


def test_models_are_loaded_and_tokenizers_silenced_by_several_threads(tiny_folder):
    loaded = tiny_models.at_once(lambda: matchlens.load(tiny_folder, device="cpu"))
    assert [type(one).__name__ for one in loaded] == ["Reranker"] * 4
    tokenizer = tiny_models.tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace(Regex("a+"), "a")
    before = os.fstat(2)

    def silent() -> None:
        for _ in range(50):
            with _silent(tokenizer):
                pass

    tiny_models.at_once(silent)
    assert os.path.samestat(os.fstat(2), before)
