"""The demo collection keeps the properties that its data card promises."""

import os
import re
import subprocess
import sys
import zipfile
from collections import Counter, defaultdict
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest

import matchlens.corpora
from matchlens.corpora import Pair, choose, demo

PLAN = {
    ("exact", 3): 2,
    ("paraphrase", 3): 2,
    ("exact", 2): 1,
    ("paraphrase", 2): 1,
    ("partial", 1): 2,
    ("trap", 0): 2,
    ("topic", 0): 2,
}
STOP = """
a an and are as at be been being but by can could did do does doing for from had has have
having he her here hers him his how i if in into is it its itself just me more most my no
nor not of off on once only or other our out over own same she should so some such than
that the their them then there these they this those through to too under until up very
was we were what when where which while who whom why will with would you your about above
after again against all am any because before below between both during each few further
down also may might must shall one ones get gets got make makes made use used using much
many way ways thing things something need needs long
"""
ENDINGS = (
    "ations",
    "ation",
    "ings",
    "ing",
    "ies",
    "ied",
    "ers",
    "ed",
    "er",
    "es",
    "ly",
    "s",
    "e",
    "y",
)


def content(text: str) -> set[str]:
    """Words of letters that are longer than one and no stop words."""
    found = re.findall(r"[a-z]+", text.lower().replace("'s", ""))
    return {word for word in found if word not in STOP.split() and len(word) > 1}


def stem(word: str) -> str:
    for ending in ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word.removesuffix(ending)
    return word


def same(one: str, other: str) -> bool:
    """Equal, of equal stem, or alike at the start but for two letters of the shorter."""
    start = max(4, min(len(one), len(other)) - 2)
    alike = one[:start] == other[:start] and min(len(one), len(other)) >= start
    return stem(one) == stem(other) or alike


def share(query: str, text: str) -> float:
    """The share of the query's content words that the text has."""
    words, found = content(query), content(text)
    return sum(any(same(word, other) for other in found) for word in words) / len(words)


def problems(pairs: list[Pair]) -> list[str]:
    """What is wrong with the passages of one query."""
    wrong = []
    counts = Counter((pair.kind, pair.grade) for pair in pairs)
    if counts != PLAN:
        wrong.append(f"kinds and grades: {counts}")
    if len({" ".join(pair.text.lower().split()) for pair in pairs}) < len(pairs):
        wrong.append("a text twice")
    if not 2 <= len(content(pairs[0].query)) <= 7:
        wrong.append("content words of the query")
    for pair in pairs:
        shared = share(pair.query, pair.text)
        if not 30 <= len(pair.text.split()) <= 70:
            wrong.append(f"{pair.docid}: length")
        if not (pair.text.isascii() and pair.text.isprintable()):
            wrong.append(f"{pair.docid}: characters")
        bounds = {"exact": (1, 1), "paraphrase": (0, 0), "trap": (0.6, 1), "topic": (0, 0.5)}
        low, high = bounds.get(pair.kind, (0, 1))
        if not low <= shared <= high:
            wrong.append(f"{pair.docid}: {pair.kind} shares {shared:.2f}")
    return wrong


@pytest.fixture(scope="module")
def groups() -> dict[str, list[Pair]]:
    found = defaultdict(list)
    for pair in choose(demo.load(), all_judged=True).pairs:
        found[pair.qid].append(pair)
    return dict(found)


def test_it_is_as_large_as_promised(groups):
    assert list(groups) == [f"d{number:02d}" for number in range(1, 33)]
    for qid, pairs in groups.items():
        assert [pair.docid for pair in pairs] == [f"{qid}-{n:02d}" for n in range(1, 13)]
        assert {pair.grade for pair in pairs} == {0, 1, 2, 3}
    texts = [pair.text for pairs in groups.values() for pair in pairs]
    assert len(set(texts)) == len(texts) == 384
    assert len({pairs[0].query for pairs in groups.values()}) == 32


def test_every_query_keeps_the_rules(groups):
    assert {qid: problems(pairs) for qid, pairs in groups.items() if problems(pairs)} == {}


def test_every_pair_has_its_kind_and_a_judgement():
    collection = demo.load()
    judged = {(qid, docid) for qid, grades in collection.qrels.items() for docid in grades}
    assert set(collection.kinds) == judged
    assert set(collection.texts(docid for _, docid in judged)) == {docid for _, docid in judged}
    assert collection.source["dataset"] == "matchlens demo"
    assert len(choose(collection).pairs) == 384  # no grade of a query passes the default cap


