"""Reading a results folder back: nothing in it is trusted, and nothing outside it is touched."""

from __future__ import annotations

import json
import os
import re
import stat
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from matchlens.errors import InputError
from matchlens.files import read_text

MANIFEST = "manifest.json"
FORMAT = 1
MOST_TABLE = 8 * 2**30
"""Bytes that a table may take in memory."""
MOST_FILES = 200_000
"""Files that are looked at in a results folder."""
STUDY = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
"""What a study may be called: its name is a folder's."""


def check_inside(folder: Path) -> None:
    """See that a results folder holds files and folders only, so that it ends where it seems to.

    A symbolic link inside would let the folder's maker choose what is overwritten or deleted
    elsewhere, and a pipe would never end. The folder itself may be reached by a link.

    Args:
        folder: the results folder.

    Raises:
        InputError: if there is a link, a pipe, a socket or a device in it, or too many files.

    >>> import tempfile
    >>> check_inside(Path(tempfile.mkdtemp()))
    """
    seen, waiting = 0, [os.path.realpath(folder)]
    try:
        while waiting:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    seen += 1
                    mode = entry.stat(follow_symlinks=False).st_mode
                    if stat.S_ISDIR(mode):
                        waiting.append(entry.path)
                    elif not stat.S_ISREG(mode):
                        kind = "a symbolic link" if stat.S_ISLNK(mode) else "no regular file"
                        raise InputError(
                            f"{entry.path!r} is {kind}; expected files and folders only in a "
                            "results folder: take it out, or give another folder"
                        )
            if seen > MOST_FILES:
                raise InputError(
                    f"{str(folder)!r} holds more than {MOST_FILES:,} files; expected a results "
                    "folder: give another"
                )
    except OSError as error:
        raise InputError(
            f"{str(folder)!r} cannot be read ({error.strerror or error}); give another folder"
        ) from None


def read_manifest(folder: Path) -> dict:
    """The manifest of a results folder, whose inside is checked first.

    Raises:
        InputError: if there is none, it cannot be read, or the folder holds links or pipes.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not os.path.lexists(path):
        raise InputError(f"{str(folder)!r} is no results folder: it has no {MANIFEST}")
    check_inside(folder)
    try:
        manifest = json.loads(read_text(path), parse_constant=_no_number)
        _check(manifest)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{str(path)!r} cannot be read as a manifest ({error}); give another folder"
        ) from None
    return manifest


def _no_number(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def _check(manifest: dict) -> None:
    """The shape that the rest of the program takes for granted."""
    if manifest["format"] != FORMAT or not isinstance(manifest["studies"], dict):
        raise ValueError(f"format {manifest['format']}, expected {FORMAT}")
    manifest["identity"].items()
    for name, about in manifest["studies"].items():
        if not STUDY.fullmatch(name):
            raise ValueError(f"a study is called {name[:60]!r}")
        if not isinstance(about["options"], dict) or not isinstance(about["notes"], list):
            raise ValueError(f"study {name!r} has no options or no notes")
    commands = manifest.get("commands", [])
    if not isinstance(commands, list) or not all(isinstance(one, dict) for one in commands):
        raise ValueError("commands is no list of objects")


_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")


def inner(name: str) -> str:
    """The name of a file inside a results folder; names come from code, never from what was read.

    Args:
        name: such as ``ablation/table1.parquet``.

    Raises:
        ValueError: if it could lead out of the folder, or is no plain name.

    >>> inner("runs/0001.run")
    'runs/0001.run'
    """
    if not all(_PART.fullmatch(part) for part in name.split("/")):
        raise ValueError(f"{name!r} is no name for a file in a results folder")
    return name


@contextmanager
def read_back(*folders: Path) -> Iterator[None]:
    """Whatever goes wrong over what results folders hold, as one line that names them.

    A damaged table, or one that a stranger wrote, can have any content under the right name.

    Args:
        folders: the folders that are read.

    Raises:
        InputError: in place of any other error.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # content can be wrong in any way
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise InputError(
            f"what {', '.join(repr(str(one)) for one in folders)} holds cannot be used "
            f"({type(error).__name__}: {error}; {Path(place.filename).name}, line {place.lineno}); "
            "expected tables as this version of matchlens writes them: make them anew"
        ) from error


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """A table of plain values.

    Args:
        path: the file.
        columns: only these; all where None.

    Raises:
        InputError: if it is no such file, its columns are no plain values, or it is too large.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            about = file.metadata
            most = max(about.num_rows, 1) * max(about.num_columns, 1) * 8
            if about.num_rows < 0 or most > MOST_TABLE:
                raise ValueError(f"{about.num_rows:,} rows of {about.num_columns:,} columns")
            odd = [one.name for one in file.schema_arrow if pa.types.is_nested(one.type)]
            if odd:
                raise ValueError(f"column {odd[0]!r} holds no plain values")
        return pd.read_parquet(path, columns=None if columns is None else list(columns))
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError, MemoryError) as error:
        raise InputError(
            f"{str(path)!r} cannot be read ({error}); give another folder, or make it anew"
        ) from None


def read_array(path: Path) -> np.ndarray:
    """An array of numbers, memory-mapped and read only.

    Args:
        path: a .npy file.

    Raises:
        InputError: if it is no such file.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray) or not np.issubdtype(array.dtype, np.number):
            raise ValueError("it holds no numbers")
    except (OSError, ValueError, TypeError, SyntaxError, MemoryError, OverflowError) as error:
        raise InputError(
            f"{str(path)!r} cannot be read ({error}); give another folder, or make it anew"
        ) from None
    return array
