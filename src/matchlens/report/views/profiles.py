"""What attention does layer by layer: no-ops; lexical against semantic matching."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import quantiles

import pandas as pd
from markupsafe import Markup

from matchlens import figures
from matchlens.report.exhibits import NARROW, SQUARE, Exhibit, Panel, chart, panels, titled, words
from matchlens.report.results_folder import ResultsFolder
from matchlens.report.table import Column, Row, Table, stored
from matchlens.report.texts import (
    arrow,
    both,
    counted,
    glossed,
    known,
    num,
    number,
    printed,
    prose,
    slug,
)
from matchlens.results import Result, records

NOT_RUN = "attention was not measured (matchlens attention)."
DIRECTIONS = ("Q->D", "D->Q")
CLASSES = ("relevant", "hard", "easy")
SPECIAL = ("CLS", "SEP1", "SEP2")
SHARES = {"mass": "share of the attention mass", "norm": "share of the norm mass"}


def no_op_words(rows: Sequence[Row]) -> str:
    """Count sinks, and those of them that are no-ops, among the heads in which Q and D read."""
    every, rows = len(rows), [row for row in rows if known([row["mass_special"]])]
    sinks = sum(bool(row["sink"]) for row in rows)
    those = "heads" if len(rows) == every else f"heads in which they read ({every} in all)"
    sentence = (
        f"No-op: {sinks} of {len(rows)} {those} send half of what Q and D read, or more, to CLS "
        "and SEP"
    )
    if rows[0].get("noop") is None:
        return f"{sentence} (norm mass was not measured, so nothing is known of what they write)."
    empty = sum(bool(row["noop"]) for row in rows)
    return f"{sentence}; in {empty} of them less than half of what is written comes from there."


def lexical_lines(result: Result) -> list[str]:
    """Print the same-stem share by layer."""
    if "lexical" not in result.tables or "same_stem" not in result.tables["lexical"]:
        return []
    lines: dict[str, dict[str, object]] = {}
    rows = [row for row in records(result.to_frame("lexical")) if row["direction"] in DIRECTIONS]
    rows.sort(key=lambda row: DIRECTIONS.index(str(row["direction"])))
    for row in rows:
        name = f"{row['direction']} {row['class']}"
        lines.setdefault(name, {"name": name})[str(row["layer"])] = row["same_stem"]
    layers = sorted({int(number(row["layer"])) for row in rows})
    columns = (Column("name", "", kind="text"), *(Column(str(n), str(n), 2) for n in layers))
    title = "Same-stem share of the mass by layer (lexical matching)"
    return ["", *Table("lexical", title, columns, tuple(lines.values())).lines()]


def semantic(contrasts: Sequence[Row]) -> list[str]:
    """Compare semantic mass in hard and easy negatives."""
    sentences = []
    for direction in DIRECTIONS:
        rows = _of(contrasts, "semantic_mass", "hard-easy", direction)
        values = known([row["diff"] for row in rows])
        if values:
            up, down = starred(rows)
            sentences.append(
                f"Semantic mass {direction} (on words of other stems), hard against easy "
                f"negatives: higher in {up} of {counted(len(rows), 'head')}, lower in {down} "
                f"(q <= .05); mean difference {printed(sum(values) / len(values), 4)}."
            )
    return sentences


def _of(rows: Sequence[Row], meter: str, contrast: str, direction: str) -> list[Row]:
    key = {"meter": meter, "contrast": contrast, "direction": direction}
    return [row for row in rows if all(row[name] == value for name, value in key.items())]


def starred(rows: Sequence[Row]) -> tuple[int, int]:
    """Count the heads that are higher and lower with q <= .05."""
    star = [number(row["diff"]) for row in rows if number(row["q"]) <= 0.05]
    return sum(value > 0 for value in star), sum(value < 0 for value in star)


def paraphrases(rows: Sequence[Row]) -> Table:
    """Lay out exact words against paraphrases: heads higher and lower, by direction."""
    names = [name for name in ("mass", "same_stem", "lexical_mass", "semantic_mass")
             if any(row["quantity"] == name for row in rows)]  # fmt: skip
    body = []
    for direction in DIRECTIONS if rows else ():
        line: dict[str, object] = {"direction": direction}
        for name in names:
            own = [r for r in rows if (r["direction"], r["quantity"]) == (direction, name)]
            line[name] = "{} / {}".format(*starred(own)) if own else None
        body.append(line)
    columns = (
        Column("direction", "heads higher / lower", kind="reads"),
        *(Column(name, name.replace("_", " ")) for name in names),
    )
    caption = "Exact words against paraphrases of the same grade (heads higher / lower at q <= .05)"
    return Table("kinds", caption, columns, tuple(body))


def special(rows: Sequence[Row], kind: str) -> list[dict[str, object]]:
    """Return what is read from the special tokens, by layer: mean and quartiles over heads."""
    out = []
    for part in SPECIAL:
        for layer in sorted({int(number(row["layer"])) for row in rows}):
            values = known([row[f"{kind}_{part}"] for row in rows if row["layer"] == layer])
            if not values:
                continue
            low, _, high = quantiles(values, n=4, method="inclusive") if values[1:] else values * 3
            mean = sum(values) / len(values)
            tip = (
                f"{part}, layer {layer}\nmean {num(mean, 3)}, quartiles {num(low, 3)} to "
                f"{num(high, 3)}\n{counted(len(values), 'head')}"
            )
            ends = {"value": mean, "low": low, "high": high, "tip": tip}
            out.append({"layer": layer, "series": part, **ends})
    return out


def stems(rows: Sequence[Row], direction: str) -> list[dict[str, object]]:
    """Return the same-stem share by layer and class."""
    own = [row for row in rows if row["direction"] == direction and row["class"] in CLASSES]
    own.sort(key=lambda row: CLASSES.index(str(row["class"])))
    return [
        {
            "panel": direction,
            "series": row["class"],
            "layer": row["layer"],
            "value": row["same_stem"],
            "low": row["low"],
            "high": row["high"],
            "tip": f"{arrow(direction)}, {row['class']} passages, layer {row['layer']}\nsame-stem "
            f"share {num(row['same_stem'], 3)}, quartiles over heads {num(row['low'], 3)} to "
            f"{num(row['high'], 3)}\nmass {num(row['mass'], 4)}",
        }
        for row in own
    ]


def no_ops(folder: ResultsFolder) -> Exhibit:
    """Show how much is read from the special tokens."""
    subtitle = "How much is read from the special tokens, and how much of it is written"
    base = ("no-op", "Attention to special tokens", subtitle)
    result, rows = folder.get("attention"), folder.rows("attention", "noop")
    if result is None or not rows:
        return Exhibit(*base, absent=f"Attention to special tokens was not analysed: {NOT_RUN}")
    kinds = [kind for kind in SHARES if f"{kind}_CLS" in rows[0]]
    unknown = ("Norm mass was not measured, so what heads write is unknown.",)
    keys = " ".join(f"{kind}_{part}" for kind in kinds for part in (*SPECIAL, "special"))
    every = stored("no-op", "Special tokens by head", rows, f"layer head {keys} sink noop")
    lead = no_op_words(rows).removeprefix("No-op: ")
    caption = (
        "By layer: the mean over heads of what Q and D read from each special token; bands: "
        "quartiles over heads. By head: the three together, ▲ at half or more."
    )
    return Exhibit(
        *base,
        lead=(lead,),
        body=(panels("no-op", [_no_op_panel(kind, rows) for kind in kinds]), words(caption)),
        tables=(every,),
        result=result,
        notes=() if "norm" in kinds else unknown,
    )


def _no_op_panel(kind: str, rows: list[dict[str, object]]) -> Panel:
    cells = [
        {
            "layer": row["layer"],
            "head": row["head"],
            "diff": row[f"{kind}_special"],
            "q": None,
            "significant": number(row[f"{kind}_special"]) >= 0.5,
            "tip": f"head {row['layer']}.{row['head']}\n"
            + ", ".join(f"{part} {num(row[f'{kind}_{part}'], 3)}" for part in SPECIAL)
            + f"\ntogether {num(row[f'{kind}_special'], 3)}",
        }
        for row in rows
    ]
    profile = partial(figures.layer_profile, pd.DataFrame(special(rows, kind)))
    label = "by mass" if kind == "mass" else "by norm mass (what is written)"
    heads = partial(figures.head_map, pd.DataFrame(cells).dropna(subset=["diff"]), signed=False)
    drawings = (
        chart(partial(profile, quantity=SHARES[kind]), width=SQUARE),
        chart(heads, width=NARROW, words=f"CLS, SEP1, SEP2 together, {SHARES[kind]}"),
    )
    return Panel(f"no-op-{kind}", label, drawings)


def lexical(folder: ResultsFolder) -> Exhibit:
    """Show the same-stem share by layer and class, and matching in hard and easy passages."""
    subtitle = "How much is read from the same word, layer by layer"
    base = ("lexical", "Lexical and semantic matching", subtitle)
    result, rows = folder.get("attention"), folder.rows("attention", "lexical")
    if result is None:
        return Exhibit(*base, absent=f"Lexical matching was not analysed: {NOT_RUN}")
    if not rows or "same_stem" not in rows[0]:
        return Exhibit(*base, absent="The same-stem share was not measured (meter same_stem).")
    directions = dict.fromkeys(str(row["direction"]) for row in rows)
    order = sorted(directions, key=lambda name: [*DIRECTIONS, name].index(name))
    compared, notes = paraphrases(folder.rows("attention", "kinds")), ()
    if not compared.rows:
        notes = ("The collection marks no paraphrases, so they are not compared with exact words.",)
    caption = (
        "Share of the mass on words of the row's own stem by layer, one curve for each class. "
        "Bands: quartiles over heads; the curve weights heads by mass and may lie outside."
    )
    shares = [_lexical_panel(rows, direction) for direction in order]
    body = [panels("lexical", shares), words(caption)]
    body += [titled(prose(compared.title), compared.html())] if compared.rows else []
    body += _by_query(folder)
    keys = "direction class layer same_stem low high mass"
    ends = {"low": "lower quartile", "high": "upper quartile"}
    tables = [stored("lexical", "Same-stem share by layer", rows, keys, 3, **ends)]
    for name, label, keys in (("stages", "Depth of matching", f"{_STAGES} p_earlier negative"),
                              ("negatives", "Semantic mass by query", _NEGATIVES)):  # fmt: skip
        stored_rows = folder.rows("attention", name)
        tables += [stored(f"lexical-{name}", label, stored_rows, keys)] if stored_rows else []
    sentences = map(prose, semantic(folder.rows("attention", "contrasts")))
    return Exhibit(
        *base,
        lead=(*_lexical_lead(rows), *sentences),
        body=tuple(body),
        tables=tuple(tables),
        result=result,
        notes=notes,
    )


_DEPTH = "depth, in layers"
_STAGES = "direction lexical semantic later null p_later queries"
_NEGATIVES = "direction selected heads collection qid hard easy more"


def _lexical_panel(rows: Sequence[Row], direction: str) -> Panel:
    shares = pd.DataFrame(stems(rows, direction)).drop(columns="panel")
    draw = partial(figures.layer_profile, shares, quantity="same-stem share of the mass")
    return Panel(f"lexical-{slug(direction)}", both(direction), (chart(draw),))


def _lexical_lead(rows: Sequence[Row]) -> list[str]:
    sentences = []
    for direction in DIRECTIONS:
        own = [r for r in rows if (r["direction"], r["class"]) == (direction, "relevant")]
        own = [row for row in own if row["same_stem"] is not None]
        if own:
            peak = max(own, key=lambda row: number(row["same_stem"]))
            last = max(own, key=lambda row: number(row["layer"]))
            sentences.append(
                f"{glossed(direction)}: the same-stem share is highest in layer {peak['layer']} "
                f"({num(peak['same_stem'], 2)}) and {num(last['same_stem'], 2)} in the last, in "
                "relevant passages."
            )
    return sentences


def _by_query(folder: ResultsFolder) -> list[Markup]:
    """The depth of both kinds of matching, and semantic mass of hard and easy negatives."""
    out, stages = [], folder.rows("attention", "stages")
    if stages:
        table = stored("stages", "Depth of matching", stages, _STAGES, direction=_DEPTH)
        legend = (
            "Matching: the mass that relevant passages get beyond easy ones. Depth: where half of "
            "the positive differences, summed over the layers, is reached."
        )
        heading = "At which depth matching happens"
        out.append(titled(heading, table.html(), words(legend, "legend")))
    by: dict[tuple[object, bool], list[Row]] = {}
    for row in folder.rows("attention", "negatives"):
        by.setdefault((row["direction"], bool(row.get("selected"))), []).append(row)
    body = []
    for (direction, chosen), rows in by.items():
        line: dict[str, object] = {"direction": direction, "queries": len(rows)}
        for name in ("hard", "easy", "more"):
            values = known([row[name] for row in rows])
            line[name] = sum(values) / len(values) if values else None
        selected = f"{rows[0].get('heads')} semantic matching heads, on the other half"
        body.append({**line, "over": selected if chosen else "all heads, all queries"})
    if body:
        heading = "Semantic matches of hard and of easy negatives"
        keys, label = "direction hard easy more queries over", "semantic mass, mean over queries"
        out.append(titled(heading, stored("means", heading, body, keys, direction=label).html()))
    return out
