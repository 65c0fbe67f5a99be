"""Text files a line at a time, plain or gzip, with a limit on everything that could grow."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import unicodedata
import zlib
from collections.abc import Iterator
from functools import lru_cache
from io import BufferedReader
from pathlib import Path
from typing import Any

from matchlens.errors import InputError

MAX_LINE = 64 * 2**20  # bytes that one line may have
MAX_UNPACKED = 64 * 2**30
"""Bytes that one gzip file may unpack to; ``MATCHLENS_MAX_UNPACKED`` overrides it."""
MAX_RATIO, FREE = 100, 2**20
"""And how many times its own size, beyond the first MiB: text stays below 20, a bomb has 1,000;
the variable lifts this limit, too."""
UNPACKED = "MATCHLENS_MAX_UNPACKED"
GZIP_MAGIC = b"\x1f\x8b"
BOM = b"\xef\xbb\xbf"


_CONVERT = "convert it (iconv -f UTF-16 -t UTF-8)"
OTHERS = {
    rb"\x28\xb5\x2f\xfd": ("Zstandard data", "unpack it (zstd -d)"),
    rb"BZh[1-9]1AY&SY": ("bzip2 data", "unpack it (bunzip2)"),
    rb"\xfd7zXZ\x00": ("xz data", "unpack it (unxz)"),
    rb"PK\x03\x04": ("a zip archive", "unpack it (unzip)"),
    rb"PAR1[\x00-\x1f]": ("a Parquet file", "read it by pandas, for matchlens.frame.load"),
    rb"\xff\xfe|\xfe\xff": ("UTF-16 text", _CONVERT),
    rb"version https://git-lfs": ("a pointer of Git LFS, not the file", "fetch it (git lfs pull)"),
    rb"(?i)\s*<(!doctype\s+)?html": ("a web page", "download the file itself"),
    rb"(?s).{257}ustar": ("a tar archive", "unpack it (tar -xf)"),
}
"""How files begin that are something else than lines of text: what they are, and what to do."""


def shown(value: str, width: int = 60) -> str:
    """Something that came from a file, fit for one line of an error.

    >>> shown("a\\tb")
    "'a\\\\tb'"
    >>> shown("x" * 100, width=5)
    "'xxxxx'... (100 characters)"
    """
    if len(value) <= width:
        return repr(value)
    return f"{value[:width]!r}... ({len(value):,} characters)"


def bad_line(path: Path, number: int, came: str, remedy: str) -> InputError:
    """An error about one line of a file."""
    return InputError(f"{path}, line {number}: {came}; {remedy}")


def odd_id(text: str) -> str | None:
    """What makes a text unfit for an id, or None: ids are columns of TREC files."""
    if not text:
        return "it is empty"
    if " " in text or not text.isprintable():
        return "it has a space or an invisible character in it"
    return None


def blank(text: str) -> bool:
    """Whether a text has nothing to read: white space, control and format characters alone."""
    return all(c.isspace() or unicodedata.category(c) in ("Cc", "Cf") for c in text)


def json_line(line: str, **options: Any) -> tuple[Any, list[str]]:
    """The content of a JSON line, and the keys of its object that have two different values."""
    twice: list[str] = []

    def last_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        twice[:] = () if len(record) == len(pairs) else (k for k, v in pairs if record[k] != v)
        return record

    return json.loads(line, object_pairs_hook=last_of, **options), twice


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8: JSON can smuggle in halves of surrogate pairs."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def stamp(path: Path) -> tuple[int, int]:
    """Size in bytes and time of the last change, by which a changed file is noticed."""
    try:
        if path.is_file():
            status = path.stat()
            return status.st_size, status.st_mtime_ns
        came = "is a folder" if path.is_dir() else "is no regular file"
        if not path.exists():
            came = "does not exist"
    except (OSError, ValueError) as error:
        came = f"cannot be examined ({shown(str(error), 100)})"
    raise InputError(f"{shown(str(path), 200)} {came}; expected a file: check the path")


def digest(path: Path) -> str:
    """SHA-256 of the file on disk (packed files as they are), in hexadecimal digits."""
    return _digest(path, stamp(path))


@lru_cache(maxsize=64)
def _digest(path: Path, _: tuple[int, int]) -> str:
    """Cached: it is needed more than once, and files are large."""
    with _opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def numbered(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file with their numbers from 1; a name in .gz is unpacked on the way.

    Lines end with LF or CRLF, or with CR in a file without any LF. A byte order mark at the start
    and empty lines are passed over.
    """
    packed = path.suffix.lower() == ".gz"
    limit = _most_unpacked(stamp(path)[0]) if packed else 0
    unpacked = number = 0
    with _opened(path) as raw:
        file = gzip.GzipFile(fileobj=raw) if packed else raw
        while piece := _read(file, path, number + 1, packed):
            number += 1
            unpacked += len(piece)
            if packed and unpacked > limit:
                raise InputError(
                    f"{path}: unpacks to more than {limit:,} bytes (by line {number}), which no "
                    "text of its size does; expected a smaller file: split it into several, or set "
                    f"{UNPACKED} to a number of bytes if you trust it"
                )
            if number == 1:
                piece = _without_mark(piece, path)
            try:
                line = piece.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
            except UnicodeDecodeError as error:
                raise bad_line(
                    path,
                    number,
                    f"byte {error.start + 1} of the line (0x{piece[error.start]:02x}) is not UTF-8",
                    "expected a UTF-8 file: convert it, for instance with iconv",
                ) from error
            if number == 1 and not piece.endswith(b"\n"):
                # The file has no LF at all: CR ends its lines, as ir_datasets reads them.
                yield from (
                    (n, text) for n, text in enumerate(line.split("\r"), 1) if text.strip(" ")
                )
            elif line.strip(" "):
                yield number, line


