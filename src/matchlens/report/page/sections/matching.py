"""The matching heads, what cutting them does, and their sets beside random ones."""

from __future__ import annotations

from collections import Counter

from matchlens.report.page.charts.rows import strips
from matchlens.report.page.definitions import DEFINITIONS
from matchlens.report.page.parts import Column, Exhibit, Table, notes_of, number, options_of
from matchlens.report.page.results_folder import ResultsFolder, Row
from matchlens.report.page.sections.contrasts import NOT_RUN
from matchlens.report.page.texts import arrow, both, chance, counted, interval, num, reads, shown
from matchlens.studies.contrasts import EARLIER, is_earlier


def matching(held: ResultsFolder) -> Exhibit:
    """The list of matching heads."""
    base = {
        "id": "matching",
        "nav": "Matching heads",
        "title": "Matching heads",
        "subtitle": "Heads that tell relevant passages apart, and what the ranking loses with them",
        "definition": DEFINITIONS["matching"],
    }
    result = held.get("attention")
    if result is None:
        return Exhibit(**base, absent=f"Matching heads were not looked for: {NOT_RUN}")
    if is_earlier(result.tables):
        return Exhibit(**base, absent=f"Matching heads are not shown: {EARLIER}.")
    every = held.rows("attention", "matching")
    rows = [row for row in every if row["matching"]]
    order = list(dict.fromkeys(str(row["direction"]) for row in every))
    rows.sort(key=lambda row: (order.index(str(row["direction"])), -number(row["auc"])))
    causal = bool(rows) and "effect" in rows[0]
    notes = list(notes_of(result))
    if rows and not causal:
        notes.append("The heads were not cut, so that nothing is said of their effect.")
    sets = held.rows("attention", "sets")
    measure = shown(result.options.get("measure", "the measure"))
    context = {
        "rows": [_row(row, causal) for row in rows],
        "causal": causal,
        "measure": measure,
        "conditions": [_condition(row) for row in held.rows("attention", "conditions")],
        "references": [
            {"name": _TEXTS[str(row["quantity"])], "auc": num(row["auc"], 2)}
            | {"every": num(row["auc_all"], 2)}
            for row in held.rows("attention", "references")
            if row["quantity"] in _TEXTS
        ],
        "published": _published(held.rows("attention", "published")),
        "sets": [_set(row) for row in sets],
        "strips": _strips(held, sets, measure),
    }
    columns = [
        Column("direction", "direction", kind="cut"),
        Column("layer", "layer", 0),
        Column("head", "head", 0),
        Column("auc_found", "AUC found", 3),
        Column("q_found", "q found", kind="p"),
        Column("auc", "AUC", 3),
        Column("diff", "mass change", 4, sign=True),
        Column("p_holm", "p Holm", kind="p"),
        Column("over_cls", "AUC above CLS", 3, sign=True),
        Column("q_cls", "q CLS", kind="p"),
        Column("over_sep", "AUC above SEP1", 3, sign=True),
        Column("q_sep", "q SEP1", kind="p"),
        Column("same_token", "same-token share", 3),
        Column("same_stem", "same-stem share", 3),
        *(
            Column(f"beside_{name}", f"AUC beside {words}", 3)
            for name, words in _TEXTS.items()
            if rows and f"beside_{name}" in rows[0]
        ),
        *(
            column
            for name, words in _RATIOS.items()
            for column in (
                Column(f"{name}_ratio", f"{words} by expected", 2),
                Column(f"{name}_p_holm", f"p Holm ({words})", kind="p"),
            )
        ),
        Column("kind", "kind", kind="text"),
        Column("matching", "matching", kind="flag"),
        Column("held", "held", kind="flag"),
    ]
    if causal:
        columns += [
            Column("effect", "effect", 4, sign=True),
            Column("effect_low", "95% low", 4, sign=True),
            Column("effect_high", "95% high", 4, sign=True),
            Column("effect_q", "effect q", kind="p"),
            Column("causal", "causal", kind="flag"),
        ]
    tables = [Table("matching-heads", "Every head on both halves", tuple(columns), tuple(every))]
    if sets:
        tables.append(Table("matching-sets", "Sets beside random sets", _SETS, tuple(sets)))
    caption = (
        "Found on one half of the queries (AUC found, q found), described on the other. "
        "Any column sorts."
    )
    if causal:
        pairs = result.options.get("pairs_cut")
        caption += (
            f" Effect: change of {measure} when the head alone is cut in its direction, on "
            f"{shown(pairs)} pairs of the other half."
        )
    return Exhibit(
        **base,
        lead=_lead(rows, every, causal),
        template="matching.html.j2",
        context=context,
        caption=caption,
        tables=tuple(tables) if every else (),
        options=options_of(result),
        notes=tuple(notes),
    )


