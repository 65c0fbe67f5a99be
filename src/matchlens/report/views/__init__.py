"""How each study shows itself: its tables, text, figures and exhibits, one entry for each study."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType

from matchlens import figures
from matchlens.figures import Drawing
from matchlens.report.exhibits import Exhibit
from matchlens.report.results_folder import ResultsFolder
from matchlens.report.table import Table
from matchlens.report.views import (
    ablation,
    attention,
    circuits,
    compare,
    controls,
    explain,
    looking,
    matching,
    screen,
    study,
    sweep,
)
from matchlens.report.views.study import first_table
from matchlens.results import Result

Files = dict[str, str | bytes]
Drawings = Iterable[tuple[str, Drawing]]


@dataclass(frozen=True)
class View:
    """How a study shows itself.

    Args:
        title: what it is, above a notebook's block.
        table: its main table.
        text: what is printed.
        figures: its figures by name, the main one first, each drawn when it is asked for.
        exhibits: its part of the page.
        printed: the text's file in the results folder; none where empty.
        latex: the file of the table's LaTeX; none where empty.
        to_latex: its content; the main table's where None.
        drawn: the figures that are written to files, by their files' names; all where None.
        files: further files.
    """

    title: str
    table: Callable[[Result], Table] = first_table
    text: Callable[[Result], str] | None = None
    figures: Callable[[Result], Drawings] = lambda result: ()
    exhibits: Callable[[ResultsFolder], Iterable[Exhibit]] = lambda folder: ()
    printed: str = ""
    latex: str = ""
    to_latex: Callable[[Result], str] | None = None
    drawn: Callable[[Result], Drawings] | None = None
    files: Callable[[Result], Files] = lambda result: {}


def _numbered(drawings: Drawings) -> Drawings:
    return ((f"{number:02d}", draw) for number, (_, draw) in enumerate(drawings))


def _sweep(
    title: str, exhibits: Callable[[ResultsFolder], Iterable[Exhibit]] = lambda folder: ()
) -> View:
    drawn: Callable[[Result], Drawings] = lambda result: _numbered(sweep.drawn(result))  # noqa: E731
    return View(
        title,
        sweep.main,
        sweep.text,
        sweep.drawn,
        exhibits,
        "points.txt",
        "points.tex",
        drawn=drawn,
    )


VIEWS: Mapping[str, View] = MappingProxyType(
    {
        "wexir25": View(
            "Table 1 beside the paper's",
            study.paper_table,
            study.paper_text,
            exhibits=study.paper_exhibits,
            printed="comparison.txt",
            latex="comparison.tex",
            to_latex=study.paper_latex,
        ),
        "ablation": View(
            "Table 1: attention cut in each direction",
            ablation.table1,
            ablation.text,
            ablation.drawn,
            ablation.exhibits,
            "table1.txt",
            "table1.tex",
            ablation.latex,
            # Table 1 says it all, unless cuts are made in several ways.
            lambda result: _numbered(
                ablation.drawn(result) if "agreement" in result.tables else ()
            ),
        ),
        "evidence": View("The cuts that the claims rest on", ablation.table1),
        "sweep-up-to": _sweep("Figure 1a: attention cut up to each layer", sweep.layers),
        "sweep-from": _sweep("Attention cut from each layer to the top"),
        "sweep-only": _sweep("Attention cut in one layer"),
        "sweep-window": _sweep("Attention cut in windows of layers"),
        "sweep-heads": _sweep("Every head cut alone", sweep.heads),
        "screen": View(
            "All heads screened",
            screen.screen_table,
            screen.screen_text,
            screen.screen_figures,
            screen.exhibits,
            "screen.txt",
            "gates.tex",
            drawn=screen.main_maps,
        ),
        "attention": View(
            "Where attention goes, and which heads match",
            matching.main,
            attention.text,
            attention.drawn,
            attention.exhibits,
            "attention.txt",
            "matching.tex",
            lambda result: matching.main(result).latex(attention.title(result)),
        ),
        "circuits": View(
            "Query-key circuits",
            circuits.main,
            circuits.text,
            circuits.drawn,
            circuits.exhibits,
            "circuits.txt",
            "heads.tex",
            lambda result: circuits.main(result).latex(circuits.title(result)),
        ),
        "controls": View(
            "Cuts beside their controls",
            controls.controls,
            controls.text,
            controls.drawn,
            controls.exhibits,
            "controls.txt",
            drawn=lambda result: _numbered(controls.drawn(result)),
        ),
        "head-sets": View(
            "Sets of heads cut together",
            controls.head_sets,
            controls.head_sets_text,
            controls.head_sets_drawn,
            printed="sets.txt",
        ),
        "explain": View(
            "Why one passage ranks above another",
            explain.margin_table,
            explain.explain_text,
            explain.explain_figures,
            printed="explain.txt",
            latex="margin.tex",
            drawn=lambda result: islice(explain.explain_figures(result), 1),
            files=explain.swap_file,
        ),
        "looking": View(
            "Pairs to look into", looking.looks_table, looking.looking_text, printed="looking.txt"
        ),
        "comparison": View(
            "Results folders side by side",
            compare.main,
            compare.text,
            compare.drawn,
            drawn=lambda result: (),
            files=compare.files,
        ),
        "study": View("The whole study", study.table, study.text),
    }
)
"""The page shows the exhibits in this order; the pair view follows."""


def view_of(result: Result) -> View:
    """Return a study's view; an unknown study shows its first table."""
    return VIEWS.get(result.study, View(result.study))


def text_of(result: Result) -> str:
    """Return what a study prints; its first table where it has no text of its own."""
    text = view_of(result).text or (lambda result: f"{result.to_frame()}\n")
    return text(result) + ablation.measures_text(result)


def latex_of(result: Result) -> str:
    """Return the LaTeX of a study's main table, as the command writes it."""
    view = view_of(result)
    return view.table(result).latex() if view.to_latex is None else view.to_latex(result)


def files_of(result: Result) -> Files:
    """Return a study's text, LaTeX table and figures, file name to content."""
    view, folder, files = view_of(result), result.study, Files()
    if view.printed:
        files[f"{folder}/{view.printed}"] = text_of(result)
    if "measures" in result.tables:
        files[f"{folder}/measures.tex"] = ablation.all_measures(result).latex()
    if view.latex:
        files[f"{folder}/{view.latex}"] = latex_of(result)
    for name, draw in (view.drawn or view.figures)(result):
        for ending, content in figures.render(draw()).items():
            files[f"{folder}/figures/{name}.{ending}"] = content
    return files | view.files(result)
