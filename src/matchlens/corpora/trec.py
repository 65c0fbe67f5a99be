"""Collections in files: topics and qrels as TREC writes them, passages as JSON lines or TSV."""

from __future__ import annotations

import heapq
import math
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from matchlens.errors import InputError, MatchlensWarning

from .collection import Collection, Draw
from .lines import bad_line, check_id, digest, numbered, shown, stamp
from .passages import Passage, check_format, stream

MAX_GRADE = 1000  # a larger number in the fourth column is no grade
_Run = dict[str, list[str]]
_Qrels = dict[str, dict[str, int]]


@dataclass(frozen=True, eq=False)
class TrecCollection(Collection):
    """A collection whose passages stay in their files and are streamed when asked for.

    Args:
        stamps: passages file -> its size and time of change when it was checked.

    >>> from matchlens.corpora import demo
    >>> isinstance(demo.load(), TrecCollection)
    True
    """

    stamps: Mapping[Path, tuple[int, int]]

    def texts(self, docids: Iterable[str]) -> dict[str, str]:
        """The passages with these ids, by one pass through the files.

        Args:
            docids: passage ids; one that no file has is not in the answer.

        Raises:
            InputError: a file changed since it was loaded, or one of these passages is empty or
                comes twice in a file with different texts.

        >>> from matchlens.corpora import demo
        >>> len(demo.load().texts(["d01-01", "d01-02"]))
        2
        """
        wanted = set(docids)
        seen: dict[str, tuple[Path, int]] = {}
        found: dict[str, str] = {}
        for passage in self._passages() if wanted else ():
            if passage.docid in wanted and passage.agrees(seen):
                passage.check_text()
                found[passage.docid] = passage.text
        return found

    def random_docids(self, n: int, seed: int) -> list[str]:
        """Distinct ids drawn uniformly from the passages that have a text, by one pass.

        Args:
            n: how many; a smaller collection gives all it has.
            seed: another seed, another draw; the order of the files does not matter.

        Raises:
            InputError: a file changed since it was loaded.

        >>> from matchlens.corpora import demo
        >>> demo.load().random_docids(3, 1) == demo.load().random_docids(9, 1)[:3]
        True
        """
        draw = Draw(seed, "collection")
        kept: set[str] = set()
        heap: list[tuple[int, str]] = []  # the n smallest keys so far, negated: the largest on top
        for passage in self._passages() if n > 0 else ():
            docid = passage.docid
            if docid in kept or not passage.text.strip():
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
            yield from stream(path)


