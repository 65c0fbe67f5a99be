"""What attention does layer by layer: no-ops; lexical against semantic matching."""

from __future__ import annotations

from statistics import quantiles

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
from matchlens.report.page.sections.contrasts import CLASSES, DIRECTIONS, NOT_RUN
from matchlens.report.page.texts import arrow, both, chance, counted, num, slug

SPECIAL = ("CLS", "SEP1", "SEP2")
SHARES = {"mass": "share of the attention mass", "norm": "share of the norm mass"}


def no_op(held: ResultsFolder) -> Exhibit:
    """How much of what Q and D read is read from the special tokens, by mass and by norm."""
    base = {
        "id": "no-op",
        "nav": "No-op",
        "title": "No-op",
        "subtitle": "How much is read from the special tokens, and how much of it is written",
        "definition": DEFINITIONS["no-op"],
    }
    result, rows = held.get("attention"), held.rows("attention", "noop")
    if result is None or not rows:
        return Exhibit(**base, absent=f"No-ops were not looked for: {NOT_RUN}")
    kinds = [kind for kind in SHARES if f"{kind}_CLS" in rows[0]]
    notes = notes_of(result)
    if "norm" not in kinds:
        notes = (*notes, "Norm mass was not measured, so nothing is said of what heads write.")
    panels = [_no_op_panel(kind, rows) for kind in kinds]
    sinks = sum(bool(row["sink"]) for row in rows)
    said = (
        f"{sinks} of {counted(len(rows), 'head')} send half of what Q and D read, or more, to CLS "
        "and SEP"
    )
    if "norm" in kinds:
        empty = sum(bool(row["noop"]) for row in rows)
        said += f"; in {empty} of them less than half of what is written comes from there"
    columns = [Column("layer", "layer", 0), Column("head", "head", 0)]
    for kind in kinds:
        columns += [
            Column(f"{kind}_{part}", f"{part} {'norm ' if kind == 'norm' else ''}mass", 3)
            for part in (*SPECIAL, "special")
        ]
    columns += [Column("sink", "sink", kind="flag"), Column("noop", "no-op", kind="flag")]
    return Exhibit(
        **base,
        lead=(f"{said}.",),
        context={"panels": panels},
        caption=(
            "By layer: the mean over heads of what Q and D read from each special token; bands: "
            "quartiles over heads. By head: the three together, ▲ at half or more."
        ),
        tables=(Table("no-op", "Special tokens by head", tuple(columns), tuple(rows)),),
        options=options_of(result),
        notes=notes,
    )


def _no_op_panel(kind: str, rows: list[Row]) -> Panel:
    layers = sorted({int(number(row["layer"])) for row in rows})
    series = []
    for place, part in enumerate(SPECIAL):
        points = []
        for layer in layers:
            values = known([row[f"{kind}_{part}"] for row in rows if row["layer"] == layer])
            if not values:
                continue
            low, _, high = quantiles(values, n=4, method="inclusive") if values[1:] else values * 3
            mean = sum(values) / len(values)
            tip = (
                f"{part}, layer {layer}\nmean {num(mean, 3)}, quartiles {num(low, 3)} to "
                f"{num(high, 3)}\n{counted(len(values), 'head')}"
            )
            points.append(Point(float(layer), mean, low, high, tip))
        if points:
            series.append(Series(part, tuple(points), place))
    words = SHARES[kind]
    last = "; ".join(f"{one.name} {num(one.points[-1].y, 2)}" for one in series)
    summary = f"What Q and D read from the special tokens by layer, {words}; in the last: {last}."
    chart = curves(series, summary, "layer", words, width=520.0, height=330.0)
    cells = [
        Cell(
            int(number(row["layer"])),
            int(number(row["head"])),
            number(row[f"{kind}_special"]),
            f"head {row['layer']}.{row['head']}\nCLS {num(row[f'{kind}_CLS'], 3)}, SEP1 "
            f"{num(row[f'{kind}_SEP1'], 3)}, SEP2 {num(row[f'{kind}_SEP2'], 3)}\ntogether "
            f"{num(row[f'{kind}_special'], 3)}",
            number(row[f"{kind}_special"]) >= 0.5,
        )
        for row in rows
    ]
    said = f"CLS, SEP1 and SEP2 together by head, {words}."
    maps = head_map(cells, said, f"CLS, SEP1, SEP2 together, {words}", digits=2, signed=False)
    label = "by mass" if kind == "mass" else "by norm mass (what is written)"
    return Panel(f"no-op-{kind}", label, (Chart(chart), Chart(maps)))


