"""The shards of a run on disk: one file each, there whole or not at all, checked when read."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from matchlens.errors import InputError

MAGIC = b"matchlens shard 1\n"
ABOUT = "about"
WORK = ".part-"


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
            raw = self.path(number).read_bytes()
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
            self.folder.mkdir(exist_ok=True)
            write_whole(self.path(number), MAGIC + _digest(content) + b"\n" + content)
        except OSError as error:
            raise InputError(
                f"cannot write to {str(self.folder)!r}: {error.strerror or error}; what is done so "
                "far is kept where it can still be read: make room for it, and run the same "
                "command again to go on"
            ) from None

    def _about(self, number: int) -> bytes:
        return json.dumps({"task": self.key, "shard": number}).encode()


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that after any fault, of power too, it is there whole or not at all.

    Args:
        path: the file.
        content: what it holds.

    Raises:
        OSError: if it cannot be written.
    """
    descriptor, work = tempfile.mkstemp(prefix=WORK, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(work, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(work)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
