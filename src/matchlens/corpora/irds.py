"""Collections of ir_datasets, by id; the only file that knows that library."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matchlens.arguments import typed
from matchlens.errors import InputError

from . import oddities as rule
from .collection import Collection, digest_of
from .lines import odd_id, shown
from .oddities import Oddities

ALIKE = 0.6
"""Share of an id's words that another one has, plus the share of its letters: enough to name it."""


@dataclass(frozen=True, eq=False, repr=False)
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

        Raises:
            InputError: ir_datasets cannot give them, or a field holds something else than text.
        """
        return {
            docid: _text(doc, self.doc_fields, f"passage {shown(str(doc.doc_id))} of {self.name}")
            for docid, doc in self._docs(docids)
        }

    def field_texts(self, docids: Iterable[str]) -> dict[str, dict[str, str]]:
        """The fields of these passages; as :meth:`Collection.field_texts`.

        Raises:
            InputError: the dataset was loaded without `doc_fields`.
        """
        if self.doc_fields is None:
            return super().field_texts(docids)
        whose = f"a passage of {self.name}"
        return {
            docid: {field: _text(doc, (field,), whose) for field in self.doc_fields}
            for docid, doc in self._docs(docids)
        }

    def random_docids(self, n: int, seed: int) -> list[str]:
        """At most ``n`` usable ids, drawn uniformly with the ``seed`` by place in the dataset.

        Raises:
            InputError: the dataset does not tell how many passages it has, or gives none by place.
        """
        with _requested(self.name, "passages by their place"):
            size = self.dataset.docs_count()
            if size is None:
                size = self.dataset.docs_store().count()
            places = _places(min(n, size), size, seed)
            docs = self.dataset.docs_iter()
            ids = {
                place: str(next(iter(docs[place : place + 1])).doc_id) for place in sorted(places)
            }
        return [ids[place] for place in places if odd_id(ids[place]) is None]

    def _docs(self, docids: Iterable[str]) -> list[tuple[str, Any]]:
        wanted = set(docids)
        with _requested(self.name, "passages"):
            docs = self.dataset.docs_store().get_many(sorted(wanted)) if wanted else {}
            by_id = {str(docid): doc for docid, doc in docs.items()}
        # The store cuts an id to the length of its longest: ids that were not wanted are dropped.
        return [(docid, by_id[docid]) for docid in sorted(wanted & by_id.keys())]


@typed
def load(
    dataset_id: str,
    *,
    query_field: str | None = None,
    doc_fields: str | Sequence[str] | None = None,
) -> Collection:
    """A dataset of ir_datasets that has queries, qrels and docs; its scored docs become the run.

    Queries and qrels are read here (and downloaded by ir_datasets where they are not on the disk),
    after the id and the fields have been checked; passages when they are needed. What is left out
    or merged, by the same rule as for files, is counted in `oddities`. Scored docs whose scores are
    all the same are no ranking and no run; `source` says so.

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
    import ir_datasets

    dataset = _dataset(dataset_id)
    if isinstance(doc_fields, str):
        doc_fields = [doc_fields]
    of_query = _fields(dataset.queries_cls(), None if query_field is None else [query_field])
    of_doc = _fields(dataset.docs_cls(), doc_fields)
    odd = Oddities()
    with _requested(dataset_id, "queries"):
        door = _door(dataset_id, "query")
        queries = rule.texts(_queries(dataset_id, dataset, of_query), "query", door, odd)
    with _requested(dataset_id, "qrels"):
        qrels = rule.judgements(_qrels(dataset), queries, _door(dataset_id, "judgement"), odd)
    run, note = None, "ir_datasets has no scored docs for it"
    if dataset.has_scoreddocs():
        with _requested(dataset_id, "scored docs"):
            door = _door(dataset_id, "scored doc")
            run, orders = rule.ranking(_run(dataset), queries, door, odd)
        note = "scored docs of ir_datasets"
        if not orders:
            run = None
            note = "the scored docs of ir_datasets have no scores, so they are no ranking"
    return IrdsCollection(
        name=dataset_id,
        queries=queries,
        qrels=qrels,
        run=run,
        kinds={},
        source={
            "format": "ir_datasets",
            "dataset": dataset_id,
            "version": ir_datasets.__version__,
            "query_field": query_field,
            "doc_fields": None if doc_fields is None else list(doc_fields),
            "queries_sha256": digest_of(queries),
            "qrels_sha256": digest_of(qrels),
            "run_sha256": None if run is None else digest_of(run),
            "run_note": note,
        },
        oddities=odd,
        dataset=dataset,
        doc_fields=of_doc,
    )


@contextmanager
def _requested(dataset_id: str, what: str) -> Iterator[None]:
    """Turn whatever ir_datasets raises into one line that says what was requested."""
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
    import ir_datasets

    known = sorted(ir_datasets.registry)
    try:
        dataset = ir_datasets.load(dataset_id)
    except KeyError:
        near = _alike(dataset_id, known)
        hint = f"did you mean {', '.join(near)}?" if near else "see https://ir-datasets.com"
        raise InputError(
            f"ir_datasets knows no {shown(dataset_id)}; expected the id of a dataset: {hint}"
        ) from None
    lacks = [part for part in ("queries", "qrels", "docs") if not dataset.has(part)]
    if lacks:
        under = [name for name in known if name.startswith(f"{dataset_id}/")]
        hint = f"try a part of it, such as {', '.join(under[:3])}" if under else "choose another"
        raise InputError(
            f"dataset {shown(dataset_id)} has no {' and no '.join(lacks)}; expected queries, qrels "
            f"and docs: {hint}"
        )
    return dataset


