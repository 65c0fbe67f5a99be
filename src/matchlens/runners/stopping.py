"""Cancellation on SIGINT and SIGTERM: once, the shard in work is finished; twice, stop at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from matchlens.signals import SIGNALS

LINE = b"\nmatchlens: stopping after the shard in work; once more: at once\n"


class Stopped(KeyboardInterrupt):
    """A person stopped a run between two shards."""


class Stop:
    """Cooperative cancellation on SIGINT and SIGTERM."""

    def __init__(self) -> None:
        self.asked = False
        self.heard = False
        """Whether any signal has come: a library may turn the exception into one of its own."""
        self._shielded = False

    def hear(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: raise KeyboardInterrupt now, or let the shard in work finish first."""
        self.heard = True
        if self.asked or not self._shielded:
            raise KeyboardInterrupt
        self.asked = True
        os.write(2, LINE)  # print may be in the middle of a line of its own

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals here; only the main thread of a process can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.hear) for number in SIGNALS}
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
