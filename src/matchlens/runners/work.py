"""The folder of an unfinished run: its lock, what it makes, and the shards that are done."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from matchlens.errors import InputError
from matchlens.results import UNFINISHED, WORK, differences, to_json
from matchlens.runners.store import write_whole

LOCK, ABOUT, SHARDS = "lock", "about.json", "shards"
_LEFT = re.compile(r"\.(manifest|report|results|run|pairs|scores)\.[a-z]+-[a-z0-9_]{8}")
"""Names of files that a killed run was about to rename."""


class Work:
    """The work folder of a results folder, locked; made by :meth:`open`.

    Args:
        out: the results folder.
        folder: the work folder in it.
        lock: descriptor of the lock's file; the lock dies with the process.
        made: folders that were made for it, the innermost first.
    """

    def __init__(self, out: Path, folder: Path, lock: int, made: list[Path]) -> None:
        self.out, self.folder, self._lock, self._made = out, folder, lock, made

    @property
    def shards(self) -> Path:
        """The folder of the shards and of what else is needed until the results are saved."""
        return self.folder / SHARDS

    @property
    def kept(self) -> int:
        """Number of shards that are done."""
        return sum(1 for _ in self.shards.glob("*/*.shard"))

    @classmethod
    def open(cls, out: str | Path, about: Mapping[str, object]) -> Work:
        """Lock a results folder for a run, new or to be continued.

        What a killed run has left half-written is cleared away.

        Args:
            out: the results folder; it need not exist.
            about: what is made, as JSON: command, identity, options.

        Raises:
            InputError: if another run is at work there, the folder holds another unfinished run,
                or it cannot be written.
        """
        shown = repr(str(out))
        target = Path(os.path.realpath(out))
        folder = target / UNFINISHED
        made = [path for path in (target, *target.parents) if not path.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            work = cls(target, folder, _locked(folder, shown), made)
            try:
                work._agree(about, shown)
                work._clear()
            except BaseException:
                work.leave()
                raise
        except OSError as error:
            raise InputError(
                f"--out {shown} cannot be written ({error.strerror or error}); give another --out"
            ) from None
        return work

    def _agree(self, about: Mapping[str, object], shown: str) -> None:
        """See that the unfinished run that is there, if one is, is this one."""
        path = self.folder / ABOUT
        try:
            before = json.loads(path.read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            before = None
        listed = "" if before is None else differences(before, about)
        if before is None or (listed and not self.kept):
            shutil.rmtree(self.shards, ignore_errors=True)  # nobody knows what they are of
            self.shards.mkdir()
            write_whole(path, to_json(about).encode())
        elif listed:
            raise InputError(
                f"--out {shown} holds another run, which is not finished: {listed}; run that "
                f"command again to go on, give another --out, or delete {str(self.folder)!r}"
            )

    def _clear(self) -> None:
        for path in self.out.iterdir():
            if path.name.startswith(WORK) and path.name != UNFINISHED and path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif _LEFT.fullmatch(path.name):
                path.unlink()
        self.shards.mkdir(exist_ok=True)
        for path in self.shards.iterdir():
            if path.name.startswith("matchlens-"):
                shutil.rmtree(path, ignore_errors=True)
            for part in path.glob(".part-*"):
                part.unlink()

    def finish(self) -> None:
        """All is saved: nothing is left of the work."""
        shutil.rmtree(self.shards, ignore_errors=True)
        self._remove()

    def leave(self) -> int:
        """Unlock the folder, and keep what is done; where nothing is, nothing is left.

        Returns:
            The number of shards kept.
        """
        kept = self.kept
        if not kept:
            self._remove()
            for path in self._made:
                with suppress(OSError):  # there is something else in it
                    path.rmdir()
        else:
            os.close(self._lock)
        return kept

    def _remove(self) -> None:
        with suppress(OSError):
            (self.folder / ABOUT).unlink()
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


def _locked(folder: Path, shown: str) -> int:
    """Lock the folder's lock file.

    Raises:
        InputError: if another process holds it; it says which.
        OSError: if it cannot be made.
    """
    path = folder / LOCK
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 300, 0).decode("utf-8", "replace").strip()
            os.close(descriptor)
            raise InputError(
                f"--out {shown} is in use by another run ({holder or 'it has just begun'}); wait "
                "for its end, or give another --out"
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                break
        os.close(descriptor)  # its holder has finished and taken the file away
        folder.mkdir(parents=True, exist_ok=True)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    return descriptor
