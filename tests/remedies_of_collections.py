"""The errors of collections, and what their messages say to do."""

from __future__ import annotations

import gzip
import re
import urllib.request
from contextlib import nullcontext
from pathlib import Path

import ir_datasets
import pandas as pd
from ir_datasets.formats import GenericQuery

from corpora_files import GOOD, Memory, load, write
from matchlens.corpora import PairSet, beir, choose, frame, irds, lines, thin, trec
from matchlens.corpora.frame import pairs_of
from remedies import C, after, example, least, listed
from test_corpora_irds import QRELS, QUERIES, ROWS, Docs, Qrels, Queries

BOMB = gzip.compress(b" \n" * 10**5, mtime=0)


def memory(**changed) -> Memory:
    """A collection in memory."""
    given = {
        "queries": {"q1": "cook rice", "q2": "rust"},
        "qrels": {"q1": {"a": 2, "b": 0}, "q2": {"c": 1}},
        "passages": {"a": "cook it", "b": "a boat", "c": "iron", "z": "tea", "y": "warm"},
    }
    return Memory(**{**given, **changed})


def chosen(_: object, given: tuple[dict, dict]) -> PairSet:
    return choose(memory(**given[0]), **given[1])


def files(w, given: dict) -> object:
    """A collection of files; the value is files that differ, and options of load."""
    write(Path(), GOOD)
    options = {name: one for name, one in given.items() if name in ("passages", "name", "run")}
    changed = {name: one for name, one in given.items() if name not in options}
    for name, content in changed.items():
        if callable(content):
            content(Path(name))
        else:
            Path(name).write_bytes(content)
    return choose(load(Path(), **{"run": None, **options}))


def environment(w, value: str) -> object:
    """A packed file with a number of bytes that it may unpack to."""
    w.patch.setenv(lines.UNPACKED, value)
    return files(w, {"p.jsonl.gz": gzip.compress(GOOD["p.jsonl"]), "passages": ["p.jsonl.gz"]})


def bomb(w, allowed: object) -> object:
    """A file that unpacks to far more than text does."""
    w.patch.setattr(lines, "FREE", 10**4)
    if isinstance(allowed, str):
        w.patch.setenv(allowed, str(10**7))
    parts = [BOMB + gzip.compress(GOOD["p.jsonl"])]
    if allowed == 2:
        first, *rest = GOOD["p.jsonl"].splitlines(keepends=True)
        parts = [gzip.compress(b" \n" * 10**3 + one) for one in (first, b"".join(rest))]
    given = {f"{number}.jsonl.gz": part for number, part in enumerate(parts)}
    return files(w, {**given, "passages": list(given)})


def unreadable(w, path: str) -> object:
    """A file that may not be read; the tests may run as one who may read all."""
    real = Path.open

    def opened(self: Path, *given: object, **more: object):
        if self.name == "closed.jsonl" and given == ("rb",):
            raise PermissionError(13, "Permission denied")
        return real(self, *given, **more)

    w.patch.setattr(Path, "open", opened)
    with open(path, "wb") as stream:
        stream.write(GOOD["p.jsonl"])
    return files(w, {"passages": [path]})


def dataset(_: object, given: tuple[str, dict]) -> object:
    """Datasets that ir_datasets knows: one that is whole, and parts of one."""
    whole = (Docs(ROWS), Queries(QUERIES), Qrels(QRELS))
    known = {
        "tidy": whole,
        "tidy/part": whole,
        "bare": whole[:2],
        "bare/part": whole,
        "down": (Docs(ROWS), Down(QUERIES), Qrels(QRELS)),
    }
    for name, parts in known.items():
        if name not in ir_datasets.registry._registered:
            ir_datasets.registry.register(name, ir_datasets.Dataset(*parts))
    try:
        return irds.load(given[0], **given[1])
    finally:
        for name in known:
            ir_datasets.registry._registered.pop(name)


class Down(Queries):
    """Queries that cannot be had until there is a network."""

    network = False

    def queries_iter(self):
        if not Down.network:
            raise ConnectionError("no route")
        return iter([GenericQuery("q1", "cook rice")])


def reached(w, up: bool) -> object:
    w.patch.setattr(Down, "network", up)
    return dataset(w, ("down", {}))


def archive(w, given: tuple[str, str]) -> object:
    """An archive of passages where no network is; or TREC files instead."""
    name, url = given
    if name == "files":
        return files(w, {})

    def refuse(*_: object, **__: object):
        raise OSError("no route")

    w.patch.setattr(
        urllib.request, "urlopen", (lambda *_, **__: nullcontext()) if url[-1] == "/" else refuse
    )
    return irds._reach(name, url, {})


