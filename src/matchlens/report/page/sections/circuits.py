"""Figure 2 and the hypothesis: what the query-key matrices make of queries and documents."""

from __future__ import annotations

from statistics import median

from matchlens.report.page.charts.maps import Cell, head_map
from matchlens.report.page.charts.points import Spot, outstanding, scatter
from matchlens.report.page.charts.rows import Part, stacked
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
from matchlens.report.page.texts import (
    MINUS,
    both,
    chance,
    counted,
    equals,
    interval,
    num,
    shown,
    slug,
)
from matchlens.studies.circuits import COMPANIONS, VARIANTS

VARIANT_WORDS = {
    "all": "alignment, trace(A)",
    "positive": "alignment, u·v > 0 only",
    "above": "alignment, u·v > 0.3 only",
}
CONTRASTS = {
    "QD-DD": "a query token reads document tokens more than a document token does",
    "DQ-QQ": "a document token reads query tokens more than a query token does",
    "QD-QQ": "a query token reads document tokens more than query tokens",
    "DQ-DD": "a document token reads query tokens more than document tokens",
}
ARROWS = {"QD": "Q->D", "DQ": "D->Q", "QQ": "Q->Q", "DD": "D->D"}
TERMS = {
    "matching": "matching (x, y)",
    "cross_reader": "cross: reader's own (x)",
    "cross_read": "cross: read token's own (y)",
    "bias_query": "bias b_Q",
    "bias_key": "bias b_K",
}
FAR = 3.0
MOST_HEADS = 8
NOT_RUN = "the folder holds no circuits (matchlens circuits)."


def figure_2(held: ResultsFolder) -> Exhibit:
    """Alignment against the contrast and its companion, the nulls, and the map."""
    base = {
        "id": "figure-2",
        "nav": "Figure 2",
        "title": "Figure 2",
        "subtitle": "Alignment of the query-key matrices against what mean tokens read",
        "definition": DEFINITIONS["figure-2"],
    }
    result, rows = held.get("circuits"), held.rows("circuits", "heads")
    if result is None or not rows:
        return Exhibit(**base, absent=f"Figure 2 was not made: {NOT_RUN}")
    contrast, variant = str(result.options["contrast"]), str(result.options["variant"])
    column, words = VARIANTS[variant], VARIANT_WORDS[variant]
    panels = [
        _panel(rows, one, column, words, f"{name}: {one.replace('-', f' {MINUS} ')}")
        for name, one in (("the contrast", contrast), ("its companion", COMPANIONS[contrast]))
    ]
    nulls = _panel(rows, contrast, "z", "trace(A) in standard deviations of the null", "nulls")
    panels.append(
        Panel("figure-2-nulls", "against the null", (*nulls.charts, _map(rows)), nulls.note)
    )
    associations = held.rows("circuits", "associations")
    far = {key: sum(number(row[key]) >= FAR for row in rows) for key in ("z", "rotation_z")}
    weights = "weights and biases" if result.options.get("biases") else "weights only"
    divided = "divided" if result.options.get("divided") else "not divided"
    return Exhibit(
        **base,
        lead=(
            *_rho(associations, contrast),
            f"Of {counted(len(rows), 'head')}, {far['z']} lie {FAR:g} standard deviations or more "
            f"above random Gaussian factors in alignment, {far['rotation_z']} above random "
            "singular vectors.",
        ),
        template="figure2.html.j2",
        context={
            "panels": panels,
            "associations": [_association(row) for row in associations],
            "matches": _matches(held),
        },
        caption=(
            "Each point is a head, named layer.head where it stands out; coloured by how much more "
            "the "
            "contrast's first reader reads in relevant than in easy passages. Logits of the mean "
            f"tokens: {weights}, {divided} by √d_h."
        ),
        tables=_tables(rows, associations, held.rows("circuits", "matches")),
        options=options_of(result),
        notes=notes_of(result),
    )


def _panel(rows: list[Row], contrast: str, column: str, words: str, label: str) -> Panel:
    colour = "mass_QD" if contrast[0] == "Q" else "mass_DQ"
    reader = both(ARROWS[contrast[:2]]).partition(":")[0]
    spots = [
        Spot(
            f"{row['layer']}.{row['head']}",
            number(row[contrast]),
            number(row[column]),
            f"head {row['layer']}.{row['head']}\n{contrast.replace('-', MINUS)} "
            f"{num(row[contrast], 2, sign=True)}\nalignment {num(row['alignment'], 1)}, "
            f"{num(row['z'], 1)} null sd, trace / Σs {num(row['normalised'], 2)}\n{reader} mass, "
            f"relevant − easy {num(row[colour], 4, sign=True)} (q {chance(row[f'{colour}_q'])}, "
            f"AUC {num(row[f'{colour}_auc'], 2)})",
            number(row[colour]),
        )
        for row in rows
    ]
    right = sum(s.x > 0 and s.y > 0 for s in spots)
    far = ", ".join(spot.name for spot in outstanding(spots))
    x_words = contrast.replace("-", f" {MINUS} ")
    summary = (
        f"{words} against {x_words}, {len(spots)} heads: {right} to the upper right; outstanding: "
        f"{far or 'none'}."
    )
    svg = scatter(
        spots,
        summary,
        f"{x_words} (logit)",
        words,
        colour_words=f"{reader} mass, relevant − easy",
        colour_digits=3,
        width=560.0,
        height=440.0,
    )
    note = f"{x_words}: {CONTRASTS[contrast]}."
    return Panel(f"figure-2-{slug(contrast)}", label, (Chart(svg),), note)


