"""Results folders side by side: what is compared, what is refused, what is written."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import matchlens
import tiny as tiny_models
import tiny_t5
from matchlens.errors import InputError
from matchlens.figures import render
from matchlens.report.html import line, page
from matchlens.report.table import Column, Table, tag
from matchlens.report.views.compare import caption_of, drawn, files, text
from matchlens.results import Result
from matchlens.studies.attention.contrasts import Thresholds
from test_cli import call, files_of
from test_looking import graded, pair_set

CUTS = ["Q->D", "D->Q", "D->D"]


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_folder):
    """Folders: a and b (two models, one set of pairs), c (another shape, other pairs)."""
    place = tmp_path_factory.mktemp("compare")
    pairs = graded(queries=12)
    other = pair_set([replace(pair, text=f"{pair.text} rain") for pair in pairs.pairs])
    tiny_models.save(place / "second", seed=5)
    tiny_models.save(place / "third", layers=2, heads=2)
    setup = {
        "a": (tiny_folder, pairs),
        "b": (place / "second", pairs),
        "c": (place / "third", other),
    }
    for name, (folder, given) in setup.items():
        model = matchlens.load(folder, device="cpu")
        matchlens.ablation(model, given, cuts=CUTS, rank_easy=True).save(place / name)
        directions = ["Q->D", "CLS->{Q,D}"]
        sweep = matchlens.sweep(model, given, directions=directions, rank_easy=True)
        sweep.save(place / name)
        found = matchlens.attention(
            model, given, meters=["mass"], causal=False, thresholds=Thresholds(length=1.0)
        )
        if name != "c":
            columns = ["direction", "layer", "head"]
            marked = found.tables["matching"].set_index(columns)
            marked["matching"] = False
            heads = {"a": [(0, 1), (2, 3)], "b": [(2, 3), (1, 0)]}[name]
            marked.loc[[("Q->D", *head) for head in heads], "matching"] = True
            found.tables["matching"] = marked.reset_index()
        found.save(place / name)
        claims = pd.DataFrame(
            [{"id": "x", "claim": "Q->D matters", "verdict": "holds", "value": 0.5, "low": 0.4,
              "high": 0.6, "unit": "nDCG@10", "n": 12, "n_of": "queries", "p": None, "found": "so",
              "definition": "d", "source": "ablation/table1"}]
        )  # fmt: skip
        if name != "c":
            replace(sweep, study="study", tables={"claims": claims}).save(place / name)
    return place


@pytest.fixture(scope="module")
def both(place):
    return matchlens.compare([place / "a", place / "b"])


def said(result) -> list[str]:
    return [
        f"{row['kind']}: {row['sentence']}" for row in result.to_frame("said").to_dict("records")
    ]


@pytest.mark.slow
def test_cells_and_curves_are_those_of_the_folders(both, place):
    for study, name, table_name in (
        ("ablation", "table1", "table1"),
        ("sweep-up-to", "points", "curves"),
    ):
        made = both.to_frame(table_name)
        assert set(made["folder"]) == {"a", "b"}
        for folder, mine in made.groupby("folder"):
            own = Result.load(place / str(folder), study).to_frame(name)
            assert len(own) == len(mine)
            for column in ("cut", "mean", "diff", "ci_low", "p_holm", "significant"):
                left, right = mine[column].tolist(), own[column].tolist()
                pd.testing.assert_series_equal(pd.Series(left), pd.Series(right))


def test_folders_of_one_set_of_pairs_are_tested_query_by_query(both, place):
    paired = both.to_frame("paired").set_index("condition")
    assert list(paired.index) == ["", *CUTS]
    queries = {
        name: Result.load(place / name, "ablation").to_frame("queries").set_index(["cut", "qid"])
        for name in ("a", "b")
    }
    first, second = (queries[name]["value"][""].sort_index() for name in ("a", "b"))
    assert paired.loc["", "p"] == pytest.approx(stats.ttest_rel(second, first).pvalue)
    assert paired.loc["", "diff"] == pytest.approx((second - first).mean())
    assert paired.loc["", ["first_mean", "second_mean"]].tolist() == pytest.approx(
        [first.mean(), second.mean()]
    )
    for cut in CUTS:
        first, second = (queries[name]["diff"][cut].sort_index() for name in ("a", "b"))
        expected = 1.0 if (first == second).all() else stats.ttest_rel(second, first).pvalue
        assert paired.loc[cut, "p"] == pytest.approx(expected)
    p = paired.loc[CUTS, "p"].to_numpy()
    np.testing.assert_allclose(paired.loc[CUTS, "p_holm"], matchlens_holm(p))


def matchlens_holm(p):
    order, out, most = np.argsort(p), np.empty(len(p)), 0.0
    for rank, at in enumerate(order):
        most = max(most, min(1.0, p[at] * (len(p) - rank)))
        out[at] = most
    return out


def test_lists_of_heads_are_matched_up(both):
    overlap = both.to_frame("overlaps").set_index("direction").loc["Q->D"]
    assert overlap[["heads", "first_heads", "second_heads", "both"]].tolist() == [12, 2, 2, 1]
    assert overlap["expected"] == pytest.approx(4 / 12)
    assert overlap["p"] == pytest.approx(1 - stats.hypergeom.pmf(0, 12, 2, 2))
    heads = both.to_frame("heads")
    twice = heads[heads["folders"] == 2][["layer", "head"]].to_numpy().tolist()
    assert twice == [[2, 3], [2, 3]]


def test_what_differs_is_said_first(both, place):
    printed = text(both)
    lines = printed.splitlines()
    assert lines[0] == "2 results folders side by side: a, b"
    assert lines[2].startswith("Differs: the models (a: tiny-bert0; b: second)")
    assert lines[3] == "The same: the same pairs in all folders (72 of c)."
    aspects = set(both.to_frame("differences")["aspect"])
    assert {"model.name", "model.sha256"} <= aspects
    assert not any(name.startswith("pairs.") for name in aspects)
    assert "Q->D matters  holds: .500 [.400, .600] nDCG@10" in printed

    three = matchlens.compare([place / name for name in ("a", "b", "c")])
    words = "\n".join(said(three))
    assert "differs: the pairs (a: 72 of c; b: 72 of c; c: 72 of c)" in words
    assert "cannot: values of folders with different pairs stand side by side" in words
    assert "cannot: heads of models of different shapes cannot be matched up" in words
    assert "a and c are not tested: their pairs differ" in words
    assert set(zip(*three.to_frame("paired")[["first", "second"]].to_numpy().T, strict=True)) == {
        ("a", "b")
    }
    assert "the matching heads of a and c cannot be matched up: the models have 3 x 4" in words
    assert set(three.to_frame("claims")["folder"]) == {"a", "b"}


def test_other_options_are_not_tested_against_each_other(place, tmp_path, tiny32):
    matchlens.ablation(tiny32, graded(queries=12), cuts=CUTS, rank_easy=False).save(tmp_path / "d")
    result = matchlens.compare([place / "a", tmp_path / "d"])
    assert "paired" not in result.tables
    words = "\n".join(said(result))
    assert "a and d are not tested: rank_easy is True and False" in words
    assert "rankings with easy negatives and without are not comparable" in words
    assert "cannot: no study sweep-up-to in d" in words
    assert "curves" not in result.tables


DREW = r"tested: other pairs of theirs were ranked \(40 of 48, drawn by the seeds 0 and 1\)"


@pytest.mark.parametrize(
    ("most", "kept", "says"), [(40, True, DREW), (40, False, DREW), (48, True, None)]
)
def test_pairs_that_were_thinned_differently_are_not_tested(most, kept, says, tmp_path, tiny32):
    """The pairs are the same, and so are the queries: the last one keeps other passages."""
    pairs = matchlens.choose(matchlens.demo.load(), queries=4, seed=3)
    for seed in (0, 1):
        result = matchlens.ablation(tiny32, pairs, cuts=["Q->D"], seed=seed, most_pairs=most)
        result.scores = result.scores if kept else result.scores[result.scores["cut"] == ""]
        result.save(tmp_path / str(seed))
    result = matchlens.compare([tmp_path / "0", tmp_path / "1"])
    assert ("paired" in result.tables) == (says is None)
    assert says is None or re.search(says, "\n".join(said(result)))


@pytest.mark.parametrize(
    ("ideal", "kept", "reason"),
    [
        ("full", 4, None),
        ("sample", 4, "ideal is full and sample"),
        ("full", 3, "their ideal rankings are of different judgements"),
        ("sample", 3, "ideal is full and sample"),
    ],
)
def test_one_ideal_ranking_is_tested_against_the_same_one(ideal, kept, reason, tmp_path, tiny32):
    """The same pairs with the same grades have other values where another order is ideal."""
    queries = {f"q{number}": f"tea {number}" for number in range(3)}
    passages = {f"d{number}": f"tea {number} rain" for number in range(6)}
    grades = {f"d{number}": number % 4 for number in range(5)}
    run = {qid: {f"d{number}": -number for number in range(3)} for qid in queries}
    for name, of, judged in (("first", "full", 5), ("second", ideal, kept + 1)):
        qrels = {qid: dict(list(grades.items())[:judged]) for qid in queries}
        collection = matchlens.frame.load(queries, qrels, passages, run)
        pairs = matchlens.choose(collection, depth=3, ideal=of)
        matchlens.ablation(tiny32, pairs, cuts=["Q->D"]).save(tmp_path / name)
    result = matchlens.compare([tmp_path / "first", tmp_path / "second"])
    words = "\n".join(said(result))
    assert "same: the same pairs in all folders" in words
    assert ("paired" in result.tables) == (reason is None)
    assert reason is None or f"first and second are not tested: {reason}" in words
    assert ("ideal (first: full; second: sample)" in words) == (ideal == "sample")


def test_figures_have_a_line_a_folder(both):
    found = dict(drawn(both))
    assert set(found) == {"table1", "curves-0"}
    figure = found["curves-0"]()
    assert caption_of("curves-0") == "Figure 1a, a line for each folder (1)"
    texts = [text.get_text() for text in figure.texts]
    assert texts.count("a") == texts.count("b") == 2
    assert len(figure.axes) == 2
    curves = both.to_frame("curves")
    mine = curves[(curves["folder"] == "b") & (curves["direction"] == "Q->D")]
    (line,) = [line for line in figure.axes[0].lines if line.get_label() == "b"]
    np.testing.assert_allclose(line.get_ydata(), mine["mean"])
    assert "layers 0 to n" in figure.axes[1].get_xlabel()
    assert render(found["table1"]())["svg"]


def test_bands_end_where_the_measure_does(both):
    wide = replace(both, tables={**both.tables})
    wide.tables["curves"] = both.to_frame("curves").assign(ci_low=-2.0, ci_high=3.0)
    for axes in dict(drawn(wide))["curves-0"]().axes:
        low, high = axes.get_ylim()
        assert -0.1 < low < 0
        assert 1 < high < 1.1


@pytest.mark.slow
def test_the_command_prints_and_writes(place, tmp_path):
    done = call("compare", place / "a", place / "b", "--out", tmp_path / "out", "--quiet")
    assert (done.status, done.err) == (0, "")
    held = files_of(tmp_path / "out")
    assert held["compare.txt"].decode() == done.out
    names = ("folders", "said", "differences", "table1", "curves", "paired", "heads", "overlaps")
    for name in (*names, "claims"):
        assert len(json.loads(held[f"comparison/{name}.json"])) == len(
            pd.read_parquet(tmp_path / f"out/comparison/{name}.parquet")
        )
    for name in ("table1", "curves-0"):
        for ending in ("svg", "pdf", "png"):
            assert f"comparison/figures/{name}.{ending}" in held
    for name in ("folders", "table1", "paired", "curves", "overlaps", "heads", "claims"):
        latex = held[f"comparison/{name}.tex"].decode()
        assert "\\toprule" in latex
        body = latex[latex.index("\\midrule") :]
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert len({len(re.findall(r"(?<!\\)&", row)) for row in rows}) == 1
    html = held["compare.html"].decode()
    for word in ("<script", "http://", "https://", "@import"):
        assert word not in html
    assert html.count("data:image/svg+xml;base64,") == 2
    again = call("compare", place / "a", place / "b", "--out", tmp_path / "out", "--quiet")
    assert again.out == done.out
    assert files_of(tmp_path / "out") == held
    back = Result.load(tmp_path / "out", "comparison")
    assert text(back) == done.out
    other = call("compare", place / "a", place / "c", "--out", tmp_path / "out", "--quiet")
    assert other.status == 2
    assert "holds other results" in other.err


def test_the_page_is_well_formed_and_inert(both):
    hostile = "<img src=x onerror=alert(1)>\u202e&"
    tables = {name: table.copy() for name, table in both.tables.items()}
    tables["folders"]["model"] = tables["claims"]["claim"] = hostile
    for name in ("folders", "table1", "curves", "heads"):
        tables[name]["folder"] = [f"<b>{one}" for one in tables[name]["folder"]]
    written = files(replace(both, tables=tables))
    html = str(written["compare.html"])
    assert "<img src=x" not in html
    assert "onerror=alert(1)&gt;" in html
    assert "<b>" not in html
    assert "\u202e" not in html
    assert "\u202e" not in str(written["compare.txt"])
    assert "--paper" in html  # the colours of the other page, for light and dark
    body = html[html.index("<main>") : html.index("</main>") + len("</main>")]
    root = ElementTree.fromstring(re.sub(r"<img ([^>]*)>", r"<img \1/>", body))
    tables_found = root.findall(".//table")
    assert len(tables_found) == len(root.findall(".//caption")) > 5
    for one in tables_found:
        width = len(one.findall("thead/tr/th"))
        assert all(len(list(row)) == width for row in one.findall("tbody/tr"))
        assert all(row[0].get("scope") == "row" for row in one.findall("tbody/tr"))
    assert all(image.get("alt") for image in root.findall(".//img"))
    latex = str(written["comparison/claims.tex"])
    assert "\\textless{}img src=x onerror=alert(1)\\textgreater{}" in latex
    assert "\\&" in latex


def test_a_set_of_folders_has_no_order(place):
    with pytest.raises(InputError, match="folders is a set, whose order is another"):
        matchlens.compare({place / "a", place / "b"})


def test_pieces_of_pages_escape_everything():
    assert tag("p", line("<&>\"'\n\x1b")) == "<p>&lt;&amp;&gt;&#34;&#39; ⟨U+001B⟩</p>"
    rows = ({"a": "<i>", "a?": '"<u>'}, {"a": "x" * 10_000})
    made = Table("t", '"><script>', (Column("a", "<b>", kind="text"),), rows).html()
    assert "<script>" not in made
    assert not {"<i>", "<b>", "<u>"} & set(re.findall("<.>", made))
    assert len(made) < 1000
    assert "<title>&lt;/title&gt;</title>" in page("</title>")


@pytest.mark.parametrize(
    ("names", "fragment"),
    [
        (["a"], "1 results folder to compare; expected 2 to 9"),
        (["a", "a"], "is given twice"),
        (["a", "../compare_link"], "is given twice"),
        (["a", "nowhere"], "is no results folder: it has no manifest.json"),
        (["a", "alone"], "no study in common"),
        (["a", "both"], "holds a comparison"),
        (["a", "odd"], "does not say model, pairs and versions"),
    ],
)
def test_bad_folders_are_one_line_and_status_2(place, both, tiny32, tmp_path, names, fragment):
    link = place.parent / "compare_link"
    if not link.exists():
        link.symlink_to(place / "a")
        matchlens.look(tiny32, graded(), looks=1, cuts=["Q->D"]).save(place / "alone")
        both.save(place / "both")
        odd = json.loads((place / "a/manifest.json").read_text())
        (place / "odd").mkdir()
        (place / "odd/manifest.json").write_text(json.dumps({**odd, "identity": {"model": "x"}}))
    done = call("compare", *(place / name for name in names), "--out", tmp_path / "out")
    assert done.status == 2
    refusals = [line for line in done.err.splitlines() if "was changed since" not in line]
    assert len(refusals) == 1  # beside the warning of a manifest that was changed by hand
    assert fragment in done.err
    assert not (tmp_path / "out").exists()


def test_odd_names_of_folders_are_shown_safely(tmp_path, tiny32):
    for name in ("a\u202e", "a\x1b"):
        matchlens.ablation(tiny32, graded(), cuts=CUTS).save(tmp_path / name)
    result = matchlens.compare([tmp_path / "a\u202e", tmp_path / "a\x1b"])
    assert result.to_frame("folders")["folder"].tolist() == ["a\ufffd", "a\ufffd (2)"]


def test_folders_of_one_name_are_told_apart(place, tmp_path, tiny32):
    for name in ("x", "y"):
        matchlens.ablation(tiny32, graded(), cuts=CUTS).save(tmp_path / name / "out")
    result = matchlens.compare([tmp_path / "x/out", tmp_path / "y/out"])
    assert result.to_frame("folders")["folder"].tolist() == ["x/out", "y/out"]
    assert (result.to_frame("paired")["diff"] == 0).all()
    assert (result.to_frame("paired")["p"] == 1).all()


def test_values_that_differ_late_are_listed(place, tmp_path):
    """A value is shown shortened, and compared whole."""
    for name, semantic in (("first", 1.5), ("second", 3.0)):
        result = Result.load(place / "a", "attention")
        result.options["thresholds"] = {**result.options["thresholds"], "semantic": semantic}
        result.save(tmp_path / name)
    differences = matchlens.compare([tmp_path / "first", tmp_path / "second"]).to_frame(
        "differences"
    )
    assert differences["aspect"].tolist() == ["attention.thresholds"] * 2
    assert [value[-5:] for value in differences["value"]] == [" 1.5}", " 3.0}"]
    assert differences["value"].str.len().max() <= 60


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"dtype": "float64"}, 'dtype (first: "float32"; second: "float64"): numbers may differ'),
        ({"max_length": 16}, "max_length (first: 64; second: 16): longer pairs are cut off"),
        ({"negate": True}, 'second: "-z"): scores of different outputs or signs'),
    ],
)
def test_one_model_that_is_run_in_two_ways_is_said_to_be(option, sentence, tiny_folder, tmp_path):
    pairs = graded(queries=12)
    for name, changed in (("first", {}), ("second", option)):
        model = matchlens.load(tiny_folder, device="cpu", **{"dtype": "float32", **changed})
        matchlens.ablation(model, pairs, cuts=["Q->D"]).save(tmp_path / name)
    sentences = said(matchlens.compare([tmp_path / "first", tmp_path / "second"]))
    assert any(line.startswith("same: one model in all folders") for line in sentences)
    (differs,) = [line for line in sentences if line.startswith("differs")]
    assert sentence in differs


def test_each_study_is_shown_with_its_own_measure(tmp_path, tiny32):
    """A folder's sweep need not be of its ablation's measure."""
    pairs = graded(queries=12)
    for name, measure in (("first", "P@2"), ("second", "nDCG@10")):
        matchlens.ablation(tiny32, pairs, cuts=["Q->D"]).save(tmp_path / name)
        matchlens.sweep(tiny32, pairs, directions=["Q->D"], measure=measure).save(tmp_path / name)
    result = matchlens.compare([tmp_path / "first", tmp_path / "second"])
    (differs,) = [sentence for sentence in said(result) if "measures" in sentence]
    assert "measure of sweep-up-to (first: P(rel=2)@2; second: nDCG@10)" in differs
    assert "Table 1: nDCG@10 under each cut" in text(result)
    assert "Figure 1a: P(rel=2)@2 / nDCG@10 with layers" in text(result)
    found = dict(drawn(result))
    assert found["table1"].keywords["measure"] == "nDCG@10"  # type: ignore[attr-defined]
    assert "P(rel=2)@2 / nDCG@10" in render(found["curves-0"]())["svg"].decode()


def test_sets_of_one_name_and_verdicts_by_two_margins_are_not_compared(place, tmp_path, tiny32):
    pairs = graded(queries=3)
    for name, cuts, margin in (("one", ["Q->D"], 0.06), ("two", ["D->Q"], 0.5)):
        sets = {"mine": cuts, "same": ["D->D"]}
        result = matchlens.ablation(tiny32, pairs, sets=sets, rank_easy=True)
        result.save(tmp_path / name)
        claims = Result.load(place / "a", "study").tables
        study = replace(result, study="study", tables=claims, options={"margin": margin})
        study.save(tmp_path / name)
    compared = matchlens.compare([tmp_path / "one", tmp_path / "two"])
    assert compared.to_frame("paired")["condition"].tolist() == ["", "same"]
    said = compared.to_frame("said")["sentence"].str.cat(sep=" ")
    assert "not tested under mine: by this name they have different sets of cuts" in said
    assert "margin (one: 0.06; two: 0.5): the claims' verdicts are not comparable" in said
    aspects = set(compared.to_frame("differences")["aspect"])
    assert {"ablation.sets", "study.margin"} <= aspects


@pytest.mark.slow
def test_folders_of_models_with_impossible_cuts_are_drawn(tmp_path):
    import tiny_decoders
    from matchlens.studies.wexir25 import beside_the_paper

    pairs = graded(queries=3)
    for name, save in (("qwen", partial(tiny_decoders.save, family="qwen3")), ("t5", tiny_t5.save)):
        model = matchlens.load(save(tmp_path / f"{name}-model"), device="cpu")
        result = matchlens.ablation(model, pairs, preset="paper")
        result.save(tmp_path / name)
        cells = beside_the_paper(result).to_frame("comparison").set_index("cut")
        assert len(cells) == 32
        assert cells["ours"].isna().sum() == int(result.to_frame("table1")["mean"].isna().sum())
    compared = matchlens.compare([tmp_path / "qwen", tmp_path / "t5"])
    assert compared.to_frame("table1")["diff"].isna().any()
    for draw in dict(drawn(compared)).values():
        render(draw())
