"""Table 1: what cutting each direction does to the ranking."""

from __future__ import annotations

from math import isfinite
from typing import Any

from matchlens.parts import NAMED
from matchlens.report.page.charts.svg import step
from matchlens.report.page.definitions import DEFINITIONS
from matchlens.report.page.parts import Column, Exhibit, Table, known, notes_of, number, options_of
from matchlens.report.page.results_folder import ResultsFolder, Row
from matchlens.report.page.texts import (
    NONE,
    arrow,
    both,
    chance,
    counted,
    equals,
    interval,
    num,
    reads,
    shown,
)
from matchlens.report.robustness_text import VERDICTS
from matchlens.results import Result

COLUMNS = (*(str(part) for part in NAMED), "All")
ROWS = tuple(str(part) for part in NAMED)
_BASE: dict[str, Any] = {
    "id": "table-1",
    "nav": "Table 1",
    "title": "Table 1",
    "subtitle": "What is lost when X no longer reads Y, in all layers",
    "definition": DEFINITIONS["table-1"],
}


def columns_of(digits: int) -> tuple[Column, ...]:
    """The columns of a table of conditions."""
    return (
        Column("cut", "cut", kind="cut"),
        Column("queries", "n", 0),
        Column("mean", "value", digits),
        Column("diff", "change", digits, sign=True),
        Column("share", "share of original − random", 2, sign=True),
        Column("ci_low", "95% low", digits, sign=True),
        Column("ci_high", "95% high", digits, sign=True),
        Column("p", "p", kind="p"),
        Column("p_holm", "p Holm", kind="p"),
        Column("p_flip", "p flip", kind="p"),
        Column("tau_b", "tau-b", 3),
        Column("overlap", "top-10 overlap", 2),
        Column("score_change", "score change", 3, sign=True),
    )


def table_1(held: ResultsFolder) -> Exhibit:
    """The matrix of directions, or a list of cuts where others were made."""
    result = held.get("ablation")
    rows = {str(row["cut"]): row for row in held.rows("ablation", "table1")}
    if result is None or "" not in rows:
        absent = "Table 1 was not made: the folder holds no ablation (matchlens ablation)."
        return Exhibit(**_BASE, absent=absent)
    digits = held.digits("ablation")
    measure = shown(result.options.get("measure", "the measure"))
    cuts = [row for name, row in rows.items() if name not in {"", "random"}]
    most = max((abs(value) for value in known([row.get("diff") for row in cuts])), default=0.0)
    cells = {str(row["cut"]): _cell(row, result, digits, measure, most) for row in cuts}
    is_matrix = set(cells) == {f"{x}->{y}" for x in ROWS for y in COLUMNS}
    by_how = held.rows("ablation", "agreement")
    context = {
        "measure": measure,
        "original": num(rows[""]["mean"], digits),
        "random": num(rows["random"]["mean"], digits) if "random" in rows else NONE,
        "matrix": [(x, reads(f"{x}->All").split(" read")[0], [cells[f"{x}->{y}"] for y in COLUMNS])
                   for x in ROWS] if is_matrix else None,
        "columns": COLUMNS,
        "list": None if is_matrix else list(cells.values()),
        "star": _star_words(result, len(cuts)),
        "agreement": _agreement(by_how, digits) if by_how else None,
    }  # fmt: skip
    lead = _lead(cuts, rows, result, digits, measure)
    return Exhibit(
        **_BASE,
        lead=lead,
        template="table1.html.j2",
        context=context,
        caption=(
            f"{measure} when the row's part no longer reads the column's part. "
            f"Original {context['original']}, random ranking {context['random']} (expected "
            "value). Shaded by the change; every cell explains itself when it is pointed at or "
            "focused."
        ),
        tables=(
            Table("table-1", f"{measure} under each cut", columns_of(digits), tuple(rows.values())),
        ),
        options=options_of(result),
        notes=notes_of(result),
    )


def starred(row: Row, stars: object) -> bool:
    """Whether a row has a star under the preset's test."""
    if stars == "q":
        q = row.get("q")
        return isinstance(q, float) and q <= 0.05
    return bool(row.get("significant_paper" if stars == "unpaired" else "significant"))