def lexical(held: ResultsFolder) -> Exhibit:
    """The same-stem share by layer and class; semantic mass in hard against easy passages."""
    base = {
        "id": "lexical",
        "nav": "Lexical and semantic",
        "title": "Lexical and semantic matching",
        "subtitle": "How much of the reading is of the same word, layer by layer",
        "definition": DEFINITIONS["lexical"],
    }
    result, rows = held.get("attention"), held.rows("attention", "lexical")
    if result is None:
        return Exhibit(**base, absent=f"Lexical matching was not looked for: {NOT_RUN}")
    if not rows or "same_stem" not in rows[0]:
        return Exhibit(**base, absent="The same-stem share was not measured (meter same_stem).")
    panels = []
    for direction in dict.fromkeys(str(row["direction"]) for row in rows):
        mine = [row for row in rows if row["direction"] == direction]
        panels.append(_lexical_panel(direction, mine))
    order = {name: place for place, name in enumerate(DIRECTIONS)}
    panels.sort(key=lambda panel: order.get(panel[0], len(order)))
    semantic, kinds = _semantic(held), _kinds(held)
    columns = (
        Column("direction", "direction", kind="cut"),
        Column("class", "class", kind="text"),
        Column("layer", "layer", 0),
        Column("same_stem", "same-stem share", 3),
        Column("low", "lower quartile", 3),
        Column("high", "upper quartile", 3),
        Column("mass", "mass", 4),
    )
    notes = notes_of(result)
    if not kinds:
        notes = (
            *notes,
            "The collection does not tell exact words from paraphrases, so that these are not "
            "compared.",
        )
    return Exhibit(
        **base,
        lead=(*_lexical_lead(rows), *semantic),
        template="lexical.html.j2",
        context={
            "panels": [panel for _, panel in panels],
            "kinds": kinds,
            "stages": _depths(held),
            "negatives": _by_query(held, "negatives", ("hard", "easy", "more"), 4),
        },
        caption=(
            "Share of the mass on words of the row's own stem by layer, one curve for each class. "
            "Bands: quartiles over heads; the curve weights heads by mass and may lie outside."
        ),
        tables=(
            Table("lexical", "Same-stem share by layer", columns, tuple(rows)),
            *_query_tables(held),
        ),
        options=options_of(result),
        notes=notes,
    )


def _lexical_panel(direction: str, rows: list[Row]) -> tuple[str, Panel]:
    series = []
    for place, name in enumerate(CLASSES):
        points = tuple(
            Point(
                number(row["layer"]),
                number(row["same_stem"]),
                number(row["low"]),
                number(row["high"]),
                f"{arrow(direction)}, {name} passages, layer {row['layer']}\nsame-stem share "
                f"{num(row['same_stem'], 3)}, quartiles over heads {num(row['low'], 3)} to "
                f"{num(row['high'], 3)}\nmass {num(row['mass'], 4)}",
            )
            for row in rows
            if row["class"] == name
        )
        if points:
            series.append(Series(name, points, place))
    ends = "; ".join(
        f"{one.name} {num(one.points[0].y, 2)} to {num(one.points[-1].y, 2)}" for one in series
    )
    summary = f"Same-stem share of {arrow(direction)} mass, first to last layer: {ends}."
    svg = curves(series, summary, "layer", "same-stem share of the mass", height=330.0)
    return direction, Panel(f"lexical-{slug(direction)}", both(direction), (Chart(svg, wide=True),))


def _lexical_lead(rows: list[Row]) -> list[str]:
    said = []
    for direction in DIRECTIONS:
        mine = [r for r in rows if r["direction"] == direction and r["class"] == "relevant"]
        mine = [row for row in mine if row["same_stem"] is not None]
        if not mine:
            continue
        peak = max(mine, key=lambda row: number(row["same_stem"]))
        last = max(mine, key=lambda row: number(row["layer"]))
        said.append(
            f"{both(direction)}: the same-stem share is highest in layer {peak['layer']} "
            f"({num(peak['same_stem'], 2)}) and {num(last['same_stem'], 2)} in the last, in "
            "relevant passages."
        )
    return said


