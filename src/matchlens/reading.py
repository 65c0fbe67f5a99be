"""Reading a results folder back: nothing in it is trusted, and nothing outside it is touched."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import pandas as pd

from matchlens.columns import MOST_TABLE, check_columns, parquet
from matchlens.errors import InputError, MatchlensWarning
from matchlens.files import Folder, Stamp, stamp_of

MANIFEST, LOG = "manifest.json", "run.log"
METERS = "meters"
PAIRS, SCORES = "pairs.parquet", "scores.parquet"
KINDS = ("parquet", "json")
UNFINISHED, COMMIT = ".matchlens-work", "commit"
"""The work folder of a results folder; in it the save that was switched on last, while it moves."""
FORMAT = 2
"""The manifest's format: since 2 it lists every file with its size and SHA-256."""
FORMATS = (1, FORMAT)
"""Formats that are read; the files of a folder of format 1 cannot be checked."""
OWN_DIGEST, EDITED = "manifest_sha256", "edited"
"""The key of a manifest's own digest, which folders of earlier versions lack, and its value
in place of a digest where the manifest was edited."""
MOST_MANIFEST = 32 * 2**20
"""Bytes of a manifest."""
MOST_FILES = 200_000
"""Most entries of a results folder."""
MOST_LISTED = {"studies": 200, "commands": 10_000, "notes": 10_000, "files": MOST_FILES}
"""Entries of a manifest's lists."""
MOST_DIGITS, DEEPEST = 300, 40
"""Digits of a manifest's whole numbers; levels of its lists and objects."""
AGAIN = 5
"""How often a folder is read anew that changes while it is read."""
STUDY = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
"""What a study may be called: its name is a folder's."""
T = TypeVar("T")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class ChangedError(InputError):
    """A file is not what the manifest says."""


