"""The matching heads, what cutting them does, and their sets beside random ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from markupsafe import Markup

from matchlens import figures
from matchlens.figures import Drawing
from matchlens.report.exhibits import Exhibit, chart, titled, words
from matchlens.report.results_folder import ResultsFolder
from matchlens.report.table import Column, Row, Table, columns_of, tag
from matchlens.report.texts import (
    arrow,
    counted,
    equals,
    glossed,
    interval,
    num,
    number,
    printed,
    prose,
    shown,
)
from matchlens.report.views.controls import head_sets as set_table
from matchlens.results import Result, records
from matchlens.studies.attention.contrasts import EARLIER, Thresholds, is_earlier

TEXTS = {
    "length": "passage length",
    "overlap": "overlap of words",
    "similarity": "static similarity",
}
RATIOS = {"stem": "same stem", "query_words": "query words", "near": "near words"}


def matching_rows(result: Result) -> list[dict[str, object]]:
    """Return the rows of the matching heads, by direction and AUC."""
    rows = [row for row in records(result.to_frame("matching")) if row.get("matching")]
    rows.sort(key=lambda row: (str(row["direction"]), -number(row["auc"] or 0.0)))
    return rows


def heads(result: Result) -> Table:
    """Lay out the matching heads."""
    if is_earlier(result.tables):
        return Table("matching", "Matching heads", (), (), (f"Not shown: {EARLIER}.",))
    rows = matching_rows(result)
    causal, measured = ("effect" in rows[0], "beside_overlap" in rows[0]) if rows else (False,) * 2
    body = []
    for row in rows:
        names = [shown(kind, 20) for kind in str(row["kind"]).split(", ")]
        chips = (tag("span", name, class_=f"kind {name}") for name in names)
        verdict, style = ("✓ held", "yes") if row["held"] else ("not held", "soft")
        body.append(
            {
                **row,
                "name": (row["layer"], row["head"]),
                "kind~": Markup(" ").join(chips),
                "held~": tag("span", verdict, class_=style),
                "auc*": "" if row["held"] else "?",
            }
        )
    beside = "beside_overlap:2 " if measured else ""
    effect = " +effect:3 effect_ci effect_q causal=flag" if causal else ""
    columns = columns_of(
        f"direction name auc_found:2 q_found auc p_holm {beside}same_stem:2 kind held{effect}",
        beside_overlap="beside words", same_stem="same stem", effect_q="q",
    )  # fmt: skip
    note = (
        "Found on one half of the queries, described on the other; ?: does not hold there. "
        "p (Holm): over these heads; q: Benjamini-Hochberg."
    )
    if causal:
        measure = result.options["measure"]
        note += f" effect: change of {measure} when the head is cut alone in its direction."
    return Table("matching", f"{len(rows)} matching heads", tuple(columns), tuple(body), (note,))


def main(result: Result) -> Table:
    """Return the table of matching heads as papers print it."""
    return heads(result).pick(
        "direction", "name", "kind", "auc", "p_holm", "same_stem", "effect", "effect_q"
    )


def conditions(result: Result) -> Table:
    """Lay out how many heads are left after each condition."""
    columns = columns_of(
        "direction=reads condition heads of queries",
        condition="condition (cumulative from like length on)",
    )
    rows = records(result.to_frame("conditions")) if "conditions" in result.tables else []
    return Table("conditions", "Heads left after each condition", columns, tuple(rows))


def sets(result: Result) -> Table:
    """Lay out the sets of matching heads beside random ones."""
    title = (
        "The matching heads of a direction cut together, beside random sets of as many heads in "
        "each layer and, as near as can be, as much attention in the direction"
    )
    if not len(result.tables.get("sets", ())):
        return Table("matching-sets", title, (), ())
    every = set_table(result)
    rows = tuple({**row, "set?": shown(row["heads"], 400)} for row in every.rows)
    columns = tuple(
        column
        for column in every.columns
        if column.key not in ("direction", "how")
        and (column.kind == "interval" or column.key in rows[0])
    )
    return replace(every, name="matching-sets", title=title, columns=columns, rows=rows)


def published(result: Result) -> list[str]:
    """Print how many heads of Lu et al. 2025 match here, where the model is theirs."""
    listed = records(result.to_frame("published")) if "published" in result.tables else []
    directions = _searched(listed)
    if not directions:
        return []
    lists: dict[str, dict[str, set[object]]] = {}
    for row in listed:
        names = ("heads", *((row["direction"], "either") if row["matching"] else ()))
        of_list = lists.setdefault(str(row["list"]), {})
        for name in names:
            of_list.setdefault(str(name), set()).add((row["layer"], row["head"]))
    keys = ("heads", *directions, *["either"] * (len(directions) > 1))
    rows = [
        {"list": name, **{key: len(heads.get(key, ())) for key in keys}}
        for name, heads in lists.items()
    ]
    columns = columns_of(
        f"list {' '.join(f'{key}=number:0' for key in keys)}", 3, list="their list",
        **{name: f"match {name}" for name in directions},
    )  # fmt: skip
    title = "Heads of Lu et al. 2025 for this model, and whether they match here"
    return ["", *Table("published", title, columns, tuple(rows)).lines()]


def _searched(published: Sequence[Row]) -> tuple[str, ...]:
    """The directions in which matching heads were searched for."""
    return tuple(dict.fromkeys(str(row["direction"]) for row in published if row["direction"]))


def texts_alone(result: Result) -> str:
    """Say what AUC the texts have that need no attention."""
    rows = records(result.to_frame("references")) if "references" in result.tables else []
    aucs = ", ".join(
        f"{TEXTS.get(str(row['quantity']), shown(row['quantity']))} {printed(row['auc'], 2)} "
        f"({printed(row['auc_all'], 2)})"
        for row in rows
    )
    return aucs and (
        f"AUC of the texts alone, passages of like length (all passages): {aucs}; overlap: of the "
        "query's words with the passage; similarity: of static embeddings."
    )


def lines(result: Result) -> list[str]:
    """Print the matching heads and how they were found."""
    if is_earlier(result.tables):
        return ["", f"Matching heads are not shown: {EARLIER}"]
    thresholds = result.options["thresholds"]
    assert isinstance(thresholds, Mapping)  # noqa: S101
    limits = Thresholds(**thresholds)
    out = [
        "",
        f"Matching heads: relevant above easy passages of like length (within {limits.length:.0%}) "
        f"with q <= {limits.q} and mean AUC >= {limits.auc}, above the AUC of CLS and SEP1 (q <= "
        f"{limits.q}), on one half of the queries; described and cut on the other half",
        "",
    ]
    left, alone = conditions(result), [texts_alone(result)] if texts_alone(result) else []
    out += [*left.lines(), ""] if left.rows else []
    table = heads(result)
    if not len(result.tables["matching"]):
        return [*out, *alone, "not searched for; the notes say why"]
    if not table.rows:
        return [*out, *alone, "none found"]
    text = table.pick(
        *("direction", "name", "auc_found", "q_found", "auc", "p_holm", "beside_overlap"),
        *("same_stem", "effect", "effect_q", "causal", "kind"),
    )
    holding = sum(bool(row["held"]) for row in table.rows)
    out += [
        *text.text(),
        "",
        f"{len(table.rows)} found, {holding} hold on the other half (? marks the others). "
        "p (Holm): over them; q: Benjamini-Hochberg over all heads.",
    ]
    if any(column.key == "beside_overlap" for column in table.columns):
        out.append(
            "beside words: the AUC that is left beside the share of the query's words that the "
            "passage has."
        )
    if "unknown" not in {row["kind"] for row in table.rows}:
        out.append(
            f"Kinds, each by a one-sided test over queries (Holm over heads and kinds): lexical: "
            f"{limits.lexical:g} times the mass expected on words of the reader's own stem; "
            f"query-word reader: {limits.query_words:g} times, on the query's content words, "
            f"whoever reads; semantic: {limits.semantic:g} times, on near words of other stems."
        )
    out += alone
    if "effect" in table.rows[0]:
        out.append(
            f"effect: change of {result.options['measure']} when the head alone is cut in its "
            f"direction, {counted(result.options['pairs_cut'], 'pair')} of the other half; q: "
            "Benjamini-Hochberg over these heads; causal: q <= .05."
        )
    return [*out, *published(result)]


def sets_lines(result: Result) -> list[str]:
    """Print the sets of matching heads beside random ones."""
    table = sets(result)
    return ["", *table.lines()] if table.rows else []


def exhibits(folder: ResultsFolder) -> Iterator[Exhibit]:
    """Show the matching heads."""
    subtitle = "Heads that separate relevant passages, and what the ranking loses without them"
    base = ("matching", "Matching heads", subtitle)
    result = folder.get("attention")
    if result is None or is_earlier(result.tables):
        absent = f"Matching heads are not shown: {EARLIER}."
        if result is None:
            absent = (
                "Matching heads were not searched for: attention was not measured (matchlens "
                "attention)."
            )
        yield Exhibit(*base, absent=absent)
        return
    every, table = folder.rows("attention", "matching"), heads(result)
    causal = bool(table.rows) and "effect" in table.rows[0]
    notes = []
    if table.rows and not causal:
        notes.append("The heads were not cut, so their effect is unknown.")
    measure = shown(result.options.get("measure", "the measure"))
    caption = (
        "Found on one half of the queries (AUC found, q found), described on the other (?: not "
        "held there). Press a column's name to sort by it."
    )
    if causal:
        caption += (
            f" Effect: change of {measure} when the head alone is cut in its direction, on "
            f"{shown(result.options.get('pairs_cut'))} pairs of the other half."
        )
    left, together = conditions(result), sets(result)
    body = [
        left.html() if left.rows else Markup(""),
        words(prose(texts_alone(result)), "legend") if texts_alone(result) else Markup(""),
        table.pick(*_PAGE).html(tall=True) if table.rows else Markup(""),
        words(caption) if table.rows else Markup(""),
        _published(folder.rows("attention", "published")),
    ]
    if together.rows:
        caption = "Diamonds: the set; dots: random sets with as many heads in each layer."
        blocks = [chart(draw, caption) for _, draw in drawn(result)]
        blocks += [together.html(), words(prose(together.notes[0]), "legend")]
        body.append(titled("All matching heads of a direction cut together", *blocks))
    elif causal:
        body.append(words("No set of matching heads was cut beside random sets.", "absent"))
    tables = [Table("matching-heads", "Every head on both halves", _stored(table.rows, causal),
                    tuple(every))]  # fmt: skip
    if together.rows:
        columns = columns_of(_SETS, draws="random sets", random_mean="random mean")
        every_set = tuple(folder.rows("attention", "sets"))
        tables.append(Table("matching-sets", "Sets beside random sets", columns, every_set))
    yield Exhibit(
        *base,
        lead=_lead(table.rows, every, causal),
        body=tuple(body),
        tables=tuple(tables) if every else (),
        result=result,
        notes=tuple(notes),
    )


_PAGE = (
    *("direction", "name", "auc_found", "q_found", "auc", "p_holm", "beside_overlap"),
    *("same_stem", "kind", "held", "effect", "effect_ci", "effect_q"),
)
_SETS = (
    "set=cut heads=text size mean diff ci_low ci_high p_holm +random_mean +random_low "
    "+random_high draws=number:0 p_random p_tau"
)


def _stored(rows: Sequence[Row], causal: bool) -> tuple[Column, ...]:
    """The columns of every stored number of a head."""
    beside = {f"beside_{name}": f"AUC beside {TEXTS[name]}" for name in TEXTS}
    beside = {key: label for key, label in beside.items() if rows and key in rows[0]}
    ratios = {f"{name}_ratio": f"{words_} by expected" for name, words_ in RATIOS.items()}
    tests = {f"{name}_p_holm": f"p (Holm, {words_})" for name, words_ in RATIOS.items()}
    pairs_of = [f"{a}:2 {b}=p" for a, b in zip(ratios, tests, strict=True)]
    effect = "+effect:4 +effect_low:4 +effect_high:4 effect_q causal=flag" if causal else ""
    return columns_of(
        "direction layer head auc_found q_found auc:3 diff:4 p_holm +over_cls q_cls +over_sep "
        f"q_sep same_token:3 same_stem {' '.join(beside)} {' '.join(pairs_of)} kind matching=flag "
        f"held {effect}", 3,
        diff="mass change", over_cls="AUC above CLS", q_cls="q CLS", over_sep="AUC above SEP1",
        q_sep="q SEP1", effect_low="95% low", effect_high="95% high", effect_q="effect q",
        **beside, **ratios, **tests,
    )  # fmt: skip


def _published(rows: Sequence[Row]) -> Markup:
    """The heads of Lu et al. 2025, a row for each of theirs."""
    directions = _searched(rows)
    if not directions:
        return Markup("")
    by: dict[tuple[object, ...], list[str]] = {}
    for row in rows:
        here = by.setdefault((row["list"], row["layer"], row["head"]), [])
        here += [f"{arrow(row['direction'])} ({shown(row['kind'], 60)})"] if row["matching"] else []
    body = [
        {"list": key[0], "head": (key[1], key[2]), "here": "; ".join(here) or "no"}
        for key, here in by.items()
    ]
    columns = columns_of("list head=head here=text", list="their list", here="matches here")
    title = "Heads of Lu et al. 2025 for this model"
    legend = (
        "Theirs are found by path patching on pairs that differ in one query term (Lu, Chen and "
        "Eickhoff 2025). The matching heads are those of their linear model's code; the other two "
        f"lists are at second hand. Searched for here: {', '.join(map(arrow, directions))}."
    )
    table = Table("published", f"{title}, and whether they match here", columns, tuple(body))
    return titled(title, table.html(), words(legend, "legend"))


def _lead(rows: Sequence[Row], every: Sequence[Row], causal: bool) -> tuple[str, ...]:
    if not every:
        return ("Matching heads were not searched for; the notes say why.",)
    if not rows:
        return ("No head is a matching head under these thresholds.",)
    sentences = []
    for direction in dict.fromkeys(str(row["direction"]) for row in every):
        own = [row for row in rows if row["direction"] == direction]
        holding = sum(bool(row["held"]) for row in own)
        kinds = Counter(kind for row in own for kind in str(row["kind"]).split(", "))
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        hold = f"{holding} {'holds' if holding == 1 else 'hold'}"
        sentences.append(
            f"{glossed(direction)}: {counted(len(own), 'matching head')}, {hold} on the "
            f"other half{f' ({counts})' if counts else ''}."
        )
    if causal:
        star = sum(number(row["effect_q"]) <= 0.05 for row in rows)
        sentences.append(f"Cut alone, {star} of {len(rows)} change the ranking (q ≤ .05).")
    return tuple(sentences)


def drawn(result: Result) -> Iterator[tuple[str, Drawing]]:
    """Draw the sets of matching heads beside random sets."""
    if not len(result.tables.get("set_points", ())):
        return
    table = result.to_frame("set_points")
    rows = {row["set"]: row for row in records(result.to_frame("sets"))}
    table["p_random"] = [rows[name]["p_random"] for name in table["set"]]
    table["tip"] = [_tip(rows[name]) for name in table["set"]]
    yield "sets", partial(figures.set_effects, table, measure=str(result.options["measure"]))


def _tip(row: Row) -> str:
    return (
        f"{arrow(row['set'])}: {counted(number(row['size']), 'matching head')} "
        f"together\nchange {num(row['diff'], 3, sign=True)}, 95% "
        f"{interval(row['ci_low'], row['ci_high'], 3)}\nrandom sets: mean "
        f"{num(row['random_mean'], 3, sign=True)}, 95% "
        f"{interval(row['random_low'], row['random_high'], 3)}; "
        f"{equals('uncorrected p', row['p_random'])}"
    )
