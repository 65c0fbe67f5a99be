"""Passages from JSON lines or TSV files, one at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from matchlens.errors import InputError

from .lines import bad_line, check_id, is_unicode, numbered, shown

ID_KEYS = ("docid", "doc_id", "_id", "id")


class Passage(NamedTuple):
    """One passage and where it stands.

    Args:
        path: the file.
        number: the line, counted from 1.
        docid: its id.
        text: title and text, joined by one space where there is a title; perhaps empty.
        kind: how it matches its query, where the file says so.

    >>> Passage(Path("a.tsv"), 1, "d1", "rust on iron").docid
    'd1'
    """

    path: Path
    number: int
    docid: str
    text: str
    kind: str = ""

    def agrees(self, seen: dict[str, tuple[Path, int]]) -> bool:
        """Whether no earlier file has another text under this id; the same file must not.

        Args:
            seen: passage id -> file and hash of the text that came first; this one's is added.

        Raises:
            InputError: this file had the id before, with another text.

        >>> Passage(Path("a.tsv"), 2, "d1", "rust").agrees({})
        True
        """
        path, before = seen.setdefault(self.docid, (self.path, hash(self.text)))
        if before == hash(self.text):
            return True
        if path == self.path:
            raise bad_line(
                self.path,
                self.number,
                f"passage id {shown(self.docid)} comes a second time with another text",
                "expected one text an id: keep one of the two",
            )
        return False

    def check_text(self) -> None:
        """Refuses a passage that has nothing to read.

        Raises:
            InputError: the text is empty or only white space.

        >>> Passage(Path("a.tsv"), 2, "d1", "rust").check_text()
        """
        if not self.text.strip():
            raise bad_line(
                self.path,
                self.number,
                f"passage {shown(self.docid)} is needed and its text is empty",
                "expected words: add them, or take the passage out of qrels and run",
            )


def check_format(path: Path) -> None:
    """Refuses a passages file whose name does not tell its format.

    Args:
        path: the file.

    Raises:
        InputError: the name ends neither in .jsonl nor in .tsv, nor in one of these and .gz.

    >>> check_format(Path("a.jsonl.gz"))
    """
    if _suffix(path) not in (".jsonl", ".tsv"):
        raise InputError(
            f"{path}: a passages file with an unknown ending; expected .jsonl, .jsonl.gz, .tsv or "
            ".tsv.gz: rename or convert it"
        )


def stream(path: Path) -> Iterator[Passage]:
    """The passages of one file in order; nothing is kept.

    Args:
        path: a .jsonl or .tsv file, perhaps with .gz.

    Raises:
        InputError: the file cannot be read, or a line of it is no passage.

    >>> from importlib.resources import files
    >>> data = files("matchlens.corpora") / "demo_data" / "passages.jsonl"
    >>> next(stream(Path(str(data)))).docid
    'd01-01'
    """
    check_format(path)
    record = _json if _suffix(path) == ".jsonl" else _tsv
    for number, line in numbered(path):
        yield record(path, number, line)


def _suffix(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def _tsv(path: Path, number: int, line: str) -> Passage:
    columns = line.split("\t")
    if len(columns) != 2:
        raise bad_line(
            path,
            number,
            f"{len(columns)} columns in {shown(line)}",
            "expected docid<TAB>text: write .jsonl where there are more fields",
        )
    return Passage(path, number, check_id(columns[0], "passage", path, number), columns[1])


def _json(path: Path, number: int, line: str) -> Passage:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _bad(path, number, f"{shown(line)} is not JSON ({shown(str(error))})") from error
    if not isinstance(record, dict):
        raise _bad(path, number, f"{shown(line)} is JSON but no object")
    given = next((record[key] for key in ID_KEYS if key in record), None)
    if given is None:
        raise _bad(path, number, f"no id among the keys {shown(', '.join(record))}")
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise _bad(path, number, f"the id {shown(str(given))} is neither text nor a whole number")
    whose = f"passage {shown(str(given))}"
    if "text" not in record:
        raise _bad(path, number, f"no text in {whose}")
    fields = {"title": "", "kind": "", "text": record["text"]}
    fields |= {key: record[key] for key in ("title", "kind") if record.get(key) is not None}
    for key, value in fields.items():
        if not isinstance(value, str):
            raise _bad(path, number, f"{key} is {shown(json.dumps(value))} in {whose}")
    if not is_unicode("".join(fields.values())):
        raise _bad(path, number, f"half a surrogate pair in {whose}")
    docid = check_id(str(given), "passage", path, number)
    title = fields["title"].strip()
    text = f"{title} {fields['text']}" if title else fields["text"]
    return Passage(path, number, docid, text, fields["kind"])


def _bad(path: Path, number: int, came: str) -> InputError:
    keys = ", ".join(ID_KEYS[1:])
    return bad_line(
        path, number, came, f'expected {{"docid": "...", "text": "..."}} (or {keys}): mend it'
    )
