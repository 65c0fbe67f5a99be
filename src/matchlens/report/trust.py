"""Tables that tell damage from luck: several hows, sets of heads, random edges, halves."""

from __future__ import annotations

from collections import Counter

from matchlens.report.numbers import columns, digits_of, note_lines, printed
from matchlens.results import Result, records

VERDICTS = {
    "falls": "falls under every way of cutting, with a star",
    "rises": "rises under every way, with a star",
    "depends": "has a star under some ways only",
    "no effect": "has no star under any way",
    "contradiction": "has stars with both signs",
}


def agreement_lines(result: Result) -> list[str]:
    """Where several ways of cutting agree: a row a cut, a column a way.

    Args:
        result: a result with the table ``agreement``.
    """
    rows, digits = records(result.to_frame("agreement")), digits_of(result)
    hows = [str(key) for key in rows[0] if f"{key}_star" in rows[0]]
    body = [["cut", *hows, "sign", "verdict"]]
    for row in rows:
        cells = [f"{printed(row[how], digits)}{'*' if row[f'{how}_star'] else ' '}" for how in hows]
        sign = "same" if row["same_sign"] else "differs"
        body.append([str(row["cut"]), *cells, sign, str(row["verdict"])])
    counts = Counter(str(row["verdict"]) for row in rows)
    same = sum(bool(row["same_sign"]) for row in rows)
    said = [f"  {counts[key]} {key}: {words}" for key, words in VERDICTS.items() if counts[key]]
    return [
        f"Change of {result.options['measure']} under each way of cutting "
        "(*: significant, corrected within the way; -: cannot be made):",
        "",
        *columns(body),
        "",
        f"{same} of {len(rows)} cuts have one sign under all ways.",
        *said,
    ]


def head_sets_text(result: Result) -> str:
    """Named sets of heads beside random ones.

    Args:
        result: what :func:`matchlens.head_sets` returned.
    """
    rows, digits = records(result.to_frame("sets")), digits_of(result)
    head = ["set", "size", "direction", "how", "change", "random mean", "random 95%", "p", "p(tau)"]
    body = [head]
    for row in rows:
        low, high = (printed(row[key], digits) for key in ("random_low", "random_high"))
        significant = (row["p_random_holm"] or 1.0) <= 0.05  # type: ignore[operator]
        body.append(
            [
                str(row["set"]),
                str(row["size"]),
                str(row["direction"]),
                str(row["how"]),
                printed(row["diff"], digits) + ("*" if significant else " "),
                printed(row["random_mean"], digits),
                f"[{low}, {high}]",
                printed(row["p_random"], 3),
                printed(row["p_tau"], 3),
            ]
        )
    lines = [
        f"{result.options['measure']}: original {printed(result.options['original'], digits)}; "
        "change when the set is cut, beside random sets with as many heads in each layer",
        "",
        *columns(body),
        "",
        *(f"{row['set']}: {row['heads']}" for row in _once(rows)),
        "",
        f"p: share of sets, the named one among {rows[0]['draws']} random ones, whose cut lowers "
        "the measure at least as much (exact where all sets were tried). p(tau): that disturb the "
        "order at least as much. *: Holm-corrected p <= .05.",
        *note_lines(result),
    ]
    return "\n".join(lines) + "\n"


def _once(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    return list({row["set"]: row for row in rows}.values())


def controls_text(result: Result) -> str:
    """Each cut beside its random edges.

    Args:
        result: what :func:`matchlens.controls` returned.
    """
    rows, digits = records(result.to_frame("controls")), digits_of(result)
    body = [["cut", "change", "random edges", "beyond", "p", "random mass", "beyond", "p"]]
    for row in rows:
        cells = [str(row["cut"]), printed(row["diff"], digits)]
        for kind in ("edges", "mass"):
            star = "*" if (row[f"{kind}_p_holm"] or 1.0) <= 0.05 else " "  # type: ignore[operator]
            cells += [
                printed(row[f"{kind}_diff"], digits),
                printed(row[f"{kind}_beyond"], digits) + star,
                printed(row[f"{kind}_p_holm"], 3),
            ]
        body.append(cells)
    lines = [
        f"{result.options['measure']}: original {printed(result.options['original'], digits)}; "
        f"each cut beside random edges, mean of {result.options['draws']} draws",
        "",
        *columns(body),
        "",
        "change: of the measure under the cut. random edges: under as many random edges; random "
        "mass: under random edges that carry as much attention. beyond: the cut's change minus the "
        "control's. p: two-tailed paired t-test over queries, Holm-corrected; *: p <= .05.",
        *note_lines(result),
    ]
    return "\n".join(lines) + "\n"


def selected_lines(result: Result) -> list[str]:
    """Heads selected on one half of the queries, with their effect on the other.

    Args:
        result: of a sweep over heads.
    """
    rows, digits = records(result.to_frame("selected")), digits_of(result)
    if not rows:
        return []
    body = [["cut", "half 0", "q", "half 1", "95% interval", "p (Holm)"]]
    for row in rows:
        low, high = (printed(row[key], digits) for key in ("ci_low", "ci_high"))
        body.append(
            [
                str(row["cut"]),
                printed(row["diff_select"], digits),
                printed(row["q_select"], 3),
                printed(row["diff_report"], digits) + ("*" if row["held"] else " "),
                f"[{low}, {high}]",
                printed(row["p_report_holm"], 3),
            ]
        )
    held = sum(bool(row["held"]) for row in rows)
    found = any((row["q_select"] or 0.0) <= 0.05 for row in rows)  # type: ignore[operator]
    none = [] if found else ["None has q <= .05 on half 0; these are the largest changes there."]
    return [
        "",
        "Selected on one half of the queries (half 0), reported on the other (half 1):",
        "",
        *columns(body),
        "",
        *none,
        f"{held} of {len(rows)} hold: the same sign and Holm-corrected p <= .05 on half 1.",
    ]
