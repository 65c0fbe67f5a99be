"""Figures 1b and 1c: how attention differs between relevant, hard and easy passages."""

from __future__ import annotations

from collections.abc import Mapping

from matchlens.report.page.charts.maps import Cell, head_map
from matchlens.report.page.charts.points import Spot, outstanding, scatter
from matchlens.report.page.charts.rows import distribution
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
from matchlens.report.page.texts import arrow, both, chance, equals, listed, num, shown, slug

NOT_RUN = "attention was not measured (matchlens attention)."
DIRECTIONS = ("Q->D", "D->Q")
WORDS = {"mass": "attention mass", "peak": "largest attention"}
CELL = 17.5
"""A map's cell beside the scatter."""
MOST_BESIDE = 14
"""Layers of which two maps stand beside the scatter, one above the other."""
CLASSES = ("relevant", "hard", "easy")
Keyed = Mapping[tuple[str, str, str], dict[tuple[int, int], Row]]


def keyed(rows: list[Row]) -> Keyed:
    """Contrasts by meter, contrast and direction, then by head."""
    out: dict[tuple[str, str, str], dict[tuple[int, int], Row]] = {}
    for row in rows:
        key = (str(row["meter"]), str(row["contrast"]), str(row["direction"]))
        out.setdefault(key, {})[int(number(row["layer"])), int(number(row["head"]))] = row
    return out


def words_of(contrast: str) -> str:
    """A contrast with a real minus."""
    return contrast.replace("-", " − ")


def figure_1b(held: ResultsFolder) -> Exhibit:
    """Q->D against D->Q, a panel for each contrast: the scatter and the two maps."""
    base = {
        "id": "figure-1b",
        "nav": "Figure 1b",
        "title": "Figure 1b",
        "subtitle": "Which heads read more in relevant passages",
        "definition": DEFINITIONS["figure-1b"],
    }
    result, rows = held.get("attention"), held.rows("attention", "contrasts")
    by = keyed([row for row in rows if row["meter"] == "mass" and row["direction"] in DIRECTIONS])
    if result is None or not by:
        return Exhibit(**base, absent=f"Figure 1b was not made: {NOT_RUN}")
    panels, tables, lead = [], [], []
    for contrast in dict.fromkeys(key[1] for key in by):
        sides = [by.get(("mass", contrast, name), {}) for name in DIRECTIONS]
        panels.append(_panel_1b(contrast, sides))
        lead += _lead_1b(contrast, sides)
        tables.append(_table_1b(contrast, sides))
    return Exhibit(
        **base,
        lead=tuple(lead),
        context={"panels": panels},
        caption=(
            "Each point is a head; filled where one of the two differences is significant "
            "(q ≤ .05), "
            "named layer.head where it stands out. Maps: ▲ significantly more in the first class, "
            "● significantly less; layer 0 is at the bottom."
        ),
        tables=tuple(tables),
        options=options_of(result),
        notes=notes_of(result),
    )


def _star(row: Row | None) -> bool:
    return row is not None and number(row.get("q")) <= 0.05


def _tip(name: tuple[int, int], sides: Mapping[str, dict[tuple[int, int], Row]]) -> str:
    lines = [f"head {name[0]}.{name[1]}"]
    for direction, side in sides.items():
        row = side.get(name)
        if row is not None:
            lines.append(
                f"{arrow(direction)} {num(row['diff'], 4, sign=True)}, {equals('q', row['q'])}, "
                f"AUC {num(row['auc'], 2)}, n = {num(row['queries'], 0)} queries"
            )
    return "\n".join(lines)


def _panel_1b(contrast: str, sides: list[dict[tuple[int, int], Row]]) -> Panel:
    words = words_of(contrast)
    spots = [
        Spot(
            f"{name[0]}.{name[1]}",
            number(sides[0][name]["diff"]),
            number(sides[1].get(name, {}).get("diff")),
            _tip(name, dict(zip(DIRECTIONS, sides, strict=True))),
            filled=_star(sides[0][name]) or _star(sides[1].get(name)),
        )
        for name in sides[0]
    ]
    far = ", ".join(spot.name for spot in outstanding(spots))
    stars = [sum(_star(row) for row in side.values()) for side in sides]
    summary = (
        f"Attention mass, {words}: Q to D against D to Q, {len(spots)} heads; significant in "
        f"{stars[0]} heads for Q to D and {stars[1]} for D to Q; outstanding: {far or 'none'}."
    )
    charts = [
        Chart(
            scatter(
                spots,
                summary,
                f"Q → D attention mass, {words}",
                f"D → Q attention mass, {words}",
                width=560.0,
                height=520.0,
            )
        )
    ]
    for direction, side in zip(DIRECTIONS, sides, strict=True):
        cells = [
            Cell(*name, number(row["diff"]), _tip(name, {direction: side}), _star(row))
            for name, row in side.items()
        ]
        if cells:
            label = f"{arrow(direction)} mass, {words}"
            up = sum(cell.star and cell.value > 0 for cell in cells)
            down = sum(cell.star and cell.value < 0 for cell in cells)
            said = f"{label}, layers by heads: {up} heads significantly higher, {down} lower."
            charts.append(Chart(head_map(cells, said, label, largest=CELL)))
    beside = max(name[0] for name in sides[0]) < MOST_BESIDE
    return Panel(f"figure-1b-{slug(contrast)}", words, tuple(charts), beside=beside)


