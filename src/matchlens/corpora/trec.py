"""Collections in files: topics and qrels as TREC writes them, passages as JSON lines or TSV."""

from __future__ import annotations

import heapq
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from matchlens.arguments import typed
from matchlens.errors import InputError, MatchlensWarning, counted

from . import formats
from . import oddities as rule
from .collection import Collection, Draw
from .formats import Passage, check_format, deciding_key, records, stream
from .lines import blank, digest, shown, stamp
from .oddities import Oddities

_Run = dict[str, list[str]]
_Qrels = dict[str, dict[str, int]]


@dataclass(frozen=True, eq=False, repr=False)
class TrecCollection(Collection):
    """A collection whose passages stay in their files and are streamed when needed.

    Args:
        stamps: passages file -> its size and time of change when it was checked.
        keys: passages file -> the key of its ids, where its lines have several.

    >>> from matchlens.corpora import demo
    >>> isinstance(demo.load(), TrecCollection)
    True
    """

    stamps: Mapping[Path, tuple[int, int]]
    keys: Mapping[Path, str]

    def texts(self, docids: Iterable[str]) -> dict[str, str]:
        """The passages with these ids, by one pass through the files.

        Raises:
            InputError: a file changed since it was loaded, or one of these passages comes twice in
                a file with different texts.
        """
        wanted = set(docids)
        first_texts: dict[str, tuple[Path, int]] = {}
        texts: dict[str, str] = {}
        for passage in self._passages() if wanted else ():
            if passage.docid in wanted and passage.agrees(first_texts):
                texts[passage.docid] = passage.text
        return texts

    def field_texts(self, docids: Iterable[str]) -> dict[str, dict[str, str]]:
        """Title and text of these passages; as :meth:`Collection.field_texts`."""
        wanted, fields = set(docids), {}
        for passage in self._passages() if wanted else ():
            if passage.docid in wanted and passage.docid not in fields:
                title = passage.title
                text = passage.text[len(title) + bool(title) :]
                fields[passage.docid] = {"title": title, "text": text}
        return fields

    def random_docids(self, n: int, seed: int) -> list[str]:
        """At most ``n`` ids of passages with a text, by one pass; the ``seed`` alone decides which.

        Raises:
            InputError: a file changed since it was loaded.
        """
        draw = Draw(seed, "collection")
        kept: set[str] = set()
        heap: list[tuple[int, str]] = []  # the n smallest keys so far, negated: the largest on top
        for passage in self._passages() if n > 0 else ():
            docid = passage.docid
            if docid in kept or blank(passage.text):
                continue
            entry = (-int.from_bytes(draw.key(docid)), docid)
            if len(heap) < n:
                heapq.heappush(heap, entry)
            elif entry > heap[0]:
                kept.discard(heapq.heappushpop(heap, entry)[1])
            else:
                continue
            kept.add(docid)
        return [docid for _, docid in sorted(heap, reverse=True)]

    def _passages(self) -> Iterator[Passage]:
        for path, before in self.stamps.items():
            if stamp(path) != before:
                raise InputError(
                    f"{path} changed after it was loaded; expected it to stay as it was: run again"
                )
            yield from stream(path, self.keys.get(path))


@typed
def load(
    topics: str | Path,
    qrels: str | Path,
    passages: str | Path | Sequence[str | Path],
    run: str | Path | None = None,
    *,
    name: str | None = None,
) -> Collection:
    """Reads a collection from files: every line is checked, the passages stay in their files.

    Any file may be gzip, with a name in .gz. Empty lines are passed over. What is left out or
    merged, as the field's tools do, is counted in `oddities`; the site's page on collections has
    the rule.

    Args:
        topics: `qid<TAB>query` a line; or TREC's `<top>` records, whose title is the query; or
            .jsonl with an id and a `text`, `query` or `title`, such as BEIR's queries.jsonl. Of
            several ids that differ, the key is taken that qrels and run use.
        qrels: `qid iteration docid grade` a line, columns apart by spaces or tabs; or BEIR's
            `qid docid grade`, with or without a header.
        passages: one or more files, .jsonl (an id under a key of `formats.ID_KEYS`; a `text`, or
            else `contents`, `passage` or `segment`; perhaps a `title`, put before the text;
            perhaps a `kind`) or .tsv (`docid<TAB>text`, perhaps with that header).
            Where two files differ in a passage that is judged or in the run, the first file's text
            is taken, with a warning and a count in `source`.
        run: `qid Q0 docid rank score tag` a line; the score orders, the rank breaks ties, then
            the order of the lines.
        name: of the collection; the topics' file name up to its first dot where None.

    Raises:
        InputError: a file is missing, or a line of it is not as said above.

    >>> from importlib.resources import files
    >>> data = Path(str(files("matchlens.corpora") / "demo_data"))
    >>> collection = load(data / "topics.tsv", data / "qrels.tsv", [data / "passages.jsonl"])
    >>> collection.name, len(collection.queries)
    ('topics', 32)
    """
    topics, qrels = Path(topics), Path(qrels)
    run = None if run is None else Path(run)
    passages = [passages] if isinstance(passages, str | Path) else passages
    passages = [Path(file) for file in passages]
    if not passages:
        raise InputError("no passages file came; expected at least one: name a .jsonl or .tsv file")
    chosen = topics.name.lstrip(".").split(".")[0] if name is None else name
    if not chosen.strip() or not chosen.isprintable():
        raise InputError(
            f"the collection's name {shown(chosen)} cannot be used; expected a word: give a name"
        )
    for path in passages:
        check_format(path)
    stamps = {path: stamp(path) for path in passages}
    odd = Oddities()

    def named() -> set[str]:
        rows = chain(formats.qrels(qrels), () if run is None else formats.run(run))
        return {row[1] for row in rows}

    lines = formats.topics(topics, named, odd)
    queries = rule.texts(lines, "query", rule.Door(f"{topics}, line"), odd)
    judged = rule.judgements(formats.qrels(qrels), queries, rule.Door(f"{qrels}, line"), odd)
    ranked = None if run is None else _ranking(run, queries, odd)
    kinds, keys, count = _scan(stamps, judged, ranked or {}, odd)
    return TrecCollection(
        name=chosen,
        queries=queries,
        qrels=judged,
        run=ranked,
        kinds=kinds,
        source={
            "format": "trec",
            "topics": _origin(topics),
            "qrels": _origin(qrels),
            "run": None if run is None else _origin(run),
            "passages": [_origin(path) for path in stamps],
            "passage_lines": count,
            "passages_with_differing_texts": odd.counts["differing_passages"],
        },
        oddities=odd,
        stamps=stamps,
        keys=keys,
    )


