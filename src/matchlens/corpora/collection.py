"""What a collection offers: queries, judgements, perhaps a run, and passages on demand."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, eq=False)
class Collection(ABC):
    """A test collection whose passages are fetched when they are needed, never all at once.

    Args:
        name: tells collections apart where several stand side by side.
        queries: query id -> its text, in the order of the file.
        qrels: query id -> passage id -> grade, as given (a grade may be negative).
        run: query id -> passage ids, best first; None where there is no ranking.
        kinds: (query id, passage id) -> how the passage matches, where the collection says so.
        source: where it comes from, for the manifest: base names of files, their SHA-256, ids.

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

    @abstractmethod
    def texts(self, docids: Iterable[str]) -> dict[str, str]:
        """The passages with these ids; an id that the collection lacks is not in the answer.

        Args:
            docids: passage ids, in any order.

        Raises:
            InputError: the source cannot be read, or one of these passages has no usable text.

        >>> from matchlens.corpora import demo
        >>> list(demo.load().texts(["d01-01", "nowhere"]))
        ['d01-01']
        """

    @abstractmethod
    def random_docids(self, n: int, seed: int) -> list[str]:
        """Distinct passage ids drawn uniformly from the collection, in a random order.

        The first m of a draw of n are the draw of m with the same seed.

        Args:
            n: how many; a smaller collection gives all it has.
            seed: another seed, another draw.

        Raises:
            InputError: the source cannot be read, or allows no random access.

        >>> from matchlens.corpora import demo
        >>> len(set(demo.load().random_docids(5, seed=1)))
        5
        """


class Draw:
    """A seeded order of ids in which each id's place hangs on nothing but seed, purpose and id.

    Ids are sorted by a SHA-256 key. So a draw is the same on every machine and under every
    library version, whatever the order of the files, and a larger draw contains a smaller one.

    Args:
        seed: any whole number.
        purpose: what is drawn and for whom, so that draws are independent of each other.

    >>> Draw(0, "demo").order(["a", "b", "c"]) == Draw(0, "demo").order(["c", "b", "a"])
    True
    """

    def __init__(self, seed: int, *purpose: str | int) -> None:
        self._start = hashlib.sha256(json.dumps([seed, *purpose]).encode())

    def key(self, item: str) -> bytes:
        """The 32 bytes by which an id is sorted.

        Args:
            item: the id.

        >>> len(Draw(0, "demo").key("a"))
        32
        """
        state = self._start.copy()
        state.update(item.encode("utf-8", "surrogatepass"))
        return state.digest()

    def order(self, items: Iterable[str]) -> list[str]:
        """The ids, once each, in the drawn order.

        Args:
            items: ids, in any order.

        >>> sorted(Draw(7).order(["b", "a", "b"]))
        ['a', 'b']
        """
        return sorted(set(items), key=self.key)
