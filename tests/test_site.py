"""The site's words: what can be held against files without building it."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from pathlib import Path

import pytest

from matchlens.report.texts import printed
from pages import DOCS, NOT_RUN, ROOT, blocks, name_of, pages

RESULTS = DOCS / "results"
spec = importlib.util.spec_from_file_location("hooks", DOCS / "hooks.py")
assert spec is not None
assert spec.loader is not None
hooks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hooks)
FINDINGS = (DOCS / "findings.md").read_text(encoding="utf-8")
HOSTS = {"arxiv.org", "semver.org", "ir-measur.es"}
"""Hosts that pages may link to."""
CLAIMS = {
    "Document contextualisation": "document-context",
    "Query-to-document": "query-to-document",
    "Document-to-query": "document-to-query",
    "SEP is a no-op": "separators",
    "In the early layers": "early-cls",
    "Matching is lexical": "lexical-first",
    "Semantic matches": "hard-negatives",
    "The matching heads": "upper-right",
    "Relevance is gathered": "cls-last",
}


def rows(title: str) -> list[list[str]]:
    """The rows of the table under a heading of the findings."""
    part = FINDINGS.split(f"## {title}")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_claims_are_those_of_the_stored_study():
    held = {
        one["id"]: one for one in json.loads((RESULTS / "dl19-study.json").read_text())["claims"]
    }
    told = rows("The paper's claims, on TREC DL 2019")
    assert len(told) == len(held) == len(CLAIMS)
    for claim, verdict, number, interval, _ in told:
        one = held[next(name for start, name in CLAIMS.items() if claim.startswith(start))]
        assert one["claim"].startswith(claim.partition(" (")[0])
        assert verdict == one["verdict"]
        assert number == printed(one["value"], 3)
        ends = [printed(one[end], 3) for end in ("low", "high")]
        assert interval == ("-" if one["low"] is None else f"[{ends[0]}, {ends[1]}]")


def test_the_claims_on_three_collections_are_those_of_the_stored_studies():
    told = rows("The claims on three collections")
    assert len(told) == len(CLAIMS)
    for place, name in enumerate(("dl19", "dl20", "demo"), 1):
        held = json.loads((RESULTS / f"{name}-study.json").read_text())["claims"]
        expected = [f"{one['verdict']} ({printed(one['value'], 3)})" for one in held]
        assert [row[place] for row in told] == expected
        assert [CLAIMS[next(s for s in CLAIMS if row[0].startswith(s))] for row in told] == [
            one["id"] for one in held
        ]


def test_table_1_is_the_stored_one():
    cells = hooks.cells("dl19-table1")
    cells["random ranking"] = cells["random"]
    told = {cut: ours for cut, _, ours in rows("Table 1, next to the paper's")}
    assert len(told) == 8
    assert told == {cut: cells[cut] for cut in told}


def test_numbers_in_the_text_are_those_of_the_stored_tables():
    """The build writes them; in the checkout they are the same, for those who read it there."""
    marked = {page: page.read_text(encoding="utf-8") for page in pages()}
    marked = {page: text for page, text in marked.items() if "<!-- cell: " in text}
    assert sum(text.count("<!-- cell: ") for text in marked.values()) >= 3
    for page, text in marked.items():
        stale = hooks.CELL.sub(r"\1.123\4", text)
        assert stale != text, page
        assert hooks.on_page_markdown(stale) == text, page


def test_layer_by_layer_is_what_stands_on_record():
    record = (RESULTS / "README.md").read_text()
    for cut, *values in rows("Up to each layer, next to the authors' code"):
        assert f"| {' | '.join(values)} |" in record, cut


@pytest.mark.parametrize(
    ("said", "file"),
    [
        ("the largest change is .005 of .922", "README.md"),
        ("more than every one of 100 random sets of the same layers", "README.md"),
        ("4 semantic (3.1, 3.11, 6.5", "README.md"),
    ],
)
def test_what_is_said_of_heads_stands_on_record(said, file):
    assert said in FINDINGS
    assert said.replace("more than ", "") in (RESULTS / file).read_text().replace("\n", " ")


def test_other_numbers_of_the_findings_stand_on_record():
    record = (RESULTS / "README.md").read_text()
    part = FINDINGS.split("## Heads")[1].split("## What is not known")[0]
    numbers = set(re.findall(r"(?<![\w.])\d*\.\d+(?![\w.])", part)) - {".05"}
    assert len(numbers) >= 10
    assert {number for number in numbers if number not in record} == set()


MEASURED = {
    "docs/cluster.md": "benchmarks/ray_pace.py",
    "docs/read/why-above.md": "python -m benchmarks.gates agreement",
    "docs/recipes/gpu.md": "make bench-gpu",
    "docs/science/ranking.md": "python tests/test_effects.py",
}
"""Pages that are the record of a measurement, and the command on them that repeats it."""
GIVEN = {
    "README.md": {"2507.14604"},  # of arXiv
    "docs/index.md": {"2507.14604"},
    "docs/science/index.md": {"2507.14604"},
    "docs/versioning.md": {"2.13", "5.16"},  # versions of libraries
    "docs/findings.md": {".423", "2.316"},  # what version 0.1.0 said
    "docs/results-folder.md": {"10,000"},  # a limit
    "docs/science/cuts.md": {"20,000"},  # likewise
    "docs/read/heads.md": {"3,600"},  # 144 heads in 25 directions
}
"""Numbers that no run gave, by page."""
WRITTEN = ("docs/performance.md", "docs/results/", "docs/reference/")
"""Pages that a benchmark writes, that are the record, or that a module's docstrings fill."""


