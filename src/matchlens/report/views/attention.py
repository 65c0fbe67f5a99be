"""The attention study: Figures 1b and 1c, no-ops, and lexical against semantic matching."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from math import isfinite
from typing import Any

import pandas as pd

from matchlens import figures
from matchlens.figures import Drawing
from matchlens.figures.heads import ATTENTION_NOTE
from matchlens.figures.lines import WEIGHTED_NOTE
from matchlens.report.exhibits import NARROW, SQUARE, Exhibit, Panel, chart, panels, titled, words
from matchlens.report.results_folder import ResultsFolder
from matchlens.report.table import Column, Row, Table, stored
from matchlens.report.texts import (
    arrow,
    both,
    chance,
    counted,
    equals,
    listed,
    note_lines,
    num,
    number,
    place_of,
    slug,
    subject,
)
from matchlens.report.views import matching, profiles
from matchlens.report.views.profiles import DIRECTIONS, NOT_RUN, starred
from matchlens.results import Result, records

WORDS = {"mass": "attention mass", "peak": "largest attention"}
MOST_BESIDE = 14
"""Layers of which two maps stand beside the scatter, one above the other."""
Heads = Mapping[tuple[int, int], Row]
Keyed = Mapping[tuple[str, str, str], Heads]


def title(result: Result) -> str:
    """Say which model and pairs, and what was measured."""
    meters: Any = result.options["meters"]
    measured = ", ".join(str(name).replace("_", " ") for name in meters)
    return f"Attention of {subject(result)}; {measured}"


def text(result: Result) -> str:
    """Print the matching heads, what cutting them does, no-ops, lexical and semantic matching."""
    lines = [
        title(result),
        *matching.lines(result),
        *matching.sets_lines(result),
        "",
        profiles.no_op_words(records(result.to_frame("noop"))),
        *profiles.lexical_lines(result),
    ]
    sentences = profiles.semantic(records(result.to_frame("contrasts")))
    lines += ["", *sentences] if sentences else []
    table = profiles.paraphrases(
        records(result.to_frame("kinds")) if "kinds" in result.tables else []
    )
    lines += ["", *table.lines()] if table.rows else []
    return "\n".join([*lines, "", *note_lines(result)]) + "\n"


def keyed(rows: Sequence[Row]) -> Keyed:
    """Sort contrasts by meter, contrast and direction, then by head."""
    out: dict[tuple[str, str, str], dict[tuple[int, int], Row]] = {}
    for row in rows:
        name = (str(row["meter"]), str(row["contrast"]), str(row["direction"]))
        out.setdefault(name, {})[place_of(row)] = row
    return out


def _contrast(name: str) -> str:
    return name.replace("-", " − ")


def _star(row: Row | None) -> bool:
    return row is not None and number(row.get("q")) <= 0.05


def sides(by: Keyed, contrast: str) -> dict[str, Heads]:
    """Return the contrast of mass in both directions."""
    return {name: by.get(("mass", contrast, name), {}) for name in DIRECTIONS}


def both_sides(by: Keyed, contrast: str) -> list[dict[str, object]]:
    """Return Figure 1b's points: Q->D against D->Q, a row for each head."""
    across, up = sides(by, contrast).values()
    return [
        {
            "layer": name[0],
            "head": name[1],
            "x": row["diff"],
            "y": up.get(name, {}).get("diff"),
            "x_significant": _star(row),
            "y_significant": _star(up.get(name)),
            "significant": _star(row) or _star(up.get(name)),
            "tip": _tip(name, sides(by, contrast)),
        }
        for name, row in across.items()
    ]


def mapped(by: Keyed, contrast: str, direction: str) -> list[dict[str, object]]:
    """Return the cells of Figure 1b's map of one direction."""
    side = by.get(("mass", contrast, direction), {})
    return [
        {**row, "significant": _star(row), "tip": _tip(name, {direction: side})}
        for name, row in side.items()
    ]


