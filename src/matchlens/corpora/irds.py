"""Collections of ir_datasets, by id; the only file that knows that library."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from matchlens.errors import InputError

from .collection import Collection
from .lines import odd_id, shown


@dataclass(frozen=True, eq=False)
class IrdsCollection(Collection):
    """A collection whose passages are looked up in the document store of ir_datasets.

    Args:
        dataset: the object that ir_datasets gives for the id.
        doc_fields: fields that make up a passage; None for the dataset's `default_text()`.

    >>> from matchlens.corpora import Collection
    >>> issubclass(IrdsCollection, Collection)
    True
    """

    dataset: Any
    doc_fields: tuple[str, ...] | None

    def texts(self, docids: Iterable[str]) -> dict[str, str]:
        """The passages with these ids, looked up one by one; ir_datasets may download them first.

        Args:
            docids: passage ids; one that the dataset lacks is not in the answer.

        Raises:
            InputError: ir_datasets cannot give them, or a field holds something else than text.
        """
        wanted = set(docids)
        if not wanted:
            return {}
        with _asked(self.name, "passages"):
            found = self.dataset.docs_store().get_many(sorted(wanted))
        # The store cuts an id to the length of its longest: what was not asked for is dropped.
        return {docid: self._text(found[docid]) for docid in sorted(wanted & found.keys())}

    def random_docids(self, n: int, seed: int) -> list[str]:
        """Distinct passage ids drawn uniformly by their place in the dataset.

        Args:
            n: how many; a smaller dataset gives all it has.
            seed: another seed, another draw.

        Raises:
            InputError: the dataset does not tell how many passages it has, or gives none by place.
        """
        with _asked(self.name, "passages by their place"):
            size = self.dataset.docs_count()
            if size is None:
                size = self.dataset.docs_store().count()
            places = _places(min(n, size), size, seed)
            docs = self.dataset.docs_iter()
            ids = {
                place: str(next(iter(docs[place : place + 1])).doc_id) for place in sorted(places)
            }
        return [ids[place] for place in places]

    def _text(self, doc: Any) -> str:
        return _text(doc, self.doc_fields, f"passage {shown(str(doc.doc_id))} of {self.name}")


def load(
    dataset_id: str,
    *,
    query_field: str | None = None,
    doc_fields: Sequence[str] | None = None,
) -> Collection:
    """A dataset of ir_datasets that has queries, qrels and docs; its scored docs become the run.

    Queries and qrels are read here (and downloaded by ir_datasets where they are not on the disk),
    after the id and the fields have been checked; passages when they are needed. Qrels and runs of
    queries that the dataset does not list are left out, which `source` counts. Scored docs whose
    scores are all the same are no ranking and no run; `source` says so.

    Args:
        dataset_id: such as "msmarco-passage/trec-dl-2019/judged".
        query_field: the query's field; None for its `default_text()`, or else its `text`.
        doc_fields: the passage's fields, joined by spaces; None for its `default_text()`, or else
            its `text`.

    Raises:
        InputError: there is no such dataset or field, the dataset lacks a part, or ir_datasets
            cannot give it (no network, a licence to be agreed to).

    >>> load("msmarco-passage/trec-dl-2091")
    Traceback (most recent call last):
        ...
    matchlens.errors.InputError: ir_datasets knows no 'msmarco-passage/trec-dl-2091'; ...
    """
    dataset = _dataset(dataset_id)
    if isinstance(doc_fields, str):
        doc_fields = [doc_fields]
    of_query = _fields(dataset.queries_cls(), None if query_field is None else [query_field])
    of_doc = _fields(dataset.docs_cls(), doc_fields)
    with _asked(dataset_id, "queries"):
        queries = _queries(dataset_id, dataset, of_query)
    with _asked(dataset_id, "qrels"):
        qrels, strays = _qrels(dataset_id, dataset, queries)
    run, note = None, "ir_datasets has no scored docs for it"
    if dataset.has_scoreddocs():
        with _asked(dataset_id, "scored docs"):
            run, note = _run(dataset_id, dataset, queries)
    return IrdsCollection(
        name=dataset_id,
        queries=queries,
        qrels=qrels,
        run=run,
        kinds={},
        source={
            "format": "ir_datasets",
            "dataset": dataset_id,
            "version": _library().__version__,
            "query_field": query_field,
            "doc_fields": None if doc_fields is None else list(doc_fields),
            "queries_sha256": _digest(queries),
            "qrels_sha256": _digest(qrels),
            "run_sha256": None if run is None else _digest(run),
            "run_note": note,
            "qrels_of_unlisted_queries": strays,
        },
        dataset=dataset,
        doc_fields=of_doc,
    )


def _library() -> Any:
    import ir_datasets

    return ir_datasets


@contextmanager
def _asked(dataset_id: str, what: str) -> Iterator[None]:
    """Whatever ir_datasets raises, as one line that says what was asked for."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"ir_datasets could not give the {what} of {shown(dataset_id)} "
            f"({type(error).__name__}: {shown(str(error), 300)}); expected them on the disk or to "
            "download: check the network, the free disk space, and what "
            f"https://ir-datasets.com/{dataset_id.partition('/')[0]} says of its licence"
        ) from error