_TEXTS = {
    "length": "passage length",
    "overlap": "overlap of words",
    "similarity": "static similarity",
}
_RATIOS = {"stem": "same stem", "query_words": "query words", "near": "near words"}
_SETS = (
    Column("set", "set", kind="cut"),
    Column("heads", "heads", kind="text"),
    Column("size", "size", 0),
    Column("mean", "value", 3),
    Column("diff", "change", 3, sign=True),
    Column("ci_low", "95% low", 3, sign=True),
    Column("ci_high", "95% high", 3, sign=True),
    Column("p_holm", "p Holm", kind="p"),
    Column("random_mean", "random mean", 3, sign=True),
    Column("random_low", "random 2.5%", 3, sign=True),
    Column("random_high", "random 97.5%", 3, sign=True),
    Column("draws", "random sets", 0),
    Column("p_random", "p (measure)", kind="p"),
    Column("p_tau", "p (order)", kind="p"),
)


def _row(row: Row, causal: bool) -> dict[str, object]:
    shown_row: dict[str, object] = {
        "direction": arrow(row["direction"]),
        "words": reads(row["direction"]),
        "head": f"{row['layer']}.{row['head']}",
        "order": number(row["layer"]) * 1000 + number(row["head"]),
        "auc_found": num(row["auc_found"], 2),
        "q_found": chance(row["q_found"]),
        "auc": num(row["auc"], 2),
        "p": chance(row["p_holm"]),
        "same": num(row["same_stem"], 2),
        "beside": num(row.get("beside_overlap"), 2),
        "kinds": [shown(kind, 20) for kind in str(row["kind"]).split(", ")],
        "held": bool(row["held"]),
    }
    if causal:
        shown_row |= {
            "effect": num(row["effect"], 4, sign=True),
            "interval": interval(row["effect_low"], row["effect_high"], 4),
            "effect_q": chance(row["effect_q"]),
            "star": "*" if number(row["effect_q"]) <= 0.05 else "",
        }
    return shown_row


def _condition(row: Row) -> dict[str, object]:
    return {
        "direction": both(row["direction"]),
        "condition": shown(str(row["condition"]).replace("->", " → "), 60),
        **{key: int(number(row[key])) for key in ("heads", "of", "queries")},
    }


def _published(rows: list[Row]) -> list[dict[str, object]]:
    """The heads of Lu et al. 2025, one row for each of theirs."""
    heads: dict[tuple[str, str], dict[str, object]] = {}
    for row in rows:
        key = shown(row["list"], 40), f"{row['layer']}.{row['head']}"
        one = heads.setdefault(key, {"list": key[0], "head": key[1], "directions": []})
        if row["matching"]:
            one["directions"] += [f"{arrow(row['direction'])} ({shown(row['kind'], 60)})"]  # type: ignore[operator]
    return list(heads.values())


def _set(row: Row) -> dict[str, object]:
    heads = str(row["heads"])
    return {
        "name": arrow(row["set"]),
        "words": reads(row["set"]),
        "heads": shown(heads, 400),
        "size": row["size"],
        "change": num(row["diff"], 3, sign=True),
        "random": num(row["random_mean"], 3, sign=True),
        "range": interval(row["random_low"], row["random_high"], 3),
        "draws": row["draws"],
        "p": chance(row["p_random"]),
        "p_tau": chance(row["p_tau"]),
    }


def _strips(held: ResultsFolder, sets: list[Row], measure: str) -> object:
    points = held.rows("attention", "set_points")
    if not sets or not points:
        return ""
    rows = []
    for one in sets:
        mine = [row for row in points if row["set"] == one["set"]]
        random = [number(row["diff"]) for row in mine if row["draw"] != -1]
        tip = (
            f"{arrow(one['set'])}: {counted(int(number(one['size'])), 'matching head')} together\n"
            f"change {num(one['diff'], 3, sign=True)}, 95% "
            f"{interval(one['ci_low'], one['ci_high'], 3)}\nrandom sets: mean "
            f"{num(one['random_mean'], 3, sign=True)}, 95% "
            f"{interval(one['random_low'], one['random_high'], 3)}; p = {chance(one['p_random'])}"
        )
        rows.append((arrow(one["set"]), number(one["diff"]), random, tip))
    said = "; ".join(
        f"{arrow(one['set'])} {num(one['diff'], 3)} against {num(one['random_mean'], 3)}, p "
        f"{chance(one['p_random'])}"
        for one in sets
    )
    summary = f"Sets of matching heads (diamonds) beside random sets (dots): {said}."
    return strips(rows, summary, f"change of {measure} when the set is cut")


def _lead(rows: list[Row], every: list[Row], causal: bool) -> tuple[str, ...]:
    if not every:
        return ("No matching heads were looked for; the notes say why.",)
    if not rows:
        return ("No head is a matching head under these thresholds.",)
    said = []
    for direction in dict.fromkeys(str(row["direction"]) for row in every):
        mine = [row for row in rows if row["direction"] == direction]
        held = sum(bool(row["held"]) for row in mine)
        kinds = Counter(kind for row in mine for kind in str(row["kind"]).split(", "))
        told = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        said.append(
            f"{both(direction)}: {counted(len(mine), 'matching head')}, {held} hold on the other "
            f"half{f' ({told})' if told else ''}."
        )
    if causal:
        star = sum(number(row["effect_q"]) <= 0.05 for row in rows)
        said.append(f"Cut alone, {star} of {len(rows)} change the ranking (q ≤ .05).")
    return tuple(said)
