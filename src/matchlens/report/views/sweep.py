"""Sweeps: Figure 1a, cuts layer by layer; and every head cut alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from math import isfinite

import numpy as np
import pandas as pd

from matchlens import figures
from matchlens.figures import Drawing
from matchlens.report.exhibits import (
    NARROW,
    Exhibit,
    Panel,
    chart,
    chooser,
    notes_of,
    panels,
    words,
)
from matchlens.report.results_folder import ResultsFolder
from matchlens.report.table import Column, Row, Table, columns_of, stored
from matchlens.report.texts import (
    SHARE,
    arrow,
    both,
    counted,
    digits_of,
    equals,
    glossed,
    known,
    listed,
    note_lines,
    num,
    number,
    printed,
    reads,
    shown,
    slug,
)
from matchlens.report.views.ablation import (
    IMPOSSIBLE,
    NUMBERS,
    agreement,
    impossible,
    marked,
    tip,
)
from matchlens.results import Result, records
from matchlens.studies.cuts.cut_modes import feasible, starred

KINDS = {
    "up-to": "up to each layer",
    "from": "from each layer to the top",
    "only": "in one layer alone",
    "window": "in a window of layers",
}
FIRST = ("Q->D", "D->Q", "D->D", "CLS->All")
"""Directions whose curves are shown at first."""
CLOSE = 0.5
"""Curves that need less than this share of the height are also drawn close up."""
WHOLE = "{CLS,Q,SEP1,D,SEP2}->All"
MOST = 20
"""Heads in a table of the foremost ones."""
TESTS = {
    "q": "q <= .05 (Benjamini-Hochberg over the sweep{apart})",
    "unpaired": "p <= .05, unpaired, uncorrected",
    "holm": "Holm-corrected p <= .05 over the sweep{apart}",
}


def _test(result: Result) -> str:
    """The test that a sweep's stars are of."""
    apart = ", each way of cutting apart" if "agreement" in result.tables else ""
    return TESTS[str(result.options["stars"])].format(apart=apart)


def _star(result: Result) -> str:
    return f"*: {_test(result)}, two-tailed t-test over queries."


def grid(result: Result) -> list[tuple[str, Table]]:
    """Lay the points out for a terminal: a table for each direction and way of cutting.

    For heads a row for each layer and a column for each head; else a row for each point.
    """
    digits, heads = digits_of(result), result.options["kind"] == "heads"
    blocks: dict[str, dict[object, dict[str, object]]] = {}
    for row in marked(result, "points"):
        block = blocks.setdefault(f"{row['direction']}  ({row['how']})", {})
        layered = result.options["kind"] in {"only", "heads"}
        name = f"layer {row['n']!s:>2}" if layered else str(row["cut"]).rpartition("@")[2]
        line = block.setdefault(row["n"], {"place": name})
        column = str(row["head"]) if heads else "value"
        value = row["diff"] if heads and row["shown"] == row["mean"] else row["shown"]
        line |= {column: value, f"{column}*": row["star"]}
    out = []
    for title, block in blocks.items():
        names = list(dict.fromkeys(k for line in block.values() for k in line if k[-1] != "*"))
        columns = (Column("place", "", kind="text"),
                   *(Column(name, "", digits) for name in names[1:]))  # fmt: skip
        out.append((title, Table("points", title, columns, tuple(block.values()))))
    return out


def points(result: Result) -> Table:
    """Lay Figure 1a's points out: a row for each direction and way, a column for each n."""
    digits, lines = digits_of(result), {}
    rows = marked(result, "points")
    places = sorted({int(str(row["n"])) for row in rows})
    for row in rows:
        name = str(row["direction"]) + ("" if row["how"] == "zero" else f" ({row['how']})")
        line = lines.setdefault(name, {"name": name})
        line |= {str(row["n"]): row["mean"], f"{row['n']}*": row["star"]}
    options = result.options
    layers_cut = {
        "up-to": "layers 0 to n - 1 cut",
        "from": "layers n to the top cut",
        "only": "layer n cut alone",
        "window": f"layers n to n + {int(str(options['window'] or 1)) - 1} cut",
    }[str(options["kind"])]
    original, random = (printed(options[name], digits) for name in ("original", "random"))
    title = f"{options['measure']}, {layers_cut}; original {original}, random {random}"
    columns = (Column("name", "n", kind="cut"), *(Column(str(n), str(n), digits) for n in places))
    return Table("points", title, columns, tuple(lines.values()), (_star(result),))


