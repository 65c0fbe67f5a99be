"""Writing into a results folder: one writer at a time, and one switch that makes a save visible.

A save is prepared in the work folder, ``.matchlens-work/save-*``, where nobody looks. Renaming it
to ``.matchlens-work/commit`` is the switch: from then on readers take its files before those in
their places (:mod:`matchlens.reading`), and every writer first moves into place what is left there,
the manifest last. So a folder is as it was before, or as it is after, wherever a process dies.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import socket
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from matchlens.errors import InputError, MatchlensWarning
from matchlens.files import PART, Folder, OddFileError, Stamp
from matchlens.reading import (
    COMMIT,
    FORMAT,
    LOG,
    MANIFEST,
    MOST_MANIFEST,
    OWN_DIGEST,
    UNFINISHED,
    Snapshot,
    inner,
    manifest_digest,
    parsed_manifest,
    to_json,
)

LOCK = "lock"
PROBE = ".matchlens-"
"""Prefix of the empty folders that test whether a folder can be written."""
_SAVE = re.compile(r"save-[0-9a-f]{8}")
_PROBE = re.compile(r"\.matchlens-[a-z0-9_]{8}")
TRIES = 100
"""How often a lock is tried whose holder is taking its file away."""
_LOCKS: dict[tuple[int, int], Lock] = {}
"""The locks of this process, by the device and inode of the results folder."""


class Lock:
    """The lock on a results folder, which every writer holds; it dies with its process."""

    def __init__(self, out: Folder, work: Folder, descriptor: int, new_folders: list[Path]) -> None:
        self.out, self.work, self.new_folders = out, work, new_folders
        self._descriptor, self._times = descriptor, 1
        self._owner = _me()

    @classmethod
    def take(cls, folder: str | Path, *, inside: bool = True) -> Lock:
        """Lock a results folder, and put right what a killed writer left."""
        target = Path(os.path.realpath(folder))
        new_folders = [path for path in (target, *target.parents) if not path.exists()]
        try:
            with writing(folder):
                target.mkdir(parents=True, exist_ok=True)
                out = Folder.open(target)
                known = _LOCKS.get(out.inode)
                if inside and known is not None and known._owner == _me():
                    known._times += 1
                    return known
                lock = cls(out, *_locked(out, folder), new_folders)
                _LOCKS[out.inode] = lock
                try:
                    lock._put_right()
                except BaseException:
                    lock.leave()
                    raise
                return lock
        except InputError:
            _remove_empty(new_folders)
            raise

    def leave(self) -> None:
        """Unlock the folder; the work folder goes where nothing but the lock is in it."""
        self._times -= 1
        if self._times:
            return
        _LOCKS.pop(self.out.inode, None)
        try:
            with suppress(OSError):
                if [entry.name for entry in self.work.entries()] == [LOCK]:
                    self.work.remove(LOCK)
                    self.out.remove_empty(UNFINISHED)
        finally:
            os.close(self._descriptor)
            self.work.close()
            self.out.close()
            _remove_empty(self.new_folders)

    def _put_right(self) -> None:
        """Finish a save that was switched on, and delete one that was being prepared."""
        for entry in self.work.entries():
            if _SAVE.fullmatch(entry.name):
                self.work.remove_tree(entry.name)
            elif entry.name.startswith(PART):
                self.work.remove(entry.name)
        for entry in self.out.entries():
            if _PROBE.fullmatch(entry.name):
                self.out.remove_empty(entry.name)
        self._settle()

    @contextmanager
    def saving(self) -> Iterator[Save]:
        """A save that is prepared; what is not switched on is deleted at the end."""
        name = f"save-{secrets.token_hex(4)}"
        try:
            yield Save(self.work.folder(name, make=True), self, name)
        finally:
            self.work.remove_tree(name)

    def _switch(self, prepared: str) -> None:
        """Make a prepared save the folder's state."""
        self.work.move(prepared, self.work, COMMIT)
        os.fsync(self.work.descriptor)
        try:
            self._settle()
        except OSError as error:
            raise InputError(
                f"the results in {str(self.out.path)!r} are complete, but not all could be moved "
                f"to their places ({_why(error)}); run the same command again"
            ) from None
        except BaseException:  # a Ctrl-C waits for the moves
            self._settle()
            raise

    def _settle(self) -> None:
        """Move the files of a save that is switched on into their places; it can be done again."""
        if not self.work.kind(COMMIT):
            return
        commit = self.work.folder(COMMIT)
        if commit.kind(MANIFEST):  # else all has been moved
            new = Snapshot.of(self.out)
            old = Snapshot.of(self.out, settled=True) if self.out.kind(MANIFEST) else None
            folders = {""}
            for name in (*new.files, LOG):
                if commit.kind(name) != "file":
                    continue
                there, ours = self.out.kind(name), old is not None and old.owns(name)
                if there and not (there == "file" and (ours or name == LOG)):
                    self._put_aside(name)
                commit.move(name, self.out, name)
                folders.add(name.rpartition("/")[0])
            for name, stamp in () if old is None else old.files.items():
                gone = name not in new.files and self.out.kind(name) == "file"
                if gone and self.out.stamp(name) == stamp:
                    self.out.remove(name)
            for name in folders - {""}:
                with self.out.folder(name) as folder:
                    os.fsync(folder.descriptor)
            os.fsync(self.out.descriptor)
            commit.move(MANIFEST, self.out, MANIFEST)
            os.fsync(self.out.descriptor)
        commit.close()
        self.work.remove_empty(COMMIT, deep=True)
        if self.work.kind(COMMIT):  # it holds what is not ours
            self.work.move(COMMIT, self.work, f"left-{secrets.token_hex(4)}")

    def _put_aside(self, name: str) -> None:
        """Rename what somebody else put where a file of ours belongs."""
        number, kept = 1, f"{name}.kept"
        while self.out.kind(kept):
            number += 1
            kept = f"{name}.kept-{number}"
        self.out.move(name, self.out, kept)
        warnings.warn(
            f"{str(self.out.path / name)!r} was not written by matchlens; it is {kept!r} now",
            MatchlensWarning,
            stacklevel=2,
        )


