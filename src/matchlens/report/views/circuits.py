"""Figure 2 and the hypothesis: how the query-key matrices read queries and documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any

import pandas as pd
from markupsafe import Markup

from matchlens import figures
from matchlens.figures import Drawing
from matchlens.figures.rows import BARS
from matchlens.qk import CONTRASTS
from matchlens.report.exhibits import NARROW, SQUARE, Exhibit, Panel, chart, panels, titled, words
from matchlens.report.results_folder import ResultsFolder
from matchlens.report.table import Row, Table, columns_of, stored, tag
from matchlens.report.texts import (
    MINUS,
    arrow,
    both,
    chance,
    counted,
    equals,
    glossed,
    interval,
    known,
    note_lines,
    num,
    number,
    printed,
    prose,
    shown,
    slug,
    subject,
    wrapped,
)
from matchlens.results import Result, records
from matchlens.studies.attention.contrasts import Thresholds
from matchlens.studies.circuits.circuits import TOP
from matchlens.studies.circuits.tables import COMPANIONS, VARIANTS, colour_of, most_aligned

FAR = 3.0
"""Standard deviations of a null beyond which an alignment is no chance."""
SHOWN, MOST = 12, 20
"""Heads in the text's table and in the paper's, at most."""
PAIRS = 10
"""Token pairs of a head that are shown, at most."""
MOST_HEADS = 8
"""Heads whose shares the page draws, at most."""
ARROWS: Mapping[str, str] = {"QD": "Q->D", "DQ": "D->Q", "QQ": "Q->Q", "DD": "D->D"}
"""Reading directions as the other studies write them."""
VARIANT_WORDS: Mapping[str, str] = {
    "all": "alignment, trace(A)",
    "positive": "alignment, u·v > 0 only",
    "above": "alignment, u·v > 0.3 only",
}
TERMS: Mapping[str, str] = {
    "matching": "matching (x, y)",
    "cross_reader": "cross: reader's own (x), mean read token",
    "cross_read": "cross: mean reader, read token's own (y)",
    "bias_query": "bias b_Q",
    "bias_key": "bias b_K",
}
NULLS = "trace(A), in standard deviations of random Gaussian factors"
NOT_RUN = "the folder holds no circuits (matchlens circuits)."
ROTARY = (
    "it is not computed for rotary positions, which turn queries and keys by the distance between "
    "tokens."
)


def title(result: Result) -> str:
    """Say which model and pairs."""
    return f"Query-key circuits of {subject(result)}"


def logit_words(result: Result) -> str:
    """Say how the logits of the means were computed."""
    weights = "weights and biases" if result.options["biases"] else "weights only"
    return f"{weights}, {'divided' if result.options['divided'] else 'not divided'} by sqrt(d_h)"


def associations(result: Result) -> Table:
    """Lay out the correlations of Figure 2's quantities over heads."""
    rows = []
    for row in records(result.to_frame("associations")):
        name = str(row["contrast"])
        names = {"contrast": name, "colour": f"{ARROWS[name[:2]]} colour", "alignment": "alignment"}
        couple = f"{names[str(row['first'])]} and {names[str(row['second'])]}"
        rows.append({**row, "ci": (row["low"], row["high"]), "couple": couple})
    columns = columns_of(
        "couple rho ci:2 query_ci:2 by_layer:2 p:4", couple="Spearman over heads",
        ci="95% (heads)", query_ci="95% (queries)", by_layer="layers alone",
    )  # fmt: skip
    notes = (
        "p: permutations inside layers, uncorrected; layers alone: the mean under them. 95%: heads "
        "drawn anew inside their layers; queries drawn anew, on which contrast and colour depend.",
    )
    return Table("associations", "Spearman's rho over heads", columns, tuple(rows), notes)