class Snapshot:
    """A results folder in the state that its manifest describes.

    Where a save was switched on but its files are still moving, or the process that moved them was
    killed, the files are taken from where they wait: no reader sees half of a save.

    Args:
        out: the results folder.
        commit: the folder of the save that is moving, None where none is.
        raw: the manifest's content.
        manifest: the manifest, its shape checked.
    """

    def __init__(self, out: Folder, commit: Folder | None, raw: bytes, manifest: dict) -> None:
        self.out, self._commit, self._raw, self.manifest = out, commit, raw, manifest
        self._tables: dict[str, pd.DataFrame] = {}
        self._left = MOST_TABLE

    @classmethod
    def open(cls, folder: str | Path) -> Snapshot:
        """Open a results folder by its path, which may lead through links."""
        try:
            out = Folder.open(folder)
        except (FileNotFoundError, NotADirectoryError):
            raise _no_results(folder) from None
        except (OSError, ValueError) as error:
            raise InputError(f"{str(folder)!r} cannot be read ({error}); give another") from None
        out.path = Path(folder)
        return cls.of(out)

    @classmethod
    def of(cls, out: Folder, *, settled: bool = False) -> Snapshot:
        """The state of a results folder that is open."""
        path = out.path / MANIFEST
        try:
            commit, raw = _manifest(out, settled)
            manifest = parsed_manifest(raw)
        except FileNotFoundError:
            raise _no_results(out.path) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            why = f"it has no {error}" if isinstance(error, KeyError) else error
            raise InputError(
                f"{str(path)!r} cannot be read as a manifest ({why}); give another folder"
            ) from None
        if manifest.pop(OWN_DIGEST, None) not in (None, manifest_digest(raw)):
            manifest[OWN_DIGEST] = EDITED  # who adds something to the folder does not vouch for it
            warnings.warn(
                f"{str(path)!r} was changed since matchlens wrote it, so that the options, notes "
                "and names in it need not be those of the tables; make the folder anew (matchlens "
                "rerun DIR) before you believe it",
                MatchlensWarning,
                stacklevel=2,
            )
        return cls(out, commit, raw, manifest)

    @property
    def files(self) -> Mapping[str, Stamp]:
        """Size and SHA-256 of every file that matchlens wrote, by name; empty for format 1."""
        return self.manifest.get("files", {})

    def owns(self, name: str) -> bool:
        """Whether a file is matchlens's own; all of the right name are in a folder of format 1."""
        return name in self.files or self.manifest["format"] == 1

    def adopted(self) -> Mapping[str, Stamp]:
        """The files that stay where something is added; those of format 1 are stamped first."""
        if self.manifest["format"] > 1:
            return self.files
        names = [name for name in (PAIRS, SCORES) if self.out.kind(name) == "file"]
        names += [f"{METERS}/{name}.npy" for name in self._stems(METERS, "npy")]
        for study in self.manifest["studies"]:
            for table in self.tables(study):
                pair = (f"{study}/{table}.{kind}" for kind in KINDS)
                names += [name for name in pair if self.out.kind(name) == "file"]
        return {name: self.out.stamp(name) for name in names}

    def tables(self, study: str) -> list[str]:
        """The names of a study's tables."""
        return self._stems(study, "parquet")

    def meters(self) -> list[str]:
        """The names of the meters' arrays."""
        return self._stems(METERS, "npy")

    def _stems(self, folder: str, ending: str) -> list[str]:
        shape = re.compile(rf"{re.escape(folder)}/([^/]+)\.{ending}")
        if self.manifest["format"] > 1:
            names = list(self.files)
        elif self.out.kind(folder):
            with self.out.folder(folder) as inside:
                names = [f"{folder}/{entry.name}" for entry in inside.entries()]
        else:
            names = []
        return sorted(match[1] for name in names if (match := shape.fullmatch(name)))

    def stream(self, name: str) -> BinaryIO:
        """Open a file, which is not checked."""
        if self._commit is not None:
            with suppress(FileNotFoundError):
                return self._commit.stream(name)
        return self.out.stream(name)

    def table(self, name: str) -> pd.DataFrame:
        """A table, such as ``ablation/table1.parquet``, checked against the manifest, read once.

        Raises:
            ChangedError: if it is not what was written.
            InputError: if it is missing or cannot be read, or the tables that were read take more
                than :data:`matchlens.columns.MOST_TABLE` bytes together.
        """
        if name not in self._tables:
            with self._checked(name) as stream:
                table = parquet(stream, self._left)
                check_columns(table)
            self._left -= int(table.memory_usage(index=False, deep=True).sum())
            self._tables[name] = table
        return self._tables[name]

    def array(self, name: str) -> np.ndarray:
        """An array of numbers, such as ``meters/mass.npy``, checked, memory-mapped, read only."""
        with self._checked(name) as stream:
            return array(stream)

    @contextmanager
    def _checked(self, name: str) -> Iterator[BinaryIO]:
        with reading(self.out.path / name):
            stream = self.stream(name)
        with stream, reading(self.out.path / name):
            stamp = self.files.get(name)
            if stamp is not None:
                same = os.fstat(stream.fileno()).st_size == stamp["bytes"]
                if not same or stamp_of(stream) != stamp:
                    raise ChangedError(
                        f"{str(self.out.path / name)!r} is not what {MANIFEST} says (its SHA-256 "
                        "or size differs): it was damaged or changed by hand; run the command that "
                        "wrote it again, or make the whole folder anew with matchlens rerun DIR"
                    )
                stream.seek(0)
            yield stream

    def moved(self) -> bool:
        """Whether another save has become visible since the snapshot was opened."""
        with suppress(OSError):
            return _manifest(self.out, False)[1] != self._raw
        return True

    def close(self) -> None:
        """Close the folders."""
        self.out.close()
        if self._commit is not None:
            self._commit.close()

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _no_results(folder: str | Path) -> InputError:
    return InputError(f"{str(folder)!r} is no results folder: it has no {MANIFEST}")


