"""The page of a results folder: all that stands on it, the same bytes, strangers' texts inert."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from base64 import b64encode
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import matchlens
import page_results as given
from matchlens import figures
from matchlens.figures.colours import step
from matchlens.figures.labels import NAMED
from matchlens.figures.svg import inline
from matchlens.report import page as page_module
from matchlens.report.definitions import DEFINITIONS
from matchlens.report.exhibits import Exhibit
from matchlens.report.page import LADDER, NAME, page, write
from matchlens.report.results_folder import ResultsFolder
from matchlens.report.table import tag
from matchlens.report.texts import embedded, num, prose, shown
from matchlens.report.views.looking import ALPHABET, TOP, _packed
from matchlens.report.views.sweep import layers
from matchlens.results import Result, read_manifest
from test_results import made

EXHIBITS = [
    "table-1",
    "figure-1a",
    "heads",
    "figure-1b",
    "figure-1c",
    "no-op",
    "lexical",
    "matching",
    "figure-2",
    "hypothesis",
    "controls",
    "pair",
]
VOID = {"meta", "link", "br", "input", "img", "hr", "col", "area", "base", "embed", "source"}


class Tree(HTMLParser):
    """The page as a parser sees it: every element with its attributes, texts, and its parents."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, attrs)
        own = dict(attrs)
        inside = tuple(key for _, key in self.open if key)
        self.elements.append((tag, own, inside))
        if tag not in VOID:
            self.open.append((tag, own.get("id") or ""))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1][0] == tag, (self.open[-3:], tag)
        self.open.pop()

    def handle_data(self, data):
        self.texts.append((self.open[-1][0] if self.open else "", data))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [own for name, own, _ in self.elements if name == tag]

    def inside(self, key: str) -> list[tuple[str, dict[str, str | None]]]:
        return [(name, own) for name, own, parents in self.elements if key in parents]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return given.made(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def text(folder) -> str:
    return page(folder)


@pytest.fixture(scope="module")
def tree(text) -> Tree:
    return Tree(text)


@pytest.fixture(scope="module")
def data(text) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', text)[1])


def test_everything_stands_on_the_page_with_definition_numbers_and_download(tree, data):
    ids = [own["id"] for _, own, _ in tree.elements if own.get("id")]
    assert len(ids) == len(set(ids))
    sections = [own["id"] for own in tree.named("section")]
    assert sections == ["overview", *EXHIBITS, "made"]
    links = [own["href"] for own in tree.named("a")]
    assert links[: len(sections) + 1] == ["#main", *(f"#{name}" for name in sections)]
    assert {link[1:] for link in links} <= set(ids)
    assert len(links) >= len(sections) + 3  # claims lead to where their numbers stand
    for name in EXHIBITS:
        inside = tree.inside(name)
        kinds = [own.get("class") for tag, own in inside if tag == "details"]
        assert {"definition", "numbers", "options"} <= set(kinds), name
        files = [own["data-csv"] for tag, own in inside if "data-csv" in own]
        assert files, name
        assert all(data["tables"][file]["rows"] for file in files)
        drawn = [own for tag, own in inside if tag == "svg" and "aria-label" in own]
        assert name in {"table-1", "pair"} or drawn, name
        assert all(len(own["aria-label"]) > 30 for own in drawn)
    assert set(DEFINITIONS) == {*EXHIBITS, "paper", "explain", "screen"}


def test_marks_tell_their_names_and_headings_are_in_order(tree):
    levels = [int(tag[1]) for tag, _, _ in tree.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    marks = [own for tag, own, _ in tree.elements if tag in {"circle", "path"}]
    titles = [words for tag, words in tree.texts if tag == "title"]
    assert len(marks) > len(titles) > 200
    assert all(words.strip() for words in titles)
    assert len(tree.named("main")) == len(tree.named("nav")) == 1


def test_numbers_equal_the_tables_cells(folder, text, data):
    stored = given.frame(folder, "ablation", "table1")
    options = matchlens.Result.load(folder, "ablation").options
    table = data["tables"]["table-1"]
    for name in ("mean", "diff", "ci_low", "p_holm", "tau_b"):
        column = [row[table["columns"].index(name)] for row in table["rows"]]
        np.testing.assert_array_equal(
            np.array(column, dtype=float), stored[name].to_numpy(dtype=float)
        )
    cells = re.findall(r'class="cell-td[^>]*title="([^"]*)"[^>]*>([^<]*)(<sup>\*)?', text)
    assert len(cells) == 30
    for (tip, shown_number, star), row in zip(
        cells, stored.iloc[2:].to_dict("records"), strict=True
    ):
        assert shown_number == num(row["mean"], 3)
        assert bool(star) == row["significant"]
        share = num(row["diff"] / (options["original"] - options["random"]), 2, sign=True)
        change = f"change {num(row['diff'], 3, sign=True)} ({share} of original"
        assert f"{change} \N{MINUS SIGN} random), 95% " in tip
        if row["ci_low"] <= row["ci_high"]:  # there is an interval
            assert f"95% [{num(row['ci_low'], 3)}" in tip
        assert "p Holm" in tip
        assert "p flip" in tip
        assert "8 queries" in tip
    points = given.frame(folder, "sweep-up-to", "points")
    curve = data["tables"]["figure-1a-up-to"]
    means = [row[curve["columns"].index("mean")] for row in curve["rows"]]
    assert means == points["mean"].tolist()
    judged = given.frame(folder, "study", "claims")
    for row in judged.to_dict("records"):
        assert prose(row["claim"]).replace("'", "&#39;") in text
    verdicts = re.findall(r'class="verdict"><span[^>]*>.</span> ([^<]+)<', text)
    assert verdicts == judged["verdict"].tolist()


def test_a_lowered_number_is_bold_and_nothing_else(folder, text):
    stored = given.frame(folder, "ablation", "table1").iloc[2:]
    lower = stored["mean"].round(3) < stored["original"].round(3)
    classes = re.findall(r'<td class="(cell-td[^"]*)"', text)
    assert ["lower" in one.split() for one in classes] == lower.tolist()
    assert 0 < lower.sum() < 30


@pytest.mark.slow
def test_the_same_tables_give_the_same_bytes_wherever_they_lie(folder, tmp_path):
    code = (
        "import sys, pathlib; from matchlens.report.page import write; "
        "print(write(pathlib.Path(sys.argv[1])))"
    )
    pages = []
    for seed in ("1", "2"):
        copy = tmp_path / f"copy {seed}"
        shutil.copytree(folder, copy)
        environment = {**os.environ, "PYTHONHASHSEED": seed, "TZ": f"UTC+{seed}"}
        subprocess.run(
            [sys.executable, "-c", code, str(copy)], check=True, env=environment, cwd=tmp_path
        )
        pages.append((copy / NAME).read_bytes())
    assert pages[0] == pages[1] == page(folder).encode()
    assert str(tmp_path).encode() not in pages[0]
    assert not re.search(rb"/tmp/|/home/|\b20\d\d-\d\d-\d\d\b", pages[0])


def test_what_strangers_wrote_is_inert(text, tree):
    scripts = tree.named("script")
    numbers = {"type": "application/json", "data-numbers": None}
    assert scripts == [numbers, {"type": "application/json", "id": "data"}, {}]
    assert not any(name.startswith("on") for _, own, _ in tree.elements for name in own)
    tags = {tag for tag, _, _ in tree.elements}
    assert not tags & {"img", "iframe", "object", "embed", "form", "base", "audio", "video"}
    for _, own, _ in tree.elements:
        for name in ("href", "src", "srcdoc", "action", "xlink:href", "style", "formaction"):
            value = own.get(name)
            assert value is None or (name == "href" and value.startswith(("#", "data:,")))
    body = " ".join(words for tag, words in tree.texts if tag not in {"script", "style"})
    for nasty in (given.SCRIPT, given.IMAGE, given.TEMPLATE, given.ATTRIBUTE, given.FORMULA):
        assert nasty[:20] in body, nasty
    assert not re.search(
        r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028]", text
    )
    assert "⟨U+202E⟩" in body
    assert "⟨U+0000⟩" in body
    for raw in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text):
        assert not set("<>&\u2028") & set(raw)


