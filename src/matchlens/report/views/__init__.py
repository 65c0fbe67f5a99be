"""How each study shows itself: its tables, text, figures and exhibits, one entry for each study."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
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
    matching,
    paper,
    screen,
    study,
    sweep,
)
from matchlens.report.views.study import first_table
from matchlens.results import Result

Files = dict[str, str | bytes]


def _no_figures(result: Result) -> Iterator[tuple[str, Drawing]]:
    return iter(())


def _no_exhibits(folder: ResultsFolder) -> Iterator[Exhibit]:
    return iter(())


@dataclass(frozen=True)
class View:
    """How a study shows itself.

    Args:
        title: what it is, above a notebook's block.
        table: the table by which it is known.
        text: what is printed.
        figures: its figures by name, the main one first, each drawn when it is asked for.
        exhibits: its part of the page.
        printed: the text's file in the results folder; none where empty.
        latex: the LaTeX file and its content; none where empty.
        numbered: whether figures' files are numbered instead of named.
        several: whether there are files of figures only where several ways of cutting were asked.
        files: makes the study's files in its own way, in place of all that.
    """

    title: str
    table: Callable[[Result], Table] = first_table
    text: Callable[[Result], str] | None = None
    figures: Callable[[Result], Iterable[tuple[str, Drawing]]] = _no_figures
    exhibits: Callable[[ResultsFolder], Iterable[Exhibit]] = _no_exhibits
    printed: str = ""
    latex: tuple[str, Callable[[Result], str]] | None = None
    numbered: bool = False
    several: bool = False
    files: Callable[[Result], Files] | None = None


def _points(result: Result) -> str:
    return sweep.main(result).latex()


def _sweep(title: str, exhibits: Callable[..., Iterable[Exhibit]] = _no_exhibits) -> View:
    latex = ("points.tex", _points)
    return View(title, sweep.main, sweep.text, sweep.drawn, exhibits, "points.txt", latex, True)


def _looking_text(result: Result) -> str:
    from matchlens.report.looking import looking_text

    return looking_text(result)


def _matching_latex(result: Result) -> str:
    return matching.main(result).latex(attention.title(result))


def _aligned_latex(result: Result) -> str:
    return circuits.main(result).latex(circuits.title(result))


VIEWS: Mapping[str, View] = MappingProxyType(
    {
        "wexir25": View(
            "Table 1 beside the paper's",
            paper.table,
            paper.text,
            exhibits=paper.exhibits,
            printed="comparison.txt",
            latex=("comparison.tex", paper.latex),
        ),
        "ablation": View(
            "Table 1: attention cut in each direction",
            ablation.table1,
            ablation.text,
            ablation.drawn,
            ablation.exhibits,
            "table1.txt",
            ("table1.tex", ablation.latex),
            numbered=True,
            several=True,
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
            files=screen.screen_files,
        ),
        "attention": View(
            "Where attention goes, and which heads match",
            matching.main,
            attention.text,
            attention.drawn,
            attention.exhibits,
            "attention.txt",
            ("matching.tex", _matching_latex),
        ),
        "circuits": View(
            "Query-key circuits",
            circuits.main,
            circuits.text,
            circuits.drawn,
            circuits.exhibits,
            "circuits.txt",
            ("heads.tex", _aligned_latex),
        ),
        "controls": View(
            "Cuts beside their controls",
            controls.controls,
            controls.text,
            controls.drawn,
            controls.exhibits,
            "controls.txt",
            numbered=True,
        ),
        "head-sets": View(
            "Sets of heads cut together",
            controls.head_sets,
            controls.head_sets_text,
            controls.head_sets_drawn,
            printed="sets.txt",
        ),
        "explain": View(
            "Why A ranks above B",
            explain.margin_table,
            explain.explain_text,
            explain.explain_figures,
            files=explain.explain_files,
        ),
        "looking": View("Pairs to look into", study.looks, _looking_text, printed="looking.txt"),
        "comparison": View(
            "Results folders side by side",
            compare.main,
            compare.text,
            compare.drawn,
            files=compare.files,
        ),
        "study": View("The whole study", study.table, study.text),
    }
)
"""The page shows the exhibits in this order; the pair view follows."""


def view_of(result: Result) -> View:
    """Return how a study shows itself; an unknown one by its first table."""
    return VIEWS.get(result.study, View(result.study))


def text_of(result: Result) -> str:
    """Return what a study prints; its first table where it has no text of its own."""
    text = view_of(result).text
    printed = f"{result.to_frame()}\n" if text is None else text(result)
    return printed + ablation.measures_text(result)


def files_of(result: Result) -> Files:
    """Return a study's text, LaTeX table and figures, file name to content."""
    view, files = view_of(result), Files()
    if view.files is not None:
        return view.files(result)
    if view.printed:
        files[f"{result.study}/{view.printed}"] = text_of(result)
    if "measures" in result.tables:
        files[f"{result.study}/measures.tex"] = ablation.all_measures(result).latex()
    if view.latex is not None:
        files[f"{result.study}/{view.latex[0]}"] = view.latex[1](result)
    if view.several and "agreement" not in result.tables:
        return files
    for number, (name, draw) in enumerate(view.figures(result)):
        named = f"{number:02d}" if view.numbered else name
        for ending, content in figures.render(draw()).items():
            files[f"{result.study}/figures/{named}.{ending}"] = content
    return files
