"""Directions that a decoder cannot have: named so in every table, in no test; its studies run."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import matchlens
import tiny as tiny_models
import tiny_decoders
from matchlens import InputError, Part
from matchlens.directions import Cut
from matchlens.plan import Control
from matchlens.ranking import holm
from matchlens.runners import run
from matchlens.studies.cuts.cut_modes import reason
from test_cli import call, files_of, write_collection

POSSIBLE = {
    *("CLS->CLS", "CLS->Q", "CLS->D", "CLS->All", "Q->Q", "Q->All", "D->Q", "D->D", "D->All"),
}
"""Of Table 1's cells, where Q stands before D and the last token after them."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_decoders.save(
        tmp_path_factory.mktemp("qwen3-reranker"), "qwen3", sliding_window=300
    )


@pytest.fixture(scope="module")
def model(folder):
    return matchlens.load(folder, device="cpu")


@pytest.fixture(scope="module")
def words(folder, tmp_path_factory):
    files = write_collection(tmp_path_factory.mktemp("sweep"), seed=1)
    return ["--model", folder, *files, "--device", "cpu", "--quiet"]


@pytest.fixture(scope="module")
def table1(words, tmp_path_factory):
    """Table 1 through the command line."""
    out = tmp_path_factory.mktemp("table1") / "out"
    done = call("ablation", *words, "--out", out)
    assert (done.status, done.err) == (0, "")
    return done.out, out


def reach(**hidden) -> np.ndarray:
    """Two layers; what is hidden in which."""
    found = np.ones((2, 6, 6), dtype=bool)
    for layer, edges in hidden.items():
        for x, y in edges:
            found[int(layer[1:]), x, y] = False
    return found


def test_reasons():
    causal = reach(l0=[(Part.Q, Part.D)], l1=[(Part.Q, Part.D)])
    assert reason([], causal, True) is None
    for text in ("Q->D", "Q->D@0", "Q->D#1.3~mask", "Q->D@0:0"):
        assert reason([Cut.parse(text)], causal, True) == "the causal mask lets Q read nothing of D"
    for text in ("D->Q", "Q->{Q,D}", "Q->D+D->Q", "Q->All"):
        assert reason([Cut.parse(text)], causal, True) is None
    control = Control(Cut.parse("Q->D"), "edges", 0)
    assert reason([control], causal, True) == "the causal mask lets Q read nothing of D"
    local = reach(l1=[(Part.CLS, Part.D)])
    assert reason([Cut.parse("CLS->D")], local, False) is None
    assert reason([Cut.parse("CLS->D@0")], local, False) is None
    says = "the window of the layers that are cut lets CLS read nothing of D"
    assert reason([Cut.parse("CLS->D@1")], local, False) == says
    absent = np.ones((2, 6, 6), dtype=bool)
    absent[:, [Part.SEP1, Part.SEP2]] = absent[:, :, [Part.SEP1, Part.SEP2]] = False
    says = "the input has no SEP1"
    assert reason([Cut.parse("SEP1->All")], absent, True) == says
    assert reason([Cut.parse("Q->SEP1")], absent, True) == says
    both = "the input has no SEP1 and SEP2"
    assert reason([Cut.parse("{SEP1,SEP2}->Q")], absent, True) == both
    assert reason([Cut.parse("Q->{SEP1,D}")], absent, True) is None


def test_what_is_reached_is_read_off_the_pairs(model):
    out = run(model, tiny_models.pairs(4), {"": []}, batch_tokens=200)
    assert out.causal
    assert out.reach.shape == (2, 6, 6)
    for layer in out.reach:
        cells = {f"{Part(x)!s}->{Part(y)!s}" for x, y in np.argwhere(layer[:5, :5])}
        assert cells == {cell for cell in POSSIBLE if not cell.endswith("All")}
        assert layer[Part.OTHER, Part.OTHER]


def test_windows_make_directions_impossible_only_where_they_are(tmp_path):
    folder = tiny_decoders.save(tmp_path, "qwen3", sliding_window=4)
    out = run(matchlens.load(folder, device="cpu"), tiny_models.pairs(4), {"": []})
    assert out.reach[0, Part.CLS, Part.D]
    assert not out.reach[1, Part.CLS, Part.D]
    assert out.reach[1, Part.D, Part.D]


def test_table_1_names_what_is_impossible(table1):
    _, out = table1
    table = pd.read_parquet(out / "ablation/table1.parquet").set_index("cut")
    cells = table.drop(["", "random"])
    assert len(cells) == 30
    assert set(cells.index[cells["impossible"].isna()]) == POSSIBLE
    assert table.loc[["", "random"], "impossible"].isna().all()
    assert cells.loc["Q->D", "impossible"] == "the causal mask lets Q read nothing of D"
    assert cells.loc["D->CLS", "impossible"] == "the causal mask lets D read nothing of CLS"
    assert cells.loc["SEP1->All", "impossible"] == "the input has no SEP1"
    assert cells.loc["CLS->SEP2", "impossible"] == "the input has no SEP2"
    wrong = cells[cells["impossible"].notna()]
    for column in ("mean", "diff", "p", "p_holm", "q", "ci_low", "tau_b"):
        assert wrong[column].isna().all(), column
    assert not wrong["significant"].any()
    right = cells.loc[sorted(POSSIBLE)]
    expected = holm(right["p"].to_numpy(dtype=float))  # over what is possible, and no more
    np.testing.assert_allclose(right["p_holm"].to_numpy(dtype=float), expected)
    assert right["mean"].notna().all()
    rows = json.loads((out / "ablation/table1.json").read_text())
    by_cut = {row["cut"]: row for row in rows}
    assert by_cut["Q->D"]["mean"] is None
    assert by_cut["D->Q"]["impossible"] is None