def test_long_texts_are_clipped_and_all_of_them_can_be_read(text, tree):
    words = "".join(words for tag, words in tree.texts if tag not in {"script", "style"})
    assert words.count("w" * 10_000) <= 12  # as it was kept, behind "show all"
    assert "Show all of the passage" in text
    tokens = [own for own in tree.named("span") if "data-w" in own]
    assert tokens
    assert all(len(own["title"]) < 300 for own in tokens)


def test_the_policy_allows_this_style_and_script_and_nothing_else(text, tree):
    policy = next(own for own in tree.named("meta") if "http-equiv" in own)["content"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    script = re.search(r"<script>(.*?)</script>", text, re.S)[1]
    style = re.search(r"<style>(.*?)</style>", text, re.S)[1]
    for name, content in (("script-src", script), ("style-src", style)):
        digest = b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[name] == f"'sha256-{digest}'"
    assert "http" not in script
    assert not re.search(r"url\(|@import|http", style)
    addresses = set(re.findall(r"https?://[^\s\"'<&]+", text))
    assert addresses <= {"http://example.org"}  # a passage says so


@pytest.mark.parametrize("studies", [("looking",), ("looking", "study")])
def test_a_page_of_pairs_alone_opens_with_them_and_hides_what_was_not_run(
    folder, tmp_path, studies
):
    tree = Tree(page(given.without(folder, tmp_path / "alone", *studies)))
    assert [own["id"] for own in tree.named("section")] == ["overview", "pair", "made"]
    said = " ".join(words for _, words in tree.texts)
    assert "What was found" not in said
    assert "not judged" not in said
    assert "undecided" not in said  # report stores claims that nothing decides


@pytest.mark.parametrize("study", [
    "ablation", "sweep-heads",
    *(pytest.param(study, marks=pytest.mark.slow) for study in ("attention", "circuits")),
])  # fmt: skip
def test_what_was_not_run_has_no_section_and_is_listed_at_the_end(folder, tmp_path, study):
    alone = given.without(folder, tmp_path / "alone", study)
    tree = Tree(page(alone))
    of_study = {
        "ablation": ["table-1"],
        "attention": ["figure-1b", "figure-1c", "no-op", "lexical", "matching"],
        "circuits": ["figure-2", "hypothesis"],
        "sweep-heads": ["heads"],
    }[study]
    assert [own["id"] for own in tree.named("section")] == ["overview", *of_study, "made"]
    listed = [words for tag, words in tree.texts if tag == "li"]
    command = {"sweep-heads": "sweep heads"}.get(study, study)
    assert not any(f"(matchlens {command})" in words for words in listed)
    for other in {"ablation", "attention", "circuits", "sweep heads"} - {command}:
        assert any(f"(matchlens {other})" in words for words in listed), other
    said = " ".join(words for tag, words in tree.texts if tag in {"bdi", "p"})
    assert "How does" in said
    assert "claims were not judged" in said


def test_the_page_opens_with_what_was_found(folder, text, tmp_path):
    table = given.frame(folder, "ablation", "table1")
    row = table[~table["cut"].isin(["", "random", "CLS->All"])].sort_values("diff").iloc[0]
    heading = re.search(r"<h1[^>]*><bdi>(.*?)</bdi></h1>", text)[1]
    assert f"from {num(row['original'], 3)} to {num(row['mean'], 3)}" in heading
    assert "nDCG@10" in heading
    assert "costs most" in heading or "No cut lowers" in heading
    lone = page(given.without(folder, tmp_path / "alone", "ablation"))
    assert heading in lone  # without the study that decides the claims, too


def test_a_cell_that_is_random_by_construction_is_marked_and_is_no_finding(folder, tmp_path):
    result = Result.load(folder, "ablation")
    table = result.to_frame("table1").set_index("cut")
    assert table.loc["CLS->All", "mean"] == pytest.approx(result.options["random"], abs=1e-9)
    table.loc["CLS->All", ["significant", "diff"]] = [True, -0.9]
    table.loc["D->Q", ["significant", "diff", "mean"]] = [True, -0.5, 0.25]
    result.tables = {"table1": table.reset_index()}
    result.save(tmp_path / "marked")
    text = page(tmp_path / "marked")
    assert len(re.findall("<sup>\N{DAGGER}</sup>", text)) == 1
    assert "random by construction, since the score has nothing left to read" in text
    heading = re.search(r"<h1[^>]*><bdi>(.*?)</bdi></h1>", text)[1]
    assert "Cutting what the document reads of the query costs most: nDCG@10 falls from" in heading
    assert "1 of 29 cuts change" in text


def test_figures_for_papers_are_linked_where_they_lie_beside_the_page(folder, tmp_path):
    copy = given.without(folder, tmp_path / "with", "sweep-up-to")
    made = copy / "sweep-up-to" / "figures"
    made.mkdir()
    for name in ("00.svg", "00.pdf", "lone.svg", "a <b>&.svg", "a <b>&.pdf"):
        (made / name).write_bytes(b"")
    tree = Tree(page(copy))
    links = [own["href"] for own in tree.named("a") if not own["href"].startswith("#")]
    start = "sweep-up-to/figures"
    assert links == [
        *(f"{start}/00.{kind}" for kind in ("svg", "pdf")),
        *(f"{start}/a%20%3Cb%3E%26.{kind}" for kind in ("svg", "pdf")),
    ]


def test_meters_and_tables_may_lack(folder, tmp_path):
    result = Result.load(folder, "attention")
    contrasts = result.to_frame("contrasts")
    kept = {
        "contrasts": contrasts[contrasts["meter"] == "mass"],
        "matching": result.to_frame("matching")
        .drop(columns="causal")
        .filter(regex="^(?!effect|cut)")
        .assign(matching=False),
        "noop": result.to_frame("noop").filter(regex="layer|head|^mass|sink|noop"),
        "distributions": result.to_frame("distributions").iloc[:0],
    }
    result.tables = kept
    result.save(tmp_path / "few")
    text = page(tmp_path / "few")
    assert "same-stem share was not measured" in text
    assert "Norm mass was not measured" in text
    assert "found by an earlier definition" in text  # such a folder has no table of conditions
    assert "Figure 1c was not made" in text
    conditions = Result.load(folder, "attention").to_frame("conditions")
    result.tables = {**kept, "conditions": conditions}
    result.save(tmp_path / "none")
    assert "No head is a matching head" in page(tmp_path / "none")


def test_other_cuts_and_hows_become_a_list(folder, tmp_path, tiny32):
    pairs = given.pairs(4)
    result = matchlens.ablation(tiny32, pairs, cuts=["Q->D@0:2", "D->D#1.2"], hows=["zero", "mask"])
    result.save(tmp_path / "hows")
    text = page(tmp_path / "hows")
    assert "in layers 0 to 1" in text
    assert "in head 1.2" in text
    assert "Under each way of cutting" in text
    assert 'class="matrix"' not in text


def test_a_cell_that_cannot_be_measured_says_why(folder, tmp_path):
    result = Result.load(folder, "ablation")
    table = result.to_frame("table1")
    table["impossible"] = None
    hurt = table["cut"] == "Q->D"
    table.loc[hurt, "impossible"] = "a decoder's query never reads the document <b>"
    table.loc[hurt, ["mean", "diff", "p_holm", "ci_low", "ci_high"]] = np.nan
    result.tables = {"table1": table}
    result.save(tmp_path / "decoder")
    text = page(tmp_path / "decoder")
    cell = re.search(r'<td class="cell-td  na" title="([^"]*)" data-mark="">n/a</td>', text)
    assert "not measured: a decoder&#39;s query never reads the document &lt;b&gt;" in cell[1]


def test_points_that_cannot_be_measured_are_left_out_of_curves_with_their_reason(folder, tmp_path):
    for study in ("sweep-up-to", "sweep-heads"):
        result = Result.load(folder, study)
        table = result.to_frame("points")
        hurt = table["direction"].isin(["D->Q", "{CLS,Q,SEP1,D,SEP2}->All"])
        table["impossible"] = [f"never read {given.SCRIPT}" if one else None for one in hurt]
        table.loc[hurt, ["mean", "diff", "q", "ci_low", "ci_high"]] = np.nan
        result.tables = {"points": table}
        result.save(tmp_path / "decoder")
    tree = Tree(page(tmp_path / "decoder"))
    said = " ".join(words for _, words in tree.texts)
    assert f"Not measured for D\xa0→\xa0Q: never read {given.SCRIPT}" in said
    drawn = {own.get("class") for tag, own in tree.inside("figure-1a") if tag == "g"}
    assert drawn - {None, "band"} == {"series s0", "series s1"}


def test_the_check_is_a_table_whatever_its_shape(folder, text, tmp_path):
    result = Result.load(folder, "ablation")
    asked = {
        "maps": {
            "what": "each head <b>attends",
            "seen": 5e-7,
            "expected": "at most 0.001",
            "ok": True,
        },
        "order": {
            "what": "a batch turned round",
            "seen": 2.0,
            "expected": "exactly 0",
            "ok": False,
        },
        "relevant": {"what": "of 8 queries", "seen": None, "expected": "", "ok": True},
    }
    result.options = {**result.options, "check": asked}
    result.save(tmp_path / "new")
    tree = Tree(page(tmp_path / "new"))
    said = " ".join(words for _, words in tree.texts)
    for words in (
        "each head <b>attends",
        "5e-07",
        "at most 0.001",
        "✓ right",
        "✗ wrong",
        "not tested",
    ):
        assert words in said
    assert "our attention function is called once a layer" in text


def test_curves_that_the_random_ranking_squeezes_are_drawn_close_up_too(folder, tmp_path):
    result = Result.load(folder, "sweep-up-to")
    result.options = {**result.options, "random": -3.0}
    result.save(tmp_path / "squeezed")
    ids = [own.get("id") for _, own, _ in Tree(page(tmp_path / "squeezed")).elements]
    assert {"figure-1a-up-to", "figure-1a-up-to-close"} <= set(ids)
    result.options = {**result.options, "random": result.options["original"]}
    result.save(tmp_path / "free")
    ids = [own.get("id") for _, own, _ in Tree(page(tmp_path / "free")).elements]
    assert "figure-1a-up-to-close" not in ids


@pytest.mark.slow
def test_too_large_a_page_drops_detail_in_order_and_at_last_is_refused(folder, monkeypatch):
    sizes = []
    render = page_module._render

    def watched(folder, exhibits, detail):
        text = render(folder, exhibits, detail)
        sizes.append((detail, len(text.encode())))
        return text

    monkeypatch.setattr(page_module, "_render", watched)
    with pytest.raises(matchlens.InputError, match="MB; expected at most"):
        page(folder, limit=1000)
    assert [detail for detail, _ in sizes] == list(LADDER)
    numbers = [size for _, size in sizes]
    assert numbers == sorted(numbers, reverse=True)
    assert numbers[0] > numbers[1] > numbers[3] > numbers[5]
    text = page(folder, limit=numbers[1])
    assert len(text.encode()) == numbers[1]
    assert "of 8 can be chosen alone" in text
    assert numbers[0] < 5_000_000


@pytest.mark.slow
def test_write_puts_aside_what_is_in_the_way(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert write(copy) == copy / NAME
    assert (copy / NAME).read_text("utf-8") == page(folder)
    (copy / NAME).unlink()
    (copy / NAME).mkdir()
    with pytest.warns(matchlens.MatchlensWarning, match="is 'report.html.kept' now"):
        write(copy)
    assert (copy / "report.html.kept").is_dir()
    assert (copy / NAME).read_text("utf-8") == page(folder)
    with pytest.raises(matchlens.InputError, match="no results folder"):
        page(tmp_path)


def _in_order(cards: list, text: str) -> list:
    """What the page holds of each pair, in the study's order: it shows a query's pairs together."""
    shown = [int(number) for number in re.findall(r'id="pair-(\d+)" data-card', text)]
    assert len(shown) == len(cards)
    return [card for _, card in sorted(zip(shown, cards, strict=True), key=lambda one: one[0])]


def test_what_heads_read_is_what_was_kept(folder, text):
    result = Result.load(folder, "looking")
    received = result.array("received")
    tokens = result.to_frame("tokens")
    views = re.search(r"data-numbers>(.*?)</script>", text)
    assert views is not None
    for place, look in enumerate(_in_order(json.loads(views[1])["cards"], text)):
        number = int((tokens["look"] == result.to_frame("looks")["look"].iloc[place]).sum())
        for view, expected in (
            ("all", received[place].reshape(-1, *received.shape[3:]).mean(0)),
            ("L1", received[place, 1].mean(0)),
            ("1.2", received[place, 1, 2]),
        ):
            for reader, packed in enumerate(look[view]):
                values = _unpacked(packed)
                np.testing.assert_allclose(values, expected[reader, :number], atol=3e-4)
                np.testing.assert_allclose(sum(values), 1.0, atol=0.01)


def _unpacked(packed: list) -> list[float]:
    most, text = packed
    signs = [ALPHABET.index(sign) for sign in text]
    return [most * ((a * 64 + b) / TOP) ** 2 for a, b in zip(signs[::2], signs[1::2], strict=True)]


def test_packed_numbers_come_back():
    values = np.random.default_rng(0).uniform(0, 1, 200) ** 6
    np.testing.assert_allclose(_unpacked(_packed(values)), values, atol=3e-4)
    assert _packed(np.zeros(3)) == [0.0, "AAAAAA"]


def test_a_chart_is_the_papers_figure_with_a_title_for_each_mark():
    heads = [{"layer": k, "head": 0, "x": k % 5, "y": k // 5, "tip": f"tip {k} <"}
             for k in range(20)]  # fmt: skip
    lost = {"layer": 9, "head": 9, "x": float("nan"), "y": 0.0, "tip": "lost"}
    figure = figures.head_scatter(
        pd.DataFrame([*heads, lost]), x="x", y="y", labels={"x": "Q->D", "y": "up"}
    )
    text = str(inline(figure))
    assert re.findall("<title>(.*?)</title>", text) == [f"tip {k} &lt;" for k in range(20)]
    assert text.count("<circle") == 20
    names = [one.get_text() for one in figure.axes[0].texts]
    assert 0 < len(names) <= NAMED
    assert names == [one for one in re.findall(">([^<>]+)</text>", text) if "." in one[1:]]
    assert 'aria-label="up against Q→D, 20 heads, ' in text
    assert not re.search(r" (id|style|xlink:href)=|#[0-9a-f]{6}", text)
    assert tag("a", "<", href='"') == '<a href="&#34;">&lt;</a>'


def test_a_cell_and_a_point_have_the_title_of_their_row():
    heads = pd.DataFrame(
        [{"layer": k // 3, "head": k % 3, "diff": k - 4.0, "q": 0.5, "significant": k == 2,
          "tip": f"cell {k}"} for k in range(9) if k != 5]
    ).sample(frac=1, random_state=1)  # fmt: skip
    text = str(inline(figures.head_map(heads, words="what")))
    titles = re.findall("<path d=.([^<]*)<title>cell (\\d)</title>", text)
    assert [int(number) for _, number in titles] == [0, 1, 2, 3, 4, 6, 7, 8]
    fills = [re.search(r"var\(--(\w+)\)", path)[1] for path, _ in titles]
    assert fills == [step(k - 4.0, 4.0) for k in range(9) if k != 5]
    assert 'data-columns="-3"' in text
    rows = [{"direction": name, "n": n, "mean": 0.5, "original": 0.6, "ci_low": -0.2,
             "ci_high": 0.0, "significant": n == 1, "tip": f"{name} {n}"}
            for name in ("Q->D", "D->Q") for n in range(3)]  # fmt: skip
    text = str(inline(figures.layer_curves(pd.DataFrame(rows), measure="P@1", random=0.4)))
    groups = re.findall('<g class="series s([01])">(.*?)(?=<g class="series|</svg>)', text, re.S)
    for (number, group), name in zip(groups, ("Q-&gt;D", "D-&gt;Q"), strict=True):
        assert sorted(re.findall("<title>(.*?)</title>", group)) == [
            f"{name} {n}" for n in range(3)
        ]
        assert 'class="band"' in group
        assert f">{name.replace('-&gt;', '→')}</text>" in group, number


def test_options_that_studies_do_not_share_stand_once_for_each():
    first = made("sweep-up-to", options={"kind": "up-to", "seed": 0, "window": None})
    second = made("sweep-window", options={"kind": "window", "seed": 0, "window": 3, "more": 1})
    assert dict(Exhibit("a", "b", "c", result=first, others=(second,)).options) == {
        "kind (sweep-up-to)": "up-to",
        "kind (sweep-window)": "window",
        "seed": "0",
        "window (sweep-up-to)": "none",
        "window (sweep-window)": "3",
        "more (sweep-window)": "1",
    }
    assert [name for name, _ in Exhibit("a", "b", "c", result=first).options] == [*first.options]


def test_the_section_of_several_sweeps_has_the_options_of_each(folder):
    up_to = Result.load(folder, "sweep-up-to")
    window = replace(up_to, study="sweep-window", options={**up_to.options, "kind": "window"})
    studies = {one.study: one for one in (up_to, window)}
    (exhibit,) = layers(ResultsFolder(read_manifest(folder), studies))
    assert {"kind (sweep-up-to)": "up-to", "kind (sweep-window)": "window"}.items() <= dict(
        exhibit.options
    ).items()


def test_texts_are_spelled_out():
    assert shown(given.TURN) == "abc⟨U+202E⟩gnp.exe⟨U+2066⟩"
    assert "\x00" not in shown(given.NULS)
    assert len(shown(given.LONG, 50)) == 50
    assert "<" not in embedded({"a": given.BREAK})
    assert json.loads(embedded({"a": given.BREAK})) == {"a": given.BREAK}
