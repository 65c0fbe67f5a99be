"""An explained margin as people see it: page, notebook, text, LaTeX, figures, command."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

import matchlens
import page_results as given
import tiny as tiny_models
from matchlens.errors import InputError
from matchlens.parts import Part
from matchlens.report.page import MOST_OF_A_PAIR, page, page_of
from matchlens.report.page import files_of as written_files
from matchlens.report.pair_view import colour
from matchlens.report.texts import num
from matchlens.report.views.explain import explain_text, margin_table, swap_sentence
from matchlens.results import Result
from test_cli import call, files_of, refused
from test_page import Tree

QUERY = f"cat mat {given.SCRIPT}"
PASSAGES = [
    (f"a{given.IMAGE}", f"the cat, sat {given.BREAK} on a mat {given.TURN} {given.ATTRIBUTE}"),
    ("b", f"a ship ran {given.TEMPLATE} far {given.NULS} {given.FORMULA} " + "rain " * 300),
    ("c", "cat cat cat"),
]


@pytest.fixture(scope="module")
def result(tiny32) -> Result:
    return matchlens.explain(tiny32, QUERY, PASSAGES, compare=(1, 0), points=2)


@pytest.fixture(scope="module")
def text(result) -> str:
    return page_of(result)


@pytest.fixture(scope="module")
def tree(text) -> Tree:
    return Tree(text)


def numbers_of(text: str) -> dict:
    found = re.search(r"data-numbers>(.*?)</script>", text)
    assert found is not None
    return json.loads(found[1])


def rows_of(result: Result, table: str, **chosen: object):
    frame = result.to_frame(table)
    for name, value in chosen.items():
        frame = frame[frame[name] == value]
    return frame.reset_index(drop=True)


def test_the_page_opens_with_the_pair_and_is_small(text, tree):
    assert [own["id"] for own in tree.named("section")] == ["overview", "explain", "made"]
    assert len(text.encode()) < MOST_OF_A_PAIR
    said = " ".join(words for _, words in tree.texts)
    assert "What was found" not in said
    assert "not run" not in said


def test_a_page_that_would_be_too_large_has_fewer_links(result, text):
    small = page_of(result, len(text.encode()) - 10_000)
    assert len(small) < len(text)
    links = numbers_of(small)["cards"][0]["links"]
    assert {len(some) for head, some in links.items() if head} == {15}
    with pytest.raises(matchlens.InputError, match=r"expected at most 0\.01 MB"):
        page_of(result, 10_000)


def test_every_word_has_the_shade_and_the_number_of_its_table(result, tree):
    words = [own for _, own, _ in tree.elements if "data-w" in own]
    stored = [rows_of(result, "words", passage=at) for at in (1, 0, 2)]  # A, B, the others
    assert len(words) == sum(map(len, stored))
    most = max(some.loc[some["part"].isin(["Q", "D"]), "read"].abs().max() for some in stored[:2])
    rows = [row for some in stored for row in some.to_dict("records")]
    for own, row in zip(words, rows, strict=True):
        assert own["class"].split()[1:] == colour(row["read"], most).split()
        assert f"contributes {num(row['read'], 3, sign=True)} as it is read" in own["title"]
        assert f"{num(row['reads'], 3, sign=True)} as it reads" in own["title"]


def test_the_text_of_a_passage_is_whole_and_what_is_not_read_is_told(result, text):
    passages = rows_of(result, "passages")
    assert passages["truncated"].tolist() == [True, True, False]
    cards = text.split('role="group" class="card"')[1:]
    for card, at in zip(cards, (1, 0, 2), strict=True):
        body = card[card.index("part-passage") :].partition("</div>")[0]
        plain = re.sub(r"<[^>]*>", "", body.partition("</span>")[2])  # without the part's name
        assert ('class="rest"' in card) == (at != 2)
        if at == 1:
            assert plain.count("rain") == 300
        if at == 2:
            assert plain.split()[:3] == ["cat"] * 3


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("query", ["cat, cat; mat cat", "cat, cat; mat cat " * 9])
def test_what_the_length_limit_takes_is_not_shaded_on_either_side(side, query, tmp_path):
    """The words that are read stand where the tokens were made of them, though others are alike."""
    tokens = tiny_models.tokenizer()
    tokens.truncation_side = side
    folder = tiny_models.put(tmp_path, tiny_models.model(layers=1), tokens)
    model = matchlens.load(folder, device="cpu", max_length=24)
    passages = ["cat, cat; dog cat " * 8 + "tea", "cat"]
    result = matchlens.explain(model, query, passages, points=1, swap=False)
    spans = model.spans(matchlens.Pair("q", "d", query, passages[0], 0))
    card = page_of(result).split('role="group" class="card"')[1]
    for part, name, text in ((Part.Q, "query", query), (Part.D, "passage", passages[0])):
        body = card[card.index(f"part-{name}") :].partition("</p>")[0].partition("</span>")[2]
        unread = re.findall(r'class="rest"[^>]*>([^<]*)<', body)
        first, last = spans.starts[spans.parts == part][0], spans.ends[spans.parts == part][-1]
        gone = [some for some in (text[:first], text[last:]) if some.strip()]
        assert unread == gone
        assert len(gone) == (part == Part.D or len(query) > 20)
        assert "".join(re.sub(r"<[^>]*>", "", body).split()) == "".join(text.split())


def test_what_the_script_shows_is_what_the_tables_say(result, text):
    held = numbers_of(text)
    units = result.to_frame("units").set_index(["unit", "passage"])["contribution"]
    layers, heads = 3, 4
    assert set(held["maps"]) == {"", *rows_of(result, "units", kind="direction")["unit"]}
    for name, sides in held["maps"].items():
        for side, passage in zip(sides, (1, 0), strict=True):
            for place, value in enumerate(side):
                head = f"{place // heads}.{place % heads}"
                expected = units.get((f"{name}#{head}" if name else head, passage), 0.0)
                assert value == pytest.approx(expected, rel=1e-3, abs=1e-12)
        assert len(sides[0]) == layers * heads
    cut = result.to_frame("margin").dropna(subset=["margin_cut"]).set_index("unit")["margin_cut"]
    assert held["cut"].keys() == set(cut.index)
    for card, passage in zip(held["cards"], (1, 0, 2), strict=True):
        for key, links in card["links"].items():
            layer, head = (-1, -1) if not key else map(int, key.split("."))
            stored = rows_of(result, "links", passage=passage, layer=layer, head=head)
            columns = ["row_word", "column_word", "contribution", "attention"]
            np.testing.assert_allclose(links, stored[columns].to_numpy(), rtol=6e-3)


def test_directions_are_sorted_and_each_says_what_a_cut_does(result):
    section = margin_table(result)
    values = [abs(row["contribution"]) for row in section.rows]
    assert values == sorted(values, reverse=True)
    stored = result.to_frame("margin").set_index("unit")
    directions = [row for row in section.rows if "->" in row["unit"]]
    assert len(directions) == 25
    for row in directions:
        assert row["a"] - row["b"] == pytest.approx(row["contribution"], abs=1e-6)
        assert row["contribution"] == stored.loc[row["unit"], "contribution"]
        assert row["margin_cut"] == stored.loc[row["unit"], "margin_cut"]


def test_the_smallest_swap_is_told_in_one_sentence(result):
    def told(rows, swapped, random=(), cuts_made=True):
        swap = result.to_frame("swap").iloc[:0]
        columns = ["step", "unit", "margin", "kept"]
        swap = type(swap)([dict(zip(columns, row, strict=True)) for row in rows], columns=columns)
        draws = type(swap)({"draw": range(len(random)), "swapped": list(random)})
        tables = {**result.tables, "swap": swap, "random_swaps": draws}
        options = {"margin": 2.0, "swapped": swapped, "cuts_made": cuts_made}
        options = {**result.options, **options}
        return swap_sentence(replace(result, tables=tables, options=options))

    one = told([(1, "Q->D", -0.5, True)], True, [False] * 20)
    assert one == (
        "Cut Q->D (the query reads the document), and B ranks above A: the margin goes from 2.000 "
        "to -.500. A greedy search found no smaller set than this single cut; none of 20 random "
        "sets of the same size and layers swaps the two."
    )
    more = told([(1, "Q->D", 1.0, False), (2, "D->D", 0.2, True), (3, "Q->Q", -1.0, True)], True)
    assert more.startswith("Cut D->D and Q->Q, and B ranks above A. A greedy search")
    never = told([(1, "Q->D", 1.0, False), (2, "D->D", 0.5, False)], False)
    assert "No set of the cuts that were tried swaps the two" in never
    assert "from 2.000 to .500 at best" in never
    assert "No cut that was tried moves the margin towards a swap" in told([], False)
    assert "not searched for" in told([], False, cuts_made=False)


def test_strangers_texts_are_inert_in_page_notebook_and_text(result, text, tree):
    numbers = {"type": "application/json", "data-numbers": None}
    assert tree.named("script") == [numbers, {"type": "application/json", "id": "data"}, {}]
    for shown in (tree, Tree(result._repr_html_())):
        tags = {tag for tag, _, _ in shown.elements}
        assert not tags & {"img", "iframe", "object", "embed", "form", "base"}
        names = [name for _, own, _ in shown.elements for name in own]
        assert not any(name.startswith("on") or name in ("style", "src") for name in names)
        said = "".join(words for tag, words in shown.texts if tag not in {"script", "style"})
        for nasty in (given.SCRIPT, given.IMAGE, given.TEMPLATE, given.FORMULA):
            assert nasty[:8] in said, nasty
    assert not re.search(r"[\x00-\x08\u202a-\u202e\u2066-\u2069]", text)
    for raw in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text):
        assert not set("<>&\u2028") & set(raw)
    for line in explain_text(result).splitlines():
        assert line.isprintable()


def test_several_results_in_one_notebook_do_not_clash(result, tiny32):
    other = matchlens.explain(tiny32, "cat", ["a cat", "a dog"], points=2, swap=False)
    both = Tree(result._repr_html_() + other._repr_html_())
    assert not [own for _, own, _ in both.elements if own.get("id") or own.get("name")]
    styles = [words for tag, words in both.texts if tag == "style" and ".mlv" in words]
    assert len(styles) == 2
    assert styles[0] == styles[1]
    rules = re.sub(r"@media[^{]*\{|@page[^}]*\}", "", styles[0])
    for selectors in re.findall(r"(?:^|\})\s*([^{}]+)\{", rules):
        # a comma inside brackets separates no rules
        for one in re.split(r",(?![^(]*\))", selectors):
            assert ".mlv" in one, one
    assert other.options["swap"] == []
    assert "not searched for" in other._repr_html_()


def test_what_is_not_known_is_left_out_not_guessed(tiny32):
    bare = matchlens.explain(tiny32, "cat", ["a cat", "a dog"], points=2, swap=False)
    assert set(numbers_of(page_of(bare))["cut"]) == set()
    table = margin_table(bare)
    rows = [row for row in table.rows if "->" in str(row["unit"])]
    assert {table.columns[-1].plain(row) for row in rows} == {"-"}


def test_files_figures_and_the_page_of_a_folder(result, tmp_path):
    result.texts = dict(written_files(result))
    result.save(tmp_path / "out")
    held = files_of(tmp_path / "out")
    figures = {f"explain/figures/heads.{kind}" for kind in ("svg", "pdf", "png")}
    assert {"explain.html", "explain/margin.tex", "explain/explain.txt", *figures} < set(held)
    assert r"Q$\rightarrow$D" in held["explain/margin.tex"].decode()
    loaded = Result.load(tmp_path / "out", "explain")
    assert page_of(loaded) == held["explain.html"].decode()
    assert page(tmp_path / "out").count('class="mlv') == 1
    assert result.plot() is not result.plot("Q->D")
    with pytest.raises(matchlens.InputError, match="expected one of: heads, "):
        result.plot("nothing")


@pytest.fixture(scope="module")
def model(tiny_folder) -> list[object]:
    return ["--model", tiny_folder, "--device", "cpu", "--quiet"]


TWO = ["--passage", "the cat sat", "--passage", "rain"]


@pytest.mark.usefixtures("svg_alone")
def test_the_command_prints_and_saves(model, tmp_path):
    words = [*model, "--query", "a cat", *TWO, "--points", "2"]
    done = call("explain", *words, "--out", tmp_path / "out")
    assert (done.status, done.err) == (0, "")
    assert "\x1b" not in done.out
    for piece in ("A ranks", "Directions (X->Y: X reads Y)", "Query words", "add up to the margin"):
        assert piece in done.out
    held = files_of(tmp_path / "out")
    assert held["explain/explain.txt"].decode() == done.out
    saved = Result.load(tmp_path / "out", "explain")
    assert saved.options["points"] >= 2
    with_no_cuts = call("explain", *words, "--no-swap", "--compare", "1,0")
    assert "was not searched for" in with_no_cuts.out
    command = json.loads(held["manifest.json"])["commands"][0]
    assert command["line"].startswith("matchlens explain ")


@pytest.mark.usefixtures("svg_alone")
def test_a_folder_of_an_explanation_alone_has_a_report_and_can_be_made_again(model, tmp_path):
    words = [*model, "--query", "a cat", *TWO, "--points", "2", "--no-swap"]
    assert call("explain", *words, "--out", tmp_path / "out").status == 0
    again = call("rerun", tmp_path / "out", "--yes", "--quiet")
    assert again.status == 0, again.out
    assert "the same bytes" in again.out
    done = call("report", tmp_path / "out", "--quiet")
    assert (done.status, done.err) == (0, "")
    report = (tmp_path / "out/report.html").read_text("utf-8")
    assert report.count('class="mlv') == 1
    content = json.loads((tmp_path / "out/results.json").read_text("utf-8"))
    assert {claim["verdict"] for claim in content["claims"]} == {"undecided"}


def test_a_text_that_cannot_be_saved_is_shown_all_the_same(model, tmp_path, monkeypatch):
    def full(*_, **__):
        raise InputError("the disk is full")

    monkeypatch.setattr("matchlens.results.Result.save", full)
    own = ["--query", "a cat", *TWO, "--points", "2", "--no-swap"]
    done = call("explain", *model, *own, "--out", tmp_path / "out")
    assert done.status == 2
    assert "the disk is full (the text above is not saved)" in done.err
    assert "margin" in done.out


@pytest.mark.usefixtures("svg_alone")
def test_pairs_come_from_json_lines_or_tsv(model, tmp_path):
    rows = [("a cat", "the cat sat"), ("a cat", "rain")]
    lines = "".join(json.dumps({"query": q, "text": t}) + "\n" for q, t in rows)
    (tmp_path / "pairs.jsonl").write_text(lines)
    (tmp_path / "pairs.tsv").write_text("".join(f"{q}\t{t}\n" for q, t in rows))
    same = [*model, "--points", "2", "--no-swap"]
    typed = call("explain", *same, "--query", "a cat", *TWO)
    assert typed.status == 0
    for name in ("pairs.jsonl", "pairs.tsv"):
        assert call("explain", *same, "--pairs", tmp_path / name).out == typed.out


@pytest.mark.parametrize(
    ("bad", "fragment"),
    [
        (["--query", "a cat"], "a query and 0 passages came"),
        (TWO, "no query and 2 passages came"),
        (["--query", "a cat", "--passage", "x", "--passage", " "], "a --passage has no text"),
        (["--query", "a cat", *TWO, "--compare", "0"], "--compare is '0'"),
        (["--query", "a cat", *TWO, "--compare", "0,2"], "compare is (0, 2)"),
        (["--query", "a cat", *TWO, "--compare", "1,1"], "compare is (1, 1)"),
        (["--query", "a cat", *TWO, "--points", "0"], "points is 0"),
        (["--query", "a cat", *TWO, "--pairs", "x.jsonl"], "--pairs came with --query"),
        (["--pairs", "two.jsonl"], "two.jsonl: 2 queries came"),
        (["--pairs", "bad.tsv"], "bad.tsv, line 2: expected query<TAB>passage"),
        (["--pairs", "empty.tsv"], "empty.tsv: no pairs"),
        (["--pairs", "nowhere.tsv"], "nowhere.tsv"),
    ],
)
def test_bad_options_are_one_line_and_leave_nothing(model, tmp_path, monkeypatch, bad, fragment):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("matchlens.models.load.load", lambda *_, **__: 1 / 0)
    (tmp_path / "two.jsonl").write_text(
        '{"query": "a", "text": "x"}\n{"query": "b", "text": "y"}\n'
    )
    (tmp_path / "bad.tsv").write_text("a\tx\nno tab\n")
    (tmp_path / "empty.tsv").write_text("")
    assert fragment in refused("explain", *model, *bad, "--out", "out")
