"""Results show themselves: HTML in a notebook, figures by name, LaTeX beside them."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

import matchlens
from matchlens.report.table import Table, tex
from matchlens.report.texts import NONE, printed
from matchlens.report.views import files_of, view_of
from matchlens.results import Result
from matchlens.studies.attention.contrasts import Thresholds
from test_looking import graded


@pytest.fixture(scope="module")
def pairs():
    return graded(queries=6, each=1)


@pytest.fixture(scope="module")
def results(tiny32, pairs):
    """A result of every study that a tiny model can give, by its name."""
    both = {"directions": ["Q->D", "{Q,D}->D"], "hows": ["zero", "mask"]}
    sweeps = [matchlens.sweep(tiny32, pairs, kind, **both) for kind in ("up-to", "heads")]
    sweeps += [
        matchlens.sweep(tiny32, pairs, kind, directions=["Q->D"])
        for kind in ("from", "only", "window")
    ]
    made = [
        matchlens.ablation(tiny32, pairs),
        *sweeps,
        matchlens.controls(tiny32, pairs, ["Q->D"], draws=1),
        matchlens.head_sets(tiny32, pairs, {"top": "0.1"}, directions=["Q->D"]),
        matchlens.attention(tiny32, pairs, causal=False, thresholds=Thresholds(length=1.0)),
        matchlens.circuits(tiny32, pairs, top=0),
        matchlens.look(tiny32, pairs, looks=3, cuts=["Q->D"]),
    ]
    return {result.study: result for result in made}


STUDIES = (
    "ablation", "sweep-up-to", "sweep-from", "sweep-only", "sweep-window", "sweep-heads",
    "controls", "head-sets", "attention", "circuits",
)  # fmt: skip


def main_table(result: Result) -> Table:
    return view_of(result).table(result)


def tree(result: Result) -> ElementTree.Element:
    return ElementTree.fromstring(result._repr_html_())


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_shows_itself(results, study, tmp_path):
    result = results[study]
    root = tree(result)
    assert root.get("class") == "matchlens"
    words = "".join(root.itertext())
    assert f"on c: {len(result.pairs)} pairs" in words
    for note in result.notes:
        assert note.replace("->", "→")[:60] in words
    (table,) = root.findall(".//table")
    width = len(table.findall("thead/tr/th"))
    rows = table.findall("tbody/tr")
    assert rows or study == "attention"
    assert all(len(list(row)) == width for row in rows)
    assert len(rows) <= 20
    for name in result.tables:
        assert f"{name} ({len(result.tables[name])})" in words
    result.save(tmp_path / "out")
    assert Result.load(tmp_path / "out", study)._repr_html_().count("<table") == 1


def test_pairs_show_themselves_as_the_page_does(results):
    result = results["looking"]
    made = result._repr_html_()
    tokens = result.to_frame("tokens")
    looks = result.to_frame("looks")
    assert made.count('class="card"') == len(looks)
    assert made.count("data-w=") == len(tokens)
    assert f"on c: {len(result.pairs)} pairs" in made


@pytest.mark.slow
def test_every_study_with_figures_draws_its_own(results):
    main = {}
    for study, result in results.items():
        if study == "looking":
            with pytest.raises(matchlens.InputError, match="'looking' has no figure; look"):
                result.plot()
            continue
        figure = result.plot()
        assert isinstance(figure, Figure)
        main[study] = " ".join(text.get_text() for text in figure.findobj(Text))
    assert "layers 0 to n" in main["sweep-up-to"]
    assert "mass, relevant" in main["attention"]
    assert "trace(A)" in main["circuits"]
    assert "change of nDCG@10" in main["ablation"]
    with pytest.raises(matchlens.InputError, match="no figure '7'; expected one of: 1b, 1b-Q-D, "):
        results["attention"].plot("7")
    assert results["sweep-up-to"].plot("mask") is not results["sweep-up-to"].plot("zero")
    with pytest.raises(matchlens.InputError, match="expected one of: zero, mask"):
        results["sweep-up-to"].plot("sink")
    assert results["sweep-heads"].plot("{Q,D}->D, mask")


def test_the_first_figure_is_drawn_alone(results, monkeypatch):
    drawn = []
    from matchlens import figures

    for name in ("head_scatter", "head_map", "layer_profile", "class_distributions"):
        real = getattr(figures, name)
        monkeypatch.setattr(
            figures, name, lambda *a, _n=name, _r=real, **k: drawn.append(_n) or _r(*a, **k)
        )
    results["attention"].plot()
    assert drawn == ["head_scatter"]


def test_table_1_is_shown_with_its_stars(results):
    result = results["ablation"]
    table = result.to_frame("table1").set_index("cut")
    table.loc["Q->D", "significant"] = True
    result = replace(result, tables={"table1": table.reset_index()})
    rows = {
        "".join(row[0].itertext()): ["".join(cell.itertext()) for cell in row[1:]]
        for row in tree(result).findall(".//tbody/tr")
    }
    assert list(rows) == ["CLS", "Q", "SEP1", "D", "SEP2"]
    columns = ["CLS", "Q", "SEP1", "D", "SEP2", "All"]
    for x, cells in rows.items():
        for y, cell in zip(columns, cells, strict=True):
            row = table.loc[f"{x}->{y}"]
            mark = "\N{DAGGER}" if (x, y) == ("CLS", "All") else "*" * bool(row["significant"])
            assert cell == printed(float(row["mean"]), 3) + mark
    assert rows["Q"][3].endswith("*")


def test_points_in_latex_are_those_of_the_table(results):
    result = results["sweep-up-to"]
    latex = str(files_of(result)["sweep-up-to/points.tex"])
    points = result.to_frame("points")
    body = latex[latex.index("\\midrule") :]
    lines = [line.removesuffix(r" \\") for line in body.splitlines() if line.endswith(r"\\")]
    found = {line.split(" & ")[0]: line.split(" & ")[1:] for line in lines}
    assert set(found) == {
        tex(name) for name in ("Q->D", "{Q,D}->D", "Q->D (mask)", "{Q,D}->D (mask)")
    }
    for (direction, how), group in points.groupby(["direction", "how"]):
        name = str(direction) if how == "zero" else f"{direction} ({how})"
        cells = [cell.replace("$^{*}$", "") for cell in found[tex(name)]]
        assert cells == [printed(float(value), 3) for value in group.sort_values("n")["mean"]]
    assert "% \\usepackage{booktabs}" in latex
    for rule in ("\\toprule", "\\midrule", "\\bottomrule"):
        assert rule in latex


@pytest.mark.slow
def test_heads_in_latex(results):
    result = results["attention"]
    table = result.to_frame("matching")
    table["matching"] = table["held"] = False
    table.loc[[3, 5], "matching"] = True
    marked = replace(result, tables={**result.tables, "matching": table})
    latex = str(files_of(marked)["attention/matching.tex"])
    for place in (3, 5):
        row = table.loc[place]
        assert f"{tex(row['direction'])} & {row['layer']}.{row['head']} & " in latex
    assert latex.count("? &") == 2
    assert latex.count(r"\\") == 3
    table = main_table(results["circuits"])
    best = results["circuits"].to_frame("heads").nlargest(12, "alignment")
    assert [row["name"] for row in table.rows] == [
        (row["layer"], row["head"]) for row in best.to_dict("records")
    ]
    heads = main_table(results["sweep-heads"]).latex()
    assert "$-$" in heads or not (results["sweep-heads"].to_frame("points")["diff"] < 0).any()
    assert heads.count(r"\\") == 21


def test_long_tables_and_many_notes_are_clipped_and_counted(results):
    result = results["sweep-heads"]
    many = replace(result, study="other", notes=tuple(f"note {n}" for n in range(50)))
    words = "".join(tree(many).itertext())
    assert "28 more rows." in words
    assert "30 more notes." in words
    table = main_table(many)
    assert len(table.rows) == 48
    assert "more rows" not in table.html()


def test_hostile_names_and_notes_are_inert(results):
    hostile = "</style><script>alert(1)</script><img src=x onerror=y>\u202e"
    result = results["looking"]
    looks = result.to_frame("looks")
    looks["docid"] = looks["why"] = hostile
    identity = {**result.identity, "model": {"name": hostile}}
    odd = replace(
        result, identity=identity, notes=(hostile,), tables={**result.tables, "looks": looks}
    )
    made = odd._repr_html_()
    assert "<script>alert" not in made
    assert made.count("<script") == made.count("</script") == 2  # the view's numbers and its script
    assert "<img" not in made
    assert "\u202e" not in made
    assert made.count("</style>") == 2
    for outside in ("http", "url(", "@import", "src="):
        assert outside not in made.replace("src=x", "")
    assert len(made) < 100_000
    assert "&lt;/style&gt;" in made


def test_odd_results_show_themselves_too():
    empty = Result("mine", {}, {}, (), pd.DataFrame(), pd.DataFrame(), {})
    assert "mine" in empty._repr_html_()
    plain = replace(empty, tables={"t": pd.DataFrame({"a": ["x"], "b": [np.nan], "c": [True]})})
    cells = tree(plain).findall(".//tbody/tr/*")
    assert ["".join(cell.itertext()) for cell in cells] == ["x", NONE, "yes"]
    with pytest.raises(matchlens.InputError, match="study 'mine' has no figure"):
        plain.plot()


def test_what_draws_is_imported_when_somebody_looks():
    script = (
        "import sys, matchlens; matchlens.Result; "
        "assert not {'matplotlib', 'matchlens.report', 'torch'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_one_cut_tables_say_interval_and_p(tiny32, pairs):
    result = matchlens.ablation(tiny32, pairs, cuts=["Q->D"])
    table = main_table(result)
    labels = [column.label for column in table.columns]
    assert labels == ["cut", "nDCG@10", "change", "share", "95%", "p (Holm)"]
    cells = [column.plain(table.rows[0]) for column in table.columns]
    row = result.to_frame("table1").set_index("cut").loc["Q->D"]
    assert cells[2] == printed(float(row["diff"]), 3)
    original, random = (float(str(result.options[name])) for name in ("original", "random"))
    share = float(row["diff"]) / (original - random) if original > random else None
    assert cells[3] == printed(share, 2)
    assert re.fullmatch(r"\[-?[\d.]+, -?[\d.]+\]|-", cells[4])
    assert set(files_of(result)) == {"ablation/table1.txt", "ablation/table1.tex"}