def test_tables_print_no_number_for_the_impossible(table1):
    printed, out = table1
    lines = [line.split() for line in printed.splitlines() if line.strip()]
    start = next(place for place, line in enumerate(lines) if line[0] == "X")
    rows = {line[0]: line[1:] for line in lines[start : start + 6]}
    columns = rows["X"][2:]
    for x in ("CLS", "Q", "SEP1", "D", "SEP2"):
        for y, cell in zip(columns, rows[x], strict=True):
            assert (cell == "n/a") == (f"{x}->{y}" not in POSSIBLE), (x, y, cell)
    assert "n/a: impossible" in printed
    assert "over 9 cells" in printed
    assert "the causal mask lets Q read nothing of D" in printed
    assert "CLS stands for the input's last token" in printed
    latex = (out / "ablation/table1.tex").read_text()
    assert latex.count("n/a") == 21 + 2  # the cells, the legend and the note
    assert "the causal mask lets Q read nothing of D" in latex


def test_a_sweep_through_the_command_line(words, tmp_path):
    given = ["--direction", "Q->D", "--direction", "D->Q", "--direction", "CLS->SEP1"]
    done = call("sweep", "up-to", *words, *given, "--out", tmp_path / "out")
    assert (done.status, done.err) == (0, "")
    points = pd.read_parquet(tmp_path / "out/sweep-up-to/points.parquet")
    by_direction = points.groupby("direction")["impossible"].apply(lambda c: c.notna().all())
    assert by_direction.to_dict() == {"Q->D": True, "D->Q": False, "CLS->SEP1": True}
    assert done.out.count("n/a") == 2 * 3 + 2
    held = files_of(tmp_path / "out")
    drawn = held["sweep-up-to/figures/00.svg"].decode()
    assert "Impossible, so not drawn" in " ".join(drawn.split())
    only = call("sweep", "only", *words, "--direction", "Q->D", "--out", tmp_path / "none")
    assert (only.status, only.err) == (0, "")
    assert not [name for name in files_of(tmp_path / "none") if name.endswith(".svg")]


@pytest.mark.slow
def test_attention_through_the_command_line(folder, tmp_path):
    done = call("attention", "--demo", "--queries", "4", "--per-grade", "1", "--easy", "1",
                "-m", folder, "--device", "cpu", "--quiet", "--out", tmp_path / "out")  # fmt: skip
    assert (done.status, done.err) == (0, "")
    mass = np.load(tmp_path / "out/meters/mass.npy")
    assert (mass[..., Part.Q, Part.D] == 0).all()
    assert np.isnan(mass[..., Part.SEP1, :]).all()
    assert (mass[..., Part.D, Part.Q] > 0).all()


def test_circuits_are_refused_in_one_line(folder, tmp_path):
    done = call("circuits", "--demo", "--queries", "4", "-m", folder, "--quiet",
                "--out", tmp_path / "out")  # fmt: skip
    assert (done.status, done.out) == (2, "")
    assert "normalises each query and key" in done.err
    assert done.err.strip().count("\n") == 0
    assert not (tmp_path / "out/circuits").exists()


@pytest.mark.slow
def test_several_hows_and_controls_pass_the_impossible_over(model):
    pairs = matchlens.choose(matchlens.demo.load(), queries=3, per_grade=1)
    cuts = ["Q->D", "D->Q"]
    table = matchlens.ablation(model, pairs, cuts=cuts, hows=["zero", "mask"])
    assert table.to_frame("agreement")["cut"].tolist() == ["D->Q"]
    assert table.to_frame("table1")["impossible"].notna().sum() == 2
    none = matchlens.ablation(model, pairs, cuts=["Q->D"], hows=["zero", "mask"])
    assert "agreement" not in none.tables
    found = matchlens.controls(model, pairs, cuts, draws=1)
    assert found.to_frame("controls")["cut"].tolist() == ["D->Q"]
    with pytest.raises(InputError, match=r"none of the cuts removes anything: .*causal mask"):
        matchlens.controls(model, pairs, ["Q->D"], draws=1)


def test_looking_names_what_is_impossible_and_shows_each_token(model):
    pairs = matchlens.choose(matchlens.demo.load(), queries=2, per_grade=1)
    result = matchlens.look(model, pairs, looks=2, cuts=["Q->D", "D->Q"])
    assert set(result.to_frame("cuts")["cut"]) == {"D->Q"}
    assert any("1 cut is impossible" in line for line in result.notes)
    tokens = result.to_frame("tokens")
    (pair,) = result.to_frame("looks")["pair"][:1]
    mine = tokens[tokens["look"] == 0]
    assert mine["part"].iloc[-1] == "CLS"
    assert set(mine["part"]) == {"CLS", "Q", "D", "Other"}
    passage = "".join(mine["text"][mine["part"] == "D"])
    assert passage == pairs.pairs[pair].text[: len(passage)]
    received = np.array(result.array("received"))[0][..., : len(mine)]
    assert (received[:, :, 0, -1] > 0).all()  # CLS reads itself
    assert (received[:, :, 1][..., (mine["part"] == "D").to_numpy()] == 0).all()
