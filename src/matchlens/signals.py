"""Ctrl-C and SIGTERM while nothing runs yet; cancellation of work between two layers."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
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