def _manifest(out: Folder, settled: bool) -> tuple[Folder | None, bytes]:
    if not settled:
        with suppress(FileNotFoundError):
            commit = out.folder(f"{UNFINISHED}/{COMMIT}")
            return commit, commit.read(MANIFEST, MOST_MANIFEST)
    return None, out.read(MANIFEST, MOST_MANIFEST)


def check_inside(folder: Folder) -> None:
    """Check that a results folder holds files and folders only, before a long run writes to it."""
    number, waiting = 0, [""]
    while waiting:
        name = waiting.pop()
        with folder.folder(name) if name else folder.again() as inside:
            for entry in inside.entries():
                number += 1
                mode = entry.stat(follow_symlinks=False).st_mode
                here = f"{name}/{entry.name}" if name else entry.name
                if stat.S_ISDIR(mode):
                    waiting.append(here)
                elif not stat.S_ISREG(mode):
                    kind = "a symbolic link" if stat.S_ISLNK(mode) else "no regular file"
                    raise InputError(
                        f"{str(folder.path / here)!r} is {kind}; expected files and folders only "
                        "in a results folder: take it out, or give another folder"
                    )
        if number > MOST_FILES:
            raise InputError(
                f"{str(folder.path)!r} holds more than {MOST_FILES:,} files; expected a results "
                "folder: give another"
            )


def steadily(folder: str | Path, read: Callable[[Snapshot], T]) -> T:
    """Read a results folder, and anew where another process saves into it meanwhile."""
    for _ in range(AGAIN):
        with Snapshot.open(folder) as snapshot:
            try:
                content = read(snapshot)
            except InputError:
                if not snapshot.moved():
                    raise
            else:
                if not snapshot.moved():
                    return content
    raise InputError(
        f"{str(folder)!r} is written to all the time; expected a folder that stays as it is for a "
        "moment: wait for the end of the run there"
    )


def read_manifest(folder: str | Path) -> dict:
    """The manifest of a results folder."""
    with Snapshot.open(folder) as snapshot:
        return snapshot.manifest


def to_json(content: object) -> str:
    """JSON with stable layout; refuses NaN, which is no JSON."""

    def python(value: object) -> object:
        if isinstance(value, np.generic):
            return value.item()
        raise TypeError(f"{type(value).__name__} is no JSON")

    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False, default=python) + "\n"


def parsed_json(raw: bytes) -> object:
    """JSON that a stranger may have written: bounded numbers and depth, no NaN; or ValueError."""
    content = json.loads(
        raw.decode("utf-8"), parse_constant=_no_number, parse_int=_whole, parse_float=_finite
    )
    _check_depth(content, DEEPEST)
    return content


