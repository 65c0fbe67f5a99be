"""Small collections for the tests: in files, as datasets of ir_datasets, and in memory."""

from __future__ import annotations

import gzip
import json
import math
import random
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import ir_datasets
import pandas as pd
from hypothesis import strategies as st
from ir_datasets.formats import (
    BaseDocs,
    BaseQrels,
    BaseQueries,
    BaseScoredDocs,
    GenericDoc,
    GenericQuery,
    GenericScoredDoc,
)
from ir_datasets.formats.trec import TrecQrel
from ir_datasets.indices import Docstore

from matchlens.corpora import Collection, beir, frame, irds, trec
from matchlens.corpora.lines import odd_id

GOOD = {
    "t.tsv": b"q1\thow to cook rice\nq2\twhat is rust\n",
    "qrels": b"q1 0 a 2\nq1 0 b 0\nq2 0 c 3\nq2 0 a -1\n",
    "p.jsonl": b'{"docid": "a", "text": "cook it"}\n{"docid": "b", "text": "a boat"}\n'
    b'{"docid": "c", "text": "iron oxide"}\n{"docid": "z", "text": "never needed"}\n',
    "r.run": b"q1 Q0 b 1 2.5 x\nq1 Q0 a 2 1.5 x\nq2 Q0 z 1 9e-1 x\n",
}


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)


def load(folder, passages=("p.jsonl",), topics="t.tsv", qrels="qrels", run="r.run", **options):
    return trec.load(
        folder / topics,
        folder / qrels,
        [folder / name for name in passages],
        None if run is None else folder / run,
        **options,
    )


class Memory(Collection):
    """A collection in memory that remembers what was asked for."""

    def __init__(self, queries, qrels, passages, run=None, kinds=None, name="memory"):
        super().__init__(name, queries, qrels, run, kinds or {}, {"made": "in a test"})
        object.__setattr__(self, "passages", passages)
        object.__setattr__(self, "asked", [])

    def texts(self, docids: Iterable[str]) -> dict[str, str]:
        wanted = set(docids)
        self.asked.append(wanted)
        return {docid: text for docid, text in self.passages.items() if docid in wanted}

    def random_docids(self, n: int, seed: int) -> list[str]:
        ids = sorted(self.passages)
        random.Random(seed).shuffle(ids)
        return ids[:n]


class Queries(BaseQueries):
    def __init__(self, rows):
        self.rows = rows

    def queries_iter(self):
        return iter(self.rows)

    def queries_cls(self):
        return type(self.rows[0])


class Qrels(BaseQrels):
    def __init__(self, rows):
        self.rows = rows

    def qrels_iter(self):
        return (TrecQrel(*row, "0") for row in self.rows)

    def qrels_cls(self):
        return TrecQrel

    def qrels_defs(self):
        return {}


class Scored(BaseScoredDocs):
    def __init__(self, rows):
        self.rows = rows

    def scoreddocs_iter(self):
        return (GenericScoredDoc(*row) for row in self.rows)


class Slice:
    """What docs_iter gives: single places may be read, the whole must not."""

    def __init__(self, docs, part=None):
        self.docs, self.part = docs, part

    def __iter__(self):
        assert self.part is not None, "the whole collection is being read"
        read = self.docs.rows[self.part]
        self.docs.read_by_place += len(read)
        return iter(read)

    def __getitem__(self, part):
        return Slice(self.docs, part)


class Store(Docstore):
    def __init__(self, docs):
        super().__init__(docs.docs_cls())
        self.docs = docs

    def get_many_iter(self, doc_ids):
        wanted = set(doc_ids)
        self.docs.looked_up |= wanted
        return (doc for doc in self.docs.rows if doc.doc_id in wanted)


class Docs(BaseDocs):
    def __init__(self, rows):
        self.rows, self.read_by_place, self.looked_up = rows, 0, set()

    def docs_iter(self):
        return Slice(self)

    def docs_cls(self):
        return type(self.rows[0])

    def docs_store(self):
        return Store(self)

    def docs_count(self):
        return len(self.rows)


class WholeDocs(Docs):
    """Docs that may be read as a whole, as `ir_datasets export` does."""

    def docs_iter(self):
        return Slice(self, slice(None))


def _number(record_id: str) -> str | int:
    """The id as a whole number, where that is written in the same way."""
    return int(record_id) if record_id == "7" else record_id


@dataclass(frozen=True)
class Form:
    """How files hold records.

    Args:
        end: what ends a line.
        mark: whether a byte order mark stands before the first line.
        gz: whether they are packed.
        json: whether topics are JSON lines.
        beir: whether qrels have three columns and a header.
        tsv: whether passages are lines with a tab, and not JSON lines.
        place: before which passage the passages are parted into two files.
        key: of a passage's id.
        text: key of its text.
    """

    end: str
    mark: bool
    gz: bool
    json: bool
    beir: bool
    tsv: bool
    place: int
    key: str
    text: str


