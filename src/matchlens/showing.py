"""How results show themselves in a notebook; what draws them is imported when somebody looks."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWN_BY = "matchlens.report.notebook"
"""The module that draws, by its name: it stands above the results, which know nothing of it."""


class Shows:
    """The rich display and the figures of a result."""

    def plot(self, name: str | None = None) -> Figure:
        """A figure of the study, as matplotlib's object.

        Args:
            name: which; the study's main figure where None: Table 1's changes with their
                intervals, Figure 1a, Figure 1b, Figure 2.

        Raises:
            InputError: if there is no such figure; it names those there are.
        """
        return _drawing().result_figure(self, name)

    def _repr_html_(self) -> str:
        """What a notebook shows: escaped, self-contained, for light and dark."""
        return _drawing().result_html(self)


def _drawing() -> Any:
    return importlib.import_module(DRAWN_BY)
