"""Tables that tell damage from luck: several hows, sets of heads, controls, halves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from matchlens.plan import CONTROLS
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
    """Where several ways of cutting agree: a row for each cut, a column for each way.

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
    head = ["set", "size", "direction", "how", "change", "random mean", "random 95%"]
    head += ["p (measure)", "Holm", "p (order)", "Holm", "mass", "random mass", "shared"]
    body = [head]
    for row in rows:
        low, high = (printed(row[key], digits) for key in ("random_low", "random_high"))
        least, most = (printed(row.get(key), 3) for key in ("random_mass_low", "random_mass_high"))
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
                *(printed(row.get(key), 3) for key in _SET_P),
                printed(row.get("mass"), 3),
                f"{printed(row.get('random_mass'), 3)} [{least}, {most}]",
                share(row.get("random_shared")),
            ]
        )
    lines = [
        f"{result.options['measure']}: original {printed(result.options['original'], digits)}; "
        "change when the set is cut, beside random sets with as many heads in each layer and, as "
        "near as can be, as much attention in the direction",
        "",
        *columns(body),
        "",
        *(f"{row['set']}: {row['heads']}" for row in _once(rows)),
        "",
        f"p (measure): share of sets, the named one among {rows[0]['draws']} random ones, whose "
        "cut lowers the measure at least as much (exact where all sets were tried). p (order): "
        "that disturb the order at least as much (Kendall's tau-b). Holm: each corrected over the "
        "rows; *: that of the measure <= .05. mass: attention of the set in the direction, summed "
        "over heads; random mass: mean and 95% of the random sets; shared: mean share of the named "
        "heads that stand in a random set.",
        *note_lines(result),
    ]
    return "\n".join(lines) + "\n"


_SET_P = ("p_random", "p_random_holm", "p_tau", "p_tau_holm")


def _once(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    return list({row["set"]: row for row in rows}.values())


def controls_text(result: Result) -> str:
    """Each cut beside its controls, and whether the direction matters or only the amount.

    Args:
        result: what :func:`matchlens.controls` returned.
    """
    rows, digits = records(result.to_frame("controls")), digits_of(result)
    head = ["cut", "control", "change", "beyond", "95%", "p", "p Holm", "edges", "mass"]
    body = [head]
    for row in rows:
        body.append([str(row["cut"]), "(the cut itself)", printed(row["diff"], digits)])
        body[-1] += [""] * (len(head) - len(body[-1]))
        for kind in controls_of(row):
            of = {key: row.get(f"{kind}_{key}") for key in _OF_A_CONTROL}
            star = "*" if (of["p_holm"] or 1.0) <= 0.05 else " "  # type: ignore[operator]
            low, high = (printed(of[key], digits) for key in ("low", "high"))
            cells = [printed(of["diff"], digits), printed(of["beyond"], digits) + star]
            cells += [f"[{low}, {high}]", printed(of["p"], 3), printed(of["p_holm"], 3)]
            cells += [share(of[f"overlap_{key}"]) for key in ("edges", "mass")]
            body.append(["", CONTROLS[kind], *cells])
    lines = [
        f"{result.options['measure']}: original {printed(result.options['original'], digits)}; "
        f"each cut beside its controls, mean of {result.options['draws']} draws",
        "",
        *columns(body),
        "",
        "change: of the measure. beyond: the cut's change minus the control's. p: two-tailed "
        "paired t-test over queries, uncorrected; p Holm: corrected over the cuts; *: <= .05. "
        "edges, mass: the share of what the control takes that lies in the direction itself.",
        "",
        *(verdict_of(row) for row in rows if row.get("verdict")),
        *note_lines(result),
    ]
    return "\n".join(lines) + "\n"


_OF_A_CONTROL = (
    *("diff", "beyond", "low", "high", "p", "p_holm", "overlap_edges", "overlap_mass"),
)


def controls_of(row: Mapping[str, object]) -> list[str]:
    """The controls that a cut has, by their short names, the primary one first.

    Args:
        row: of the table ``controls``.
    """
    return [kind for kind in CONTROLS if row.get(f"{kind}_diff") is not None]


def share(value: object) -> str:
    """A share in percent, ``-`` where it is not known.

    >>> share(0.714), share(None)
    ('71%', '-')
    """
    return f"{value:.0%}" if isinstance(value, int | float) else "-"


def verdict_of(row: Mapping[str, object]) -> str:
    """What the row-matched control says of a cut, in a sentence.

    Args:
        row: of the table ``controls``.
    """
    said = {
        "beyond the amount": "the direction matters beyond the amount: cutting it does more damage "
        "than the same loss of the same rows on other columns",
        "only the amount": "only the amount matters: the same loss of the same rows on other "
        f"columns does as much damage, within {printed(row.get('margin'), 3)}",
        "less than the amount": "cutting the direction does less damage than the same loss of the "
        "same rows on other columns",
    }.get(str(row["verdict"]), f"undecided ({row.get('lacking') or 'nothing was tested'})")
    tests = ""
    if isinstance(row.get("p_beyond"), float):
        tests = (
            f" [uncorrected p: beyond {printed(row['p_beyond'], 3)}, only "
            f"{printed(row['p_only'], 3)}; of the deciding test corrected over the cuts: "
            f"{printed(row['verdict_p_holm'], 3)}]"
        )
    return f"{row['cut']}: {said}.{tests}"


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
