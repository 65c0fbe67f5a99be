"""Files that others made or may move: checked before they are read, reached through descriptors."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from matchlens.errors import InputError, one_line

MOST_TEXT = 256 * 2**20
"""Bytes of a JSON or text file that is read whole, at most."""
PART = ".part-"
"""How the names of half-written files begin."""
BLOCK = 1 << 20
"""Bytes that are copied at once."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


Stamp = Mapping[str, object]
"""``bytes`` and ``sha256`` of a file, as a manifest lists them."""


class OddFileError(OSError):
    """A link, a pipe, a device or a folder lies where a file is expected, or the reverse."""


def check_regular(path: Path) -> int:
    """The size of a regular file; a link to one will do."""
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise OSError(f"{path.name} is no regular file")
    return about.st_size


def read_text(path: Path) -> str:
    """A whole text file of at most :data:`MOST_TEXT` bytes.

    Raises:
        OSError: if it is no regular file, is too large, or cannot be read.
        UnicodeDecodeError: if it is not UTF-8.
    """
    if (size := check_regular(path)) > MOST_TEXT:
        raise OSError(f"{path.name} has {size:,} bytes, more than {MOST_TEXT:,}")
    return path.read_text(encoding="utf-8")


def read_json(path: str | Path, what: str, example: str) -> tuple[Any, str]:
    """The content of a JSON file that a person names, and what errors call the file."""
    where = f"{what} {one_line(str(path))!r}"
    try:
        return json.loads(read_text(Path(path))), where
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{where} cannot be read ({one_line(str(error))}); expected JSON such as {example}"
        ) from None