def _lead_1b(contrast: str, sides: list[dict[tuple[int, int], Row]]) -> list[str]:
    said = []
    for direction, side in zip(DIRECTIONS, sides, strict=True):
        up = sum(_star(row) and number(row["diff"]) > 0 for row in side.values())
        down = sum(_star(row) and number(row["diff"]) < 0 for row in side.values())
        said.append(f"{arrow(direction)} mass is higher in {up} and lower in {down}")
    first, second = contrast.split("-")
    total = len(sides[0])
    return [
        f"{first.capitalize()} against {second} passages: {said[0]} of {total} heads, {said[1]} "
        "(q ≤ .05)."
    ]


def _table_1b(contrast: str, sides: list[dict[tuple[int, int], Row]]) -> Table:
    columns = [Column("layer", "layer", 0), Column("head", "head", 0), Column("queries", "n", 0)]
    for direction in DIRECTIONS:
        columns += [
            Column(f"{direction} diff", f"{arrow(direction)} change", 4, sign=True),
            Column(f"{direction} q", "q", kind="p"),
            Column(f"{direction} auc", "AUC", 2),
        ]
    rows = []
    for name in sides[0]:
        row: Row = {"layer": name[0], "head": name[1], "queries": sides[0][name]["queries"]}
        for direction, side in zip(DIRECTIONS, sides, strict=True):
            for key in ("diff", "q", "auc"):
                row[f"{direction} {key}"] = side.get(name, {}).get(key)
        rows.append(row)
    label = f"Attention mass by head, {words_of(contrast)}"
    return Table(f"figure-1b-{slug(contrast)}", label, tuple(columns), tuple(rows))


def figure_1c(held: ResultsFolder, shown_heads: int = 6) -> Exhibit:
    """Peak against entropy, a panel for each direction; and the distributions of chosen heads.

    Args:
        held: the folder.
        shown_heads: heads a direction whose distributions are drawn.
    """
    base = {
        "id": "figure-1c",
        "nav": "Figure 1c",
        "title": "Figure 1c",
        "subtitle": "How peaked the reading is, and how well single heads tell passages apart",
        "definition": DEFINITIONS["figure-1c"],
    }
    result = held.get("attention")
    if result is None:
        return Exhibit(**base, absent=f"Figure 1c was not made: {NOT_RUN}")
    by = keyed(held.rows("attention", "contrasts"))
    meters = dict.fromkeys(key[0] for key in by)
    notes, panels, tables = list(notes_of(result)), [], []
    across = "peak" if "peak" in meters else "mass"
    contrast = next((key[1] for key in by), "relevant-easy")
    if "entropy" in meters:
        for direction in DIRECTIONS:
            if (across, contrast, direction) in by:
                panels.append(_panel_1c(by, across, contrast, direction))
                tables.append(_table_1c(by, across, contrast, direction))
    else:
        notes.append("Entropy was not measured, so that the scatter is not drawn.")
    groups = _distributions(held.rows("attention", "distributions"), shown_heads)
    if groups:
        rows = held.rows("attention", "distributions")
        label = "Distributions of attention mass, pairs a bin"
        tables.append(Table("figure-1c-distributions", label, _BINS, tuple(rows)))
    else:
        notes.append("No distributions were kept.")
    if not panels and not groups:
        return Exhibit(**base, absent="Figure 1c was not made: neither entropy nor distributions "
                       "were kept.", notes=tuple(notes))  # fmt: skip
    return Exhibit(
        **base,
        lead=_lead_1c(groups),
        template="figure1c.html.j2",
        context={"panels": panels, "groups": groups, "classes": CLASSES},
        caption=(
            f"Each point is a head: change of {WORDS[across]} against change of entropy, "
            f"{words_of(contrast)}"
            + (
                ", coloured by the change of the same-token share."
                if "same_token" in meters
                else "."
            )
        ),
        tables=tuple(tables),
        options=options_of(result),
        notes=tuple(notes),
    )


_BINS = (
    Column("direction", "direction", kind="cut"),
    Column("layer", "layer", 0),
    Column("head", "head", 0),
    Column("class", "class", kind="text"),
    Column("low", "from", 4),
    Column("high", "to", 4),
    Column("count", "pairs", 0),
    Column("auc", "AUC", 2),
    Column("ks", "KS", 2),
)


