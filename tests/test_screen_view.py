"""The screen as people see it: text with the check's line, LaTeX, maps, page section."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import matchlens
import tiny as tiny_models
from matchlens.report.page import page
from matchlens.report.views import files_of
from matchlens.report.views.compare import text as compare_text
from matchlens.report.views.screen import (
    check_line,
    finding,
    screen_table,
    screen_text,
)
from test_cli import call
from test_looking import graded
from test_page import Tree


@pytest.fixture(scope="module")
def result(tiny32):
    return matchlens.screen(tiny32, graded(queries=4, each=1), others=6)


def test_the_table_holds_the_largest_gates_and_the_check(result):
    gates = result.to_frame("gates")
    section = screen_table(result)
    assert [row["cut"] for row in section.rows] == gates["cut"].head(20).tolist()
    for row, stored in zip(section.rows, gates.to_dict("records"), strict=False):
        assert row["change"] == pytest.approx(stored["change"])
        assert row["change*"] == (stored["q_change"] <= 0.05)
        assert row["status"] == stored["status"]
    within = result.to_frame("agreement").iloc[-1]
    assert f"within queries: Pearson {within['pearson']:.3f}".replace("0.", ".") in check_line(
        result
    )
    assert check_line(result) in screen_text(result)
    assert ("is not predicted" in check_line(result)) == result.options["withheld"]


def test_the_first_sentence_names_the_largest_changes(result):
    gates = result.to_frame("gates").query("size > 0")
    lowest = gates.loc[gates["change"].idxmin()]
    words = finding(result)
    assert f"by head {lowest['layer']}.{lowest['head']} in {lowest['direction']}" in words
    assert words.startswith(f"{len(gates)} gates (a head in one direction) can change a score")
    assert words in screen_text(result)


@pytest.mark.usefixtures("svg_alone")
def test_files_figures_and_the_section_of_the_page(result, tmp_path):
    files = files_of(result)
    assert {"screen/screen.txt", "screen/gates.tex", "screen/figures/Q-D.svg"} < set(files)
    assert r"$\rightarrow$" in str(files["screen/gates.tex"])
    with pytest.raises(matchlens.InputError, match="expected one of: Q->D, D->Q, D->D"):
        result.plot("nothing")
    result.texts.update(files)
    result.save(tmp_path / "out")
    tree = Tree(page(tmp_path / "out"))
    inside = [own for tag, own in tree.inside("screen") if tag == "svg" and "aria-label" in own]
    directions = set(result.to_frame("gates").query("size > 0")["direction"])
    assert len(inside) == len(directions)
    words = " ".join(text for _, text in tree.texts)
    assert "Check against" in words


@pytest.mark.slow
def test_a_folder_of_a_screen_alone_has_a_report(result, tmp_path):
    result.save(tmp_path / "out")
    assert call("report", tmp_path / "out").status == 0
    content = json.loads((tmp_path / "out/results.json").read_text("utf-8"))
    numbers = {number["id"]: number["value"] for number in content["headline"]}
    agreement = result.to_frame("agreement").set_index("scope")["pearson"]
    for scope, pearson in agreement.items():
        assert numbers[f"screen/{scope}"] == pytest.approx(pearson)
    verdicts = {claim["verdict"] for claim in content["claims"]}
    assert verdicts == {"undecided"}  # a screen is no proof


@pytest.mark.slow
def test_two_screens_are_set_side_by_side(result, tiny32, tmp_path):
    """Held against itself all heads agree; the slow way for another model."""
    other = tiny_models.save(tmp_path / "model", seed=5)
    second = matchlens.screen(matchlens.load(other, device="cpu"), graded(queries=4, each=1))
    for name, one in (("a", result), ("same", result), ("b", second)):
        one.save(tmp_path / name)
    same = matchlens.compare([tmp_path / "a", tmp_path / "same"]).to_frame("screens")
    np.testing.assert_allclose(same["rho"].dropna(), 1)
    assert (same["both"] == same["top"]).all()
    both = matchlens.compare([tmp_path / "a", tmp_path / "b"])
    table = both.to_frame("screens").set_index("direction")
    first, last = (one.to_frame("gates") for one in (result, second))
    keys = ["layer", "head"]
    sides = [one[one["direction"] == "Q->D"].set_index(keys)["change"] for one in (first, last)]
    joined = pd.concat(sides, axis=1, join="inner")
    there = pd.concat(
        [one.set_index(["direction", *keys])["size"] for one in (first, last)], axis=1
    )
    joined = joined[(there.loc["Q->D"] > 0).any(axis=1).reindex(joined.index)]
    rho = stats.spearmanr(joined.iloc[:, 0], joined.iloc[:, 1]).statistic
    assert table.loc["Q->D", "rho"] == pytest.approx(rho)
    assert "All heads screened: how far the models agree" in compare_text(both)
