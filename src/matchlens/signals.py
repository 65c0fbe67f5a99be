"""Ctrl-C and SIGTERM: before anything runs, between two shards, and between two layers."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)

STOPPED = 130
"""The exit status of an interrupted command, as a shell has it."""
NOTHING_LEFT = "stopped before the end; nothing half-written was left"

_heard: list[int] = []


def _hear(number: int, frame: FrameType | None) -> None:
    _heard.append(number)
    raise KeyboardInterrupt


def end(number: int, frame: FrameType | None) -> None:
    """End the process at once.

    For the time of an import: there, Python and libraries swallow a KeyboardInterrupt or turn it
    into an exception of another class, and nothing is written yet.
    """
    os.write(2, f"matchlens: {NOTHING_LEFT}\n".encode())
    os._exit(STOPPED)


def _heeded() -> list[signal.Signals]:
    """Those that are not ignored: the shell of a script has its background ignore Ctrl-C."""
    return [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


def listen(handler: Callable[[int, FrameType | None], None] = _hear) -> None:
    """Handle Ctrl-C and SIGTERM, each unless the caller ignores it.

    Args:
        handler: called for either; raises KeyboardInterrupt where not given.
    """
    _heard.clear()
    for number in _heeded():
        signal.signal(number, handler)


def heard() -> bool:
    """Whether a signal has come since :func:`listen`.

    A library may swallow the exception, or turn it into one of its own: that alone does not tell.
    """
    return bool(_heard)


LINE = b"\nmatchlens: stopping after the shard in work; once more: at once\n"


class Stopped(KeyboardInterrupt):
    """A person stopped a run between two shards."""


class Stop:
    """Cooperative cancellation on SIGINT and SIGTERM."""

    def __init__(self) -> None:
        self.requested = False
        self.heard = False
        """Whether any signal has come: a library may turn the exception into one of its own."""
        self._shielded = False

    def hear(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: raise KeyboardInterrupt now, or let the shard in work finish first."""
        self.heard = True
        if self.requested or not self._shielded:
            raise KeyboardInterrupt
        self.requested = True
        os.write(2, LINE)  # print may be in the middle of a line of its own

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals here; only the main thread of a process can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.hear) for number in _heeded()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Let the first signal wait until the shard in work is kept."""
        before, self._shielded = self._shielded, True
        try:
            yield
        finally:
            self._shielded = before


class Cancelled(Exception):  # noqa: N818 - it is no error
    """The result of the work in hand is no longer wanted."""


_unwanted: ContextVar[Callable[[], bool] | None] = ContextVar("unwanted", default=None)


@contextmanager
def cancellable(unwanted: Callable[[], bool]) -> Iterator[None]:
    """Let work in this thread be cancelled; it looks between layers.

    Args:
        unwanted: returns whether the result is no longer wanted.

    >>> with cancellable(lambda: True):
    ...     try:
    ...         check_cancelled()
    ...     except Cancelled:
    ...         print("stopped")
    stopped
    """
    token = _unwanted.set(unwanted)
    try:
        yield
    finally:
        _unwanted.reset(token)


def check_cancelled() -> None:
    """Stop here if the result is no longer wanted.

    Raises:
        Cancelled: if it is not.
    """
    unwanted = _unwanted.get()
    if unwanted is not None and unwanted():
        raise Cancelled