def aligned(result: Result, most: int = MOST) -> Table:
    """Lay out the most aligned heads of Figure 2."""
    heads, options = result.to_frame("heads"), result.options
    contrast, variant = str(options["contrast"]), str(options["variant"])
    colour, companion = colour_of(contrast), COMPANIONS[contrast]
    by = {(row["layer"], row["head"]): row for row in records(heads)}
    rows = [
        by[name] | {"name": name}
        for name in ((int(layer), int(head)) for layer, head in most_aligned(heads, variant, most))
    ]
    base = " base_alignment:1 base_change:1" if "base_alignment" in heads else ""
    columns = columns_of(
        f"name {VARIANTS[variant]}:1 z rotation_z crossed_z normalised:2 {contrast}:1 "
        f"{companion}:1 +{colour}:3 {colour}_q{base}",
        3,
        **{VARIANTS[variant]: "alignment", "z": "/null sd", "rotation_z": "/rotation"},
        **{"crossed_z": "/crossed", "normalised": "trace/sum s", colour: ARROWS[contrast[:2]]},
        **{f"{colour}_q": "q", "base_alignment": "before", "base_change": "change"},
    )
    note = (
        f"{contrast}, {companion}: contrasts of the mean tokens' logits. {ARROWS[contrast[:2]]}: "
        "attention mass, relevant less easy passages; q: Benjamini-Hochberg over heads."
    )
    name = f"The {len(rows)} most aligned of {len(heads)} heads"
    return Table("heads", name, tuple(columns), tuple(rows), (note,))


def main(result: Result) -> Table:
    """Return the table of the most aligned heads as papers print it."""
    table = aligned(result)
    left = {"normalised", "base_alignment", "base_change"}
    return table.pick(*(column.key for column in table.columns if column.key not in left))


def medians(result: Result) -> Table:
    """Lay out the shares of the logits' variance: medians over heads, by direction."""
    logits, rows = records(result.to_frame("logits")), []
    for direction in dict.fromkeys(str(row["direction"]) for row in logits):
        own = [row for row in logits if row["direction"] == direction]
        middle = {
            name: median(known([row[name] for row in own]) or [float("nan")])
            for name in ("matching", "cross", "biases", "constant")
        }
        count = sum(bool(row["holds"]) for row in own)
        near = {"near": f"{count} of {len(own)}", "count": count, "heads": len(own)}
        rows.append({"direction": ARROWS[direction], **middle, **near})
    columns = columns_of(
        "direction=reads matching:2 cross:2 biases:2 constant:2 near",
        direction="median over heads", near="near 0",
    )  # fmt: skip
    note = (
        f"near 0: heads in which the share of each cross term, which the paper takes for 0, is "
        f"at most {result.options['cross']} either way. constant: apart, "
        "constant^2 / mean(logit^2)."
    )
    return Table("medians", "Median shares over heads", columns, tuple(rows), (note,))


def text(result: Result) -> str:
    """Print Figure 2's associations, the most aligned heads, the hypothesis, what heads match."""
    contrast, variant = str(result.options["contrast"]), str(result.options["variant"])
    couples, heads = associations(result), aligned(result, SHOWN)
    every = result.to_frame("heads")
    far = [int((every[name].to_numpy() >= FAR).sum()) for name in ("z", "rotation_z", "crossed_z")]
    crossed = f", {far[2]} above crossed heads of their layer"
    if not every["crossed_z"].notna().to_numpy().any():
        crossed = "; the heads of a layer share one key head, so that none is crossed with another"
    below = int((every["z"].to_numpy() <= -FAR).sum())
    lines = [
        title(result),
        "",
        *wrapped(
            f"Figure 2: {VARIANT_WORDS[variant]}, against contrasts of the mean tokens' logits "
            f"({logit_words(result)})"
        ),
        *(f"  {name}: {CONTRASTS[name]}" for name in (contrast, COMPANIONS[contrast])),
        "  colour: attention mass of the contrast's first direction (QD: Q->D), relevant less easy",
        "",
        *couples.text(),
        "",
        *wrapped(couples.notes[0]),
        "",
        *wrapped(
            f"Alignment against chance: of {len(every)} heads, {far[0]} lie {FAR:g} standard "
            f"deviations or more above random Gaussian factors ({below} below), {far[1]} above "
            f"random singular vectors{crossed}"
        ),
        "",
        *heads.text(),
        "",
        *wrapped(_standing(records(every), contrast, VARIANTS[variant])),
    ]
    if "base_alignment" in every:
        before: Any = result.options["base"]
        lines.append(f"before: the same head of {before['name']}; change: since then.")
    if "alignment_spread" in every:
        apart = every["alignment_spread"] / every["alignment"].abs()
        lines += wrapped(
            f"Distances: the alignment of the median head differs by {num(apart.median(), 2)} of "
            "itself from one distance to another (standard deviation)."
        )
    if "logits" in result.tables:
        shares = medians(result)
        lines += [
            "",
            f"The hypothesis: shares of the logits' variance "
            f"({counted(result.options['pairs_of_hypothesis'], 'pair')}), medians over heads",
            "",
            *shares.text(),
            "",
            *wrapped(shares.notes[0]),
        ]
    lines += _matches(result)
    return "\n".join([*lines, "", *note_lines(result)]) + "\n"