def _most_unpacked(size: int) -> int:
    """Bytes that a gzip file of a size may unpack to."""
    setting = os.environ.get(UNPACKED, "")
    if not setting:
        return min(MAX_UNPACKED, FREE + MAX_RATIO * size)
    if not re.fullmatch("[0-9]{1,18}", setting):
        raise InputError(
            f"{UNPACKED} is {shown(setting)}; expected a number of bytes, such as {MAX_UNPACKED}"
        )
    return int(setting)


def _opened(path: Path) -> BufferedReader:
    stamp(path)
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(
            f"{path} cannot be opened ({error.strerror}); expected a readable file: "
            "check its permissions"
        ) from error


def _read(file: BufferedReader | gzip.GzipFile, path: Path, number: int, packed: bool) -> bytes:
    try:
        piece = file.readline(MAX_LINE + 1)
    except (EOFError, OSError, zlib.error) as error:
        came, remedy = f"the file cannot be read ({error})", "check the disk"
        if isinstance(error, EOFError):
            came, remedy = "the gzip file ends too early", "expected all of it: fetch it again"
        elif isinstance(error, gzip.BadGzipFile | zlib.error):
            came = f"not a sound gzip file ({error})"
            remedy = "expected gzip because of the name: fetch it again, or drop .gz from the name"
        raise bad_line(path, number, came, remedy) from error
    if len(piece) > MAX_LINE:
        remedy = "expected one record a line" + ("" if packed else ": check the line ends")
        raise bad_line(path, number, f"the line is longer than {MAX_LINE:,} bytes", remedy)
    return piece


def _without_mark(piece: bytes, path: Path) -> bytes:
    if piece.startswith(GZIP_MAGIC):
        came = "this is gzip inside, by its first bytes"
        raise bad_line(
            path, 1, came, "expected text because of the name: unpack it, or end its name with .gz"
        )
    for pattern, (what, remedy) in OTHERS.items():
        if re.match(pattern, piece):
            raise bad_line(path, 1, f"this is {what}", f"expected lines of text: {remedy}")
    return piece.removeprefix(BOM)
