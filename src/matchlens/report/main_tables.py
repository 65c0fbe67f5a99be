"""Each study's main table, as a paper prints it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from matchlens.report.circuits import ARROWS
from matchlens.report.explaining import margin_table
from matchlens.report.numbers import SHARE, digits_of, printed
from matchlens.report.screening import screen_table
from matchlens.report.sections import Section
from matchlens.report.tables import COLUMNS, ROWS, is_matrix
from matchlens.results import Result, records
from matchlens.studies.circuits import COMPANIONS, VARIANTS, colour_of, most_aligned
from matchlens.studies.contrasts import EARLIER, is_earlier
from matchlens.studies.cut_modes import starred
from matchlens.studies.decisions import number

MOST = 20
"""Heads in a table of the foremost ones."""
TESTS = {
    "q": "*: q <= .05 (Benjamini-Hochberg over the sweep).",
    "unpaired": "*: p <= .05, unpaired and uncorrected.",
    "holm": "*: Holm-corrected p <= .05.",
}
Row = Mapping[str, object]


def main_table(result: Result) -> Section:
    """The table by which a study is known.

    Args:
        result: of any study; of one that is not known here, its first table as it is.
    """
    if result.study == "sweep-heads":
        return _heads(result)
    if result.study.startswith("sweep-"):
        return _points(result)
    makers = {
        "ablation": _table1,
        "evidence": _table1,
        "attention": _matching,
        "circuits": _aligned,
        "looking": _looks,
        "study": _claims,
        "explain": margin_table,
        "screen": screen_table,
    }
    return makers.get(result.study, _plain)(result)


def _star(result: Result) -> str:
    return TESTS[str(result.options["stars"])]


def _table1(result: Result) -> Section:
    name = "table1" if "table1" in result.tables else "cuts"
    digits, table = digits_of(result), result.to_frame(name)
    table["star"] = starred(table, str(result.options["stars"]))
    rows = {str(row["cut"]): row for row in records(table)}
    original, random = (printed(rows[name]["mean"], digits) for name in ("", "random"))
    title = f"{result.options['measure']} under each cut; original {original}, random {random}"

    def cell(row: Row, key: str = "mean") -> str:
        return f"{printed(row[key], digits)}{'*' if row['star'] else ''}"

    if is_matrix(rows):
        body = [(x, *(cell(rows[f"{x}->{y}"]) for y in COLUMNS)) for x in ROWS]
        head = ("X -> Y", *COLUMNS)
        note = f"X no longer reads Y, in all layers. {_star(result)}"
        return Section("table1", title, head, tuple(body), 1, note)
    lines = [
        (key, cell(row), *_change(row, digits), *_between(row, digits))
        for key, row in rows.items()
        if key not in {"", "random"}
    ]
    head = ("cut", str(result.options["measure"]), "change", "share", "95%", "p (Holm)")
    return Section(name, title, head, tuple(lines), 1, f"{_star(result)} {SHARE}")


def _change(row: Row, digits: int) -> tuple[str, str]:
    return printed(row["diff"], digits), printed(row["share"], 2)


def _between(row: Row, digits: int) -> tuple[str, str]:
    low, high = (printed(row[key], digits) for key in ("ci_low", "ci_high"))
    known = number(row, "ci_low") <= number(row, "ci_high")
    return f"[{low}, {high}]" if known else "-", printed(row["p_holm"], 3)


def _points(result: Result) -> Section:
    """A row for each direction and way of cutting, a column for each n (Figure 1a's points)."""
    digits, table = digits_of(result), result.to_frame("points")
    table["star"] = starred(table, str(result.options["stars"]))
    cells = {(row["direction"], row["how"], row["n"]): row for row in records(table)}
    places = sorted({int(str(n)) for _, _, n in cells})
    body = []
    for direction, how in dict.fromkeys(key[:2] for key in cells):
        mine = [cells.get((direction, how, n)) for n in places]
        named = str(direction) if how == "zero" else f"{direction} ({how})"
        body.append((named, *(_value(row, digits) for row in mine)))
    options = result.options
    said = {
        "up-to": "layers 0 to n - 1 cut",
        "from": "layers n to the top cut",
        "only": "layer n cut alone",
        "window": f"layers n to n + {int(str(options['window'] or 1)) - 1} cut",
    }[str(options["kind"])]
    original, random = (printed(options[name], digits) for name in ("original", "random"))
    title = f"{options['measure']}, {said}; original {original}, random {random}"
    return Section("points", title, ("n", *map(str, places)), tuple(body), 1, _star(result))


def _value(row: Row | None, digits: int) -> str:
    return "-" if row is None else f"{printed(row['mean'], digits)}{'*' if row['star'] else ''}"


def _heads(result: Result) -> Section:
    """The heads whose cut alone moves the measure most."""
    digits, table = digits_of(result), result.to_frame("points")
    table["star"] = starred(table, str(result.options["stars"]))
    order = np.argsort(-table["diff"].abs().to_numpy(), kind="stable")[:MOST]
    body = [
        (
            str(row["direction"]),
            str(row["how"]),
            f"{row['n']}.{row['head']}",
            f"{printed(row['diff'], digits)}{'*' if row['star'] else ''}",
            printed(row["share"], 2),
            _between(row, digits)[0],
            printed(row["q"], 3),
        )
        for row in records(pd.DataFrame(table.iloc[order]))
    ]
    title = f"Change of {result.options['measure']} when a head is cut alone: the largest of "
    head = ("direction", "how", "head", "change", "share", "95%", "q")
    note = f"{_star(result)} {SHARE}"
    return Section("points", f"{title}{len(table)}", head, tuple(body), 3, note)


def _matching(result: Result) -> Section:
    """The matching heads, by direction and AUC."""
    if is_earlier(result.tables):
        return Section("matching", "Matching heads", (), (), 0, f"Not shown: {EARLIER}.")
    rows = [row for row in records(result.to_frame("matching")) if row.get("matching")]
    rows.sort(key=lambda row: (str(row["direction"]), -float(str(row["auc"] or 0))))
    causal = bool(rows) and "effect" in rows[0]
    body = []
    for row in rows:
        cells = [str(row["direction"]), f"{row['layer']}.{row['head']}", str(row["kind"])]
        cells += [f"{printed(row['auc'], 2)}{'' if row['held'] else '?'}"]
        cells += [printed(row["p_holm"], 3), printed(row["same_stem"], 2)]
        if causal:
            cells += [printed(row["effect"], 3), printed(row["effect_q"], 3)]
        body.append(tuple(cells))
    head = ("direction", "head", "kind", "AUC", "p", "same stem")
    head = (*head, "effect", "q") if causal else head
    note = (
        "Found on one half of the queries, described on the other; ?: does not hold there. p: "
        "Holm-corrected."
    )
    measure = result.options["measure"]
    note += f" effect: change of {measure} when the head is cut alone." if causal else ""
    return Section("matching", f"{len(rows)} matching heads", head, tuple(body), 3, note)


def _aligned(result: Result) -> Section:
    """The most aligned heads of Figure 2."""
    heads, options = result.to_frame("heads"), result.options
    contrast, variant = str(options["contrast"]), str(options["variant"])
    column, colour = VARIANTS[variant], colour_of(contrast)
    by_name = heads.set_index(["layer", "head"])
    shown = [(column, 1), ("z", 1), ("rotation_z", 1), ("crossed_z", 1), (contrast, 1)]
    shown += [(COMPANIONS[contrast], 1), (colour, 3), (f"{colour}_q", 3)]
    body = []
    for layer, head in most_aligned(heads, variant, MOST):
        row = by_name.loc[(layer, head)]
        cells = (printed(float(row[key]), digits) for key, digits in shown)
        body.append((f"{layer}.{head}", *cells))
    names = ("head", "alignment", "/null sd", "/rotation", "/crossed", contrast)
    arrow = ARROWS[contrast[:2]]
    note = (
        f"{contrast}, {COMPANIONS[contrast]}: contrasts of the mean tokens' logits. {arrow}: "
        "attention mass, relevant less easy passages; q: Benjamini-Hochberg over heads."
    )
    title = f"The {len(body)} most aligned of {len(heads)} heads"
    return Section("heads", title, (*names, COMPANIONS[contrast], arrow, "q"), tuple(body), 1, note)


def _looks(result: Result) -> Section:
    body = [
        (
            *(str(row[key]) for key in ("look", "qid", "docid", "why")),
            str(row["grade"]),
            printed(row["score"], 3),
            f"{float(str(row['rank'])):g} of {row['candidates']}",
        )
        for row in records(result.to_frame("looks"))
    ]
    head = ("look", "query", "passage", "why", "grade", "score", "rank")
    return Section("looks", "Pairs to look into", head, tuple(body), 4)


def _claims(result: Result) -> Section:
    if "claims" not in result.tables:
        return _plain(result)
    body = []
    for row in records(result.to_frame("claims")):
        low, high = (printed(row[key], 3) for key in ("low", "high"))
        cells = (str(row["claim"]), str(row["verdict"]), str(row["agreement"]))
        cells = (*cells, printed(row["value"], 3), f"[{low}, {high}]", str(row["unit"] or "-"))
        body.append((*cells, str(row["found"])))
    head = ("claim", "verdict", "draws of the sample", "value", "95%", "unit", "found")
    return Section("claims", "The paper's claims", head, tuple(body), 7)


def _plain(result: Result) -> Section:
    """The first table as it is."""
    name = next(iter(result.tables), "")
    table = result.to_frame(name) if name else pd.DataFrame()
    rows = [tuple(_cell(value) for value in row.values()) for row in records(table)]
    text = _leading_text(rows)
    return Section(name, f"Table {name}", tuple(map(str, table.columns)), tuple(rows), text)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return printed(value, 3)
    return "-" if value is None else str(value)


def _leading_text(rows: Sequence[Sequence[str]]) -> int:
    """How many columns from the left hold text."""
    count = 0
    for column in zip(*rows, strict=True):
        if all(cell.replace(".", "").lstrip("-").isdigit() for cell in column if cell != "-"):
            break
        count += 1
    return max(count, 1)
