"""The lines of a collection's files: topics, judgements, runs, and passages one at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from functools import partial
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from matchlens.errors import InputError

from .lines import bad_line, is_unicode, json_line, numbered, odd_id, shown
from .oddities import Oddities

TOPIC_IDS = ("qid", "query_id", "_id", "id", "topic_id", "number")
TOPIC_TEXTS = ("query", "text", "title")
"""Keys of a topic's id and words in JSON lines; the first that is there is taken."""
ID_KEYS = ("docid", "doc_id", "_id", "id", "docno", "pid", "passage_id", "document_id")
"""Keys of a JSON line that may hold the passage's id; the first is taken unless ids differ."""
TEXT_KEYS = ("text", "contents", "passage", "segment")
"""Keys that may hold its text: BEIR's and ir_datasets', Pyserini's, MS MARCO's v2 and v2.1."""
HEADER = re.compile(r"(?i)(query|topic)?[-_]?q?id[\t ]+[a-z]+[-_]?id[\t ]+(score|relevance|grade)")
"""The first line of BEIR's qrels: query-id, corpus-id, score."""
_TAG = re.compile(r"(?i)(</?(?:top|num|title|desc|narr|smry|con|fac|def|nat|dom|query)>)")
_LABELS = {"num": re.compile(r"(?i)^\s*number:\s*"), "title": re.compile(r"(?i)^\s*topic:\s*")}
"""Words that TREC's older topics repeat after a tag."""
_TOPIC = 'expected {"_id": "...", "text": "..."}, as BEIR writes queries: correct it'
_TOP = "expected <top> <num> 301 <title> a query </top>, or qid<TAB>query: correct it"
_PASSAGE = f'expected {{"docid": "...", "text": "..."}} (or {", ".join(ID_KEYS[1:])}): correct it'
Wrong = Callable[[str], InputError]
"""Makes the error about one line of what is wrong in it."""


def empty(path: Path, expected: str) -> InputError:
    """The error of a file without a record."""
    return InputError(f"{path} is empty; expected {expected}: check that it is the right file")


def _lines(path: Path, expected: str) -> Iterator[tuple[int, str]]:
    """The lines of a file that must have one."""
    number = 0
    for number, line in numbered(path):
        yield number, line
    if not number:
        raise empty(path, f"{expected} a line")


def _json_object(
    line: str, keys: Sequence[str], wrong: Wrong, **options: Any
) -> Mapping[str, object]:
    """The object of a JSON line, in which none of the keys has two different values."""
    try:
        record, twice = json_line(line, **options)
    except (ValueError, RecursionError) as error:
        if re.match(r"\s*\[\s*(\{|$)", line):
            raise wrong("a JSON array begins, not an object for each line") from error
        raise wrong(f"{shown(line)} is not JSON ({shown(str(error))})") from error
    if not isinstance(record, dict):
        raise wrong(f"{shown(line)} is JSON but no object")
    if read := [key for key in twice if key in keys]:
        raise wrong(f"the key {read[0]!r} stands twice, with different values")
    return record


# --- topics


def topics(path: Path) -> Iterator[tuple[int, str, str]]:
    """JSON lines by the name, TREC's <top> records where the first line has a tag, or else TSV."""
    lines = _lines(path, "qid<TAB>query")
    if path.name.lower().removesuffix(".gz").endswith(".jsonl"):
        yield from ((number, *_json_topic(path, number, line)) for number, line in lines)
        return
    first = next(lines)
    lines = chain([first], lines)
    if first[1].lstrip().startswith("<"):
        yield from _top_topics(path, lines)
        return
    for number, line in lines:
        columns = line.split("\t")
        if len(columns) != 2:
            raise bad_line(
                path,
                number,
                f"{len(columns) - 1} tabs in {shown(line)}",
                "expected qid<TAB>query: convert other formats of topics to this one",
            )
        yield number, columns[0], columns[1]


def _json_topic(path: Path, number: int, line: str) -> tuple[str, str]:
    wrong = partial(bad_line, path, number, remedy=_TOPIC)
    record = _json_object(line, (*TOPIC_IDS, *TOPIC_TEXTS), wrong)
    qid = next((record[key] for key in TOPIC_IDS if record.get(key) is not None), None)
    if not isinstance(qid, str | int) or isinstance(qid, bool):
        raise wrong(f"no id that is text or a whole number in {shown(line)}")
    key = next((key for key in TOPIC_TEXTS if key in record), None)
    text = None if key is None else "" if record[key] is None else record[key]
    if not isinstance(text, str) or not is_unicode(text):
        raise wrong(f"no text in query {shown(str(qid))}")
    return str(qid), text