def _tip(name: tuple[int, int], side_of: Mapping[str, Heads]) -> str:
    lines = [f"head {name[0]}.{name[1]}"]
    for direction, side in side_of.items():
        row = side.get(name)
        if row is not None:
            lines.append(
                f"{arrow(direction)} {num(row['diff'], 4, sign=True)}, {equals('q', row['q'])}, "
                f"AUC {num(row['auc'], 2)}, n = {counted(row['queries'], 'query')}"
            )
    return "\n".join(lines)


def peaked(by: Keyed, contrast: str, direction: str) -> tuple[str, list[dict[str, object]]]:
    """Return Figure 1c's points: the meter across, and a row for each head."""
    across = "peak" if any(name[0] == "peak" for name in by) else "mass"
    entropy, same = (by.get((m, contrast, direction), {}) for m in ("entropy", "same_token"))
    rows = []
    for name, row in by.get((across, contrast, direction), {}).items():
        y, colour = entropy.get(name, {}), same.get(name, {}).get("diff")
        tip = (
            f"head {name[0]}.{name[1]}\n{WORDS[across]} {num(row['diff'], 4, sign=True)} (q "
            f"{chance(row['q'])})\nentropy {num(y.get('diff'), 3, sign=True)} nats (q "
            f"{chance(y.get('q'))})\nsame-token share {num(colour, 3, sign=True)}"
        )
        numbers = {across: row["diff"], f"{across}_q": row["q"], "entropy": y.get("diff")}
        numbers |= {"entropy_q": y.get("q"), "same_token": colour, "colour": colour, "tip": tip}
        rows.append({"layer": name[0], "head": name[1], "x": row["diff"], "y": y.get("diff"),
                     **numbers})  # fmt: skip
    return across, rows


def drawn(result: Result) -> Iterator[tuple[str, Drawing]]:
    """Draw the study's figures, Figure 1b first."""
    rows = records(result.to_frame("contrasts"))
    by = keyed(rows)
    contrasts = list(dict.fromkeys(str(row["contrast"]) for row in rows))
    for contrast in contrasts:
        yield from _drawn_1b(by, contrast, "" if contrast == contrasts[0] else f"-{contrast}")
    for direction in DIRECTIONS if any(name[0] == "entropy" for name in by) else ():
        yield f"1c-{direction.replace('->', '-')}", _drawn_1c(by, contrasts[0], direction)
    bins = result.to_frame("distributions")
    for direction, group in bins.groupby("direction", sort=False) if len(bins) else ():
        keys = ["layer", "head", "direction"]
        separation = pd.DataFrame(group[[*keys, "auc", "ks"]]).drop_duplicates(subset=keys)
        figure = partial(
            figures.class_distributions,
            pd.DataFrame(group),
            separation,
            quantity=f"{direction} attention mass".replace("->", "→"),
            width="page",
        )
        yield f"1c-distributions-{str(direction).replace('->', '-')}", figure
    no_op = records(result.to_frame("noop"))
    profile = [
        {**row, "panel": name}
        for kind, name in (("mass", "mass"), ("norm", "norm mass"))
        if f"{kind}_CLS" in result.tables["noop"]
        for row in profiles.special(no_op, kind)
    ]
    quantity = "share of what Q and D read"
    yield "no-op", partial(figures.layer_profile, pd.DataFrame(profile), quantity=quantity)
    if "same_stem" in result.tables.get("lexical", ()):
        shares = records(result.to_frame("lexical"))
        table = pd.DataFrame([row for name in DIRECTIONS for row in profiles.stems(shares, name)])
        draw = partial(figures.layer_profile, table, note=WEIGHTED_NOTE)
        yield "lexical", partial(draw, quantity="same-stem share of the mass")
    yield from matching.drawn(result)


def _drawn_1b(by: Keyed, contrast: str, ending: str) -> Iterator[tuple[str, Drawing]]:
    compared = _contrast(contrast)
    labels = {"x": f"Q→D mass, {compared}", "y": f"D→Q mass, {compared}"}
    points = pd.DataFrame(both_sides(by, contrast))
    yield f"1b{ending}", partial(figures.head_scatter, points, x="x", y="y", labels=labels)
    for name in DIRECTIONS:
        cells = [row for row in mapped(by, contrast, name) if isfinite(number(row["diff"]))]
        if cells:
            label = f"{name.replace('->', '→')} attention mass, {compared}"
            note = ATTENTION_NOTE.replace("relevant", contrast.partition("-")[0])
            draw = partial(figures.head_map, pd.DataFrame(cells), words=label, note=note)
            yield f"1b-{name.replace('->', '-')}{ending}", draw