def _alike(dataset_id: str, known: Sequence[str]) -> list[str]:
    """The ids most like this one: by the words that they share, then by the letters."""
    words = set(_words(dataset_id))
    matcher = difflib.SequenceMatcher(b=dataset_id.lower())
    likeness: dict[str, float] = {}
    for name in known:
        matcher.set_seq1(name.lower())
        shared = len(words.intersection(_words(name))) / max(len(words), 1)
        likeness[name] = shared + matcher.ratio()
    best = sorted(known, key=lambda name: -likeness[name])[:3]
    return [name for name in best if likeness[name] >= ALIKE]


def _words(dataset_id: str) -> list[str]:
    return re.findall("[a-z]+|[0-9]+", dataset_id.lower())


def _fields(record: Any, names: Sequence[str] | None) -> tuple[str, ...] | None:
    """The fields to join; None stands for the record's own `default_text()`."""
    if names is None and hasattr(record, "default_text"):
        return None
    names = ["text"] if names is None else names
    unknown = [field for field in names if field not in record._fields]
    if unknown or not names:
        raise InputError(
            f"{record.__name__} has no field {shown(', '.join(unknown))}; expected some of "
            f"{', '.join(record._fields)}: name one of them"
        )
    return tuple(names)


def _text(record: Any, fields: tuple[str, ...] | None, whose: str) -> str:
    values = [record.default_text()] if fields is None else [getattr(record, f) for f in fields]
    values = ["" if value is None else value for value in values]
    for value in values:
        if not isinstance(value, str):
            raise InputError(
                f"a field of {whose} is {shown(repr(value))}; expected text: name other fields "
                f"of {', '.join(record._fields)}"
            )
    return " ".join(value.strip() for value in values if value.strip())


def _door(dataset_id: str, what: str) -> rule.Door:
    mend = f"export the dataset's parts to files (`ir_datasets export {dataset_id}`) and there "
    return rule.Door(f"{dataset_id}, {what}", mend)


def _queries(
    dataset_id: str, dataset: Any, fields: tuple[str, ...] | None
) -> Iterator[tuple[int, str, str]]:
    for number, query in enumerate(dataset.queries_iter(), 1):
        qid = str(query.query_id)
        yield number, qid, _text(query, fields, f"query {shown(qid)} of {dataset_id}")


def _qrels(dataset: Any) -> Iterator[tuple[int, str, str, object]]:
    for number, judgement in enumerate(dataset.qrels_iter(), 1):
        yield number, str(judgement.query_id), str(judgement.doc_id), judgement.relevance


def _run(dataset: Any) -> Iterator[tuple[int, str, str, object, str]]:
    for number, scored in enumerate(dataset.scoreddocs_iter(), 1):
        yield number, str(scored.query_id), str(scored.doc_id), scored.score, "0"


def _places(n: int, size: int, seed: int) -> list[int]:
    """n distinct places below size in a random order; the first m are those of a draw of m."""
    places: dict[int, None] = {}
    number = 0
    while len(places) < n:
        key = hashlib.sha256(json.dumps([int(seed), "place", number]).encode()).digest()
        places[int.from_bytes(key) % size] = None
        number += 1
    return list(places)


PASSAGES = {"msmarco-passage": "collectionandqueries", "msmarco-passage-v2": "passages"}
"""The archive that holds a collection's passages, as ir_datasets calls it."""
TIMEOUT = 10.0
"""Seconds to wait for a server's answer."""


def needed(dataset_ids: Sequence[str]) -> list[tuple[str, int]]:
    """The archives of passages that are not on the disk, with their size in bytes.

    The few small files of queries and judgements beside them are not counted; nothing is
    downloaded.

    Args:
        dataset_ids: ids of ir_datasets.

    Raises:
        InputError: if one cannot be reached.

    >>> needed([])
    []
    """
    import ir_datasets
    from ir_datasets.util import home_path

    downloads = Path(ir_datasets.__file__).parent / "etc" / "downloads.json"
    known = json.loads(downloads.read_text("utf-8"))
    archives = []
    for name in dict.fromkeys(dataset_id.partition("/")[0] for dataset_id in dataset_ids):
        if name not in PASSAGES:
            continue
        archive = known[name][PASSAGES[name]]
        size, folder = int(archive["size_hint"]), Path(home_path()) / name
        present = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        if present < size:
            _reach(name, str(archive["url"]), dict(archive.get("download_args", {})))
            archives.append((f"passages of {name}", size))
    return archives


def _reach(name: str, url: str, arguments: dict) -> None:
    """See that a server answers for an archive."""
    if not url.startswith("https://"):
        raise InputError(f"the address of {name} is {url!r}; expected one that begins https://")
    request = urllib.request.Request(url, method="HEAD", headers=arguments.get("headers", {}))  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT):  # noqa: S310
            pass
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise InputError(
            f"the collection {name} cannot be reached ({error}); name TREC files instead: "
            "--topics, --qrels, --passages"
        ) from None