FORMS = st.builds(
    Form,
    st.sampled_from(("\n", "\r\n", "\n\n")),
    *[st.booleans()] * 5,
    st.integers(0, 4),
    st.sampled_from(("_id", "docid", "id", "docno")),
    st.sampled_from(("text", "contents", "passage")),
)


@dataclass
class Records:
    """A collection as records; the same ones go into files, ir_datasets and Python.

    Args:
        topics: query id, text (or None).
        qrels: query id, passage id, grade.
        passages: passage id, text (or None).
        run: query id, passage id, score.
    """

    topics: list[tuple[str, str | None]] = field(default_factory=list)
    qrels: list[tuple[str, str, float]] = field(default_factory=list)
    passages: list[tuple[str, str | None]] = field(default_factory=list)
    run: list[tuple[str, str, float]] | None = None

    def in_odd_files(self, folder: Path, form: Form) -> Collection:
        """The same in another of the forms that files may have."""
        topics = [json.dumps({"_id": qid, "text": text}) for qid, text in self.topics]
        if not form.json:
            topics = [f"{qid}\t{text or ''}" for qid, text in self.topics]
        qrels = [f"{qid}\t{docid}\t{grade}" for qid, docid, grade in self.qrels]
        qrels = ["query-id\tcorpus-id\tscore", *qrels]
        if not form.beir:
            qrels = [f"{qid}\t0\t{docid}\t{grade}" for qid, docid, grade in self.qrels]
        records = [
            {form.key: int(docid) if docid == "7" else docid, form.text: text, "url": "\u2028"}
            for docid, text in self.passages
        ]
        passages = [json.dumps(one, ensure_ascii=form.gz) for one in records]
        if form.tsv:
            passages = [f"{docid}\t{text or ''}" for docid, text in self.passages]
        place = min(form.place, len(passages) - 1)
        ending = "tsv" if form.tsv else "jsonl"
        files = {
            f"t.{'jsonl' if form.json else 'tsv'}": topics,
            "qrels/test.tsv": qrels,
            f"corpus.{ending}": passages[place:],
            f"more.{ending}": passages[:place],
        }
        if self.run is not None:
            ranked = [f"{qid}\tQ0\t{docid}\t0\t{score}\tx" for qid, docid, score in self.run]
            files["r.run"] = ranked
        (folder / "qrels").mkdir()
        at = {}
        for name, lines in files.items():
            if not lines:
                continue
            text = "".join(f"{line}{form.end}" for line in lines)
            raw = (b"\xef\xbb\xbf" if form.mark else b"") + text.encode()
            path = folder / (f"{name}.gz" if form.gz else name)
            path.write_bytes(gzip.compress(raw) if form.gz else raw)
            at[name.partition(".")[0]] = path
        return trec.load(
            at["t"],
            at["qrels/test"],
            [at[name] for name in ("more", "corpus") if name in at],
            at.get("r"),
            name="made",
        )

    def in_beir(self, folder: Path) -> Collection:
        """The records in a folder of BEIR's form."""
        lines = {
            "queries": [json.dumps({"_id": qid, "text": text}) for qid, text in self.topics],
            "corpus": [
                json.dumps({"_id": docid, "title": "", "text": text, "metadata": {}})
                for docid, text in self.passages
            ],
        }
        for name, some in lines.items():
            (folder / f"{name}.jsonl").write_text("\n".join(some))
        (folder / "qrels").mkdir()
        judged = [f"{qid}\t{docid}\t{grade}\n" for qid, docid, grade in self.qrels]
        (folder / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(judged))
        if self.run is not None:
            ranked = [f"{qid}\tQ0\t{docid}\t0\t{score}\tx\n" for qid, docid, score in self.run]
            (folder / "r.run").write_text("".join(ranked))
        return beir.load(folder, run=None if self.run is None else folder / "r.run", name="made")

    def in_rows(self) -> tuple[list[dict], list[tuple]]:
        """The run's pairs as rows of a frame, and all judgements beside it."""
        queries, texts = dict(self.topics), dict(self.passages)
        rows = [
            {"qid": _number(qid), "docno": docid, "query": queries[qid], "text": texts.get(docid),
             "score": score}
            for qid, docid, score in self.run or ()
            if qid in queries
        ]  # fmt: skip
        return rows, [(_number(qid), docid, grade) for qid, docid, grade in self.qrels]

    def in_files(self, folder: Path) -> Collection:
        """The records in a folder's files."""
        lines = [json.dumps({"_id": docid, "text": text}) for docid, text in self.passages]
        files = {
            "t.tsv": [f"{qid}\t{text or ''}" for qid, text in self.topics],
            "qrels": [f"{qid}\t0\t{docid}\t{grade}" for qid, docid, grade in self.qrels],
            "p.jsonl": lines,
        }
        if self.run is not None:
            files["r.run"] = [
                f"{qid}\tQ0\t{docid}\t0\t{score}\tx" for qid, docid, score in self.run
            ]
        write(
            folder,
            {name: "".join(f"{one}\n" for one in some).encode() for name, some in files.items()},
        )
        return load(folder, run=None if self.run is None else "r.run", name="made")

    @contextmanager
    def registered(self, name: str = "made"):
        """The records as a dataset of ir_datasets, by this name for a while."""
        parts = [
            WholeDocs([GenericDoc(*one) for one in dict(self.passages).items()]),
            Queries([GenericQuery(*one) for one in self.topics]),
            Qrels(self.qrels),
        ]
        if self.run is not None:
            parts.append(Scored(self.run))
        ir_datasets.registry.register(name, ir_datasets.Dataset(*parts))
        try:
            yield name
        finally:
            ir_datasets.registry._registered.pop(name)

    @contextmanager
    def in_ir_datasets(self):
        """The records, loaded from ir_datasets."""
        with self.registered() as name:
            yield irds.load(name)

    def in_frames(self) -> Collection:
        """The records in data frames, with the names of columns that PyTerrier has."""
        whole = [(_number(qid), text) for qid, text in self.topics]
        judged = [(_number(qid), _number(docid), grade) for qid, docid, grade in self.qrels]
        topics = pd.DataFrame(whole, columns=["qid", "query"])
        qrels = pd.DataFrame(judged, columns=["qid", "docno", "label"], dtype=object)
        passages = pd.DataFrame(self.passages, columns=["docno", "text"])
        run = None
        if self.run is not None:
            run = pd.DataFrame(self.run, columns=["qid", "docno", "score"])
        return frame.load(topics, qrels, passages, run, name="made")

    def in_python(self) -> Collection:
        """The records as dictionaries, which hold no record twice, and no odd types."""
        qrels: dict[str, dict[str, int]] = {}
        for qid, docid, grade in self.qrels:
            qrels.setdefault(qid, {})[docid] = int(grade)
        run: dict[str, dict[str, float]] = {}
        for qid, docid, score in self.run or ():
            run.setdefault(qid, {}).setdefault(docid, score)
        ranked = {qid: sorted(docs, key=lambda docid: -docs[docid]) for qid, docs in run.items()}
        return Memory(
            {qid: text or "" for qid, text in self.topics},
            qrels,
            {docid: text or "" for docid, text in self.passages},
            None if self.run is None else ranked,
            name="made",
        )