def _drawn_1c(by: Keyed, contrast: str, direction: str) -> Drawing:
    across, rows = peaked(by, contrast, direction)
    name, compared = direction.replace("->", "→"), _contrast(contrast)
    coloured = any(key[0] == "same_token" for key in by)
    return partial(
        figures.head_scatter,
        pd.DataFrame(rows),
        x="x",
        y="y",
        labels={
            "x": f"{name} {WORDS[across]}, {compared}",
            "y": f"{name} entropy (nats), {compared}",
            "colour": f"same-token share, {compared}",
        },
        colour="colour" if coloured else "",
    )


def exhibits(folder: ResultsFolder) -> Iterator[Exhibit]:
    """Show the study's exhibits on the page, in the order of the paper."""
    result = folder.get("attention")
    by = keyed(folder.rows("attention", "contrasts"))
    drawings = dict(drawn(result)) if by and result is not None else {}
    yield _figure_1b(folder, by, drawings)
    yield _figure_1c(folder, by, drawings)
    yield profiles.no_ops(folder)
    yield profiles.lexical(folder)
    yield from matching.exhibits(folder)


def _figure_1b(folder: ResultsFolder, by: Keyed, drawings: Mapping[str, Drawing]) -> Exhibit:
    subtitle = "Which heads read more, and which less, in relevant passages"
    base = ("figure-1b", "Attention and relevance", subtitle, "Figure 1b")
    result = folder.get("attention")
    contrasts = list(dict.fromkeys(key[1] for key in by if key[0] == "mass"))
    if result is None or not contrasts:
        return Exhibit(*base, absent=f"Figure 1b was not made: {NOT_RUN}")
    return Exhibit(
        *base,
        lead=tuple(_lead_1b(contrast, sides(by, contrast)) for contrast in contrasts),
        body=(
            panels("figure-1b", [_panel_1b(by, name, drawings) for name in contrasts]),
            words(
                "Each point is a head; filled where one of the two differences is significant "
                "(q ≤ .05), named layer.head where it stands out. Maps: ▲ significantly more in "
                "the first class, ● significantly less; layer 0 is at the bottom."
            ),
        ),
        tables=tuple(_table_1b(contrast, sides(by, contrast)) for contrast in contrasts),
        result=result,
    )


def _panel_1b(by: Keyed, contrast: str, drawings: Mapping[str, Drawing]) -> Panel:
    ending = f"-{contrast}" if f"1b-{contrast}" in drawings else ""
    charts = [chart(drawings[f"1b{ending}"], width=SQUARE)]
    for direction in DIRECTIONS:
        name = f"1b-{direction.replace('->', '-')}{ending}"
        charts += [chart(drawings[name], width=NARROW)] if name in drawings else []
    layers = 1 + max(layer for layer, _ in by["mass", contrast, "Q->D"])
    small = layers <= MOST_BESIDE
    return Panel(f"figure-1b-{slug(contrast)}", _contrast(contrast), tuple(charts), beside=small)


def _lead_1b(contrast: str, side_of: Mapping[str, Heads]) -> str:
    parts = []
    for direction, side in side_of.items():
        up, down = starred(list(side.values()))
        parts.append(f"{arrow(direction)} mass is higher in {up} and lower in {down}")
    first, second = contrast.split("-")
    return (
        f"{first.capitalize()} against {second} passages: {parts[0]} of {len(side_of['Q->D'])} "
        f"heads, {parts[1]} (q ≤ .05, Benjamini-Hochberg over all heads)."
    )