def _ranking(path: Path, queries: Mapping[str, str], odd: Oddities) -> _Run:
    ranked, orders = rule.ranking(formats.run(path), queries, rule.Door(f"{path}, line"), odd)
    if not orders:
        raise InputError(
            f"{path} gives all passages of a query the same score and the same rank; expected a "
            "ranking: write scores or ranks that differ, or leave the run out"
        )
    if against := odd.counts["contradicted_ranks"]:
        warnings.warn(
            f"{path}: the ranks contradict the scores in {against} of {len(ranked)} queries "
            f"(such as {odd.examples['contradicted_ranks'][0]}); passages are ordered by score, "
            "the highest first, as trec_eval does: check that a higher score is better",
            MatchlensWarning,
            stacklevel=3,
        )
    return ranked


def _origin(path: Path) -> dict[str, str]:
    return {"file": path.name, "sha256": digest(path)}


def _scan(
    stamps: Mapping[Path, tuple[int, int]], qrels: _Qrels, run: _Run, odd: Oddities
) -> tuple[dict[tuple[str, str], str], dict[Path, str], int]:
    """Reads every passage once: kinds of the judged, the keys of ids, the number of lines."""
    judging: dict[str, list[str]] = defaultdict(list)
    for qid, grades in qrels.items():
        for docid in grades:
            judging[docid].append(qid)
    needed = judging.keys() | {docid for docids in run.values() for docid in docids}
    first_texts: dict[str, tuple[Path, int]] = {}
    differing: list[Passage] = []
    kinds: dict[tuple[str, str], str] = {}
    keys: dict[Path, str] = {}
    count = 0
    for path in stamps:
        before, unusable = count, odd.counts["unusable_ids"]
        for passage in _by_key(path, needed, odd, keys):
            count += 1
            if passage.docid in needed:
                again = passage.docid in first_texts
                if not passage.agrees(first_texts):
                    differing.append(passage)
                    odd.add("differing_passages", shown(passage.docid))
                elif again:
                    odd.add("repeated_passages", shown(passage.docid))
            for qid in judging.get(passage.docid, ()) if passage.kind else ():
                kinds[qid, passage.docid] = passage.kind
        if count == before:
            named = odd.counts["unusable_ids"] > unusable
            error = rule.no_usable_id(f"{path}", "passage", odd) if named else None
            raise error or formats.empty(path, "one passage a line")
    if differing:
        first = differing[0]
        warnings.warn(
            f"{first.path}: {counted(len(differing), 'passage')} with another text than in an "
            f"earlier file, such as {shown(first.docid)} (line {first.number}); the earlier "
            "file's text is taken: check which file is sound, and name it first",
            MatchlensWarning,
            stacklevel=3,
        )
    return kinds, keys, count


def _by_key(
    path: Path, needed: Set[str], odd: Oddities, keys: dict[Path, str]
) -> Iterator[Passage]:
    """The usable passages of a file; the key of its ids is chosen, and kept, at the first doubt."""
    undecided = True
    for record in records(path):
        if record.ids and undecided:
            undecided = False
            if key := deciding_key(records(path), needed, odd):
                keys[path] = key
        passage = record.under(keys.get(path))
        if odd.usable(passage.docid):
            yield passage