def _standing(heads: Sequence[Row], contrast: str, column: str) -> str:
    """Whether heads whose attention tells relevant from easy stand to the upper right."""
    limits, colour = Thresholds(), colour_of(contrast)
    groups: tuple[list[Row], list[Row]] = ([], [])
    for row in heads:
        tells = number(row[f"{colour}_q"]) <= limits.q and number(row[colour]) > 0
        tells = tells and number(row[f"{colour}_auc"]) >= limits.auc
        groups[not tells].append(row)
    sentence = (
        f"{len(groups[0])} heads read {ARROWS[contrast[:2]]} more in relevant than in easy "
        f"passages (q <= {limits.q}, AUC >= {limits.auc}, on the half that colours)"
    )
    if not all(groups):
        return f"{sentence}."
    right = [
        sum(number(r[contrast]) > 0 and number(r["z"]) >= FAR for r in group) for group in groups
    ]
    middle = [printed(median([number(row[column]) for row in group]), 1) for group in groups]
    return (
        f"{sentence}: {right[0]} of {len(groups[0])} stand to the upper right (contrast above 0, "
        f"alignment {FAR:g} null standard deviations or more), of the other heads {right[1]} of "
        f"{len(groups[1])}; median alignment {middle[0]} against {middle[1]}."
    )


def vocabulary(rows: Sequence[Row], matches: Sequence[Row]) -> Iterator[tuple[str, Row, list[Row]]]:
    """Yield the heads that were looked at, with their strongest token pairs."""
    for row in rows:
        own = [m for m in matches if (m["layer"], m["head"]) == (row["layer"], row["head"])]
        yield f"{row['layer']}.{row['head']}", row, own


def _matches(result: Result) -> list[str]:
    if "vocabulary" not in result.tables:
        return []
    title = "What heads match in the vocabulary: the strongest pairs"
    lines = ["", f"{title} (query token -> document token)", ""]
    heads = {(row["layer"], row["head"]): row for row in records(result.to_frame("heads"))}
    rows, matches = (records(result.to_frame(name)) for name in ("vocabulary", "matches"))
    for name, row, strongest in vocabulary(rows, matches):
        rate, head = printed(row["self_rate"], 3), heads[row["layer"], row["head"]]
        sentence = f"{name}: itself the best match for {rate} of {counted(row['tokens'], 'token')}"
        if "same_token_QD" in head:
            sentence += f"; same-token share in context {printed(head['same_token_QD'], 2)}"
        pairs = ", ".join(
            str(m["reader"]) if m["reader"] == m["read"] else f"{m['reader']}->{m['read']}"
            for m in strongest[:8]
        )
        lines += [sentence, *wrapped(pairs, "  ")]
    return lines