def _top_topics(path: Path, lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str, str]]:
    """TREC's <top> records: the line of <num>, the number as the id, and the title as the query."""
    # Tags need not be closed, and a title may go on over several lines; other fields (<desc>,
    # <narr>) are passed over.
    fields: dict[str, str] | None = None
    field, start, number = "", 0, 0
    for number, line in lines:
        for piece in _TAG.split(line):
            tag = piece.strip("</>").lower() if _TAG.fullmatch(piece) else ""
            if tag == "top":
                if fields is not None:
                    yield _top_topic(path, start or number, fields)
                fields = None if piece.startswith("</") else {}
                field, start = "", 0
            elif tag and fields is not None:
                field = "" if piece.startswith("</") else tag
                start = number if field == "num" else start
                if field in fields:
                    raise bad_line(path, number, f"a second <{field}> in one <top>", _TOP)
            elif fields is not None and field:
                fields[field] = f"{fields.get(field, '')} {piece}"
            elif fields is None and piece.strip():
                raise bad_line(path, number, f"{shown(line)} stands outside <top>", _TOP)
    if fields is not None:
        yield _top_topic(path, start or number, fields)


def _top_topic(path: Path, number: int, fields: dict[str, str]) -> tuple[int, str, str]:
    for name, label in _LABELS.items():
        if name not in fields:
            raise bad_line(path, number, f"a <top> without <{name}>", _TOP)
        fields[name] = " ".join(label.sub("", fields[name]).split())
    return number, fields["num"], fields["title"]


# --- judgements and runs


def _columns(line: str, count: int) -> list[str]:
    """The columns between spaces and tabs, or between tabs where only those give ``count``."""
    columns = [column for column in re.split(r"[ \t]+", line) if column]
    by_tab = [column.strip(" ") for column in line.split("\t")]
    return by_tab if len(columns) != count == len(by_tab) else columns


def qrels(path: Path) -> Iterator[tuple[int, str, str, str]]:
    """TREC's four columns, or BEIR's three apart by tabs, perhaps with its header."""
    # The first line decides which.
    count = 0
    for number, line in _lines(path, "qid iteration docid grade"):
        if not count:
            count = 3 if len(_columns(line, 4)) == 3 and line.count("\t") == 2 else 4
            if count == 3 and HEADER.fullmatch(line):
                continue
            if re.fullmatch(r"[A-Za-z_-]+([\t ,]+[A-Za-z_-]+)+", line):
                raise bad_line(
                    path,
                    number,
                    f"{shown(line)} is a header of other columns",
                    "expected query-id, corpus-id and score apart by tabs, in this order, or no "
                    "header and qid iteration docid grade: put the columns so",
                )
        columns = _columns(line, count)
        if len(columns) != count:
            names = "qid iteration docid grade" if count == 4 else "qid docid grade, as in line 1"
            came = f"{len(columns)} columns in {shown(line)}"
            raise bad_line(path, number, came, f"expected {count}: {names}")
        yield number, columns[0], columns[-2], columns[-1]


def run(path: Path) -> Iterator[tuple[int, str, str, str, str]]:
    """Line, query id, passage id, score and rank of TREC's six columns."""
    for number, line in _lines(path, "qid Q0 docid rank score tag"):
        columns = _columns(line, 6)
        if len(columns) < 6 or (len(columns) > 6 and not columns[3].isdecimal()):
            came = f"{len(columns)} columns in {shown(line)}"
            remedy = "expected 6: qid Q0 docid rank score tag"
            if len(columns) > 6:  # a tag may have spaces, an id not
                came += f", the rank is {shown(columns[3])}"
                remedy = "expected qid Q0 docid rank score tag: take the spaces out of the ids"
            raise bad_line(path, number, came, remedy)
        yield number, columns[0], columns[2], columns[4], columns[3]


# --- passages


class _Number(str):
    """A number with a point, as it is written: 1.0 stays "1.0"."""


class Passage(NamedTuple):
    """One passage, with its file and its line, counted from 1.

    Args:
        text: title and text, joined by a space where there is a title; perhaps empty.
        kind: how it matches its query, where the file says so.
        ids: key -> id, where the line has several ids that differ; `docid` is the first.
    """

    path: Path
    number: int
    docid: str
    text: str
    kind: str = ""
    ids: Mapping[str, str] = MappingProxyType({})
    title: str = ""

    def agrees(self, first_texts: dict[str, tuple[Path, int]]) -> bool:
        """Whether no earlier file has another text under this id; the same file must not."""
        path, before = first_texts.setdefault(self.docid, (self.path, hash(self.text)))
        if before == hash(self.text):
            return True
        if path == self.path:
            came = f"passage id {shown(self.docid)} comes a second time with another text"
            remedy = "expected one text an id: keep one of the two"
            raise bad_line(self.path, self.number, came, remedy)
        return False

    def under(self, key: str | None) -> Passage:
        """The passage by the id of another key, where its line has several."""
        return self if key is None else self._replace(docid=self.ids.get(key, self.docid))