def foremost(result: Result) -> Table:
    """Lay out the heads whose cut alone moves the measure most."""
    digits, rows = digits_of(result), marked(result, "points")
    change = np.array([-abs(number(row["diff"])) for row in rows])
    order = np.argsort(change, kind="stable")[:MOST]
    body = [
        rows[at] | {"name": (rows[at]["n"], rows[at]["head"]), "diff*": rows[at]["star"]}
        for at in order
    ]
    columns = columns_of("direction how name diff share ci q", digits, share="share")
    measure = result.options["measure"]
    title = f"Change of {measure} when a head is cut alone: the largest of {len(rows)}"
    return Table("points", title, columns, tuple(body), (_star(result), SHARE))


def main(result: Result) -> Table:
    """Return the table by which a sweep is known."""
    return foremost(result) if result.options["kind"] == "heads" else points(result)


def selected(result: Result) -> Table:
    """Lay out heads selected on one half of the queries, with their effect on the other."""
    digits = digits_of(result)
    rows = [
        row | {"diff_report*": bool(row["held"])} for row in records(result.to_frame("selected"))
    ]
    columns = columns_of(
        f"cut diff_select:{digits} q_select diff_report:{digits} ci p_report_holm", digits,
        diff_select="half 0", q_select="q (BH)", diff_report="half 1", ci="95% interval",
    )  # fmt: skip
    notes = [
        f"{sum(bool(row['held']) for row in rows)} of {len(rows)} hold: the same sign and "
        "Holm-corrected p <= .05 over these rows on half 1."
    ]
    if not any((number(row["q_select"]) if row["q_select"] else 0.0) <= 0.05 for row in rows):
        notes.insert(0, "None has q <= .05 on half 0; these are the largest changes there.")
    title = "Selected on one half of the queries (half 0), reported on the other (half 1)"
    return Table("heads-selected", title, columns, tuple(rows), tuple(notes))


def text(result: Result) -> str:
    """Print a sweep's points."""
    digits, options = digits_of(result), result.options
    heads = options["kind"] == "heads"
    lines = [
        f"{options['measure']}: original {printed(options['original'], digits)}, "
        f"random ranking {printed(options['random'], digits)} (expected value)"
    ]
    for title, table in grid(result):
        lines += ["", title, *(f"  {line}" for line in table.text()[1:])]
    if "agreement" in result.tables:
        lines += ["", *agreement(result).lines(":")]
    if "selected" in result.tables and len(result.tables["selected"]):
        lines += ["", *selected(result).lines(":")]
    what = "Change of the measure, a column for each head" if heads else "The measure"
    lines += ["", f"{what}. {_star(result)}"]
    if any(row.get("impossible") for row in records(result.to_frame("points"))):
        lines.append(IMPOSSIBLE)
    return "\n".join([*lines, *note_lines(result)]) + "\n"


def drawn(result: Result) -> Iterator[tuple[str, Drawing]]:
    """Draw a sweep: Figure 1a for each way of cutting, or a map for each direction and way."""
    table, options = result.to_frame("points"), result.options
    kind, measure = str(options["kind"]), str(options["measure"])
    table["significant"] = starred(table, str(options["stars"]))
    table["tip"] = [row["tip"] for row in marked(result, "points")]
    if kind == "heads":
        table["layer"], digits = table["n"], digits_of(result) + 1
        table["tip"] = [
            f"head {row['n']}.{row['head']}: {tip(row, digits, shown(measure))}; "
            f"{equals('q', row.get('q'))}"
            for row in marked(result, "points")
        ]
    for key, group in table.groupby(["direction", "how"] if kind == "heads" else "how", sort=False):
        name = ", ".join(map(str, key)) if isinstance(key, tuple) else str(key)
        frame = feasible(pd.DataFrame(group))
        if frame.empty:
            continue
        draw = partial(figures.head_map, frame, measure=measure, title=name)
        if kind != "heads":
            draw = partial(
                figures.layer_curves,
                frame,
                measure=measure,
                random=float(str(options["random"])),
                kind=kind,
                title="" if name == "zero" else name,
                impossible=list(dict.fromkeys(group["direction"][group["impossible"].notna()])),
            )
        yield name, draw