def lower(row: Row, digits: int) -> bool:
    """Whether the number is lower than the original at the printed precision."""
    return round(number(row.get("mean")), digits) < round(number(row.get("original")), digits)


def tip(row: Row, digits: int, measure: str) -> str:
    """What a cell says of itself."""
    n = row.get("queries")
    lines = [
        both(row["cut"]),
        f"{measure} {num(row.get('mean'), digits)} (original {num(row.get('original'), digits)})",
        f"change {num(row.get('diff'), digits, sign=True)} "
        f"({num(row.get('share'), 2, sign=True)} of original − random), 95% "
        f"{interval(row.get('ci_low'), row.get('ci_high'), digits)}",
        f"{counted(int(number(n)), 'query', 'queries')}; "
        f"{equals('p Holm', row.get('p_holm'))}, {equals('p flip', row.get('p_flip'))}",
    ]
    if "p_unpaired" in row and row.get("p_unpaired") is not None:
        lines[-1] += f", {equals('p unpaired', row.get('p_unpaired'))}"
    return "\n".join(lines)


def _cell(row: Row, result: Result, digits: int, measure: str, most: float) -> dict[str, object]:
    impossible = row.get("impossible")
    if isinstance(impossible, str) and impossible:
        return {
            "cut": arrow(row["cut"]),
            "words": reads(row["cut"]),
            "value": "n/a",
            "tip": f"{both(row['cut'])}\nnot measured: {shown(impossible, 300)}",
            "tint": "",
            "lower": False,
            "star": "",
            "change": NONE,
            "interval": NONE,
            "p": NONE,
        }
    return {
        "cut": arrow(row["cut"]),
        "words": reads(row["cut"]),
        "value": num(row.get("mean"), digits),
        "tip": tip(row, digits, measure),
        "tint": step(number(row.get("diff")), most, 4).replace("u", ""),
        "lower": lower(row, digits),
        "star": "*" if starred(row, result.options.get("stars")) else "",
        "change": num(row.get("diff"), digits, sign=True),
        "interval": interval(row.get("ci_low"), row.get("ci_high"), digits),
        "p": chance(row.get("p_holm")),
    }


def _star_words(result: Result, cells: int) -> str:
    if result.options.get("stars") == "unpaired":
        return (
            "p ≤ .05, two-tailed unpaired Student t-test over queries, uncorrected (the paper "
            "preset)"
        )
    apart = ", each way of cutting apart" if "agreement" in result.tables else ""
    return (
        f"Holm-corrected p ≤ .05 over {cells} cells{apart}, two-tailed paired t-test over queries"
    )


def _lead(
    cuts: list[Row], rows: dict[str, Row], result: Result, digits: int, measure: str
) -> tuple[str, ...]:
    stars = result.options.get("stars")
    starry = [row for row in cuts if starred(row, stars)]
    measured = [row for row in cuts if isfinite(number(row.get("diff")))]
    if not measured:
        return ()
    n = counted(int(number(rows[""]["queries"])), "query", "queries")
    said = [
        f"{len(starry)} of {counted(len(cuts), 'cut')} change {measure} significantly "
        f"({n}; original {num(rows['']['mean'], digits)})."
    ]
    worst = sorted(measured, key=lambda row: number(row["diff"]))[:3]
    falls = [
        f"{arrow(row['cut'])} ({num(row['diff'], digits, sign=True)}, "
        f"{num(row.get('share'), 2, sign=True)})"
        for row in worst
        if number(row["diff"]) < 0
    ]
    if falls:
        said.append(
            f"The largest losses, each with its share of original − random: {', '.join(falls)}."
        )
    return tuple(said)


def _agreement(rows: list[Row], digits: int) -> dict[str, object]:
    hows = [str(key) for key in rows[0] if f"{key}_star" in rows[0]]
    return {
        "hows": hows,
        "rows": [
            {
                "cut": arrow(row["cut"]),
                "words": reads(row["cut"]),
                "cells": [
                    num(row[how], digits, sign=True) + ("*" if row[f"{how}_star"] else "")
                    for how in hows
                ],
                "sign": "same" if row["same_sign"] else "differs",
                "verdict": VERDICTS.get(str(row["verdict"]), shown(row["verdict"])),
            }
            for row in rows
        ],
    }