def _table_1b(contrast: str, side_of: Mapping[str, Heads]) -> Table:
    columns = [Column("layer", "layer", 0), Column("head", "head", 0), Column("queries", "n", 0)]
    for direction in DIRECTIONS:
        columns += [
            Column(f"{direction} diff", f"{arrow(direction)} change", 4, sign=True),
            Column(f"{direction} q", "q (BH)", kind="p"),
            Column(f"{direction} auc", "AUC", 2),
        ]
    rows = []
    for name, own in side_of["Q->D"].items():
        row = {"layer": name[0], "head": name[1], "queries": own["queries"]}
        for direction, side in side_of.items():
            row |= {f"{direction} {k}": side.get(name, {}).get(k) for k in ("diff", "q", "auc")}
        rows.append(row)
    label = f"Attention mass by head, {_contrast(contrast)}"
    return Table(f"figure-1b-{slug(contrast)}", label, tuple(columns), tuple(rows))


def _figure_1c(folder: ResultsFolder, by: Keyed, drawings: Mapping[str, Drawing]) -> Exhibit:
    subtitle = "How peaked the reading is, and how well single heads tell passages apart"
    base = ("figure-1c", "Peaks and distributions", subtitle, "Figure 1c")
    result = folder.get("attention")
    if result is None:
        return Exhibit(*base, absent=f"Figure 1c was not made: {NOT_RUN}")
    meters = {key[0] for key in by}
    contrast = next((key[1] for key in by), "relevant-easy")
    notes, views, tables, across = [], [], [], "mass"
    for direction in DIRECTIONS if "entropy" in meters else ():
        across, rows = peaked(by, contrast, direction)
        if rows:
            draw = drawings[f"1c-{direction.replace('->', '-')}"]
            panel = (chart(draw, width=SQUARE),)
            views.append(Panel(f"figure-1c-{slug(direction)}", both(direction), panel))
            label = f"Changes by head, {arrow(direction)}, {_contrast(contrast)}"
            name = f"figure-1c-{slug(direction)}"
            keys = f"layer head {across} {across}_q entropy entropy_q same_token"
            tables.append(stored(name, label, rows, keys))
    if "entropy" not in meters:
        notes.append("Entropy was not measured, so the scatter is not drawn.")
    bins = folder.rows("attention", "distributions")
    groups = _best(bins)
    if groups:
        label = "Distributions of attention mass, pairs a bin"
        keys = "direction layer head class low high count auc ks"
        names = {"low": "from", "high": "to"}
        tables.append(stored("figure-1c-distributions", label, bins, keys, 4, **names))
    else:
        notes.append("No distributions were kept.")
    if not views and not groups:
        absent = "Figure 1c was not made: neither entropy nor distributions were kept."
        return Exhibit(*base, absent=absent, notes=tuple(notes))
    caption = (
        f"Each point is a head: change of {WORDS[across]} against change of entropy, "
        f"{_contrast(contrast)}"
        f"{', coloured by the change of the same-token share' * ('same_token' in meters)}."
    )
    body = [panels("figure-1c", views), words(caption)]
    for direction in groups:
        draw = drawings[f"1c-distributions-{direction.replace('->', '-')}"]
        body.append(titled(f"Distributions: {both(direction)}", chart(draw)))
    if groups:
        body.append(
            words(
                "Attention mass of single pairs along x, density of each class along y; matching "
                "heads first, then those of the largest AUC among passages of like length."
            )
        )
    best = [
        f"{name} where {both(direction).partition(': ')[2] or direction}"
        for direction, name in groups.items()
    ]
    most = f"Of the heads drawn, relevant passages differ most from easy ones in {listed(best)}."
    lead = [most] if best else []
    return Exhibit(
        *base,
        lead=tuple(lead),
        body=tuple(body),
        tables=tuple(tables),
        result=result,
        notes=tuple(notes),
    )


def _best(rows: Sequence[Row]) -> dict[str, str]:
    """The head of the largest AUC of each direction, with what separates its classes."""
    best: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: -number(row["auc"])):
        name = f"{row['layer']}.{row['head']} (AUC {num(row['auc'], 2)}, KS {num(row['ks'], 2)})"
        best.setdefault(str(row["direction"]), name)
    return best
