"""How a result shows itself: a compact block of HTML, and figures by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from matplotlib.figure import Figure

from matchlens.errors import InputError
from matchlens.report import html
from matchlens.report.main_tables import main_table
from matchlens.report.sections import section_html
from matchlens.results import Result

MOST = 20
"""Rows and notes that are shown at most."""
TITLES = {
    "explain": "Why A ranks above B",
    "evidence": "The cuts that the claims rest on",
    "ablation": "Table 1: attention cut in each direction",
    "attention": "Where attention goes, and which heads match",
    "circuits": "Query-key circuits",
    "comparison": "Results folders side by side",
    "controls": "Cuts beside their controls",
    "head-sets": "Sets of heads cut together",
    "looking": "Pairs to look into",
    "screen": "All heads screened",
    "study": "The whole study",
    "sweep-up-to": "Figure 1a: attention cut up to each layer",
    "sweep-from": "Attention cut from each layer to the top",
    "sweep-only": "Attention cut in one layer",
    "sweep-window": "Attention cut in windows of layers",
    "sweep-heads": "Every head cut alone",
}


VIEWS = ("explain", "looking")
"""Studies of single pairs, which show themselves as the page does."""
VIEW_HEADS, VIEW_LINKS = 100, 15
"""Heads and links of a head that a notebook holds of a pair."""


def pair_view(result: Result) -> str:
    """The pair view of a study of single pairs, with its style and script.

    Args:
        result: of ``explain`` or ``looking``.
    """
    from matchlens.report.page.pair_view import notebook_block
    from matchlens.report.page.sections.explaining import explained
    from matchlens.report.page.sections.looking import looked

    if result.study == "explain":
        return notebook_block(explained(result, VIEW_LINKS, alone=True))
    return notebook_block(looked(result, VIEW_HEADS, alone=True))


def result_html(result: Result) -> str:
    """A result as a block of HTML: title, of what it is, notes, main table.

    Args:
        result: of any study.
    """
    pieces = [html.element("h2", TITLES.get(result.study, result.study)), _of_what(result)]
    notes = [f"Note: {note}." for note in result.notes]
    if len(notes) > MOST:
        notes = [*notes[:MOST], f"{len(notes) - MOST} more notes."]
    pieces.append(html.listed(notes) if notes else "")
    if result.study == "comparison":
        from matchlens.report.comparing import said_html, sections

        pieces.append(said_html(result))
        pieces += [section_html(section, MOST) for section in sections(result)]
    elif result.study in VIEWS:
        pieces.append(pair_view(result))
    else:
        pieces.append(section_html(main_table(result), MOST))
    tables = ", ".join(f"{name} ({len(table)})" for name, table in result.tables.items())
    pieces.append(html.element("p", f"Tables, with .to_frame(name): {tables or 'none'}.", "said"))
    return html.block(*pieces)


def _of_what(result: Result) -> str:
    model, pairs = result.identity.get("model"), result.identity.get("pairs")
    if not isinstance(model, Mapping) or not isinstance(pairs, Mapping):
        return ""
    sources = ", ".join(str(source["collection"]) for source in pairs["sources"])
    on = f" on {sources}" if sources else ""
    return html.element("p", f"{model['name']}{on}: {pairs['number']} pairs")


def result_figure(result: Result, name: str | None = None) -> Figure:
    """A figure of a result.

    Args:
        result: of a study that has figures.
        name: which; the study's main figure where None.

    Raises:
        InputError: if the study has no figure, or none of that name; it names those there are.
    """
    names = []
    for known, figure in _figures(result):
        if name is None or name == known:
            return figure
        names.append(known)
    if not names:
        raise InputError(
            f"study {result.study!r} has no figure; look at its tables instead: to_frame(name) "
            f"with one of {', '.join(result.tables)}"
        )
    raise InputError(f"there is no figure {name!r}; expected one of: {', '.join(names)}")


def _figures(result: Result) -> Iterator[tuple[str, Figure]]:
    """The figures by name, the main one first, each drawn when it is asked for."""
    from matchlens.report.attention_figures import attention_figures
    from matchlens.report.circuits_figures import circuits_figures
    from matchlens.report.comparing_figures import comparison_figures
    from matchlens.report.drawing import (
        ablation_figures,
        controls_figures,
        head_sets_figures,
        sweep_figures,
    )
    from matchlens.report.explaining import explain_figures
    from matchlens.report.screening import screen_figures

    if result.study.startswith("sweep-"):
        return sweep_figures(result)
    drawn = {
        "ablation": ablation_figures,
        "attention": attention_figures,
        "circuits": circuits_figures,
        "comparison": comparison_figures,
        "controls": controls_figures,
        "explain": explain_figures,
        "screen": screen_figures,
        "head-sets": head_sets_figures,
    }
    return drawn[result.study](result) if result.study in drawn else iter(())
