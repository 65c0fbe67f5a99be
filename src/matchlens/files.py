"""Files that others made: looked at before they are opened, and read up to a size."""

from __future__ import annotations

import stat
from pathlib import Path

MOST_TEXT = 256 * 2**20
"""Bytes of a JSON or text file that is read whole, at most."""


def check_regular(path: Path) -> int:
    """The size of a regular file; a link to one will do.

    Args:
        path: the file.

    Raises:
        OSError: if there is none, or it is a folder, a pipe or a device, which may never end.

    >>> check_regular(Path(__file__)) > 0
    True
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise OSError(f"{path.name} is no regular file")
    return about.st_size


def read_text(path: Path) -> str:
    """A whole text file of at most :data:`MOST_TEXT` bytes.

    Args:
        path: the file.

    Raises:
        OSError: if it is no regular file, is too large, or cannot be read.
        UnicodeDecodeError: if it is not UTF-8.

    >>> read_text(Path(__file__))[:3]
    '\"\"\"'
    """
    if (size := check_regular(path)) > MOST_TEXT:
        raise OSError(f"{path.name} has {size:,} bytes, more than {MOST_TEXT:,}")
    return path.read_text(encoding="utf-8")
