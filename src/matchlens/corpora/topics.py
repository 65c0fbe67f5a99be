"""Topics in other forms than `qid<TAB>query`: JSON lines and TREC's <top> records."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from .lines import bad_line, is_unicode, json_line, shown

ID_KEYS = ("qid", "query_id", "_id", "id", "topic_id", "number")
TEXT_KEYS = ("query", "text", "title")
"""Keys of a topic's id and words in JSON lines; the first that is there is taken."""
EXPECTED = 'expected {"_id": "...", "text": "..."}, as BEIR writes queries: correct it'
_TAG = re.compile(r"(?i)(</?(?:top|num|title|desc|narr|smry|con|fac|def|nat|dom|query)>)")
_LABELS = {"num": re.compile(r"(?i)^\s*number:\s*"), "title": re.compile(r"(?i)^\s*topic:\s*")}
"""Words that TREC's older topics repeat after a tag."""


def json_topic(path: Path, number: int, line: str) -> tuple[str, str]:
    """Id and text of a topic in a JSON line.

    >>> json_topic(Path("queries.jsonl"), 1, '{"_id": 7, "text": "warm tea"}')
    ('7', 'warm tea')
    """
    try:
        record, twice = json_line(line)
    except (ValueError, RecursionError):
        raise bad_line(path, number, f"{shown(line)} is not JSON", EXPECTED) from None
    if not isinstance(record, dict):
        raise bad_line(path, number, f"{shown(line)} is JSON but no object", EXPECTED)
    if read := [key for key in twice if key in (*ID_KEYS, *TEXT_KEYS)]:
        came = f"the key {read[0]!r} stands twice, with different values"
        raise bad_line(path, number, came, EXPECTED)
    qid = next((record[key] for key in ID_KEYS if record.get(key) is not None), None)
    if not isinstance(qid, str | int) or isinstance(qid, bool):
        came = f"no id that is text or a whole number in {shown(line)}"
        raise bad_line(path, number, came, EXPECTED)
    key = next((key for key in TEXT_KEYS if key in record), None)
    text = "" if key and record[key] is None else record.get(key)
    if not isinstance(text, str) or not is_unicode(text):
        came = f"no text in query {shown(str(qid))}"
        raise bad_line(path, number, came, EXPECTED)
    return str(qid), text


def top_topics(path: Path, lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str, str]]:
    """TREC's <top> records: the line of <num>, the number as the id, and the title as the query.

    Tags need not be closed, and a title may go on over several lines; other fields (<desc>,
    <narr>) are passed over.

    >>> list(top_topics(Path("t"), [(1, "<top><num> Number: 301"), (2, "<title> tea </top>")]))
    [(1, '301', 'tea')]
    """
    fields: dict[str, str] | None = None
    field, start, number = "", 0, 0
    for number, line in lines:
        for piece in _TAG.split(line):
            tag = piece.strip("</>").lower() if _TAG.fullmatch(piece) else ""
            if tag == "top":
                if fields is not None:
                    yield _topic(path, start or number, fields)
                fields = None if piece.startswith("</") else {}
                field, start = "", 0
            elif tag and fields is not None:
                field = "" if piece.startswith("</") else tag
                start = number if field == "num" else start
                if field in fields:
                    raise _bad_top(path, number, f"a second <{field}> in one <top>")
            elif fields is not None and field:
                fields[field] = f"{fields.get(field, '')} {piece}"
            elif fields is None and piece.strip():
                raise _bad_top(path, number, f"{shown(line)} stands outside <top>")
    if fields is not None:
        yield _topic(path, start or number, fields)


def _topic(path: Path, number: int, fields: dict[str, str]) -> tuple[int, str, str]:
    for name, label in _LABELS.items():
        if name not in fields:
            raise _bad_top(path, number, f"a <top> without <{name}>")
        fields[name] = " ".join(label.sub("", fields[name]).split())
    return number, fields["num"], fields["title"]


def _bad_top(path: Path, number: int, came: str) -> Exception:
    remedy = "expected <top> <num> 301 <title> a query </top>, or qid<TAB>query: correct it"
    return bad_line(path, number, came, remedy)
