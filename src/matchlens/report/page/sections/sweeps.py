"""Figure 1a and its kin: cuts layer by layer; every head alone."""

from __future__ import annotations

import math
from math import isfinite, nan

from matchlens.report.page.charts.lines import Point, Series, curves
from matchlens.report.page.charts.maps import Cell, head_map
from matchlens.report.page.definitions import DEFINITIONS
from matchlens.report.page.parts import (
    Chart,
    Column,
    Exhibit,
    Panel,
    Table,
    known,
    notes_of,
    number,
    options_of,
)
from matchlens.report.page.results_folder import ResultsFolder, Row
from matchlens.report.page.sections.cuts import columns_of, starred, tip
from matchlens.report.page.texts import (
    arrow,
    both,
    counted,
    equals,
    listed,
    num,
    reads,
    shown,
    slug,
)
from matchlens.results import Result

KINDS = {
    "up-to": ("up to each layer", "n: layers 0 to n − 1 are cut (0: none)"),
    "from": ("from each layer to the top", "n: layers n to the top are cut (last: none)"),
    "only": ("in one layer alone", "the one layer that is cut"),
    "window": ("in a window of layers", "first layer of the window that is cut"),
}
FIRST = ("Q->D", "D->Q", "D->D", "CLS->All")
"""Directions whose curves are shown at first."""
CLOSE = 0.5
"""Curves that need less than this share of the height are also drawn close up."""
WHOLE = "{CLS,Q,SEP1,D,SEP2}->All"


def figure_1a(held: ResultsFolder) -> Exhibit:
    """Curves by layer, a panel for each kind of sweep and way of cutting."""
    found = [(kind, held.get(f"sweep-{kind}")) for kind in KINDS]
    present = [(kind, one) for kind, one in found if one is not None]
    base = {
        "id": "figure-1a",
        "nav": "Figure 1a",
        "title": "Figure 1a",
        "subtitle": "The ranking, layer by layer of what is cut",
        "definition": DEFINITIONS["figure-1a"],
    }
    present = [(kind, one) for kind, one in present if held.rows(f"sweep-{kind}", "points")]
    if not present:
        absent = "Figure 1a was not made: the folder holds no sweep over layers (matchlens sweep)."
        return Exhibit(**base, absent=absent)
    panels, tables, lead, lacking = [], [], [], ()
    for kind, result in present:
        rows = held.rows(f"sweep-{kind}", "points")
        for how in dict.fromkeys(str(row["how"]) for row in rows):
            mine = [row for row in rows if row["how"] == how]
            panels += _panels(kind, how, mine, result)
        digits = held.digits(f"sweep-{kind}")
        columns = (
            Column("direction", "direction", kind="cut"),
            Column("how", "how", kind="text"),
            Column("n", "n", 0),
            *columns_of(digits)[:10],
        )
        tables.append(Table(f"figure-1a-{kind}", f"Cuts {KINDS[kind][0]}", columns, tuple(rows)))
        lead += _lead(kind, rows, result, digits)
    first = present[0][1]
    missing = [KINDS[kind][0] for kind, one in found if one is None]
    for kind, _ in present:
        lacking += impossible(held.rows(f"sweep-{kind}", "points"))
    notes = tuple(dict.fromkeys(note for _, one in present for note in notes_of(one)))
    notes = (*notes, *lacking)
    if missing:
        notes = (*notes, f"Not run: cuts {listed(missing)}.")
    return Exhibit(
        **base,
        lead=tuple(lead),
        template="curves.html.j2",
        context={"panels": panels},
        caption=(
            f"{shown(first.options['measure'])} against the layers that are cut, a curve a "
            "direction. Filled points: significant change, as Table 1's star; hollow: not. Bands: "
            "95% interval of the change, drawn around the original. Lines: the original and the "
            "random ranking. Of more than four curves only the one that is pointed at has its band."
        ),
        tables=tuple(tables),
        options=options_of(first),
        notes=notes,
    )