def _map(rows: list[Row]) -> Chart:
    cells = [
        Cell(
            int(number(row["layer"])),
            int(number(row["head"])),
            number(row["alignment"]),
            f"head {row['layer']}.{row['head']}\nalignment {num(row['alignment'], 1)}\n"
            f"{num(row['z'], 1)} sd of Gaussian factors, {num(row['rotation_z'], 1)} of random "
            f"singular vectors, {num(row['crossed_z'], 1)} of crossed heads",
            abs(number(row["z"])) >= FAR and abs(number(row["rotation_z"])) >= FAR,
        )
        for row in rows
    ]
    star = sum(cell.star and cell.value > 0 for cell in cells)
    summary = f"Alignment by layer and head: {star} of {len(cells)} far above both nulls."
    caption = f"▲ {FAR:g} standard deviations or more above both nulls, ● as far below both."
    return Chart(head_map(cells, summary, "alignment, trace(A)", digits=1), caption)


def _rho(rows: list[Row], contrast: str) -> tuple[str, ...]:
    for row in rows:
        if (row["contrast"], row["first"], row["second"]) == (contrast, "alignment", "contrast"):
            return (
                f"Spearman's rho between alignment and {contrast.replace('-', f' {MINUS} ')}: "
                f"{num(row['rho'], 2)}, 95% {interval(row['low'], row['high'], 2)} over "
                f"{counted(int(number(row['heads'])), 'head')}, "
                f"{interval(row.get('query_low'), row.get('query_high'), 2)} over resampled "
                f"queries; {equals('p', row['p'])} by permutations inside layers.",
            )
    return ()


def _association(row: Row) -> dict[str, str]:
    contrast = str(row["contrast"])
    names = {
        "contrast": contrast.replace("-", f" {MINUS} "),
        "colour": f"{both(ARROWS.get(contrast[:2], contrast)).partition(':')[0]} mass",
        "alignment": "alignment",
    }
    return {
        "couple": f"{names[str(row['first'])]} and {names[str(row['second'])]}",
        "rho": num(row["rho"], 2),
        "interval": interval(row["low"], row["high"], 2),
        "queries": interval(row.get("query_low"), row.get("query_high"), 2),
        "layers": num(row["by_layer"], 2),
        "p": chance(row["p"]),
        "heads": num(row["heads"], 0),
    }


def _tables(rows: list[Row], associations: list[Row], matches: list[Row]) -> tuple[Table, ...]:
    digits = {"layer": 0, "head": 0, "alignment": 2, "z": 1, "rotation_z": 1, "crossed_z": 1}
    labels = {"z": "/ null sd", "rotation_z": "/ rotation", "crossed_z": "/ crossed"}
    keys = ["layer", "head", "alignment", "z", "rotation_z", "crossed_z", "normalised"]
    keys += ["QD-DD", "DQ-QQ", "QD-QQ", "DQ-DD", "mass_QD", "mass_DQ"]
    keys += [key for key in ("base_alignment", "base_change") if key in rows[0]]
    columns = tuple(
        Column(key, labels.get(key, key.replace("_", " ")), digits.get(key, 3)) for key in keys
    )
    tables = [Table("figure-2", "Every head's circuits", columns, tuple(rows))]
    if associations:
        kinds = {"contrast": "text", "first": "text", "second": "text", "p": "p"}
        keys = ["contrast", "first", "second", "rho", "low", "high", "query_low", "query_high"]
        keys = [key for key in (*keys, "by_layer", "p", "heads") if key in associations[0]]
        spearman = tuple(
            Column(k, k.replace("_", " "), 0 if k == "heads" else 3, kind=kinds.get(k, "number"))
            for k in keys
        )
        tables.append(Table("figure-2-spearman", "Spearman", spearman, tuple(associations)))
    if matches:
        words = tuple(
            Column(
                k, k, 2 if k == "logit" else 0, kind="text" if k in {"reader", "read"} else "number"
            )
            for k in ("layer", "head", "rank", "reader", "read", "logit")
        )
        tables.append(Table("figure-2-matches", "Strongest token pairs", words, tuple(matches)))
    return tuple(tables)


def _matches(held: ResultsFolder) -> list[dict[str, object]]:
    """What heads match in the vocabulary."""
    pairs = held.rows("circuits", "matches")
    out = []
    for row in held.rows("circuits", "vocabulary"):
        mine = [p for p in pairs if (p["layer"], p["head"]) == (row["layer"], row["head"])][:10]
        out.append(
            {
                "head": f"{row['layer']}.{row['head']}",
                "rate": num(row["self_rate"], 3),
                "tokens": f"{int(number(row['tokens'])):,}",
                "pairs": [(shown(p["reader"], 40), shown(p["read"], 40)) for p in mine],
            }
        )
    return out


