"""Collections and pairs that are in memory: data frames, dicts, lists of records."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from matchlens.arguments import check_order, typed
from matchlens.arguments import shown as shown_value
from matchlens.errors import InputError

from . import oddities as rule
from .collection import Collection, Draw, Overlay, digest_of
from .lines import blank, shown
from .oddities import Oddities
from .pair import Pair

NAMES: Mapping[str, tuple[str, ...]] = {
    "qid": ("qid", "query_id", "q_id", "query-id", "topic_id"),
    "query": ("query", "query_text", "question"),
    "docno": ("docno", "doc_id", "docid", "pid", "passage_id", "corpus-id", "document_id", "_id"),
    "text": ("text", "passage", "contents", "segment", "body"),
    "title": ("title",),
    "grade": ("grade", "label", "relevance", "rel"),
    "score": ("score",),
    "rank": ("rank",),
    "kind": ("kind",),
}
"""A column -> its names in PyTerrier, ranx, ir_measures, ir_datasets, BEIR and Pyserini; the first
name wins where a frame has several (PyTerrier's docid is a number of its index)."""
WORDS = {
    "qid": "the query's id",
    "query": "the query's text",
    "docno": "the passage's id",
    "text": "the passage's text",
    "grade": "the grade",
    "score": "the score",
}
ALSO = {
    "topics": {"query": ("text", "title"), "(text)": ("text",), "(title)": ("title",)},
    "qrels": {"grade": ("score",)},
    "passages": {"docno": ("id",)},
}
"""Names that a column has in one part of a collection only: BEIR and ranx call a grade score."""


@dataclass(frozen=True, eq=False, repr=False)
class FrameCollection(Collection):
    """A collection that is in memory.

    Args:
        passages: passage id -> text.
        titles: passage id -> title, with which its text begins.

    >>> made = load({"q1": "warm tea"}, {"q1": {"d1": 1}}, {"d1": "Tea is warm."})
    >>> isinstance(made, FrameCollection)
    True
    """

    passages: Mapping[str, str]
    titles: Mapping[str, str] = field(default_factory=dict)

    def field_texts(self, docids: Iterable[str]) -> dict[str, dict[str, str]]:
        """Title and text of these passages; as :meth:`Collection.field_texts`."""
        texts = self.texts(docids)
        titles = {docid: self.titles.get(docid, "") for docid in texts}
        return {
            docid: {"title": title, "text": texts[docid][len(title) + bool(title) :]}
            for docid, title in titles.items()
        }

    def texts(self, docids: Iterable[str]) -> dict[str, str]:
        """The texts of these passages, as :meth:`Collection.texts`."""
        wanted = dict.fromkeys(docids)
        return {docid: self.passages[docid] for docid in wanted if docid in self.passages}

    def random_docids(self, n: int, seed: int) -> list[str]:
        """At most ``n`` ids of passages with a text: as a file with them gives for the ``seed``."""
        with_text = (docid for docid, text in self.passages.items() if not blank(text))
        return Draw(seed, "collection").order(with_text)[: max(n, 0)]


@typed
def load(
    topics: Any = None,
    qrels: Any = None,
    passages: Any = None,
    run: Any = None,
    *,
    collection: Collection | None = None,
    name: str | None = None,
) -> Collection:
    """Take a collection from memory: data frames, dicts, or iterables of records.

    Columns and fields may have any name of ``frame.NAMES``: those of PyTerrier, ranx, ir_measures,
    ir_datasets and BEIR. Ids are texts or whole numbers. What is odd is left out or refused by the
    rule that holds for files.

    Args:
        topics: a DataFrame (qid, query), a dict {qid: text}, or records such as (qid, text).
        qrels: a DataFrame (qid, docno, grade), a dict {qid: {docno: grade}}, or records such as
            ``ir_measures.read_trec_qrels`` gives.
        passages: a DataFrame (docno, text, perhaps title), a dict {docno: text} or, as in BEIR,
            {docno: {"title": ..., "text": ...}}, or records.
        run: a DataFrame (qid, docno, score, perhaps rank), a dict {qid: {docno: score}} or
            {qid: [docno, ...]} (best first), or records such as ``ir_measures.read_trec_run``
            gives.
        collection: has the parts that are None here: your run over a dataset of ir_datasets.
        name: of the collection; the other collection's name, or ``frame``, where None.

    Raises:
        InputError: a part is missing or cannot be read, or records contradict each other.

    >>> qrels = {"q1": {"d1": 1, "d2": 0}}
    >>> made = load({"q1": "warm tea"}, qrels, {"d1": "Tea is warm.", "d2": "A red dog."})
    >>> made.name, made.texts(["d2"])
    ('frame', {'d2': 'A red dog.'})
    """
    parts = {"topics": topics, "qrels": qrels, "passages": passages}
    if missing := [part for part, value in parts.items() if value is None and collection is None]:
        raise InputError(
            f"{' and '.join(missing)} missing; expected topics, qrels and passages: give them, or "
            "collection=..., which has them"
        )
    odd = Oddities(collection.oddities if collection else None)
    topics = collection.queries if topics is None and collection else topics
    qrels = collection.qrels if qrels is None and collection else qrels
    queries = rule.texts(_topics(topics), "query", rule.Door("topics, record"), odd)
    judged = rule.judgements(_judgements(qrels), queries, rule.Door("qrels, record"), odd)
    ranked = collection.run if run is None and collection else None
    if run is not None:
        ranked, orders = rule.ranking(_ranking(run), queries, rule.Door("run, record"), odd)
        if not orders:
            raise InputError(
                "the run gives all passages of a query the same score and the same rank; expected "
                "a ranking: give scores that differ, or leave the run out"
            )
    needed = {docno for docnos in (*judged.values(), *(ranked or {}).values()) for docno in docnos}
    source: dict[str, object] = {
        "format": "frame",
        "queries_sha256": digest_of(queries),
        "qrels_sha256": digest_of(judged),
        "run_sha256": None if ranked is None else digest_of(ranked),
    }
    if collection is not None:
        source |= {"from": {"collection": collection.name, **collection.source}}
    name = name or (collection.name if collection else "frame")
    kinds = collection.kinds if collection else {}
    parts_read = (name, queries, judged, ranked, kinds, source)
    if passages is None and collection:
        return Overlay(*parts_read, oddities=odd, inner=collection)
    titles: dict[str, str] = {}
    rows = _passage_rows(passages, titles)
    texts = rule.texts(rows, "passage", rule.Door("passages, record"), odd, needed)
    return FrameCollection(*parts_read, oddities=odd, passages=texts, titles=titles)


def candidates_of(
    frame: Any, qrels: Any = None, *, name: str = "frame"
) -> tuple[Collection, bool, int]:
    """The collection that a frame of pairs makes, whether it has grades, and its rows.

    Args:
        frame: the pairs, as :meth:`PairSet.from_frame` takes them.
        qrels: all judgements.
        name: of the collection.

    Raises:
        InputError: a column is missing, or records contradict each other.

    >>> _, graded, rows = candidates_of([{"query": "warm tea", "text": "Tea is hot.", "grade": 1}])
    >>> graded, rows
    (True, 1)
    """
    check_order(frame, "the frame")
    if isinstance(frame, Iterable) and not isinstance(frame, str | bytes | Mapping):
        frame = frame if hasattr(frame, "columns") else [*frame]  # an iterator is read twice
    columns = _pair_columns(frame)
    graded = _column("grade", columns, "the frame") is not None
    if graded and qrels is not None:
        raise InputError(
            "qrels came and the frame has grades of its own; expected one of them: leave qrels "
            "out, or drop the frame's column"
        )
    odd, door = Oddities(), rule.Door("frame, row")
    rows = []
    for row in _pair_rows(frame, strip=True):
        door.check_id(row.number, "query", row.qid)
        door.check_id(row.number, "passage", row.docno)
        if odd.usable(row.qid, row.docno):
            rows.append(row)
    topics: dict[tuple[str, str | None], int] = {}
    for row in rows:
        topics.setdefault((row.qid, row.query), row.number)
    queries = rule.texts(((n, *topic) for topic, n in topics.items()), "query", door, odd)
    if qrels is not None:
        judged = rule.judgements(_judgements(qrels), queries, rule.Door("qrels, record"), odd)
    else:
        grades = (
            (row.number, row.qid, row.docno, row.grade if graded else 0)
            for row in rows
            if not (graded and row.grade is None)
        )
        judged = rule.judgements(grades, queries, door, odd)
        odd.counts.pop("repeated_judgements", None)  # the run counts a row that comes twice
    places = ((row.number, row.qid, row.docno, *row.place) for row in rows)
    run, _ = rule.ranking(places, queries, door, odd)
    passages = ((row.number, row.docno, row.text) for row in rows)
    texts = rule.texts(passages, "passage", door, odd)
    collection = FrameCollection(
        name,
        queries,
        judged,
        run,
        {(row.qid, row.docno): row.kind for row in rows if row.kind},
        {"format": "frame", "rows": len(rows)},
        oddities=odd,
        passages=texts,
    )
    return collection, graded or qrels is not None, len(rows)


def pairs_of(given: Any) -> list[Pair]:
    """The pairs of a DataFrame or a list, one for each row, in order; nothing is left out.

    Args:
        given: a DataFrame with the columns query and text; or pairs, or (query, passage) couples.

    Raises:
        InputError: an item is neither.

    >>> [(pair.qid, pair.docid) for pair in pairs_of([("tea", "Tea is hot."), ("tea", "Rust.")])]
    [('q1', 'd1'), ('q1', 'd2')]
    """
    check_order(given, "the list of pairs")
    if is_frame(given) and {*given.columns} >= OF_PAIRS:
        given = made_of_pairs(given) or given
    if not hasattr(given, "columns"):
        given = [*given]
        for number, item in enumerate(given, 1):
            couple = isinstance(item, tuple | list) and len(item) == 2
            couple = couple and all(isinstance(text, str) for text in item)
            if not couple and not isinstance(item, Pair):
                raise InputError(
                    f"pair {number} is {shown_value(item)}; expected a matchlens.Pair or a "
                    "(query, passage) tuple: write both as text"
                )
        if any(isinstance(item, Pair) for item in given):
            rows = _pair_rows([item for item in given if not isinstance(item, Pair)])
            return [item if isinstance(item, Pair) else _pair(next(rows)) for item in given]
    return [_pair(row) for row in _pair_rows(given)]


OF_PAIRS = {"qid", "docid", "query", "text", "grade"}
"""The columns that a frame made of pairs has at least."""
PAIRS_OWN = {"judged", "collection", "parts"}
"""Columns that only such a frame has: any of them tells it from others."""


def made_of_pairs(frame: Any) -> list[Pair] | None:
    """The pairs of ``pd.DataFrame(pairs)``, as they were; None where it is another frame.

    Args:
        frame: anything.

    Raises:
        InputError: it has columns of pairs alone and lacks others of them.

    >>> import pandas as pd
    >>> made_of_pairs(pd.DataFrame([Pair("q", "d", "warm tea", "Tea is hot.", 1)]))
    [<Pair 'q', 'd', grade 1: 'warm tea' | 'Tea is hot.'>]
    """
    if not is_frame(frame) or not (told := [*PAIRS_OWN.intersection(frame.columns)]):
        return None
    if lacking := OF_PAIRS.difference(frame.columns):
        raise InputError(
            f"the frame has the column {min(told)!r}, as one made of pairs has, and not "
            f"{', '.join(sorted(lacking))}; expected all of {', '.join(sorted(OF_PAIRS))} beside "
            f"it, or frame.drop(columns={sorted(told)})"
        )
    names = [each.name for each in fields(Pair) if each.name in frame.columns]
    pairs = []
    for row in zip(*(frame[name].tolist() for name in names), strict=True):
        given = {name: _known(value) for name, value in zip(names, row, strict=True)}
        grade = rule.grade_of(given["grade"])
        given["grade"] = given["grade"] if grade is None else grade
        kept: dict[str, Any] = {n: v for n, v in given.items() if v is not None or n in OF_PAIRS}
        pairs.append(Pair(**kept))
    return pairs


class _Row(NamedTuple):
    """A row of a frame of pairs; a missing grade is None."""

    number: int
    qid: str
    docno: str
    query: str | None
    text: Any
    grade: Any
    place: tuple[Any, str]
    kind: str


PAIR_NAMES = ("query", "text", "qid", "docno", "grade", "score", "rank", "kind")
"""The columns of a frame of pairs, in the order of a tuple."""


def _pair_columns(data: Any) -> list[object]:
    """The columns of a frame of pairs, or those that any of its records has."""
    if columns := _columns_of(data, "the frame"):
        return columns
    known: dict[object, None] = {}
    for record in data if isinstance(data, list | tuple) else ():
        fields = record._asdict() if hasattr(record, "_asdict") else record
        if isinstance(fields, Mapping):
            known |= dict.fromkeys(fields)
        elif isinstance(fields, tuple | list):
            known |= dict.fromkeys(PAIR_NAMES[: len(fields)])
    return [*known]


def _pair_rows(data: Any, *, strip: bool = False) -> Iterator[_Row]:
    """The rows of a frame of pairs; ids that the frame does not have are made up.

    With ``strip``, queries that differ by the spaces around them are one.
    """
    columns, names = _pair_columns(data), PAIR_NAMES
    has = {name: _column(name, columns, "the frame") is not None for name in names}
    ids: dict[Any, str] = {}
    for number, values in enumerate(_records(data, names, 2, "the frame"), 1):
        query, text, qid, docno, grade, score, rank, kind = values
        if not isinstance(query, str | None):
            raise rule.Door("frame, row").refusal(
                number, f"the query is {shown_value(query)}", "text", "give the query's words"
            )
        words = query.strip() if strip and query is not None else query
        place: tuple[Any, str] = (0, str(number))
        if has["score"] or has["rank"]:
            known = math.nan if score is None else score
            place = (known if has["score"] else 0, _whole_number(rank) if has["rank"] else "0")
        yield _Row(
            number,
            _as_id(qid) if has["qid"] else ids.setdefault(words, f"q{len(ids) + 1}"),
            _as_id(docno) if has["docno"] else f"d{number}",
            query,
            text,
            grade,
            place,
            "" if kind is None else str(kind),
        )


def _pair(row: _Row) -> Pair:
    """A row as it is, for scoring."""
    query, text = row.query or "", row.text or ""
    for what, value in (("query", query), ("passage", text)):
        if not isinstance(value, str) or not value.strip():
            raise InputError(
                f"row {row.number}: the {what} is {shown_value(value)}; expected text: give the "
                f"{what}'s words, or drop the row"
            )
    grade = rule.grade_of(0 if row.grade is None else row.grade)
    if grade is None:
        raise InputError(
            f"row {row.number}: the grade is {shown_value(row.grade)}; expected a whole number: "
            "correct it, or drop the column"
        )
    judged = row.grade is not None
    return Pair(row.qid, row.docno, query, text, grade, judged, row.kind, "pairs")


# --- the parts of a collection, as numbered records


def _topics(data: Any) -> Iterator[tuple[int, str, Any]]:
    if isinstance(data, Mapping):
        data = data.items()
    rows = _records(data, ("qid", "query"), 2, "topics", ("(text)", "(title)"))
    for number, (qid, *values) in enumerate(rows, 1):
        texts = dict.fromkeys(text.strip() for text in values if isinstance(text, str))
        texts.pop("", None)
        if len(texts) > 1:
            came = f"query {shown(str(qid))} has different texts in {len(texts)} columns"
            remedy = "drop or join query, text and title"
            raise rule.Door("topics, record").refusal(number, came, "one text", remedy)
        other = next((value for value in values if value is not None), None)
        yield number, _as_id(qid), next(iter(texts), other)


def _judgements(data: Any) -> Iterator[tuple[int, str, str, Any]]:
    if isinstance(data, Mapping):
        data = _nested(data, "qrels", "{qid: {docno: grade}}")
    rows = _records(data, ("qid", "docno", "grade"), 3, "qrels")
    for number, (qid, docno, grade) in enumerate(rows, 1):
        yield number, _as_id(qid), _as_id(docno), math.nan if grade is None else grade


def _ranking(data: Any) -> Iterator[tuple[int, str, str, Any, str]]:
    if isinstance(data, Mapping):
        data = _nested(data, "run", "{qid: {docno: score}} or {qid: [docno, ...]}")
    rows = _records(data, ("qid", "docno", "score", "rank"), 3, "run")
    for number, (qid, docno, score, rank) in enumerate(rows, 1):
        place = "0" if rank is None else _whole_number(rank)
        yield number, _as_id(qid), _as_id(docno), math.nan if score is None else score, place


def _nested(data: Mapping[Any, Any], what: str, shape: str) -> Iterator[tuple[Any, Any, Any]]:
    for qid, inner in data.items():
        if isinstance(inner, Mapping):
            yield from ((qid, docno, value) for docno, value in inner.items())
        elif what == "run" and isinstance(inner, list | tuple):
            yield from ((qid, docno, -place) for place, docno in enumerate(inner))
        else:
            raise InputError(
                f"the {what} of query {shown(str(qid))} are {shown_value(inner)}; expected "
                f"{shape}: write them so"
            )


def _passage_rows(data: Any, titles: dict[str, str]) -> Iterator[tuple[int, str, Any]]:
    """Numbered passages, title and text joined; the titles are kept."""
    if isinstance(data, Mapping):
        data = (
            {**text, "docno": docno} if isinstance(text, Mapping) else (docno, text)
            for docno, text in data.items()
        )
    rows = _records(data, ("docno", "text", "title"), 2, "passages")
    for number, (docno, text, title) in enumerate(rows, 1):
        if isinstance(title, str) and isinstance(docno := _as_id(docno), str):
            titles.setdefault(docno, title.strip())
        yield number, _as_id(docno), _joined(title, text)


def _joined(title: Any, text: Any) -> Any:
    """Title and text as one, where both are texts."""
    if not isinstance(title, str | None) or not isinstance(text, str | None):
        return text if isinstance(title, str | None) else title
    return " ".join(filter(None, ((title or "").strip(), (text or "").strip())))


# --- records of any form: values by the names of their columns


def is_frame(data: Any) -> bool:
    """Whether it is a pandas DataFrame; pandas is not imported for it.

    Args:
        data: anything.

    >>> is_frame([("warm tea", "Tea is hot.")])
    False
    """
    return any(
        (kind.__name__, kind.__module__.split(".")[0]) == ("DataFrame", "pandas")
        for kind in type(data).__mro__
    )


def _columns_of(data: Any, what: str) -> list[object]:
    """The columns of a frame; none where it is something else."""
    if not is_frame(data):
        if hasattr(data, "columns"):
            raise InputError(
                f"{what} is {shown_value(data)}; expected a pandas DataFrame: convert it, for "
                "instance with to_pandas()"
            )
        return []
    columns = [*data.columns]
    known = {alias for names in NAMES.values() for alias in names}
    if index := [name for name in data.index.names if name in known and name not in columns]:
        raise InputError(
            f"{what} has {index[0]!r} as its index, which is not read; expected it as a column: "
            "give frame.reset_index()"
        )
    return columns


def _column(name: str, columns: Sequence[object], what: str) -> int | None:
    """The place of a column under any of its names; None where there is none."""
    names = [*NAMES.get(name, ()), *(ALSO.get(what, {}).get(name, ()))]
    matches = [alias for alias in names if alias in columns]
    if not matches:
        return None
    if len(matches) > 1 and matches[0] != name and matches[1] in NAMES.get(name, ()):
        raise InputError(
            f"{what}: the columns {' and '.join(map(repr, matches))} may all be {WORDS[name]}; "
            f"expected one: rename the right one to {name!r}"
        )
    if columns.count(matches[0]) > 1:
        raise InputError(
            f"{what}: two columns are called {matches[0]!r}; expected one: drop or rename the other"
        )
    return columns.index(matches[0])


def _records(
    data: Any, names: Sequence[str], needed: int, what: str, more: Sequence[str] = ()
) -> Iterator[tuple[Any, ...]]:
    """The values of each record in the order of names; what is missing is None.

    Only the first few names are needed; tuples do not have the values of ``more`` names.
    """

    def places(columns: list[object]) -> list[int | None]:
        at = [_column(name, columns, what) for name in (*names, *more)]
        if lacking := [name for name, n in zip(names[:needed], at, strict=False) if n is None]:
            shown_columns = ", ".join(str(column)[:30] for column in columns[:10])
            raise InputError(
                f"{what}: no column for {' and '.join(WORDS[name] for name in lacking)} among "
                f"{shown(shown_columns, 100)}; expected {' and '.join(map(repr, lacking))}: rename "
                "the columns"
            )
        return at

    if columns := _columns_of(data, what):
        values = [None if at is None else data.iloc[:, at].tolist() for at in places(columns)]
        for row in range(len(data)):
            yield tuple(None if cells is None else _known(cells[row]) for cells in values)
        return
    check_order(data, what)
    if isinstance(data, str | bytes) or not isinstance(data, Iterable) or is_frame(data):
        raise InputError(
            f"{what} is {shown_value(data)}; expected a DataFrame with the columns "
            f"{', '.join(names[:needed])}, a dict or a list of records: give one of them"
        )
    places_of: dict[tuple[object, ...], list[int | None]] = {}
    for number, record in enumerate(data, 1):
        fields = record._asdict() if hasattr(record, "_asdict") else record
        if isinstance(fields, Mapping):
            keys, values = tuple(fields), tuple(fields.values())
            if keys not in places_of:
                places_of[keys] = places([*keys])
            yield tuple(None if at is None else _known(values[at]) for at in places_of[keys])
        elif isinstance(record, tuple | list) and needed <= len(record) <= len(names):
            padded = (*record, *[None] * (len(names) + len(more) - len(record)))
            yield tuple(map(_known, padded))
        else:
            raise InputError(
                f"{what}, record {number} is {shown_value(record)}; expected a dict or a tuple "
                f"({', '.join(names[:needed])}): write it so"
            )


def _known(value: Any) -> Any:
    """The value; None for a missing value of pandas."""
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    return None if isinstance(value, numbers.Real) and math.isnan(value) else value


def _as_id(value: Any) -> Any:
    """An id as text: whole numbers as they are written; others are refused where it is read."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return str(int(value)) if whole else "" if value is None else value


def _whole_number(value: Any) -> str:
    """A rank as a file has it."""
    number = float(value) if isinstance(value, numbers.Real) else math.nan
    return str(int(number)) if number.is_integer() else str(value)