def _panels(kind: str, how: str, rows: list[Row], result: Result) -> list[dict[str, object]]:
    """The curves with the random ranking; where that leaves them little room, also without."""
    digits = int(str(result.options["digits"]))
    measure = shown(result.options["measure"])
    names = list(dict.fromkeys(str(row["direction"]) for row in rows))
    preferred = [name for name in names if name in FIRST] or names
    series, entries = [], []
    for place, name in enumerate(names):
        mine = sorted((r for r in rows if r["direction"] == name), key=lambda r: number(r["n"]))
        points = tuple(
            Point(
                number(row["n"]),
                number(row["mean"]),
                number(row["original"]) + number(row.get("ci_low")),
                number(row["original"]) + number(row.get("ci_high")),
                tip(row, digits, measure),
                starred(row, result.options.get("stars")),
            )
            for row in mine
        )
        series.append(Series(arrow(name), points, place))
        entries.append(
            {"place": place, "name": arrow(name), "words": reads(name), "on": name in preferred}
        )
    ends = [("original", number(rows[0]["original"])), ("random", number(result.options["random"]))]
    summary = (
        f"{measure} when a direction is cut {KINDS[kind][0]}: "
        + "; ".join(f"{one.name} ends at {num(_last(one), digits)}" for one in series)
        + f"; original {num(ends[0][1], digits)}, random ranking {num(ends[1][1], digits)}."
    )
    lines = [end for end in ends if math.isfinite(end[1])]
    name = f"figure-1a-{kind}" + ("" if how == "zero" else f"-{slug(how)}")
    label = KINDS[kind][0] + ("" if how == "zero" else f", by {shown(how, 40)}")
    about: dict[str, object] = {"id": name, "label": label, "entries": entries}
    whole = {**about, "svg": curves(series, summary, KINDS[kind][1], measure, lines=lines)}
    seen = known([value for one in series for p in one.points for value in (p.y, p.low, p.high)])
    every = [*seen, *(value for _, value in lines)]
    if not seen or max(seen) - min(seen) >= CLOSE * (max(every) - min(every)):
        return [whole]
    near = curves(series, f"Close up. {summary}", KINDS[kind][1], measure, lines=lines[:1])
    return [whole, {**about, "id": f"{name}-close", "label": f"{label}, close up", "svg": near}]


def _last(one: Series) -> float:
    """The last number of a curve that is known."""
    return next((p.y for p in reversed(one.points) if isfinite(p.y)), nan)