@pytest.mark.parametrize("page", [path.relative_to(ROOT).as_posix() for path in pages()])
def test_numbers_of_a_page_stand_on_record(page):
    """What a run gave stands in docs/results, or the page says how it is measured again."""
    text = (ROOT / page).read_text("utf-8")
    if page.startswith(WRITTEN) or (page in MEASURED and MEASURED[page] in text):
        return
    record = "".join(path.read_text("utf-8") for path in RESULTS.iterdir())
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    numbers = re.findall(r"(?<![\w.@])(?:\d*\.\d\d+|\d,\d{3}|\d\d,\d{3})(?![\w.]\d)", text)
    strange = {number for number in numbers if number not in record}
    assert strange == GIVEN.get(page, set())


def test_what_the_demo_prints_stands_in_the_readme_as_it_is_stored():
    shown = re.search(r"```text\n(cross-encoder/.*?)```", (ROOT / "README.md").read_text(), re.S)
    stored = " ".join((RESULTS / "demo-quick.txt").read_text().split())
    assert shown is not None
    assert len(shown[1]) > 2000
    assert " ".join(shown[1].split()) in stored


def test_links_out_go_to_known_hosts():
    found = {}
    for page in pages():
        for link in re.findall(r"\]\((https?://[^)\s]+)\)", page.read_text(encoding="utf-8")):
            assert re.fullmatch(r"https://[\w.-]+(/[\w./#?=&%-]*)?", link), link
            found.setdefault(link.split("/")[2], name_of(page))
    assert set(found) <= HOSTS
    assert "arxiv.org" in found


def test_every_page_is_in_the_nav():
    nav = (ROOT / "mkdocs.yml").read_text().split("\nnav:")[1]
    named = set(re.findall(r"^ +- (?:[^#\n]*: )?([\w/.-]+\.md)$", nav, re.MULTILINE))
    assert named == {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}


def test_python_on_the_site_parses_and_blocks_say_what_they_are():
    count = 0
    for page in pages():
        for one in blocks(page):
            count += 1
            if one.language == "python" and page.name != "add-a-family.md":
                ast.parse(one.body)
            assert not one.title or one.file or one.title.startswith((NOT_RUN + ": ", "It prints"))
    assert count > 60


def test_every_public_name_is_in_the_reference():
    import matchlens
    from matchlens import qk as circuits

    text = (DOCS / "reference/python.md").read_text()
    shown = set(re.findall(r"^::: matchlens\.(\w+)$", text, re.MULTILINE))
    assert shown == set(matchlens.__all__) - {"__version__"}
    listed = (DOCS / "reference/circuits.md").read_text().split("members: [")[1].split("]")[0]
    assert {name.strip(' "') for name in listed.split(",")} == set(circuits.__all__)


def test_every_command_is_in_the_reference():
    from matchlens.cli.commands import commands

    text = (DOCS / "reference/command-line.md").read_text()
    shown = set(re.findall(r"^<!-- help: (\w+) -->$", text, re.MULTILINE))
    assert shown == set(commands())


def test_pictures_are_small_and_used():
    used = "".join(page.read_text(encoding="utf-8") for page in pages())
    drawn = sorted(Path(DOCS / "pictures").glob("*.png"))
    assert drawn
    for picture in drawn:
        assert 1000 < picture.stat().st_size < 150_000, picture.name
        assert f"pictures/{picture.name}" in used, picture.name


def test_tie_tolerances_are_those_of_the_code():
    from matchlens.studies.common import TIE_TOL

    page = (DOCS / "recipes/gpu.md").read_text()
    told = {
        name: float(tol) for name, tol in re.findall(r"^\| `(\w+)`.*\| (\de-\d) \|$", page, re.M)
    }
    told["float32"] = float(
        re.findall(r"^\| `float32` \(default\).*\| (\de-\d) \|$", page, re.M)[0]
    )
    assert told == dict(TIE_TOL)