def joined(_: object, given: list[tuple[str, dict]]) -> PairSet:
    return PairSet.join([choose(memory(name=name), **options) for name, options in given])


def changing(w, at: str) -> object:
    """A file that changes after it was loaded; run again, it does not."""
    write(Path(), GOOD)
    collection = load(Path(), run=None)
    if at == "changes":
        Path("p.jsonl").write_bytes(GOOD["p.jsonl"] + b"\n")
    return choose(collection)


PARTS = {"topics": {"q1": "tea"}, "qrels": {"q1": {"d1": 1}}, "passages": {"d1": "hot tea"}}
FRAME = pd.DataFrame(
    [["tea", "hot tea", "d1", 1], ["tea", "rust", "d2", 0]],
    columns=["query", "text", "docno", "grade"],
)


def loaded(_: object, changed: dict) -> object:
    """A collection in memory; a part that is None is left out."""
    return frame.load(**{**PARTS, **changed})


class NotPandas:
    """A frame of another library."""

    columns = ("query", "text")


M = memory()


def framed(_: object, given: tuple[pd.DataFrame, object]) -> PairSet:
    return PairSet.from_frame(*given)


def renamed(m: str) -> list:
    """The frame with the columns that a message says."""
    return [(FRAME.rename(columns={"docno": name}), None) for name in re.findall(r"to '(\w+)'", m)]


def beirs(_: object, folder: str) -> object:
    """A folder in BEIR's form called "right"."""
    (Path("right") / "qrels").mkdir(parents=True, exist_ok=True)
    Path("right/corpus.jsonl").write_text(
        '{"_id": "d1", "text": "hot tea"}\n{"_id": "d2", "text": "a cat"}'
    )
    Path("right/queries.jsonl").write_text('{"_id": "q1", "text": "tea"}')
    Path("right/qrels/test.tsv").write_text("q1\td1\t1\nq1\td2\t0")
    return beir.load(folder)


def split_of(_: object, options: dict) -> object:
    """The folder "right", by a split or by its files."""
    beirs(_, "right")
    return trec.load(**options) if "topics" in options else beir.load("right", **options)


def splits(m: str) -> list[dict]:
    named = dict(re.findall(r"--(\w+) (\S+)", m))
    return [{"split": after("split=", m)[0].strip("',")}, named]