class Folder:
    """An open folder: what lies in it is reached through its descriptor, and no link is followed.

    A link that somebody puts in the place of a file or folder, even between two calls, raises an
    error: nothing outside the folder is read, written, moved or deleted. Names are relative,
    ``a/b/c`` reaches into folders. Every method raises OSError where it cannot do its work, and
    :class:`OddFileError` where a link, a pipe or a device lies in its way.

    Args:
        descriptor: of the folder; closed with this object.
        path: how messages name the folder.
    """

    def __init__(self, descriptor: int, path: Path) -> None:
        self.descriptor, self.path = descriptor, path

    @classmethod
    def open(cls, path: str | Path) -> Folder:
        """Open a folder by its path, which may lead through links."""
        return cls(os.open(path, _FOLDER & ~os.O_NOFOLLOW), Path(path))

    def folder(self, name: str, *, make: bool = False) -> Folder:
        """Open a folder inside this one."""
        with self._parent(name, make) as (parent, last):
            return Folder(self._entered(parent, last, make), self.path / name)

    def close(self) -> None:
        """Close the descriptor."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with suppress(OSError):
            self.close()

    def kind(self, name: str) -> str:
        """What a name stands for: ``file``, ``folder``, ``other`` (a link, a pipe, a device), or
        ``""`` where there is nothing.
        """
        try:
            with self._parent(name) as (parent, last):
                mode = os.stat(last, dir_fd=parent, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return ""
        return "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "other"

    def entries(self) -> list[os.DirEntry[str]]:
        """The entries of the folder, by name."""
        with os.scandir(self.descriptor) as entries:
            return sorted(entries, key=lambda entry: entry.name)

    def stream(self, name: str) -> BinaryIO:
        """Open a regular file to be read."""
        return os.fdopen(self._regular(name, _READ), "rb")

    def read(self, name: str, limit: int = MOST_TEXT) -> bytes:
        """The content of a regular file."""
        with self.stream(name) as stream:
            content = stream.read(limit + 1)  # it may grow meanwhile
            if len(content) > limit:
                size = os.fstat(stream.fileno()).st_size
                raise OSError(f"{name} has {size:,} bytes, more than {limit:,}")
        return content

    def stamp(self, name: str) -> Stamp:
        """The size and SHA-256 of a regular file."""
        with self.stream(name) as stream:
            return stamp_of(stream)

    def create(self, name: str, content: bytes | BinaryIO) -> Stamp:
        """Write a new file; folders on the way to it are made."""
        source = io.BytesIO(content) if isinstance(content, bytes) else content
        digest = hashlib.sha256()
        with self._parent(name, make=True) as (parent, last):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with os.fdopen(os.open(last, flags, 0o644, dir_fd=parent), "wb") as stream:
                while block := source.read(BLOCK):
                    digest.update(block)
                    stream.write(block)
                stream.flush()
                os.fsync(stream.fileno())
                return {"bytes": stream.tell(), "sha256": digest.hexdigest()}

    def write(self, name: str, content: bytes) -> None:
        """Write a file so that after any fault, even of power, it is complete or absent."""
        before, _, last = name.rpartition("/")
        with self.folder(before, make=True) if before else self.again() as parent:
            part = f"{PART}{secrets.token_hex(4)}"
            try:
                parent.create(part, content)
                parent.move(part, parent, last)
            except BaseException:
                with suppress(OSError):
                    parent.remove(part)
                raise
            os.fsync(parent.descriptor)

    def move(self, name: str, to: Folder, new: str) -> None:
        """Move a file or folder; a file of the new name is replaced."""
        with self._parent(name) as (source, last), to._parent(new, make=True) as (target, end):
            os.replace(last, end, src_dir_fd=source, dst_dir_fd=target)

    def remove(self, name: str) -> None:
        """Delete a file, where there is one."""
        with suppress(FileNotFoundError), self._parent(name) as (parent, last):
            os.unlink(last, dir_fd=parent)

    def remove_empty(self, name: str, *, deep: bool = False) -> None:
        """Delete a folder that holds nothing; any other is left."""
        with suppress(OSError), self._parent(name) as (parent, last):
            if deep:
                with self.folder(name) as inside:
                    for entry in inside.entries():
                        inside.remove_empty(entry.name, deep=True)
            os.rmdir(last, dir_fd=parent)

    def remove_tree(self, name: str) -> None:
        """Delete a folder with all that is in it, as far as that goes; links are not followed."""
        with suppress(OSError), self._parent(name) as (parent, last):
            shutil.rmtree(last, ignore_errors=True, dir_fd=parent)

    def through(self) -> Path:
        """A path that leads to this open folder whatever is put in its place.

        It holds as long as the folder is open; where the system has no such paths (it has on
        Linux), the folder's own path.
        """
        path = Path(f"/proc/self/fd/{self.descriptor}")
        return path if path.exists() else self.path

    def again(self) -> Folder:
        """The same folder, opened once more."""
        return Folder(os.dup(self.descriptor), self.path)

    @property
    def inode(self) -> tuple[int, int]:
        """What tells this folder from any other: device and inode."""
        about = os.fstat(self.descriptor)
        return about.st_dev, about.st_ino

    def own(self, name: str) -> int:
        """The descriptor of a file that is written in place; it is made where it is missing."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
        return self._regular(name, flags, linked=False)

    def _regular(self, name: str, flags: int, *, linked: bool = True) -> int:
        """The descriptor of a regular file; ``linked``: whether it may have several names."""
        with self._parent(name) as (parent, last):
            try:
                descriptor = os.open(last, flags, 0o644, dir_fd=parent)
            except OSError as error:
                raise self._explained(error, name, "file") from None
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or (about.st_nlink > 1 and not linked):
            os.close(descriptor)
            raise self._odd(name, "file")
        return descriptor

    @contextmanager
    def _parent(self, name: str, make: bool = False) -> Iterator[tuple[int, str]]:
        """The folder that holds what is named, open, and the last part of the name."""
        *parts, last = name.split("/")
        if not all(part not in ("", ".", "..") for part in (*parts, last)):
            raise ValueError(f"{name!r} is no name inside a folder")
        here, opened = self.descriptor, -1
        try:
            for part in parts:
                inside = self._entered(here, part, make)
                if opened >= 0:
                    os.close(opened)
                here = opened = inside
            yield here, last
        finally:
            if opened >= 0:
                os.close(opened)

    def _entered(self, parent: int, name: str, make: bool) -> int:
        if make:
            with suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=parent)
        try:
            return os.open(name, _FOLDER, dir_fd=parent)
        except OSError as error:
            raise self._explained(error, name, "folder") from None

    def _explained(self, error: OSError, name: str, wanted: str) -> OSError:
        odd = error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.EMLINK, errno.EISDIR)
        return self._odd(name, wanted) if odd else error

    def _odd(self, name: str, wanted: str) -> OddFileError:
        return OddFileError(
            f"{str(self.path / name)!r} is no {wanted}, but a link or something else; expected a "
            f"{wanted}: take it out"
        )


def stamp_of(stream: BinaryIO) -> Stamp:
    """The size and SHA-256 of an open file, which is read from its beginning."""
    stream.seek(0)
    digest = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
    return {"bytes": stream.seek(0, os.SEEK_END), "sha256": digest}
