"""How results show themselves in a notebook; what draws them is imported when somebody looks."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from matchlens.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWN_BY = "matchlens.report.notebook"
"""The module that draws, by its name: it stands above the results, which know nothing of it."""


class Shows:
    """The rich display and the figures of a result."""

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
        return _drawing().result_figure(self, name, **look)

    def _repr_html_(self) -> str:
        """What a notebook shows: escaped, self-contained, for light and dark."""
        return _drawing().result_html(self)


def _drawing() -> Any:
    return importlib.import_module(DRAWN_BY)