def load(
    topics: str | Path,
    qrels: str | Path,
    passages: str | Path | Sequence[str | Path],
    run: str | Path | None = None,
    *,
    name: str | None = None,
) -> Collection:
    """Reads a collection from files: every line is checked, the passages stay in their files.

    Any file may be gzip, with a name in .gz. Empty lines are passed over.

    Args:
        topics: `qid<TAB>query` a line.
        qrels: `qid iteration docid grade` a line, columns apart by spaces or tabs.
        passages: one or more files, .jsonl (a `docid`, `doc_id`, `_id` or `id`; a `text`; perhaps
            a `title`, put before the text; perhaps a `kind`) or .tsv (`docid<TAB>text`). Where two
            files differ in a passage that is judged or in the run, the first file's text is taken,
            with a warning and a count in `source`.
        run: `qid Q0 docid rank score tag` a line; the score orders, the rank breaks ties.
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
    listed = [passages] if isinstance(passages, str | Path) else passages
    passages = [Path(one) for one in listed]
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
    queries = _topics(topics)
    judged = _qrels(qrels, queries)
    ranked = None if run is None else _run(run, queries)
    kinds, count, differing = _scan(list(stamps), judged, ranked or {})
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
            "passages_with_differing_texts": differing,
        },
        stamps=stamps,
    )


def _origin(path: Path) -> dict[str, str]:
    return {"file": path.name, "sha256": digest(path)}


def _empty(path: Path, expected: str) -> InputError:
    return InputError(f"{path} is empty; expected {expected}: check that it is the right file")


def _topics(path: Path) -> dict[str, str]:
    queries: dict[str, str] = {}
    for number, line in numbered(path):
        columns = line.split("\t")
        if len(columns) != 2:
            raise bad_line(
                path,
                number,
                f"{len(columns) - 1} tabs in {shown(line)}",
                "expected qid<TAB>query: convert other formats of topics to this one",
            )
        qid, query = check_id(columns[0], "query", path, number), columns[1].strip()
        if qid in queries:
            raise bad_line(
                path,
                number,
                f"query id {shown(qid)} comes a second time",
                "expected each query once: remove or rename one",
            )
        if not query:
            raise bad_line(
                path,
                number,
                f"query {shown(qid)} is empty",
                "expected words after the tab: add them or remove the line",
            )
        queries[qid] = query
    if not queries:
        raise _empty(path, "qid<TAB>query a line")
    return queries


def _columns(path: Path, number: int, line: str, names: str) -> list[str]:
    columns = [column for column in re.split(r"[ \t]+", line) if column]
    if len(columns) != len(names.split()):
        raise bad_line(
            path,
            number,
            f"{len(columns)} columns in {shown(line)}",
            f"expected {len(names.split())}: {names}",
        )
    return columns


def _known(qid: str, queries: Mapping[str, str], path: Path, number: int) -> str:
    if check_id(qid, "query", path, number) not in queries:
        raise bad_line(
            path,
            number,
            f"query id {shown(qid)} is not among the topics (whose first is "
            f"{shown(next(iter(queries)))})",
            "expected queries of the topics file: check that the two files belong together",
        )
    return qid


def _qrels(path: Path, queries: Mapping[str, str]) -> _Qrels:
    qrels: _Qrels = defaultdict(dict)
    for number, line in numbered(path):
        qid, _, docid, grade = _columns(path, number, line, "qid iteration docid grade")
        of_query = qrels[_known(qid, queries, path, number)]
        if check_id(docid, "passage", path, number) in of_query:
            raise bad_line(
                path,
                number,
                f"passage {shown(docid)} is judged a second time for query {shown(qid)}",
                "expected one grade for each: keep one line",
            )
        if not re.fullmatch(r"[+-]?[0-9]{1,9}", grade) or abs(int(grade)) > MAX_GRADE:
            raise bad_line(
                path,
                number,
                f"the grade is {shown(grade)}",
                f"expected a whole number from -{MAX_GRADE} to {MAX_GRADE} in the fourth column",
            )
        of_query[docid] = int(grade)
    if not qrels:
        raise _empty(path, "qid iteration docid grade a line")
    return dict(qrels)


def _run(path: Path, queries: Mapping[str, str]) -> _Run:
    lines: dict[str, dict[str, tuple[float, int]]] = defaultdict(dict)
    for number, line in numbered(path):
        columns = _columns(path, number, line, "qid Q0 docid rank score tag")
        qid, docid = columns[0], columns[2]
        of_query = lines[_known(qid, queries, path, number)]
        if check_id(docid, "passage", path, number) in of_query:
            raise bad_line(
                path,
                number,
                f"passage {shown(docid)} comes a second time for query {shown(qid)}",
                "expected each passage once a query: keep one line",
            )
        of_query[docid] = (-_score(path, number, columns[4]), _rank(path, number, columns[3]))
    if not lines:
        raise _empty(path, "qid Q0 docid rank score tag a line")
    ordered = {
        qid: sorted(places, key=lambda docid: places[docid]) for qid, places in lines.items()
    }
    against = [
        qid
        for qid, docids in ordered.items()
        if any(lines[qid][a][1] > lines[qid][b][1] for a, b in pairwise(docids))
    ]
    if against:
        warnings.warn(
            f"{path}: the ranks contradict the scores in {len(against)} of {len(ordered)} queries "
            f"(such as {shown(against[0])}); passages are ordered by score, the highest first, as "
            "trec_eval does: check that a higher score is better",
            MatchlensWarning,
            stacklevel=3,
        )
    return ordered


def _score(path: Path, number: int, text: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not math.isfinite(score) or not re.fullmatch(r"[0-9eE.+-]+", text):
        raise bad_line(
            path,
            number,
            f"the score is {shown(text)}",
            "expected a finite number in the fifth column",
        )
    return score


def _rank(path: Path, number: int, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise bad_line(
            path,
            number,
            f"the rank is {shown(text)}",
            "expected a whole number in the fourth column: qid Q0 docid rank score tag",
        )
    return int(text)


def _scan(
    paths: Sequence[Path], qrels: _Qrels, run: _Run
) -> tuple[dict[tuple[str, str], str], int, int]:
    """Reads every passage once: kinds of the judged, how many lines, how many ids of two texts."""
    judging: dict[str, list[str]] = defaultdict(list)
    for qid, grades in qrels.items():
        for docid in grades:
            judging[docid].append(qid)
    needed = judging.keys() | {docid for docids in run.values() for docid in docids}
    seen: dict[str, tuple[Path, int]] = {}
    differing: list[Passage] = []
    kinds: dict[tuple[str, str], str] = {}
    count = 0
    for path in paths:
        before = count
        for passage in stream(path):
            count += 1
            if passage.docid in needed and not passage.agrees(seen):
                differing.append(passage)
            if passage.kind:
                kinds.update(
                    {(qid, passage.docid): passage.kind for qid in judging.get(passage.docid, ())}
                )
        if count == before:
            raise _empty(path, "one passage a line")
    if differing:
        one = differing[0]
        warnings.warn(
            f"{one.path}: {len(differing)} passages have another text than in an earlier file, "
            f"such as {shown(one.docid)} (line {one.number}); the earlier file's text is taken: "
            "check which file is sound, and name it first",
            MatchlensWarning,
            stacklevel=3,
        )
    return kinds, count, len(differing)
