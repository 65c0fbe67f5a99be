"""The folder of an unfinished run: what it makes, and the shards that are done."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from matchlens.errors import InputError
from matchlens.files import Folder
from matchlens.reading import MOST_MANIFEST, UNFINISHED, parsed_json, to_json
from matchlens.results import differences
from matchlens.runners.store import KEY, clear, kept_shards
from matchlens.saving import Lock, remedy

ABOUT, SHARDS = "about.json", "shards"
_SCRATCH = re.compile(r"matchlens-[a-z0-9_]{8}")
"""Names of the temporary folders that hold a study's arrays until they are saved."""


class Work:
    """The work folder of a results folder, locked; made by :meth:`open`.

    Only what a run itself puts there is ever deleted, by its name; links are not followed.

    Args:
        lock: of the results folder.
        shards: the folder of the shards, and of what else is needed until the results are saved.
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
        with_key = (entry for entry in self._shards.entries() if KEY.fullmatch(entry.name))
        return sum(kept_shards(self._shards, entry.name) for entry in with_key)

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
        lock = Lock.take(out, inside=False)
        try:
            with _writing(out):
                work = cls(lock, lock.work.folder(SHARDS, make=True))
        except BaseException:
            lock.leave()
            raise
        try:
            with _writing(out):
                work._agree(about, repr(str(out)))
                work._clear(shards=False)
        except BaseException:
            work.leave()
            raise
        return work

    def _agree(self, about: Mapping[str, object], shown: str) -> None:
        """See that the unfinished run that is there, if one is, is this one."""
        folder = self._lock.work
        try:
            before = parsed_json(folder.read(ABOUT, MOST_MANIFEST))
        except (FileNotFoundError, ValueError, RecursionError):
            before = None
        listed = "" if before is None else differences(before, about)
        if before is None or (listed and not self.kept):
            self._clear(shards=True)  # nobody knows what they are of
            folder.write(ABOUT, to_json(about).encode())
        elif listed:
            raise InputError(
                f"--out {shown} holds another run, which is not finished: {listed}; run that "
                f"command again to go on, give another --out, or delete {UNFINISHED} in it"
            )

    def _clear(self, *, shards: bool) -> None:
        """Delete half-written files and scratch folders, and the shards where they are not needed.

        Args:
            shards: whether the shards go, too.
        """
        for entry in self._shards.entries():
            if _SCRATCH.fullmatch(entry.name):
                self._shards.remove_tree(entry.name)
            elif KEY.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                with suppress(OSError):  # what cannot be deleted is left
                    clear(self._shards, entry.name, shards=shards)

    def finish(self) -> None:
        """All is saved: delete what the run needed, and unlock the folder."""
        self._clear(shards=True)
        self.leave()

    def leave(self) -> int:
        """Unlock the folder, and keep the shards that are done; without any, nothing is left.

        Returns:
            The number of shards kept.
        """
        kept = self.kept
        if not kept:
            self._clear(shards=True)
            with suppress(OSError):
                self._lock.work.remove(ABOUT)
            self._lock.work.remove_empty(SHARDS)
        self._lock.leave()
        return kept


@contextmanager
def _writing(out: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"--out {str(out)!r} cannot be written ({error.strerror or error}); {remedy(error)}"
        ) from None