def layers(folder: ResultsFolder) -> Iterator[Exhibit]:
    """Show curves by layer, a panel for each kind of sweep and way of cutting."""
    subtitle = "How the ranking falls with the layers in which a direction is cut"
    base = ("figure-1a", "Cuts layer by layer", subtitle, "Figure 1a")
    sweeps = {kind: folder.get(f"sweep-{kind}") for kind in KINDS}
    run = {
        kind: result
        for kind, result in sweeps.items()
        if result is not None and folder.rows(f"sweep-{kind}", "points")
    }
    if not run:
        absent = "Figure 1a was not made: the folder holds no sweep over layers (matchlens sweep)."
        yield Exhibit(*base, absent=absent)
        return
    views, tables, lead, notes, lacking = [], [], [], [], []
    for kind, result in run.items():
        rows = marked(result, "points")
        for how, draw in drawn(result):
            views += _panels(result, how, [row for row in rows if row["how"] == how], draw)
        rows_ = folder.rows(f"sweep-{kind}", "points")
        keys = f"direction how n cut queries {NUMBERS}"
        name, title = f"figure-1a-{kind}", f"Cuts {KINDS[kind]}{_width(result)}"
        tables.append(stored(name, title, rows_, keys, digits_of(result)))
        lead += _lead(kind, rows, shown(result.options["measure"]), digits_of(result))
        notes += notes_of(result)
        lacking += impossible(rows)
    missing = [KINDS[kind] for kind, result in sweeps.items() if result is None]
    lacking += [f"Not run: cuts {listed(missing)}."] if missing else []
    first, *others = run.values()
    measures = dict.fromkeys(shown(result.options["measure"]) for result in run.values())
    tests = dict.fromkeys(f"{_test(one)}, two-tailed t-test over queries" for one in run.values())
    yield Exhibit(
        *base,
        lead=tuple(lead),
        body=(
            panels("figure-1a", views),
            words(
                f"{listed([*measures])} against the layers that are cut, a curve for each "
                f"direction. Filled points: significant change ({'; or '.join(tests)}); hollow: "
                "not. Bands: 95% interval of the change, drawn around the original. Lines: "
                "the original and the random ranking. With more than four curves, only the one "
                "under the pointer shows its band."
            ),
        ),
        tables=tuple(tables),
        result=first,
        others=tuple(others),
        notes=(*notes, *lacking),
    )


def _panels(result: Result, how: str, rows: Sequence[Row], draw: Drawing) -> list[Panel]:
    """The curves with the random ranking; where that leaves them little room, also without."""
    names = list(
        dict.fromkeys(str(row["direction"]) for row in rows if isfinite(number(row["mean"])))
    )
    first = [name for name in names if name in FIRST] or names
    switches = chooser([(arrow(name), reads(name), name in first) for name in names])
    kind = str(result.options["kind"])
    name, label = f"figure-1a-{kind}", KINDS[kind]
    if how != "zero":
        name, label = f"{name}-{slug(how)}", f"{label}, by {shown(how, 40)}"
    views = [Panel(name, label, (chart(draw),), chooser=switches)]
    ends = [number(row["original"]) + number(row[k]) for row in rows for k in ("ci_low", "ci_high")]
    near = known([*(row["mean"] for row in rows), *ends])
    levels = known([rows[0]["original"], result.options["random"]])
    if near and max(near) - min(near) < CLOSE * (max(*near, *levels) - min(*near, *levels)):
        close_up = (chart(draw, random=float("nan")),)
        views.append(Panel(f"{name}-close", f"{label}, close up", close_up, chooser=switches))
    return views


