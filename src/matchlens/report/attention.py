"""What the attention study found, as text."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from matchlens.report.numbers import columns, note_lines, printed
from matchlens.results import Result, records
from matchlens.studies.contrasts import EARLIER, Thresholds, is_earlier

Row = Mapping[str, object]


def attention_text(result: Result) -> str:
    """The matching heads, what cutting them does, no-ops, lexical and semantic matching.

    Args:
        result: what :func:`matchlens.attention` returned.
    """
    lines = [
        title_of(result),
        *_matching(result),
        *_sets(result),
        *_noop(result),
        *_lexical(result),
        *_semantic(result),
        *_kinds(result),
        "",
        *note_lines(result),
    ]
    return "\n".join(lines) + "\n"


def title_of(result: Result) -> str:
    """Of which model and pairs, and what was measured.

    Args:
        result: what :func:`matchlens.attention` returned.
    """
    model = result.identity["model"]
    pairs = result.identity["pairs"]
    assert isinstance(model, Mapping)  # noqa: S101
    assert isinstance(pairs, Mapping)  # noqa: S101
    sources = ", ".join(str(source["collection"]) for source in pairs["sources"])
    meters = ", ".join(str(name).replace("_", " ") for name in _listed(result.options["meters"]))
    return f"Attention of {model['name']} on {sources}: {pairs['number']} pairs; {meters}"


def _matching(result: Result) -> list[str]:
    if is_earlier(result.tables):
        return ["", f"Matching heads are not shown: {EARLIER}"]
    table = result.to_frame("matching")
    given = result.options["thresholds"]
    assert isinstance(given, Mapping)  # noqa: S101
    limits = Thresholds(**given)
    lines = [
        "",
        f"Matching heads: relevant above easy passages of like length (within {limits.length:.0%}) "
        f"with q <= {limits.q} and mean AUC >= {limits.auc}, above the AUC of CLS and SEP1 (q <= "
        f"{limits.q}), on one half of the queries; described and cut on the other half",
        "",
        *_conditions(result),
    ]
    rows = [row for row in records(table) if row["matching"]] if len(table) else []
    if not rows:
        return [*lines, *_texts_alone(result), "none found"]
    rows.sort(key=lambda row: (str(row["direction"]), -_number(row["auc"])))
    causal = "effect" in rows[0]
    measured = "beside_overlap" in rows[0]
    head = ["direction", "head", "AUC found", "q found", "AUC", "p"]
    head += ["beside words"] if measured else []
    body = [[*head, "same stem", *(["effect", "q", "causal"] if causal else []), "kind"]]
    for row in rows:
        cells = [
            str(row["direction"]),
            f"{row['layer']}.{row['head']}",
            printed(row["auc_found"], 2),
            printed(row["q_found"], 3),
            printed(row["auc"], 2) + (" " if row["held"] else "?"),
            printed(row["p_holm"], 3),
        ]
        cells += [printed(row["beside_overlap"], 2)] if measured else []
        cells.append(printed(row["same_stem"], 2))
        if causal:
            cells += [printed(row["effect"], 3), printed(row["effect_q"], 3)]
            cells.append("yes" if row["causal"] else "no")
        body.append([*cells, str(row["kind"])])
    held = sum(bool(row["held"]) for row in rows)
    lines += [
        *columns(body),
        "",
        f"{len(rows)} found, {held} hold on the other half (? marks the others; p: Holm).",
    ]
    if measured:
        lines.append(
            "beside words: the AUC that is left beside the share of the query's words that the "
            "passage has."
        )
    if "unknown" not in {row["kind"] for row in rows}:
        lines.append(
            f"Kinds, each by a one-sided test over queries (Holm over heads and kinds): lexical: "
            f"{limits.lexical:g} times the mass expected on words of the reader's own stem; "
            f"query-word reader: {limits.query_words:g} times, on the query's content words, "
            f"whoever reads; semantic: {limits.semantic:g} times, on near words of other stems."
        )
    lines += _texts_alone(result)
    if causal:
        lines.append(
            f"effect: change of {result.options['measure']} when the head alone is cut in its "
            f"direction, {result.options['pairs_cut']} pairs of the other half; q: "
            "Benjamini-Hochberg over these heads; causal: q <= .05."
        )
    return [*lines, *_published(result)]


def _conditions(result: Result) -> list[str]:
    """How many heads are left after each condition."""
    rows = records(result.to_frame("conditions"))
    body = [["heads left after each condition", "heads", "of", "queries"]]
    for row in rows:
        name = f"{row['direction']} {row['condition']}"
        body.append([name, *(str(row[key]) for key in ("heads", "of", "queries"))])
    return [*columns(body), ""] if rows else []


def _texts_alone(result: Result) -> list[str]:
    """The AUC of what needs no attention."""
    if "references" not in result.tables:
        return []
    said = ", ".join(
        f"{row['quantity']} {printed(row['auc'], 2)} ({printed(row['auc_all'], 2)})"
        for row in records(result.to_frame("references"))
    )
    return [
        f"AUC of the texts alone, passages of like length (all passages): {said}; overlap: of the "
        "query's words with the passage; similarity: of static embeddings."
    ]


def _published(result: Result) -> list[str]:
    """The heads of Lu et al. 2025, where the model is theirs."""
    if "published" not in result.tables:
        return []
    table = result.to_frame("published")
    lines = ["", "Heads of Lu et al. 2025 for this model, and whether they match here", ""]
    body = [["their list", "heads", "match Q->D", "match D->Q", "either"]]
    for name, group in table.groupby("list", sort=False):
        heads = set(zip(group["layer"], group["head"], strict=True))
        ours = {}
        for direction in ("Q->D", "D->Q"):
            mine = group[(group["direction"] == direction) & group["matching"].astype(bool)]
            ours[direction] = set(zip(mine["layer"], mine["head"], strict=True))
        counts = [len(ours["Q->D"]), len(ours["D->Q"]), len(ours["Q->D"] | ours["D->Q"])]
        body.append([str(name), str(len(heads)), *map(str, counts)])
    return [*lines, *columns(body)]


def _sets(result: Result) -> list[str]:
    if "sets" not in result.tables or not len(result.tables["sets"]):
        return []
    body = [["set cut", "heads", "change", "random mean", "random 95%", "p (measure)", "p (order)"]]
    for row in records(result.to_frame("sets")):
        low, high = (printed(row[key], 3) for key in ("random_low", "random_high"))
        body.append(
            [
                str(row["set"]),
                str(row["size"]),
                printed(row["diff"], 3),
                printed(row["random_mean"], 3),
                f"[{low}, {high}]",
                printed(row["p_random"], 3),
                printed(row["p_tau"], 3),
            ]
        )
    return [
        "",
        "The matching heads of a direction cut together, beside random sets of as many heads in "
        "each layer",
        "",
        *columns(body),
        "",
        "p (measure): share of sets whose cut lowers the measure at least as much; p (order): that "
        "disturb the order at least as much (Kendall's tau-b); both uncorrected.",
    ]


def _noop(result: Result) -> list[str]:
    rows = records(result.to_frame("noop"))
    heads, sinks = len(rows), sum(bool(row["sink"]) for row in rows)
    said = (
        f"No-op: {sinks} of {heads} heads send half of what Q and D read, or more, to CLS and SEP"
    )
    if rows[0]["noop"] is None:
        return ["", f"{said} (norm mass was not measured, so nothing is said of what they write)."]
    empty = sum(bool(row["noop"]) for row in rows)
    return ["", f"{said}; in {empty} of them less than half of what is written comes from there."]


def _lexical(result: Result) -> list[str]:
    if "lexical" not in result.tables:
        return []
    table = result.to_frame("lexical")
    if "same_stem" not in table:
        return []
    lines = ["", "Same-stem share of the mass by layer (lexical matching)", ""]
    layers = sorted(set(table["layer"]))
    body = [["", *(str(layer) for layer in layers)]]
    for direction in ("Q->D", "D->Q"):
        for name in dict.fromkeys(table["class"]):
            mine = table[(table["direction"] == direction) & (table["class"] == name)]
            shares = [printed(float(value), 2) for value in mine["same_stem"]]
            body.append([f"{direction} {name}", *shares])
    return [*lines, *columns(body)]


def _semantic(result: Result) -> list[str]:
    table = result.to_frame("contrasts")
    mine = table[(table["meter"] == "semantic_mass") & (table["contrast"] == "hard-easy")]
    lines = []
    for direction in ("Q->D", "D->Q"):
        here = pd.DataFrame(mine[mine["direction"] == direction])
        if here.empty:
            continue
        up, down = _starred(here)
        mean = printed(float(here["diff"].to_numpy().mean()), 4)
        lines.append(
            f"Semantic mass {direction} (on words of other stems), hard against easy "
            f"negatives: higher in {up} of {len(here)} heads, lower in {down} (q <= .05); mean "
            f"difference {mean}."
        )
    return ["", *lines] if lines else []


def _kinds(result: Result) -> list[str]:
    if "kinds" not in result.tables:
        return []
    table = result.to_frame("kinds")
    lines = [
        "",
        "Exact words against paraphrases of the same grade (heads higher / lower at q <= .05)",
        "",
    ]
    body = [["", "mass", "same stem", "lexical mass", "semantic mass"]]
    for direction in ("Q->D", "D->Q"):
        cells = [direction]
        for name in ("mass", "same_stem", "lexical_mass", "semantic_mass"):
            here = table[(table["direction"] == direction) & (table["quantity"] == name)]
            up, down = _starred(pd.DataFrame(here))
            cells.append(f"{up} / {down}" if len(here) else "-")
        body.append(cells)
    return [*lines, *columns(body)]


def _starred(table: pd.DataFrame) -> tuple[int, int]:
    """How many heads are higher and lower with q <= .05."""
    star, diff = table["q"].to_numpy() <= 0.05, table["diff"].to_numpy()
    return int((star & (diff > 0)).sum()), int((star & (diff < 0)).sum())


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []
