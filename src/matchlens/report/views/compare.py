"""Results folders side by side, as text, LaTeX, a page and figures."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

import pandas as pd
from markupsafe import Markup

from matchlens import figures
from matchlens.errors import visible
from matchlens.figures import Drawing
from matchlens.figures.lines import KINDS as LAYERS_CUT
from matchlens.report import html
from matchlens.report.table import Column, Row, Table, columns_of, tag
from matchlens.report.texts import digits_of, printed, prose
from matchlens.results import Result, records

KINDS = {"same": "The same", "differs": "Differs", "cannot": "Cannot be compared"}
STAR = "*: significant by the folder's own test."
PANELS = 3
"""Directions in one figure."""
CURVE = (
    "X→Y cut: X no longer reads Y. Line: mean over queries; band: 95% interval of the change from "
    "the folder's own original."
)


def text(result: Result) -> str:
    """Print the comparison: first what differs, then the tables."""
    lines = [title(result), ""]
    for row in records(result.to_frame("said")):
        lines.append(f"{KINDS[str(row['kind'])]}: {row['sentence']}.")
    for table in tables(result):
        lines += ["", table.title, "", *table.text()]
        lines += ["", *textwrap.wrap(table.notes[0], 100)] if table.notes else []
    return "\n".join(map(visible, lines)) + "\n"


def files(result: Result) -> dict[str, str | bytes]:
    """Return the comparison's text, LaTeX, figures and page, file name to content."""
    content_of: dict[str, str | bytes] = {"compare.txt": text(result)}
    content_of |= {f"comparison/{table.name}.tex": table.latex() for table in tables(result)}
    pictures = {}
    for name, draw in drawn(result):
        for ending, content in figures.render(draw()).items():
            content_of[f"comparison/figures/{name}.{ending}"] = content
            if ending == "svg":
                pictures[caption_of(name)] = content.decode()
    return {**content_of, "compare.html": page(result, pictures)}


def page(result: Result, pictures: Mapping[str, str]) -> str:
    """Make the comparison's page; the pictures are captions and SVG that this package drew."""
    pieces = [tag("h1", html.line(title(result))), sentences(result), *shown(result)]
    for caption, svg in pictures.items():
        pieces += [tag("h2", caption), html.picture(svg, caption)]
    return html.page(title(result), *pieces)


def shown(result: Result, most: int | None = None) -> list[Markup]:
    """Make the tables with their headings and notes."""
    out = []
    for table in tables(result):
        out += [tag("h2", table.title), table.html(most), *(tag("p", note) for note in table.notes)]
    return out


def sentences(result: Result) -> Markup:
    """List what is the same, what differs, and what follows."""
    rows, pieces = records(result.to_frame("said")), []
    for kind, heading in KINDS.items():
        items = [tag("li", prose(f"{r['sentence']}.")) for r in rows if r["kind"] == kind]
        pieces += [tag("h3", heading), tag("ul", *items)] if items else []
    return Markup("").join(pieces)


def title(result: Result) -> str:
    """Name the folders."""
    names = [str(row["folder"]) for row in records(result.to_frame("folders"))]
    return f"{len(names)} results folders side by side: {', '.join(names)}"


def tables(result: Result) -> list[Table]:
    """Lay the comparison's tables out; those that the folders do not have are left out."""
    makers = {
        "folders": _folders,
        "table1": partial(_table1, measure=measure_of(result, "table1")),
        "paired": _paired,
        "curves": partial(_curves, measure=measure_of(result, "curves")),
        "overlaps": _overlaps,
        "heads": _heads,
        "screens": _screens,
        "claims": _claims,
        "differences": _differences,
    }
    digits = digits_of(result)
    return [
        make(records(result.to_frame(name)), digits)
        for name, make in makers.items()
        if name in result.tables and len(result.tables[name])
    ]


def measure_of(result: Result, table: str) -> str:
    """Name the measure of a table; several where the folders do not share one."""
    measures = result.options.get("measures")
    names = measures.get(table) if isinstance(measures, Mapping) else None
    return " / ".join(map(str, names)) if isinstance(names, list) and names else "the measure"


def main(result: Result) -> Table:
    """Return the table of the folders."""
    return tables(result)[0]