def points(rows: Sequence[Row], contrast: str, column: str) -> list[dict[str, object]]:
    """Return Figure 2's points: the contrast across, the alignment up, a row for each head."""
    colour, reader = colour_of(contrast), arrow(ARROWS[contrast[:2]])
    return [
        {
            "layer": row["layer"],
            "head": row["head"],
            "x": row[contrast],
            "y": row[column],
            "colour": row[colour],
            "tip": f"head {row['layer']}.{row['head']}\n{contrast.replace('-', MINUS)} "
            f"{num(row[contrast], 2, sign=True)}\nalignment {num(row['alignment'], 1)}, "
            f"{num(row['z'], 1)} null sd, trace / Σs {num(row['normalised'], 2)}\n{reader} mass, "
            f"relevant − easy {num(row[colour], 4, sign=True)} (q {chance(row[f'{colour}_q'])}, "
            f"AUC {num(row[f'{colour}_auc'], 2)})",
        }
        for row in rows
    ]


def cells(rows: Sequence[Row]) -> list[dict[str, object]]:
    """Return the map of alignments; significant far from both nulls."""
    return [
        {
            "layer": row["layer"],
            "head": row["head"],
            "diff": row["alignment"],
            "q": None,
            "significant": min(abs(number(row["z"])), abs(number(row["rotation_z"]))) >= FAR,
            "tip": f"head {row['layer']}.{row['head']}\nalignment {num(row['alignment'], 1)}\n"
            f"{num(row['z'], 1)} sd of Gaussian factors, {num(row['rotation_z'], 1)} of random "
            f"singular vectors, {num(row['crossed_z'], 1)} of crossed heads",
        }
        for row in rows
    ]


def bars(result: Result, most: int) -> list[dict[str, object]]:
    """Return the shares of the heads that were looked at, else of the most aligned ones."""
    examined: Any = result.options["heads_looked_at"]
    best = most_aligned(result.to_frame("heads"), str(result.options["variant"]), TOP)
    names = [*map(str, examined or [f"{layer}.{head}" for layer, head in best])][:most]
    order = {"name": names, "direction": list(ARROWS), "term": list(TERMS)}
    rows = [
        row | {"name": name}
        for row in records(result.to_frame("shares"))
        if (name := f"{row['layer']}.{row['head']}") in names and str(row["term"]) in TERMS
    ]
    rows.sort(key=lambda row: [values.index(str(row[key])) for key, values in order.items()])
    for row in rows:
        row |= {"term": TERMS[str(row["term"])], "direction": ARROWS[str(row["direction"])]}
        share = f"{row['term']}: {num(row['share'], 3)} of the variance"
        row["tip"] = f"head {row['name']}, {arrow(row['direction'])}\n{share}"
    return rows


