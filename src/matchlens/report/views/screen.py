"""The screen of all heads in all directions as text, LaTeX and maps, with its check."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pandas as pd

from matchlens import figures
from matchlens.figures import Drawing
from matchlens.report.exhibits import NARROW, Exhibit, Panel, chart, panels, words
from matchlens.report.results_folder import ResultsFolder
from matchlens.report.table import Row, Table, columns_of, stored
from matchlens.report.texts import (
    arrow,
    both,
    counted,
    digits_of,
    equals,
    note_lines,
    num,
    number,
    printed,
    prose,
    shown,
    slug,
)
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
    """How the screen agrees with exact cuts, in one line."""
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


def finding(result: Result) -> str:
    """The heads of the largest screened effect in either sense, in one sentence."""
    rows = [row for row in records(result.to_frame("gates")) if number(row["size"]) > 0]
    if not rows:
        return "No head changes a score in any direction."
    clauses = [f"{counted(len(rows), 'gate')} (a head in one direction) can change a score"]
    for sign, name in ((-1, "fall"), (1, "rise")):
        row = max(rows, key=lambda row: sign * number(row["change"]))
        if sign * number(row["change"]) > 0:
            exact = "not cut" if row["exact"] is None else f"{printed(row['exact'], 3)} when cut"
            clauses.append(
                f"the largest mean {name} is {printed(row['change'], 3)} logits, by head "
                f"{row['layer']}.{row['head']} in {row['direction']} ({exact})"
            )
    return f"{'; '.join(clauses)}."


STORED = "direction layer head change change_low change_high q_change exact predicted diff status"


def screen_table(result: Result) -> Table:
    """List the gates of the largest screened effect, with what their cuts do where known."""
    digits, measure = digits_of(result) + 1, str(result.options["measure"])
    rows = records(result.to_frame("gates"))
    columns = columns_of(
        f"cut change change_ci exact predicted:{digits} diff:{digits} status",
        predicted=f"{measure}, predicted", diff=f"{measure}, cut",
    )  # fmt: skip
    body = tuple({**row, "change*": number(row["q_change"]) <= 0.05} for row in rows[:SHOWN])
    title = f"The {len(body)} largest of {len(rows)} first-order effects of heads in directions"
    stars = "*: q <= .05 (Benjamini-Hochberg over all gates)."
    return Table("gates", title, columns, body, (stars, check_line(result)))


def screen_text(result: Result) -> str:
    """Print the table with the check's line."""
    table = screen_table(result)
    lines = [finding(result), "", table.title, "", *table.text(), "", *table.notes, ""]
    return "\n".join([*lines, *note_lines(result)]).rstrip() + "\n"


def screen_figures(result: Result) -> Iterator[tuple[str, Drawing]]:
    """A map of the heads for each direction, Q->D first."""
    gates = result.to_frame("gates")
    gates = pd.DataFrame(gates[gates["size"] > 0])
    gates["diff"], gates["q"] = gates["change"], gates["q_change"]
    gates["significant"] = gates["q"] <= 0.05
    gates["tip"] = [_tip(row) for row in records(gates)]
    directions = set(gates["direction"])
    for name in dict.fromkeys((*DRAWN, *sorted(directions))):
        if name in directions:
            own = pd.DataFrame(gates[gates["direction"] == name])
            words = f"{name}: screened change of the score (logits)"
            yield name, partial(figures.head_map, own, words=words, note=NOTE)


def main_maps(result: Result) -> Iterator[tuple[str, Drawing]]:
    """The maps that are files, by their files' names."""
    for name, draw in screen_figures(result):
        if name in DRAWN:
            yield name.replace("->", "-"), draw


def exhibits(folder: ResultsFolder) -> Iterator[Exhibit]:
    """Show the screen: a map of the heads for each direction, and its check."""
    result, rows = folder.get("screen"), folder.rows("screen", "gates")
    if result is None or not rows:
        return
    views = [
        Panel(f"screen-{slug(name)}", arrow(name), (chart(draw, width=NARROW),), both(name))
        for name, draw in screen_figures(result)
    ]
    title, label = "Every head in every direction", "measure, cut"
    every = stored("screen", title, rows, STORED, 3, diff=label)
    yield Exhibit(
        id="screen",
        title="All heads screened",
        subtitle="The first-order effect on the score of every head in every direction",
        lead=(prose(finding(result)), prose(check_line(result))),
        body=(
            panels("screen", views),
            words("● significantly lower, ▲ significantly higher (q ≤ .05); screened, not cut."),
        ),
        tables=(every,),
        result=result,
    )


def _tip(row: Row) -> str:
    cut = "" if row["exact"] is None else f", {num(row['exact'], 3, sign=True)} when cut"
    return (
        f"head {row['layer']}.{row['head']}: {num(row['change'], 3, sign=True)} logits "
        f"screened{cut}; {equals('q', row['q_change'])}; {shown(row['status'], 40)}"
    )
