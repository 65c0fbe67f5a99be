"""How a result shows itself in a notebook: a compact block of HTML, and figures by name."""

from __future__ import annotations

from typing import Unpack

from markupsafe import Markup
from matplotlib.figure import Figure

from matchlens.errors import InputError
from matchlens.figures import Look
from matchlens.report import html
from matchlens.report.table import tag
from matchlens.report.texts import arrow, subject
from matchlens.report.views import compare, view_of
from matchlens.results import Result

MOST = 20
"""Rows and notes that are shown at most."""


VIEWS = ("explain", "looking")
"""Studies of single pairs, which show themselves as the page does."""
VIEW_HEADS, VIEW_LINKS = 100, 15
"""Heads and links of a head that a notebook holds of a pair."""


def pair_view(result: Result) -> Markup:
    """The pair view of a study of single pairs, with its style and script."""
    from matchlens.report.page.pair_view import notebook_block
    from matchlens.report.page.sections.explaining import explained
    from matchlens.report.page.sections.looking import looked

    if result.study == "explain":
        return Markup(notebook_block(explained(result, VIEW_LINKS, alone=True)))  # noqa: S704 - escaped by its template
    return Markup(notebook_block(looked(result, VIEW_HEADS, alone=True)))  # noqa: S704 - the same


def result_html(result: Result) -> str:
    """Show a result as HTML: what it is, its notes, its main table."""
    view = view_of(result)
    pieces = [tag("h2", view.title), tag("p", html.line(subject(result)))]
    notes = [html.line(f"Note: {note}.").replace("->", "→") for note in result.notes[:MOST]]
    if len(result.notes) > MOST:
        notes.append(f"{len(result.notes) - MOST} more notes.")
    pieces += [tag("ul", *(tag("li", note) for note in notes))] if notes else []
    if result.study == "comparison":
        pieces += [compare.sentences(result), *compare.shown(result, MOST)]
    elif result.study in VIEWS:
        pieces.append(pair_view(result))
    else:
        table = view.table(result)
        pieces += [tag("p", arrow(table.title)), table.html(MOST)]
        pieces += [tag("p", note.replace("->", "→"), class_="soft") for note in table.notes]
    names = ", ".join(f"{name} ({len(table)})" for name, table in result.tables.items())
    pieces.append(tag("p", f"Tables, with .to_frame(name): {names or 'none'}.", class_="soft"))
    return html.block(Markup("").join(pieces))


def result_figure(result: Result, name: str | None = None, **look: Unpack[Look]) -> Figure:
    """Draw a figure of a result.

    Args:
        result: of a study that has figures.
        name: which; the study's main figure where None.
        look: title, width, caption and axes; see :class:`matchlens.figures.Look`.

    Raises:
        InputError: if the study has no figure, or none of that name; it names those there are.
    """
    names = []
    for known, draw in view_of(result).figures(result):
        if name is None or name == known:
            return draw(**look)
        names.append(known)
    if not names:
        raise InputError(
            f"study {result.study!r} has no figure; look at its tables instead: to_frame(name) "
            f"with one of {', '.join(result.tables)}"
        )
    raise InputError(f"there is no figure {name!r}; expected one of: {', '.join(names)}")