def drawn(result: Result) -> Iterator[tuple[str, Drawing]]:
    """Draw the study's figures, Figure 2 first."""
    rows, variant = records(result.to_frame("heads")), str(result.options["variant"])
    contrast = str(result.options["contrast"])
    scatter = partial(
        figures.head_scatter, x="x", y="y", colour="colour",
        note=f"Logits of the mean tokens: {logit_words(result)}.",
    )  # fmt: skip
    for name, pair, column, y_words in (
        ("2", contrast, VARIANTS[variant], VARIANT_WORDS[variant]),
        ("2-companion", COMPANIONS[contrast], VARIANTS[variant], VARIANT_WORDS[variant]),
        ("2-nulls", contrast, "z", NULLS),
    ):
        labels = {
            "x": f"{pair.replace('-', f' {MINUS} ')}: {CONTRASTS[pair]}",
            "y": y_words,
            "colour": f"{ARROWS[pair[:2]]} attention mass, relevant {MINUS} easy",
        }
        yield name, partial(scatter, pd.DataFrame(points(rows, pair, column)), labels=labels)
    if "base_change" in result.tables["heads"]:
        labels = {"base_alignment": "alignment before fine-tuning, trace(A)"}
        labels["alignment"] = "alignment, trace(A)"
        heads = result.to_frame("heads")
        yield "base", partial(figures.head_scatter, heads, x="base_alignment", y="alignment",
                              labels=labels)  # fmt: skip
    known_cells = pd.DataFrame(cells(rows)).dropna(subset=["diff"])
    if len(known_cells):
        note = (
            f"▲ {FAR:g} standard deviations or more above both nulls (Gaussian factors, random "
            "singular vectors), ● as far below both. Named layer.head: the largest."
        )
        draw = partial(figures.head_map, known_cells, words=VARIANT_WORDS["all"], note=note)
        yield "alignment", draw
    if "shares" in result.tables:
        table = pd.DataFrame(bars(result, BARS // len(ARROWS)))
        yield "shares", partial(figures.shares, table)


def exhibits(folder: ResultsFolder) -> Iterator[Exhibit]:
    """Show Figure 2 and the hypothesis."""
    yield _figure_2(folder)
    yield _hypothesis(folder)


def _figure_2(folder: ResultsFolder) -> Exhibit:
    subtitle = "Alignment of the query-key matrices against what mean tokens read"
    base = ("figure-2", "What the weights match", subtitle, "Figure 2")
    result, rows = folder.get("circuits"), folder.rows("circuits", "heads")
    if result is None or not rows:
        return Exhibit(*base, absent=f"Figure 2 was not made: {NOT_RUN}")
    contrast = str(result.options["contrast"])
    drawings, views = dict(drawn(result)), []
    for label, name, pair in (
        ("the contrast", "2", contrast),
        ("its companion", "2-companion", COMPANIONS[contrast]),
        ("against the null", "2-nulls", contrast),
    ):
        spelled, charts = pair.replace("-", f" {MINUS} "), [chart(drawings[name], width=SQUARE)]
        place, tab = slug(pair), f"{label}: {spelled}"
        if name == "2-nulls":
            place, tab = "nulls", label
            if "alignment" in drawings:
                charts.append(chart(drawings["alignment"], _MAP, width=NARROW))
        note = f"{spelled}: {CONTRASTS[pair]}."
        views.append(Panel(f"figure-2-{place}", tab, tuple(charts), note))
    far = {name: sum(number(row[name]) >= FAR for row in rows) for name in ("z", "rotation_z")}
    couples = associations(result)
    caption = (
        "Each point is a head, named layer.head where it stands out; coloured by how much more "
        "attention the contrast's first direction (QD: Q → D) gets in relevant passages than in "
        f"easy ones. Logits of the mean tokens: {logit_words(result).replace('sqrt(d_h)', '√d_h')}."
    )
    body = [panels("figure-2", views), words(caption)]
    if couples.rows:
        legend = words(prose(couples.notes[0]), "legend")
        body.append(titled(couples.title, couples.html(), legend))
    matches = folder.rows("circuits", "matches")
    body += [_pairs(folder.rows("circuits", "vocabulary"), matches)]
    lead = (
        f"Of {counted(len(rows), 'head')}, {far['z']} lie {FAR:g} standard deviations or more "
        f"above random Gaussian factors in alignment, {far['rotation_z']} above random singular "
        "vectors."
    )
    tables = (
        stored("figure-2", "Every head's circuits", rows, _HEADS),
        stored("figure-2-spearman", "Spearman", folder.rows("circuits", "associations"), _SPEARMAN),
        stored("figure-2-matches", "Strongest token pairs", matches, _MATCHES),
    )
    return Exhibit(
        *base,
        lead=(*_rho(folder.rows("circuits", "associations"), contrast), lead),
        body=tuple(body),
        tables=tuple(table for table in tables if table.rows),
        result=result,
    )


_MAP = f"▲ {FAR:g} standard deviations or more above both nulls, ● as far below both."


def _rho(rows: Sequence[Row], contrast: str) -> tuple[str, ...]:
    for row in rows:
        if (row["contrast"], row["first"], row["second"]) == (contrast, "alignment", "contrast"):
            return (
                f"Spearman's rho between alignment and {contrast.replace('-', f' {MINUS} ')}: "
                f"{num(row['rho'], 2)}, 95% {interval(row['low'], row['high'], 2)} over "
                f"{counted(number(row['heads']), 'head')}, "
                f"{interval(row.get('query_low'), row.get('query_high'), 2)} over resampled "
                f"queries; {equals('uncorrected p', row['p'])} by permutations inside layers.",
            )
    return ()


_HEADS = (
    f"layer head alignment z rotation_z crossed_z normalised {' '.join(CONTRASTS)} mass_QD mass_DQ "
    "base_alignment base_change"
)
_SPEARMAN = "contrast first second rho:3 low high query_low query_high by_layer p heads"
_MATCHES = "layer head rank reader read logit"


def _pairs(rows: Sequence[Row], matches: Sequence[Row]) -> Markup:
    """What heads match in the vocabulary."""
    items = []
    for name, row, strongest in vocabulary(rows, matches):
        tokens = counted(row["tokens"], "token")
        sentence = f"Share of {tokens} that match themselves best: {num(row['self_rate'], 3)}."
        couples = []
        for match in strongest[:PAIRS]:
            reader, read = (tag("bdi", shown(match[side], 40)) for side in ("reader", "read"))
            couple = reader if match["reader"] == match["read"] else reader + " → " + read
            couples.append(tag("span", couple, class_="pairing"))
        inside = Markup(" ").join([tag("span", sentence, class_="soft"), *couples])
        items.append(tag("div", tag("dt", name), tag("dd", inside)))
    matches_ = tag("dl", *items, class_="matches")
    return titled("What heads match in the vocabulary", matches_) if items else Markup("")


def _hypothesis(folder: ResultsFolder) -> Exhibit:
    base = ("hypothesis", "The hypothesis", "What the query-key logits vary with")
    result, logits = folder.get("circuits"), folder.rows("circuits", "logits")
    shares = folder.rows("circuits", "shares")
    if result is not None and result.options.get("distances_of"):
        return Exhibit(*base, absent=f"The hypothesis was not tested: {ROTARY}")
    if result is None or not logits or not shares:
        return Exhibit(*base, absent=f"The hypothesis was not tested: {NOT_RUN}")
    table, marks = medians(result), bars(result, MOST_HEADS)
    first = next((row for row in table.rows if row["direction"] == "Q->D"), table.rows[0])
    by: dict[tuple[object, ...], dict[str, object]] = {}
    for row in shares:
        name = row["layer"], row["head"], row["direction"]
        by.setdefault(name, {})[str(row["term"])] = row["share"]
    every = [{**row, **by.get((row["layer"], row["head"], row["direction"]), {})} for row in logits]
    lead = (
        f"{glossed(first['direction'])}: the share of each cross term, which the paper takes for "
        f"0, is at most {num(result.options.get('cross'), 2)} either way in {first['count']} of "
        f"{counted(number(first['heads']), 'head')}."
    )
    caption = (
        "Shares of the variance of single heads' logits, pooled over token pairs; they sum to 1, "
        "negative ones stand to the left of 0."
    )
    views = []
    for name in ARROWS.values():
        if own := [mark for mark in marks if mark["direction"] == name]:
            words_ = f"share of the {arrow(name)} logits' variance"
            drawing = chart(partial(figures.shares, pd.DataFrame(own), words=words_))
            place = f"hypothesis-{slug(name.replace('->', ''))}"
            views.append(Panel(place, both(name), (drawing,)))
    blocks = (panels("hypothesis", views), words(caption))
    return Exhibit(
        *base,
        lead=(lead,),
        body=(
            table.html(),
            words(prose(table.notes[0]), "legend"),
            titled("The heads examined", *blocks),
        ),
        tables=(
            stored("hypothesis", "Shares by head and direction", every, _LOGITS, mean="mean logit"),
        ),
        result=result,
    )


_LOGITS = (
    "layer head direction matching cross_reader cross_read bias_query bias_key constant mean "
    "variance token_pairs holds"
)
