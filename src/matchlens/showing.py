"""How results show themselves in a notebook; what draws them is imported when somebody looks."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from matchlens.arguments import typed
from matchlens.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWN_BY = "matchlens.report.notebook"
"""The module that draws, by its name: it stands above the results, which know nothing of it."""


class Shows:
    """The rich display and the figures of a result."""

    @typed
    def plot(self, name: str | None = None, **look: Any) -> Figure:
        """A figure of the study, as matplotlib's object; a notebook shows it as it is.

        Args:
            name: which; the study's main figure where None: Table 1's changes with their
                intervals, Figure 1a, Figure 1b, Figure 2.
            look: ``ax``: axes to draw into, in place of a sheet of its own; ``caption``: whether
                what the signs mean stands below the figure (else it is only its attribute
                ``caption``); ``title``; ``width``: ``column`` or ``page``.

        Raises:
            InputError: if there is no such figure; it names those there are.
        """
        unknown = set(look) - {"title", "width", "caption", "ax"}
        if unknown:
            raise InputError(
                f"plot has no argument {', '.join(map(repr, sorted(unknown)))}; expected title, "
                "width, caption or ax"
            )
        return drawing().result_figure(self, name, **look)

    def to_latex(self) -> str:
        """The study's main table in LaTeX, as the command writes it."""
        return drawing().result_latex(self)

    def _repr_html_(self) -> str:
        """What a notebook shows: escaped, self-contained, for light and dark."""
        return drawing().result_html(self)


class Bar:
    """A progress bar: tqdm's in a notebook, rich's in a terminal, none where output is piped."""

    def __init__(self) -> None:
        self._move: Callable[[int], object] | None = None
        self._close: Callable[[], object] | None = None
        self._done = 0

    def __call__(self, done: int, total: int, part: str = "") -> None:
        """Show progress; a bar closes when its pairs are done.

        Args:
            done: pairs done.
            total: pairs in all.
            part: what runs.
        """
        if self._close is not None and done < self._done:
            self._end()
        if self._close is None and done < total:
            self._open(total, part)
        self._done = done
        if self._move is not None:
            self._move(done)
        if done >= total:
            self._end()

    def _open(self, total: int, part: str) -> None:
        words = f"{part}: pairs" if part else "pairs"
        if "ipykernel" in sys.modules:
            from tqdm.auto import tqdm

            shown = tqdm(total=total, desc=words)
            self._move = lambda done: shown.update(done - shown.n)
            self._close = shown.close
        elif sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            # What else is printed stays where it goes, also if the run ends early.
            rich = Progress(
                console=Console(stderr=True),
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            task = rich.add_task(words, total=total)
            rich.start()
            self._move = lambda done: rich.update(task, completed=done)
            self._close = rich.stop

    def __del__(self) -> None:
        self._end()  # of a run that an error or a person stopped

    def _end(self) -> None:
        if self._close is not None:
            self._close()
        self._move = self._close = None


def progress_of(given: object) -> object:
    """A bar where True came, none where False came, anything else as it came.

    >>> progress_of(False), callable(progress_of(True))
    (None, True)
    """
    return {True: Bar(), False: None}[given] if isinstance(given, bool) else given


def stage_of(given: object) -> object:
    """The same for a study of several parts, which are named first.

    >>> stage_of(False), callable(stage_of(True))
    (None, True)
    """
    if given is not True:
        return None if given is False else given
    bar = Bar()
    return lambda part, done, total: bar(done, total, part)


def drawing() -> Any:
    """The module that draws."""
    return importlib.import_module(DRAWN_BY)
