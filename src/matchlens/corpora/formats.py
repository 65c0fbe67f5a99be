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
"""Keys of a topic's id in JSON lines; the first is taken unless ids differ."""
TOPIC_TEXTS = ("query", "text", "title")
"""Keys of its words; a line has one of them, or they say the same."""
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
_ONE_TEXT = (
    "expected one text: keep the right key in every line and remove or join the others, or name "
    "the dataset (--dataset) and its field (--query-field)"
)
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


class Topic(NamedTuple):
    """One query, with its file and its line, counted from 1.

    Args:
        ids: key -> id, where the line has several ids that differ; `qid` is the first.
    """

    path: Path
    number: int
    qid: str
    text: str
    ids: Mapping[str, str]


def topics(
    path: Path, named: Callable[[], Set[str]], odd: Oddities
) -> Iterator[tuple[int, str, str]]:
    """JSON lines by the name, TREC's <top> records where the first line has a tag, or else TSV.

    Args:
        path: of the file.
        named: gives the query ids that judgements and run use, for lines that have several ids.
        odd: where such lines are counted.
    """
    if suffix(path) == ".jsonl":
        key, undecided = None, True
        for topic in _json_topics(path):
            if topic.ids and undecided:
                key = deciding_key(_json_topics(path), named(), odd, "several_topic_ids")
                undecided = False
            yield topic.number, topic.ids.get(key or "", topic.qid), topic.text
        return
    lines = _lines(path, "qid<TAB>query")
    first = next(lines)
    lines = chain([first], lines)
    if first[1].lstrip().startswith("<"):
        yield from _top_topics(path, lines)
        return
    for number, line in lines:
        columns = line.split("\t")
        if number == first[0] and _is_header(columns, TOPIC_IDS, TOPIC_TEXTS):
            continue
        if len(columns) != 2:
            raise bad_line(
                path,
                number,
                f"{len(columns) - 1} tabs in {shown(line)}",
                "expected qid<TAB>query: convert other formats of topics to this one",
            )
        yield number, columns[0], columns[1]


def _is_header(columns: Sequence[str], ids: Sequence[str], texts: Sequence[str]) -> bool:
    """Whether the columns of a first line are the names of an id and of a text."""
    names = [column.strip().lower() for column in columns]
    return len(names) == 2 and names[0] in ids and names[1] in texts


def _json_topics(path: Path) -> Iterator[Topic]:
    for number, line in _lines(path, "qid<TAB>query"):
        wrong = partial(bad_line, path, number, remedy=_TOPIC)
        record = _json_object(line, (*TOPIC_IDS, *TOPIC_TEXTS), wrong)
        ids = _ids(record, TOPIC_IDS)
        if not ids:
            raise wrong(f"no id that is text or a whole number in {shown(line)}")
        qid = next(iter(ids.values()))
        values = {key: record[key] for key in TOPIC_TEXTS if key in record}
        texts = {key: text.strip() for key, text in values.items() if isinstance(text, str)}
        texts = {key: text for key, text in texts.items() if text}
        if len({*texts.values()}) > 1:
            came = f"query {shown(qid)} has different texts under {' and '.join(texts)}"
            raise bad_line(path, number, came, _ONE_TEXT)
        text = next(iter(texts.values()), "")
        told = texts or (values and all(isinstance(one, str | None) for one in values.values()))
        if not told or not is_unicode(text):
            raise wrong(f"no text in query {shown(qid)}")
        yield Topic(path, number, qid, text, _several(ids))


def _ids(record: Mapping[str, object], keys: Sequence[str]) -> dict[str, str]:
    """Key -> id, of the ids that are text or a whole number; empty ones only without any other."""
    ids = {
        key: str(record[key])
        for key in keys
        if isinstance(record.get(key), str | int) and not isinstance(record[key], bool)
    }
    return {key: an_id for key, an_id in ids.items() if an_id} or ids


def _several(ids: dict[str, str]) -> Mapping[str, str]:
    return ids if len({*ids.values()}) > 1 else MappingProxyType({})


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
    if suffix(path) not in (".jsonl", ".tsv"):
        raise InputError(
            f"{path}: a passages file with an unknown ending; expected .jsonl, .jsonl.gz, .tsv or "
            ".tsv.gz: rename or convert it"
        )