QIDS = ("q1", "q2", "007", "7", "q\N{LATIN SMALL LETTER E WITH ACUTE}")
DOCIDS = (*QIDS[1:], "d1", "d2", "d3", "7.0", "d" * 300)
ODD_IDS = ("d 6", "d\u200b7", "d\x1b[31m8", "d\u20289")
WORDS = (
    "warm tea",
    "a red dog",
    "iron  oxide",
    "tea is warm",
    "ships float",
    "7",
    "tea\u2028\xa0\u00e9",
)


@st.composite
def odd_records(draw: st.DrawFn) -> Records:
    """Records with the oddities of real collections, none of them a contradiction."""
    texts = st.sampled_from((*WORDS, *WORDS, "", " ", None))
    topics = draw(st.dictionaries(st.sampled_from(QIDS), texts, min_size=3))
    passages = draw(st.dictionaries(st.sampled_from(DOCIDS), texts, min_size=6))
    for docid in sorted(passages.keys() & topics.keys()):  # a query that is a passage, with a title
        if draw(st.booleans()):
            title = draw(st.sampled_from(("", "Tea ", "A title of many words before it ")))
            passages[docid] = f"{title}{topics[docid] or ''}"
    ids = st.tuples(
        st.sampled_from((*QIDS, *QIDS, "unlisted", "q 9")),
        st.sampled_from((*DOCIDS, *DOCIDS, "gone", *ODD_IDS)),
    )
    grades = st.sampled_from((0, 1, 2, 3, -1, 2.0, 0.0))
    judged = draw(st.dictionaries(ids, grades, min_size=8, max_size=30))
    scores = st.sampled_from((3, 1.5, 1e-3, -2, math.inf))
    ranked = draw(st.none() | st.dictionaries(ids, scores, min_size=8, max_size=30))
    made = Records([*topics.items()], [(*one, g) for one, g in judged.items()], [*passages.items()])
    if ranked is not None:
        made.run = [(*one, score) for one, score in ranked.items()]
    for records, ids_of in ((made.topics, 1), (made.passages, 1), (made.qrels, 2), (made.run, 2)):
        usable = [one for one in records or () if all(odd_id(i) is None for i in one[:ids_of])]
        if records and usable:
            records.extend(draw(st.lists(st.sampled_from(usable), max_size=3)))
    return made
