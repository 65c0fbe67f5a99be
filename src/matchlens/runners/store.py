"""A run on disk: the folder of an unfinished run, and its shards, each complete or absent."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from matchlens.errors import InputError
from matchlens.files import PART, Folder
from matchlens.reading import MOST_MANIFEST, UNFINISHED, parsed_json, to_json
from matchlens.results import differences
from matchlens.saving import Lock, writing

MAGIC = b"matchlens shard 1\n"
ABOUT = "about"
KEY = re.compile(r"[0-9a-f]{32}")
"""Names of the folders of shards: a task's key begins so."""
MOST_SHARD = 4 * 2**30
"""Bytes of a shard's file."""
_SHARD = re.compile(r"[0-9]{6}\.shard")


class DamagedError(ValueError):
    """A shard's file is not what was written."""


class Store:
    """The shards of one task in a folder.

    A file is a line that says what it is, the SHA-256 of what follows, and a safetensors content,
    which includes the task and the number of the shard.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = Path(folder), key

    def _name(self, number: int) -> str:
        return f"{self.folder.name}/{number:06d}.shard"

    def read(self, number: int) -> dict[str, np.ndarray] | None:
        """The outcome of a shard, None where it is not there."""
        try:
            with Folder.open(self.folder.parent) as parent:
                raw = parent.read(self._name(number), MOST_SHARD)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DamagedError(error.strerror or str(error)) from None
        start = len(MAGIC) + 65
        if not raw.startswith(MAGIC) or len(raw) < start:
            raise DamagedError("it is no shard")
        if raw[len(MAGIC) : start - 1] != _digest(raw[start:]):
            raise DamagedError("its checksum is wrong")
        try:
            arrays = load(raw[start:])
        except SafetensorError as error:
            raise DamagedError(str(error)) from None
        if arrays.pop(ABOUT, np.zeros(0)).tobytes() != self._about(number):
            raise DamagedError("it is another shard's")
        return arrays

    def write(self, number: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep the outcome of a shard."""
        about = np.frombuffer(self._about(number), dtype=np.uint8)
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        content = save({**contiguous, ABOUT: about})
        try:
            with Folder.open(self.folder.parent) as parent:
                parent.write(self._name(number), MAGIC + _digest(content) + b"\n" + content)
        except OSError as error:
            raise InputError(
                f"cannot write to {os.path.realpath(self.folder)!r}: {error.strerror or error}; "
                "what is done so far is kept where it can still be read: make room for it, and "
                "run the same command again to go on"
            ) from None

    def _about(self, number: int) -> bytes:
        return json.dumps({"task": self.key, "shard": number}).encode()


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


RUN_FILE, SHARDS = "about.json", "shards"
_SCRATCH = re.compile(r"matchlens-[a-z0-9_]{8}")
"""Names of the temporary folders that hold a study's arrays until they are saved."""


def _kept(shards: Folder) -> int:
    number = 0
    for entry in shards.entries():
        if KEY.fullmatch(entry.name):
            with suppress(OSError), shards.folder(entry.name) as of_task:
                names = [each.name for each in of_task.entries()]
                number += sum(_SHARD.fullmatch(name) is not None for name in names)
    return number


def unfinished(out: str | Path) -> Mapping[str, object]:
    """What identifies the run whose shards a results folder keeps; empty where it keeps none."""
    about: object = {}
    with (
        suppress(OSError, ValueError, RecursionError),
        Folder.open(out) as folder,
        folder.folder(UNFINISHED) as work,
        work.folder(SHARDS) as shards,
    ):
        about = parsed_json(work.read(RUN_FILE, MOST_MANIFEST)) if _kept(shards) else {}
    return about if isinstance(about, dict) else {}


class Work:
    """The work folder of a results folder, locked; made by :meth:`open`.

    Only files that a run itself writes there are ever deleted, by name; links are not followed.
    """

    def __init__(self, lock: Lock, shards: Folder) -> None:
        self._lock, self._shards = lock, shards

    @property
    def shards(self) -> Path:
        """A path to the shards' folder; nobody can put another folder in its place."""
        return self._shards.through()

    @property
    def kept(self) -> int:
        """Number of shards that are done."""
        return _kept(self._shards)

    @classmethod
    def open(cls, out: str | Path, about: Mapping[str, object]) -> Work:
        """Lock a results folder for a run, new or to be continued.

        What a killed run has left half-written is cleared away.
        """
        lock = Lock.take(out, inside=False)
        leave: Callable[[], object] = lock.leave
        try:
            with writing(out):
                work = cls(lock, lock.work.folder(SHARDS, make=True))
                leave = work.leave
                work._agree(about, repr(str(out)))
                work._clear(shards=False)
        except BaseException:
            leave()
            raise
        return work

    def _agree(self, about: Mapping[str, object], shown: str) -> None:
        """Check that an unfinished run in the folder, if there is one, is this run."""
        folder = self._lock.work
        try:
            before = parsed_json(folder.read(RUN_FILE, MOST_MANIFEST))
        except (FileNotFoundError, ValueError, RecursionError):
            before = None
        listed = "" if before is None else differences(before, about)
        if before is None or (listed and not self.kept):
            self._clear(shards=True)  # nobody knows what they are of
            folder.write(RUN_FILE, to_json(about).encode())
        elif listed:
            raise InputError(
                f"--out {shown} holds another run, which is not finished: {listed}; run that "
                f"command again to go on, give another --out, or delete {UNFINISHED} in it"
            )

    def _clear(self, *, shards: bool) -> None:
        """Delete half-written files and scratch folders, and with ``shards`` the shards, too."""
        for entry in self._shards.entries():
            if _SCRATCH.fullmatch(entry.name):
                self._shards.remove_tree(entry.name)
            elif KEY.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                with suppress(OSError):  # what cannot be deleted is left
                    self._clear_task(entry.name, shards)

    def _clear_task(self, key: str, shards: bool) -> None:
        with self._shards.folder(key) as of_task:
            for entry in of_task.entries():
                is_ours = entry.name.startswith(PART) or (shards and _SHARD.fullmatch(entry.name))
                if is_ours and not entry.is_dir(follow_symlinks=False):
                    of_task.remove(entry.name)
        if shards:
            self._shards.remove_empty(key)

    def finish(self) -> None:
        """Delete what the run needed, and unlock the folder."""
        self._clear(shards=True)
        self.leave()

    def leave(self) -> int:
        """Unlock the folder; finished shards are kept, and their number is returned."""
        kept = self.kept
        if not kept:
            self._clear(shards=True)
            with suppress(OSError):
                self._lock.work.remove(RUN_FILE)
            self._lock.work.remove_empty(SHARDS)
        self._lock.leave()
        return kept
