"""Each cut beside its controls."""

from __future__ import annotations

from matchlens.plan import CONTROLS
from matchlens.report.page.charts.rows import Whisker, whiskers
from matchlens.report.page.definitions import DEFINITIONS
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
from matchlens.report.page.results_folder import ResultsFolder, Row
from matchlens.report.page.texts import arrow, both, chance, counted, equals, interval, num, shown
from matchlens.report.robustness_text import controls_of, share, verdict_of


def controls(held: ResultsFolder) -> Exhibit:
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
            absent="Cuts were not compared with controls (matchlens sweep controls).",
        )
    digits, measure = held.digits("controls"), shown(result.options["measure"])
    forest = [(arrow(row["cut"]), _whiskers(row, digits)) for row in rows]
    said = "; ".join(
        f"{arrow(row['cut'])} {num(row['diff'], digits, sign=True)}, "
        + ", ".join(
            f"{CONTROLS[kind]} {num(row[f'{kind}_diff'], digits, sign=True)}"
            for kind in controls_of(row)
        )
        for row in rows
    )
    chart = Chart(
        whiskers(forest, f"Change of {measure}: {said}.", f"change of {measure}"), wide=True
    )
    kinds = [kind for kind in CONTROLS if any(kind in controls_of(row) for row in rows)]
    columns = [
        Column("cut", "cut", kind="cut"),
        Column("diff", "change", digits, sign=True),
        Column("verdict", "verdict", kind="text"),
        Column("lacking", "lacking", kind="text"),
        Column("verdict_p", "verdict p, uncorrected", kind="p"),
        Column("verdict_p_holm", "verdict p, Holm", kind="p"),
    ]
    for kind in kinds:
        words = CONTROLS[kind]
        columns += [
            Column(f"{kind}_diff", words, digits, sign=True),
            Column(f"{kind}_beyond", "beyond it", digits, sign=True),
            Column(f"{kind}_low", "95% low", digits, sign=True),
            Column(f"{kind}_high", "95% high", digits, sign=True),
            Column(f"{kind}_p", "p, uncorrected", kind="p"),
            Column(f"{kind}_p_holm", "p Holm", kind="p"),
            Column(f"{kind}_overlap_edges", "its edges in the direction", 2),
            Column(f"{kind}_overlap_mass", "its attention in the direction", 2),
        ]
    return Exhibit(
        **base,
        lead=_lead(rows, digits),
        template="controls.html.j2",
        context={
            "panels": [Panel("controls-all", "", (chart,))],
            "kinds": ["the cut", *(CONTROLS[kind] for kind in kinds)],
            "rows": [_row(row, digits) for row in rows],
            "verdicts": [verdict_of(row) for row in rows if row.get("verdict")],
        },
        caption=(
            f"Change of {measure} under each cut and under its controls (mean of "
            f"{shown(result.options.get('draws'))} draws), with 95% intervals. Filled: significant "
            "change against the original."
        ),
        tables=(
            Table(
                "controls",
                "Cuts beside controls",
                tuple(one for one in columns if one.key in rows[0]),
                tuple(rows),
            ),
        ),
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
    for place, kind in enumerate(CONTROLS, start=1):
        if kind not in controls_of(row):
            continue
        words = CONTROLS[kind]
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
    cells = []
    for kind in controls_of(row):
        of = {key: row.get(f"{kind}_{key}") for key in ("diff", "beyond", "low", "high", "p_holm")}
        cells.append(
            {
                "name": CONTROLS[kind],
                "change": num(of["diff"], digits, sign=True),
                "beyond": num(of["beyond"], digits, sign=True),
                "interval": interval(of["low"], of["high"], digits),
                "star": "*" if number(of["p_holm"]) <= 0.05 else "",
                "p": chance(of["p_holm"]),
                "edges": share(row.get(f"{kind}_overlap_edges")),
                "mass": share(row.get(f"{kind}_overlap_mass")),
            }
        )
    return {
        "cut": arrow(row["cut"]),
        "words": both(row["cut"]).partition(": ")[2],
        "change": num(row["diff"], digits, sign=True),
        "controls": cells,
    }


def _lead(rows: list[Row], digits: int) -> tuple[str, ...]:
    if not any(row.get("verdict") for row in rows):
        return ("These controls were made before the same rows' loss was controlled for.",)
    said = []
    for verdict, words in (
        ("beyond the amount", "More than the amount of attention lost is shown to matter for"),
        ("only the amount", "Only the amount of attention lost is shown to matter for"),
        ("less than the amount", "The same loss elsewhere is shown to cost more for"),
    ):
        mine = [row for row in rows if row.get("verdict") == verdict]
        if mine:
            names = ", ".join(
                f"{arrow(row['cut'])} ({num(row['rows_beyond'], digits, sign=True)} beyond the "
                f"row-matched control, p {chance(row['verdict_p_holm'])} corrected)"
                for row in mine
            )
            said.append(f"{words} {names}.")
    open_ones = [row for row in rows if row.get("verdict") == "undecided"]
    if open_ones:
        said.append(
            f"{len(open_ones)} of {counted(len(rows), 'cut')} undecided: "
            f"{', '.join(arrow(row['cut']) for row in open_ones)}."
        )
    return (" ".join(said),)