def _parts_1c(by: Keyed, across: str, contrast: str, direction: str) -> list[Row]:
    x = by[across, contrast, direction]
    y = by.get(("entropy", contrast, direction), {})
    same = by.get(("same_token", contrast, direction), {})
    return [
        {
            "layer": name[0],
            "head": name[1],
            across: row["diff"],
            f"{across}_q": row["q"],
            "entropy": y.get(name, {}).get("diff"),
            "entropy_q": y.get(name, {}).get("q"),
            "same_token": same.get(name, {}).get("diff"),
        }
        for name, row in x.items()
    ]


def _panel_1c(by: Keyed, across: str, contrast: str, direction: str) -> Panel:
    words, rows = words_of(contrast), _parts_1c(by, across, contrast, direction)
    coloured = any(row["same_token"] is not None for row in rows)
    spots = [
        Spot(
            f"{row['layer']}.{row['head']}",
            number(row[across]),
            number(row["entropy"]),
            f"head {row['layer']}.{row['head']}\n{WORDS[across]} "
            f"{num(row[across], 4, sign=True)} (q {chance(row[f'{across}_q'])})\nentropy "
            f"{num(row['entropy'], 3, sign=True)} nats (q {chance(row['entropy_q'])})\nsame-token "
            f"share {num(row['same_token'], 3, sign=True)}",
            number(row["same_token"]),
        )
        for row in rows
    ]
    far = ", ".join(spot.name for spot in outstanding(spots))
    summary = (
        f"{arrow(direction)}, {words}: {WORDS[across]} against entropy, {len(spots)} heads; "
        f"outstanding: {far or 'none'}."
    )
    svg = scatter(
        spots,
        summary,
        f"{arrow(direction)} {WORDS[across]}, {words}",
        f"entropy (nats), {words}",
        colour_words="same-token share" if coloured else "",
    )
    return Panel(f"figure-1c-{slug(direction)}", both(direction), (Chart(svg),))


def _table_1c(by: Keyed, across: str, contrast: str, direction: str) -> Table:
    columns = (
        Column("layer", "layer", 0),
        Column("head", "head", 0),
        Column(across, WORDS[across], 4, sign=True),
        Column(f"{across}_q", "q", kind="p"),
        Column("entropy", "entropy", 4, sign=True),
        Column("entropy_q", "q", kind="p"),
        Column("same_token", "same-token share", 4, sign=True),
    )
    label = f"Changes by head, {arrow(direction)}, {words_of(contrast)}"
    rows = tuple(_parts_1c(by, across, contrast, direction))
    return Table(f"figure-1c-{slug(direction)}", label, columns, rows)


def _distributions(rows: list[Row], most: int) -> list[dict[str, object]]:
    """Small charts by direction, at most so many heads each."""
    groups: dict[str, dict[tuple[int, int], dict[str, list[Row]]]] = {}
    for row in rows:
        name = int(number(row["layer"])), int(number(row["head"]))
        heads = groups.setdefault(str(row["direction"]), {})
        heads.setdefault(name, {}).setdefault(str(row["class"]), []).append(row)
    out = []
    for direction, heads in groups.items():
        charts = [
            {
                "name": f"{name[0]}.{name[1]}",
                "auc": num(next(iter(some.values()))[0]["auc"], 2),
                "ks": num(next(iter(some.values()))[0]["ks"], 2),
                "svg": _one(direction, name, some),
            }
            for name, some in list(heads.items())[:most]
        ]
        if charts:
            out.append({"words": both(direction), "charts": charts})
    return out


def _one(direction: str, name: tuple[int, int], some: Mapping[str, list[Row]]) -> object:
    first = next(iter(some.values()))
    classes = []
    for one in CLASSES:
        counts = [number(row["count"]) for row in some.get(one, [])]
        total = sum(counts) or 1.0
        classes.append((one, [count / total for count in counts]))
    auc, ks = num(first[0]["auc"], 2), num(first[0]["ks"], 2)
    title = f"{name[0]}.{name[1]}: AUC {auc}, KS {ks}"
    summary = (
        f"Distribution of {arrow(direction)} attention mass in head {name[0]}.{name[1]}, relevant, "
        f"hard and easy passages: AUC {auc}, Kolmogorov-Smirnov distance {ks}."
    )
    low, high = number(first[0]["low"]), number(first[-1]["high"])
    return distribution(classes, low, high, title, summary)


def _lead_1c(groups: list[dict[str, object]]) -> tuple[str, ...]:
    said = []
    for group in groups:
        charts = group["charts"]
        assert isinstance(charts, list)  # noqa: S101
        best = charts[0]
        said.append(
            f"{best['name']} (AUC {best['auc']}, KS {best['ks']}) where {_words(group['words'])}"
        )
    if not said:
        return ()
    return (f"Heads that tell relevant from easy passages best: {listed(said)}.",)


def _words(text: object) -> str:
    return str(text).partition(": ")[2] or shown(text)