def manifest_digest(raw: bytes) -> str:
    """SHA-256 of what a manifest says, its layout and its own digest left out."""
    content = json.loads(raw)
    content.pop(OWN_DIGEST, None)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _no_number(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def _whole(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a whole number has {len(text):,} digits, more than {MOST_DIGITS}")
    return int(text)


def _finite(text: str) -> float:
    if abs(number := float(text)) == float("inf"):
        raise ValueError(f"{text[:20]} is too large a number")
    return number


def _check_depth(content: object, left: int) -> None:
    if not isinstance(content, dict | list):
        return
    if not left:
        raise ValueError(f"lists and objects are nested more than {DEEPEST} deep")
    for inner in content.values() if isinstance(content, dict) else content:
        _check_depth(inner, left - 1)


def parsed_manifest(raw: bytes) -> dict:
    """A manifest in the shape that the rest of the program takes for granted.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: if it has another.
    """
    manifest = parsed_json(raw)
    if not isinstance(manifest, dict):
        raise ValueError("it is no object")
    studies, commands = manifest["studies"], manifest.get("commands", [])
    if manifest["format"] not in FORMATS:
        raise ValueError(f"format {str(manifest['format'])[:20]!r}, expected {FORMAT}")
    if not isinstance(studies, dict) or not isinstance(manifest["identity"], dict):
        raise ValueError("its studies or its identity is no object")
    for name, about in studies.items():
        if not STUDY.fullmatch(name):
            raise ValueError(f"a study is called {name[:60]!r}")
        options, notes = about["options"], about["notes"]
        if not isinstance(options, dict) or not isinstance(notes, list):
            raise ValueError(f"study {name!r} has no options or no notes")
        if not all(isinstance(note, str) for note in notes):
            raise ValueError(f"study {name!r} has a note that is no text")
        digits = options.get("digits", 3)
        if not isinstance(digits, int) or isinstance(digits, bool) or not 0 <= digits <= 15:
            raise ValueError(f"study {name!r} prints {str(digits)[:20]} digits, expected 0 to 15")
        _check_number("notes", notes)
    if not isinstance(commands, list) or not all(isinstance(command, dict) for command in commands):
        raise ValueError("commands is no list of objects")
    _check_number("studies", studies)
    _check_number("commands", commands)
    if manifest["format"] == 1:
        manifest.pop("files", None)
        return manifest
    files = manifest["files"]
    _check_number("files", files)
    for name, stamp in files.items():
        inner(name)
        size, digest = stamp["bytes"], stamp["sha256"]
        if not isinstance(size, int) or len(stamp) != 2 or not _SHA256.fullmatch(digest):
            raise ValueError(f"file {name[:60]!r} has no size or no SHA-256")
    return manifest


def _check_number(what: str, entries: Sequence[object] | Mapping[str, object]) -> None:
    if len(entries) > MOST_LISTED[what]:
        raise ValueError(f"{len(entries):,} {what}, more than {MOST_LISTED[what]:,}")


_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")


def inner(name: str) -> str:
    """A name, checked to be that of a file inside a results folder; it comes from code alone."""
    if not all(_PART.fullmatch(part) for part in name.split("/")):
        raise ValueError(f"{name!r} is no name for a file in a results folder")
    return name


@contextmanager
def read_back(*folders: Path) -> Iterator[None]:
    """Whatever goes wrong over what results folders hold, as one line that names them."""
    # A damaged table, or one that a stranger wrote, can have any content under the right name.
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # content can be wrong in any way
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise InputError(
            f"what {', '.join(repr(str(folder)) for folder in folders)} holds cannot be used "
            f"({type(error).__name__}: {error}; {Path(place.filename).name}, line {place.lineno}); "
            "expected tables as this version of matchlens writes them: make them anew"
        ) from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Faults of a table's or array's file as one line that names it."""
    try:
        yield
    except InputError:
        raise
    except (
        OSError, ValueError, KeyError, TypeError, NotImplementedError, SyntaxError, MemoryError,
        OverflowError,
    ) as error:  # fmt: skip
        raise InputError(
            f"{str(path)!r} cannot be read ({error}); give another folder, or make it anew"
        ) from None


def read_array(path: Path) -> np.ndarray:
    """An array of numbers, by its path, memory-mapped and read only; the file may be no link."""
    with reading(path), Folder.open(path.parent) as folder, folder.stream(path.name) as stream:
        return array(stream)


def array(stream: BinaryIO) -> np.ndarray:
    """An array of numbers, memory-mapped and read only."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of .npy")
    read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    shape, fortran, dtype = read[version[0]](stream)
    if not np.issubdtype(dtype, np.number):
        raise ValueError("it holds no numbers")
    order = "F" if fortran else "C"
    if 0 in shape:
        return np.empty(shape, dtype, order)
    needed = dtype.itemsize * math.prod(shape)  # whole numbers of Python do not overflow
    if min(shape, default=1) < 0 or needed > os.fstat(stream.fileno()).st_size - stream.tell():
        raise ValueError(f"it ends before its {needed:,} bytes")
    return np.memmap(stream, dtype, "r", stream.tell(), shape, order)