SAMPLING = "corpora/sampling.py:"
FRAMES = "corpora/frame.py:"
COLLECTIONS = [
    C("corpora/beir.py:_file", "check the path", beirs, "wrong", ["right"]),
    C("corpora/beir.py:_file", "but qrels of", split_of, {"split": "train"}, splits),
    C(FRAMES + "load", "missing", loaded, {"qrels": None}, [{}, {"qrels": None, "collection": M}]),
    C(
        FRAMES + "load",
        "the same score",
        loaded,
        {"run": {"q1": {"d1": 1, "d2": 1}}},
        [{"run": {"q1": {"d1": 1, "d2": 2}}}, {}],
    ),
    C(
        FRAMES + "candidates_of",
        "grades of its own",
        framed,
        (FRAME.assign(qid="q1"), PARTS["qrels"]),
        [
            (FRAME.assign(qid="q1"), None),
            (FRAME.assign(qid="q1").drop(columns="grade"), PARTS["qrels"]),
        ],
    ),
    C(
        FRAMES + "pairs_of",
        "",
        lambda _, v: pairs_of(v),
        [("tea", 3)],
        [[("tea", "3")]],
    ),
    C(
        FRAMES + "_pair",
        "expected text",
        lambda _, v: pairs_of(v),
        FRAME.assign(text=""),
        [FRAME, FRAME.iloc[:0]],
    ),
    C(
        FRAMES + "_pair",
        "expected a whole number",
        lambda _, v: pairs_of(v),
        FRAME.assign(grade=0.5),
        [FRAME, FRAME.drop(columns="grade")],
    ),
    C(
        FRAMES + "_nested",
        "",
        loaded,
        {"qrels": {"q1": 1}},
        [{"qrels": {"q1": {"d1": 1}}}],
    ),
    C(
        FRAMES + "_columns_of",
        "pandas DataFrame",
        framed,
        (NotPandas, None),
        [(FRAME, None)],
    ),
    C(
        FRAMES + "_columns_of",
        "as its index",
        framed,
        (FRAME.set_index("docno"), None),
        [(FRAME.set_index("docno").reset_index(), None)],
    ),
    C(
        "arguments.py:check_order",
        "",
        lambda _, v: pairs_of(v),
        {("tea", "a red dog"), ("tea", "warm")},
        [sorted({("tea", "a red dog"), ("tea", "warm")})],
    ),
    C(
        FRAMES + "_column",
        "may all be",
        framed,
        (FRAME.rename(columns={"docno": "pid"}).assign(docid="x"), None),
        renamed,
    ),
    C(
        FRAMES + "_column",
        "two columns",
        framed,
        (pd.concat([FRAME, FRAME[["text"]]], axis=1), None),
        [(FRAME, None)],
    ),
    C(
        FRAMES + "_records.places",
        "",
        framed,
        (FRAME.rename(columns={"text": "words"}), None),
        lambda m: [
            (FRAME.rename(columns={"text": name}), None)
            for name in re.findall(r"expected '(\w+)'", m)
        ],
    ),
    C(
        FRAMES + "_records",
        "a dict or a list",
        loaded,
        {"topics": 3},
        [{}, {"topics": [("q1", "x")]}],
    ),
    C(
        FRAMES + "_records",
        "a dict or a tuple",
        loaded,
        {"qrels": ["q1"]},
        [{"qrels": [("q1", "d1", 1)]}, {"qrels": [{"qid": "q1", "docno": "d1", "grade": 1}]}],
    ),
    C(
        "corpora/collection.py:Overlay.texts",
        "",
        chosen,
        ({"passages": {"a": 3, "b": "x", "c": "y"}}, {}),
        [({"passages": {"a": "3", "b": "x", "c": "y"}}, {})],
    ),
    C(
        "corpora/irds.py:_reach",
        "the address",
        archive,
        ("x", "ftp://host/"),
        lambda m: [("x", m.rpartition(" ")[2] + "host/")],
    ),
    C(
        "corpora/irds.py:_reach",
        "cannot be reached",
        archive,
        ("x", "https://host"),
        [("files", "")],
    ),
    C("corpora/irds.py:_requested", "", reached, False, [True]),
    C(
        "corpora/irds.py:_dataset",
        "knows no",
        dataset,
        ("tidi", {}),
        lambda m: [
            (one.strip("?"), {}) for one in after("did you mean ", m) if one.startswith("tidy")
        ],
    ),
    C(
        "corpora/irds.py:_dataset",
        "has no",
        dataset,
        ("bare", {}),
        lambda m: [(example(m)[0], {})],
    ),
    C(
        "corpora/irds.py:_fields",
        "",
        dataset,
        ("tidy", {"query_field": "text"}),
        lambda m: [
            ("tidy", {"query_field": one}) for one in listed(m) if one in ("title", "narrative")
        ],
    ),
    C(
        "corpora/irds.py:_text",
        "",
        dataset,
        ("tidy", {"query_field": "tags"}),
        [("tidy", {"query_field": "title"})],
    ),
    C("corpora/lines.py:stamp", "", files, {"passages": ["no.jsonl"]}, [{"passages": ["p.jsonl"]}]),
    C("corpora/lines.py:numbered", "", bomb, 1, lambda m: [2, re.search(r"or set (\w+)", m)[1]]),
    C("corpora/lines.py:_most_unpacked", "", environment, "much", example),
    C("corpora/lines.py:_opened", "", unreadable, "closed.jsonl", ["open.jsonl"]),
    C("corpora/pairs.py:PairSet.join", "no set", joined, [], [[("a", {})]]),
    C(
        "corpora/pairs.py:PairSet.join",
        "are called",
        joined,
        [("a", {}), ("a", {})],
        [[("a", {}), ("b", {})]],
    ),
    C(
        "corpora/pairs.py:PairSet.join",
        "chosen differently",
        joined,
        [("a", {}), ("b", {"easy": 1})],
        [[("a", {"easy": 1}), ("b", {"easy": 1})]],
    ),
    C(
        "corpora/formats.py:check_format",
        "",
        files,
        {"p.txt": GOOD["p.jsonl"], "passages": ["p.txt"]},
        lambda m: [
            {"r.jsonl": GOOD["p.jsonl"], "passages": ["r.jsonl"]},
            {"r.tsv": b"a\tcook it\nb\ta boat\nc\tiron\n", "passages": ["r.tsv"]},
        ],
    ),
    *(
        C(
            SAMPLING + "checked",
            "change the number",
            chosen,
            ({"run": {"q1": ["a", "b"]}}, {option: wrong}),
            lambda m, option=option: [({"run": {"q1": ["a", "b"]}}, {option: least(m)[0]})],
        )
        for option, wrong in (("per_grade", 0), ("depth", 0), ("easy", -1), ("queries", 0))
    ),
    C(
        SAMPLING + "checked",
        "ideal",
        chosen,
        ({}, {"ideal": "half"}),
        lambda m: [({}, {"ideal": one}) for one in re.findall(r'"(\w+)"', m)],
    ),
    C(
        SAMPLING + "checked",
        "came together",
        chosen,
        ({}, {"per_grade": 3, "all_judged": True}),
        [({}, {"per_grade": 3}), ({}, {"all_judged": True})],
    ),
    C(
        SAMPLING + "checked",
        "is None and neither",
        chosen,
        ({"run": {"q1": ["a", "b"]}}, {"per_grade": None}),
        [
            ({"run": {"q1": ["a", "b"]}}, given)
            for given in ({"per_grade": 1}, {"all_judged": True}, {"depth": 2, "per_grade": None})
        ],
    ),
    C(
        SAMPLING + "checked",
        "has no run",
        chosen,
        ({}, {"depth": 2}),
        [({"run": {"q1": ["a", "b"]}}, {"depth": 2}), ({}, {})],
    ),
    C(
        SAMPLING + "_refuse_surrogates",
        "",
        chosen,
        ({"passages": {"a": "\ud800", "b": "x", "c": "y"}}, {}),
        [({"passages": {"a": "?", "b": "x", "c": "y"}}, {})],
    ),
    C(
        SAMPLING + "refuse_nothing",
        "is left of",
        chosen,
        ({"qrels": {"q1": {"a": 0}}}, {}),
        [({"qrels": {"q1": {"a": 1}}}, {})],
    ),
    C(
        SAMPLING + "refuse_nothing",
        "has a text",
        chosen,
        ({"passages": {"z": "tea"}}, {}),
        [({}, {})],
    ),
    C(
        SAMPLING + "easy_negatives",
        "",
        chosen,
        ({}, {"easy": 9}),
        lambda m: [({}, {"easy": int(re.search(r"has only (\d+)", m)[1])})],
    ),
    C(
        "corpora/pairs.py:thin",
        "expected 1 or more",
        lambda w, v: thin(w.pairs, v),
        0,
        lambda m: [100],
    ),
    C(
        "corpora/pairs.py:thin",
        "fewer than one query",
        lambda w, v: thin(w.pairs, v),
        1,
        [6],
    ),
    C("corpora/trec.py:TrecCollection._passages", "", changing, "changes", ["stays"]),
    C(
        "corpora/trec.py:load",
        "no passages file",
        files,
        {"passages": []},
        [{"passages": ["p.jsonl"]}],
    ),
    C("corpora/trec.py:load", "name {", files, {"name": " "}, [{"name": "mine"}]),
    C(
        "corpora/trec.py:_ranking",
        "the same score and",
        files,
        {"r.run": b"q1 Q0 a 0 0 x\nq1 Q0 b 0 0 x\n", "run": "r.run"},
        [
            {"r.run": b"q1 Q0 a 1 0 x\nq1 Q0 b 2 0 x\n", "run": "r.run"},
            {"r.run": b"q1 Q0 a 0 2 x\nq1 Q0 b 0 1 x\n", "run": "r.run"},
            {},
        ],
    ),
    C(
        "corpora/trec.py:_ranking",
        "contradict",
        files,
        {"r.run": b"q1 Q0 a 1 1 x\nq1 Q0 b 2 2 x\n", "run": "r.run"},
        [{"r.run": b"q1 Q0 a 1 2 x\nq1 Q0 b 2 1 x\n", "run": "r.run"}],
    ),
    C(
        "corpora/trec.py:_scan",
        "",
        files,
        {"o.jsonl": GOOD["p.jsonl"].replace(b"cook", b"boil"), "passages": ["o.jsonl", "p.jsonl"]},
        [{"passages": ["p.jsonl"]}],
    ),
    C("corpora/formats.py:empty", "", files, {"qrels": b""}, [{"qrels": GOOD["qrels"]}]),
]
LINES = "test_corpora_oddities.py:test_the_remedy_that_a_message_names_works"
ELSEWHERE = {
    ("corpora/lines.py:bad_line", ""): LINES,
    ("corpora/oddities.py:Door.refusal", ""): LINES,
    ("corpora/oddities.py:no_usable_id", ""): LINES,
}
