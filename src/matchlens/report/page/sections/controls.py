"""Each cut beside its random edges."""

from __future__ import annotations

from matchlens.report.page.charts.rows import Whisker, whiskers
from matchlens.report.page.definitions import DEFINITIONS
from matchlens.report.page.held import Held, Row
from matchlens.report.page.parts import (
    Chart,
    Column,
    Exhibit,
    Panel,
    Table,
    notes_of,
    number,
    options_of,
)
from matchlens.report.page.texts import arrow, both, chance, counted, equals, interval, num, shown

KINDS = {"edges": "as many random edges", "mass": "as much random attention"}


def controls(held: Held) -> Exhibit:
    """Forest of the cuts and their controls."""
    base = {
        "id": "controls",
        "nav": "Controls",
        "title": "Controls",
        "subtitle": "Whether the direction matters, or only the amount that is cut",
        "definition": DEFINITIONS["controls"],
    }
    result, rows = held.get("controls"), held.rows("controls", "controls")
    if result is None or not rows:
        return Exhibit(
            **base,
            absent="Cuts were not compared with random edges (matchlens controls).",
        )
    digits, measure = held.digits("controls"), shown(result.options["measure"])
    forest = [(arrow(row["cut"]), _whiskers(row, digits)) for row in rows]
    said = "; ".join(
        f"{arrow(row['cut'])} {num(row['diff'], digits, sign=True)}, random edges "
        f"{num(row['edges_diff'], digits, sign=True)}, random attention "
        f"{num(row['mass_diff'], digits, sign=True)}"
        for row in rows
    )
    chart = Chart(
        whiskers(forest, f"Change of {measure}: {said}.", f"change of {measure}"), wide=True
    )
    columns = [Column("cut", "cut", kind="cut"), Column("diff", "change", digits, sign=True)]
    for kind, words in (("edges", "random edges"), ("mass", "random attention")):
        columns += [
            Column(f"{kind}_diff", words, digits, sign=True),
            Column(f"{kind}_beyond", "beyond it", digits, sign=True),
            Column(f"{kind}_low", "95% low", digits, sign=True),
            Column(f"{kind}_high", "95% high", digits, sign=True),
            Column(f"{kind}_p_holm", "p Holm", kind="p"),
        ]
    return Exhibit(
        **base,
        lead=_lead(rows, digits),
        template="controls.html.j2",
        context={
            "panels": [Panel("controls-all", "", (chart,))],
            "kinds": ["the cut", *KINDS.values()],
            "rows": [_row(row, digits) for row in rows],
        },
        caption=(
            f"Change of {measure} under each cut and under its two controls (mean of "
            f"{shown(result.options.get('draws'))} draws), with 95% intervals. Filled: significant "
            "change against the original."
        ),
        tables=(Table("controls", "Cuts beside controls", tuple(columns), tuple(rows)),),
        options=options_of(result),
        notes=notes_of(result),
    )


def _whiskers(row: Row, digits: int) -> list[Whisker]:
    own = (
        f"{both(row['cut'])}\nchange {num(row['diff'], digits, sign=True)}, 95% "
        f"{interval(row['ci_low'], row['ci_high'], digits)}; {equals('p Holm', row['p_holm'])}"
    )
    out = [
        Whisker(
            number(row["diff"]),
            number(row["ci_low"]),
            number(row["ci_high"]),
            0,
            own,
            bool(row["significant"]),
        )
    ]
    for place, (kind, words) in enumerate(KINDS.items(), start=1):
        tip = (
            f"{words}, for {arrow(row['cut'])}\n"
            f"change {num(row[f'{kind}_diff'], digits, sign=True)}, 95% "
            f"{interval(row[f'{kind}_ci_low'], row[f'{kind}_ci_high'], digits)}; "
            f"{equals('p Holm', row[f'{kind}_diff_p_holm'])}\nthe cut goes beyond it by "
            f"{num(row[f'{kind}_beyond'], digits, sign=True)}; "
            f"{equals('p Holm', row[f'{kind}_p_holm'])}"
        )
        out.append(
            Whisker(
                number(row[f"{kind}_diff"]),
                number(row[f"{kind}_ci_low"]),
                number(row[f"{kind}_ci_high"]),
                place,
                tip,
                number(row[f"{kind}_diff_p_holm"]) <= 0.05,
            )
        )
    return out


def _row(row: Row, digits: int) -> dict[str, object]:
    out: dict[str, object] = {
        "cut": arrow(row["cut"]),
        "words": both(row["cut"]).partition(": ")[2],
        "change": num(row["diff"], digits, sign=True),
        "controls": [],
    }
    cells = []
    for kind in KINDS:
        p = row[f"{kind}_p_holm"]
        cells.append(
            {
                "change": num(row[f"{kind}_diff"], digits, sign=True),
                "beyond": num(row[f"{kind}_beyond"], digits, sign=True),
                "star": "*" if number(p) <= 0.05 else "",
                "p": chance(p),
            }
        )
    return out | {"controls": cells}


def _lead(rows: list[Row], digits: int) -> tuple[str, ...]:
    beyond = [
        row
        for row in rows
        if all(
            number(row[f"{kind}_p_holm"]) <= 0.05 and number(row[f"{kind}_beyond"]) < 0
            for kind in KINDS
        )
    ]
    if not beyond:
        return (
            f"None of {counted(len(rows), 'cut')} costs significantly more than both its controls.",
        )
    names = ", ".join(
        f"{arrow(row['cut'])} ({num(row['mass_beyond'], digits, sign=True)} beyond as much random "
        "attention)"
        for row in beyond
    )
    return (f"{len(beyond)} of {counted(len(rows), 'cut')} cost more than both controls: {names}.",)