def _dataset(dataset_id: str) -> Any:
    library = _library()
    known = sorted(library.registry)
    try:
        dataset = library.load(dataset_id)
    except KeyError:
        near = difflib.get_close_matches(dataset_id, known, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "see https://ir-datasets.com"
        raise InputError(
            f"ir_datasets knows no {shown(dataset_id)}; expected the id of a dataset: {hint}"
        ) from None
    lacks = [part for part in ("queries", "qrels", "docs") if not dataset.has(part)]
    if lacks:
        under = [one for one in known if one.startswith(f"{dataset_id}/")]
        hint = f"try a part of it, such as {', '.join(under[:3])}" if under else "choose another"
        raise InputError(
            f"dataset {shown(dataset_id)} has no {' and no '.join(lacks)}; expected queries, qrels "
            f"and docs: {hint}"
        )
    return dataset


def _fields(record: Any, asked: Sequence[str] | None) -> tuple[str, ...] | None:
    """The fields to join; None stands for the record's own `default_text()`."""
    if asked is None:
        if hasattr(record, "default_text"):
            return None
        asked = ["text"]
    unknown = [field for field in asked if field not in record._fields]
    if unknown or not asked:
        raise InputError(
            f"{record.__name__} has no field {shown(', '.join(unknown))}; expected some of "
            f"{', '.join(record._fields)}: name one of them"
        )
    return tuple(asked)


def _text(record: Any, fields: tuple[str, ...] | None, whose: str) -> str:
    values = [record.default_text()] if fields is None else [getattr(record, f) for f in fields]
    for value in values:
        if not isinstance(value, str):
            raise InputError(
                f"a field of {whose} is {shown(repr(value))}; expected text: name other fields "
                f"of {', '.join(record._fields)}"
            )
    return " ".join(value.strip() for value in values if value.strip())


def _queries(dataset_id: str, dataset: Any, fields: tuple[str, ...] | None) -> dict[str, str]:
    queries: dict[str, str] = {}
    for query in dataset.queries_iter():
        qid = _id(dataset_id, query.query_id)
        text = _text(query, fields, f"query {shown(qid)} of {dataset_id}")
        if queries.setdefault(qid, text) != text:
            raise InputError(
                f"{dataset_id} has two queries with the id {shown(qid)}; expected one: use files "
                "of your own instead"
            )
    return queries


def _qrels(
    dataset_id: str, dataset: Any, queries: Mapping[str, str]
) -> tuple[dict[str, dict[str, int]], int]:
    qrels: dict[str, dict[str, int]] = defaultdict(dict)
    strays: set[str] = set()
    for judged in dataset.qrels_iter():
        grade = judged.relevance
        if isinstance(grade, bool) or not isinstance(grade, int):
            raise InputError(
                f"a grade of {dataset_id} is {shown(repr(grade))}; expected a whole number: use "
                "files of your own instead"
            )
        qid, docid = _id(dataset_id, judged.query_id), _id(dataset_id, judged.doc_id)
        if qid not in queries:
            strays.add(qid)
        elif qrels[qid].setdefault(docid, grade) != grade:
            raise InputError(
                f"{dataset_id} has several grades for passage {shown(docid)} of query "
                f"{shown(qid)}; expected one (several may stand for subtopics): use files of your "
                "own instead"
            )
    return dict(qrels), len(strays)


def _run(
    dataset_id: str, dataset: Any, queries: Mapping[str, str]
) -> tuple[dict[str, list[str]] | None, str]:
    scored: dict[str, dict[str, float]] = defaultdict(dict)
    for one in dataset.scoreddocs_iter():
        if not math.isfinite(one.score):
            raise InputError(
                f"a score of {dataset_id} is {one.score}; expected a finite number: use files of "
                "your own instead"
            )
        if one.query_id in queries:
            scored[one.query_id].setdefault(_id(dataset_id, one.doc_id), one.score)
    if not any(len(set(scores.values())) > 1 for scores in scored.values()):
        return None, "the scored docs of ir_datasets have no scores, so they are no ranking"
    return {
        qid: sorted(scores, key=lambda docid: -scores[docid])  # ties stay in the order given
        for qid, scores in scored.items()
    }, "scored docs of ir_datasets"


def _id(dataset_id: str, given: object) -> str:
    problem = odd_id(str(given))
    if problem is not None:
        raise InputError(
            f"{dataset_id} has the id {shown(str(given))}, which cannot be used: {problem}; "
            "expected visible characters without spaces, as TREC files need: use files of your own"
        )
    return str(given)


def _places(n: int, size: int, seed: int) -> list[int]:
    """n distinct places below size in a random order; the first m are those of a draw of m."""
    places: dict[int, None] = {}
    number = 0
    while len(places) < n:
        key = hashlib.sha256(json.dumps([seed, "place", number]).encode()).digest()
        places[int.from_bytes(key) % size] = None
        number += 1
    return list(places)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