class Save:
    """Files on their way into a results folder: all become visible at once, or none does."""

    def __init__(self, folder: Folder, lock: Lock, name: str) -> None:
        self._folder, self._lock, self._name = folder, lock, name
        self.files: dict[str, Stamp] = {}

    def add(self, name: str, content: bytes | BinaryIO) -> None:
        """Prepare a file."""
        stamp = self._folder.create(inner(name), content)
        if name != LOG:  # it holds times, and grows
            self.files[name] = stamp

    def commit(self, manifest: Mapping[str, object], kept: Mapping[str, Stamp]) -> None:
        """Switch the files on."""
        files = dict(sorted({**kept, **self.files}.items()))
        content = {**manifest, "format": FORMAT, "files": files}
        raw = b""
        for _ in range(2):  # names of files may be no Unicode
            raw = to_json(content).encode("utf-8", "backslashreplace")
            content = {**content, OWN_DIGEST: manifest.get(OWN_DIGEST) or manifest_digest(raw)}
        try:
            if len(raw) > MOST_MANIFEST:
                raise ValueError(f"{len(raw):,} bytes, more than {MOST_MANIFEST:,}")
            parsed_manifest(raw)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(
                f"{MANIFEST} could not be read again ({error}); expected plain options within its "
                "bounds: give another --out and fewer studies, or other options"
            ) from None
        self._folder.create(MANIFEST, raw)
        for name in {"", *(name.rpartition("/")[0] for name in self.files)}:
            with self._folder.folder(name) if name else self._folder.again() as folder:
                os.fsync(folder.descriptor)
        self._lock._switch(self._name)


@contextmanager
def locked(folder: str | Path) -> Iterator[Lock]:
    """Hold the lock on a results folder: see :meth:`Lock.take`."""
    lock = Lock.take(folder)
    try:
        yield lock
    finally:
        lock.leave()


def put(folder: str | Path, files: Mapping[str, bytes]) -> None:
    """Write files into a results folder that is there, such as its page."""
    Snapshot.open(folder).close()
    with locked(folder) as lock, writing(folder), lock.saving() as save:
        before = Snapshot.of(lock.out)
        for name, content in files.items():
            save.add(name, content)
        save.commit(before.manifest, before.adopted())


@contextmanager
def writing(folder: str | Path) -> Iterator[None]:
    """Faults of the disk as one line with a remedy."""
    try:
        yield
    except OSError as error:
        remedy = "give another folder (--out)"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = f"make room and run the same command again, or {remedy}"
        elif isinstance(error, OddFileError):  # it says what to do itself
            remedy = "then run the same command again"
        raise InputError(f"{str(folder)!r} cannot be written ({_why(error)}); {remedy}") from None


def _why(error: OSError) -> str:
    return error.strerror or str(error)


def _me() -> tuple[int, int]:
    return os.getpid(), threading.get_ident()


def _remove_empty(folders: list[Path]) -> None:
    for path in folders:
        with suppress(OSError):  # there is something in it
            path.rmdir()


def _locked(out: Folder, folder: str | Path) -> tuple[Folder, int]:
    """The work folder, and the descriptor of its lock file, locked."""
    for _ in range(TRIES):
        work = out.folder(UNFINISHED, make=True)
        try:
            descriptor = work.own(LOCK)
        except FileNotFoundError:
            continue  # its holder has just taken the work folder away
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                about = os.stat(LOCK, dir_fd=work.descriptor, follow_symlinks=False)
                here = out.folder(UNFINISHED)
                if os.path.samestat(about, os.fstat(descriptor)) and here.inode == work.inode:
                    holder_line = f"process {os.getpid()} on {socket.gethostname()}\n"
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, holder_line.encode(), 0)
                    return work, descriptor
        except BlockingIOError:
            holder = os.pread(descriptor, 300, 0).decode("utf-8", "replace").strip()
            os.close(descriptor)
            raise InputError(
                f"{str(folder)!r} is in use by another run ({holder or 'it has just begun'}); wait "
                "for its end, or give another folder"
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise OddFileError(f"{str(out.path / UNFINISHED)!r} changes all the time")