def _keys(rows: Sequence[Row]) -> dict[str, str]:
    """A key for each folder: its name may hold anything."""
    names = dict.fromkeys(str(row["folder"]) for row in rows)
    return {name: f"f{place}" for place, name in enumerate(names)}


def _by_folder(
    rows: Sequence[Row], by: tuple[str, ...], cell: Callable[[Row], str], shown: str = ""
) -> tuple[list[dict[str, Any]], list[Column]]:
    """A line for each value of some columns with a cell for each folder, and the cells' columns."""
    lines: dict[tuple[object, ...], dict[str, Any]] = {}
    keys = _keys(rows)
    for row in rows:
        start = {name: row[name] for name in ((shown,) if shown else by)}
        line = lines.setdefault(tuple(row[name] for name in by), start)
        line[keys[str(row["folder"])]] = cell(row)
    return [*lines.values()], [Column(key, name, kind="text") for name, key in keys.items()]


def _folders(rows: Sequence[Row], digits: int) -> Table:
    def whole(value: object) -> str:
        return str(int(value)) if isinstance(value, int | float) else "-"

    body = [{**row, "shape": f"{whole(row['layers'])} x {whole(row['heads'])}"} for row in rows]
    columns = columns_of("folder model collections shape pairs measure original", digits,
                         shape="layers x heads")  # fmt: skip
    return Table("folders", "The folders", columns, tuple(body))


def _table1(rows: Sequence[Row], digits: int, measure: str) -> Table:
    lines: dict[object, dict[str, object]] = {}
    keys = _keys(rows)
    for row in rows:
        line = lines.setdefault(row["cut"], {"cut": row["cut"] or "original"})
        key = keys[str(row["folder"])]
        line |= {f"{key} mean": row["mean"], f"{key} diff": row["diff"] if row["cut"] else ""}
        line[f"{key} diff*"] = bool(row["cut"] and row["significant"])
    columns = [Column("cut", "cut", kind="cut")]
    for folder, key in keys.items():
        columns += [
            Column(f"{key} mean", folder, digits),
            Column(f"{key} diff", "change", digits, sign=True),
        ]
    name = f"Table 1: {measure} under each cut"
    return Table("table1", name, tuple(columns), tuple(lines.values()), (STAR,))


def _paired(rows: Sequence[Row], digits: int) -> Table:
    body = [
        {
            **row,
            "condition": row["condition"] or "original",
            "diff*": bool(row["significant"]),
        }
        for row in rows
    ]
    columns = columns_of(
        "first second condition first_mean second_mean diff ci p_holm", digits,
        first_mean="first", second_mean="second", diff="difference",
    )  # fmt: skip
    note = (
        "original: the measure without a cut; else its change under the cut. difference: second "
        "less first, over the same queries; 95%: bootstrap over queries; p (Holm): two-tailed "
        "paired t-test, corrected over the cuts; *: <= .05."
    )
    return Table("paired", "Query by query", columns, tuple(body), (note,))


def _curves(rows: Sequence[Row], digits: int, measure: str) -> Table:
    lines: dict[tuple[object, ...], dict[str, object]] = {}
    order = list(dict.fromkeys(_named(row["direction"], row["how"]) for row in rows))
    for name, folder in product(order, _keys(rows)):  # the order of the lines
        lines[name, folder] = {"name": name, "folder": folder}
    for row in rows:
        line = lines[_named(row["direction"], row["how"]), str(row["folder"])]
        line |= {str(row["n"]): row["mean"], f"{row['n']}*": bool(row["significant"])}
    body = tuple(line for line in lines.values() if len(line) > 2)
    columns = (
        Column("name", "direction", kind="cut"),
        Column("folder", "folder", kind="text"),
        *(Column(str(n), str(n), digits) for n in sorted({int(str(row["n"])) for row in rows})),
    )
    name = f"Figure 1a: {measure} with layers 0 to n - 1 cut, a column for each n"
    return Table("curves", name, columns, body, (STAR,))


def _named(direction: object, how: object) -> str:
    return str(direction) if how == "zero" else f"{direction} ({how})"