def impossible(rows: list[Row]) -> tuple[str, ...]:
    """What could not be measured, and why: a sentence a reason."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        reason = row.get("impossible")
        if isinstance(reason, str) and reason:
            reasons.setdefault(reason, []).append(arrow(row.get("direction", row.get("cut"))))
    return tuple(
        f"Not measured for {listed(list(dict.fromkeys(names)))}: {shown(reason, 300)}"
        for reason, names in reasons.items()
    )


def _lead(kind: str, rows: list[Row], result: Result, digits: int) -> list[str]:
    """Where the deepest fall stands, and where it first shows a star."""
    if kind not in {"up-to", "from"}:
        return []
    stars = result.options.get("stars")
    rows = [row for row in rows if isfinite(number(row["mean"]))]
    if not rows:
        return []
    deepest = min(rows, key=lambda row: (number(row["mean"]), number(row["n"])))
    name = str(deepest["direction"])
    mine = [row for row in rows if row["direction"] == name and row["how"] == deepest["how"]]
    starry = [int(number(row["n"])) for row in mine if starred(row, stars)]
    said = (
        f"Cut {KINDS[kind][0]}, {both(name)} costs most: down to "
        f"{num(deepest['mean'], digits)} at n = {num(deepest['n'], 0)}"
    )
    if starry:
        said += f"; significant {'from' if kind == 'up-to' else 'up to'} n = "
        said += str(min(starry) if kind == "up-to" else max(starry))
    return [f"{said}."]


def heads_alone(held: ResultsFolder) -> Exhibit:
    """A map of every head cut alone, a panel for each direction and way."""
    base = {
        "id": "heads",
        "nav": "Every head alone",
        "title": "Every head alone",
        "subtitle": "What is lost when one head is cut",
        "definition": DEFINITIONS["heads"],
    }
    result, rows = held.get("sweep-heads"), held.rows("sweep-heads", "points")
    if result is None or not rows:
        return Exhibit(**base, absent="Heads were not cut one by one (matchlens sweep heads).")
    digits, measure = held.digits("sweep-heads") + 1, shown(result.options["measure"])
    stars = result.options.get("stars")
    panels = []
    for key in dict.fromkeys((str(row["direction"]), str(row["how"])) for row in rows):
        mine = [row for row in rows if (row["direction"], row["how"]) == key]
        cells = [
            Cell(
                int(number(row["n"])),
                int(number(row["head"])),
                number(row["diff"]),
                f"head {row['n']}.{row['head']}: {tip(row, digits, measure)}; "
                f"{equals('q', row.get('q'))}",
                starred(row, stars),
            )
            for row in mine
        ]
        name = "the whole head" if key[0] == WHOLE else arrow(key[0])
        label = name + ("" if key[1] == "zero" else f", by {shown(key[1], 40)}")
        words = f"Change of {measure}, {label}"
        star = [cell for cell in cells if cell.star]
        largest = min(cells, key=lambda cell: cell.value if isfinite(cell.value) else 9.9)
        summary = (
            f"{words}, layers by heads: {len(star)} of {len(cells)} heads are significant; the "
            f"largest loss is {num(largest.value, digits)} at {largest.layer}.{largest.head}."
        )
        chart = Chart(head_map(cells, summary, words, digits=digits))
        note = both(key[0]) if key[0] != WHOLE else "The head reads nothing at all."
        panels.append(Panel(f"heads-{slug(label)}", label, (chart,), note))
    count = sum(starred(row, stars) for row in rows)
    measured = [row for row in rows if isfinite(number(row["diff"]))]
    worst = sorted(measured, key=lambda row: number(row["diff"]))[:3]
    said = ", ".join(
        f"{row['n']}.{row['head']} ({num(row['diff'], digits, sign=True)})" for row in worst
    )
    columns = (
        Column("direction", "direction", kind="cut"),
        Column("how", "how", kind="text"),
        Column("n", "layer", 0),
        Column("head", "head", 0),
        *columns_of(digits)[1:9],
        Column("q", "q", kind="p"),
    )
    tables = [Table("heads", "Each head cut alone", columns, tuple(rows))]
    chosen = held.rows("sweep-heads", "selected")
    if chosen:
        tables.append(Table("heads-selected", _selected_words(chosen), _SELECTED, tuple(chosen)))
    return Exhibit(
        **base,
        lead=(
            f"{count} of {counted(len(rows), 'head')} change {measure} significantly when cut "
            f"alone. The largest losses: {said}.",
            *([_selected_words(chosen)] if chosen else []),
        ),
        context={"panels": panels},
        caption="● significantly lower without the head, ▲ significantly higher (q ≤ .05).",
        tables=tuple(tables),
        options=options_of(result),
        notes=(*notes_of(result), *impossible(rows)),
    )


_SELECTED = (
    Column("direction", "direction", kind="cut"),
    Column("how", "how", kind="text"),
    Column("n", "layer", 0),
    Column("head", "head", 0),
    Column("diff_select", "change, half 0", 4, sign=True),
    Column("q_select", "q, half 0", kind="p"),
    Column("diff_report", "change, half 1", 4, sign=True),
    Column("ci_low", "95% low", 4, sign=True),
    Column("ci_high", "95% high", 4, sign=True),
    Column("p_report_holm", "p Holm", kind="p"),
    Column("held", "held", kind="flag"),
)


def _selected_words(rows: list[Row]) -> str:
    held = sum(bool(row["held"]) for row in rows)
    return (
        f"Of {counted(len(rows), 'head')} selected on one half of the queries, {held} hold on the "
        "other (same sign, Holm-corrected p ≤ .05)."
    )
