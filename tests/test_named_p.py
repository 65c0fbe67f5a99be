"""Every p that is printed is named: uncorrected, or by its correction; no interval is NaN."""

from __future__ import annotations

import ast
import re
from html import unescape
from pathlib import Path

import pytest
from benchmarks import faithfulness

import matchlens
import page_results
from matchlens.report.page import page
from matchlens.report.results_folder import ResultsFolder
from matchlens.report.table import columns_of
from matchlens.report.views import latex_of, text_of, view_of

ROOT = Path(__file__).parent.parent
NAMED = re.compile(r"\braw\b|uncorrected|corrected|Holm|Benjamini", re.IGNORECASE)
LABELS = re.compile(r"uncorrected|Holm|(?<!\w)q(?!\w)", re.IGNORECASE)
A_P = re.compile(r"(?<![\w.^<$#])p(?: \(\w+\))?\s?(?:[=<≤>]=?\s?)?(?:[01]?\.\d+|<\.\d+|1/\d+)")
NEAR = 160
"""Signs around a p in which its name stands."""
NOT_A_NUMBER = re.compile(r"\bnan\b", re.IGNORECASE)


def unnamed(text: str) -> list[str]:
    """Each p of a text that nothing near it names."""
    text = " ".join(text.split())
    around = (text[max(0, m.start() - NEAR) : m.end() + NEAR] for m in A_P.finditer(text))
    return [one for one in around if not NAMED.search(one)]


def read(text: str) -> str:
    """What a reader of a page sees, the tips of its marks among it."""
    text = re.sub(r"(?s)<(script|style)\b.*?</\1>", " ", text)
    text = re.sub(r'title="([^"]*)"', r"> \1 <i", text)
    return unescape(re.sub(r"<[^>]*>", " ", text))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return page_results.made(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def more(tmp_path_factory, tiny, tiny_folder) -> Path:
    """What the folder lacks: sets of heads, the screen, an explained margin, a comparison."""
    where = tmp_path_factory.mktemp("more")
    pairs = matchlens.choose(matchlens.demo.load(), queries=3, per_grade=1, easy=1)
    sets = matchlens.head_sets(tiny, pairs, {"top": "1.0,2.1"}, directions=["Q->D"])
    sets.save(where / "sets")
    matchlens.screen(tiny, pairs, others=9).save(where / "screen")
    passages = [pair.text for pair in pairs.pairs[:3]]
    explained = matchlens.explain(tiny, pairs.pairs[0].query, passages, points=4)
    explained.save(where / "explain")
    return where


def printed(folder: Path) -> dict[str, str]:
    """Every text, table and page of a results folder, as it is read."""
    held = ResultsFolder.load(folder)
    texts = {f"{folder.name}, page": read(page(folder))}
    for name, result in held.studies.items():
        texts[f"{name}, text"] = text_of(result)
        if view_of(result).latex:
            texts[f"{name}, LaTeX"] = latex_of(result)
    return texts


@pytest.mark.slow
def test_every_printed_p_is_named_and_no_interval_is_nan(folder, more):
    texts = printed(folder)
    for one in more.iterdir():
        texts |= printed(one)
    studies = {name.partition(",")[0] for name in texts}
    assert {"ablation", "study", "head-sets", "screen", "explain", "circuits"} <= studies
    assert sum(len(A_P.findall(text)) for text in texts.values()) > 10
    assert {name: unnamed(text) for name, text in texts.items() if unnamed(text)} == {}
    hurt = {name: text for name, text in texts.items() if NOT_A_NUMBER.search(text)}
    assert list(hurt) == []


P_KEY = re.compile(r"[pq](_\w+)?|\w+_[pq]")
KEYS = re.compile(r"\+?(\w+)(?:=\w+)?(?::\d)?")


def test_every_column_of_a_p_has_a_heading_that_names_it():
    """Lists of columns are read in the source, so that none can be forgotten."""
    count, bad = 0, []
    for path in (ROOT / "src/matchlens/report").rglob("*.py"):
        tree = ast.parse(path.read_text())
        labels = {
            keyword.arg: keyword.value.value
            for call in ast.walk(tree)
            if isinstance(call, ast.Call)
            for keyword in call.keywords
            if isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, str)
        }
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
                continue
            words = node.value.split()
            if len(words) < 2 or not all(map(KEYS.fullmatch, words)):
                continue
            for word in words:
                key = KEYS.fullmatch(word)[1]
                (column,) = columns_of(word)
                if not (P_KEY.fullmatch(key) and column.kind == "p"):
                    continue
                count += 1
                label = labels.get(key, column.label)
                if not LABELS.search(label):
                    bad.append(f"{path.name}:{node.lineno}: {key}: {label}")
    assert count > 30
    assert bad == []


PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_p_of_the_documentation_is_named(path):
    assert unnamed(path.read_text()) == []


def test_an_unnamed_p_is_seen():
    for text in ("it falls (p .010)", "p = .03", "p < .001", "p: p <= .05", "(p 0.2)"):
        assert unnamed(text), text
        assert not unnamed(f"{text}, Holm-corrected")


def test_fewer_than_ten_queries_of_a_benchmark_decide_nothing():
    import numpy as np

    values = np.linspace(0.1, 0.2, 12)
    few = faithfulness.tested(values[:9], ["a"] * 9)
    assert few["undecided"] == "9 queries; at least 10 are needed"
    assert "interval" not in few
    assert faithfulness.tested(values, ["a"] * 12)["p (two-sided, uncorrected)"] < 0.001
    flat = faithfulness.tested(np.eye(12)[0], ["a"] * 12)
    assert flat["interval"] == "none: too few queries differ"
