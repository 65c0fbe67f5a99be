"""The shards of a run on disk: one file each, there whole or not at all, checked when read."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from matchlens.errors import InputError
from matchlens.files import PART, Folder

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
    in which the task and the number of the shard stand, too.

    Args:
        folder: where they lie; it is made, the folder above it must be there.
        key: of the task.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = Path(folder), key

    def path(self, number: int) -> Path:
        """The file of a shard."""
        return self.folder / f"{number:06d}.shard"

    def read(self, number: int) -> dict[str, np.ndarray] | None:
        """The outcome of a shard, None where it is not there.

        Raises:
            DamagedError: if it is there, and is not what was written.
        """
        try:
            with Folder.open(self.folder.parent) as parent:
                raw = parent.read(f"{self.folder.name}/{self.path(number).name}", MOST_SHARD)
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
        """Keep the outcome of a shard.

        Raises:
            InputError: if it cannot be written; what is there already is kept.
        """
        about = np.frombuffer(self._about(number), dtype=np.uint8)
        held = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        content = save({**held, ABOUT: about})
        try:
            with Folder.open(self.folder.parent) as parent:
                name = f"{self.folder.name}/{self.path(number).name}"
                parent.write(name, MAGIC + _digest(content) + b"\n" + content)
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


def kept_shards(folder: Folder, key: str) -> int:
    """How many shards of a task lie in a folder.

    Args:
        folder: the folder that :class:`Store` was given.
        key: the name of the task's folder in it.
    """
    try:
        with folder.folder(key) as mine:
            return sum(_SHARD.fullmatch(entry.name) is not None for entry in mine.entries())
    except OSError:  # it is no folder
        return 0


def clear(folder: Folder, key: str, *, shards: bool) -> None:
    """Delete the half-written files of a task, and its shards, by their names.

    Args:
        folder: the folder that :class:`Store` was given.
        key: the name of the task's folder in it.
        shards: whether the shards go, too.
    """
    with folder.folder(key) as mine:
        for entry in mine.entries():
            ours = entry.name.startswith(PART) or (shards and _SHARD.fullmatch(entry.name))
            if ours and not entry.is_dir(follow_symlinks=False):
                mine.remove(entry.name)
    if shards:
        folder.remove_empty(key)