def _overlaps(rows: Sequence[Row], digits: int) -> Table:
    columns = columns_of(
        "first second direction heads first_heads:0 second_heads:0 both expected:1 p rho rho_ci:2",
        first_heads="found", second_heads="found", expected="by chance",
    )  # fmt: skip
    note = (
        "both: matching heads that both folders found; by chance: of two lists drawn at random; p: "
        "of an overlap as large (hypergeometric); rho: Spearman's, of the AUC over all heads."
    )
    name = "Matching heads: how far the lists agree"
    return Table("overlaps", name, columns, tuple(rows), (note,))


def _heads(rows: Sequence[Row], digits: int) -> Table:
    lines, cells = _by_folder(
        rows,
        ("direction", "layer", "head"),
        lambda row: f"{row['kind']} {printed(row['auc'], 2)}{'' if row['held'] else '?'}",
    )
    # Of a direction, the heads that most folders found come first.
    lines.sort(key=lambda line: (line["direction"], -len(line), line["layer"], line["head"]))
    body = tuple({**line, "name": (line["layer"], line["head"])} for line in lines)
    note = (
        "kind and AUC (relevant against easy) on the half of the queries that describes; ?: does "
        "not hold there; -: not found."
    )
    columns = (*columns_of("direction name"), *cells)
    return Table("heads", "Matching heads", columns, body, (note,))


def _screens(rows: Sequence[Row], digits: int) -> Table:
    columns = columns_of(
        "first second direction heads rho both top +first_mean +second_mean",
        top="of", first_mean="first", second_mean="second",
    )  # fmt: skip
    note = (
        "rho: Spearman's, over heads, of the mean screened change of the score; both: heads that "
        "are among the largest changes in both; first, second: the mean over heads, in logits. "
        "Screened, not cut."
    )
    name = "All heads screened: how far the models agree"
    return Table("screens", name, columns, tuple(rows), (note,))


def _claims(rows: Sequence[Row], digits: int) -> Table:
    def cell(row: Row) -> str:
        if row.get("value") is None:
            return str(row["verdict"])
        low, value, high = (printed(row.get(key), 3) for key in ("low", "value", "high"))
        between = f" [{low}, {high}]" if row.get("low") is not None else ""
        unit = f" {row['unit']}" if row.get("unit") else ""
        return f"{row['verdict']}: {value}{between}{unit}"

    lines, cells = _by_folder(rows, ("id",), cell, "claim")
    return Table("claims", "Claims", (*columns_of("claim"), *cells), tuple(lines))


def _differences(rows: Sequence[Row], digits: int) -> Table:
    lines, cells = _by_folder(rows, ("aspect",), lambda row: str(row["value"]))
    columns = (Column("aspect", "", kind="text"), *cells)
    return Table("differences", "What differs in the manifests", columns, tuple(lines))


def caption_of(name: str) -> str:
    """Say what a figure of that name shows."""
    if name == "table1":
        return "Table 1: the change under each cut"
    return f"Figure 1a, a line for each folder ({int(name.rpartition('-')[2]) + 1})"


def drawn(result: Result) -> Iterator[tuple[str, Drawing]]:
    """Draw the figures; those that the folders have no numbers for are left out."""
    if "table1" in result.tables:
        table = result.to_frame("table1").rename(columns={"folder": "how"})
        shown_cuts = ~table["cut"].isin(["", "random"]) & table["diff"].notna()  # impossible: NaN
        table = pd.DataFrame(table[shown_cuts])
        if len(table):
            measure = measure_of(result, "table1")
            yield "table1", partial(figures.comparison, table, measure=measure)
    if "curves" in result.tables:
        table, measure = _points(result.to_frame("curves")), measure_of(result, "curves")
        views = list(dict.fromkeys(table["panel"]))
        for start in range(0, len(views), PANELS):
            part = pd.DataFrame(table[table["panel"].isin(views[start : start + PANELS])])
            draw = partial(figures.layer_profile, part, quantity=measure, note=CURVE, bounded=True)
            yield f"curves-{start // PANELS}", partial(draw, label=LAYERS_CUT["up-to"])


def _points(table: pd.DataFrame) -> pd.DataFrame:
    """The curves as a panel for each direction and way of cutting, a series for each folder."""
    names = zip(table["direction"], table["how"], strict=True)
    return pd.DataFrame(
        {
            "panel": [_named(direction, how) for direction, how in names],
            "series": table["folder"],
            "layer": table["n"],
            "value": table["mean"],
            "low": table["original"] + table["ci_low"],
            "high": table["original"] + table["ci_high"],
        }
    )
