"""What a collection offers: queries, judgements, perhaps a run, and passages on demand."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from matchlens.errors import InputError, brief, counted

from . import oddities as rule
from .lines import odd_id, shown
from .oddities import Oddities


@dataclass(frozen=True, eq=False, repr=False)
class Collection(ABC):
    """A test collection whose passages are fetched when they are needed, never all at once.

    Args:
        name: tells collections apart where several stand side by side.
        queries: query id -> its text, in the order of the file.
        qrels: query id -> passage id -> grade, as given (a grade may be negative).
        run: query id -> passage ids, best first; None where there is no ranking.
        kinds: (query id, passage id) -> how the passage matches, where the collection says so.
        source: where it comes from, for the manifest: base names of files, their SHA-256, ids.
        oddities: what was left out or merged when it was read; None where nothing was checked yet,
            as in a collection made in Python: `choose` checks it by the same rule.

    >>> from matchlens.corpora import demo
    >>> collection = demo.load()
    >>> collection.name, len(collection.queries), collection.run
    ('demo', 32, None)
    """

    name: str
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]
    run: Mapping[str, Sequence[str]] | None
    kinds: Mapping[tuple[str, str], str]
    source: Mapping[str, object]
    oddities: Oddities | None = field(default=None, kw_only=True)

    def __repr__(self) -> str:
        run = "no run" if self.run is None else "a run"
        return (
            f"<{type(self).__name__} {brief(self.name)}: {counted(len(self.queries), 'query')}, "
            f"{sum(map(len, self.qrels.values())):,} judgements, {run}>"
        )

    @abstractmethod
    def texts(self, docids: Iterable[str]) -> dict[str, str]:
        """The texts of these passages; an id that the collection lacks is not in the answer.

        >>> from matchlens.corpora import demo
        >>> list(demo.load().texts(["d01-01", "nowhere"]))
        ['d01-01']
        """

    def field_texts(self, docids: Iterable[str]) -> dict[str, dict[str, str]]:
        """The fields that make up these passages' texts, in order; joined by a space they are it.

        Args:
            docids: passage ids; one that the collection lacks is not in the answer.

        Raises:
            InputError: the collection's passages have no fields.

        >>> from matchlens.corpora import demo
        >>> list(demo.load().field_texts(["d01-01"])["d01-01"])
        ['title', 'text']
        """
        raise InputError(
            f"the passages of collection {shown(self.name)} have no fields; expected a collection "
            "that has: load it from .jsonl files, a BEIR folder, a frame with a title, or "
            "ir_datasets with doc_fields (--doc-fields)"
        )

    @abstractmethod
    def random_docids(self, n: int, seed: int) -> list[str]:
        """Distinct passage ids drawn uniformly from the collection, in a random order.

        The first m of a draw of n are the draw of m with the same seed.

        Args:
            n: how many; a smaller collection gives all it has.

        >>> from matchlens.corpora import demo
        >>> len(set(demo.load().random_docids(5, seed=1)))
        5
        """


@dataclass(frozen=True, eq=False, repr=False)
class Overlay(Collection):
    """Checked queries, judgements and run over the passages of another collection."""

    inner: Collection

    def texts(self, docids: Iterable[str]) -> dict[str, str]:
        """The other collection's texts, checked."""
        texts = self.inner.texts(docids)
        for docid, text in texts.items():
            if not isinstance(text, str | None):
                raise InputError(
                    f"the text of passage {shown(docid)} of collection {shown(self.name)} is "
                    f"{shown(repr(text))}; expected text: let texts() return str"
                )
        return {docid: (text or "").strip() for docid, text in texts.items()}

    def field_texts(self, docids: Iterable[str]) -> dict[str, dict[str, str]]:
        """The other collection's fields."""
        return self.inner.field_texts(docids)

    def random_docids(self, n: int, seed: int) -> list[str]:
        """The other collection's draw without unusable ids."""
        return [docid for docid in self.inner.random_docids(n, seed) if odd_id(docid) is None]


def checked(collection: Collection) -> Collection:
    """Check a collection by the rule that files and ir_datasets follow, unless it was checked."""
    if collection.oddities is not None:
        return collection
    odd = Oddities()
    where = f"collection {shown(collection.name)}"
    topics = ((n, *topic) for n, topic in enumerate(collection.queries.items(), 1))
    queries = rule.texts(topics, "query", rule.Door(f"{where}, query"), odd)
    grades = ((qid, *grade) for qid, own in collection.qrels.items() for grade in own.items())
    judged = ((n, *grade) for n, grade in enumerate(grades, 1))
    qrels = rule.judgements(judged, queries, rule.Door(f"{where}, judgement"), odd)
    run = collection.run
    if run is not None:
        places = ((qid, *place) for qid, docids in run.items() for place in enumerate(docids))
        rows = ((n, qid, docid, -place, "0") for n, (qid, place, docid) in enumerate(places, 1))
        run, _ = rule.ranking(rows, queries, rule.Door(f"{where}, passage of the run"), odd)
    about = (collection.kinds, collection.source)
    return Overlay(collection.name, queries, qrels, run, *about, oddities=odd, inner=collection)


def digest_of(value: object) -> str:
    """SHA-256 of what JSON can hold, in hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


class Draw:
    """A seeded order of ids in which an id's place depends on seed, purpose and id alone.

    Ids are sorted by a SHA-256 key. So a draw is the same on every machine and under every
    library version, whatever the order of the files, and a larger draw contains a smaller one.

    Args:
        seed: any whole number.
        purpose: what is drawn and for whom, so that draws are independent of each other.
    """

    def __init__(self, seed: int, *purpose: str | int) -> None:
        self._start = hashlib.sha256(json.dumps([int(seed), *purpose]).encode())

    def key(self, item: str) -> bytes:
        """The 32 bytes by which an id is sorted."""
        state = self._start.copy()
        state.update(item.encode("utf-8", "surrogatepass"))
        return state.digest()

    def order(self, items: Iterable[str]) -> list[str]:
        """The ids, once each, in the drawn order."""
        return sorted(set(items), key=self.key)
