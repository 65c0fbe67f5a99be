"""The screen of all heads in all directions as text, LaTeX and maps, with its check."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from matchlens import figures
from matchlens.report.numbers import columns, digits_of, note_lines, printed
from matchlens.report.sections import Section, section_latex
from matchlens.results import Result, records

SHOWN = 20
"""Gates in the table."""
NOTE = (
    "● significantly lower when screened, ▲ significantly higher (q ≤ .05). Named layer.head: the "
    "largest changes. Screened, not cut: an estimate of each head alone."
)
DRAWN = ("Q->D", "D->Q", "D->D")
"""Directions whose maps are files; the others are drawn by .plot(direction)."""


def check_line(result: Result) -> str:
    """How the screen agrees with exact cuts, in one line.

    Args:
        result: what :func:`matchlens.screen` returned.
    """
    rows = {str(row["scope"]): row for row in records(result.to_frame("agreement"))}
    parts = [
        f"{scope}: Pearson {printed(row['pearson'], 3)}, slope {printed(row['slope'], 2)}, signs "
        f"{printed(row['signs'], 3)}, largest miss {printed(row['largest_miss'], 2)} logits"
        for scope, row in rows.items()
    ]
    first = next(iter(rows.values()))
    bound = (
        f"{first['missed']} of {first['drawn']} drawn gates missed (at 95% fewer than "
        f"{printed(first['missed_at_most'], 3)} of all)"
    )
    withheld = "; the measure is not predicted" if result.options["withheld"] else ""
    return f"Check against {first['gates']} exact cuts: {'; '.join([*parts, bound])}{withheld}."


def screen_table(result: Result) -> Section:
    """The gates of the largest screened effect, with what their cuts do where they were made.

    Args:
        result: what :func:`matchlens.screen` returned.
    """
    digits, measure = digits_of(result) + 1, str(result.options["measure"])
    body = []
    rows = records(result.to_frame("gates"))
    for row in rows[:SHOWN]:
        low, high = (printed(row[f"change_{end}"], 3) for end in ("low", "high"))
        star = "*" if isinstance(row["q_change"], float) and row["q_change"] <= 0.05 else ""
        cells = [f"{printed(row['change'], 3)}{star}", f"[{low}, {high}]", printed(row["exact"], 3)]
        cells += [printed(row[name], digits) for name in ("predicted", "diff")]
        body.append((str(row["cut"]), *cells, str(row["status"])))
    head = ("cut", "score, screened", "95%", "score, cut", f"{measure}, predicted", "cut", "status")
    title = f"The {len(body)} largest of {len(rows)} first-order effects of heads in directions"
    note = f"*: q <= .05 (Benjamini-Hochberg over all gates). {check_line(result)}"
    return Section("gates", title, head, tuple(body), 1, note)


def screen_text(result: Result) -> str:
    """The table with the check's line.

    Args:
        result: what :func:`matchlens.screen` returned.
    """
    section = screen_table(result)
    lines = [section.title, "", *columns([section.head, *section.rows]), "", section.note, ""]
    return "\n".join([*lines, *note_lines(result)]).rstrip() + "\n"


def screen_figures(result: Result) -> Iterator[tuple[str, Figure]]:
    """A map of the heads for each direction, Q->D first.

    Args:
        result: what :func:`matchlens.screen` returned.
    """
    gates = result.to_frame("gates")
    gates = pd.DataFrame(gates[gates["size"] > 0])
    gates["diff"], gates["q"] = gates["change"], gates["q_change"]
    gates["significant"] = gates["q"] <= 0.05
    there = set(gates["direction"])
    for name in dict.fromkeys((*DRAWN, *sorted(there))):
        if name in there:
            some = pd.DataFrame(gates[gates["direction"] == name])
            words = f"{name}: screened change of the score (logits)"
            yield name, figures.head_map(some, words=words, note=NOTE)


def screen_files(result: Result) -> dict[str, str | bytes]:
    """The text, the table in LaTeX and the maps of the main directions.

    Args:
        result: what :func:`matchlens.screen` returned.
    """
    files: dict[str, str | bytes] = {
        "screen/screen.txt": screen_text(result),
        "screen/gates.tex": section_latex(screen_table(result)),
    }
    for name, figure in screen_figures(result):
        if name not in DRAWN:
            break
        for ending, content in figures.render(figure).items():
            files[f"screen/figures/{name.replace('->', '-')}.{ending}"] = content
    return files
