"""Passages from JSON lines or TSV files, one at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from matchlens.errors import InputError

from .lines import bad_line, is_unicode, json_line, numbered, odd_id, shown
from .oddities import Oddities

ID_KEYS = ("docid", "doc_id", "_id", "id", "docno", "pid", "passage_id", "document_id")
"""Keys of a JSON line that may hold the passage's id; the first is taken unless ids differ."""

TEXT_KEYS = ("text", "contents", "passage", "segment")
"""Keys that may hold its text: BEIR's and ir_datasets', Pyserini's, MS MARCO's v2 and v2.1."""


class _Number(str):
    """A number with a point, as it is written: 1.0 stays "1.0"."""


class Passage(NamedTuple):
    """One passage and where it stands.

    Args:
        path: the file.
        number: the line, counted from 1.
        docid: its id.
        text: title and text, joined by one space where there is a title; perhaps empty.
        kind: how it matches its query, where the file says so.
        ids: key -> id, where the line has several ids that differ; `docid` is the first.
        title: its title, with which the text begins; perhaps empty.

    >>> Passage(Path("a.tsv"), 1, "d1", "rust on iron").docid
    'd1'
    """

    path: Path
    number: int
    docid: str
    text: str
    kind: str = ""
    ids: Mapping[str, str] = MappingProxyType({})
    title: str = ""

    def agrees(self, first_texts: dict[str, tuple[Path, int]]) -> bool:
        """Whether no earlier file has another text under this id; the same file must not.

        >>> Passage(Path("a.tsv"), 2, "d1", "rust").agrees({})
        True
        """
        path, before = first_texts.setdefault(self.docid, (self.path, hash(self.text)))
        if before == hash(self.text):
            return True
        if path == self.path:
            came = f"passage id {shown(self.docid)} comes a second time with another text"
            raise bad_line(
                self.path, self.number, came, "expected one text an id: keep one of the two"
            )
        return False

    def under(self, key: str | None) -> Passage:
        """The passage by the id of another key, where its line has several.

        >>> ids = {"docid": "d1", "id": "7"}
        >>> Passage(Path("a.jsonl"), 1, "d1", "rust", ids=ids).under("id").docid
        '7'
        """
        return self if key is None else self._replace(docid=self.ids.get(key, self.docid))


def check_format(path: Path) -> None:
    """Refuses a passages file whose name does not tell its format.

    >>> check_format(Path("a.jsonl.gz"))
    """
    if _suffix(path) not in (".jsonl", ".tsv"):
        raise InputError(
            f"{path}: a passages file with an unknown ending; expected .jsonl, .jsonl.gz, .tsv or "
            ".tsv.gz: rename or convert it"
        )


def stream(path: Path, key: str | None = None, odd: Oddities | None = None) -> Iterator[Passage]:
    """The passages of one file in order; nothing is kept.

    A passage whose id no judgement or run can name, because it has a space or an invisible
    character, is left out.

    >>> from importlib.resources import files
    >>> data = files("matchlens.corpora") / "demo_data" / "passages.jsonl"
    >>> next(stream(Path(str(data)))).docid
    'd01-01'
    """
    check_format(path)
    record = _json if _suffix(path) == ".jsonl" else _tsv
    for number, line in numbered(path):
        passage = record(path, number, line).under(key)
        if not passage.docid:
            raise _bad(path, number, "the passage id is empty")
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
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def _tsv(path: Path, number: int, line: str) -> Passage:
    columns = line.split("\t")
    if len(columns) != 2:
        came = f"{len(columns)} columns in {shown(line)}"
        raise bad_line(
            path, number, came, "expected docid<TAB>text: write .jsonl where there are more fields"
        )
    return Passage(path, number, columns[0], columns[1].strip())


def _json(path: Path, number: int, line: str) -> Passage:
    try:
        record, twice = json_line(line, parse_float=_Number)
    except (ValueError, RecursionError) as error:
        if re.match(r"\s*\[\s*(\{|$)", line):
            raise _bad(path, number, "a JSON array begins, not an object for each line") from error
        raise _bad(path, number, f"{shown(line)} is not JSON ({shown(str(error))})") from error
    if not isinstance(record, dict):
        raise _bad(path, number, f"{shown(line)} is JSON but no object")
    if read := [key for key in twice if key in (*ID_KEYS, *TEXT_KEYS, "title", "kind")]:
        raise _bad(path, number, f"the key {read[0]!r} stands twice, with different values")
    values = {key: record[key] for key in ID_KEYS if record.get(key) is not None}
    ids = {
        key: str(value)
        for key, value in values.items()
        if isinstance(value, str | int) and not isinstance(value, bool)
    }
    if not values:
        raise _bad(path, number, f"no id among the keys {shown(', '.join(record))}")
    if not ids:
        odd = str(next(iter(values.values())))
        raise _bad(path, number, f"the id {shown(odd)} is neither text nor a number")
    ids = {key: docid for key, docid in ids.items() if docid} or ids
    docid = next(iter(ids.values()))
    whose = f"passage {shown(docid)}"
    texts = [key for key in TEXT_KEYS if key in record]
    if not texts:
        raise _bad(path, number, f"no text in {whose}")
    texts = [key for key in texts if record[key] not in (None, "")] or texts[:1]
    if "text" not in texts and len(texts) > 1:
        raise _bad(path, number, f"{' and '.join(texts)} and no text in {whose}")
    fields = dict.fromkeys(("title", "kind", texts[0]), "")
    fields |= {key: record[key] for key in fields if record.get(key) is not None}
    for key, value in fields.items():
        if not isinstance(value, str) or isinstance(value, _Number):
            raise _bad(path, number, f"{key} is {shown(json.dumps(value))} in {whose}")
    if not is_unicode("".join(fields.values())):
        raise _bad(path, number, f"half a surrogate pair in {whose}")
    title = fields["title"].strip()
    text = " ".join(filter(None, (title, fields[texts[0]].strip())))
    several = ids if len({*ids.values()}) > 1 else MappingProxyType({})
    return Passage(path, number, docid, text, fields["kind"], several, title)


def _bad(path: Path, number: int, came: str) -> InputError:
    keys = ", ".join(ID_KEYS[1:])
    return bad_line(
        path, number, came, f'expected {{"docid": "...", "text": "..."}} (or {keys}): correct it'
    )
