"""How a result shows itself in a notebook: a compact block of HTML, and figures by name."""

from __future__ import annotations

from typing import Any, Unpack

from markupsafe import Markup
from matplotlib.figure import Figure

from matchlens.corpora import PairSet
from matchlens.corpora.own import own_parts
from matchlens.errors import InputError, counted
from matchlens.figures import Look
from matchlens.report import html
from matchlens.report.page import files_of
from matchlens.report.pair_view import notebook_block
from matchlens.report.table import Table, columns_of, tag
from matchlens.report.texts import arrow, subject
from matchlens.report.views import ablation, compare, view_of
from matchlens.report.views import latex_of as result_latex
from matchlens.report.views.explain import explained
from matchlens.report.views.looking import looked
from matchlens.results import Result

__all__ = ["files_of", "model_html", "pairs_html", "result_figure", "result_html", "result_latex"]

MOST = 20
"""Rows and notes that are shown at most."""


VIEWS = ("explain", "looking")
"""Studies of single pairs, which show themselves as the page does."""
VIEW_HEADS, VIEW_LINKS = 100, 15
"""Heads and links of a head that a notebook holds of a pair."""


def pair_view(result: Result) -> Markup:
    """The pair view of a study of single pairs, with its style and script."""
    if result.study == "explain":
        return Markup(notebook_block(explained(result, VIEW_LINKS, alone=True)))  # noqa: S704 - escaped by its template
    return Markup(notebook_block(looked(result, VIEW_HEADS, alone=True)))  # noqa: S704 - the same


def result_html(result: Result) -> str:
    """Show a result as HTML: what it is, its notes, its main table."""
    view = view_of(result)
    pieces = [tag("h2", view.title), tag("p", html.line(subject(result)))]
    notes = [html.line(f"Note: {note}.").replace("->", "→") for note in result.notes[:MOST]]
    if len(result.notes) > MOST:
        notes.append(f"{counted(len(result.notes) - MOST, 'more note')}.")
    pieces += [tag("ul", *(tag("li", note) for note in notes))] if notes else []
    if result.study == "comparison":
        pieces += [compare.sentences(result), *compare.shown(result, MOST)]
    elif result.study in VIEWS:
        pieces.append(pair_view(result))
    else:
        table = view.table(result)
        pieces += [tag("p", arrow(table.title)), table.html(MOST)]
        pieces += [tag("p", note.replace("->", "→"), class_="soft") for note in table.notes]
        if "measures" in result.tables:
            more = ablation.all_measures(result)
            pieces += [tag("p", arrow(more.title)), more.html(MOST)]
    names = ", ".join(f"{name} ({len(table)})" for name, table in result.tables.items())
    pieces.append(tag("p", f"Tables, with .to_frame(name): {names or 'none'}.", class_="soft"))
    return html.block(Markup("").join(pieces))


def pairs_html(pairs: PairSet) -> str:
    """Show pairs as HTML: how many, what was left out, and the first of them."""
    names = {str(pair.collection): None for pair in pairs}
    count = f"{counted(len(pairs), 'pair')} of {counted(len(pairs.ideals), 'query')}"
    pieces = [tag("h2", "Pairs"), tag("p", html.line(f"{count}: {', '.join(names)}", 300))]
    own = own_parts(pairs)
    if own:
        listed = ", ".join(f"{name} (of {part})" for name, part in own.items())
        pieces.append(tag("p", html.line(f"Own parts: {listed}", 300)))
    notes = [tag("li", html.line(f"{note}.")) for note in pairs.notes[:MOST]]
    pieces += [tag("ul", *notes)] if notes else []
    columns = columns_of("qid docid grade query=text passage=text", qid="qid")
    rows = tuple(
        {
            "qid": html.line(pair.qid, 30),
            "docid": html.line(pair.docid, 30),
            "grade": pair.grade,
            "query": html.line(pair.query, 80),
            "passage": html.line(pair.text, 160),
        }
        for pair in pairs.pairs[:MOST]
    )
    pieces.append(Table("pairs", "", columns, rows).html(MOST))
    if len(pairs) > MOST:
        pieces.append(tag("p", f"{counted(len(pairs) - MOST, 'more pair')}.", class_="soft"))
    return html.block(Markup("").join(pieces))


def model_html(model: Any) -> str:
    """Show a model as HTML: its size, its input, and what its check at load found."""
    family = model.family
    facts = {
        "model": model.name,
        "layers, heads": f"{family.n_layers}, {family.n_heads}",
        "weights": f"{model.dtype} on {model.device}",
        "input": model.template,
        "most tokens of a pair": f"{model.max_length:,}",
        "checks passed at load": ", ".join(model.checks) or "none",
    }
    rows = [
        tag("tr", tag("th", key), tag("td", html.line(text, 300))) for key, text in facts.items()
    ]
    notes = [tag("li", html.line(f"{note}.")) for note in model.notes]
    pieces = [tag("h2", "Model"), tag("table", *rows)]
    pieces += [tag("ul", *notes)] if notes else []
    return html.block(Markup("").join(pieces))


def result_figure(result: Result, name: str | None = None, **look: Unpack[Look]) -> Figure:
    """Draw a figure of a result."""
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
