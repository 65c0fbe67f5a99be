"""Ctrl-C and SIGTERM while nothing runs yet: heard from the command's first moment on."""

from __future__ import annotations

import signal
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)

_heard: list[int] = []


def listen() -> None:
    """Have Ctrl-C and SIGTERM raise KeyboardInterrupt, unless the caller ignores them (nohup)."""
    _heard.clear()
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _hear)


def heard() -> bool:
    """Whether one has come.

    A library may turn the exception into one of its own, so the exception alone does not tell.
    """
    return bool(_heard)


def _hear(number: int, frame: FrameType | None) -> None:
    _heard.append(number)
    raise KeyboardInterrupt
