"""Output on a terminal: notes, tables, and a progress bar over all of a command's work."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import typer

from matchlens.errors import visible

Reports = Callable[..., None]
"""Called with pairs done, pairs in all and, where parts have names, the name of the part."""
GUESS = 0.01
"""Share of the work that an estimate made beforehand counts as."""
_OURS = re.compile("(\n|\x1b\\[[01]m)")


def say(line: str, quiet: bool) -> None:
    """Print lines for a person to stderr, unless ``quiet``."""
    if not quiet:
        print(inert(line), file=sys.stderr)  # noqa: T201


def show(text: str) -> None:
    """Print a table or another text for a person to stdout."""
    typer.echo(inert(text), nl=False)


def inert(text: str) -> str:
    """Text that cannot act on a terminal, except for our own bold type.

    >>> bold = chr(27) + "[1mb" + chr(27) + "[0m"
    >>> inert("a" + chr(27) + "[2J" + bold) == "a" + chr(0xFFFD) + "[2J" + bold
    True
    """
    pieces = _OURS.split(text)
    return "".join(text if place % 2 else visible(text) for place, text in enumerate(pieces))


class Course:
    """The parts of a command, in order, and the share of the work that is done.

    The share never falls, and reaches 1 only when every part is done. Where the pairs of a part are
    counted from the start again, the next part of that name has begun.

    Args:
        parts: name and work of each, in any unit; parts that are reported without being listed are
            put at the end, with the mean work of a part.
        clock: returns seconds.
        seconds: what all parts are estimated to take, where that is known; it counts as much as
            :data:`GUESS` of the work, so that what is measured soon takes its place.

    >>> now = iter([0.0, 10.0, 11.0])
    >>> course = Course([("a", 1.0), ("b", 3.0)], lambda: next(now))
    >>> course.report(0, 8, "a"), course.report(8, 8, "a"), course.share
    (None, None, 0.25)
    >>> course.left
    29.0
    """

    def __init__(
        self,
        parts: Sequence[tuple[str, float]] = (),
        clock: Callable[[], float] = time.monotonic,
        seconds: float | None = None,
    ) -> None:
        self._guess = seconds
        self._names = [name for name, _ in parts]
        self._work = [max(0.0, float(work)) for _, work in parts]
        self._clock = clock
        self._at, self._done = -1, 0
        self.share = 0.0
        """Share of the work that is done, from 0 to 1."""
        self._first: tuple[float, float] | None = None
        self._last = (0.0, 0.0)

    def report(self, done: int, total: int, what: str = "") -> None:
        """Take the progress of one part."""
        same = self._at >= 0 and self._names[self._at] == what
        if not same or done < self._done:
            self._at = self._next(what)
        self._done = done
        before = sum(self._work[: self._at])
        here = self._work[self._at] * (min(1.0, done / total) if total else 0.0)
        self.share = max(self.share, min(1.0, (before + here) / (sum(self._work) or 1.0)))
        moment = (self._clock(), self.share)
        self._first = self._first or moment  # the shards of an earlier run took no time in this one
        self._last = moment

    def _next(self, what: str) -> int:
        for place in range(self._at + 1, len(self._names)):
            if self._names[place] == what:
                return place
        self._names.append(what)
        self._work.append(sum(self._work) / len(self._work) if sum(self._work) else 1.0)
        return len(self._names) - 1

    @property
    def left(self) -> float | None:
        """Seconds left at the pace so far; None where they cannot be estimated.

        They fall between two reports, too.
        """
        if self.share >= 1:
            return None
        seconds, share = self._last[0] - (self._first or self._last)[0], 0.0
        if self._first is not None:
            share = self._last[1] - self._first[1]
        if self._guess is not None:
            seconds, share = seconds + GUESS * self._guess, share + GUESS
        if share <= 0:
            return None
        since = self._clock() - self._last[0] if self._first is not None else 0.0
        return max(0.0, seconds * (1 - self.share) / share - since)

    @property
    def left_in_words(self) -> str:
        """The time left, in words."""
        if self.share >= 1:
            return "results are written"
        return "-:--:--" if self.left is None else str(timedelta(seconds=round(self.left) or 1))


@contextmanager
def progress(
    what: str,
    quiet: bool,
    parts: Callable[[], Sequence[tuple[str, float]]] | None = None,
    pace: Callable[[], float] | None = None,
) -> Iterator[Reports | None]:
    """Show a bar with the time left on stderr, where that is a terminal.

    ``parts`` returns the parts of the work (see :class:`Course`), ``pace`` how much of it is done
    in a second, about, where these are known.
    """
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn
    from rich.text import Text

    stages = () if parts is None else parts()
    work = sum(amount for _, amount in stages)
    course = Course(stages, seconds=work / pace() if pace is not None and work else None)

    class Left(ProgressColumn):
        """The time left."""

        def render(self, task: object) -> Text:
            """The column's text."""
            return Text(course.left_in_words)

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%, gone"),
        TimeElapsedColumn(),
        TextColumn("left"),
        Left(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=1.0)

        def report(done: int, total: int, part: str = what) -> None:
            course.report(done, total, part)
            pairs = f"{part}: {done:,} of {f'{total:,}' if total else '?'} pairs"
            bar.update(task, completed=course.share, description=pairs)

        yield report
