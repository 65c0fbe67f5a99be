"""The screen as people see it: text with the check's line, LaTeX, maps, page section."""

from __future__ import annotations

import pytest

import matchlens
from matchlens.report.page import page
from matchlens.report.views.screen import (
    check_line,
    finding,
    screen_files,
    screen_table,
    screen_text,
)
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
    assert words.startswith(f"{len(gates)} heads in one direction can change a score")
    assert words in screen_text(result)


def test_files_figures_and_the_section_of_the_page(result, tmp_path):
    files = screen_files(result)
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
