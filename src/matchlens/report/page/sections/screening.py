"""The screen: a map of the heads for each direction, and its check against exact cuts."""

from __future__ import annotations

from matchlens.report.page.charts.maps import Cell, head_map
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
from matchlens.report.page.texts import arrow, both, equals, num, prose, shown, slug
from matchlens.report.screening import DRAWN, check_line

COLUMNS = (
    Column("direction", "direction", kind="cut"),
    Column("layer", "layer", 0),
    Column("head", "head", 0),
    Column("change", "score, screened", 3, sign=True),
    Column("change_low", "95% low", 3, sign=True),
    Column("change_high", "95% high", 3, sign=True),
    Column("q_change", "q", kind="p"),
    Column("exact", "score, cut", 3, sign=True),
    Column("predicted", "measure, predicted", 4, sign=True),
    Column("diff", "measure, cut", 4, sign=True),
    Column("status", "status", kind="text"),
)


def screening(held: ResultsFolder) -> tuple[Exhibit, ...]:
    """The exhibit of the screen; none where it was not run."""
    result, rows = held.get("screen"), held.rows("screen", "gates")
    if result is None or not rows:
        return ()
    there = {str(row["direction"]) for row in rows if number(row["size"]) > 0}
    panels = [
        _panel(name, [row for row in rows if row["direction"] == name])
        for name in dict.fromkeys((*DRAWN, *sorted(there)))
        if name in there
    ]
    exhibit = Exhibit(
        id="screen",
        nav="All heads screened",
        title="All heads screened",
        subtitle="The first-order effect on the score of every head in every direction",
        definition=DEFINITIONS["screen"],
        lead=(prose(check_line(result)),),
        context={"panels": panels},
        caption="● significantly lower, ▲ significantly higher (q ≤ .05); screened, not cut.",
        tables=(Table("screen", "Every head in every direction", COLUMNS, tuple(rows)),),
        options=options_of(result),
        notes=notes_of(result),
    )
    return (exhibit,)


def _panel(name: str, rows: list[Row]) -> Panel:
    cells = [
        Cell(
            int(number(row["layer"])),
            int(number(row["head"])),
            number(row["change"]),
            f"head {row['layer']}.{row['head']}: {num(row['change'], 3, sign=True)} logits screened"
            f"{_cut(row)}; {equals('q', row['q_change'])}; {shown(row['status'], 40)}",
            number(row["q_change"]) <= 0.05,
        )
        for row in rows
    ]
    words = f"Screened change of the score (logits), {arrow(name)}"
    least = min(cells, key=lambda cell: cell.value)
    star = sum(cell.star for cell in cells)
    summary = (
        f"{words}, layers by heads: {star} of {len(cells)} heads are significant; the largest loss "
        f"is {num(least.value, 3)} at {least.layer}.{least.head}."
    )
    chart = Chart(head_map(cells, summary, words))
    return Panel(f"screen-{slug(name)}", arrow(name), (chart,), both(name))


def _cut(row: Row) -> str:
    return "" if row["exact"] is None else f", {num(row['exact'], 3, sign=True)} when cut"