def hypothesis(held: ResultsFolder) -> Exhibit:
    """Shares of the logits' variance: bars for the heads that were looked at, medians for all."""
    base = {
        "id": "hypothesis",
        "nav": "The hypothesis",
        "title": "The hypothesis",
        "subtitle": "What the query-key logits vary with",
        "definition": DEFINITIONS["hypothesis"],
    }
    result, logits = held.get("circuits"), held.rows("circuits", "logits")
    shares = held.rows("circuits", "shares")
    if result is None or not logits or not shares:
        return Exhibit(**base, absent=f"The hypothesis was not tested: {NOT_RUN}")
    directions = list(dict.fromkeys(str(row["direction"]) for row in logits))
    medians = []
    for direction in directions:
        mine = [row for row in logits if row["direction"] == direction]
        cells = {
            key: num(median(known([row[key] for row in mine]) or [float("nan")]), 2)
            for key in ("matching", "cross", "biases", "constant")
        }
        near = sum(bool(row["holds"]) for row in mine)
        medians.append(
            {"direction": both(ARROWS[direction]), "near": near, "of": len(mine), **cells}
        )
    cross = num(result.options.get("cross"), 2)
    qd = next((one for one in medians if one["direction"].startswith("Q\xa0→\xa0D")), medians[0])
    return Exhibit(
        **base,
        lead=(
            f"{qd['direction']}: the share of each cross term, which the paper takes for 0, is at "
            f"most {cross} either way in {qd['near']} of {counted(int(qd['of']), 'head')}.",
        ),
        template="hypothesis.html.j2",
        context={"medians": medians, "panels": _shares(held, shares), "cross": cross},
        caption=(
            "Shares of the variance of single heads' logits, pooled over token pairs; they sum to "
            "1, negative ones stand to the left of 0."
        ),
        tables=(
            Table("hypothesis", "Shares by head and direction", _LOGITS, _joined(logits, shares)),
        ),
        options=options_of(result),
        notes=notes_of(result),
    )


_LOGITS = (
    Column("layer", "layer", 0),
    Column("head", "head", 0),
    Column("direction", "direction", kind="text"),
    Column("matching", "matching", 3),
    Column("cross_reader", "cross (x)", 3),
    Column("cross_read", "cross (y)", 3),
    Column("bias_query", "b_Q", 3),
    Column("bias_key", "b_K", 3),
    Column("constant", "constant", 3),
    Column("mean", "mean logit", 2),
    Column("variance", "variance", 2),
    Column("token_pairs", "token pairs", 0),
    Column("holds", "cross near 0", kind="flag"),
)


def _joined(logits: list[Row], shares: list[Row]) -> tuple[Row, ...]:
    """A row for each head and direction with the share of each term."""
    by: dict[tuple[object, ...], dict[str, object]] = {}
    for row in shares:
        key = row["layer"], row["head"], row["direction"]
        by.setdefault(key, {})[str(row["term"])] = row["share"]
    return tuple(
        {**row, **by.get((row["layer"], row["head"], row["direction"]), {})} for row in logits
    )


def _shares(held: ResultsFolder, shares: list[Row]) -> list[Panel]:
    given = held.option("circuits", "heads_looked_at")
    names = [str(name) for name in given] if isinstance(given, list | tuple) else []
    if not names:
        column = VARIANTS[str(held.option("circuits", "variant"))]
        heads = sorted(held.rows("circuits", "heads"), key=lambda row: -number(row[column]))
        names = [f"{row['layer']}.{row['head']}" for row in heads]
    names = names[:MOST_HEADS]
    by: dict[tuple[str, str], list[Row]] = {}
    for row in shares:
        by.setdefault((f"{row['layer']}.{row['head']}", str(row["direction"])), []).append(row)
    panels = []
    for direction, arrow_text in ARROWS.items():
        rows = []
        for name in names:
            mine = by.get((name, direction))
            if mine is None:
                continue
            order = {term: place for place, term in enumerate(TERMS)}
            parts = [
                Part(
                    number(row["share"]),
                    order.get(str(row["term"]), 0),
                    f"head {name}, {both(arrow_text)}\n"
                    f"{TERMS.get(str(row['term']), shown(row['term'], 40))}: "
                    f"{num(row['share'], 3)} of the variance",
                )
                for row in sorted(mine, key=lambda row: order.get(str(row["term"]), 0))
            ]
            rows.append((name, parts))
        if not rows:
            continue
        said = "; ".join(
            f"{name} matching {num(parts[0].value, 2)}" for name, parts in rows if parts
        )
        summary = f"Shares of the {both(arrow_text)} logits' variance: {said}."
        svg = stacked(rows, summary, "share of the logits' variance")
        panels.append(
            Panel(f"hypothesis-{slug(direction)}", both(arrow_text), (Chart(svg, wide=True),))
        )
    return panels