def check_format(path: Path) -> None:
    """Refuse a passages file whose name does not tell its format."""
    if _suffix(path) not in (".jsonl", ".tsv"):
        raise InputError(
            f"{path}: a passages file with an unknown ending; expected .jsonl, .jsonl.gz, .tsv or "
            ".tsv.gz: rename or convert it"
        )


def stream(path: Path, key: str | None = None, odd: Oddities | None = None) -> Iterator[Passage]:
    """The passages of one file in order; nothing is kept.

    A passage whose id no judgement or run can name, because it has a space or an invisible
    character, is left out.
    """
    check_format(path)
    record = _json_passage if _suffix(path) == ".jsonl" else _tsv_passage
    for number, line in numbered(path):
        passage = record(path, number, line).under(key)
        if not passage.docid:
            raise bad_line(path, number, "the passage id is empty", _PASSAGE)
        if (odd_id(passage.docid) is None) if odd is None else odd.usable(passage.docid):
            yield passage


def deciding_key(path: Path, needed: Set[str], odd: Oddities) -> str | None:
    """The key whose ids the judgements and the run use, in a file whose lines have several."""
    agreed: list[str] = []
    first = several = 0
    for passage in stream(path):
        if not passage.ids:
            continue
        several += 1
        used = [key for key, docid in passage.ids.items() if docid in needed]
        left = [key for key in used if key in agreed] if agreed else used
        if (used and not left) or len({passage.ids[key] for key in left}) > 1:
            ids = ", ".join(f"{key} {shown(docid)}" for key, docid in passage.ids.items())
            before = f", and line {first} uses {' and '.join(agreed)}" if agreed else ""
            raise bad_line(
                path,
                passage.number,
                f"the ids differ ({ids}) and the judgements or the run use {' and '.join(used)}"
                + before,
                "expected one key with their ids: remove the other keys from the file",
            )
        if used:
            agreed, first = left, first or passage.number
    taken = f"{shown(agreed[0])} in" if agreed else "the first in"
    odd.add("several_ids", f"{taken} {shown(path.name)}", several)
    return agreed[0] if agreed else None


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _tsv_passage(path: Path, number: int, line: str) -> Passage:
    columns = line.split("\t")
    if len(columns) != 2:
        came = f"{len(columns)} columns in {shown(line)}"
        remedy = "expected docid<TAB>text: write .jsonl where there are more fields"
        raise bad_line(path, number, came, remedy)
    return Passage(path, number, columns[0], columns[1].strip())


def _json_passage(path: Path, number: int, line: str) -> Passage:
    wrong = partial(bad_line, path, number, remedy=_PASSAGE)
    keys = (*ID_KEYS, *TEXT_KEYS, "title", "kind")
    record = _json_object(line, keys, wrong, parse_float=_Number)
    values = {key: record[key] for key in ID_KEYS if record.get(key) is not None}
    ids = {
        key: str(value)
        for key, value in values.items()
        if isinstance(value, str | int) and not isinstance(value, bool)
    }
    if not values:
        raise wrong(f"no id among the keys {shown(', '.join(record))}")
    if not ids:
        odd = str(next(iter(values.values())))
        raise wrong(f"the id {shown(odd)} is neither text nor a number")
    ids = {key: docid for key, docid in ids.items() if docid} or ids
    docid = next(iter(ids.values()))
    whose = f"passage {shown(docid)}"
    texts = [key for key in TEXT_KEYS if key in record]
    if not texts:
        raise wrong(f"no text in {whose}")
    texts = [key for key in texts if record[key] not in (None, "")] or texts[:1]
    if "text" not in texts and len(texts) > 1:
        raise wrong(f"{' and '.join(texts)} and no text in {whose}")
    fields: dict[str, Any] = dict.fromkeys(("title", "kind", texts[0]), "")
    fields |= {key: record[key] for key in fields if record.get(key) is not None}
    for key, value in fields.items():
        if not isinstance(value, str) or isinstance(value, _Number):
            raise wrong(f"{key} is {shown(json.dumps(value))} in {whose}")
    if not is_unicode("".join(fields.values())):
        raise wrong(f"half a surrogate pair in {whose}")
    title = fields["title"].strip()
    text = " ".join(filter(None, (title, fields[texts[0]].strip())))
    several = ids if len({*ids.values()}) > 1 else MappingProxyType({})
    return Passage(path, number, docid, text, fields["kind"], several, title)