def _lead(kind: str, rows: Sequence[Row], measure: str, digits: int) -> list[str]:
    """Where the deepest fall stands, and where it first has a star."""
    rows = [row for row in rows if isfinite(number(row["mean"])) and not row["construction"]]
    if kind not in {"up-to", "from"} or not rows:
        return []
    lower = [row for row in rows if number(row["diff"]) < 0]
    if not lower:
        return [f"Cut {KINDS[kind]}, no direction lowers {measure}."]
    deepest = min(lower, key=lambda row: (number(row["mean"]), number(row["n"])))
    same = [r for r in rows if all(r[k] == deepest[k] for k in ("direction", "how"))]
    places = sorted(int(number(row["n"])) for row in same)
    stars = sorted(int(number(r["n"])) for r in same if r["star"] and number(r["diff"]) < 0)
    how = "" if deepest["how"] == "zero" else f" by {shown(deepest['how'], 40)}"
    sentence = (
        f"Cut {KINDS[kind]}{how}, {glossed(deepest['direction'])} costs most: {measure} falls to "
        f"{num(deepest['mean'], digits)} at n = {num(deepest['n'], 0)}"
    )
    if stars:
        if kind == "up-to" and stars == places[-len(stars) :]:
            where = f"from n = {stars[0]}"
        elif kind == "from" and stars == places[: len(stars)]:
            where = f"up to n = {stars[-1]}"
        else:
            where = f"at n = {listed(list(map(str, stars)))}"
        sentence += f"; significant {where}"
    return [f"{sentence}."]


def heads(folder: ResultsFolder) -> Iterator[Exhibit]:
    """Show a map of every head cut alone, a panel for each direction and way."""
    base = ("heads", "Every head cut alone", "What is lost when one head is cut")
    result, every = folder.get("sweep-heads"), folder.rows("sweep-heads", "points")
    if result is None or not every:
        yield Exhibit(*base, absent="Heads were not cut one by one (matchlens sweep heads).")
        return
    digits, measure = digits_of(result) + 1, shown(result.options["measure"])
    rows, maps = marked(result, "points"), dict(drawn(result))
    keys = dict.fromkeys((str(row["direction"]), str(row["how"])) for row in rows)
    views = [_map(*key, maps[name]) for key in keys if (name := ", ".join(key)) in maps]
    measured = [row for row in rows if isfinite(number(row["diff"]))]
    lower = [row for row in measured if number(row["diff"]) < 0]
    lower.sort(key=lambda row: number(row["diff"]))
    # the same head stands in a row for each direction and way of cutting
    alone = len(keys) == 1
    names = [f"{r['n']}.{r['head']}" if alone else arrow(r["cut"]) for r in lower[:3]]
    worst = ", ".join(
        f"{name} ({num(row['diff'], digits, sign=True)})"
        for name, row in zip(names, lower, strict=False)
    )
    place = "direction how n head"
    columns = f"{place} queries mean diff share ci_low ci_high p p_holm q"
    tables = [stored("heads", "Each head cut alone", every, columns, digits, n="layer")]
    chosen = folder.rows("sweep-heads", "selected")
    unit = "head" if alone else "single-head cut"
    of = counted(len(measured), unit)
    when = " when cut alone" if alone else ""
    uncorrected = " (uncorrected)" if result.options["stars"] == "unpaired" else ""
    changed = sum(bool(r["star"]) for r in rows)
    lead = [f"{changed} of {of} change {measure} significantly{uncorrected}{when}."]
    lead[0] += f" The largest losses: {worst}." if worst else f" None lowers {measure}."
    if chosen:
        lead.append(
            f"Of {counted(len(chosen), unit)} selected on one half of the queries, "
            f"{sum(bool(row['held']) for row in chosen)} hold on the other (same sign, "
            "Holm-corrected p ≤ .05)."
        )
        columns = f"{place} diff_select q_select diff_report ci_low ci_high p_report_holm held"
        tables.append(stored("heads-selected", lead[-1], chosen, columns, 4, n="layer"))
    caption = f"● significantly lower without the head, ▲ significantly higher ({_test(result)})."
    yield Exhibit(
        *base,
        lead=tuple(lead),
        body=(panels("heads", views), words(caption)),
        tables=tuple(tables),
        result=result,
        notes=impossible(every),
    )


def _width(result: Result) -> str:
    """The layers of a window, where the sweep is over windows."""
    layers = result.options.get("window")
    return f" ({counted(layers, 'layer')})" if isinstance(layers, int) else ""


def _map(direction: str, how: str, draw: Drawing) -> Panel:
    label = "the whole head" if direction == WHOLE else arrow(direction)
    label += "" if how == "zero" else f", by {shown(how, 40)}"
    note = both(direction) if direction != WHOLE else "The head reads nothing at all."
    return Panel(f"heads-{slug(label)}", label, (chart(draw, width=NARROW),), note)