def records(path: Path) -> Iterator[Passage]:
    """The passages of one file in order, each by its first id; nothing is kept."""
    check_format(path)
    read = _json_passage if suffix(path) == ".jsonl" else _tsv_passage
    first = True
    for number, line in numbered(path):
        header = first and read is _tsv_passage
        first = False
        if header and _is_header(line.split("\t"), ID_KEYS, TEXT_KEYS):
            continue
        passage = read(path, number, line)
        if not passage.docid:
            raise bad_line(path, number, "the passage id is empty", _PASSAGE)
        yield passage


def stream(path: Path, key: str | None = None) -> Iterator[Passage]:
    """The passages of one file in order, by the ids of a key where their lines have several.

    A passage whose id no judgement or run can name, because it has a space or an invisible
    character, is left out.
    """
    for record in records(path):
        passage = record.under(key)
        if odd_id(passage.docid) is None:
            yield passage


def deciding_key(
    lines: Iterable[Topic | Passage], needed: Set[str], odd: Oddities, kind: str = "several_ids"
) -> str | None:
    """The key whose ids the judgements and the run use, in a file whose lines have several.

    Where they use none, it is the first one all of whose ids can be used.

    Args:
        lines: of the file.
        needed: the ids that judgements and run use.
        odd: where the lines are counted.
        kind: as what.
    """
    agreed: list[str] = []
    first = several = 0
    usable: dict[str, bool] = {}
    name = ""
    for line in lines:
        if not line.ids:
            continue
        several, name = several + 1, line.path.name
        for key, its_id in line.ids.items():
            usable[key] = usable.get(key, True) and odd_id(its_id) is None
        used = [key for key, its_id in line.ids.items() if its_id in needed]
        left = [key for key in used if key in agreed] if agreed else used
        if (used and not left) or len({line.ids[key] for key in left}) > 1:
            ids = ", ".join(f"{key} {shown(its_id)}" for key, its_id in line.ids.items())
            before = f", and line {first} uses {' and '.join(agreed)}" if agreed else ""
            raise bad_line(
                line.path,
                line.number,
                f"the ids differ ({ids}) and the judgements or the run use {' and '.join(used)}"
                + before,
                "expected one key with their ids: remove the other keys from the file",
            )
        if used:
            agreed, first = left, first or line.number
    if not agreed and not all(usable.values()):
        agreed = [key for key in usable if usable[key]]
    taken = f"{shown(agreed[0])} in" if agreed else "the first in"
    odd.add(kind, f"{taken} {shown(name)}", several)
    return agreed[0] if agreed else None


def suffix(path: Path) -> str:
    """The end of a file's name that tells its format: in small letters, without .gz."""
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
    ids = _ids(record, ID_KEYS)
    if not values:
        raise wrong(f"no id among the keys {shown(', '.join(record))}")
    if not ids:
        odd = str(next(iter(values.values())))
        raise wrong(f"the id {shown(odd)} is neither text nor a number")
    docid = next(iter(ids.values()))
    whose = f"passage {shown(docid)}"
    texts = [key for key in TEXT_KEYS if key in record]
    if not texts:
        raise wrong(f"no text in {whose}")
    texts = [key for key in texts if record[key] not in (None, "")] or texts[:1]
    if "text" not in texts and len(texts) > 1:
        raise wrong(f"{' and '.join(texts)} and no text in {whose}")
    fields: dict[str, Any] = dict.fromkeys(("title", texts[0]), "")
    fields |= {key: record[key] for key in fields if record.get(key) is not None}
    if isinstance(kind := record.get("kind"), str) and not isinstance(kind, _Number):
        fields["kind"] = kind  # another program's kind may be a number or a list
    for key, value in fields.items():
        if not isinstance(value, str) or isinstance(value, _Number):
            raise wrong(f"{key} is {shown(json.dumps(value))} in {whose}")
    if not is_unicode("".join(fields.values())):
        raise wrong(f"half a surrogate pair in {whose}")
    title = fields["title"].strip()
    text = " ".join(filter(None, (title, fields[texts[0]].strip())))
    return Passage(path, number, docid, text, fields.get("kind", ""), _several(ids), title)