def _semantic(held: ResultsFolder) -> list[str]:
    """Semantic mass, hard against easy negatives, in sentences."""
    rows = [
        row
        for row in held.rows("attention", "contrasts")
        if row["meter"] == "semantic_mass" and row["contrast"] == "hard-easy"
    ]
    said = []
    for direction in DIRECTIONS:
        mine = [row for row in rows if row["direction"] == direction]
        values = known([row["diff"] for row in mine])
        if not values:
            continue
        up = sum(number(r["q"]) <= 0.05 and number(r["diff"]) > 0 for r in mine)
        down = sum(number(r["q"]) <= 0.05 and number(r["diff"]) < 0 for r in mine)
        said.append(
            f"Semantic mass {arrow(direction)} (on words of other stems), hard against easy "
            f"passages: higher in {up} of {counted(len(mine), 'head')}, lower in {down} (q ≤ .05); "
            f"mean difference {num(sum(values) / len(values), 4, sign=True)}."
        )
    return said


def _by_query(
    held: ResultsFolder, table: str, keys: tuple[str, str, str], digits: int
) -> list[dict[str, object]]:
    """Means over queries of a table that has a row for each direction and query."""
    rows = held.rows("attention", table)
    out = []
    for direction, selected in dict.fromkeys(
        (str(row["direction"]), bool(row.get("selected"))) for row in rows
    ):
        mine = [
            row
            for row in rows
            if row["direction"] == direction and bool(row.get("selected")) == selected
        ]
        cells = []
        for key in keys:
            values = known([row[key] for row in mine])
            mean = sum(values) / len(values) if values else None
            cells.append(num(mean, digits, sign=key == keys[2]))
        said = {"direction": both(direction), "queries": len(mine), "cells": cells}
        out.append({**said, "heads": mine[0].get("heads") if selected else None})
    return out


def _depths(held: ResultsFolder) -> list[dict[str, object]]:
    """The depth of both kinds of matching and their null, one row for each direction."""
    return [
        {
            "direction": both(str(row["direction"])),
            "queries": row["queries"],
            "cells": [
                *(num(row[key], 2) for key in ("lexical", "semantic")),
                *(num(row[key], 2, sign=True) for key in ("later", "null")),
                chance(row["p_later"]),
            ],
        }
        for row in held.rows("attention", "stages")
    ]


def _query_tables(held: ResultsFolder) -> tuple[Table, ...]:
    direction = Column("direction", "direction", kind="cut")
    stages = (
        direction,
        Column("queries", "queries", 0),
        *(Column(key, key, 2) for key in ("lexical", "semantic")),
        Column("later", "semantic later by", 2, sign=True),
        Column("null", "with relevance shuffled", 2, sign=True),
        Column("p_later", "p later, uncorrected", kind="p"),
        Column("p_earlier", "p earlier, uncorrected", kind="p"),
        Column("negative", "negative share", 3),
    )
    negatives = (
        direction,
        Column("selected", "heads selected", kind="text"),
        Column("heads", "heads", 0),
        Column("collection", "collection", kind="text"),
        Column("qid", "query", kind="text"),
        *(Column(key, key, 4) for key in ("hard", "easy")),
        Column("more", "more in hard", 4, sign=True),
    )
    some = (
        ("lexical-stages", "stages", "Depth of matching", stages),
        ("lexical-negatives", "negatives", "Semantic mass by query", negatives),
    )
    return tuple(
        Table(name, label, columns, tuple(held.rows("attention", table)))
        for name, table, label, columns in some
        if held.rows("attention", table)
    )


def _kinds(held: ResultsFolder) -> list[dict[str, object]]:
    """Exact words against paraphrases: heads higher and lower, a row for each direction."""
    rows = held.rows("attention", "kinds")
    quantities = list(dict.fromkeys(str(row["quantity"]) for row in rows))
    out = []
    for direction in dict.fromkeys(str(row["direction"]) for row in rows):
        cells = []
        for quantity in quantities:
            mine = [r for r in rows if (r["direction"], r["quantity"]) == (direction, quantity)]
            star = [row for row in mine if number(row["q"]) <= 0.05]
            up = sum(number(row["diff"]) > 0 for row in star)
            cells.append(
                {
                    "name": quantity.replace("_", " "),
                    "up": up,
                    "down": sum(number(row["diff"]) < 0 for row in star),
                    "heads": len(mine),
                }
            )
        out.append({"direction": both(direction), "cells": cells})
    return out