def test_neither_ids_nor_places_give_the_kind_away(groups):
    places = defaultdict(list)
    for pairs in groups.values():
        for place, pair in enumerate(pairs, 1):
            places[pair.kind].append(place)
    for kind, found in places.items():
        spread = (143 / 12 / len(found)) ** 0.5  # of the mean of uniform places 1 to 12
        assert abs(sum(found) / len(found) - 6.5) < 3.5 * spread, kind
        assert {1, 12} <= set(found), kind


def test_exact_and_paraphrase_passages_are_of_like_length(groups):
    words = defaultdict(list)
    for pairs in groups.values():
        for pair in pairs:
            words[pair.kind, pair.grade].append(len(pair.text.split()))
    for grade in (2, 3):
        exact, paraphrase = words["exact", grade], words["paraphrase", grade]
        assert abs(sum(exact) / len(exact) - sum(paraphrase) / len(paraphrase)) < 3


@pytest.mark.parametrize(
    "tamper",
    [
        lambda pair: replace(pair, text=pair.text + " " + pair.query.split()[-1] + "s"),
        lambda pair: replace(pair, kind="exact"),
        lambda pair: replace(pair, grade=1),
        lambda pair: replace(pair, text=pair.text.replace("a", "\u00e0", 1)),
        lambda pair: replace(pair, text=" ".join(pair.text.split()[:20])),
        lambda pair: replace(pair, text=pair.text + " word" * 40),
    ],
    ids=["a query word", "another kind", "another grade", "not ASCII", "short", "long"],
)
def test_the_rules_notice_a_change_of_a_paraphrase(groups, tamper):
    for pairs in groups.values():
        place = next(n for n, pair in enumerate(pairs) if pair.kind == "paraphrase")
        changed = [*pairs[:place], tamper(pairs[place]), *pairs[place + 1 :]]
        assert problems(changed) != []


def test_the_rules_notice_other_changes(groups):
    for pairs in groups.values():
        by_kind = {pair.kind: (place, pair) for place, pair in enumerate(pairs)}
        for kind, other in (("exact", "topic"), ("trap", "paraphrase"), ("topic", "exact")):
            place, pair = by_kind[kind]
            changed = list(pairs)
            changed[place] = replace(pair, text=by_kind[other][1].text + " Indeed.")
            assert problems(changed) != [], kind
        assert problems(pairs[:-1]) != []
        assert problems([*pairs[:-1], replace(pairs[-1], text=pairs[0].text.upper())]) != []


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("bread", "breads", True),
        ("rise", "rising", True),
        ("remove", "removal", True),
        ("berry", "berries", True),
        ("rust", "trust", False),
        ("car", "carpet", False),
        ("dough", "loaf", False),
    ],
)
def test_the_rule_for_equal_words(one, other, alike):
    assert same(one, other) is alike


def test_the_data_card_has_the_counts(groups):
    card = (files("matchlens.corpora") / "demo_data" / "DATACARD.md").read_text("utf-8")
    pairs = [pair for group in groups.values() for pair in group]
    for (kind, grade), count in Counter((pair.kind, pair.grade) for pair in pairs).items():
        assert re.search(rf"^\| {kind} \| {grade} \| {count} \|", card, re.MULTILINE), kind
    assert "32 queries" in card
    assert "384 passages" in card
    assert "Apache-2.0" in card


def test_it_loads_from_an_archive(tmp_path):
    package = Path(matchlens.corpora.__file__).parent.parent
    archive = tmp_path / "matchlens.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("matchlens/__init__.py", "")
        for name in ("errors.py", "arguments.py", "parts.py", "showing.py", "files.py"):
            packed.write(package / name, f"matchlens/{name}")
        for path in package.joinpath("corpora").rglob("*.*"):
            packed.write(path, Path("matchlens") / path.relative_to(package))
    code = (
        "from matchlens.corpora import choose, demo; import matchlens; "
        "print(matchlens.__file__, len(choose(demo.load()).pairs))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(archive)},
    )
    assert done.stdout.split() == [str(archive / "matchlens" / "__init__.py"), "384"]
